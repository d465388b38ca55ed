"""Options as fields of a dataclass: the parser, the checks and the help that are made from them."""

import math
import os
import re
from dataclasses import dataclass
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vqnat_plugin.errors import UsageError
from vqnat_plugin.options import (
    FILE,
    FOLDER,
    LARGEST_INTEGER,
    build_parser,
    check,
    named_files,
    option,
    out_of_range,
    parse,
    words,
)


@dataclass(kw_only=True)
class Example:
    """One option of each kind."""

    source: Path = option(..., "what to read", positional=True, exists=FILE)
    out: Path | None = option(None, "where to write", metavar="DIR")
    count: int = option(3, "how many", least=1)
    share: float = option(0.5, "of 100%", least=0, below=1)
    scale: float = option(1.0, "a factor", above=0)
    shift: float = option(0.0, "any number")
    kind: str = option("soft", "which", choices=("soft", "hard"))
    fast: bool = option(False, "hurry")
    sizes: tuple[int, ...] = option((1, 32), "batch sizes", least=1)
    note: tuple[str, ...] = option((), "a remark", repeat=True)
    system: tuple[tuple[str, ...], ...] = option((), "a system", repeat=True)
    seed: int | None = option(None, "of the draw", short="-x", group="draw: how it is drawn")


def parsed(*arguments: str) -> Example:
    return parse(Example, build_parser(Example, "tool", "Does it."), arguments)


def complaint(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    """The one line of a mistake."""
    with pytest.raises(SystemExit) as ended:
        parsed(*arguments)
    assert ended.value.code == 2
    (line,) = capsys.readouterr().err.splitlines()
    return line


def test_values(tmp_path: Path) -> None:
    file = tmp_path / "a file"
    file.touch()
    found = parsed(str(file))
    assert found == Example(source=file)
    assert (found.count, found.sizes, found.out, found.seed, found.fast) == (3, (1, 32), None, None, False)
    words = "--count 7 --share 0 --kind hard --fast --sizes 4 8 --out o -x 5 --note a --note b"
    words += " --system one c.pt beam=4 --system two d.pt"
    found = parsed(str(file), *words.split())
    assert (found.count, found.share, found.kind, found.fast, found.sizes) == (7, 0.0, "hard", True, (4, 8))
    assert (found.out, found.seed, found.note) == (Path("o"), 5, ("a", "b"))
    assert found.system == (("one", "c.pt", "beam=4"), ("two", "d.pt"))


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["--count", "0"], "--count 0: needs at least 1"),
        (["--count", "many"], "--count: 'many': needs a whole number"),
        (["--count", "1" * 5000], "needs a whole number"),
        (["--count", "-" + "1" * 400], "needs at least 1"),
        (["--share", "1"], "--share 1.0: needs a value from 0 to below 1"),
        (["--share", "nan"], "--share nan: needs a value from 0 to below 1"),
        (["--scale", "inf"], "--scale inf: needs a value above 0"),
        (["--scale", "0"], "--scale 0.0: needs a value above 0"),
        (["--shift", "nan"], "--shift nan: needs a number"),
        (["--shift=-inf"], "--shift -inf: needs a number"),
        (["--kind", "warm"], "--kind warm: needs one of soft, hard"),
        (["--sizes", "4", "0"], "--sizes 0: needs at least 1"),
        (["--cuont", "3"], "unknown option '--cuont'; did you mean --count?"),
        (["--count=3", "more"], "'more': is one argument too many"),
        (["--coun", "3"], "unknown option '--coun'"),
    ],
)
def test_mistakes_are_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], expected: str
) -> None:
    (tmp_path / "file").touch()
    line = complaint(capsys, str(tmp_path / "file"), *arguments)
    assert line.startswith("tool: error: ") and expected in line and line.endswith("(see tool --help)")


def test_missing_files_and_arguments(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert f"source {tmp_path / 'none'}: no such file" in complaint(capsys, str(tmp_path / "none"))
    assert f"source {tmp_path}: is no file" in complaint(capsys, str(tmp_path))
    assert "required: PATH" in complaint(capsys)
    # What was mistyped comes before what is missing because of it.
    assert "unknown option '--soruce'" in complaint(capsys, "--soruce", "x")


def test_folder_has_to_be_one(tmp_path: Path) -> None:
    @dataclass
    class WithFolder:
        data: Path = option(tmp_path, "data", exists=FOLDER)

    check(WithFolder())
    with pytest.raises(UsageError, match=r"--data .*nowhere: no such folder"):
        check(WithFolder(tmp_path / "nowhere"))


def test_what_is_written_has_a_place(tmp_path: Path) -> None:
    @dataclass(kw_only=True)
    class Writing:
        out: Path = option(tmp_path, "folder", writes=FOLDER)
        log: Path = option(tmp_path / "log", "file", writes=FILE)

    file = tmp_path / "file"
    file.touch()
    for good in (Writing(), Writing(out=tmp_path / "a" / "b", log=file), Writing(log=Path("/dev/null"))):
        check(good)
    for bad, message in (
        (Writing(out=file), f"--out {file}: is a file, needs a folder"),
        (Writing(out=file / "a"), f"--out {file / 'a'}: needs a folder where {file} is"),
        (Writing(log=tmp_path), f"--log {tmp_path}: is a folder, needs a file"),
        (Writing(log=file / "a" / "b"), f"needs a folder where {file} is"),
        (Writing(log=tmp_path / ("n" * 300)), "is no name of a file"),
    ):
        with pytest.raises(UsageError, match=re.escape(message)):
            check(bad)


def test_a_file_is_replaced_in_its_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    @dataclass(kw_only=True)
    class Writing:
        log: Path = option(tmp_path, "file", writes=FILE)

    file = tmp_path / "folder" / "file"
    file.parent.mkdir()
    file.touch()
    monkeypatch.setattr(os, "access", lambda place, _: Path(place) != file.parent)
    with pytest.raises(UsageError, match=f"--log {file}: nothing can be written in {file.parent}"):
        check(Writing(log=file))
    check(Writing(log=Path("/dev/null")))


def test_numbers_have_64_bits() -> None:
    assert not out_of_range(LARGEST_INTEGER) and not out_of_range(-LARGEST_INTEGER) and not out_of_range(1e30)
    assert out_of_range(LARGEST_INTEGER + 1) == f"needs at most {LARGEST_INTEGER}"
    assert out_of_range(10**20, least=1, most=7) == "needs a value from 1 to 7"
    assert out_of_range(0, least=1, most=7) == "needs at least 1"
    assert out_of_range(float("nan"), above=0, below=2) == "needs a value above 0 and below 2"


def test_combinations_are_checked_by_the_dataclass(capsys: pytest.CaptureFixture[str]) -> None:
    @dataclass(kw_only=True)
    class Pair:
        low: int = option(0, "low")
        high: int = option(1, "high")

        def check(self) -> None:
            if self.low > self.high:
                raise UsageError(f"--low {self.low}: is above --high {self.high}")

    with pytest.raises(SystemExit):
        parse(Pair, build_parser(Pair, "pair", "A pair."), ["--low", "3"])
    assert capsys.readouterr().err == "pair: error: --low 3: is above --high 1 (see pair --help)\n"


def test_rest_takes_what_is_not_known() -> None:
    @dataclass(kw_only=True)
    class Passing:
        workers: int | None = option(None, "processes", least=1)
        arguments: tuple[str, ...] = option((), "passed on", rest=True)

    words = ["data", "--workers", "2", "--arch", "vq_nat_em", "--lr", "[0.1]"]
    found = parse(Passing, build_parser(Passing, "pass", "Passes."), words)
    assert found.workers == 2 and found.arguments == ("data", "--arch", "vq_nat_em", "--lr", "[0.1]")


def test_help_names_defaults() -> None:
    text = " ".join(build_parser(Example, "tool", "Does it.").format_help().split())
    assert "how many (default: 3)" in text and "batch sizes (default: 1 32)" in text
    assert "any number (default: 0.0)" in text and "hurry (" not in text
    assert "of 100% (default: 0.5)" in text and "{soft,hard}" in text
    assert "draw: how it is drawn -x N, --seed N of the draw" in text and "default: None" not in text


@given(st.floats(allow_nan=True, allow_infinity=True))
def test_a_number_passes_if_and_only_if_it_is_in_range(value: float) -> None:
    @dataclass
    class Number:
        share: float = option(0.5, "a share", least=0, below=1)

    if math.isfinite(value) and 0 <= value < 1:
        check(Number(value))
    else:
        with pytest.raises(UsageError, match="--share"):
            check(Number(value))


def test_rest_behind_two_dashes(capsys: pytest.CaptureFixture[str]) -> None:
    @dataclass(kw_only=True)
    class Wrapper:
        """Something that runs a command."""

        name: str | None = option(None, "of it", positional=True)
        out: Path = option(Path(), "folder")
        command: tuple[str, ...] = option((), "what is run", rest="--")

    parser = build_parser(Wrapper, "tool", "Does it.")
    assert parse(Wrapper, parser, ["x", "--out", "o"]) == Wrapper(name="x", out=Path("o"))
    words = ("run", "--out", "y", "--bogus", "--", "-x")
    assert parse(Wrapper, parser, ["x", "--", *words]) == Wrapper(name="x", command=words)
    for arguments in (["x", "--bogus", "--", "run"], ["x", "run", "--", "--out"]):
        with pytest.raises(SystemExit):
            parse(Wrapper, parser, arguments)
        assert arguments[1] in capsys.readouterr().err


def test_words_are_the_command_line_again(tmp_path: Path) -> None:
    file = tmp_path / "a b"
    file.touch()
    line = ["--shift=-2.5", "--fast", "--sizes", "1", "4", "--note", "x", "--note", "y"]
    line += ["--system", "a", "beam=4", "--system", "b", "--seed", "3"]
    given = parsed(str(file), "--out", "here", *line)
    found = words(given)
    assert found == [str(file), "--out", "here", *line]
    assert parsed(*found) == given
    assert words(parsed(str(file))) == [str(file)]


def test_named_files(tmp_path: Path) -> None:
    file = tmp_path / "a=b.log"
    file.touch()
    assert named_files("train_log", [f"one={file}", f"two={file}"]) == {"one": file, "two": file}
    for texts, message in (
        (["one"], "--train-log one: needs the form NAME=FILE"),
        (["one="], "needs the form"),
        ([f"={file}"], "needs the form"),
        ([f"one={file}"] * 2, "a second file of 'one'"),
        ([f"one={tmp_path}"], "is no file"),
        (["one=none"], "--train-log one=none: no such file"),
    ):
        with pytest.raises(UsageError, match=message):
            named_files("train_log", texts)
