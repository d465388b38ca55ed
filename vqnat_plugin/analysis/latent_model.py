"""A trained latent translation model with a subset of its data, for everything that looks at its latents."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from fairseq import checkpoint_utils
from tqdm import tqdm

from ..bottleneck import perplexity, usage
from ..errors import DataError


def load_latent_model(
    checkpoint: Path, subset: str, data: Path | None = None, **overrides: Any
) -> tuple[Any, Any, Any]:
    """The model in evaluation mode, its configuration, and its task with the subset loaded.

    Args:
        checkpoint: of a model trained with `--task translation_vq`.
        subset: split of the data.
        data: binarised data; what the model was trained on by default.
        overrides: options of the checkpoint that are to be others.

    Raises:
        DataError: the checkpoint or the subset is missing, or the model is of another kind.
    """
    overrides["init_from_teacher"] = None
    if data is not None:
        overrides["data"] = str(data)
    try:
        (model,), config, task = checkpoint_utils.load_model_ensemble_and_task([str(checkpoint)], overrides)
    except OSError as error:
        raise DataError(f"{checkpoint}: {error}") from None
    if not hasattr(model, "quantizer"):
        raise DataError(f"{checkpoint}: not a latent translation model (trained with --task translation_vq)")
    try:
        task.load_dataset(subset)
    except FileNotFoundError as error:
        raise DataError(f"{config.task.data}: no subset '{subset}' ({error})") from None
    return model.eval(), config, task


def batches(task: Any, subset: str, batch_size: int, title: str) -> Iterator[dict[str, Any]]:
    """A loaded subset in batches, sentences of similar length together, with a progress bar."""
    iterator = task.get_batch_iterator(
        task.dataset(subset), max_sentences=batch_size, required_batch_size_multiple=1
    ).next_epoch_itr(shuffle=False)
    yield from tqdm(iterator, desc=f"{title} of {subset}", unit="batch", mininterval=1)


def code_use(counts: list[int], codebook_size: int) -> dict[str, float]:
    """`usage` and `perplexity` of the codes, from how often each was seen (the last may be missing)."""
    histogram = torch.zeros(codebook_size, dtype=torch.float64)
    histogram[: len(counts)] = torch.tensor(counts, dtype=torch.float64)
    return {"usage": float(usage(histogram)), "perplexity": float(perplexity(histogram))}
