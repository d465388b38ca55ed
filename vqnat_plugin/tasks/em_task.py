"""What a task adds for a model with a codebook trained by EM: the M step, once for each optimizer step."""

from typing import Any

from fairseq.tasks.fairseq_task import FairseqTask
from torch import nn

from .. import compat


class EMTask(FairseqTask):
    """Drives a `QuantizedModel`; to be named before the task that it extends."""

    def begin_update(self, model: Any) -> None:
        """Called before the forward passes of an update: drops what a skipped one has left."""
        model.discard_statistics()

    def begin_epoch(self, epoch: int, model: Any) -> None:
        """Start a new epoch of the codebook's usage statistics."""
        model.quantizer.reset_histogram()

    def train_step(
        self,
        sample: dict[str, Any],
        model: nn.Module,
        criterion: nn.Module,
        optimizer: Any,
        update_num: int,
        ignore_grad: bool = False,
        **kwargs: Any,
    ) -> Any:
        """Forward and backward pass; a dummy batch (`ignore_grad`) leaves no trace in the codebook."""
        net_input = {**sample["net_input"], "accumulate": not ignore_grad}
        sample = {**sample, "net_input": net_input}
        try:
            return super().train_step(sample, model, criterion, optimizer, update_num, ignore_grad, **kwargs)
        except RuntimeError:
            # Out of memory: the trainer drops the gradients of this update, so the statistics go as well.
            _unwrapped(model).discard_statistics()
            raise

    def optimizer_step(self, optimizer: Any, model: nn.Module, update_num: int) -> None:
        """The optimizer's step, then the M step, unless the former was skipped."""
        super().optimizer_step(optimizer, model, update_num)
        if not compat.step_was_skipped(optimizer):
            _unwrapped(model).update_codebook()


def _unwrapped(model: nn.Module) -> Any:
    """The model itself, without the wrapper of data-parallel training."""
    while not hasattr(model, "quantizer"):
        model = model.module  # type: ignore[assignment]
    return model
