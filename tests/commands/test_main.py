"""The command `vqnat`: its table of subcommands, light start, and mistakes in one line."""

import json
import os
import resource
import subprocess
import sys
from pathlib import Path

import pytest

import vqnat_plugin
from vqnat_plugin import errors, fairseq_commands
from vqnat_plugin.commands import main as vqnat
from vqnat_plugin.options import option_fields

PACKAGE = Path(vqnat_plugin.__file__).parent
HEAVY = ("torch", "fairseq", "numpy", "torchvision", "matplotlib", "sacrebleu", "omegaconf")


def complaint(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    with pytest.raises(SystemExit) as ended:
        vqnat.main(arguments)
    assert ended.value.code == 2
    (line,) = capsys.readouterr().err.splitlines()
    return line


def test_every_file_is_a_subcommand_and_the_other_way_round() -> None:
    files = {path.stem for path in (PACKAGE / "commands").glob("*.py")} - {"__init__", "main"}
    assert {name.replace(" ", "_") for name in vqnat.COMMANDS} == files


@pytest.mark.parametrize("name", vqnat.COMMANDS)
def test_help_of(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        vqnat.main([*name.split(), "--help"])
    assert ended.value.code == 0
    shown = capsys.readouterr().out
    assert shown.startswith(f"usage: vqnat {name}") and vqnat.summary(vqnat.load(name)) in shown
    behind = {"stage": "[-- COMMAND ...]", "train": "[ARGUMENTS ...]", "generate": "[ARGUMENTS ...]"}
    assert shown.split("\n\n")[0].endswith(behind.get(name, ""))
    # Two commands pass on what they do not know.
    program = {"train": "vqnat train", "generate": "vqnat generate"}.get(name, f"vqnat {name}: error: ")
    assert complaint(capsys, *name.split(), "--no-such-option=1").startswith(program)


def test_one_name_for_one_option() -> None:
    """An option that several commands have is of one type in all of them."""
    types: dict[str, dict[str, list[str]]] = {}
    for name in vqnat.COMMANDS:
        for field, kind in option_fields(vqnat.load(name).Options):
            if not field.metadata["positional"]:
                plain = str(kind).replace(" | None", "").replace("<class '", "").replace("'>", "")
                # Several teachers are joined by ':', so that they are no single path.
                plain = plain.replace("pathlib.Path", "str")
                if (name, field.name) == ("prepare", "data"):
                    # There it may be two files.
                    plain = plain.removeprefix("tuple[").removesuffix(", ...]")
                types.setdefault(field.name, {}).setdefault(plain, []).append(name)
    assert {option: kinds for option, kinds in types.items() if len(kinds) > 1} == {}


@pytest.mark.parametrize(
    ("words", "unbuffered"),
    [
        (["--help"], {}),
        (["--help"], {"PYTHONUNBUFFERED": "1"}),
        (["--version"], {}),
        (["--version"], {"PYTHONUNBUFFERED": "1"}),
        # Unbuffered, argparse keeps to itself that nobody reads it.
        (["prepare", "--help"], {}),
    ],
)
def test_answers_for_nobody(words: list[str], unbuffered: dict[str, str]) -> None:
    read, write = os.pipe()
    os.close(read)
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}
    done = subprocess.run(
        [sys.executable, "-m", "vqnat_plugin", *words],
        stdout=write,
        stderr=subprocess.PIPE,
        env={**environment, **unbuffered},
        check=False,
    )
    os.close(write)
    assert (done.returncode, done.stderr) == (141, b"")


@pytest.mark.parametrize("unbuffered", [{}, {"PYTHONUNBUFFERED": "1"}])
def test_answers_without_room(unbuffered: dict[str, str]) -> None:
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}
    with open("/dev/full", "wb") as full:
        done = subprocess.run(
            [sys.executable, "-m", "vqnat_plugin", "--version"],
            stdout=full,
            stderr=subprocess.PIPE,
            env={**environment, **unbuffered},
            check=False,
        )
    assert (done.returncode, done.stderr) == (2, b"vqnat: error: No space left on device\n")


def test_overview(capsys: pytest.CaptureFixture[str]) -> None:
    assert vqnat.main(["--help"]) == 0
    shown = capsys.readouterr().out
    assert all(f"  {name} " in shown for name in vqnat.COMMANDS)
    assert vqnat.main(["--version"]) == 0
    assert capsys.readouterr().out == f"vqnat {vqnat_plugin.__version__}\n"


def test_unknown_commands(capsys: pytest.CaptureFixture[str]) -> None:
    assert complaint(capsys, "trian") == "vqnat: error: no command 'trian'; did you mean 'train'?"
    assert "needs one of evaluate, encode, decode" in complaint(capsys, "images")
    with pytest.raises(SystemExit) as ended:
        vqnat.main(["images", "--help"])
    assert ended.value.code == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.partition(":")[0].split()[-1] for line in lines] == ["evaluate", "encode", "decode"]


@pytest.mark.parametrize(
    ("arguments", "status"),
    [
        (["--help"], 0),
        (["prepare", "--help"], 0),
        (["distill", "--bema", "4"], 2),
        (["diagnose", "none.pt"], 2),
        (["benchmark", ".", "--out", "none", "--system", "a", "none.pt"], 2),
    ],
)
def test_light_answers(arguments: list[str], status: int) -> None:
    """Help, a typing error and a missing file cost less than half a second of CPU time."""
    code = (
        "import json, sys\nfrom vqnat_plugin.commands.main import main\n"
        "try:\n    status = main(sys.argv[1:])\nexcept SystemExit as ended:\n    status = ended.code\n"
        "print(json.dumps(sorted(sys.modules)), file=open(3, 'w'))\nsys.exit(status)"
    )
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run(
        ["bash", "-c", '"$0" -c "$1" "${@:2}" 3>&2 >/dev/null 2>/dev/null', sys.executable, code, *arguments],
        stderr=subprocess.PIPE,
        text=True,
        timeout=60,
    )
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert done.returncode == status
    loaded = json.loads(done.stderr)
    assert not [name for name in loaded if name.partition(".")[0] in HEAVY]
    assert after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime < 0.5


@pytest.mark.parametrize(
    ("error", "line", "status"),
    [
        (errors.DataError("file:\n  broken"), "file: broken", 2),
        (FileNotFoundError(2, "No such file or directory", "x"), "x: No such file or directory", 2),
        (FileNotFoundError(2, "No such file or directory", "x\ny"), "x y: No such file or directory", 2),
        (OSError(28, "No space left on device"), "No space left on device", 2),
        (ModuleNotFoundError("no", name="torchvision.io"), "pip install '.[images]' where the source is", 2),
        (ModuleNotFoundError("no", name="fairseq"), "pip install --no-deps ve-fairseq", 2),
        (KeyboardInterrupt(), "interrupted", 130),
    ],
)
def test_edge(error: BaseException, line: str, status: int, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended, errors.one_line("vqnat x"):
        raise error
    (shown,) = capsys.readouterr().err.splitlines()
    assert ended.value.code == status and shown.startswith("vqnat x: error: ") and line in shown


def test_after_ctrl_c_only_what_goes_on_says_so(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    def interrupted(options: object) -> None:
        raise KeyboardInterrupt

    for name in ("stage", "score"):
        monkeypatch.setattr(vqnat.load(name), "run", interrupted)
    (tmp_path / "a").touch()
    for words in ("stage a --out {}/b -- true", "score --sys {}/a --ref {}/a"):
        with pytest.raises(SystemExit) as ended:
            vqnat.main(words.replace("{}", str(tmp_path)).split())
        assert ended.value.code == 130
    first, second = capsys.readouterr().err.splitlines()
    assert "goes on from what is done" in first and second == "vqnat score: error: interrupted"


@pytest.mark.parametrize(("program", "goes_on"), [("vqnat train", True), ("fairseq-generate", False)])
def test_after_ctrl_c_the_worker_of_a_training_says_the_same(
    program: str, goes_on: bool, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(fairseq_commands, "program", lambda: program)
    with pytest.raises(SystemExit) as ended:
        fairseq_commands._show(KeyboardInterrupt, KeyboardInterrupt(), None)
    assert ended.value.code == 130
    assert ("goes on from what is done" in capfd.readouterr().err) == goes_on


@pytest.mark.parametrize("closed", ["2>&-", ">&- 2>&-", "<&- >&- 2>&-"])
def test_what_is_said_to_nobody_goes_nowhere(closed: str, tmp_path: Path) -> None:
    """The first files that are opened would have the numbers of what is closed."""
    (tmp_path / "a").write_text("one\n")
    (tmp_path / "two").write_text("one\ntwo\n")
    command = f"exec {sys.executable} -m vqnat_plugin score --sys a --ref two --out b {closed}"
    done = subprocess.run(["bash", "-c", command], cwd=tmp_path, stdout=subprocess.PIPE, check=False)
    assert (done.returncode, done.stdout) == (2, b"") and (tmp_path / "a").read_text() == "one\n"
    assert {path.name for path in tmp_path.iterdir()} == {"a", "two"}


@pytest.mark.parametrize("name", ["translate", "generate"])
def test_a_filter_says_nothing_after_ctrl_c(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupted(options: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(vqnat.load(name), "run", interrupted)
    with pytest.raises(SystemExit) as ended:
        vqnat.main([name, *([str(tmp_path)] if name == "translate" else [])])
    assert ended.value.code == 130 and capsys.readouterr() == ("", "")


def test_faults_of_the_program_keep_their_traceback() -> None:
    with pytest.raises(ZeroDivisionError), errors.one_line("vqnat x"):
        _ = 1 / 0


def test_what_does_not_fit_into_memory_is_one_line() -> None:
    import torch

    for size in (1 << 50, 1 << 62):
        with pytest.raises(RuntimeError) as raised:
            torch.zeros(size)
        explained = errors.explain(raised.value)
        assert explained is not None and explained[1] == errors.MISTAKE
        assert "not fit into memory; lower a size" in explained[0]
    assert errors.explain(MemoryError()) == (
        "what is asked for does not fit into memory; lower a size, such as that of the batch or of the model",
        errors.MISTAKE,
    )
    on_a_gpu = torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB. GPU 0 has a total of")
    assert errors.explain(on_a_gpu) == errors.explain(MemoryError())
    assert errors.explain(RuntimeError("another fault")) is None
