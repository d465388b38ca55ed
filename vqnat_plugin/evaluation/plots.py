"""The plots of a report: quality against time, and training curves."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter
from matplotlib.transforms import Bbox

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
        (
            ("codebook_usage", "train", "in a process's batch"),
            ("codebook_usage_epoch", "train", "in an epoch"),
        ),
    ),
    (
        "Codebook perplexity",
        "codes",
        (
            ("codebook_perplexity", "train", "in a process's batch"),
            ("codebook_perplexity_epoch", "train", "in an epoch"),
        ),
    ),
    ("Posterior entropy", "nats", (("posterior_entropy", "train", ""),)),
    ("Distinct codes among the samples", "codes", (("distinct_codes", "train", ""),)),
)
BITS = "bits per target token"
PANELS: Panels = (
    ("Loss", BITS, (("loss", "train", "train"), ("loss", "valid", "valid"))),
    (
        "Parts of the loss",
        BITS,
        tuple((f"{part}_loss", "train", part) for part in ("words", "latents", "commitment")),
    ),
    (
        "BLEU on valid",
        "BLEU",
        (("bleu", "valid", ""), ("reconstruction_bleu", "valid", "with the references' codes")),
    ),
    ("Latent predictor, accuracy", "share", (("predictor_accuracy", "valid", "valid"),)),
    *CODEBOOK_PANELS,
)
STYLES = ("-", "--", ":")
COLUMNS = 2
# Of a point's name, in points (1/72 inch) from it, the best first.
LABEL_PLACES = tuple(
    (x * far, y * far)
    for far in (1, 2, 3)
    for x, y in ((8, 0), (-8, 0), (0, 8), (0, -8), (7, 7), (-7, 7), (7, -7), (-7, -7))
)


def finish(figure: Figure, path: Path) -> None:
    """Write a figure as a PNG, in one step."""
    write_atomically(path, lambda part: figure.savefig(part, dpi=150, bbox_inches="tight"))


def decorate(axes: Axes, title: str, x: str, y: str) -> None:
    """Title, labels, grid and frame, alike in all plots."""
    axes.set_title(title, fontsize=11)
    axes.set_xlabel(x)
    axes.set_ylabel(y)
    axes.grid(alpha=0.3, linewidth=0.6)
    axes.spines[["top", "right"]].set_visible(False)


def draw(report: Mapping[str, Any], logs: Mapping[str, TrainingLog], out: Path) -> list[str]:
    """Draw what a report and the logs of trainings have into a folder; the names of the files."""
    drawn = {
        "quality_speed.png": plot_quality_speed(
            report["systems"], out / "quality_speed.png", report["title"]
        ),
        "training.png": plot_training(logs, out / "training.png"),
    }
    return [name for name, there in drawn.items() if there]


def plot_quality_speed(systems: Mapping[str, Mapping[str, Any]], path: Path, title: str = "") -> bool:
    """Scatter BLEU over the time of a sentence, a panel for each batch size, a marker for each kind.

    Args:
        systems: as in `report.json`; those without `bleu` or `latency_ms` are left out.
        path: of the PNG.
        title: of the plot.

    Returns:
        Whether there was anything to draw.
    """
    panels: dict[str, dict[str, tuple[float, float]]] = {}
    for name, system in systems.items():
        for size, latency in system.get("latency_ms", {}).items():
            if "bleu" in system:
                time = latency["median"] / int(size.removeprefix("batch_"))
                panels.setdefault(size, {})[name] = (time, system["bleu"])
    if not panels:
        return False
    # Reports before there were kinds are of checkpoints.
    kinds = {name: systems[name].get("kind", "fairseq") for points in panels.values() for name in points}
    markers = dict(zip(dict.fromkeys(kinds.values()), MARKERS, strict=False))
    figure = Figure(figsize=(6.8 * len(panels), 4.6), layout="constrained")
    figure.suptitle(plain(title), fontsize=11)
    grid = figure.subplots(1, len(panels), squeeze=False, sharey=True).flatten()
    for axes, (size, points) in zip(grid, panels.items(), strict=True):
        for number, (name, (time, bleu)) in enumerate(points.items()):
            color, marker = COLORS[number % len(COLORS)], markers[kinds[name]]
            axes.scatter(time, bleu, s=60, color=color, marker=marker, edgecolors="white", zorder=2)
        _frame(axes, list(points.values()))
        decorate(axes, size.replace("_", " "), "ms a sentence (median)", "BLEU")
    for axes, points in zip(grid, panels.values(), strict=True):
        _label(figure, axes, points)
    if len(markers) > 1:
        handles = [
            Line2D([], [], color="#555555", marker=marker, linestyle="", label=kind)
            for kind, marker in markers.items()
        ]
        figure.legend(handles=handles, loc="outside lower center", ncols=len(handles), frameon=False)
    finish(figure, path)
    return True


def _frame(axes: Axes, points: Sequence[tuple[float, float]]) -> None:
    """A logarithmic axis of times with plain numbers, and room for names around the points."""
    times, scores = [time for time, _ in points], [bleu for _, bleu in points]
    room = max(max(scores) - min(scores), 1.0)
    axes.set_ylim(min(scores) - 0.15 * room, max(scores) + 0.15 * room)
    axes.set_xscale("log")
    factor = max(max(times) / min(times), 2.0) ** 0.3
    axes.set_xlim(min(times) / factor, max(times) * factor)
    axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda time, _: f"{time:g}"))
    axes.xaxis.set_minor_formatter(NullFormatter())


def plain(text: str) -> str:
    """A text in one line, in which matplotlib finds no formula."""
    return " ".join(text.split()).replace("$", r"\$")


def _label(figure: Figure, axes: Axes, points: Mapping[str, tuple[float, float]]) -> None:
    """Write names beside points, each at the first place that is free."""
    # Only now is it known where the points are.
    figure.draw_without_rendering()
    places = axes.transData.transform(list(points.values()))
    taken = [Bbox.from_extents(x - 9, y - 9, x + 9, y + 9) for x, y in places]
    for number, (name, point) in enumerate(points.items()):
        color = COLORS[number % len(COLORS)]
        label = axes.annotate(
            plain(name), point, LABEL_PLACES[0], textcoords="offset points", fontsize=9, color=color
        )
        # Where nothing is free, the first.
        for x, y in (*LABEL_PLACES, LABEL_PLACES[0]):
            label.xyann = (x, y)
            label.set_horizontalalignment("left" if x > 0 else "right" if x < 0 else "center")
            label.set_verticalalignment("bottom" if y > 0 else "top" if y < 0 else "center")
            box = label.get_window_extent()
            if not box.count_overlaps(taken) and axes.bbox.count_contains(box.corners()) == 4:
                break
        taken.append(box)


def plot_training(logs: Mapping[str, TrainingLog], path: Path, panels: Panels = PANELS) -> bool:
    """Draw what the logs have of: losses, BLEU on valid, codebook usage and perplexity, posterior entropy.

    Args:
        logs: by name of the system.
        path: of the PNG.
        panels: what to draw, a panel each.

    Returns:
        Whether there was anything to draw.
    """
    drawn: list[tuple[str, str, list[tuple[str, str, str, Curve]]]] = []
    for title, unit, wanted in panels:
        curves = []
        for number, (name, log) in enumerate(logs.items()):
            for style, (metric, subset, label) in zip(STYLES, wanted, strict=False):
                text = ", ".join(filter(None, (name, label))) if len(logs) > 1 else label or name
                if curve := log.curve(metric, subset):
                    curves.append((plain(text), COLORS[number % len(COLORS)], style, curve))
        if curves:
            drawn.append((title, unit, curves))
    if not drawn:
        return False
    columns = min(COLUMNS, len(drawn))
    rows = -(-len(drawn) // columns)
    figure = Figure(figsize=(6.8 * columns, 3.3 * rows), layout=ConstrainedLayoutEngine(w_pad=0.1, h_pad=0.1))
    grid = figure.subplots(rows, columns, squeeze=False).flatten()
    for axes, (title, unit, curves) in zip(grid, drawn, strict=False):
        _draw_curves(axes, curves)
        decorate(axes, title, "updates", unit)
    for axes in grid[len(drawn) :]:
        axes.remove()
    finish(figure, path)
    return True


def _draw_curves(axes: Axes, curves: Sequence[tuple[str, str, str, Curve]]) -> None:
    """Draw curves (label, colour, style, points), named beside the axes in the order in which they end."""
    for label, color, style, curve in curves:
        marker = "o" if len(curve) == 1 else None
        axes.plot(*zip(*curve, strict=True), style, color=color, linewidth=1.4, marker=marker, label=label)
    updates = [x for *_, curve in curves for x, _ in curve]
    if min(updates) < max(updates):
        axes.set_xlim(min(updates), max(updates))
    # So few that those of long trainings do not touch.
    axes.xaxis.set_major_locator(MaxNLocator(5, integer=True))
    handles, labels = axes.get_legend_handles_labels()
    order = sorted(range(len(curves)), key=lambda number: -curves[number][-1][-1][1])
    axes.legend(
        [handles[number] for number in order],
        [labels[number] for number in order],
        frameon=False,
        fontsize=9,
        loc="center left",
        bbox_to_anchor=(1.02, 0.5),
        borderaxespad=0,
    )
