"""The report of a grid: one table a comparison, means over seeds, and plots."""

import statistics
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from ..evaluation.plots import COLORS, decorate, finish, plot_training
from ..evaluation.report import markdown_table
from ..evaluation.training_log import TrainingLog
from .grid import Comparison, Grid, Row
from .run import Settings, read_cell

Measured = list[dict[str, Any]]
# What of a cell goes into the report: nothing that names a folder.
KEPT = ("systems", "losses", "predictor", "codes", "posterior_entropy", "seconds")


def _system(name: str) -> Callable[[Mapping[str, Any]], float | None]:
    return lambda cell: cell["systems"][name]["bleu"] if name in cell["systems"] else None


# Heading, how to find the figure in what was measured of a cell, format.
COLUMNS: tuple[tuple[str, Callable[[Mapping[str, Any]], float | None], str], ...] = (
    ("BLEU", _system("predicted"), ".1f"),
    ("candidates", _system("candidates"), ".1f"),
    ("autoencoder", _system("autoencoder"), ".1f"),
    ("predictor accuracy", lambda cell: cell["predictor"]["accuracy"], ".3f"),
    ("predictor ppl", lambda cell: cell["predictor"]["perplexity"], ".1f"),
    ("codes used", lambda cell: cell["codes"]["usage"], ".1%"),
    ("perplexity", lambda cell: cell["codes"]["perplexity"], ".0f"),
    ("entropy, nats", lambda cell: cell["posterior_entropy"], ".2f"),
    ("minutes", lambda cell: None if cell["seconds"] is None else cell["seconds"] / 60, ".0f"),
)


def measured(row: Row, settings: Settings) -> Measured:
    """What is known of the cells of a row that are done, with the posterior's entropy at the end."""
    found = []
    for cell in row.cells:
        values = read_cell(cell, settings)
        if values is not None:
            log = TrainingLog(settings.folder(cell) / "train.log")
            entropy = log.curve("posterior_entropy")
            found.append({**values, "posterior_entropy": entropy[-1][1] if entropy else None})
    return found


def summary(values: Sequence[float | None], spec: str) -> str:
    """The mean, and behind it half the range when there are several values."""
    known = [value for value in values if value is not None]
    if not known:
        return ""
    mean = format(statistics.mean(known), spec)
    return mean if len(known) == 1 else f"{mean} ± {format((max(known) - min(known)) / 2, spec)}"


def comparison_table(comparison: Comparison, rows: Mapping[str, Measured]) -> str:
    """The table of a comparison: one line a row, with the columns that are known of any."""
    columns = [
        (title, [summary([find(cell) for cell in rows[row.name]], spec) for row in comparison.rows])
        for title, find, spec in COLUMNS
    ]
    known = [(title, values) for title, values in columns if any(values)]
    seeds = [str(len(rows[row.name])) for row in comparison.rows]
    header = ["", *(title for title, _ in known), "seeds"]
    names = [row.name for row in comparison.rows]
    return markdown_table(header, zip(names, *(values for _, values in known), seeds, strict=True))


def plot_comparison(comparison: Comparison, rows: Mapping[str, Measured], path: Path) -> bool:
    """Draw BLEU of each row: a bar for the mean, a dot for each seed. Returns whether there was anything."""
    systems = [("autoencoder", "autoencoder"), ("candidates", "candidates"), ("predicted", "greedy latents")]
    names = [row.name for row in comparison.rows if rows[row.name]][::-1]
    if not names:
        return False
    figure = Figure(figsize=(7.2, 1.2 + 0.62 * len(names)), layout="constrained")
    axes = figure.subplots()
    for number, (system, label) in enumerate(systems):
        places = [place + 0.26 * (1 - number) for place in range(len(names))]
        values = [[_system(system)(cell) or 0.0 for cell in rows[name]] for name in names]
        axes.barh(
            places,
            [statistics.mean(each) for each in values],
            0.24,
            color=COLORS[number],
            label=label,
            alpha=0.8,
        )
        for place, each in zip(places, values, strict=True):
            axes.plot(each, [place] * len(each), "k.", markersize=4)
    axes.set_yticks(range(len(names)), names)
    axes.set_axisbelow(True)
    decorate(axes, comparison.title, "BLEU", "")
    handles, labels = axes.get_legend_handles_labels()
    axes.legend(
        handles[::-1], labels[::-1], frameon=False, fontsize=9, loc="upper left", bbox_to_anchor=(1.0, 1.0)
    )
    finish(figure, path)
    return True


def plot_curves(comparison: Comparison, settings: Settings, path: Path) -> bool:
    """Draw the training curves of the first seed of each row. Returns whether there was anything."""
    logs = {
        row.name: TrainingLog(settings.folder(row.cells[0]) / "train.log")
        for row in comparison.rows
        if read_cell(row.cells[0], settings) is not None
    }
    return bool(logs) and plot_training(logs, path)


def footnotes(cells: Measured) -> str:
    """What the columns mean, and what they are to be compared with."""
    notes = [
        "- BLEU: greedy latents; candidates: the best of several latent sequences by the model's own score; "
        "autoencoder: codes of the teacher's output, decoded. Mean over seeds, ± half their range",
        "- predictor: teacher-forced, on those codes; codes used, perplexity: by the teacher's output on the "
        "test set; entropy: of the posterior at the end of training; all at the end of training",
    ]
    if cells:
        # The same for every cell.
        teacher = cells[0]["systems"]["teacher_greedy"]
        notes += [
            f"- the teacher, greedy: {teacher['bleu']:.1f} BLEU",
            f"- sacreBLEU: {teacher['signature']}",
        ]
    return "\n".join(notes)


def build(grid: Grid, settings: Settings) -> tuple[str, dict[str, Any]]:
    """The report as Markdown and as an object; writes the plots to `settings.out`."""
    parts, content = [grid.caption], {}
    everything: Measured = []
    for comparison in grid.comparisons:
        rows = {row.name: measured(row, settings) for row in comparison.rows}
        everything += [cell for row in comparison.rows for cell in rows[row.name]]
        parts += [f"## {comparison.title}", f"The paper: {comparison.paper}."]
        parts.append(comparison_table(comparison, rows))
        if comparison.note:
            parts.append(f"Here: {comparison.note}")
        name = f"{comparison.name}.png"
        pictures = [(name, plot_comparison(comparison, rows, settings.out / name))]
        if comparison.curves:
            name = f"{comparison.name}_curves.png"
            pictures.append((name, plot_curves(comparison, settings, settings.out / name)))
        parts += [f"![{name}]({name})" for name, drawn in pictures if drawn]
        content[comparison.name] = {
            "title": comparison.title,
            "paper": comparison.paper,
            "note": comparison.note,
            "rows": {
                row.name: {
                    "flags": list(row.cells[0].flags),
                    "data": row.cells[0].data,
                    "cells": [{key: cell[key] for key in KEPT} for cell in rows[row.name]],
                }
                for row in comparison.rows
            },
        }
    parts += ["## Columns", footnotes(everything)]
    return "\n\n".join(parts) + "\n", content
