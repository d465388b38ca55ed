"""What was measured of a cell, read back from its folder: figures, or one line that says what to remove."""

import json
from pathlib import Path
from typing import Any

import pytest

from vqnat_plugin.errors import DataError
from vqnat_plugin.files import write_json
from vqnat_plugin.recipes.cells import MEASURE, TRAIN, GridRun
from vqnat_plugin.recipes.grid import Cell
from vqnat_plugin.recipes.grid_images import ImageKind
from vqnat_plugin.recipes.grid_translation import TranslationKind

CELL = Cell("images", ("--lr", "1"), 1)
IMAGES = {
    "images": 4, "subset": "test", "bits_per_code": 1.0, "usage": 0.5, "perplexity": 3.0, "psnr": 20.0,
    "bits_per_dim": {"total": 4.0, "reconstruction": 3.0, "prior": 1.0, "total_uniform": 5.0}, "ssim": 0.5,
}  # fmt: skip
TRANSLATION = {
    "systems": {"predicted": {"bleu": 3.0, "chrf": 4.0}, "teacher_greedy": {"bleu": 1.0, "signature": "s"}},
    "losses": {},
    "predictor": {"accuracy": 0.5, "perplexity": 3.0},
    "codes": {"usage": 0.5, "perplexity": 3.0},
}
GOOD = [(ImageKind, IMAGES), (TranslationKind, TRANSLATION)]


def grid_run(folder: Path, kind: Any, measured: Any, record: Any = None) -> GridRun:
    """A grid with one cell that is done, of which this was measured."""
    none = staticmethod(lambda *_: [])
    parts = {"paths": {}, "result": kind.result, "figures": staticmethod(kind.figures)}
    kind = type("Kind", (), {**parts, "train_command": none, "measure_command": none})()
    run = GridRun(folder, kind)
    for order, name in enumerate((TRAIN, MEASURE), 1):
        content = {"order": order, "command": [], "seconds": 1.0, "started": None, "done": True}
        write_json(run.folder(CELL) / "stages" / f"{name}.json", content)
    write_json(run.folder(CELL) / "cell.json", record or {"threads": 1, "interrupted": False})
    (run.folder(CELL) / kind.result).write_text(json.dumps(measured))
    return run


@pytest.mark.parametrize(("kind", "measured"), GOOD)
def test_figures_are_read(tmp_path: Path, kind: Any, measured: dict[str, Any]) -> None:
    assert grid_run(tmp_path, kind, measured).read(CELL) == {**measured, "seconds": 1}


@pytest.mark.parametrize("value", ["3.0", [3.0], {}, True, float("nan")])
@pytest.mark.parametrize(("kind", "measured"), GOOD)
def test_what_is_no_figure_is_refused(
    tmp_path: Path, kind: Any, measured: dict[str, Any], value: object
) -> None:
    key, inner = ("bits_per_dim", "prior") if kind is ImageKind else ("codes", "usage")
    damaged = {**measured, key: {**measured[key], inner: value}}
    run = grid_run(tmp_path, kind, damaged)
    with pytest.raises(
        DataError, match=rf"{kind.result}: lacks a figure, .*; remove {run.folder(CELL)} and run"
    ):
        run.read(CELL)


@pytest.mark.parametrize(("kind", "measured"), GOOD)
def test_what_lacks_figures_is_refused(tmp_path: Path, kind: Any, measured: dict[str, Any]) -> None:
    for number, key in enumerate(measured):
        rest = {name: value for name, value in measured.items() if name != key}
        for damaged in (rest, {**rest, key: 5}) if isinstance(measured[key], dict) else (rest,):
            if damaged.get("losses") != 5:
                run = grid_run(tmp_path / str(number), kind, damaged)
                with pytest.raises(DataError, match="lacks a figure"):
                    run.read(CELL)


@pytest.mark.parametrize("record", [{"threads": 0}, {"threads": "1"}, {"threads": 1, "interrupted": 5}])
def test_a_record_of_another_form_is_refused(tmp_path: Path, record: dict[str, Any]) -> None:
    with pytest.raises(DataError, match=r"cell\.json: is no record of a cell; remove"):
        grid_run(tmp_path, ImageKind, IMAGES, {"interrupted": False, **record}).read(CELL)
