"""Dictionaries that are not as fairseq writes them: one line, whoever reads them."""

import shutil
from pathlib import Path

import pytest
from fairseq.data import Dictionary
from hypothesis import given
from hypothesis import strategies as st

from vqnat_plugin.commands.main import main
from vqnat_plugin.data.dictionaries import read_dictionary
from vqnat_plugin.errors import DataError
from vqnat_plugin.models.vq_nat import VQNAT

GOOD = b"the 9\n, 7\nM\xc3\xa4dchen 1\n"
SYMBOLS = ["the", ",", "Mädchen"]


@pytest.mark.parametrize(
    "content",
    [
        GOOD,
        GOOD.removesuffix(b"\n"),
        GOOD.replace(b"\n", b"\r\n"),
        GOOD.replace(b"\n", b"\r"),
        b"\xef\xbb\xbf" + GOOD,
    ],
)
def test_marks_and_line_ends_change_nothing(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "dict.txt").write_bytes(content)
    dictionary = Dictionary.load(str(tmp_path / "dict.txt"))
    assert dictionary.symbols[dictionary.nspecial :] == SYMBOLS
    assert dictionary.count[dictionary.nspecial :] == [9, 7, 1]


def test_a_repeated_symbol_may_be_meant(tmp_path: Path) -> None:
    (tmp_path / "dict.txt").write_bytes(GOOD + b"the 3 #fairseq:overwrite\n")
    assert Dictionary.load(str(tmp_path / "dict.txt")).symbols[-1] == "the"


FAULTS = [
    (GOOD + b"the 2\n", "line 4: duplicate of 'the', which is on line 1; delete the line"),
    (GOOD + b"<pad> 2\n", "line 4: duplicate of '<pad>', which is among those that fairseq adds itself"),
    (GOOD + b"word\n", "line 4: needs a symbol, a blank and a count, but is 'word'"),
    (GOOD + b"two words\n", "line 4: needs a symbol, a blank and a count, but is 'two words'"),
    (GOOD + b"\n", "line 4: needs a symbol, a blank and a count, but is ''"),
    (b"\n" + GOOD, "line 1: needs a symbol"),
    (GOOD + b"word #fairseq:overwrite\n", "line 4: needs a symbol"),
    (GOOD + b"\xff 1\n", "not UTF-8 (invalid start byte at byte 21)"),
    (b"", "empty, needs a symbol and its count on each line"),
    (b" \n\n", "empty, needs a symbol and its count on each line"),
]


@pytest.mark.parametrize(("content", "message"), FAULTS)
def test_faults_are_named_with_file_and_line(tmp_path: Path, content: bytes, message: str) -> None:
    file = tmp_path / "dict.txt"
    file.write_bytes(content)
    with pytest.raises(DataError) as raised:
        Dictionary.load(str(file))
    assert str(raised.value).startswith(f"{file}: {message}")


def test_missing_file(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"dict\.txt: cannot be read \(No such file or directory\)"):
        Dictionary.load(str(tmp_path / "dict.txt"))


@given(st.binary(max_size=60))
def test_any_bytes_are_a_dictionary_or_one_line(
    tmp_path_factory: pytest.TempPathFactory, content: bytes
) -> None:
    file = tmp_path_factory.getbasetemp() / "any.txt"
    file.write_bytes(content)
    try:
        text = read_dictionary(file, Dictionary().indices)
    except DataError as error:
        assert str(error).startswith(f"{file}: ")
        return
    assert len(Dictionary.load(str(file))) == 4 + len(text.removesuffix("\n").split("\n"))


@pytest.fixture
def spoilt(tiny_corpus: Path, tmp_path: Path) -> Path:
    """Binarised data with a duplicate in the target's dictionary."""
    data = Path(shutil.copytree(tiny_corpus, tmp_path / "data"))
    lines = (data / "dict.de.txt").read_text()
    (data / "dict.de.txt").write_text(lines + lines.splitlines()[2] + "\n")
    return data


@pytest.mark.parametrize(
    "words",
    [
        ["distill", "--data", "DATA", "--teacher", "TEACHER", "--out", "OUT", "--cpu"],
        ["generate", "DATA", "--path", "STUDENT", "--cpu"],
        ["diagnose", "STUDENT", "--data", "DATA", "--out", "OUT", "--cpu"],
    ],
)
def test_commands_say_it_in_one_line(
    spoilt: Path,
    tiny_teacher: Path,
    tiny_student: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    words: list[str],
) -> None:
    names = {"DATA": spoilt, "TEACHER": tiny_teacher, "STUDENT": tiny_student, "OUT": tmp_path / "out"}
    with pytest.raises(SystemExit) as ended:
        main([str(names.get(word, word)) for word in words])
    assert ended.value.code == 2
    line = capsys.readouterr().err.splitlines()[-1]
    assert f"{spoilt / 'dict.de.txt'}: line 45: duplicate of 'W" in line


def test_from_python_too(spoilt: Path, tiny_student: Path) -> None:
    with pytest.raises(DataError, match=r"dict\.de\.txt: line 45: duplicate of 'W"):
        VQNAT.from_pretrained(str(tiny_student), data_name_or_path=str(spoilt))
