"""Translate raw text, from a file or standard input, or a binarised corpus.

With --input, raw text goes in and translations come out, a line for a line; text is treated as the training
text was, and the folder of the data is found by itself. Without it, this is fairseq-generate.

Takes everything that fairseq-generate takes, and passes it on with what is easily forgotten: --user-dir, the
--task of the checkpoint, and --required-batch-size-multiple 1, without which the last sentences may be left
out. --fairseq-help shows all of that.

  vqnat generate --path runs/student/checkpoint_best.pt --input text.en --output text.de --beam 4
  echo 'A man sleeps.' | vqnat generate --path runs/student/checkpoint_best.pt --input -
  vqnat generate runs/data/bin --path runs/student/checkpoint_best.pt --beam 4
"""

import importlib
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..errors import DataError, UsageError
from ..fairseq_commands import own_error, short_complaints
from ..launch import flags, option_value, with_plugin
from ..line_filter import Input, check_files, in_turn, run_filter
from ..options import FILE, option

# Bytes of text that are sorted by length and translated together.
BLOCK = 1 << 16
# What fairseq decodes is decoded anew, and a filter has nothing to say about it.
INTERRUPTED = ""


@dataclass(kw_only=True)
class Options:
    """Options of `vqnat generate`; the others are fairseq's."""

    input: str | None = option(None, "raw text, a sentence a line; - for standard input", metavar="FILE")
    output: Path | None = option(
        None,
        "with --input: where the translations go (default: standard output)",
        metavar="FILE",
        writes=FILE,
    )
    fairseq_help: bool = option(False, "show the options of fairseq-generate, and end")
    arguments: tuple[str, ...] = option((), "what fairseq-generate takes", rest=True)

    def check(self) -> None:
        """Raise `UsageError` for a file that is not there, or options that do not go together."""
        if self.input is not None:
            check_files(self.input, self.output)
        elif self.output is not None:
            raise UsageError(f"--output {self.output}: needs --input beside it")


def run(options: Options) -> None:
    """Decode in this process."""
    path = None
    if not options.fairseq_help:
        paths = option_value(list(options.arguments), "--path")
        if not paths:
            raise UsageError("needs --path CHECKPOINT")
        path = Path(paths.split(":")[0])
    if path is not None and not path.is_file():
        raise DataError(f"{path}: no such checkpoint")
    arguments = with_plugin(list(options.arguments))
    given = flags(arguments)
    if "--required-batch-size-multiple" not in given:
        arguments += ["--required-batch-size-multiple", "1"]

    # Before fairseq, whose import is silent this way.
    importlib.import_module("vqnat_plugin.compat")
    from ..models.checkpoints import TRANSLATION, Checkpoint

    # What another plugin brings is not known yet.
    kind = None if "--user-dir" in flags(list(options.arguments)) else TRANSLATION
    task = None if path is None else Checkpoint(path, kind, weights=False).task
    if "--task" not in given:
        arguments += ["--task", "translation_vq" if task is None else task._name]
    if options.fairseq_help:
        arguments.append("--help")
    with short_complaints():
        try:
            if options.input is None or path is None:
                _generate(arguments)
            else:
                _translate(options, path, task, arguments)
        except Exception as error:
            raise own_error(error) from None


def _generate(arguments: list[str]) -> None:
    """A binarised corpus, as fairseq-generate has it."""
    from fairseq_cli.generate import cli_main

    before = sys.argv
    # fairseq looks there for --user-dir.
    sys.argv = ["vqnat generate", *arguments]
    try:
        cli_main()
    finally:
        sys.argv = before


def _translate(options: Options, path: Path, task: Any, arguments: list[str]) -> None:
    """Raw text, a translation a line."""
    from ..generation.raw_text import RawTextTranslator

    args = _with_data(path, task, arguments)
    if args.tokenizer is None and args.bpe is None:
        note = f"{args.data} has no text pipeline (text.json): lines are taken for tokens, as they are"
        print(f"vqnat generate: {note}", file=sys.stderr)
    source = Input(str(options.input), BLOCK)
    run_filter("vqnat generate", source, options.output, in_turn(RawTextTranslator(args).answer))


def _with_data(path: Path, task: Any, arguments: list[str]) -> Any:
    """What fairseq-interactive makes of the arguments, with the folder of the data if they do not name it."""
    from fairseq import options as fairseq_options

    from ..models.hub import Belongings
    from ..tasks.text_tokenizer import use_text_pipeline

    parser = fairseq_options.get_interactive_generation_parser()
    # fairseq needs something in the place of the data; what stands there itself is then one word too many.
    args, rest = fairseq_options.parse_args_and_arch(parser, ["", *arguments], parse_known=True)
    if unknown := next((word for word in rest if word.startswith("-")), None):
        raise UsageError(f"unknown option '{unknown}' (see --fairseq-help)")
    if len(rest) > 1:
        raise UsageError(f"'{rest[1]}' is one argument too many: the folder of the data is {rest[0]}")
    data = Path(rest[0]) if rest else None
    found = Belongings.find(path, task, data, (args.source_lang, args.target_lang))
    args.data = str(found.data)
    args.source_lang, args.target_lang = found.languages
    use_text_pipeline(args)
    return args
