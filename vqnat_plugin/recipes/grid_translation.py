"""Grids of translation models: BLEU, greedy, of candidates and of the autoencoder alone."""

import os
import statistics
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from matplotlib.figure import Figure

from ..evaluation.plots import COLORS, decorate, finish, plain, plot_training
from ..evaluation.report import made_with, provenance
from ..evaluation.tables import code, escape, markdown_table, summary
from ..evaluation.training_log import TrainingLog
from ..launch import available_cores
from .cells import GridRun
from .grid import Cell, Grid, Row
from .grid_options import GridOptions

# In a grid's flags, the path of the teacher's checkpoint.
TEACHER = "TEACHER"
# What of a cell goes into the report: nothing that names a folder.
KEPT = ("systems", "losses", "predictor", "codes", "posterior_entropy", "seconds")
MINUTES = (
    "minutes: of trainings that may have run side by side, and on several machines: they do not tell which "
    "is faster"
)
PARTIAL_MINUTES = (
    "minutes of a training that was interrupted are not known, and the total of trainings leaves them out"
)
Measured = Sequence[Mapping[str, Any]]


class TranslationKind:
    """Cells are trained by one process each and measured by `vqnat diagnose`."""

    needs = ("distilled", "teacher", "ref")
    result = "diagnosis.json"

    def __init__(self, options: GridOptions) -> None:
        """Takes options with the special ones that this kind needs."""
        assert options.distilled is not None and options.teacher is not None
        self.data, self.distilled, self.teacher = map(
            os.path.abspath, (options.data, options.distilled, options.teacher)
        )
        self.ref = list(map(os.path.abspath, options.ref))
        self.beam, self.tokenizer, self.tokenize = options.beam, options.tokenizer, options.tokenize
        self.shared = options.for_measuring()
        self.jobs = (
            max(1, torch.cuda.device_count()) if torch.cuda.is_available() else min(2, available_cores())
        )
        self.paths = {"DATA": Path(self.data), "DISTILLED": Path(self.distilled), TEACHER: Path(self.teacher)}

    def train_command(self, cell: Cell, folder: Path, threads: int, gpu: bool) -> list[str]:
        """`vqnat train`, as one process."""
        one = ["--distributed-world-size", "1"] if gpu else ["--workers", "1", "--threads", str(threads)]
        return [
            *("vqnat", "train", *one),
            self.data if cell.data == "raw" else self.distilled,
            *(self.teacher if flag == TEACHER else flag for flag in cell.flags),
            *("--save-dir", str(folder / "checkpoints"), "--seed", str(cell.seed)),
            *("--log-format", "json", "--no-epoch-checkpoints"),
        ]

    def measure_command(self, cell: Cell, folder: Path) -> list[str]:
        """`vqnat diagnose` of the end of the training: the best checkpoint may be older than a collapse."""
        return [
            *("vqnat", "diagnose", str(folder / "checkpoints" / "checkpoint_last.pt")),
            *("--data", self.data, "--teacher", self.teacher, "--ref", *self.ref),
            *("--beam", str(self.beam), "--out", str(folder)),
            *(("--tokenizer", self.tokenizer) if self.tokenizer else ()),
            *(("--tokenize", self.tokenize) if self.tokenize else ()),
            *self.shared,
            *cell.plugin(),
        ]

    @staticmethod
    def figures(measured: dict[str, Any]) -> list[Any]:
        """See `GridKind`."""
        known = {**measured, "posterior_entropy": None, "seconds": None}
        missing = [key for key in KEPT if key not in known]
        if missing:
            raise KeyError(missing[0])
        return [find(known) for _, find, _ in COLUMNS]

    @staticmethod
    def report(
        grid: Grid, grid_run: GridRun, title: str, commands: list[str], stages: dict[str, float]
    ) -> dict[str, Any]:
        """What was measured, by comparison and row; draws the curves."""
        cells = [*filter(None, map(grid_run.read, grid.cells()))]
        known = [cell["seconds"] for cell in cells if cell["seconds"] is not None]
        times = [MINUTES, *([PARTIAL_MINUTES] if len(known) < len(cells) else [])]
        for comparison in grid.comparisons:
            curves = grid_run.out / f"{comparison.name}_curves.png"
            if not (comparison.curves and plot_training(grid_run.logs(comparison), curves)):
                # Of a report before.
                curves.unlink(missing_ok=True)
        return {
            "title": title,
            "caption": grid.caption,
            "notes": [*grid.notes, *times],
            "comparisons": {
                comparison.name: {
                    "title": comparison.title,
                    "paper": comparison.paper,
                    "note": comparison.note,
                    "rows": {
                        row.name: {
                            "flags": list(row.cells[0].flags),
                            "data": row.cells[0].data,
                            "cells": _measured(row, grid_run),
                        }
                        for row in comparison.rows
                    },
                }
                for comparison in grid.comparisons
            },
            **provenance(commands, {**stages, "trainings": sum(known)}, measured=cells),
        }

    @staticmethod
    def table(report: Mapping[str, Any]) -> str:
        """The caption, and a table a comparison with what is to be said of it."""
        return "\n\n".join([escape(report["caption"]), *_sections(report, None), *_footnotes(report)])

    @staticmethod
    def render(report: Mapping[str, Any], out: Path) -> str:
        """`report.md`; draws the bars."""
        parts = [f"# {escape(report['title'])}", escape(report["caption"]), *_sections(report, out)]
        return "\n\n".join([*parts, *_footnotes(report), *made_with(report)]) + "\n"


def _measured(row: Row, grid_run: GridRun) -> list[dict[str, Any]]:
    """What is known of the cells of a row that are done, with the posterior's entropy at the end."""
    found = []
    for cell in row.cells:
        if values := grid_run.read(cell):
            values["posterior_entropy"] = _entropy(grid_run.log(cell))
            found.append({key: values[key] for key in KEPT})
    return found


def _entropy(log: Path) -> float | None:
    curve = TrainingLog(log).curve("posterior_entropy") if log.is_file() else []
    return curve[-1][1] if curve else None


def _system(name: str, figure: str = "bleu") -> Callable[[Mapping[str, Any]], float | None]:
    return lambda cell: cell["systems"].get(name, {}).get(figure)


# Heading, how to find the figure in what was measured of a cell, format.
COLUMNS: tuple[tuple[str, Callable[[Mapping[str, Any]], float | None], str], ...] = (
    ("BLEU", _system("predicted"), ".1f"),
    ("chrF", _system("predicted", "chrf"), ".1f"),
    ("candidates", _system("candidates"), ".1f"),
    ("autoencoder", _system("autoencoder"), ".1f"),
    ("predictor accuracy", lambda cell: cell["predictor"]["accuracy"], ".3f"),
    ("predictor ppl", lambda cell: cell["predictor"]["perplexity"], ".1f"),
    ("codes used", lambda cell: cell["codes"]["usage"], ".1%"),
    ("perplexity", lambda cell: cell["codes"]["perplexity"], ".0f"),
    ("entropy, nats", lambda cell: cell["posterior_entropy"], ".2f"),
    ("minutes", lambda cell: None if cell["seconds"] is None else cell["seconds"] / 60, ".0f"),
)


def comparison_table(rows: Mapping[str, Measured]) -> str:
    """The table of a comparison: one line a row, with the columns that are known of any."""
    columns = [
        (title, [summary([find(cell) for cell in cells], spec) for cells in rows.values()])
        for title, find, spec in COLUMNS
    ]
    known = [(title, values) for title, values in columns if any(values)]
    seeds = [str(len(cells)) for cells in rows.values()]
    header = ["", *(title for title, _ in known), "seeds"]
    return markdown_table(header, zip(rows, *(values for _, values in known), seeds, strict=True))


def plot_comparison(title: str, rows: Mapping[str, Measured], path: Path) -> bool:
    """Draw BLEU of each row: a bar for the mean, a dot for each seed. Returns whether there was anything."""
    systems = (("autoencoder", "autoencoder"), ("candidates", "candidates"), ("predicted", "greedy latents"))
    names = [name for name, cells in rows.items() if cells][::-1]
    if not names:
        return False
    figure = Figure(figsize=(7.2, 1.2 + 0.62 * len(names)), layout="constrained")
    axes = figure.subplots()
    for number, (system, label) in enumerate(systems):
        places = [place + 0.26 * (1 - number) for place in range(len(names))]
        values = [[_system(system)(cell) or 0.0 for cell in rows[name]] for name in names]
        means = [statistics.mean(each) for each in values]
        axes.barh(places, means, 0.24, color=COLORS[number], label=label, alpha=0.8)
        for place, each in zip(places, values, strict=True):
            axes.plot(each, [place] * len(each), "k.", markersize=4)
    axes.set_yticks(range(len(names)), names, parse_math=False)
    axes.set_axisbelow(True)
    decorate(axes, plain(title), "BLEU", "")
    axes.legend(reverse=True, frameon=False, fontsize=9, loc="upper left", bbox_to_anchor=(1.0, 1.0))
    finish(figure, path)
    return True


def _sections(report: Mapping[str, Any], out: Path | None) -> list[str]:
    """A section a comparison; with its plots if there is a folder for them."""
    parts = []
    for name, comparison in report["comparisons"].items():
        rows = {label: row["cells"] for label, row in comparison["rows"].items()}
        parts.append(f"## {escape(comparison['title'])}")
        if comparison["paper"]:
            parts.append(f"The paper: {escape(comparison['paper'])}.")
        parts.append(comparison_table(rows))
        if comparison["note"]:
            parts.append(f"Here: {escape(comparison['note'])}")
        if out is not None:
            bars = out / f"{name}.png"
            if not plot_comparison(comparison["title"], rows, bars):
                # Of a report before.
                bars.unlink(missing_ok=True)
            images = [f"{name}.png", f"{name}_curves.png"]
            parts += [f"![{image}]({image})" for image in images if (out / image).is_file()]
    return parts


def _footnotes(report: Mapping[str, Any]) -> list[str]:
    """What the columns mean, and what they are to be compared with."""
    notes = [
        "- BLEU: greedy latents; candidates: the best of several latent sequences by the model's own score; "
        "autoencoder: codes of the teacher's output, decoded. Mean over seeds, ± half their range",
        "- predictor: teacher-forced, on those codes; codes used, perplexity: by the teacher's output; "
        "entropy: of the posterior at the end of training; all at the end of training",
    ]
    rows = (row for comparison in report["comparisons"].values() for row in comparison["rows"].values())
    if teachers := [cell["systems"]["teacher_greedy"] for row in rows for cell in row["cells"]]:
        # One, unless it or the data have changed meanwhile.
        scores = sorted({f"{teacher['bleu']:.1f}" for teacher in teachers})
        several = " (not the same in all trainings)" if len(scores) > 1 else ""
        teacher = teachers[0]
        notes += [
            f"- the teacher, greedy: {', '.join(scores)} BLEU{several}",
            f"- sacreBLEU: {code(teacher['signature'])}",
        ]
        if "chrf_signature" in teacher:
            notes.append(f"- chrF, likewise of greedy latents: {code(teacher['chrf_signature'])}")
    return ["## Columns", "\n".join([*notes, *(f"- {escape(note)}" for note in report["notes"])])]
