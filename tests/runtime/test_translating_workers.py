"""Several processes do what one does; whatever happens to one of them, nothing hangs."""

import io
import os
import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest
from working import modules, shouting, unready

from vqnat_plugin.errors import DataError, UsageError, UserError
from vqnat_plugin.line_filter import Answer, Input, in_turn
from vqnat_plugin.runtime.workers import AHEAD, Workers

LINES = [f"line {number} {'x' * (number % 7)}" for number in range(200)]


def write(path: Path, *lines: str) -> str:
    path.write_text("".join(f"{line}\n" for line in lines))
    return str(path)


def test_order_is_kept_and_few_blocks_are_in_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    name = write(tmp_path / "in", *LINES)
    taken: list[int] = []

    class Counted(Input):
        def __iter__(self) -> Iterator[tuple[list[str], DataError | None]]:
            for number, block in enumerate(super().__iter__()):
                taken.append(number)
                yield block

    expected = list(in_turn(shouting())(Input(name, 50)))
    with Workers(3, shouting) as workers:
        found: list[Answer] = []
        for answer in workers.answers(Counted(name, 50)):
            found.append(answer)
            assert len(taken) <= len(found) + AHEAD * 3
        assert found == expected and len(found) > 20
        # They serve another input, of a stream without a descriptor; and nothing.
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO((tmp_path / "in").read_bytes())))
        assert list(workers.answers(Input("-", 50))) == expected
        assert list(workers.answers(Input(write(tmp_path / "empty")))) == []


def failure(path: Path, *lines: str) -> tuple[list[str], UserError]:
    """Lines that came, and the error behind them, where each line is a block."""
    came: list[str] = []
    with Workers(2, shouting) as workers, pytest.raises(UserError) as raised:
        for answer in workers.answers(Input(write(path, *lines), 1)):
            came += answer.lines
            if answer.error is not None:
                raise answer.error
    return came, raised.value


def test_a_process_that_ends_is_an_error(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    came, error = failure(tmp_path / "in", "a", "b", "die", *LINES)
    assert came == ["1 A", "2 B"][: len(came)]
    assert str(error) == "one of --jobs 2 was killed by signal 9; fewer need less memory"
    # Not at the start, as the packages for some texts.
    came, error = failure(tmp_path / "in", "a", "b", "lack", *LINES)
    assert came == ["1 A", "2 B"][: len(came)]
    assert isinstance(error, DataError) and "needs sacremoses" in str(error)
    assert capfd.readouterr().err == ""
    _, error = failure(tmp_path / "in", "fail")
    assert str(error) == "one of --jobs 2 failed, see above; fewer need less memory"


def test_errors_come_behind_the_lines_before(tmp_path: Path) -> None:
    came, error = failure(tmp_path / "in", "a", "b", "ill", *LINES)
    assert came == ["1 A", "2 B", "3 ILL"] and isinstance(error, UsageError)
    (tmp_path / "in").write_bytes(b"a\nb\n\xff\nc\n")
    with Workers(2, shouting) as workers:
        *before, last = workers.answers(Input(str(tmp_path / "in"), 1))
    assert [answer.lines for answer in before] == [["1 A"], ["2 B"]]
    assert isinstance(last.error, DataError) and "line 3: not UTF-8" in str(last.error)


def test_an_ill_line_of_a_pipe_that_stays_open_is_an_error_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    read, write = os.pipe()
    with open(read, "rb") as stream, open(write, "wb", buffering=0) as pipe:
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(stream))
        pipe.write(b"a\nb\n\xff\n")
        with Workers(2, shouting) as workers:
            *before, last = workers.answers(Input("-"))
    assert [line for answer in before for line in answer.lines] == ["1 A", "2 B"]
    assert isinstance(last.error, DataError) and "line 3: not UTF-8" in str(last.error)


@pytest.mark.parametrize(
    ("error", "kind", "line"),
    [
        (UsageError("--x 1: is wrong"), UsageError, "--x 1: is wrong"),
        (FileNotFoundError(2, "No such file or directory", "x"), DataError, "x: No such file or directory"),
        (ModuleNotFoundError("no", name="onnxruntime"), DataError, "needs onnxruntime"),
    ],
)
def test_what_one_cannot_begin_with_is_an_error(
    error: Exception, kind: type[UserError], line: str, tmp_path: Path
) -> None:
    with Workers(2, partial(unready, error)) as workers, pytest.raises(kind, match=line):
        list(workers.answers(Input(write(tmp_path / "in", *LINES), 50)))


def test_they_need_no_torch(german_exported: Path, tmp_path: Path) -> None:
    with Workers(1, partial(modules, german_exported)) as workers:
        [answer] = workers.answers(Input(write(tmp_path / "in", "Hund")))
    assert "numpy" in answer.lines and not {"torch", "fairseq", "omegaconf"} & set(answer.lines)
