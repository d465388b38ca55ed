"""What a task adds for a model with a codebook trained by EM: the M step, once for each optimizer step."""

from typing import Any

from fairseq.tasks.fairseq_task import FairseqTask
from torch import nn

from .. import compat
from ..errors import UsageError
from ..models.quantized import QuantizedModel


class EMTask(FairseqTask):
    """Drives a `QuantizedModel`, and others as fairseq does; to be named before the task that it extends.

    Attributes:
        names: of the task, and of the criterion that drives its models.
    """

    names: tuple[str, str]

    def build_criterion(self, cfg: Any, from_checkpoint: bool = False) -> nn.Module:
        """Build the criterion; `UsageError` for one that cannot drive the models."""
        (task, criterion), name = self.names, getattr(cfg, "_name", None)
        if name != criterion:
            raise UsageError(
                f"--task {task} cannot be driven by --criterion {name}: add --criterion {criterion}"
            )
        return super().build_criterion(cfg, from_checkpoint)

    def begin_update(self, model: Any) -> None:
        """Called before the forward passes of an update: drops what a skipped one has left."""
        if isinstance(model, QuantizedModel):
            model.discard_statistics()

    def begin_epoch(self, epoch: int, model: Any) -> None:
        """Start a new epoch of the codebook's usage statistics."""
        if isinstance(model, QuantizedModel):
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
        inner = _unwrapped(model)
        if isinstance(inner, QuantizedModel):
            sample = {**sample, "net_input": {**sample["net_input"], "accumulate": not ignore_grad}}
        try:
            return super().train_step(sample, model, criterion, optimizer, update_num, ignore_grad, **kwargs)
        except RuntimeError:
            # Out of memory: the trainer drops the gradients of this update, so the statistics go as well.
            self.begin_update(inner)
            raise

    def optimizer_step(self, optimizer: Any, model: nn.Module, update_num: int) -> None:
        """The optimizer's step, then the M step, unless the former was skipped."""
        super().optimizer_step(optimizer, model, update_num)
        inner = _unwrapped(model)
        if isinstance(inner, QuantizedModel) and not compat.step_was_skipped(optimizer):
            inner.update_codebook()


def _unwrapped(model: nn.Module) -> nn.Module:
    """The model itself, without the wrappers of data-parallel training."""
    while isinstance(inner := getattr(model, "module", None), nn.Module):
        model = inner
    return model
