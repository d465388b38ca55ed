"""The two trained models of the image task, and the codes that the first gives to images."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from fairseq import checkpoint_utils
from fairseq.models import ARCH_MODEL_REGISTRY
from torch import nn
from tqdm import tqdm

from ..errors import CheckpointError
from ..models.options import complete
from ..models.vq_image_prior import VQImagePrior, VQImagePriorConfig
from ..models.vq_vae import VQVAE, VQVAEConfig

ENCODING_BATCH = 256


def load_autoencoder(checkpoint: Path) -> VQVAE:
    """A model trained with `--arch vq_vae_em`, frozen, in evaluation mode.

    Raises:
        CheckpointError: the file is missing or damaged, or of another kind of model.
    """
    state = _read(checkpoint, VQVAE, "is no image autoencoder (--arch vq_vae_em)")
    model = VQVAE(complete(VQVAEConfig, state["cfg"].model), int(state["cfg"].task.image_size))
    _fill(model, state, checkpoint)
    return model


def load_prior(checkpoint: Path, autoencoder: Path, model: VQVAE) -> VQImagePrior:
    """A model trained with `--arch vq_image_prior`, frozen, in evaluation mode.

    Args:
        checkpoint: of the prior.
        autoencoder: checkpoint of `model`.
        model: the autoencoder whose codes it has to describe.

    Raises:
        CheckpointError: the file is missing or damaged, of another kind, or belongs to another autoencoder.
    """
    state = _read(checkpoint, VQImagePrior, "is no prior over codes (--arch vq_image_prior)")
    digest = state["model"].get("digest")
    if digest is None or int(digest) != model.digest():
        raise CheckpointError(
            f"{checkpoint}: was trained on the codes of another autoencoder than {autoencoder}"
        )
    config = complete(VQImagePriorConfig, state["cfg"].model)
    prior = VQImagePrior(config, model.config.codebook_size, model.codes_shape, model.digest())
    _fill(prior, state, checkpoint)
    return prior


def earlier_checkpoints(checkpoint: Path, updates: Sequence[int]) -> list[Path]:
    """The checkpoints beside one that fairseq wrote after so many updates, in order.

    It writes none after an update that ends an epoch: those are left out.
    """
    found = [sorted(checkpoint.parent.glob(f"checkpoint_*_{number}.pt")) for number in sorted(updates)]
    return [paths[0] for paths in found if paths]


def _read(checkpoint: Path, kind: type[nn.Module], otherwise: str) -> dict[str, Any]:
    """What is saved of a model of the kind; what it would be in a message otherwise."""
    try:
        state = checkpoint_utils.load_checkpoint_to_cpu(str(checkpoint))
    except OSError as error:
        raise CheckpointError(f"{checkpoint}: cannot be read ({error.strerror})") from None
    arch = getattr(getattr(state.get("cfg"), "model", None), "_name", None)
    if not issubclass(ARCH_MODEL_REGISTRY.get(arch, object), kind):
        raise CheckpointError(f"{checkpoint}: {otherwise}")
    return state


def _fill(model: Any, state: dict[str, Any], checkpoint: Path) -> None:
    try:
        model.load_state_dict(state["model"], strict=True, model_cfg=state["cfg"].model)
    except RuntimeError as error:
        reason = str(error).splitlines()[-1].strip()
        raise CheckpointError(f"{checkpoint}: its weights do not fit its options ({reason})") from None
    model.eval().requires_grad_(False)


@torch.no_grad()
def encode_images(model: VQVAE, images: Any, title: str, mirrored: bool = False) -> np.ndarray:
    """The codes of images (images, 3, size, size) uint8, mirrored first if wanted.

    They are made on the device of the model.

    Returns:
        (images, *codes_shape) int64.
    """
    device = next(model.parameters()).device
    found = [np.zeros((0, *model.codes_shape), np.int64)]
    for start in tqdm(range(0, len(images), ENCODING_BATCH), f"encode {title}", unit="batch", disable=None):
        rows = np.ascontiguousarray(images[start : start + ENCODING_BATCH])
        batch = torch.from_numpy(rows).to(device)
        found.append(model.encode_codes(batch.flip(3) if mirrored else batch).cpu().numpy())
    return np.concatenate(found)
