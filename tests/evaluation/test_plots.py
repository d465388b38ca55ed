import json
from pathlib import Path
from typing import Any

import matplotlib.image
import pytest
from matplotlib.figure import Figure

from vqnat_plugin.evaluation import plots
from vqnat_plugin.evaluation.plots import plot_quality_speed, plot_training
from vqnat_plugin.evaluation.training_log import TrainingLog

SYSTEMS: dict[str, dict[str, Any]] = {
    "greedy": {"bleu": 30.0, "latency_ms": {"batch_1": {"median": 20.0}, "batch_32": {"median": 160.0}}},
    "student": {"bleu": 28.0, "latency_ms": {"batch_1": {"median": 8.0}, "batch_32": {"median": 320.0}}},
    "not timed": {"bleu": 99.0},
}
RESULTS = Path(__file__).parents[2] / "examples" / "multi30k" / "results" / "report.json"


@pytest.fixture
def figures(monkeypatch: pytest.MonkeyPatch) -> list[Figure]:
    """The figures, in place of files."""
    drawn: list[Figure] = []
    monkeypatch.setattr(plots, "finish", lambda figure, path: drawn.append(figure))
    return drawn


def colors(path: Path) -> set[tuple[int, ...]]:
    pixels = (matplotlib.image.imread(path)[..., :3] * 255).round().astype(int)
    return {tuple(pixel) for row in pixels for pixel in row[::3].tolist()}


def log(path: Path, **metrics: float) -> TrainingLog:
    lines = [json.dumps({**metrics, "num_updates": updates}) for updates in (10, 20, 30)]
    path.write_text("\n".join(lines))
    return TrainingLog(path)


def test_quality_against_speed_shows_a_mark_for_each_measured_system(tmp_path: Path) -> None:
    path = tmp_path / "plots" / "quality_speed.png"
    assert plot_quality_speed(SYSTEMS, path, "title")
    drawn = colors(path)
    assert {(0x00, 0x72, 0xB2), (0xD5, 0x5E, 0x00)} <= drawn
    assert (0x00, 0x9E, 0x73) not in drawn
    assert [file.name for file in path.parent.iterdir()] == ["quality_speed.png"]


def boxes(axes: Any) -> list[Any]:
    return [text.get_window_extent() for text in axes.texts]


@pytest.mark.parametrize("systems", [SYSTEMS, json.loads(RESULTS.read_text())["systems"]])
def test_every_batch_size_is_a_panel_and_every_point_has_its_name(
    figures: list[Figure], systems: dict[str, dict[str, Any]]
) -> None:
    assert plot_quality_speed(systems, Path("unused"), "title")
    (figure,) = figures
    figure.draw_without_rendering()
    assert [axes.get_title() for axes in figure.axes] == ["batch 1", "batch 32"]
    known = [name for name, system in systems.items() if "latency_ms" in system]
    # A legend of markers, where there are several kinds; names stand beside their points.
    kinds = {system.get("kind") for system in systems.values()}
    assert bool(figure.legends) == (len(kinds) > 1)
    for axes in figure.axes:
        assert [text.get_text() for text in axes.texts] == known
        assert axes.get_legend() is None and axes.get_xscale() == "log"
        lowest = min(systems[name]["bleu"] for name in known)
        assert lowest - 0.5 < axes.get_ylim()[0] < lowest
        found = boxes(axes)
        assert not any(one.overlaps(other) for place, one in enumerate(found) for other in found[:place])
        assert all(axes.bbox.contains(*corner) for box in found for corner in (box.min, box.max))


def test_times_are_of_a_sentence_and_kinds_have_markers(figures: list[Figure]) -> None:
    kinds = {"greedy": "CTranslate2", "student": "exported"}
    systems = {name: {**system, "kind": kinds.get(name, "unseen")} for name, system in SYSTEMS.items()}
    assert plot_quality_speed({**systems, "other": SYSTEMS["greedy"]}, Path("unused"))
    (figure,) = figures
    places = [[tuple(dots.get_offsets()[0]) for dots in axes.collections] for axes in figure.axes]
    assert places == [[(20, 30), (8, 28), (20, 30)], [(5, 30), (10, 28), (5, 30)]]
    [legend] = figure.legends
    assert [text.get_text() for text in legend.get_texts()] == ["CTranslate2", "exported", "fairseq"]


def test_names_are_no_formulas(figures: list[Figure]) -> None:
    assert plot_quality_speed({"$x^$\n<b>": SYSTEMS["greedy"]}, Path("unused"), "a $\\frac$")
    figures[0].draw_without_rendering()
    assert figures[0].axes[0].texts[0].get_text() == r"\$x^\$ <b>"


@pytest.mark.parametrize(
    "systems", [{}, {"a": {"bleu": 1.0}}, {"a": {"latency_ms": SYSTEMS["greedy"]["latency_ms"]}}]
)
def test_no_plot_without_points(tmp_path: Path, systems: dict[str, dict[str, Any]]) -> None:
    path = tmp_path / "quality_speed.png"
    assert not plot_quality_speed(systems, path)
    assert not path.exists()


def test_training_curves_have_a_panel_for_each_known_metric(tmp_path: Path) -> None:
    teacher = log(tmp_path / "a.log", loss=3.0)
    student = log(
        tmp_path / "b.log", loss=4.0, codebook_usage=0.5, codebook_perplexity=90, posterior_entropy=0.2
    )
    small, large = tmp_path / "small.png", tmp_path / "large.png"
    assert plot_training({"teacher": teacher}, small)
    assert plot_training({"teacher": teacher, "student": student}, large)
    heights = [matplotlib.image.imread(path).shape[0] for path in (small, large)]
    assert heights[1] > 1.8 * heights[0], "four panels take two rows"
    assert {(0x00, 0x72, 0xB2), (0xD5, 0x5E, 0x00)} <= colors(large)


def test_no_plot_without_curves(tmp_path: Path) -> None:
    path = tmp_path / "training.png"
    assert not plot_training({}, path)
    assert not plot_training({"other": log(tmp_path / "a.log", something=1.0)}, path)
    assert not path.exists()


def test_curves_are_named_beside_their_panel_from_where_they_start(
    tmp_path: Path, figures: list[Figure]
) -> None:
    logs = {name: log(tmp_path / name, loss=loss) for name, loss in (("a", 1.0), ("$b$", 2.0))}
    assert plot_training(logs, tmp_path / "unused.png")
    axes = figures[0].axes[0]
    figures[0].draw_without_rendering()
    legend = axes.get_legend()
    assert legend is not None
    assert [text.get_text() for text in legend.get_texts()] == [r"\$b\$, train", "a, train"]
    assert legend.get_window_extent().x0 > axes.get_window_extent().x1
    assert axes.get_xlim() == (10, 30)


def test_more_trainings_than_colours_are_drawn(tmp_path: Path, figures: list[Figure]) -> None:
    assert plot_training(
        {str(n): log(tmp_path / str(n), loss=float(n)) for n in range(12)}, tmp_path / "x.png"
    )
    assert len(figures[0].axes[0].lines) == 12
