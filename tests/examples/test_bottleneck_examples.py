"""The examples of the quantisers run as they are, and learn."""

import re
import subprocess
import sys
from pathlib import Path

EXAMPLES = Path(__file__).parents[2] / "examples" / "bottleneck"


def shown(name: str) -> str:
    """What an example prints; nothing may be wrong with it."""
    command = [sys.executable, "-W", "error::UserWarning", str(EXAMPLES / name)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def errors(text: str) -> list[float]:
    return [float(value) for value in re.findall(r"error ([\d.]+)", text)]


def test_images() -> None:
    text = shown("images.py")
    first, *_, last = errors(text)
    assert last < first / 3
    assert int(re.findall(r"(\d+) codes in use", text)[-1]) > 64


def test_sequences() -> None:
    text = shown("sequences.py")
    assert errors(text)[-1] < errors(text)[0] * 1.05
    # A code for each state, and next to no vector with another one.
    assert 12 <= int(re.findall(r"(\d+) pairs", text)[-1]) <= 16
    assert re.search(r"codes of the first sequence: \[\d+", text)


def test_audio() -> None:
    text = shown("audio.py")
    assert errors(text)[-1] < errors(text)[0] / 3
    decibels = [float(value) for value in re.findall(r"([-\d.]+) dB", text)]
    # Each further level helps.
    assert len(decibels) == 6 and decibels == sorted(decibels) and decibels[-1] > decibels[0] + 1
