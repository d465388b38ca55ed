"""The recipe that times models of the paper's size."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from dry_run import EXAMPLES, dry_run, value

RECIPE = EXAMPLES / "speed" / "run.sh"


@pytest.mark.parametrize("length", ["0", "-1", "long"])
def test_length_has_to_be_a_number(tmp_path: Path, length: str) -> None:
    command = [RECIPE, "--length", length, "--out", tmp_path / "out"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 2 and f"--length {length}: needs a number" in done.stderr
    assert not (tmp_path / "out").exists()


def test_words_are_as_many_as_asked_for(tmp_path: Path) -> None:
    words, preprocess, *_, benchmark = dry_run(RECIPE, "--length", "9", "--out", str(tmp_path / "out"))
    subprocess.run([sys.executable, *words[1:]], cwd=EXAMPLES.parent, check=True, timeout=60)
    folder = Path(value(words, "--out"))
    assert value(preprocess, "--testpref") == str(folder / "test")
    texts = {language: (folder / f"test.{language}").read_text().splitlines() for language in ("en", "de")}
    assert all(len(text) == 400 for text in texts.values()) and texts["en"] != texts["de"]
    assert {len(line.split()) for line in texts["en"] + texts["de"]} == {9}
    assert len((folder / "dict.txt").read_text().splitlines()) == 32000
    assert benchmark.count("min_len=9") == benchmark.count("max_len_b=9") == benchmark.count("--system") == 4
    teacher, student, benchmark = dry_run(RECIPE, "--data", "/some/data")
    assert teacher[2] == student[2] == benchmark[2] == "/some/data"


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
