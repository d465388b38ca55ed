"""The command line of the distillation."""

import argparse
import logging
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from ..errors import CheckpointError, DataError
from .filters import Filters
from .run import distill
from .settings import Search, Settings, share_from_environment

DESCRIPTION = """\
Sequence-level distillation: replace the training targets of binarised data by a teacher's translations.

  scripts/distill.py --data data-bin --teacher teacher/checkpoint_best.pt --out data-bin-distilled --workers 2

--out becomes a folder for fairseq-train: train.* with the teacher's translations, the dictionaries, and
valid* and test* as they are; besides train.distilled.TGT (the teacher's text of every training sentence, in
order, as sub-words), filtered.tsv (what was left out, and why) and manifest.json (counts, settings,
versions), which appears last.

Killed? Run the same command again: finished chunks, kept in OUT/.distill, are not translated again. Other
--filter-*, --filtered-fallback or --mix flags reuse them too, so that changing these takes seconds.
"""

EPILOG = """\
several machines or GPUs: start one process each, with torchrun, with Slurm's srun, or with --rank and
--world-size, on a file system that all of them see. The one that finishes last writes the data set.

  torchrun --nproc-per-node 8 scripts/distill.py --data ... --teacher ... --out ... --fp16
"""


def _number(kind: Callable[[str], float], low: float, what: str) -> Callable[[str], float]:
    def parse(text: str) -> float:
        try:
            value = kind(text)
        except ValueError:
            value = None
        if value is None or not low <= value < float("inf"):
            raise argparse.ArgumentTypeError(f"'{text}': needs {what}")
        return value

    return parse


_positive = _number(int, 1, "a whole number from 1")
_count = _number(int, 0, "a whole number from 0")
_length = _number(float, 0, "a number from 0")
_ratio = _number(float, 1, "a number from 1")
_temperature = _number(float, 1e-3, "a number from 0.001")


def build_parser() -> argparse.ArgumentParser:
    """The command line's parser."""
    search, settings = Search(), Settings(Path(), (), Path())
    parser = argparse.ArgumentParser(
        prog="distill.py",
        description=DESCRIPTION,
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    default = " (default: %(default)s)"

    group = parser.add_argument_group("data and teacher")
    group.add_argument(
        "--data", type=Path, required=True, metavar="DIR", help="folder that fairseq-preprocess wrote"
    )
    group.add_argument(
        "--teacher",
        required=True,
        metavar="CKPT[:CKPT...]",
        help="checkpoint of any fairseq translation model with the dictionaries of --data; several, joined "
        "by ':', translate as an ensemble",
    )
    group.add_argument(
        "--out", type=Path, required=True, metavar="DIR", help="folder to write; new, or of an earlier try"
    )
    group.add_argument(
        "-s", "--source-lang", metavar="LANG", help="source language (default: as in --data's file names)"
    )
    group.add_argument(
        "-t", "--target-lang", metavar="LANG", help="target language (default: as in --data's file names)"
    )
    group.add_argument(
        "--user-dir", metavar="DIR", help="fairseq plugin that the teacher's model or task comes from"
    )
    group.add_argument(
        "--restart", action="store_true", help="delete what --out holds of an earlier try and begin anew"
    )

    group = parser.add_argument_group(
        "search", "how the teacher translates; the names are fairseq-generate's"
    )
    group.add_argument(
        "--beam",
        type=_positive,
        metavar="N",
        help=f"beam size (default: {search.beam}; 1 with --sampling)",
    )
    group.add_argument(
        "--lenpen",
        type=float,
        default=search.lenpen,
        metavar="X",
        help="length penalty: below 1 shorter, above 1 longer translations" + default,
    )
    group.add_argument(
        "--unkpen", type=float, default=search.unkpen, metavar="X", help="above 0: fewer <unk>" + default
    )
    group.add_argument(
        "--max-len-a",
        type=_length,
        default=search.max_len_a,
        metavar="A",
        help="a translation has at most A * source tokens + B tokens" + default,
    )
    group.add_argument(
        "--max-len-b", type=_count, default=search.max_len_b, metavar="B", help="see there" + default
    )
    group.add_argument(
        "--min-len", type=_count, default=search.min_len, metavar="N", help="fewest tokens" + default
    )
    group.add_argument(
        "--no-repeat-ngram-size",
        type=_count,
        default=search.no_repeat_ngram_size,
        metavar="N",
        help="no n-gram of this size twice; 0 for no such rule" + default,
    )
    group.add_argument(
        "--sampling",
        action="store_true",
        help="draw each translation at random instead of searching for the best: for back-translation",
    )
    group.add_argument(
        "--sampling-topk",
        type=_positive,
        metavar="K",
        help="draw each token from the K most probable ones (default: from all)",
    )
    group.add_argument(
        "--temperature",
        type=_temperature,
        default=search.temperature,
        metavar="X",
        help="divides the logits: below 1 more probable, above 1 more varied samples" + default,
    )
    group.add_argument(
        "--seed",
        type=_count,
        default=search.seed,
        metavar="N",
        help="which samples; with --sampling, --max-tokens and --batch-size decide that too" + default,
    )

    group = parser.add_argument_group(
        "filters",
        "translations to leave out; only empty ones unless asked for. Sources too long for the teacher are "
        "always left out. Every one is listed in filtered.tsv, with the first reason that holds",
    )
    group.add_argument("--keep-empty", action="store_true", help="keep empty translations")
    group.add_argument(
        "--filter-copies", action="store_true", help="leave out translations that equal their source"
    )
    group.add_argument(
        "--filter-ratio",
        type=_ratio,
        metavar="R",
        help="leave out pairs where one side is more than R times as long as the other, in sub-words",
    )
    group.add_argument(
        "--filter-repeats",
        type=_positive,
        metavar="N",
        help="leave out loops: a token or n-gram (n up to 8) more than N times in a row, and more often than "
        "in the source; 2 is a good start",
    )
    group.add_argument("--filter-unk", action="store_true", help="leave out translations with <unk>")
    group.add_argument(
        "--filtered-fallback",
        choices=("drop", "raw"),
        default=settings.fallback,
        help="what comes in their place: nothing, or the pair of --data" + default,
    )

    group = parser.add_argument_group("mixing")
    group.add_argument(
        "--mix",
        choices=("distilled", "both"),
        default=settings.mix,
        help="train on the distilled pairs, or on all pairs of --data followed by the distilled ones"
        + default,
    )

    group = parser.add_argument_group("machine", "none of these changes what is written, but for rounding")
    group.add_argument(
        "--workers",
        type=_positive,
        default=settings.share.workers,
        metavar="N",
        help="processes to start here: one a core on a CPU, one a GPU; each holds a teacher" + default,
    )
    group.add_argument(
        "--world-size",
        type=_positive,
        metavar="N",
        help="processes started elsewhere (default: torchrun's, Slurm's, 1)",
    )
    group.add_argument(
        "--rank", type=_count, metavar="I", help="which of them this is, from 0 (default: likewise)"
    )
    group.add_argument(
        "--max-tokens",
        type=_positive,
        default=settings.max_tokens,
        metavar="N",
        help="source tokens in a batch" + default,
    )
    group.add_argument(
        "--batch-size", type=_positive, metavar="N", help="sentences in a batch (default: no limit)"
    )
    group.add_argument(
        "--chunk-size",
        type=_positive,
        default=settings.chunk_size,
        metavar="N",
        help="sentences in a chunk, the unit of sharing and of resuming; has to stay the same" + default,
    )
    group.add_argument("--cpu", action="store_true", help="leave GPUs alone")
    precision = group.add_mutually_exclusive_group()
    precision.add_argument("--fp16", action="store_true", help="translate in half precision (GPU only)")
    precision.add_argument("--bf16", action="store_true", help="translate in bfloat16")
    return parser


def settings_from(arguments: argparse.Namespace) -> Settings:
    """The settings that a parsed command line stands for.

    Raises:
        DataError: flags that do not go together, see also `share_from_environment`.
    """
    beam = arguments.beam or (1 if arguments.sampling else Search.beam)
    if arguments.sampling and beam > 1:
        raise DataError(f"--sampling --beam {beam}: draws one translation a sentence; leave out --beam")
    if arguments.sampling_topk and not arguments.sampling:
        raise DataError(f"--sampling-topk {arguments.sampling_topk}: needs --sampling")
    return Settings(
        data=arguments.data,
        teachers=tuple(Path(path) for path in arguments.teacher.split(":") if path),
        out=arguments.out,
        source_lang=arguments.source_lang,
        target_lang=arguments.target_lang,
        user_dir=arguments.user_dir,
        search=Search(
            beam=beam,
            lenpen=arguments.lenpen,
            unkpen=arguments.unkpen,
            max_len_a=arguments.max_len_a,
            max_len_b=arguments.max_len_b,
            min_len=arguments.min_len,
            no_repeat_ngram_size=arguments.no_repeat_ngram_size,
            sampling=arguments.sampling,
            sampling_topk=arguments.sampling_topk or -1,
            temperature=arguments.temperature,
            seed=arguments.seed,
            precision="fp16" if arguments.fp16 else "bf16" if arguments.bf16 else "fp32",
        ),
        filters=Filters(
            empty=not arguments.keep_empty,
            max_ratio=arguments.filter_ratio,
            copies=arguments.filter_copies,
            max_repeats=arguments.filter_repeats,
            unknown=arguments.filter_unk,
        ),
        fallback=arguments.filtered_fallback,
        mix=arguments.mix,
        chunk_size=arguments.chunk_size,
        max_tokens=arguments.max_tokens,
        batch_size=arguments.batch_size,
        share=share_from_environment(os.environ, arguments.rank, arguments.world_size, arguments.workers),
        cpu=arguments.cpu,
        restart=arguments.restart,
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; the exit status is 2 after a mistake that one line on stderr explains."""
    options = build_parser().parse_args(arguments)
    logging.getLogger("fairseq").setLevel(logging.WARNING)
    try:
        distill(settings_from(options))
    except (DataError, CheckpointError, OSError) as error:
        print(f"distill: error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("distill: interrupted; run the same command again to go on", file=sys.stderr)
        return 130
    return 0
