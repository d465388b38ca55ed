"""The average of several checkpoints of one training run, codebook included."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import torch
from fairseq import checkpoint_utils
from omegaconf import OmegaConf
from torch import Tensor

from .bottleneck.metrics import same_numbering
from .errors import DataError
from .models.checkpoints import Checkpoint

# For each kind of checkpoint: its name, with the number that orders them in parentheses; the option of
# `vqnat average`; and what makes fairseq-train write and keep several.
KINDS = {
    "updates": (
        r"checkpoint_\d+_(\d+)\.pt",
        "--num-update-checkpoints",
        "--save-interval-updates N --keep-interval-updates M",
    ),
    "epochs": (r"checkpoint(\d+)\.pt", "--num-epoch-checkpoints", "--keep-last-epochs N"),
}


def last_checkpoints(folder: Path, count: int, kind: Literal["updates", "epochs"]) -> list[Path]:
    """The last `count` checkpoints of epochs or updates in the `--save-dir` of a training, newest first.

    Raises:
        DataError: there are too few.
    """
    pattern, flag, advice = KINDS[kind]
    if not folder.is_dir():
        raise DataError(f"--inputs {folder}: no such folder")
    paths = checkpoint_utils.checkpoint_paths(str(folder), pattern)
    if len(paths) < count:
        raise DataError(
            f"{flag} {count}: {folder} holds {len(paths)} checkpoints of {kind}; train with {advice}"
        )
    return [Path(path) for path in paths[:count]]


def average_checkpoints(paths: Sequence[Path]) -> dict[str, Any]:
    """Average checkpoints of one run into one that fairseq loads.

    Floating-point entries of the model are averaged. Everything else comes from the newest checkpoint (the
    one with most updates): integers, options, and what training knows, but for the optimizer's state, which
    belongs to one set of weights and is left out.

    The codebook: all checkpoints of a run number their codes alike, so that the EM statistics may be
    averaged. The M step (Roy et al. 2018, section 3) on averaged counts N and sums S gives each code as the
    mean of its positions *weighted by its counts*: e_j = sum_c N_cj e_cj / sum_c N_cj. A plain mean would put
    a code that was stale and then replaced halfway between its two places; its count before was next to
    nothing, so here it stays at the new one. A code that no checkpoint has counts for stays where it is in
    the newest. A code replaced while still in some use would end up between its places all the same: average
    checkpoints from after `--code-revival-until`.

    Raises:
        DataError: there is none, they differ in their entries, a codebook had its start in some only, or the
            codes are those of several trainings.
        CheckpointError: a file cannot be read, or is no checkpoint of fairseq-train.
    """
    if not paths:
        raise DataError("nothing to average: name at least one checkpoint")
    newest = Checkpoint(paths[0])
    sums = _weighted(newest.state["model"])
    for path in paths[1:]:
        other = Checkpoint(path)
        _require_same_entries(newest.state["model"], other.state["model"], paths[0], path)
        for name, value in _weighted(other.state["model"]).items():
            sums[name] += value
        if other.updates > newest.updates:
            newest = other
    # Options as fairseq stores them: plain data, which weights-only loading accepts.
    options = OmegaConf.to_container(newest.config, resolve=True, enum_to_str=True)
    model = _finish(newest.state["model"], sums, len(paths))
    return {**newest.state, "cfg": options, "model": model, "last_optimizer_state": None}


def _codebooks(model: dict[str, Tensor]) -> list[str]:
    """Prefixes of the names of codebooks' buffers."""
    prefixes = [name.removesuffix("codebook") for name in model if name.endswith("codebook")]
    return [prefix for prefix in prefixes if {f"{prefix}counts", f"{prefix}sums"} <= model.keys()]


def _by_block(codes: Tensor, counts: Tensor) -> tuple[Tensor, Tensor]:
    """Codes (K, dim) and counts (blocks, K) as views (K, blocks, dim / blocks) and (K, blocks, 1)."""
    return codes.view(codes.size(0), counts.size(0), -1), counts.t().unsqueeze(-1)


def _weighted(model: dict[str, Tensor]) -> dict[str, Tensor]:
    """The summands of the average, in double precision: floats as they are, codes times their counts."""
    values = {name: value.double() for name, value in model.items() if value.is_floating_point()}
    for prefix in _codebooks(model):
        codes, counts = _by_block(values[f"{prefix}codebook"], values[f"{prefix}counts"])
        values[f"{prefix}codebook"] = (codes * counts).flatten(1)
    return values


def _finish(model: dict[str, Tensor], sums: dict[str, Tensor], count: int) -> dict[str, Tensor]:
    """The averaged model, with entries like those of `model`; tied entries stay tied."""
    averages = {name: value / count for name, value in sums.items()}
    for prefix in _codebooks(model):
        codes, counts = _by_block(averages[f"{prefix}codebook"], averages[f"{prefix}counts"])
        last, _ = _by_block(model[f"{prefix}codebook"], counts.squeeze(-1).t())
        averages[f"{prefix}codebook"] = torch.where(counts > 0, codes / counts, last.double()).flatten(1)
    tied: dict[Any, Tensor] = {}
    result = {}
    for name, value in model.items():
        key = (value.data_ptr(), value.shape, value.stride()) if value.numel() else name
        if key not in tied:
            tied[key] = averages[name].to(value.dtype) if name in averages else value
        result[name] = tied[key]
    return result


def _require_same_entries(one: dict[str, Tensor], other: dict[str, Tensor], first: Path, path: Path) -> None:
    # Earlier versions did not save whether a model has begun to use its codes.
    for name in sorted((one.keys() | other.keys()) - {"started"}):
        shapes = [tuple(model[name].shape) if name in model else "missing" for model in (one, other)]
        if shapes[0] != shapes[1]:
            raise DataError(
                f"{path}: not of the same model as {first}: '{name}' is {shapes[1]}, there {shapes[0]}"
            )
    # Of the model, and of each codebook that starts from data.
    for name in one.keys() & other.keys():
        if name.rpartition(".")[2] == "started" and not torch.equal(one[name], other[name]):
            early = path if one[name] else first
            raise DataError(f"{early}: from before the codebook's start; leave it out")
    for name in one:
        if name.rpartition(".")[2] == "codebook" and not same_numbering(one[name], other[name]):
            raise DataError(f"{path}: not of the same training as {first}: its codes are others")
