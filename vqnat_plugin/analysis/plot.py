"""The plot of a diagnosis."""

from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from ..evaluation.plots import COLORS, decorate, finish


def plot_diagnosis(result: dict[str, Any], path: Path, title: str = "") -> None:
    """Draw BLEU of each system, BLEU by source length, and the predictor by position, into a PNG."""
    systems = result["systems"]
    figure = Figure(figsize=(14, 4.2), layout="constrained")
    bars, lengths, positions = figure.subplots(1, 3, width_ratios=[1.2, 1.2, 1])
    figure.suptitle(title, fontsize=12, parse_math=False)
    names = list(systems)[::-1]
    drawn = bars.barh(names, [systems[name]["bleu"] for name in names], color=COLORS[0])
    bars.bar_label(drawn, fmt="%.1f", padding=3, fontsize=9)
    bars.margins(x=0.12)
    decorate(bars, "Where quality is lost", "BLEU", "")
    # Nobody would see the others above these two.
    compared = {name: figures for name, figures in systems.items() if name not in ("shuffled", "random")}
    for number, (name, figures) in enumerate(compared.items()):
        known = [
            (label, value)
            for label, value in zip(result["length_classes"], figures["bleu_by_length"], strict=True)
            if value is not None
        ]
        lengths.plot(*zip(*known, strict=True), marker="o", color=COLORS[number], label=name)
    decorate(lengths, "By length", "source sub-words", "BLEU")
    lengths.legend(frameon=False, fontsize=8, loc="upper left", bbox_to_anchor=(1.0, 1.0))
    accuracy = result["predictor"]["accuracy_by_position"]
    if accuracy:
        # Whole markers at the edges.
        positions.plot(range(1, len(accuracy) + 1), accuracy, marker="o", color=COLORS[1], clip_on=False)
    last = max(2, len(accuracy))
    positions.set_xlim(1, last)
    positions.set_xticks(range(1, last + 1, -(-last // 10)))
    positions.set_ylim(0, 1)
    decorate(positions, "Latent predictor, teacher-forced", "latent", "accuracy")
    finish(figure, path)
