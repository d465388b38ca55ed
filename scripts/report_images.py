#!/usr/bin/env python3
"""Put figures of image models and training logs together: OUT/report.json, OUT/report.md and training.png.

Pictures that scripts/evaluate_images.py has left in OUT are shown too. Prints the table.
"""

import argparse
import sys
from pathlib import Path

from vqnat_plugin.errors import DataError
from vqnat_plugin.evaluation.plots import plot_training
from vqnat_plugin.evaluation.report import read_stages, without_folder
from vqnat_plugin.evaluation.training_log import TrainingLog
from vqnat_plugin.files import read_json, read_lines, write_json, write_text
from vqnat_plugin.imaging.report import PANELS, build_report, render_markdown, results_table


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="folder to write to")
    parser.add_argument("--title", default="Report", help="heading (default: %(default)s)")
    parser.add_argument(
        "--result",
        action="append",
        required=True,
        metavar="NAME=FILE",
        help="images.json of an evaluation; the same name again for another seed",
    )
    parser.add_argument(
        "--train-log", action="append", default=[], metavar="NAME=FILE", help="log of a training"
    )
    parser.add_argument("--note", action="append", default=[], metavar="TEXT", help="a line under the table")
    parser.add_argument("--stages", type=Path, metavar="FILE", help="lines of the form stage<TAB>seconds")
    parser.add_argument("--commands-file", type=Path, metavar="FILE", help="the commands, one a line")
    parser.add_argument("--seed", type=int, help="seed of the training")
    options = parser.parse_args()
    for flag, texts in (("--result", options.result), ("--train-log", options.train_log)):
        for text in texts:
            if not all(text.partition("=")[::2]):
                parser.error(f"{flag} {text}: needs the form NAME=FILE")
    return options


def main() -> None:
    options = parse_arguments()
    out: Path = options.out
    try:
        results: dict[str, list[dict[str, object]]] = {}
        for name, path in (text.partition("=")[::2] for text in options.result):
            results.setdefault(name, []).append(read_json(Path(path)))
        logs = {
            name: TrainingLog(Path(path))
            for name, path in (text.partition("=")[::2] for text in options.train_log)
        }
        report = build_report(
            options.title,
            results,
            options.note,
            read_stages(options.stages) if options.stages else {},
            read_lines(options.commands_file) if options.commands_file else [],
            options.seed,
        )
        plot_training(logs, out / "training.png", PANELS)
        write_json(out / "report.json", without_folder(report, out))
        write_text(out / "report.md", render_markdown(without_folder(report, out), out))
    except (DataError, OSError) as error:
        sys.exit(f"report_images: {error}")
    print(results_table(results))
    print(f"\n{out / 'report.md'}: written, with report.json and pictures")


if __name__ == "__main__":
    main()
