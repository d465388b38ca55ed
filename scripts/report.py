#!/usr/bin/env python3
"""Put scores, latencies and training logs together: OUT/report.json, OUT/report.md and pictures.

Everything but --out may be left out; the report then holds what there is. Prints the table of results.
"""

import argparse
import sys
from pathlib import Path

from vqnat_plugin.errors import DataError
from vqnat_plugin.evaluation.plots import plot_quality_speed, plot_training
from vqnat_plugin.evaluation.report import (
    build_report,
    read_scores,
    read_stages,
    render_markdown,
    results,
    without_folder,
)
from vqnat_plugin.evaluation.training_log import TrainingLog
from vqnat_plugin.files import read_json, read_lines, write_json, write_text


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="folder to write to")
    parser.add_argument("--title", default="Report", help="heading (default: %(default)s)")
    parser.add_argument(
        "--scores", type=Path, metavar="DIR", help="folder of files that scripts/score.py wrote"
    )
    parser.add_argument("--latency", type=Path, metavar="FILE", help="file that scripts/benchmark.py wrote")
    parser.add_argument(
        "--train-log",
        action="append",
        default=[],
        metavar="NAME=FILE",
        help="log of a training (--log-format json --log-file FILE); once for each",
    )
    parser.add_argument("--latents", type=Path, metavar="FILE", help="JSON: figures about the latents")
    parser.add_argument("--stages", type=Path, metavar="FILE", help="lines of the form stage<TAB>seconds")
    parser.add_argument(
        "--commands-file",
        type=Path,
        metavar="FILE",
        help="the commands that made the numbers, one a line (default: those recorded in scores and latency)",
    )
    parser.add_argument("--seed", type=int, help="seed of the training")
    options = parser.parse_args()
    for text in options.train_log:
        if not all(text.partition("=")[::2]):
            parser.error(f"--train-log {text}: needs the form NAME=FILE")
    return options


def main() -> None:
    options = parse_arguments()
    out: Path = options.out
    try:
        report = build_report(
            options.title,
            scores=read_scores(options.scores) if options.scores else None,
            latency=read_json(options.latency) if options.latency else None,
            latents=read_json(options.latents) if options.latents else None,
            stages=read_stages(options.stages) if options.stages else None,
            commands=read_lines(options.commands_file) if options.commands_file else None,
            seed=options.seed,
        )
        report = without_folder(report, out)
        named = (text.partition("=")[::2] for text in options.train_log)
        logs = {name: TrainingLog(Path(path)) for name, path in named}
        plots = []
        if plot_quality_speed(report["systems"], out / "quality_speed.png", options.title):
            plots.append("quality_speed.png")
        if plot_training(logs, out / "training.png"):
            plots.append("training.png")
        write_json(out / "report.json", report)
        write_text(out / "report.md", render_markdown(report, plots))
    except (DataError, OSError) as error:
        sys.exit(f"report: {error}")
    print(results(report))
    print(f"\n{out / 'report.md'}: written, with report.json" + "".join(f", {name}" for name in plots))


if __name__ == "__main__":
    main()
