"""The recipe that times models of the paper's size."""

import json
import subprocess
from pathlib import Path

import pytest

RECIPE = Path(__file__).resolve().parents[2] / "examples/speed/run.sh"


@pytest.mark.parametrize("length", ["0", "-1", "long"])
def test_length_has_to_be_a_number(tmp_path: Path, length: str) -> None:
    command = [RECIPE, "--length", length, "--out", tmp_path / "out"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 2 and f"--length {length}: needs a number" in done.stderr
    assert not (tmp_path / "out").exists()


@pytest.mark.slow
def test_all_systems_say_as_many_tokens(tmp_path: Path) -> None:
    command = [RECIPE, "--length", "9", "--out", tmp_path]
    done = subprocess.run(command, capture_output=True, text=True, timeout=1800, check=False)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    systems = json.loads((tmp_path / "report.json").read_text())["systems"]
    assert set(systems) == {"teacher_beam4", "teacher_greedy", "student_greedy", "student_4_candidates"}
    for system in systems.values():
        # EOS counts.
        assert system["mean_output_tokens"] == 10
        assert system["latency_ms"]["batch_1"]["median"] > 0
