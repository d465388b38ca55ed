"""The two trained models of the image task, and the codes that the first gives to images."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from fairseq.tasks import TASK_REGISTRY
from tqdm import tqdm

from ..errors import CheckpointError
from ..models.checkpoints import Checkpoint, Kind
from ..models.vq_image_prior import VQImagePrior
from ..models.vq_vae import VQVAE

AUTOENCODER = Kind("image autoencoder (--arch vq_vae_em)", VQVAE)
PRIOR = Kind("prior over codes (--arch vq_image_prior)", VQImagePrior)
ENCODING_BATCH = 256


def load_autoencoder(checkpoint: Path) -> VQVAE:
    """A model trained with `--arch vq_vae_em`, frozen, in evaluation mode.

    Raises:
        CheckpointError: the file is missing or damaged, or of another kind of model.
    """
    model, _, _ = Checkpoint(checkpoint, AUTOENCODER).build(codes_from=None)
    return model.requires_grad_(False)


def held_out(autoencoder: Path, prior: Path | None) -> int:
    """How many images, the first held out, neither model has learnt from: the smaller `--valid-size`.

    Args:
        autoencoder: trained with `--arch vq_vae_em`.
        prior: trained with `--arch vq_image_prior`; None for none.

    Raises:
        CheckpointError: a file is missing or damaged, or of another kind of model.
    """
    read = [Checkpoint(autoencoder, AUTOENCODER, weights=False)]
    if prior is not None:
        read.append(Checkpoint(prior, PRIOR, weights=False))
    return min(int(each.task.valid_size) for each in read)


def load_prior(checkpoint: Path, autoencoder: Path, model: VQVAE) -> VQImagePrior:
    """A model trained with `--arch vq_image_prior`, frozen, in evaluation mode.

    Args:
        checkpoint: of the prior.
        autoencoder: checkpoint of `model`.
        model: the autoencoder whose codes it has to describe.

    Raises:
        CheckpointError: the file is missing or damaged, of another kind, or belongs to another autoencoder.
    """
    read = Checkpoint(checkpoint, PRIOR)
    digest = read.state["model"].get("digest")
    if digest is None or int(digest) != model.digest():
        raise CheckpointError(
            f"{checkpoint}: was trained on the codes of another autoencoder than {autoencoder}"
        )
    prior, _, _ = read.build(TASK_REGISTRY["image_vq"](read.task, model))
    return prior.requires_grad_(False)


def earlier_checkpoints(checkpoint: Path, updates: Sequence[int]) -> dict[int, Path]:
    """The checkpoints beside one that fairseq wrote after so many updates, by these, in order.

    It writes none after an update that ends an epoch: those are left out.
    """
    found = {each: sorted(checkpoint.parent.glob(f"checkpoint_*_{each}.pt")) for each in sorted(updates)}
    return {number: paths[0] for number, paths in found.items() if paths}


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
