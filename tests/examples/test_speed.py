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
    texts = [(folder / f"test.{language}").read_text().splitlines() for language in ("en", "de")]
    few = [(folder / f"valid.{language}").read_text().splitlines() for language in ("en", "de")]
    assert all(len(text) == 400 for text in texts) and texts[0] != texts[1]
    assert all(1 <= len(text) < 10 for text in few)
    assert {len(line.split()) for text in (*texts, *few) for line in text} == {9}
    assert len((folder / "dict.txt").read_text().splitlines()) == 32000
    assert value(benchmark, "--min-len") == value(benchmark, "--max-len-b") == "9"
    commands = dry_run(RECIPE, "--data", "/some/data")
    assert all(command[2] == "/some/data" for command in commands if command[1] != "export")


@pytest.mark.parametrize(
    ("size", "layers"), [("paper", ("6-6", "6-1", "12-1")), ("small", ("3-3", "3-1", "6-1"))]
)
def test_every_opponent_is_there_in_all_its_settings(size: str, layers: tuple[str, ...]) -> None:
    *before, benchmark = dry_run(RECIPE, "--size", size)
    systems = set(system_names(benchmark))
    for layer in layers:
        for precision in ("fp32", "int8"):
            assert {f"ct2_{layer}_{precision}", f"ct2_{layer}_{precision}_beam4"} <= systems
    assert {f"fairseq_{layers[0]}", f"fairseq_{layers[0]}_beam4"} <= systems
    for shape in ("base", "fast"):
        for engine in ("pytorch", "fp32", "int8"):
            assert {f"{shape}_{engine}", f"{shape}_{engine}_4"} <= systems
    assert len(systems) == benchmark.count("--system") == 26
    # What is timed has been made by the stages before.
    made = {word for command in before for word in command}
    for place, word in enumerate(benchmark):
        if word == "--system":
            path = Path(benchmark[place + 2])
            assert str(path.parent if path.suffix == ".pt" else path) in made


def system_names(command: list[str]) -> list[str]:
    return [command[place + 1] for place, word in enumerate(command) if word == "--system"]


def test_there_are_two_sizes(tmp_path: Path) -> None:
    command = [RECIPE, "--size", "huge", "--out", tmp_path / "out"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 2 and "--size huge: needs paper or small" in done.stderr


@pytest.mark.slow
def test_all_systems_say_as_many_tokens(tmp_path: Path) -> None:
    pytest.importorskip("ctranslate2")
    command = [RECIPE, "--size", "small", "--length", "9", "--out", tmp_path]
    done = subprocess.run(command, capture_output=True, text=True, timeout=1800, check=False)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    systems = json.loads((tmp_path / "report.json").read_text())["systems"]
    assert len(systems) == 26
    for system in systems.values():
        # EOS counts.
        assert system["mean_output_tokens"] == 10
        assert system["latency_ms"]["batch_1"]["median"] > 0
