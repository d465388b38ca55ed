"""Lines in, lines out, whatever the lines, the files and the terminal."""

import io
import os
import sys
import threading
from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vqnat_plugin.errors import DataError, UsageError
from vqnat_plugin.line_filter import Answer, Input, check_files, in_turn, run_filter


def shout(lines: Sequence[str], before: int) -> Answer:
    return Answer([line.upper() for line in lines], len(lines))


@given(st.lists(st.binary().filter(lambda line: b"\n" not in line)), st.booleans())
def test_lines_are_counted(tmp_path_factory: pytest.TempPathFactory, lines: list[bytes], ended: bool) -> None:
    file = tmp_path_factory.getbasetemp() / "counted"
    content = b"".join(line + b"\n" for line in lines) + (b"" if ended else b"end")
    file.write_bytes(content)
    assert Input(str(file)).count() == len(lines) + (not ended)


def filtered(source: Input, output: Path | None = None) -> None:
    run_filter("vqnat shout", source, output, in_turn(shout))


@given(
    st.lists(st.text(st.characters(exclude_characters="\n", exclude_categories=["Cs"]))),
    st.booleans(),
    st.integers(1, 50),
)
def test_as_many_lines_as_before(
    tmp_path_factory: pytest.TempPathFactory, lines: list[str], ended: bool, size: int
) -> None:
    folder = tmp_path_factory.getbasetemp()
    lines = ["first", *lines] if ended else ["first", *lines, "last"]
    text = "\n".join(lines) + "\n" * ended
    (folder / "shout.in").write_bytes(text.encode())
    source = Input(str(folder / "shout.in"), size)
    filtered(source, folder / "shout.out")
    expected = [line.removesuffix("\r").upper() for line in lines]
    assert (folder / "shout.out").read_bytes().decode().split("\n") == [*expected, ""]
    assert source.count() == len(lines)


def test_text_is_utf_8_whatever_the_encoding_of_the_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        sys, "stdin", io.TextIOWrapper(io.BytesIO("é\u2028☃\0\r\nx".encode()), encoding="ascii")
    )
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(io.BytesIO(), encoding="ascii"))
    filtered(Input("-"))
    assert sys.stdout.buffer.getvalue().decode() == "É\u2028☃\0\nX\n"  # type: ignore[attr-defined]


def test_what_comes_before_an_error_is_there(
    tmp_path: Path, capsysbinary: pytest.CaptureFixture[bytes]
) -> None:
    file, out = tmp_path / "in", tmp_path / "out"
    file.write_bytes(b"a\nb\nsch\xf6n\nc\n")
    with pytest.raises(DataError, match="in: line 3: not UTF-8"):
        filtered(Input(str(file)))
    assert capsysbinary.readouterr().out == b"A\nB\n"
    for before in (None, "untouched"):
        if before:
            out.write_text(before)
        with pytest.raises(DataError, match="line 3"):
            filtered(Input(str(file)), out)
        assert [path.name for path in tmp_path.iterdir() if path != out] == ["in"]
        assert (out.read_text() if out.exists() else None) == before

    def refuse(lines: Sequence[str], before: int) -> Answer:
        return Answer(lines[:1], 1, ["line 1 is short"], UsageError("line 2 is ill"))

    file.write_text("a\nb\n")
    with pytest.raises(UsageError, match="line 2 is ill"):
        run_filter("vqnat x", Input(str(file)), None, in_turn(refuse))
    found = capsysbinary.readouterr()
    assert found.out == b"a\n" and found.err.endswith(b"vqnat x: line 1 is short\n")


def test_devices_and_pipes_are_written_as_it_comes(tmp_path: Path) -> None:
    pipes = [tmp_path / "in", tmp_path / "out"]
    for pipe in pipes:
        os.mkfifo(pipe)
    found = []
    reader = threading.Thread(target=lambda: found.append(pipes[1].read_text()))
    writer = threading.Thread(target=lambda: pipes[0].write_text("a\nb"))
    for thread in (reader, writer):
        thread.start()
    check_files(*map(str, pipes[:1]), pipes[1])
    source = Input(str(pipes[0]))
    assert source.count() is None
    filtered(source, pipes[1])
    for thread in (reader, writer):
        thread.join()
    assert found == ["A\nB\n"] and pipes[1].is_fifo()


class Reluctant(io.RawIOBase):
    """An unbuffered stream: takes few bytes at a time, and after some, for now, none."""

    def __init__(self, room: int) -> None:
        self.taken, self.room = b"", room

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int | None:
        part = bytes(data[: min(3, self.room - len(self.taken))])
        self.taken += part
        return len(part) or None


def test_a_stream_that_takes_a_part_gets_the_rest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "in").write_text("first\nsecond\n")
    for room, taken in ((99, b"FIRST\nSECOND\n"), (4, b"FIRS")):
        stream = Reluctant(room)
        monkeypatch.setattr(sys, "stdout", SimpleNamespace(buffer=stream, isatty=lambda: False))
        with nullcontext() if room > 4 else pytest.raises(OSError, match="takes no more"):
            filtered(Input(str(tmp_path / "in")))
        assert stream.taken == taken


def test_speed_is_told_beside_a_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "in").write_text("a\nb\n")
    filtered(Input(str(tmp_path / "in")))
    assert capsys.readouterr() == ("A\nB\n", "")
    filtered(Input(str(tmp_path / "in")), tmp_path / "out")
    out, err = capsys.readouterr()
    assert out == "" and err.startswith("vqnat shout: 2 sentences in ") and err.endswith("sentences/s)\n")


class Terminal(io.StringIO):
    """A stream that a person looks at."""

    buffer = io.BytesIO()

    def isatty(self) -> bool:
        """It is one."""
        return True


@pytest.mark.parametrize(
    ("name", "terminals", "shown"),
    [
        ("in", ["stdin", "stderr"], True),
        ("in", ["stdin", "stdout", "stderr"], False),
        ("-", ["stdin", "stderr"], False),
        ("-", ["stderr"], True),
        ("-", [], False),
    ],
)
def test_progress_is_in_nobodys_way(
    name: str, terminals: list[str], shown: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "in").write_text("a\n")
    for stream in ("stdin", "stdout", "stderr"):
        made = Terminal() if stream in terminals else io.TextIOWrapper(io.BytesIO())
        monkeypatch.setattr(sys, stream, made)
    filtered(Input(str(tmp_path / "in") if name == "in" else name))
    sys.stderr.seek(0)
    assert ("sentences/s" in sys.stderr.read()) is shown


def test_files_are_checked_before_anything_is_loaded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UsageError, match="--input nowhere: no such file"):
        check_files("nowhere", None)
    with pytest.raises(UsageError, match=r"--input .*: is a folder"):
        check_files(str(tmp_path), None)
    with pytest.raises(UsageError, match=r"--output .*: is a folder"):
        check_files("-", tmp_path)
    monkeypatch.setattr(sys, "stdout", None)
    with pytest.raises(UsageError, match="standard output is closed"):
        check_files("-", None)
    with pytest.raises(UsageError, match="standard output is closed"):
        check_files("-", Path("/dev/stdout"))
    check_files("-", tmp_path / "out")
    monkeypatch.setattr(sys, "stdin", None)
    with pytest.raises(UsageError, match="--input -: standard input is closed"):
        check_files("-", None)
