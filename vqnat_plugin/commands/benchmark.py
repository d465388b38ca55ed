"""Latency of several systems, side by side: each batch is translated by all of them in turn.

A system is --system NAME CHECKPOINT[:CHECKPOINT...] [OPTION=VALUE ...], with options of fairseq's generation
(beam, lenpen, max_len_a, ...; beam is 1 unless given) or of the checkpoint's own task (rescore_with, ...).
Timed from source tokens on the host to the translation on the host. Nothing else should run on the machine.

  vqnat benchmark data/bin --out runs/speed --system greedy teacher.pt --system beam4 teacher.pt beam=4 \\
      --system student student.pt --system rescored student.pt beam=4 rescore_with=teacher.pt

Writes latency.json, report.json and report.md. Quality and speed together: vqnat compare.
"""

from dataclasses import dataclass

from ..evaluation.settings import TimingOptions


@dataclass(kw_only=True)
class Options(TimingOptions):
    """Options of `vqnat benchmark`."""


def run(options: Options) -> None:
    """Time the systems and write the report."""
    from ..evaluation.comparison import benchmark
    from ..evaluation.report import results, write_report

    report = benchmark(options)
    write_report(report, (), options.out)
    print(results(report))
    print(f"\n{options.out / 'report.md'}: written, with report.json")
