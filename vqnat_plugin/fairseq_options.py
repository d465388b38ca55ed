"""fairseq's own options, looked through when they are parsed: it takes any, and fails or hangs later."""

import argparse
import ast
import dataclasses
import json
import typing
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from .data.dictionaries import read_dictionary
from .errors import UsageError
from .options import MOST_BEAM, MOST_PROCESSES, MOST_SEED, MOST_TOKENS, flag, out_of_range
from .reading import read_blocks

Range = Mapping[str, float]
POSITIVE: Range = {"least": 1}
NOT_NEGATIVE: Range = {"least": 0}
LENGTH: Range = {"least": 0, "most": MOST_TOKENS}
# What fairseq's numbers have to be, besides finite. What is not here may be any finite number.
RANGES: dict[str, Range] = {
    "beam": {"least": 1, "most": MOST_BEAM},
    "nbest": {"least": 1, "most": MOST_BEAM},
    "max_len_a": LENGTH,
    "max_len_b": LENGTH,
    "min_len": LENGTH,
    "temperature": {"above": 0},
    "verify_tolerance": NOT_NEGATIVE,
    "prefix_size": NOT_NEGATIVE,
    "no_repeat_ngram_size": NOT_NEGATIVE,
    "seed": {"least": 0, "most": MOST_SEED},
    "max_tokens": POSITIVE,
    "max_tokens_valid": POSITIVE,
    "buffer_size": NOT_NEGATIVE,
    "batch_size": POSITIVE,
    "batch_size_valid": POSITIVE,
    "required_batch_size_multiple": POSITIVE,
    "update_freq": POSITIVE,
    "num_workers": {"least": 0, "most": MOST_PROCESSES},
    "workers": {"least": 1, "most": MOST_PROCESSES},
    "padding_factor": POSITIVE,
    "max_source_positions": POSITIVE,
    "max_target_positions": POSITIVE,
    "lr": NOT_NEGATIVE,
    "clip_norm": NOT_NEGATIVE,
    "weight_decay": NOT_NEGATIVE,
    "adam_eps": NOT_NEGATIVE,
    "max_update": NOT_NEGATIVE,
    "max_epoch": NOT_NEGATIVE,
    "warmup_updates": NOT_NEGATIVE,
    "log_interval": POSITIVE,
    "save_interval": POSITIVE,
    "save_interval_updates": NOT_NEGATIVE,
    "validate_interval": POSITIVE,
    "validate_interval_updates": NOT_NEGATIVE,
    "dropout": {"least": 0, "below": 1},
    "distributed_world_size": POSITIVE,
    "num_shards": POSITIVE,
    "shard_id": NOT_NEGATIVE,
    "checkpoint_shard_count": POSITIVE,
}
# fairseq's name of the checkpoint that a training goes on from.
LAST = "checkpoint_last.pt"
# Options whose value is JSON.
BLEU_ARGS, DETOKENIZER_ARGS = "eval_bleu_args", "eval_bleu_detok_args"

# Our criterions, and what the mean of their losses is over.
MEANS = {"vq_nat_loss": "target tokens", "vq_vae_loss": "values of images"}


def check(args: argparse.Namespace) -> None:
    """Look through what fairseq has parsed.

    Raises:
        UsageError: a number is not finite or out of its range, or a value cannot be read.
    """
    for name, value in vars(args).items():
        _check_number(flag(name), name, value)
    source, target = (getattr(args, name, None) for name in ("source_lang", "target_lang"))
    if source is not None and source == target:
        raise UsageError(f"--target-lang {target}: needs another language than the source")
    if getattr(args, "path", None) == "":
        raise UsageError("--path: needs a checkpoint, but nothing is there")
    if getattr(args, "input", "-") != "-":
        _check_text("--input", Path(args.input))
    if isinstance(betas := getattr(args, "adam_betas", None), str):
        _check_betas(betas)
    if getattr(args, "eval_bleu", False):
        check_generation(flag(BLEU_ARGS), _json(args, BLEU_ARGS))
        _check_detokenizer(args)
    if getattr(args, "model_overrides", None) is not None:
        _check_overrides(args.model_overrides)
    if getattr(args, "shard_id", 0) >= getattr(args, "num_shards", 1):
        raise UsageError(f"--shard-id {args.shard_id}: needs to be below --num-shards {args.num_shards}")
    if getattr(args, "path", None) and getattr(args, "num_shards", 1) > 1:
        raise UsageError(
            f"--num-shards {args.num_shards}: fairseq decodes shards by --distributed-world-size and "
            "--distributed-rank only; give those"
        )
    if getattr(args, "sentence_avg", False) and getattr(args, "criterion", None) in MEANS:
        raise UsageError(
            f"--sentence-avg: does nothing with --criterion {args.criterion}, whose losses are means over "
            f"{MEANS[args.criterion]}; leave it out"
        )
    if getattr(args, "num_batch_buckets", 0):
        raise UsageError(
            f"--num-batch-buckets {args.num_batch_buckets}: fails in this fairseq; leave it out, or give "
            "--required-batch-size-multiple"
        )
    if getattr(args, "sacrebleu", False) and getattr(args, "scoring", None) != "sacrebleu":
        raise UsageError("--sacrebleu: does nothing in this fairseq; give --scoring sacrebleu")
    if getattr(args, "lr_scheduler", None) == "inverse_sqrt" and args.warmup_updates == 0:
        raise UsageError("--warmup-updates 0: --lr-scheduler inverse_sqrt needs at least 1")
    for name in ("restore_file", "finetune_from_model"):
        _check_checkpoint(args, name)
    if getattr(args, "nbest", 1) > getattr(args, "beam", MOST_BEAM):
        raise UsageError(f"--nbest {args.nbest}: needs --beam {args.nbest} or more, but it is {args.beam}")


def check_generation(where: str, chosen: Mapping[str, Any]) -> None:
    """Look through options of decoding that do not come from a command line of fairseq.

    Args:
        where: what messages begin with.
        chosen: by their names.

    Raises:
        UsageError: one is not known, of another type, or out of its range.
    """
    # Not at the top: the commands' options are light.
    from fairseq.dataclass.configs import GenerationConfig

    types = typing.get_type_hints(GenerationConfig)
    for name, value in chosen.items():
        if name not in types:
            raise UsageError(f"{where}: fairseq's generation knows no '{name}'")
        wanted = types[name]
        allowed = (int, float) if wanted is float else (wanted,)
        if wanted in (bool, int, float) and type(value) not in allowed:
            raise UsageError(f"{where}: {name} {value!r}: needs a value of type {wanted.__name__}")
        _check_number(f"{where}: {name}", name, value)


def check_texts(args: argparse.Namespace) -> None:
    """Look through the files that fairseq-preprocess is to read.

    Raises:
        UsageError: one is missing.
        DataError: one is not UTF-8, or no dictionary.
    """
    languages = [args.source_lang] if args.only_source else [args.source_lang, args.target_lang]
    for name in ("trainpref", "validpref", "testpref"):
        for prefix in filter(None, (getattr(args, name) or "").split(",")):
            for language in filter(None, languages):
                _check_text(f"{flag(name)} {prefix}:", Path(f"{prefix}.{language}"))
    for name in ("srcdict", "tgtdict"):
        if path := getattr(args, name):
            read_dictionary(Path(path))


def _check_text(where: str, path: Path) -> None:
    if not path.exists():
        raise UsageError(f"{where} {path}: no such file")
    # A named pipe can be read but once.
    if path.is_file():
        with path.open("rb") as stream:
            for _ in read_blocks(stream, str(path)):
                pass


def _check_number(shown: str, name: str, value: Any) -> None:
    """Raise `UsageError` for a number, or one of several, that cannot be the value of an option."""
    for each in value if isinstance(value, list | tuple) else (value,):
        number = isinstance(each, int | float) and not isinstance(each, bool)
        if number and (needed := out_of_range(each, **RANGES.get(name, {}))):
            raise UsageError(f"{shown} {each}: {needed}")
    if isinstance(value, list) and not value and name in RANGES:
        raise UsageError(f"{shown} []: needs at least one number")


def _check_betas(text: str) -> None:
    try:
        betas = ast.literal_eval(text)
        sound = len(betas) == 2 and all(0 <= float(beta) < 1 for beta in betas)
    except (TypeError, ValueError, SyntaxError):
        sound = False
    if not sound:
        raise UsageError(f"--adam-betas {text}: needs two numbers from 0 to below 1, such as (0.9, 0.98)")


def _check_checkpoint(args: argparse.Namespace, name: str) -> None:
    """fairseq trains from scratch where the file is missing, but for its own in --save-dir."""
    from fairseq.file_io import PathManager

    path = getattr(args, name, None)
    if path and path != LAST and not PathManager.isfile(path):
        raise UsageError(f"{flag(name)} {path}: no such file")


def _check_detokenizer(args: argparse.Namespace) -> None:
    from fairseq.data.encoders import TOKENIZER_REGISTRY

    chosen, given = args.eval_bleu_detok, _json(args, DETOKENIZER_ARGS)
    if chosen not in TOKENIZER_REGISTRY:
        raise UsageError(f"--eval-bleu-detok {chosen}: needs one of {', '.join(TOKENIZER_REGISTRY)}")
    kind = getattr(TOKENIZER_REGISTRY[chosen], "__dataclass", None)
    known = {field.name for field in dataclasses.fields(kind)} if kind else given.keys()
    for name in given.keys() - known:
        raise UsageError(f"{flag(DETOKENIZER_ARGS)}: '{chosen}' knows no '{name}'")


def _json(args: argparse.Namespace, name: str) -> dict[str, Any]:
    """The object of JSON in an option."""
    text = getattr(args, name, None)
    try:
        found = json.loads(str(text))
    except (TypeError, ValueError, RecursionError):
        found = None
    if not isinstance(found, dict):
        raise UsageError(f'{flag(name)} {text}: needs an object of JSON, such as {{"beam": 4}}')
    return found


def _check_overrides(text: str) -> None:
    try:
        found = ast.literal_eval(text)
        sound = isinstance(found, dict) and all(isinstance(name, str) for name in found)
    except (TypeError, ValueError, SyntaxError, RecursionError, MemoryError):
        sound = False
    if not sound:
        raise UsageError(
            f"--model-overrides {text}: needs a dictionary of options by name, such as {{'data': 'folder'}}"
        )
