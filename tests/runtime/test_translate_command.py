"""`vqnat translate`: a line for a line, whatever comes."""

import io
import os
import select
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from vqnat_plugin.commands.main import main
from vqnat_plugin.runtime import Translator

LINES = ["Mann schläft!", "", "Hund", "Café Hund schläft"] * 10


def translated(
    model: Path, text: bytes, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> str:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(text)))
    capsys.readouterr()
    main(["translate", str(model)])
    out, err = capsys.readouterr()
    assert err == ""
    return out


def test_lines_in_are_lines_out(
    german_exported: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    expected = "".join(f"{line}\n" for line in Translator(german_exported).translate(LINES))
    for start, end, last in (("", "\n", ""), ("\ufeff", "\r\n", "\r\n")):
        text = (start + end.join(LINES) + last).encode()
        assert translated(german_exported, text, monkeypatch, capsys) == expected
    assert translated(german_exported, b"", monkeypatch, capsys) == ""
    assert translated(german_exported, b"\n\n", monkeypatch, capsys) == "\n\n"


def test_text_is_utf_8_whatever_the_encoding_of_the_terminal(
    german_exported: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "in").write_text("Café ☃ Mann\n" * 3, encoding="utf-8")
    out = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    monkeypatch.setattr(sys, "stdout", out)
    main(["translate", str(german_exported), "--input", str(tmp_path / "in"), "--min-len", "9"])
    found = out.buffer.getvalue().decode()  # type: ignore[attr-defined]
    assert found.splitlines() == Translator(german_exported).translate(["Café ☃ Mann"] * 3, min_len=9)


Filter = Callable[..., subprocess.Popen[bytes]]


@pytest.fixture
def started(german_exported: Path) -> Iterator[Filter]:
    """Starts the command between pipes, in a group of its own."""
    processes: list[subprocess.Popen[bytes]] = []

    def start(*words: str, **environment: str) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-m", "vqnat_plugin", "translate", str(german_exported), *words]
        pipes = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.PIPE)
        environment = {**os.environ, **environment}
        processes.append(subprocess.Popen(command, **pipes, env=environment, start_new_session=True))  # type: ignore[call-overload]
        return processes[-1]

    yield start
    for process in processes:
        with process:
            process.kill()


def ask(process: subprocess.Popen[bytes], line: str) -> str:
    """The answer to a line, while the pipe stays open."""
    assert process.stdin and process.stdout
    process.stdin.write(f"{line}\n".encode())
    process.stdin.flush()
    return process.stdout.readline().decode().removesuffix("\n")


def end(process: subprocess.Popen[bytes]) -> tuple[int, bytes, bytes]:
    """Its status and what was still to be read, on standard output and standard error."""
    out, err = process.communicate(timeout=60)
    return process.returncode, out, err


def workers(process: subprocess.Popen[bytes]) -> list[int]:
    """The processes that it has started to translate."""
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    return [int(each) for each in children if b"spawn_main" in Path(f"/proc/{each}/cmdline").read_bytes()]


JOBS = pytest.mark.parametrize("jobs", ["1", "2"])


@JOBS
def test_what_has_arrived_is_translated(jobs: str, german_exported: Path, started: Filter) -> None:
    process = started("--jobs", jobs)
    assert process.stdin
    expected = Translator(german_exported).translate(["Hund", "Mann schläft!", "Café"])
    assert [ask(process, "Hund"), ask(process, "Mann schläft!")] == expected[:2]
    # A line that has begun does not hold back those before it.
    process.stdin.write(b"Hund\nCaf")
    process.stdin.flush()
    assert process.stdout and process.stdout.readline().decode() == expected[0] + "\n"
    assert ask(process, "é") == expected[2]
    assert end(process) == (0, b"", b"")


@JOBS
def test_a_reader_may_go_away(jobs: str, started: Filter) -> None:
    process = started("--jobs", jobs)
    ask(process, "Hund")
    assert process.stdout
    process.stdout.close()
    process.stdout = None
    try:
        assert process.stdin
        process.stdin.write("".join(f"{line}\n" for line in LINES * 50).encode())
    except BrokenPipeError:
        process.stdin = None
    status, _, err = end(process)
    assert (status, err) == (141, b"")


@JOBS
def test_a_reader_may_be_gone_before_anything_is_written(
    jobs: str, german_exported: Path, tmp_path: Path
) -> None:
    """Where output waits in a buffer, as it does unless the environment says otherwise."""
    (tmp_path / "in").write_text("Hund\n")
    read, write = os.pipe()
    os.close(read)
    command = [sys.executable, "-m", "vqnat_plugin", "translate", str(german_exported)]
    command += ["--jobs", jobs, "--input", str(tmp_path / "in")]
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}
    done = subprocess.run(command, stdout=write, stderr=subprocess.PIPE, env=environment, check=False)
    os.close(write)
    assert (done.returncode, done.stderr) == (141, b"")


@JOBS
def test_ctrl_c_ends_everything_quietly(jobs: str, started: Filter) -> None:
    process = started("--jobs", jobs)
    ask(process, "Hund")
    children = workers(process)
    assert len(children) == (0 if jobs == "1" else 2)
    os.killpg(process.pid, signal.SIGINT)
    assert end(process) == (130, b"", b"")
    assert not any(Path(f"/proc/{child}").exists() for child in children)


def test_a_file_that_was_being_written_is_not_there_after_ctrl_c(started: Filter, tmp_path: Path) -> None:
    (tmp_path / "out").write_text("before")
    process = started("--output", str(tmp_path / "out"))
    # There is a part of it: the model is loaded, and lines are awaited.
    while len(list(tmp_path.iterdir())) == 1:
        assert process.poll() is None
    os.killpg(process.pid, signal.SIGINT)
    status, out, err = end(process)
    assert (status, out) == (130, b"") and b"Traceback" not in err
    assert [path.read_text() for path in tmp_path.iterdir()] == ["before"]


def test_a_killed_process_is_an_error(started: Filter) -> None:
    process = started("--jobs", "2")
    ask(process, "Hund")
    killed, other = workers(process)
    os.kill(killed, signal.SIGKILL)
    # It does not wait for the next line.
    assert process.wait(60) == 2
    status, out, err = end(process)
    assert (status, out) == (2, b"") and err.startswith(b"vqnat translate: error: one of --jobs 2 was killed")
    assert len(err.splitlines()) == 1 and not Path(f"/proc/{other}").exists()


def test_no_process_outlives_the_command(started: Filter) -> None:
    process = started("--jobs", "2")
    ask(process, "Hund")
    children = [os.pidfd_open(child) for child in workers(process)]
    process.kill()
    for child in children:
        assert select.select([child], [], [], 60)[0]
        os.close(child)


def test_text_is_utf_8_in_the_plainest_terminal(german_exported: Path, started: Filter) -> None:
    process = started("--jobs", "2", LC_ALL="C", PYTHONUTF8="0", PYTHONCOERCECLOCALE="0")
    assert ask(process, "Café ☃ Mann") == Translator(german_exported).translate(["Café ☃ Mann"])[0]


def test_several_processes_write_what_one_writes(
    german_exported: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text = [f"{line} {'Hund ' * (number % 9)}".strip() for number, line in enumerate(LINES * 24)]
    (tmp_path / "in").write_text("\n".join(text))
    words = ["translate", str(german_exported), "--input", str(tmp_path / "in")]
    for jobs in "12":
        main([*words, "--output", str(tmp_path / jobs), "--jobs", jobs])
    assert (tmp_path / "1").read_text() == (tmp_path / "2").read_text()
    assert len((tmp_path / "1").read_text().splitlines()) == len(text)
    capsys.readouterr()
    main([*words, "--split-sentences", "--jobs", "2"])
    assert len(capsys.readouterr().out.splitlines()) == len(text)


def test_speed_is_shown_beside_a_file(
    german_exported: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "in").write_text("\n".join(LINES))
    words = ["translate", str(german_exported), "--input", str(tmp_path / "in")]
    main([*words, "--candidates", "2"])
    out, err = capsys.readouterr()
    assert len(out.splitlines()) == len(LINES) and err == ""
    main([*words, "--candidates", "2", "--output", str(tmp_path / "out")])
    silent, err = capsys.readouterr()
    assert (tmp_path / "out").read_text() == out
    assert silent == "" and "vqnat translate: 40 sentences in" in err and "sentences/s" in err
    main([*words, "--candidates", "2", "--n-best", "2"])
    rows = [line.split("\t") for line in capsys.readouterr().out.splitlines()]
    assert [row[3] for row in rows if row[1] == "1"] == out.splitlines()


def test_mistakes_are_one_line(
    german_exported: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def complaint(*words: str, text: bytes = b"Hund\n") -> str:
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(text)))
        with pytest.raises(SystemExit, match="2"):
            main(["translate", *words])
        [line] = capsys.readouterr().err.splitlines()
        return line

    model = str(german_exported)
    assert "line 2: not UTF-8" in complaint(model, text=b"Hund\nsch\xf6n\n")
    assert "line 2 has" in complaint(model, text=b"Hund\n" + b"Hund " * 5000)
    assert "--input nowhere: no such file" in complaint(model, "--input", "nowhere")
    assert "no such folder" in complaint(str(tmp_path / "nowhere"))
    assert "is no exported model" in complaint(str(tmp_path))
    assert "--threads 0: needs at least 1" in complaint(model, "--threads", "0")
    assert "--candidates 0: needs at least 1" in complaint(model, "--candidates", "0")
    assert "--jobs 0: needs at least 1" in complaint(model, "--jobs", "0")
    assert "--n-best 2: needs --candidates of as much" in complaint(model, "--n-best", "2")
    line = complaint(model, "--candidates", "4", "--n-best", "2", "--verify")
    assert "--n-best 2: --verify leaves one translation, leave --n-best out" in line
    assert "--lenpen 1000.0: needs a value from -50 to 50" in complaint(model, "--lenpen", "1000")
    line = complaint(model, "--rescore")
    assert "--rescore: one candidate leaves nothing to choose; needs --candidates 2 or more" in line
    line = complaint(model, "--n-best", "1", "--split-sentences")
    assert "--n-best 1: goes by sentences, leave --split-sentences out" in line
    assert "is no exported model" in complaint(str(tmp_path), "--jobs", "2")
    assert "line 2 has" in complaint(model, "--jobs", "2", text=b"Hund\n" + b"Hund " * 5000)
