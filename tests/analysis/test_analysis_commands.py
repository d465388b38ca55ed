"""What all commands that look into a checkpoint share: mistakes in one line, a light start, the GPU."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from vqnat_plugin import machine
from vqnat_plugin.analysis import latent_model
from vqnat_plugin.commands.main import main

COMMANDS = ("diagnose", "inspect", "latents")


def complaint(capsys: pytest.CaptureFixture[str], *arguments: object) -> str:
    """The last line of a command that ends with status 2, and nothing like a traceback before it."""
    capsys.readouterr()
    with pytest.raises(SystemExit) as ended:
        main([str(each) for each in arguments])
    assert ended.value.code == 2
    shown = capsys.readouterr().err
    assert "Traceback" not in shown
    line = shown.splitlines()[-1]
    assert line.startswith(f"vqnat {arguments[0]}: error: ")
    return line


def changed(change: Callable[[dict[str, Any]], object]) -> Callable[[Path, Path], None]:
    """What writes a checkpoint that differs from a whole one."""

    def write(whole: Path, path: Path) -> None:
        state = torch.load(whole, weights_only=True)
        change(state)
        torch.save(state, path)

    return write


def rename_task(state: dict[str, Any]) -> None:
    state["cfg"]["task"] = {**state["cfg"]["task"], "_name": "image_vq"}


def drop_a_weight(state: dict[str, Any]) -> None:
    state["model"].pop(next(name for name in state["model"] if name.endswith("weight")))


def widen(state: dict[str, Any]) -> None:
    state["cfg"]["model"] = {**state["cfg"]["model"], "embed_dim": 48}


class Payload:
    def __reduce__(self) -> tuple[Any, tuple[str]]:
        return os.system, ("true",)


DAMAGES: dict[str, tuple[Callable[[Path, Path], object], str]] = {
    "truncated": (
        lambda whole, path: path.write_bytes(whole.read_bytes()[:-1000]),
        "truncated, or not a checkpoint",
    ),
    "empty": (lambda _, path: path.write_bytes(b""), "truncated, or not a checkpoint"),
    "garbage": (lambda _, path: path.write_bytes(bytes(range(256)) * 40), "truncated, or not a checkpoint"),
    "text": (lambda _, path: path.write_text("hello\n"), "truncated, or not a checkpoint"),
    "tensor": (lambda _, path: torch.save(torch.zeros(3), path), "not a checkpoint"),
    "other dictionary": (lambda _, path: torch.save({"weights": 1}, path), "not a checkpoint"),
    "code": (lambda _, path: torch.save({"model": Payload()}, path), "refused"),
    "no configuration": (changed(lambda state: state.pop("cfg")), "not a checkpoint"),
    "no weights": (changed(lambda state: state.pop("model")), "not a checkpoint"),
    "no model in it": (changed(lambda state: state["cfg"].pop("model")), "not a checkpoint"),
    "no options of a task": (changed(lambda state: state["cfg"].pop("task")), "not a checkpoint"),
    "empty options": (changed(lambda state: state["cfg"].update(model={})), "not a checkpoint"),
    "a weight is missing": (changed(drop_a_weight), "cannot be rebuilt"),
    "other sizes": (changed(widen), "cannot be rebuilt"),
    "image model": (changed(rename_task), "--task image_vq cannot drive"),
}


# All of them read a checkpoint in one way.
@pytest.mark.parametrize(
    ("command", "damage"),
    [(COMMANDS[0], damage) for damage in DAMAGES] + [(command, "text") for command in COMMANDS[1:]],
)
def test_checkpoints_that_will_not_do(
    command: str,
    damage: str,
    tiny_student: Path,
    tiny_corpus: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    write, message = DAMAGES[damage]
    write(tiny_student, tmp_path / "odd.pt")
    line = complaint(capsys, command, tmp_path / "odd.pt", "--data", tiny_corpus, "--out", tmp_path / "out")
    assert f"{tmp_path / 'odd.pt'}: " in line and message in line
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("command", COMMANDS)
def test_other_models_and_data(
    command: str,
    tiny_student: Path,
    tiny_teacher: Path,
    image_autoencoder: Path,
    tiny_corpus: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    out = ("--out", tmp_path / "out")
    line = complaint(capsys, command, tiny_teacher, "--data", tiny_corpus, *out)
    assert "is no latent translation model" in line and "--task translation" in line
    line = complaint(capsys, command, image_autoencoder, "--data", tiny_corpus, *out)
    assert "is no latent translation model" in line and "--task image_vq" in line
    line = complaint(capsys, command, tiny_student, "--data", tmp_path, *out)
    assert f"{tmp_path}: has no dict.en.txt" in line
    line = complaint(capsys, command, tiny_student, "--data", tiny_corpus, "--gen-subset", "test7", *out)
    assert "no subset 'test7'" in line
    # The words of another dictionary are not those of the model.
    other = tmp_path / "other"
    other.mkdir()
    for file in tiny_corpus.iterdir():
        content = file.read_bytes()
        (other / file.name).write_bytes(content + b"more 1\n" if file.name.startswith("dict.") else content)
    line = complaint(capsys, command, tiny_student, "--data", other, *out)
    assert f"which has other symbols than {other}" in line


@pytest.mark.parametrize("command", COMMANDS)
def test_damaged_data(
    command: str, tiny_student: Path, tiny_corpus: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(tiny_corpus, tmp_path / "bin")
    damaged = tmp_path / "bin" / "valid.en-de.de.bin"
    damaged.write_bytes(damaged.read_bytes()[:40])
    line = complaint(capsys, command, tiny_student, "--data", tmp_path / "bin", "--gen-subset", "valid")
    assert f"{tmp_path / 'bin'}: subset 'valid' is damaged" in line


@pytest.mark.parametrize("kind", ["latent", "image", "truncated", "other dictionary"])
def test_teachers_that_will_not_do(
    kind: str,
    tiny_student: Path,
    tiny_teacher: Path,
    image_autoencoder: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    teacher, message = tmp_path / "teacher.pt", f"--teacher {tmp_path / 'teacher.pt'}: "
    if kind == "latent":
        teacher, message = tiny_student, f"--teacher {tiny_student}: is no autoregressive model"
    elif kind == "image":
        teacher, message = image_autoencoder, f"{image_autoencoder}: "
    elif kind == "truncated":
        teacher.write_bytes(tiny_teacher.read_bytes()[:-1000])
        message = f"{teacher}: truncated, or not a checkpoint"
    else:
        state = torch.load(tiny_teacher, weights_only=True)
        for name in ("encoder.embed_tokens.weight", "decoder.embed_tokens.weight"):
            state["model"][name] = state["model"][name][:-1]
        torch.save(state, teacher)
    arguments = (tiny_student, "--gen-subset", "valid", "--tokenizer", "space", "--out", tmp_path / "out")
    line = complaint(capsys, "diagnose", *arguments, "--teacher", teacher)
    assert message in line and "--rescore-with" not in line


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize("cpu", [True, False])
def test_a_gpu_is_used_where_there_is_one(
    command: str,
    cpu: bool,
    tiny_student: Path,
    tiny_corpus: Path,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    """The model and every batch go to the device that was chosen; here they stay where they are."""
    chosen: list[str] = []

    def to(thing: Any, device: torch.device) -> Any:
        chosen.append(device.type)
        return thing

    monkeypatch.setattr(machine, "available_device", lambda cpu=False: torch.device("cpu" if cpu else "cuda"))
    monkeypatch.setattr(torch.nn.Module, "to", to)
    monkeypatch.setattr(latent_model, "moved", to)
    monkeypatch.setattr("vqnat_plugin.analysis.codes.moved", to)
    words = [command, str(tiny_student), "--data", str(tiny_corpus), "--gen-subset", "valid"]
    words += ["--out", str(tmp_path / "out"), *(["--cpu"] if cpu else [])]
    assert main(words) == 0
    assert set(chosen) == {"cpu" if cpu else "cuda"} and len(chosen) >= 2


@pytest.mark.parametrize("there", [True, False])
def test_device(there: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: there)
    assert machine.available_device().type == ("cuda" if there else "cpu")
    assert machine.available_device(cpu=True).type == "cpu"


def test_batches_are_moved_whole() -> None:
    sample = {"id": torch.arange(2), "net_input": {"src_tokens": torch.ones(2, 3)}, "nsentences": 2}
    found = latent_model.moved(sample, torch.device("meta"))
    assert found["id"].device.type == found["net_input"]["src_tokens"].device.type == "meta"
    assert found["nsentences"] == 2 and sample["id"].device.type == "cpu"


HEAVY = (
    "torch",
    "torchvision",
    "fairseq",
    "numpy",
    "matplotlib",
    "sklearn",
    "sacrebleu",
    "sacremoses",
    "omegaconf",
    "tqdm",
)
LIGHT = {
    **{f"{command} help": ([command, "--help"], 0, "usage: ") for command in COMMANDS},
    **{
        f"{command} typo": ([command, "x.pt", "--bacth-size", "3"], 2, "did you mean --batch-size?")
        for command in COMMANDS
    },
    **{
        f"{command} missing": ([command, "x.pt", "--data", "nowhere"], 2, "checkpoint x.pt: no such file")
        for command in COMMANDS
    },
    "prepare help": (["prepare", "--help"], 0, "usage: "),
    "prepare typo": (["prepare", "--date", "x"], 2, "did you mean --data?"),
    "prepare missing": (["prepare", "--data", "nowhere", "--out", "o"], 2, "nowhere: no such file or folder"),
    "average help": (["average", "--help"], 0, "usage: "),
    "average typo": (["average", "--input", "a.pt"], 2, "did you mean --inputs?"),
    "average missing": (["average", "--inputs", "a.pt", "--output", "o"], 2, "a.pt: no such file or folder"),
    "distill help": (["distill", "--help"], 0, "usage: "),
    "distill typo": (["distill", "--temprature", "1"], 2, "did you mean --temperature?"),
    "distill missing": (
        ["distill", "--data", "nowhere", "--teacher", "t.pt", "--out", "o"],
        2,
        "--data nowhere: no such folder",
    ),
    "distill missing teacher": (
        ["distill", "--data", ".", "--teacher", "t.pt", "--out", "o"],
        2,
        "--teacher t.pt: no such file",
    ),
    **{
        f"images {command} help": (["images", command, "--help"], 0, "usage: ")
        for command in ("evaluate", "encode", "decode")
    },
    **{
        f"images {' '.join(words)}": (["images", *words], 2, message)
        for words, message in (
            (["evaluate", "none.pt", "--data", "."], "checkpoint none.pt: no such file"),
            (["evaluate", "file", "--data", "none"], "--data none: no such folder"),
            (["evaluate", "file", "--data", ".", "--imges", "4"], "did you mean --images?"),
            (["encode", "none.pt", ".", "codes.npz"], "checkpoint none.pt: no such file"),
            (["encode", "file", "none", "codes.npz"], "images none: no such folder"),
            (["decode", "file", "none.npz", "out"], "codes none.npz: no such file"),
        )
    },
}


def test_light_answers_of_these_commands(tmp_path: Path) -> None:
    """Help, a typing error and a missing file need none of the packages that take long to import."""
    code = (
        "import contextlib, io, json, sys\n"
        "from vqnat_plugin.commands.main import main\n"
        "for name, (words, status, text) in json.loads(sys.argv[1]).items():\n"
        "    shown = io.StringIO()\n"
        "    with contextlib.redirect_stdout(shown), contextlib.redirect_stderr(shown):\n"
        "        try:\n            ended = main(words)\n"
        "        except SystemExit as error:\n            ended = error.code\n"
        "    assert ended == status and text in shown.getvalue(), (name, ended, shown.getvalue())\n"
        "    assert status == 0 or shown.getvalue().count('\\n') == 1, shown.getvalue()\n"
        "    heavy = [each for each in json.loads(sys.argv[2]) if each in sys.modules]\n"
        "    assert not heavy, (name, heavy)\n"
    )
    (tmp_path / "file").touch()
    command = [sys.executable, "-c", code, json.dumps(LIGHT), json.dumps(HEAVY)]
    done = subprocess.run(command, cwd=tmp_path, text=True, stderr=subprocess.PIPE, timeout=60)
    assert done.returncode == 0, done.stderr


def test_importing_fairseq_later_leaves_logging_alone() -> None:
    """Commands import it when they run: nobody's messages may appear among theirs because of that."""
    code = (
        "import logging, vqnat_plugin\n"
        "before = logging.root.level, logging.root.handlers[:], logging.root.manager.disable\n"
        "import fairseq.data\n"
        "assert (logging.root.level, logging.root.handlers, logging.root.manager.disable) == before\n"
    )
    done = subprocess.run([sys.executable, "-c", code], text=True, capture_output=True, timeout=120)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
