"""Records of comparisons that something has happened to: what was done is done anew."""

import json
from pathlib import Path
from typing import Any

import pytest

from vqnat_plugin.recipes.comparison import _is_number, _known_or_made, _timings

WANTED = {"system": "s"}
TIMINGS = {"timings": {"1": {"s": {"seconds": [0.1, 0.2], "tokens": 5}}}}


def test_a_sound_record_is_taken(tmp_path: Path) -> None:
    path = tmp_path / "latency.json"
    first = _known_or_made(path, WANTED, lambda: {"x": 1}, lambda record: True)
    assert _known_or_made(path, WANTED, lambda: {"x": 2}, lambda record: record["x"] == 1) == first


@pytest.mark.parametrize(
    "damage",
    [{"duration": "1"}, {"duration": float("nan")}, {"duration": None}, {"x": "many"}, {"x": [1]}, {"of": 5}],
)
def test_a_damaged_record_is_made_anew(tmp_path: Path, damage: dict[str, Any]) -> None:
    path = tmp_path / "latency.json"
    before = _known_or_made(path, WANTED, lambda: {"x": 1}, lambda record: True)
    path.write_text(json.dumps({**before, **damage}))
    assert _known_or_made(path, WANTED, lambda: {"x": 2}, lambda record: _is_number(record["x"]))["x"] == 2
    path.write_text("[" * 3000)
    assert _known_or_made(path, WANTED, lambda: {"x": 3}, lambda record: True)["x"] == 3


@pytest.mark.parametrize("seconds", ["0.1", [], ["a"], [None], [float("nan")], 5, {"a": 1}])
def test_timings_are_numbers(seconds: Any) -> None:
    assert _timings(TIMINGS)[1]["s"].seconds == [0.1, 0.2]
    with pytest.raises((KeyError, TypeError, ValueError, AttributeError)):
        _timings({"timings": {"1": {"s": {"seconds": seconds, "tokens": 5}}}})
