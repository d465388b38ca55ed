"""Killed at any moment, the same command again gives what it would have given; with no room, it says so."""

import os
import random
import select
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from fairseq import checkpoint_utils
from fairseq_cli import train
from forked import forked
from tiny import STUDENT, TRAINING, parse

from vqnat_plugin.commands.main import main
from vqnat_plugin.errors import one_line

# How often each kind of work is killed by default, and in the whole campaign.
FEW, MANY = 2, 25

# Prepares, runs and compares one kind of work.
Command = Callable[[Path], object]


def content(folder: Path) -> dict[str, Any]:
    """What was made in a folder, without logs, locks and records, in which there are times."""
    found = {}
    for path in sorted(folder.rglob("*")):
        name = str(path.relative_to(folder))
        recorded = name.startswith((".distill/", "stages/")) or name == "manifest.json"
        if path.is_file() and not recorded and not name.endswith((".log", ".lock")):
            found[name] = tensors(path) if path.suffix == ".pt" else path.read_bytes()
    return found


def tensors(path: Path) -> list[bytes]:
    """Model, optimizer and position of a checkpoint."""
    state = checkpoint_utils.load_checkpoint_to_cpu(str(path))
    found: list[bytes] = [repr(state["extra_state"]["train_iterator"]).encode()]

    def collect(value: Any) -> None:
        if isinstance(value, torch.Tensor):
            found.append(value.numpy().tobytes())
        elif isinstance(value, dict):
            for each in value.values():
                collect(each)

    collect(state["model"])
    collect(state["last_optimizer_state"]["state"])
    return found


@pytest.fixture(scope="module")
def text(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of parallel text."""
    folder, rng = tmp_path_factory.mktemp("text"), random.Random(1)
    words = ["house", "dog", "cat", "tree", "small", "large", "sees", "likes"]
    for split, count in (("train", 40), ("valid", 4), ("test", 4)):
        lines = [" ".join(rng.choices(words, k=rng.randint(2, 6))) for _ in range(count)]
        (folder / f"{split}.en").write_text("".join(f"The {line}.\n" for line in lines))
        (folder / f"{split}.de").write_text("".join(f"{line.title()}!\n" for line in lines))
    return folder


@pytest.fixture
def commands(text: Path, tiny_corpus: Path, tiny_teacher: Path) -> dict[str, Command]:
    """What is killed, by name; each writes to the folder that it is given."""

    def training(out: Path) -> None:
        validated = TRAINING.replace("--disable-validation", "--patience 9")
        words = (
            f"{tiny_corpus} --save-dir {out} {STUDENT} {validated} --max-update 9 --save-interval-updates 4"
        )
        with one_line("fairseq-train"):
            train.main(parse(words.split()))

    def prepare(out: Path) -> int:
        words = f"--data {text} --out {out} --source-lang en --target-lang de --merges 30 --workers 1"
        return main(["prepare", *words.split()])

    def distill(out: Path) -> int:
        words = f"--data {tiny_corpus} --teacher {tiny_teacher} --out {out} --chunk-size 30 --beam 1 --cpu"
        return main(["distill", *words.split()])

    def stage(out: Path) -> int:
        script = f"cp -r {text} {out}/copy.part; rm -rf {out}/copy; mv {out}/copy.part {out}/copy"
        return main(["stage", "copy", "--out", str(out), "--", "sh", "-c", script])

    return {"training": training, "prepare": prepare, "distill": distill, "stage": stage}


@pytest.mark.parametrize("name", ["training", "prepare", "distill", "stage"])
@pytest.mark.parametrize("kills", [FEW, pytest.param(MANY, marks=pytest.mark.slow)])
def test_after_a_kill_the_same_command_gives_the_same(
    commands: dict[str, Command], name: str, kills: int, tmp_path: Path
) -> None:
    command, whole = commands[name], tmp_path / "whole"
    ended = forked(lambda: command(whole), whole)
    assert ended.status == 0, ended.output
    expected = content(whole)
    moments = random.Random(f"{name} {kills}").sample(range(1, ended.touches + 1), min(kills, ended.touches))
    for moment in moments:
        out = tmp_path / str(moment)
        killed = forked(lambda out=out: command(out), out, kill_at=moment)
        assert killed.status == -9, (moment, killed.output)
        again = forked(lambda out=out: command(out), out)
        assert again.status == 0, (moment, again.output)
        found = content(out)
        assert found.keys() == expected.keys(), moment
        assert [each for each in found if found[each] != expected[each]] == [], moment
        shutil.rmtree(out)


# Both print the numbers of their children and wait: when these have worked, and when they are still starting.
WORKING = """
import multiprocessing, sys
from vqnat_plugin.data.prepare import mapping
with mapping(2) as each:
    each(str.split, ['a b'] * 3000, 'split')
    print(*(child.pid for child in multiprocessing.active_children()), flush=True)
    sys.stdin.read()
"""
STARTING = """
import sys
from multiprocessing.context import SpawnProcess
from vqnat_plugin.data.prepare import mapping
start, started = SpawnProcess.start, []
def start_and_wait(process):
    start(process)
    started.append(process.pid)
    if len(started) == 2:
        print(*started, flush=True)
        sys.stdin.read()
SpawnProcess.start = start_and_wait
with mapping(2) as each:
    each(str.split, ['a b'] * 3000, 'split')
"""


@pytest.mark.skipif(sys.platform != "linux", reason="prctl and pidfd are Linux's")
@pytest.mark.parametrize("program", [WORKING, STARTING], ids=["working", "starting"])
def test_processes_that_prepare_end_with_the_one_that_started_them(program: str) -> None:
    command = [sys.executable, "-c", program]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        children = [os.pidfd_open(int(child)) for child in parent.stdout.readline().split()]
        parent.kill()
    assert children
    for child in children:
        # It can be read once the process has ended.
        assert select.select([child], [], [], 60)[0]
        os.close(child)


@pytest.mark.parametrize(
    ("name", "largest"),
    [("training", 1000), ("prepare", 1000), ("distill", 0), ("distill", 1000), ("stage", 0)],
)
def test_without_room_one_line_says_so_and_the_same_command_goes_on(
    commands: dict[str, Command], name: str, largest: int, tmp_path: Path
) -> None:
    command = commands[name]
    ended = forked(lambda: command(tmp_path / "out"), tmp_path, largest_file=largest)
    assert ended.status == 2 and len(ended.errors) == 1, ended.output
    assert "cannot be written (" in ended.errors[0] and ended.errors[0].endswith("run the same command again")
    left = [path.name for path in (tmp_path / "out").rglob("*") if path.is_file()]
    assert not [name for name in left if ".part" in name or name in ("checkpoint_last.pt", "manifest.json")]
    assert not (tmp_path / "out" / "bin").exists()
    again = forked(lambda: command(tmp_path / "out"), tmp_path)
    assert again.status == 0, again.output


@pytest.mark.parametrize("command", ["score", "average"])
def test_what_single_commands_write_is_there_whole_or_not_at_all(
    tiny_teacher: Path, tmp_path: Path, command: str
) -> None:
    given, out = tmp_path / "given", tmp_path / "out"
    given.write_text("a b c d e\n" * 9)
    arguments = {
        "score": f"--sys {given} --ref {given} --tokenize 13a --out {out}",
        "average": f"--inputs {tiny_teacher} {tiny_teacher} --output {out}",
    }
    words = [command, *arguments[command].split()]
    ended = forked(lambda: main(words), tmp_path, largest_file=10)
    assert ended.status == 2, ended.output
    assert f"vqnat {command}: error: {out}: cannot be written (File too large); make room" in ended.errors[0]
    assert [path.name for path in tmp_path.iterdir()] == ["given"]
    assert forked(lambda: main(words), tmp_path).status == 0


def test_a_killed_filter_leaves_nothing_behind_for_the_next(tmp_path: Path) -> None:
    from vqnat_plugin.files import remove_parts, write_lines

    out = tmp_path / "text"
    ended = forked(lambda: write_lines(out, map(str, range(9**6))), tmp_path, kill_at=4)
    assert ended.status == -9 and len(list(tmp_path.iterdir())) == 1 and not out.exists()
    remove_parts(tmp_path)
    assert not list(tmp_path.iterdir())
