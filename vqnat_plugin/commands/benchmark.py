"""Latency of several systems, side by side: each batch is translated by all of them in turn.

A system is --system NAME PATH [OPTION=VALUE ...], and PATH says of which kind it is:
  CHECKPOINT[:CHECKPOINT...]  fairseq's, with options of its generation (beam, 1 unless given, lenpen,
                              max_len_a, ...) or of the checkpoint's own task (rescore_with, ...)
  a folder of vqnat export    beam (or candidates), rescore, verify, tolerance, max_len_a, max_len_b, min_len,
                              lenpen, unkpen
  a folder of CTranslate2     beam, max_len_a, max_len_b, min_len, lenpen; --convert makes one
Timed from source tokens on the host to the translation on the host. Nothing else should run on the machine:
the report says whether it was idle.

  vqnat benchmark data/bin --out runs/speed --system greedy teacher.pt --system beam4 teacher.pt beam=4 \\
      --system student exported --system converted ct2 --baseline greedy --baseline converted
  vqnat benchmark --convert teacher.pt --out ct2

Writes latency.json, report.json and report.md. Quality and speed together: vqnat compare.
"""

from dataclasses import dataclass
from pathlib import Path

from ..errors import UsageError
from ..evaluation.settings import TimingOptions
from ..options import FOLDER, PATH, flag, option, option_fields

CONVERSION = "conversion: of a Transformer for CTranslate2, by CTranslate2 itself, instead of a benchmark"


# The options of a conversion, and of a benchmark.
CONVERTING = {"data", "out", "source_lang", "target_lang", "convert", "precision"}
TIMING = {field.name for field, _ in option_fields(TimingOptions)}


@dataclass(kw_only=True)
class Options(TimingOptions):
    """Options of `vqnat benchmark`."""

    # Both are there unless something is to be converted.
    data: Path = option(
        None,
        "binarised data; with --convert, that of the training by default",
        exists=FOLDER,
        positional=True,
        metavar="DATA_BIN",
    )
    system: tuple[tuple[str, ...], ...] = option(
        (),
        "a system: its name, its path and how it decodes; once for each",
        repeat=True,
        metavar=("NAME", "PATH [OPTION=VALUE]"),
    )
    convert: Path | None = option(
        None,
        "the checkpoint, or the folder that its training wrote; --out is the folder to write",
        exists=PATH,
        group=CONVERSION,
        metavar="CHECKPOINT",
    )
    precision: str = option("int8", "of its weights", choices=("fp32", "int8"), group=CONVERSION)

    def check(self) -> None:
        """As `TimingOptions.check`; and for what belongs to a benchmark or a conversion alone."""
        if self.convert is None and not (self.data and self.system):
            raise UsageError("needs DATA_BIN and a --system or more; or --convert CHECKPOINT")
        mine = CONVERTING if self.convert is not None else TIMING
        for field, _ in option_fields(type(self)):
            if field.name not in mine and getattr(self, field.name) != field.default:
                name, value = flag(field.name), getattr(self, field.name)
                if self.convert is None:
                    raise UsageError(f"{name} {value}: is for --convert alone")
                raise UsageError(f"--convert: makes a model and times nothing; leave {name} out")
        super().check()


def run(options: Options) -> None:
    """Time the systems and write the report, or convert a checkpoint."""
    if options.convert is not None:
        from ..evaluation.conversion import convert

        languages = (options.source_lang, options.target_lang)
        convert(options.convert, options.out, options.precision, options.data, languages)
        print(f"{options.out}: {options.precision}, for CTranslate2")
        return
    options.require_files()
    from ..evaluation.report import results, write_report
    from ..files import alone
    from ..recipes.comparison import benchmark

    with alone(options.out):
        report = benchmark(options)
        write_report(report, (), options.out)
    print(results(report))
    print(f"\n{options.out / 'report.md'}: written, with report.json")
