"""Everything that fairseq or the version of torch forces on us, in one place.

Importing it teaches fairseq today's torch and registers the plugin's models, criterions and tasks. After that
the rest of the package may be written as if fairseq were young: checkpoints are read as data, and `--amp`
works on a CPU.
"""

import argparse
import dataclasses
import functools
import importlib.util
import inspect
import logging
import re
import sys
import warnings
from collections.abc import Callable
from typing import Any

import torch

from . import fairseq_commands, fairseq_options, registration, safe_loading
from .cpu import has_bfloat16
from .data import dictionaries
from .errors import CheckpointError, UsageError
from .plain_expression import evaluate
from .plain_pickle import FOR_TORCH, ForeignName, values_in

fairseq_commands.explain_errors()
fairseq_commands.require_python()
registration.stop_watching()

with registration.quiet_imports():
    from fairseq import checkpoint_utils, options
    from fairseq.data import Dictionary
    from fairseq.distributed import utils as distributed_utils
    from fairseq.models.ema.ema import EMA
    from fairseq.nan_detector import NanDetector
    from fairseq.optim.amp_optimizer import AMPOptimizer
    from fairseq.tasks import TASK_DATACLASS_REGISTRY, TASK_REGISTRY
    from fairseq.tasks.fairseq_task import FairseqTask
    from fairseq.tasks.translation import TranslationTask
    from fairseq.trainer import Trainer

    from . import distributed, fairseq_checks, resuming, saving

logger = logging.getLogger(__name__)

# What fairseq makes Hydra and torch say at every start; nobody but fairseq can change it.
KNOWN_WARNINGS = (
    "hydra.experimental",
    "The version_base parameter",
    "The strict flag",
    "'config' is validated",
    "In 'config'",
    "'pin_memory' argument is set as true",
)


class _Torch:
    """torch as fairseq sees it where it reads checkpoints."""

    @staticmethod
    def load(file: Any, map_location: Any = None) -> Any:
        """The content of a checkpoint, of plain data alone."""
        content = safe_loading.load(file)
        options = [content.get(name) for name in ("cfg", "args")] if isinstance(content, dict) else None
        if any(type(each) is str and "${" in each for each in values_in(options)):
            # OmegaConf would put variables of the environment there; fairseq stores what they stood for.
            raise ValueError("an option refers to something outside the file: ${...}")
        _complete(options[0] if options else None)
        return content

    def __getattr__(self, name: str) -> Any:
        return getattr(torch, name)


def _complete(config: Any) -> None:
    """Options of its task that are newer than a checkpoint: fairseq sets only those that it has."""
    task = config.get("task") if isinstance(config, dict) else None
    if not isinstance(task, dict) or not isinstance(task.get("_name"), str):
        return
    kind = TASK_DATACLASS_REGISTRY.get(task["_name"])
    if kind is not None and kind.__module__.startswith(f"{__package__}."):
        for field in dataclasses.fields(kind):
            # fairseq's own may refer to others.
            if field.default is None or isinstance(field.default, int | float):
                task.setdefault(field.name, field.default)


def _explain(path: str, error: Exception) -> str:
    if isinstance(error, ForeignName):
        return (
            f"{path}: refused, because it refers to {str(error)!r}: a checkpoint may hold data only, never "
            "code. If you trust its origin, load it yourself and save its weights alone."
        )
    return f"{path}: truncated, or not a checkpoint ({' '.join(f'{type(error).__name__} {error}'.split())})"


def _guarded(load: Callable[..., dict[str, Any]]) -> Callable[..., dict[str, Any]]:
    @functools.wraps(load)
    def load_checkpoint_to_cpu(path: str, *args: Any, **kwargs: Any) -> dict[str, Any]:
        try:
            return load(path, *args, **kwargs)
        except (FileNotFoundError, IsADirectoryError, PermissionError):
            raise
        except Exception as error:
            # Broken and forged files end in all sorts of errors.
            raise CheckpointError(_explain(path, error)) from None

    return load_checkpoint_to_cpu


@functools.cache
def _bfloat16_is_fast() -> bool:
    if not has_bfloat16():
        logger.info("--amp: this CPU has no arithmetic in bfloat16, so it computes in fp32, which is faster")
        return False
    return True


def _train_step(
    self: FairseqTask,
    sample: dict[str, Any],
    model: Any,
    criterion: torch.nn.Module,
    optimizer: Any,
    update_num: int,
    ignore_grad: bool = False,
) -> tuple[torch.Tensor, Any, dict[str, Any]]:
    """fairseq's training step, with an autocast that also knows the CPU where `--amp` is given.

    fairseq's own enters `torch.cuda.amp.autocast`, which does nothing without a GPU. On a CPU it is bfloat16
    here, or fp32 where the CPU only emulates that.
    """
    model.train()
    model.set_num_updates(update_num)
    device = next(model.parameters()).device.type
    dtype = torch.bfloat16 if device == "cpu" else torch.float16
    amp = isinstance(optimizer, AMPOptimizer) and (device != "cpu" or _bfloat16_is_fast())
    with torch.autocast(device, dtype=dtype, enabled=amp):
        loss, sample_size, logging_output = criterion(model, sample)
    if ignore_grad:
        loss *= 0
    optimizer.backward(loss)
    return loss, sample_size, logging_output


def _next_loss_scale(self: AMPOptimizer) -> float:
    """The loss scale after an overflow: fairseq gives up when it falls below `--min-loss-scale`.

    Without a GPU nothing is scaled; counting as if it were ends a training in which no step succeeds.
    """
    if self.scaler.is_enabled():
        return self.scaler.get_scale() * self.scaler.get_backoff_factor()
    return 0.5 ** (1 + self.skipped_in_a_row)


def _scaling(make: Callable[..., None]) -> Callable[..., None]:
    """Lets `--amp-init-scale` and `--amp-scale-window` say what fairseq's scaler takes from other options."""

    @functools.wraps(make)
    def scaling_optimizer(self: AMPOptimizer, cfg: Any, *args: Any, **kwargs: Any) -> None:
        make(self, cfg, *args, **kwargs)
        if self.scaler.is_enabled():
            common = cfg.common
            self._grad_scaler = torch.cuda.amp.GradScaler(
                init_scale=common.amp_init_scale, growth_interval=common.amp_scale_window or 2000
            )

    return scaling_optimizer


def _amp_step(self: AMPOptimizer) -> None:
    """One step under `--amp`; `self.skipped` tells whether it was left out because a gradient was not finite.

    Without a GPU the gradient scaler is disabled, and fairseq would apply infinite gradients.
    """
    if self.scaler.is_enabled():
        scale = self.scaler.get_scale()
        # The one whose gradients fairseq has unscaled to clip them: of another, they would be unscaled again.
        self.scaler.step(self.optimizer)
        self.scaler.update()
        self.skipped = self.scaler.get_scale() < scale
        return
    gradients = [
        p.grad for group in self.optimizer.param_groups for p in group["params"] if p.grad is not None
    ]
    self.skipped = not bool(torch.nn.utils.get_total_norm(gradients, foreach=True).isfinite())
    self.skipped_in_a_row = self.skipped_in_a_row + 1 if self.skipped else 0
    if not self.skipped:
        self.fp32_optimizer.step()


def _keeping_integers(make: Callable[..., None]) -> Callable[..., None]:
    """Lets the average of `--store-ema` take over what cannot be averaged, as whether codes are there."""

    @functools.wraps(make)
    def ema(self: EMA, model: Any, config: Any, device: Any = None, skip_keys: Any = None) -> None:
        integers = {name for name, value in model.state_dict().items() if not value.is_floating_point()}
        make(self, model, config, device, {*(skip_keys or ()), *integers})

    return ema


def _add_nan_hooks(self: NanDetector, module: torch.nn.Module) -> None:
    """Watch a module for the first NaN; fairseq's own hooks fail on modules that return a dataclass."""
    self.fhooks.append(module.register_forward_hook(self.fhook_fn))
    self.bhooks.append(module.register_full_backward_hook(self.bhook_fn))


def step_was_skipped(optimizer: Any) -> bool:
    """Whether the last call of `optimizer.step()` left the parameters alone."""
    return bool(getattr(optimizer, "skipped", False))


def _announced(train_step: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(train_step)
    def announced_train_step(self: Trainer, samples: list[Any], raise_oom: bool = False) -> Any:
        # A skipped or repeated step comes through here again: what its forward passes left behind has to go.
        begin_update = getattr(self.task, "begin_update", None)
        if begin_update is not None:
            begin_update(self.get_model())
        return train_step(self, samples, raise_oom)

    return announced_train_step


def _with_the_same_batches(get_batch_iterator: Callable[..., Any]) -> Callable[..., Any]:
    """Let a resumed training see the batches of an uninterrupted one.

    For most data sets fairseq puts sentences together into batches once, at the first epoch of the process,
    with a seed to which that epoch is added; every epoch then has these batches, in an order of its own. Here
    they are those of epoch 1, whatever the epoch in which the process starts. Where fairseq makes new batches
    for each epoch (see `made_once`), nothing is changed: they follow from the seed and the epoch alone.
    """
    signature = inspect.signature(get_batch_iterator)

    def made_once(task: FairseqTask, asked: dict[str, Any]) -> bool:
        anew = asked["disable_iterator_cache"] or asked.get("update_epoch_batch_itr")
        rebuilt = getattr(task.cfg, "rebuild_batches", False)
        return not anew and not rebuilt and task.can_reuse_epoch_itr(asked["dataset"])

    @functools.wraps(get_batch_iterator)
    def same_batches(self: FairseqTask, *args: Any, **kwargs: Any) -> Any:
        call = signature.bind(self, *args, **kwargs)
        call.apply_defaults()
        asked = call.arguments
        if not made_once(self, asked):
            return get_batch_iterator(self, *args, **kwargs)
        seed = asked["seed"]
        asked["seed"] = seed + 1 - asked["epoch"]
        iterator = get_batch_iterator(*call.args, **call.kwargs)
        # It also orders the batches of each epoch, and there fairseq adds the true epoch.
        iterator.seed = seed
        return iterator

    return same_batches


def _broadcast_object(obj: Any, src_rank: int, group: Any, dist_device: torch.device) -> Any:
    """Send an object to the other ranks, for a resumed training.

    fairseq reads what comes from its own first rank with the loader for strangers' files, which refuses it.
    """
    box = [obj]
    torch.distributed.broadcast_object_list(box, src=src_rank, group=group, device=dist_device)
    return box[0]


def _inference_with_bleu(self: TranslationTask, *args: Any) -> Any:
    """BLEU of `--eval-bleu` by the text pipeline and the language, for teacher and student alike."""
    # Registered only after this module is loaded.
    return importlib.import_module(".tasks.validation_bleu", __package__).inference_with_bleu(self, *args)


def _with_bleu(build_model: Callable[..., Any]) -> Callable[..., Any]:
    """Before a training begins, see that what it is to be validated with is there."""

    @functools.wraps(build_model)
    def build_model_and_check(self: TranslationTask, cfg: Any, from_checkpoint: bool = False) -> Any:
        if not from_checkpoint:
            importlib.import_module(".tasks.validation_bleu", __package__).check_bleu(self.cfg)
        return build_model(self, cfg, from_checkpoint)

    return build_model_and_check


def _check_machine(cfg: Any) -> None:
    """Raise `UsageError` for a precision that fairseq trains in on GPUs only."""
    common = cfg.common
    if (torch.cuda.is_available() and not common.cpu) or common.tpu:
        return
    for name in ("fp16", "bf16"):
        if getattr(common, name):
            raise UsageError(f"--{name}: trains on GPUs only; on a CPU use --amp, which computes in bfloat16")


def _checked(make: Callable[..., None]) -> Callable[..., None]:
    @functools.wraps(make)
    def checked_trainer(self: Trainer, cfg: Any, *args: Any, **kwargs: Any) -> None:
        _check_machine(cfg)
        make(self, cfg, *args, **kwargs)

    return checked_trainer


def _corrected(args: argparse.Namespace) -> None:
    """Look through options that fairseq has parsed.

    Raises:
        UsageError: for one that a model with a codebook cannot be trained with.
    """
    fairseq_options.check(args)
    if getattr(args, "bf16", False) and importlib.util.find_spec("torch_xla") is None:
        # fairseq takes --bf16 for a TPU, and then finds none.
        args.tpu = False
    # Registered only after this module is loaded.
    importlib.import_module(".tasks.text_tokenizer", __package__).use_text_pipeline(args)
    trains_codebook = hasattr(TASK_REGISTRY.get(getattr(args, "task", None)), "begin_update")
    if trains_codebook and getattr(args, "ddp_backend", None) == "fully_sharded":
        raise UsageError(
            "--ddp-backend fully_sharded: not supported, each GPU holds the whole codebook; leave it out"
        )


def _with_whole_help(parse: Callable[..., Any]) -> Callable[..., Any]:
    """Let `--help` show the options of the model, task and criterion as well.

    fairseq parses twice, adds those options in between, and prints its help already the first time.
    """

    @functools.wraps(parse)
    def parse_args_and_arch(
        parser: argparse.ArgumentParser, input_args: list[str] | None = None, *args: Any, **kwargs: Any
    ) -> Any:
        parse_known_args = parser.parse_known_args

        def first(given: list[str] | None = None, namespace: Any = None) -> Any:
            # fairseq-validate comes through here twice with one parser, one call inside the other.
            vars(parser).pop("parse_known_args", None)
            given = sys.argv[1:] if given is None else given
            found = parse_known_args([each for each in given if each not in ("-h", "--help")], namespace)
            if getattr(found[0], "arch", "") is None:
                # Without a model there is nothing to add, and fairseq ends with a bare RuntimeError.
                parse_known_args(given, namespace)
                raise UsageError("needs --arch, the model to train")
            return found

        parser.parse_known_args = first  # type: ignore[method-assign,assignment]
        parsed = parse(parser, input_args, *args, **kwargs)
        _corrected(parsed[0] if isinstance(parsed, tuple) else parsed)
        return parsed

    return parse_args_and_arch


def _evaluate_plainly() -> None:
    """Keep fairseq from running what options of a checkpoint say: some are given to `eval`."""
    for name, module in list(sys.modules.items()):
        if name.startswith("fairseq."):
            # A name of the module hides that of Python.
            vars(module)["eval"] = evaluate


@functools.cache
def install() -> None:
    """Teach fairseq today's torch. Idempotent."""
    _evaluate_plainly()
    for beginning in KNOWN_WARNINGS:
        warnings.filterwarnings("ignore", message=rf"\s*{re.escape(beginning)}")
    torch.serialization.add_safe_globals(FOR_TORCH)
    checkpoint_utils.torch = _Torch()
    checkpoint_utils.load_checkpoint_to_cpu = _guarded(checkpoint_utils.load_checkpoint_to_cpu)
    saving.install()
    resuming.install()
    distributed.install()
    Dictionary.add_from_file = dictionaries.checked(Dictionary.add_from_file)
    FairseqTask.train_step = _train_step
    FairseqTask.get_batch_iterator = _with_the_same_batches(FairseqTask.get_batch_iterator)
    distributed_utils._broadcast_object_slow = _broadcast_object
    TranslationTask._inference_with_bleu = _inference_with_bleu
    TranslationTask.build_model = _with_bleu(TranslationTask.build_model)
    NanDetector.add_hooks = _add_nan_hooks
    EMA.__init__ = _keeping_integers(EMA.__init__)
    AMPOptimizer.__init__ = _scaling(AMPOptimizer.__init__)
    AMPOptimizer.step = _amp_step
    AMPOptimizer.skipped_in_a_row = 0
    AMPOptimizer.next_loss_scale = property(_next_loss_scale)
    Trainer.__init__ = _checked(Trainer.__init__)
    Trainer.train_step = _announced(Trainer.train_step)
    options.parse_args_and_arch = _with_whole_help(options.parse_args_and_arch)
    fairseq_checks.install()


install()
registration.register()
