"""Reading with clear errors."""

import hashlib
import io
import os
import threading
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vqnat_plugin.errors import DataError
from vqnat_plugin.files import write_json, write_lines
from vqnat_plugin.reading import (
    blocks_and_error,
    read_blocks,
    read_json,
    read_json_if_there,
    read_lines,
    sha256,
)


def test_lines(tmp_path: Path) -> None:
    file = tmp_path / "text"
    file.write_bytes("\ufeffa\r\nb\u2028c\rd\n\n".encode())
    assert read_lines(file) == ["a", "b\u2028c\rd", ""]
    write_lines(file, ["x", "", "y\r"])
    assert file.read_bytes() == b"x\n\ny\r\n"
    file.write_bytes(b"")
    assert read_lines(file) == []
    file.write_bytes(b"\xff")
    with pytest.raises(DataError, match=r"text: not UTF-8 .* at byte 0"):
        read_lines(file)
    with pytest.raises(DataError, match=r"none: cannot be read \(No such file"):
        read_lines(tmp_path / "none")


line_text = st.text(st.characters(exclude_characters="\n\r", exclude_categories=["Cs"]))


@given(
    st.lists(line_text, min_size=1).filter(lambda lines: lines[-1] and lines[0][:1] != "\ufeff"),
    st.sampled_from(["\n", "\r\n"]),
    st.booleans(),
    st.booleans(),
)
def test_marks_and_line_ends_are_not_part_of_lines(
    tmp_path_factory: pytest.TempPathFactory, lines: list[str], end: str, mark: bool, ended: bool
) -> None:
    file = tmp_path_factory.getbasetemp() / "lines"
    text = end.join(lines) + (end if ended else "")
    file.write_bytes(("\ufeff" * mark + text).encode())
    assert read_lines(file) == lines


@given(st.lists(line_text, min_size=2), st.sampled_from(["", "\r", "\n"]), st.booleans())
def test_carriage_returns_alone_are_refused_with_the_way_out(
    tmp_path_factory: pytest.TempPathFactory, lines: list[str], last: str, mark: bool
) -> None:
    file = tmp_path_factory.getbasetemp() / "old mac"
    text = "\r".join([*lines, "end"]) + last
    file.write_bytes(("\ufeff" * mark + text).encode())
    with pytest.raises(DataError) as raised:
        read_lines(file)
    start = f"{file}: its only line ends are carriage returns"
    assert str(raised.value).startswith(start) and str(raised.value).endswith(f" < '{file}' > NEW")
    assert "tr '\\r' '\\n' < " in str(raised.value)


@pytest.mark.parametrize("content", ["", "{", "[1]", "nul", "[" * 100_000])
def test_broken_json(tmp_path: Path, content: str) -> None:
    (tmp_path / "x.json").write_text(content)
    with pytest.raises(DataError, match=r"x\.json: "):
        read_json(tmp_path / "x.json")


def test_json(tmp_path: Path) -> None:
    write_json(tmp_path / "x.json", {"ä": [1, None]})
    assert read_json(tmp_path / "x.json") == read_json_if_there(tmp_path / "x.json") == {"ä": [1, None]}
    assert read_json_if_there(tmp_path / "none.json") is None


def test_digest_is_that_of_the_contents_in_order(tmp_path: Path) -> None:
    for name, content in (("a", b"x" * (3 << 19)), ("b", b"y")):
        (tmp_path / name).write_bytes(content)
    whole = hashlib.sha256(b"x" * (3 << 19) + b"y").hexdigest()
    assert sha256(tmp_path / "a", tmp_path / "b") == whole != sha256(tmp_path / "b", tmp_path / "a")


@given(st.lists(line_text), st.sampled_from(["\n", "\r\n"]), st.booleans(), st.integers(1, 9))
def test_blocks_of_a_stream_are_its_lines(lines: list[str], end: str, mark: bool, size: int) -> None:
    lines = [line.lstrip("\ufeff") for line in lines]
    stream = io.BytesIO(("\ufeff" * mark + "".join(line + end for line in lines)).encode())
    found = [line for block in read_blocks(stream, size=size) for line in block]
    # A mark before nothing is a line, since something is there.
    assert found == (lines or [""] * mark)


def test_a_line_of_a_stream_that_is_not_utf_8_is_named() -> None:
    for size in (1, 2, 99):
        found = []
        with pytest.raises(DataError, match="text: line 3: not UTF-8"):
            for block in read_blocks(io.BytesIO(b"a\nb\nsch\xf6n\nc\n"), "text", size):
                found += block
        assert found == ["a", "b"]


def test_a_stream_of_carriage_returns_is_refused_with_the_way_out() -> None:
    for size in (1, 99):
        with pytest.raises(DataError, match="text: its only line ends are carriage returns"):
            list(read_blocks(io.BytesIO(b"a\rb\r"), "text", size))
        # Some programs add a last line feed to any file.
        with pytest.raises(DataError, match="only line ends are carriage returns"):
            list(read_blocks(io.BytesIO(b"a\rb\rc\n"), "text", size))
        blocks = read_blocks(io.BytesIO(b"a\rb\nc\n"), "text", size)
        assert [line for block in blocks for line in block] == ["a\rb", "c"]
        found: list[str] = []
        with pytest.raises(DataError, match="line 2: not UTF-8"):
            for block in read_blocks(io.BytesIO(b"a\rb\n\xff\n"), "text", size):
                found += block
        assert found == ["a\rb"]


def test_nothing_that_has_not_come_yet_is_the_end() -> None:
    """A pipe that somebody has told not to block."""
    read, write = os.pipe()
    os.set_blocking(read, False)
    with open(read, "rb") as stream, open(write, "wb", buffering=0) as other:
        blocks = blocks_and_error(stream, "pipe", 100)
        other.write(b"one\n")
        assert next(blocks) == (["one"], None)
        later = threading.Timer(0.1, lambda: (other.write(b"two\n"), other.close()))
        later.start()
        assert [lines for lines, _ in blocks if lines] == [["two"]]
        later.join()
