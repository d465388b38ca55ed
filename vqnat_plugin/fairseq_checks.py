"""What fairseq fails with in errors of many kinds, and far from the cause, as a `UserError` that names it.

`compat` installs it. Faults of the program itself pass.
"""

import functools
import os
import re
import weakref
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from typing import Any

from fairseq import checkpoint_utils, options, utils
from fairseq.data import data_utils
from fairseq.tasks.translation import TranslationTask
from torch import Tensor

from . import fairseq_options
from .data import binarised
from .errors import CheckpointError, DataError, UsageError, UserError, explain
from .options import flag

EMBEDDINGS = r"size mismatch for \S*embed\w*\.?tokens\S*: .*?torch\.Size\(\[(\d+).*?torch\.Size\(\[(\d+)"
LONGEST_REASON = 300
# fairseq's own, for whoever says himself what is wrong.
load_models = checkpoint_utils.load_model_ensemble_and_task


def reason(error: Exception) -> str:
    """Why a model cannot be rebuilt, in one line."""
    sizes = re.search(EMBEDDINGS, str(error))
    if sizes and sizes[1] != sizes[2]:
        return f"it knows {sizes[1]} symbols, but a dictionary there has {sizes[2]}"
    if explained := explain(error):
        return explained[0]
    lines = str(error).strip().splitlines() or [""]
    return f"{type(error).__name__}: {lines[-1].strip()[:LONGEST_REASON]}"


@contextmanager
def told(kind: type[UserError], what: str) -> Iterator[None]:
    """Within, whatever fairseq raises is an error of this kind that says what could not be done, and why."""
    try:
        yield
    except ModuleNotFoundError:
        raise
    except UserError as error:
        raise type(error)(f"{what} ({error})") from None
    except Exception as error:
        raise kind(f"{what} ({reason(error)})") from None


def names(config: Any) -> list[str]:
    """The names of task and model in the options of a checkpoint, as far as they are there."""
    groups = [getattr(config, group, None) for group in ("task", "model")]
    found = [getattr(group, "_name", None) for group in groups]
    return [name for name in found if isinstance(name, str)]


def unsound(state: Mapping[str, Any]) -> str:
    """What is wrong with a checkpoint that fairseq has read; empty where nothing is.

    Weights that have not been read, see `safe_loading.without_weights`, are taken for finite.
    """
    model = state.get("model")
    tensors = isinstance(model, dict) and all(isinstance(value, Tensor) for value in model.values())
    if not model or not tensors or len(names(state.get("cfg"))) < 2:
        return "not a checkpoint of fairseq-train"
    task = state["cfg"].task
    for name in ("data", "source_lang", "target_lang"):
        if not isinstance(getattr(task, name, None), str | None):
            return f"not a checkpoint of fairseq-train: its {flag(name)} is {getattr(task, name)!r}"
    odd = next((name for name, each in model.items() if not each.is_meta and not each.isfinite().all()), None)
    return "" if odd is None else f"'{odd}' is not finite; its training has diverged"


def require_started(who: str, models: Iterable[Any]) -> None:
    """Raise `CheckpointError` for a model whose codes have had no start, so that they are random."""
    for model in models:
        if not getattr(model, "quantized", True):
            raise CheckpointError(
                f"{who}: is from before the codebook's start, its codes are random; take a later checkpoint"
            )


def require_known(who: str, config: Any, overrides: Iterable[str]) -> None:
    """Raise `UsageError` for an option that a checkpoint does not have: fairseq would leave it out."""
    for name in overrides:
        if not any(name in (group or ()) for group in config.values()):
            raise UsageError(f"--model-overrides: {who} was trained without an option '{name}'")


def _require_same_symbols(name: str, trained: Any, task: Any) -> None:
    """Raise `CheckpointError` if a task has another dictionary than the training, as far as that is known."""
    for side in ("source", "target"):
        language, dictionary = (
            getattr(task.cfg, f"{side}_lang", None),
            getattr(task, f"{side}_dictionary", None),
        )
        before = os.path.join(str(getattr(trained, "data", None)).split(":")[0], f"dict.{language}.txt")
        if dictionary is not None and os.path.isfile(before) and type(dictionary).load(before) != dictionary:
            raise CheckpointError(
                f"{name}: was trained with {before}, which has other symbols than that in {task.cfg.data}; "
                "binarise with the dictionaries of the training (fairseq-preprocess --srcdict, --tgtdict)"
            )


def _rebuilding(load: Callable[..., Any]) -> Callable[..., Any]:
    """fairseq's `load_model_ensemble_and_task`, one file after the other, each of which has to be sound."""

    @functools.wraps(load)
    def load_model_ensemble_and_task(
        filenames: Sequence[str],
        arg_overrides: dict[str, Any] | None = None,
        task: Any = None,
        strict: bool = True,
        suffix: str = "",
        num_shards: int = 1,
        state: Any = None,
    ) -> Any:
        models: list[Any] = []
        config = None
        for name in filenames:
            content = state
            path = checkpoint_utils.get_maybe_sharded_checkpoint_filename(name, suffix, 0, num_shards)
            if content is None and num_shards == 1 and os.path.exists(path):
                content = checkpoint_utils.load_checkpoint_to_cpu(path, arg_overrides)
            if content is not None and (wrong := unsound(content)):
                raise CheckpointError(f"{name}: {wrong}")
            if content is not None and task is not None:
                # As fairseq-generate and fairseq-interactive call it; others pass on whatever they are given.
                require_known(name, content["cfg"], arg_overrides or {})
                _require_same_symbols(name, content["cfg"].task, task)
            try:
                found, config, task = load([name], arg_overrides, task, strict, suffix, num_shards, content)
            except UserError as error:
                raise type(error)(f"{name}: {error}") from None
            except (OSError, ModuleNotFoundError):
                raise
            except Exception as error:
                raise CheckpointError(f"{name}: cannot be rebuilt ({reason(error)})") from None
            require_started(name, found)
            models += found
        return models, config, task

    return load_model_ensemble_and_task


def _set_up(setup: Callable[..., Any]) -> Callable[..., Any]:
    def setup_task(cls: type[TranslationTask], cfg: Any, **kwargs: Any) -> Any:
        if not cfg.data:
            raise DataError("DATA: needs the folder of binarised data, as fairseq-preprocess writes it")
        given = {name: getattr(cfg, name) for name in ("source_lang", "target_lang")}
        try:
            task = setup(cls, cfg, **kwargs)
        except (AssertionError, TypeError, ValueError) as error:
            raise DataError(f"{cfg.data}: is no folder of binarised data ({reason(error)})") from None
        except Exception as error:
            if type(error) is not Exception:
                raise
            # fairseq's own: there is nothing in the folder that says the languages.
            way = "add --source-lang and --target-lang"
            raise DataError(f"{cfg.data}: its languages are not known; {way}") from None
        for name, language in given.items():
            # With one of them alone, fairseq takes both from the data.
            if language is not None and language != getattr(cfg, name):
                pair = f"{cfg.source_lang}-{cfg.target_lang}"
                raise UsageError(f"{flag(name)} {language}: {cfg.data} holds {pair}; name both languages")
        return task

    return setup_task


def _loading(load: Callable[..., None]) -> Callable[..., None]:
    @functools.wraps(load)
    def load_dataset(self: TranslationTask, split: str, *args: Any, **kwargs: Any) -> None:
        try:
            load(self, split, *args, **kwargs)
        except (AssertionError, ValueError, TypeError) as error:
            raise DataError(f"{self.cfg.data}: subset '{split}' cannot be read ({reason(error)})") from None

    return load_dataset


def _leaving_nothing(verify: Callable[[str], None]) -> Callable[[str], None]:
    """fairseq makes the folder of a training before it knows whether there can be one; if not, it goes."""

    @functools.wraps(verify)
    def verify_checkpoint_directory(save_dir: str) -> None:
        new = not os.path.exists(save_dir)
        verify(save_dir)
        if new:
            # At the end of this process, behind the locks in the folder.
            weakref.finalize(verify_checkpoint_directory, _remove_if_empty, os.path.abspath(save_dir))

    return verify_checkpoint_directory


def _remove_if_empty(folder: str) -> None:
    with suppress(OSError):
        os.rmdir(folder)


def _importing(load: Callable[..., None]) -> Callable[..., None]:
    @functools.wraps(load)
    def import_user_module(args: Any) -> None:
        try:
            load(args)
        except FileNotFoundError:
            raise UsageError(f"--user-dir {args.user_dir}: no such folder") from None

    return import_user_module


def _checked_parser(get_parser: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(get_parser)
    def get_checked_parser(*args: Any, **kwargs: Any) -> Any:
        parser = get_parser(*args, **kwargs)
        parse = parser.parse_args

        def parse_args(*args: Any, **kwargs: Any) -> Any:
            found = parse(*args, **kwargs)
            fairseq_options.check(found)
            fairseq_options.check_texts(found)
            return found

        parser.parse_args = parse_args
        return parser

    return get_checked_parser


def install() -> None:
    """Let fairseq look first."""
    checkpoint_utils.load_model_ensemble_and_task = _rebuilding(checkpoint_utils.load_model_ensemble_and_task)
    checkpoint_utils.verify_checkpoint_directory = _leaving_nothing(
        checkpoint_utils.verify_checkpoint_directory
    )
    utils.import_user_module = _importing(utils.import_user_module)
    options.get_preprocessing_parser = _checked_parser(options.get_preprocessing_parser)
    data_utils.load_indexed_dataset = binarised.checked(data_utils.load_indexed_dataset)
    TranslationTask.setup_task = classmethod(_set_up(TranslationTask.setup_task.__func__))
    TranslationTask.load_dataset = _loading(TranslationTask.load_dataset)
