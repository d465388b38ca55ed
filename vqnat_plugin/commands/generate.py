"""Translate a binarised corpus with fairseq-generate.

Takes everything that fairseq-generate takes, and passes it on with what is easily forgotten: --user-dir, the
--task of the checkpoint, and --required-batch-size-multiple 1, without which the last sentences may be left
out. --fairseq-help shows all of that.

  vqnat generate runs/data/bin --path runs/student/checkpoint_best.pt --beam 4 --remove-bpe
"""

import importlib
import sys
from dataclasses import dataclass
from pathlib import Path

from ..errors import DataError, UsageError
from ..fairseq_commands import own_error, short_complaints
from ..launch import flags, with_plugin
from ..options import option


@dataclass(kw_only=True)
class Options:
    """Options of `vqnat generate`; the others are fairseq's."""

    fairseq_help: bool = option(False, "show the options of fairseq-generate, and end")
    arguments: tuple[str, ...] = option((), "what fairseq-generate takes", rest=True)


def value(arguments: list[str], flag: str) -> str:
    """What stands behind an option, the last time that it is given.

    Raises:
        UsageError: it is not given, or nothing stands behind it.
    """
    for number, word in reversed(list(enumerate(arguments))):
        if word.startswith(f"{flag}="):
            return word.partition("=")[2]
        if word == flag and number + 1 < len(arguments):
            return arguments[number + 1]
    raise UsageError(f"needs {flag} CHECKPOINT")


def run(options: Options) -> None:
    """Decode in this process."""
    path = None if options.fairseq_help else Path(value(list(options.arguments), "--path").split(":")[0])
    if path is not None and not path.is_file():
        raise DataError(f"{path}: no such checkpoint")
    arguments = with_plugin(list(options.arguments))
    given = flags(arguments)
    if "--required-batch-size-multiple" not in given:
        arguments += ["--required-batch-size-multiple", "1"]

    # Before fairseq, whose import is silent this way.
    importlib.import_module("vqnat_plugin.compat")
    from fairseq_cli.generate import cli_main

    from ..models.hub import saved_options

    if "--task" not in given:
        arguments += ["--task", "translation_vq" if path is None else saved_options(path).task._name]
    if options.fairseq_help:
        arguments.append("--help")

    before = sys.argv
    # fairseq looks there for --user-dir.
    sys.argv = ["vqnat generate", *arguments]
    try:
        with short_complaints():
            cli_main()
    except OSError as error:
        raise own_error(error) from None
    finally:
        sys.argv = before
