"""A trained latent translation model with a subset of its data, for everything that looks at its latents."""

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from fairseq import checkpoint_utils, tasks, utils
from fairseq.dataclass.utils import overwrite_args_by_name
from torch import Tensor
from tqdm import tqdm

from ..errors import CheckpointError, DataError, UserError
from ..models.vq_nat import VQNAT

KIND = "a latent translation model (trained with --task translation_vq)"


def read_checkpoint(checkpoint: Path) -> dict[str, Any]:
    """What fairseq stored of a latent translation model.

    Raises:
        DataError: there is no such file.
        CheckpointError: it is damaged, or is a checkpoint of another kind of model.
    """
    try:
        state = checkpoint_utils.load_checkpoint_to_cpu(str(checkpoint))
    except OSError as error:
        raise DataError(f"{checkpoint}: {error.strerror}") from None
    config = state.get("cfg")
    if config is None or "model" not in state or not {"task", "model"} <= config.keys():
        raise CheckpointError(f"{checkpoint}: not a checkpoint of fairseq-train")
    task = (config.task or {}).get("_name")
    if task != "translation_vq":
        raise CheckpointError(f"{checkpoint}: not {KIND}; it was trained with --task {task}")
    return state


def load_latent_model(
    checkpoint: Path,
    subset: str,
    data: Path | None = None,
    device: torch.device | None = None,
    **overrides: Any,
) -> tuple[VQNAT, Any, Any]:
    """The model in evaluation mode, its configuration, and its task with the subset loaded.

    Args:
        checkpoint: of a model trained with `--task translation_vq`.
        subset: split of the data.
        data: binarised data; what the model was trained on by default.
        device: where the model goes; the CPU by default.
        overrides: options of the checkpoint that are to be others.

    Raises:
        DataError: the checkpoint, its data or the subset is missing, or they do not fit together.
        CheckpointError: the checkpoint is damaged, or of another kind of model.
    """
    state = read_checkpoint(checkpoint)
    overrides["init_from_teacher"] = None
    if data is not None:
        overrides["data"] = str(data)
    overwrite_args_by_name(state["cfg"], overrides)
    folder = state["cfg"].task.get("data")
    unfit = f"{folder}: cannot be used as the data of {checkpoint}"
    with _refused(DataError, unfit, "; name another with --data"):
        task = tasks.setup_task(state["cfg"].task, from_checkpoint=True)
    # Weights that are missing, too many or of another shape; options that make no model.
    with _refused(CheckpointError, f"{checkpoint}: cannot be rebuilt"):
        (model,), config, _ = checkpoint_utils.load_model_ensemble_and_task(
            [str(checkpoint)], task=task, state=state
        )
    if not isinstance(model, VQNAT):
        raise CheckpointError(f"{checkpoint}: not {KIND}")
    with _refused(DataError, f"{folder}: subset '{subset}' is damaged"):
        try:
            task.load_dataset(subset)
        except FileNotFoundError as error:
            raise DataError(f"{folder}: no subset '{subset}' ({error})") from None
        # The last sentence ends where both files have to end.
        task.dataset(subset)[len(task.dataset(subset)) - 1]
    return model.eval().to(device or torch.device("cpu")), config, task


@contextlib.contextmanager
def _refused(kind: type[UserError], what: str, way_out: str = "") -> Iterator[None]:
    """Tell what fairseq could not do; it has no kinds of exceptions for it."""
    try:
        yield
    except UserError:
        raise
    except Exception as error:
        text = " ".join(str(error).split())
        reason = f"{type(error).__name__}: {text[:300]}{'...' if len(text) > 300 else ''}"
        raise kind(f"{what} ({reason}){way_out}") from None


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
