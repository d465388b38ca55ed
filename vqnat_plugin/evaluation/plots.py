"""The two pictures of a report: quality against speed, and training curves."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from ..files import write_atomically
from .training_log import Curve, TrainingLog

matplotlib.use("Agg")

# Okabe and Ito's colours: told apart by everyone, and in print.
COLORS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#999999")
MARKERS = "osD^vPX*"
# Title, unit, and for each curve: metric, subset, its label.
Panels = Sequence[tuple[str, str, tuple[tuple[str, str, str], ...]]]
CODEBOOK_PANELS: Panels = (
    (
        "Codebook usage",
        "share of the codes",
        (("codebook_usage", "train", "in a batch"), ("codebook_usage_epoch", "train", "in an epoch")),
    ),
    (
        "Codebook perplexity",
        "codes",
        (
            ("codebook_perplexity", "train", "in a batch"),
            ("codebook_perplexity_epoch", "train", "in an epoch"),
        ),
    ),
    ("Posterior entropy", "nats", (("posterior_entropy", "train", ""),)),
    ("Distinct codes among the samples", "codes", (("distinct_codes", "train", ""),)),
)
PANELS: Panels = (
    ("Loss", "bits per target token", (("loss", "train", "train"), ("loss", "valid", "valid"))),
    (
        "Parts of the loss",
        "bits per target token",
        (
            ("words_loss", "train", "words"),
            ("latents_loss", "train", "latents"),
            ("commitment_loss", "train", "commitment"),
        ),
    ),
    (
        "BLEU on valid",
        "BLEU",
        (
            ("bleu", "valid", "predicted codes"),
            ("reconstruction_bleu", "valid", "with the references' codes"),
        ),
    ),
    ("Latent predictor, accuracy", "share", (("predictor_accuracy", "valid", "valid"),)),
    *CODEBOOK_PANELS,
)
STYLES = ("-", "--", ":")
COLUMNS = 3


def finish(figure: Figure, path: Path) -> None:
    """Write a figure as a PNG, in one step."""
    write_atomically(path, lambda part: figure.savefig(part, dpi=150, bbox_inches="tight"))


def decorate(axes: Axes, title: str, x: str, y: str) -> None:
    """Title, labels, grid and frame, alike in all pictures."""
    axes.set_title(title, fontsize=11)
    axes.set_xlabel(x)
    axes.set_ylabel(y)
    axes.grid(alpha=0.3, linewidth=0.6)
    axes.spines[["top", "right"]].set_visible(False)


def plot_quality_speed(systems: Mapping[str, Mapping[str, Any]], path: Path, title: str = "") -> bool:
    """Scatter BLEU over the speed-up against the greedy teacher (batch size 1).

    Args:
        systems: as in `report.json`; those without `bleu` or `speedup_vs_greedy` are left out.
        path: of the PNG.
        title: of the picture.

    Returns:
        Whether there was anything to draw.
    """
    points = {
        name: (system["speedup_vs_greedy"], system["bleu"])
        for name, system in systems.items()
        if {"bleu", "speedup_vs_greedy"} <= system.keys()
    }
    if not points:
        return False
    figure = Figure(figsize=(6.4, 4.2), layout="constrained")
    axes = figure.subplots()
    axes.axvline(1, color="#999999", linewidth=0.8, linestyle=":", zorder=0)
    for number, (name, (speed, bleu)) in enumerate(points.items()):
        color, marker = COLORS[number % len(COLORS)], MARKERS[number % len(MARKERS)]
        axes.scatter(speed, bleu, s=70, color=color, marker=marker, edgecolors="white", label=name, zorder=2)
    axes.margins(0.15)
    axes.set_xlim(left=0)
    decorate(axes, title, "times faster than the greedy teacher, batch size 1 (median)", "BLEU")
    axes.legend(loc="upper left", bbox_to_anchor=(1.02, 1), frameon=False, borderaxespad=0)
    finish(figure, path)
    return True


def _key(style: str, color: str = "#555555") -> Line2D:
    # matplotlib's types list styles one by one.
    return Line2D([], [], linestyle=style, color=color, linewidth=1.4)  # type: ignore[arg-type]


def plot_training(logs: Mapping[str, TrainingLog], path: Path, panels: Panels = PANELS) -> bool:
    """Draw what the logs have of: losses, BLEU on valid, codebook usage and perplexity, posterior entropy.

    Args:
        logs: by name of the system.
        path: of the PNG.
        panels: what to draw, one picture each.

    Returns:
        Whether there was anything to draw.
    """
    drawn: list[tuple[str, str, list[tuple[str, str, str, Curve]]]] = []
    for title, unit, wanted in panels:
        curves = []
        for number, log in enumerate(logs.values()):
            for style, (metric, subset, label) in zip(STYLES, wanted, strict=False):
                curve = log.curve(metric, subset)
                if curve:
                    curves.append((label, COLORS[number], style, curve))
        if curves:
            drawn.append((title, unit, curves))
    if not drawn:
        return False
    columns = min(COLUMNS, len(drawn))
    rows = -(-len(drawn) // columns)
    figure = Figure(figsize=(4.6 * columns, 3.3 * rows), layout=ConstrainedLayoutEngine(w_pad=0.1, h_pad=0.1))
    grid = figure.subplots(rows, columns, squeeze=False).flatten()
    for axes, (title, unit, curves) in zip(grid, drawn, strict=False):
        for _, color, style, curve in curves:
            marker = "o" if len(curve) == 1 else None
            axes.plot(*zip(*curve, strict=True), style, color=color, linewidth=1.4, marker=marker)
        decorate(axes, title, "updates", unit)
        axes.set_xlim(left=0)
        # So few that those of long trainings do not touch.
        axes.xaxis.set_major_locator(MaxNLocator(5, integer=True))
        # Styles tell curves of a run apart, in each picture; colours the runs, in all of them.
        styles = {label: style for label, _, style, _ in curves if label}
        if styles:
            axes.legend([_key(style) for style in styles.values()], list(styles), frameon=False, fontsize=9)
    for axes in grid[len(drawn) :]:
        axes.remove()
    keys = [_key("-", color) for color, _ in zip(COLORS, logs, strict=False)]
    figure.legend(keys, list(logs), loc="outside upper center", ncols=4, frameon=False)
    finish(figure, path)
    return True
