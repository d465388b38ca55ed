#!/usr/bin/env python3
"""Run a grid of small trainings that differ in a few flags, and compare them.

GRID is a YAML file (see examples/ablations/grid.yaml): what all trainings share, and for each comparison its
rows with the flags by which they differ. Every training is decoded and measured; one that stands in several
comparisons is run once. Run the same command again to go on after a kill: what is done stays done.
Writes report.md, report.json and plots to --out.
"""

import argparse
import sys
from pathlib import Path

from vqnat_plugin.errors import DataError
from vqnat_plugin.evaluation.report import made_with, provenance
from vqnat_plugin.files import read_lines, write_json, write_text
from vqnat_plugin.launch import available_cores
from vqnat_plugin.recipes.cells import Settings, run_grid
from vqnat_plugin.recipes.grid import read_grid
from vqnat_plugin.recipes.grid_report import build


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("grid", type=Path, metavar="GRID", help="what to train (YAML)")
    parser.add_argument("--raw", type=Path, required=True, metavar="DIR", help="binarised corpus")
    parser.add_argument("--distilled", type=Path, required=True, metavar="DIR", help="the same, distilled")
    parser.add_argument(
        "--teacher", type=Path, required=True, metavar="CHECKPOINT", help="stands for TEACHER in the flags"
    )
    parser.add_argument(
        "--references", type=Path, nargs="+", required=True, metavar="FILE", help="raw text of the test set"
    )
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="folder to write to")
    parser.add_argument(
        "--jobs", type=int, metavar="N", help="trainings side by side (default: one a core, at most two)"
    )
    parser.add_argument(
        "--candidates", type=int, default=4, metavar="N", help="latent candidates (default: %(default)s)"
    )
    parser.add_argument(
        "--detokenizer", default="moses", choices=["moses", "space"], help="(default: %(default)s)"
    )
    parser.add_argument(
        "--commands-file", type=Path, metavar="FILE", help="commands for the report, one a line"
    )
    parser.add_argument("--keep-checkpoints", action="store_true", help="of cells that have been measured")
    parser.add_argument(
        "--report-only", action="store_true", help="train nothing, report what is done so far"
    )
    options = parser.parse_args()
    for name in ("jobs", "candidates"):
        value = getattr(options, name)
        if value is not None and value < 1:
            parser.error(f"--{name} {value}: needs at least 1")
    for name in ("raw", "distilled", "teacher"):
        path = getattr(options, name)
        if not path.exists():
            parser.error(f"--{name} {path}: no such file or folder")
    return options


def main() -> int:
    options = parse()
    settings = Settings(
        raw=options.raw.resolve(),
        distilled=options.distilled.resolve(),
        teacher=options.teacher.resolve(),
        references=tuple(path.resolve() for path in options.references),
        out=options.out.resolve(),
        candidates=options.candidates,
        detokenizer=options.detokenizer,
        keep_checkpoints=options.keep_checkpoints,
    )
    failed = 0
    try:
        grid = read_grid(options.grid)
        if not options.report_only:
            failed = run_grid(grid, settings, options.jobs or min(2, available_cores()))
        text, comparisons = build(grid, settings)
        commands = read_lines(options.commands_file) if options.commands_file else []
    except DataError as error:
        sys.exit(f"ablate: {error}")
    report = {"caption": grid.caption, "comparisons": comparisons, **provenance(commands)}
    write_json(options.out / "report.json", report)
    made = "\n\n".join(made_with(report))
    write_text(options.out / "report.md", f"# Ablations\n\n{text}\n{made}\n")
    print(text)
    print(f"{options.out}: report.md, report.json and plots written")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
