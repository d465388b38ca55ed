"""The examples of the quantisers run as they are, and learn."""

import re
import runpy
import warnings
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parents[2] / "examples" / "bottleneck"


def shown(name: str, capsys: pytest.CaptureFixture[str]) -> str:
    """What an example prints; nothing may be wrong with it."""
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        runpy.run_path(str(EXAMPLES / name), run_name="__main__")
    return capsys.readouterr().out


def errors(text: str) -> list[float]:
    return [float(value) for value in re.findall(r"error ([\d.]+)", text)]


@pytest.mark.slow
def test_images(capsys: pytest.CaptureFixture[str]) -> None:
    text = shown("images.py", capsys)
    first, *_, last = errors(text)
    assert last < first / 3
    assert int(re.findall(r"(\d+) codes in use", text)[-1]) > 64


def test_sequences(capsys: pytest.CaptureFixture[str]) -> None:
    text = shown("sequences.py", capsys)
    assert errors(text)[-1] < errors(text)[0] * 1.05
    # A code for each state, and next to no vector with another one.
    assert 12 <= int(re.findall(r"(\d+) pairs", text)[-1]) <= 16
    assert re.search(r"codes of the first sequence: \[\d+", text)


@pytest.mark.slow
def test_audio(capsys: pytest.CaptureFixture[str]) -> None:
    text = shown("audio.py", capsys)
    assert errors(text)[-1] < errors(text)[0] / 3
    decibels = [float(value) for value in re.findall(r"([-\d.]+) dB", text)]
    # Each further level helps.
    assert len(decibels) == 6 and decibels == sorted(decibels) and decibels[-1] > decibels[0] + 1
