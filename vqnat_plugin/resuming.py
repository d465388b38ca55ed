"""A training that is run again goes on from what is whole, with the options that it began with, to its end.

fairseq resumes from `checkpoint_last.pt` or not at all, ends with tracebacks where options of the model have
changed and keeps to the old ones of the optimizer, adds an update to a training that is finished, and forgets
what it needs for `--patience` and for learning rates that change between epochs.
"""

import ast
import contextlib
import copy
import functools
import logging
import math
import sys
import weakref
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from fairseq import checkpoint_utils
from fairseq.trainer import Trainer

from .errors import CheckpointError, UsageError, UserError
from .fairseq_checks import unsound
from .fairseq_options import LAST
from .files import alone
from .safe_loading import without_weights
from .same_training import (
    OURS,
    amount,
    compare_data,
    compare_options,
    compare_symbols,
    languages_of,
    symbols_of,
)

# What fairseq puts into every checkpoint that a training can go on from.
NEEDED = ("cfg", "model", "optimizer_history", "extra_state")
# Of the trainer, and among ours: whether the latest validation was of a model that did not use its codes yet.
WITHOUT_CODES = "validated_without_codes"

logger = logging.getLogger(__name__)
# Folders that trainings of this process write to.
_writing: dict[Path, contextlib.ExitStack] = {}


def install() -> None:
    """Teach the trainer of this process."""
    checkpoint_utils.load_checkpoint = _resuming(checkpoint_utils.load_checkpoint)
    checkpoint_utils.save_checkpoint = _keeping_the_best(checkpoint_utils.save_checkpoint)
    Trainer.load_checkpoint = _from_what_is_whole(Trainer.load_checkpoint)
    Trainer.save_checkpoint = _remembering(Trainer.save_checkpoint)
    Trainer.begin_valid_epoch = _patient(Trainer.begin_valid_epoch)
    Trainer.lr_step = _by_losses_with_codes(Trainer.lr_step)


class _NoEpochLeft:
    """Stands in for fairseq's iterator over epochs behind the end of a training."""

    # Not less than any limit, not even that of a training without one.
    next_epoch_idx = math.nan


def _resuming(load: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(load)
    def load_checkpoint(cfg: Any, trainer: Trainer, **passed: Any) -> Any:
        if trainer.is_data_parallel_master and not cfg.no_save:
            _write_alone(trainer, Path(cfg.save_dir))
        if not cfg.no_save:
            _require_new(Path(cfg.restore_file), Path(cfg.save_dir, LAST))
        try:
            with _without_change_of_learning_rate(trainer):
                extra_state, epochs = load(cfg, trainer, **passed)
        except RuntimeError as error:
            if "dataloader mismatch" not in str(error):
                raise
            raise UsageError(
                f"{cfg.save_dir}: its training was in the middle of an epoch of more batches; take the old "
                "data and batch size, or add --reset-dataloader"
            ) from None
        resumed = extra_state is not None and trainer.get_num_updates() > 0
        if not resumed:
            # fairseq counts the hours of a training from whose weights this one begins.
            trainer._previous_training_time = 0
        if trainer.is_data_parallel_master:
            _warn_of_no_codes(trainer)
        state = extra_state or {}
        # Of versions that did not write it down, infinite losses say so.
        infinite = math.isinf(state.get("val_loss") or 0.0)
        setattr(trainer, WITHOUT_CODES, resumed and state.get(OURS, {}).get(WITHOUT_CODES, infinite))
        if not resumed or cfg.reset_lr_scheduler or cfg.reset_dataloader:
            trainer.lr_step(epochs.epoch)
        else:
            _go_on_with_learning_rate(trainer, extra_state)
        if not resumed:
            return extra_state, epochs
        _go_on_with_patience(extra_state)
        if trainer.is_data_parallel_master:
            compare_data(trainer, extra_state)
        reason = _why_finished(trainer, epochs)
        if reason is None:
            return extra_state, epochs
        if trainer.is_data_parallel_master:
            logger.info(f"{cfg.save_dir}: this training is finished: {reason}; nothing is left to do")
        return extra_state, _NoEpochLeft()

    return load_checkpoint


def _warn_of_no_codes(trainer: Trainer) -> None:
    """Warn of a training that ends before its model has codes: nothing could be decoded."""
    model, most = trainer.get_model(), trainer.cfg.optimization.max_update
    start = getattr(getattr(model, "config", None), "unquantized_updates", 0)
    if 0 < most < start and not getattr(model, "quantized", True):
        logger.warning(
            f"--max-update {most}: the training ends without codes, which come after --unquantized-updates "
            f"{start}: nothing can be decoded with its model"
        )


def _require_new(start: Path, last: Path) -> None:
    """Raise `UsageError` where a training would begin once more in the place of one that has begun before.

    Going back to a checkpoint of its own is another matter.
    """
    if str(start) != LAST and start.resolve().parent != last.resolve().parent and last.is_file():
        raise UsageError(
            f"--restore-file {start}: {last.parent} has a training that has begun; leave --restore-file and "
            "--reset-... out to go on with it, or name another --save-dir"
        )


def _write_alone(trainer: Trainer, folder: Path) -> None:
    """Keep other processes from writing to a folder as long as there is this trainer."""
    key = folder.resolve()
    if key in _writing:
        return
    _writing[key] = contextlib.ExitStack()
    try:
        _writing[key].enter_context(alone(folder))
    except BaseException:
        del _writing[key]
        raise
    weakref.finalize(trainer, _leave, key)


def _leave(key: Path) -> None:
    # fairseq makes the folder anew if it was deleted.
    with contextlib.suppress(UserError):
        _writing.pop(key).close()


@contextlib.contextmanager
def _without_change_of_learning_rate(trainer: Trainer) -> Iterator[None]:
    """Within, fairseq does not take the epoch that it goes on with for one that has just ended."""
    trainer.lr_step = lambda *_args: trainer.get_lr()
    try:
        yield
    finally:
        del trainer.lr_step


def _go_on_with_learning_rate(trainer: Trainer, extra_state: dict[str, Any]) -> None:
    """Do what an uninterrupted training would have done behind this checkpoint."""
    waited = extra_state.get(OURS, {}).get("bad_epochs")
    if waited is not None and (plateau := _plateau(trainer)) is not None:
        plateau.num_bad_epochs = waited
    position = extra_state["train_iterator"]
    if position["iterations_in_epoch"] == 0:
        trainer.lr_step(position["epoch"] - 1, extra_state.get("val_loss"))
    else:
        trainer.lr_step_update()


def _plateau(trainer: Trainer) -> Any:
    """torch's schedule behind `--lr-scheduler reduce_lr_on_plateau`; None with others.

    fairseq saves its best loss, but not for how long it has waited for a better one.
    """
    schedule = getattr(trainer.lr_scheduler, "lr_scheduler", None)
    return schedule if hasattr(schedule, "num_bad_epochs") else None


def _why_finished(trainer: Trainer, epochs: Any) -> str | None:
    """Which limit a resumed training has reached already, if any."""
    limits, updates, lr = trainer.cfg.optimization, trainer.get_num_updates(), trainer.get_lr()
    hours, patience = trainer.cumulative_training_time() / 3600, trainer.cfg.checkpoint.patience
    counted = getattr(_early_stopping(), "num_runs", 0)
    if 0 < limits.max_update <= updates:
        return f"{updates} updates of --max-update {limits.max_update}"
    if 0 < limits.max_epoch < epochs.next_epoch_idx:
        return f"{epochs.next_epoch_idx - 1} epochs of --max-epoch {limits.max_epoch}"
    if lr <= limits.stop_min_lr:
        return f"its learning rate has come down to {lr:g}, --stop-min-lr is {limits.stop_min_lr:g}"
    if 0 < limits.stop_time_hours < hours:
        return f"{hours:.2f} of --stop-time-hours {limits.stop_time_hours:g}"
    if 0 < patience <= counted:
        return f"{counted} validations without progress, --patience {patience}"
    return None


def _early_stopping() -> Any:
    """fairseq's function for `--patience`, which counts in attributes of its own; None without a training."""
    modules = (sys.modules.get(name) for name in ("__main__", "fairseq_cli.train"))
    return next(filter(None, (getattr(module, "should_stop_early", None) for module in modules)), None)


def _go_on_with_patience(extra_state: dict[str, Any]) -> None:
    counter = _early_stopping()
    if counter is not None:
        vars(counter).update(extra_state.get(OURS, {}).get("patience", {}))


def _patient(begin: Callable[..., Any]) -> Callable[..., Any]:
    """Count no validation of a model without codes for `--patience` nor `checkpoint_best.pt`."""

    @functools.wraps(begin)
    def begin_valid_epoch(self: Trainer, epoch: int) -> Any:
        if getattr(self, WITHOUT_CODES, False):
            # The next one is a first one.
            for function in filter(None, (_early_stopping(), checkpoint_utils.save_checkpoint)):
                vars(function).pop("best", None)
        setattr(self, WITHOUT_CODES, not getattr(self.get_model(), "quantized", True))
        return begin(self, epoch)

    return begin_valid_epoch


def _keeping_the_best(save: Callable[..., Any]) -> Callable[..., Any]:
    """Keep no model without codes for `--keep-best-checkpoints`: fairseq would never find and delete it."""

    @functools.wraps(save)
    def save_checkpoint(cfg: Any, trainer: Trainer, epoch_itr: Any, val_loss: float | None) -> Any:
        if cfg.keep_best_checkpoints > 0 and getattr(trainer, WITHOUT_CODES, False):
            cfg = copy.copy(cfg)
            cfg.keep_best_checkpoints = 0
        return save(cfg, trainer, epoch_itr, val_loss)

    return save_checkpoint


def _by_losses_with_codes(step: Callable[..., Any]) -> Callable[..., Any]:
    """Let no learning rate fall because a model had no codes yet."""

    @functools.wraps(step)
    def lr_step(self: Trainer, epoch: int, val_loss: float | None = None) -> Any:
        return step(self, epoch, None if getattr(self, WITHOUT_CODES, False) else val_loss)

    return lr_step


def _remembering(save: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(save)
    def save_checkpoint(self: Trainer, filename: str, extra_state: dict[str, Any]) -> Any:
        counter = _early_stopping()
        patience = {name: getattr(counter, name) for name in ("best", "num_runs") if hasattr(counter, name)}
        ours = {
            "patience": patience,
            "bad_epochs": getattr(_plateau(self), "num_bad_epochs", None),
            "data": amount(self),
            "symbols": symbols_of(self),
            "languages": languages_of(self),
            WITHOUT_CODES: getattr(self, WITHOUT_CODES, False),
        }
        return save(self, filename, {**extra_state, OURS: ours})

    return save_checkpoint


def _from_what_is_whole(load: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(load)
    def load_checkpoint(
        self: Trainer, filename: str, reset_optimizer: bool = False, *args: Any, **kwargs: Any
    ) -> Any:
        read = checkpoint_utils.load_checkpoint_to_cpu

        def read_whole(path: str, *args: Any, **kwargs: Any) -> dict[str, Any]:
            state = _newest(self, Path(path), lambda each: _complete(each, read(str(each), *args, **kwargs)))
            compare_options(self, path, state)
            compare_symbols(self, path, state)
            if not reset_optimizer:
                _require_optimizer(path, state)
            if self.cfg.ema.store_ema:
                # fairseq looks for the weights when it has deleted them already.
                state["extra_state"].setdefault("ema", dict(state["model"]))
            return state

        checkpoint_utils.load_checkpoint_to_cpu = read_whole
        try:
            extra_state = load(self, filename, reset_optimizer, *args, **kwargs)
            if extra_state is not None and not reset_optimizer:
                _use_options_of_optimizer(self)
            return extra_state
        except AssertionError as error:
            # The criterion or the optimizer is another one.
            raise UsageError(f"{filename}: {error}") if "--reset-optimizer" in str(error) else error from None
        finally:
            checkpoint_utils.load_checkpoint_to_cpu = read

    return load_checkpoint


def _use_options_of_optimizer(trainer: Trainer) -> None:
    """Let betas, weight decay and so on be those that are asked for: fairseq takes the saved ones."""
    # One of several parts has none.
    with contextlib.suppress(NotImplementedError):
        options = {name: each for name, each in trainer.optimizer.optimizer_config.items() if name != "lr"}
        options |= ast.literal_eval(trainer.cfg.checkpoint.optimizer_overrides)
        for group in trainer.optimizer.param_groups:
            group.update(options)


def _complete(path: Path, state: dict[str, Any]) -> dict[str, Any]:
    """What was read, if a training can go on from it.

    Raises:
        CheckpointError: it cannot.
    """
    if wrong := unsound(state):
        raise CheckpointError(f"{path}: {wrong}")
    if all(state.get(name) for name in NEEDED) and "train_iterator" in state["extra_state"]:
        return state
    raise CheckpointError(f"{path}: no training can go on from it: not all that fairseq-train saves is there")


def _require_optimizer(path: str, state: dict[str, Any]) -> None:
    """Raise `UsageError` where fairseq would begin a new training in the place of the old one."""
    if state.get("last_optimizer_state") is None:
        raise UsageError(
            f"{path}: has no state of the optimizer (--no-save-optimizer-state, or it is an average): no "
            "training can go on from it; to begin a new one from its weights add --reset-optimizer "
            "--reset-lr-scheduler --reset-dataloader --reset-meters"
        )


def _newest(trainer: Trainer, path: Path, read: Callable[[Path], dict[str, Any]]) -> dict[str, Any]:
    """What is in a checkpoint; if it is the last of a training and damaged, in the newest whole one.

    Raises:
        CheckpointError: there is none.
    """
    try:
        return read(path)
    except CheckpointError as error:
        folder = Path(trainer.cfg.checkpoint.save_dir)
        if path != folder / LAST:
            raise
        damage = error
    for other in _by_updates(path, read):
        with contextlib.suppress(CheckpointError):
            state = read(other)
            logger.warning(f"{damage}; the training goes on from {other}, update {_updates(state)}")
            return state
    raise CheckpointError(
        f"{damage}; no other checkpoint in {folder} is whole either: delete it to begin anew"
    )


def _by_updates(last: Path, read: Callable[[Path], dict[str, Any]]) -> list[Path]:
    """The other checkpoints of a folder that a training can go on from, the newest first."""
    found = {}
    for path in set(last.parent.glob("checkpoint*.pt")) - {last}:
        with contextlib.suppress(CheckpointError, OSError), without_weights():
            state = read(path)
            # An average of checkpoints has no state of the optimizer.
            if state.get("last_optimizer_state", True) is not None:
                found[path] = _updates(state)
    return sorted(found, key=lambda path: (found[path], path), reverse=True)


def _updates(state: dict[str, Any]) -> int:
    return int(state["optimizer_history"][-1]["num_updates"])
