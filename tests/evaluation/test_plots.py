import json
from pathlib import Path

import matplotlib.image
import pytest

from vqnat_plugin.evaluation.plots import plot_quality_speed, plot_training
from vqnat_plugin.evaluation.training_log import TrainingLog

SYSTEMS = {
    "greedy": {"bleu": 30.0, "speedup_vs_greedy": 1.0},
    "student": {"bleu": 28.0, "speedup_vs_greedy": 2.5},
    "not timed": {"bleu": 99.0},
}


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


@pytest.mark.parametrize("systems", [{}, {"a": {"bleu": 1.0}}, {"a": {"speedup_vs_greedy": 1.0}}])
def test_no_picture_without_points(tmp_path: Path, systems: dict[str, dict[str, float]]) -> None:
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


def test_no_picture_without_curves(tmp_path: Path) -> None:
    path = tmp_path / "training.png"
    assert not plot_training({}, path)
    assert not plot_training({"other": log(tmp_path / "a.log", something=1.0)}, path)
    assert not path.exists()
