"""Whether a checkpoint is of the training that is to go on from it: its options, symbols and data."""

import argparse
import enum
import hashlib
import logging
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from fairseq.trainer import Trainer
from omegaconf import OmegaConf

from .errors import CheckpointError, UsageError
from .fairseq_options import LAST
from .options import flag

# What we add to fairseq's `extra_state`.
OURS = "vqnat"
# Options with which the same weights compute something else.
SAME_SHAPES = (
    "attention_heads",
    "encoder_attention_heads",
    "decoder_attention_heads",
    "activation_fn",
    "decoder_attention",
    "likelihood",
    "codebook_size",
    "no_scale_embedding",
    "no_token_positional_embeddings",
)

logger = logging.getLogger(__name__)


def symbols_of(trainer: Trainer) -> list[str | None]:
    """Digests of the dictionaries of source and target; None where there is none."""
    names = ("source_dictionary", "target_dictionary")
    found = [getattr(getattr(trainer.task, name, None), "symbols", None) for name in names]
    return [each and hashlib.sha256("\n".join(each).encode()).hexdigest() for each in found]


def languages_of(trainer: Trainer) -> dict[str, str | None]:
    """The languages of a translation task, by the names of their options; None where there is none."""
    return {name: getattr(trainer.task.cfg, name, None) for name in ("source_lang", "target_lang")}


def _other_languages(trainer: Trainer, state: dict[str, Any]) -> str:
    """Those languages that are others than before, as a phrase."""
    now = languages_of(trainer)
    return _differences(state["extra_state"].get(OURS, {}).get("languages", now), now, now)


def compare_symbols(trainer: Trainer, path: str, state: dict[str, Any]) -> None:
    """Raise `CheckpointError` if the numbers of the data stand for other symbols than before."""
    before, now = state["extra_state"].get(OURS, {}).get("symbols"), symbols_of(trainer)
    if before is not None and before != now:
        raise CheckpointError(
            f"{path}: was trained with other symbols than the dictionaries in {trainer.cfg.task.data} have; "
            "prepare the data with those of the training (vqnat prepare --srcdict, --tgtdict)"
        )


def amount(trainer: Trainer) -> list[int] | None:
    """Examples and tokens of the training set, by which another one is known; None where it changes."""
    subset = trainer.cfg.dataset.train_subset
    dataset = trainer.task.datasets.get(subset)
    if dataset is None or trainer.task.has_sharded_data(subset):
        return None
    return [len(dataset), int(np.asarray(getattr(dataset, "sizes", 0)).sum())]


def compare_data(trainer: Trainer, extra_state: dict[str, Any]) -> None:
    """Warn of a training set that is another one than before."""
    before, now = extra_state.get(OURS, {}).get("data"), amount(trainer)
    if before is not None and now is not None and before != now:
        logger.warning(
            f"{trainer.cfg.checkpoint.save_dir}: its training set had {before[0]:,} examples of "
            f"{before[1]:,} tokens, that of {trainer.cfg.task.data} has {now[0]:,} of {now[1]:,}; the "
            "training goes on with other data"
        )


def compare_options(trainer: Trainer, path: str, state: dict[str, Any]) -> None:
    """Compare the options and weights of a checkpoint with those of the training that is to go on from it.

    Raises:
        UsageError: its weights are of another form; names the options that have changed, with both values.
    """
    model, before, now = trainer.get_model(), state["cfg"], trainer.cfg
    there = dict(state["model"])
    model.upgrade_state_dict(there)
    here = model.state_dict()
    shapes = [{name: tuple(value.shape) for name, value in each.items()} for each in (there, here)]
    changes = _changed(model, before["model"], now.model, SAME_SHAPES)
    if shapes[0] != shapes[1] and not trainer.is_fsdp:
        changes = _changed(model, before["model"], now.model) or _first_difference(*shapes)
    own = Path(path) == Path(now.checkpoint.save_dir, LAST)
    # Another training may well begin from a model of the other direction.
    changes = changes or (_other_languages(trainer, state) if own else "")
    if changes:
        other = "--save-dir" if own else "checkpoint"
        raise UsageError(f"{path}: does not fit: {changes}; take the old value, or another {other}")
    if own and before["common"]["seed"] != now.common.seed:
        logger.warning(
            f"{path}: --seed was {before['common']['seed']}, is now {now.common.seed}; the training goes on, "
            "but is not the one of either seed"
        )


def _changed(model: Any, before: Any, now: Any, names: Collection[str] = ()) -> str:
    """Those options of a model, all or some, that are others than before, as a phrase."""
    old, new = _values(before), _values(now)
    if old.get("_name") != new.get("_name"):
        return f"--arch was {old.get('_name')}, is now {new.get('_name')}"
    parser = argparse.ArgumentParser(allow_abbrev=False)
    model.add_args(parser)
    own = [action.dest for action in parser._actions if action.dest in old and action.dest in new]
    return _differences(old, new, [name for name in own if not names or name in names])


def _differences(before: Mapping[str, Any], now: Mapping[str, Any], names: Iterable[str]) -> str:
    """Which of these options have other values than before, as a phrase."""
    return ", ".join(
        f"{flag(name)} was {before[name]}, is now {now[name]}" for name in names if before[name] != now[name]
    )


def _values(options: Any) -> dict[str, Any]:
    """Options by name, whatever fairseq keeps them in."""
    found: Any = OmegaConf.to_container(options) if OmegaConf.is_config(options) else vars(options)
    return {name: value.value if isinstance(value, enum.Enum) else value for name, value in found.items()}


def _first_difference(there: dict[str, Any], here: dict[str, Any]) -> str:
    name = next(name for name in [*there, *here] if there.get(name) != here.get(name))
    return f"'{name}' is {there.get(name, 'missing')} there, {here.get(name, 'missing')} here"
