"""A trained latent translation model with a subset of its data, for everything that looks at its latents."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from fairseq import utils
from torch import Tensor
from tqdm import tqdm

from ..errors import DataError
from ..models.checkpoints import Checkpoint, Kind
from ..models.vq_nat import VQNAT

LATENT = Kind("latent translation model (--task translation_vq)", VQNAT)


def load_latent_model(
    checkpoint: Path,
    subset: str,
    data: Path | None = None,
    device: torch.device | None = None,
) -> tuple[VQNAT, Any, Any]:
    """The model in evaluation mode, its configuration, and its task with the subset loaded.

    Args:
        checkpoint: of a model trained with `--task translation_vq`.
        subset: split of the data.
        data: binarised data; what the model was trained on by default.
        device: where the model goes; the CPU by default.

    Raises:
        DataError: the checkpoint, its data or the subset is missing, or they do not fit together.
        CheckpointError: the checkpoint is damaged, or of another kind of model.
    """
    read = Checkpoint(checkpoint, LATENT)
    overrides = {}
    if data is not None:
        read.check_data(data)
        overrides["data"] = str(data)
    model, config, task = read.build(**overrides)
    folder = config.task.data
    try:
        task.load_dataset(subset)
        # The last sentence ends where both files have to end.
        task.dataset(subset)[len(task.dataset(subset)) - 1]
    except FileNotFoundError as error:
        raise DataError(f"{folder}: no subset '{subset}' ({error})") from None
    except Exception as error:
        raise DataError(f"{folder}: subset '{subset}' is damaged ({type(error).__name__}: {error})") from None
    return model.to(device or torch.device("cpu")), config, task


@torch.no_grad()
def codes_of(model: VQNAT, tokens: Tensor, memory: Any) -> tuple[Tensor, Tensor]:
    """Codes of target tokens (batch, positions) and their mask: both (batch, latents)."""
    z, mask = model.compress(tokens, memory)
    return model.quantizer(z, mask).codes, mask


def batches(
    task: Any, subset: str, batch_size: int, title: str, device: torch.device
) -> Iterator[dict[str, Any]]:
    """A loaded subset in batches, sentences of similar length together, with a progress bar."""
    iterator = task.get_batch_iterator(
        task.dataset(subset), max_sentences=batch_size, required_batch_size_multiple=1
    ).next_epoch_itr(shuffle=False)
    for sample in tqdm(iterator, desc=f"{title} of {subset}", unit="batch", mininterval=1):
        yield moved(sample, device)


def moved(sample: dict[str, Any], device: torch.device) -> dict[str, Any]:
    """A batch with all its tensors on the device."""
    return utils.apply_to_sample(lambda tensor: tensor.to(device), sample)
