"""The two trained models of the image task, and the codes that the first gives to images."""

from collections.abc import Callable, Sequence
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


def load_autoencoder(checkpoint: Path, flag: str = "") -> VQVAE:
    """A trained image autoencoder, frozen, in evaluation mode.

    Args:
        checkpoint: of a model trained with `--arch vq_vae_em`.
        flag: stands before the path in messages.

    Raises:
        CheckpointError: the file is missing or damaged, or of another kind of model.
    """
    name = f"{flag}{checkpoint}"
    state = _read(checkpoint, flag, VQVAE, "is no image autoencoder (--arch vq_vae_em)")
    model = VQVAE(complete(VQVAEConfig, state["cfg"].model), int(state["cfg"].task.image_size))
    _fill(model, state, name)
    return model


def load_prior(checkpoint: Path, autoencoder: Path, model: VQVAE) -> VQImagePrior:
    """A trained prior, frozen, in evaluation mode.

    Args:
        checkpoint: of a model trained with `--arch vq_image_prior`.
        autoencoder: checkpoint of `model`.
        model: the autoencoder whose codes it has to describe.

    Raises:
        CheckpointError: the file is missing or damaged, of another kind, or belongs to another autoencoder.
    """
    state = _read(checkpoint, "", VQImagePrior, "is no prior over codes (--arch vq_image_prior)")
    digest = state["model"].get("digest")
    if digest is None or int(digest) != model.digest():
        raise CheckpointError(
            f"{checkpoint}: was trained on the codes of another autoencoder than {autoencoder}"
        )
    config = complete(VQImagePriorConfig, state["cfg"].model)
    prior = VQImagePrior(config, model.config.codebook_size, model.codes_shape, model.digest())
    _fill(prior, state, str(checkpoint))
    return prior


def earlier_checkpoints(checkpoint: Path, updates: Sequence[int]) -> list[Path]:
    """The checkpoints beside one that fairseq wrote after so many updates, in order.

    It writes none after an update that ends an epoch: those are left out.
    """
    found = [sorted(checkpoint.parent.glob(f"checkpoint_*_{number}.pt")) for number in sorted(updates)]
    return [paths[0] for paths in found if paths]


def _read(checkpoint: Path, flag: str, kind: type[nn.Module], otherwise: str) -> dict[str, Any]:
    """What is saved of a model of the kind; what it would be in a message otherwise."""
    try:
        state = checkpoint_utils.load_checkpoint_to_cpu(str(checkpoint))
    except OSError as error:
        raise CheckpointError(f"{flag}{checkpoint}: cannot be read ({error.strerror})") from None
    except CheckpointError as error:
        raise CheckpointError(f"{flag}{error}") from None
    arch = getattr(getattr(state.get("cfg"), "model", None), "_name", None)
    if not issubclass(ARCH_MODEL_REGISTRY.get(arch, object), kind):
        raise CheckpointError(f"{flag}{checkpoint}: {otherwise}")
    return state


def _fill(model: Any, state: dict[str, Any], name: str) -> None:
    try:
        model.load_state_dict(state["model"], strict=True, model_cfg=state["cfg"].model)
    except RuntimeError as error:
        reason = str(error).splitlines()[-1].strip()
        raise CheckpointError(f"{name}: its weights do not fit its options ({reason})") from None
    model.eval().requires_grad_(False)


@torch.no_grad()
def encode_images(
    model: VQVAE, count: int, read: Callable[[slice], np.ndarray], title: str, mirrored: bool = False
) -> np.ndarray:
    """The codes of images, on the device of the model.

    Args:
        model: the autoencoder.
        count: number of images.
        read: gives a slice of them, (images, 3, size, size) uint8.
        title: of the progress bar.
        mirrored: whether they are mirrored first.

    Returns:
        (count, *codes_shape) int64.
    """
    device = next(model.parameters()).device
    found = [np.zeros((0, *model.codes_shape), np.int64)]
    for start in tqdm(range(0, count, ENCODING_BATCH), f"encode {title}", unit="batch", disable=None):
        rows = read(slice(start, min(start + ENCODING_BATCH, count)))
        images = torch.from_numpy(np.ascontiguousarray(rows)).to(device)
        found.append(model.encode_codes(images.flip(3) if mirrored else images).cpu().numpy())
    return np.concatenate(found)
