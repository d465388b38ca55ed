"""Quality and speed of several systems: decodes, scores and times each exactly as it is declared.

A system is --system NAME PATH [OPTION=VALUE ...]: a checkpoint of fairseq or several (CHECKPOINT:CHECKPOINT),
a folder of vqnat export or of CTranslate2, with the options of its kind: see vqnat benchmark --help.
After a kill the same command goes on; a system that is declared otherwise is decoded anew.

  vqnat compare data/bin --ref test.de --out runs/compared --system greedy teacher.pt \\
      --system student student.pt --system rescored student.pt beam=4 rescore_with=teacher.pt

Writes report.json, report.md and plots, the translations (decoded/), latency.json, and latents.json with the
use of codes. Nothing else should run on the machine while it measures latency: the report says
whether it was idle.
"""

import sys
from pathlib import Path

from ..errors import GOES_ON
from ..evaluation.settings import ComparisonOptions as Options

INTERRUPTED = GOES_ON


def writes_to(options: Options) -> Path:
    """The folder of the report and of what it is made of."""
    return options.out


def run(options: Options) -> None:
    """Compare the systems and write the report."""
    options.require_files()
    # Before anything is measured: what they need may not be installed.
    from ..evaluation import plots
    from ..evaluation.report import results, write_report
    from ..evaluation.training_log import TrainingLog
    from ..recipes.comparison import compare

    logs = {}
    for name, path in options.train_logs().items():
        if path.exists():
            logs[name] = TrainingLog(path)
        else:
            # Logs are the first to be deleted; nothing but a plot depends on them.
            print(f"vqnat compare: --train-log {name}={path}: no such file; not drawn", file=sys.stderr)
    report = compare(options)
    drawn = plots.draw(report, logs, options.out)
    write_report(report, drawn, options.out)
    print(results(report))
    print(
        f"\n{options.out / 'report.md'}: written, with report.json" + "".join(f", {name}" for name in drawn)
    )
