"""Everything that fairseq or the version of torch forces on us, in one place.

`install()` runs once, when the plugin is imported. After it, the rest of the package may be written as if
fairseq were young: checkpoints load through torch's weights-only loader, and `--amp` works on a CPU.
"""

import argparse
import collections
import functools
import pickle
import re
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from fairseq import checkpoint_utils
from fairseq.optim.amp_optimizer import AMPOptimizer
from fairseq.tasks.fairseq_task import FairseqTask


class CheckpointError(RuntimeError):
    """A checkpoint cannot be read, or holds something other than data."""


class UsageError(SystemExit):
    """A mistake on the command line: ends the program with one line on stderr, without a traceback."""


def safe_globals() -> list[Any]:
    """The classes that fairseq stores in checkpoints, beyond what torch allows by default.

    Namespaces hold the options of old checkpoints; numpy scalars and arrays hold the counts of `--eval-bleu`.
    """
    multiarray = np._core.multiarray  # type: ignore[attr-defined]
    numpy_types = {type(np.dtype(name)) for name in ("float32", "float64", "int32", "int64", "bool")}
    allowed: list[Any] = [
        argparse.Namespace,
        collections.OrderedDict,
        np.dtype,
        np.ndarray,
        *sorted(numpy_types, key=lambda kind: kind.__name__),
    ]
    # numpy 1 and numpy 2 write the same functions under different module names.
    for function in (multiarray.scalar, multiarray._reconstruct):
        allowed += [(function, f"{module}.multiarray.{function.__name__}") for module in ("numpy.core", "numpy._core")]
    return allowed


def _explain(path: str, error: Exception) -> str:
    found = re.search(r"GLOBAL (\S+)", str(error))
    if found:
        return (
            f"{path}: refused, because it refers to '{found.group(1).rstrip('.')}': a checkpoint may hold data only, "
            "never code. If you trust its origin, load it yourself and save its weights alone."
        )
    return f"{path}: not a readable checkpoint ({str(error).splitlines()[0]})"


def _guarded(load: Callable[..., dict[str, Any]]) -> Callable[..., dict[str, Any]]:
    @functools.wraps(load)
    def load_checkpoint_to_cpu(path: str, *args: Any, **kwargs: Any) -> dict[str, Any]:
        try:
            return load(path, *args, **kwargs)
        except (pickle.UnpicklingError, EOFError) as error:
            raise CheckpointError(_explain(path, error)) from None
        except RuntimeError as error:
            if "PytorchStreamReader" in str(error):
                raise CheckpointError(f"{path}: truncated or not a checkpoint") from None
            raise

    return load_checkpoint_to_cpu


def _train_step(
    self: FairseqTask,
    sample: dict[str, Any],
    model: torch.nn.Module,
    criterion: torch.nn.Module,
    optimizer: Any,
    update_num: int,
    ignore_grad: bool = False,
) -> tuple[torch.Tensor, Any, dict[str, Any]]:
    """fairseq's training step, with an autocast that also knows the CPU (bfloat16) where `--amp` is given.

    fairseq's own enters `torch.cuda.amp.autocast`, which does nothing without a GPU.
    """
    model.train()
    model.set_num_updates(update_num)
    amp = isinstance(optimizer, AMPOptimizer)
    device = next(model.parameters()).device.type
    dtype = torch.bfloat16 if device == "cpu" else torch.float16
    with torch.autocast(device, dtype=dtype, enabled=amp):
        loss, sample_size, logging_output = criterion(model, sample)
    if ignore_grad:
        loss *= 0
    optimizer.backward(loss)
    return loss, sample_size, logging_output


@functools.cache
def install() -> None:
    """Teach fairseq today's torch. Idempotent."""
    torch.serialization.add_safe_globals(safe_globals())
    checkpoint_utils.load_checkpoint_to_cpu = _guarded(checkpoint_utils.load_checkpoint_to_cpu)
    FairseqTask.train_step = _train_step
