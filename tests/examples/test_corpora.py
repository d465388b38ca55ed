import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from archives import iwslt14, lines, sentence_pairs, sgml, wmt14, write_archive
from hypothesis import given
from hypothesis import strategies as st

sys.path.insert(0, str(Path(__file__).parents[2] / "examples"))

from corpora import (
    CORPORA,
    main,
    make_corpus,
    plain_lines,
    segments,
    tagged_lines,
    unescape,
)

from vqnat_plugin.data.parallel import find_splits, read_pairs
from vqnat_plugin.errors import DataError


def read(path: Path) -> list[str]:
    text = path.read_text(encoding="utf-8")
    assert text.endswith("\n")
    return text[:-1].split("\n")


def pairs(folder: Path, split: str, source: str, target: str) -> list[tuple[str, str]]:
    return list(zip(read(folder / f"{split}.{source}"), read(folder / f"{split}.{target}"), strict=True))


def test_wmt14_is_put_together(tmp_path: Path) -> None:
    wmt14(tmp_path / "archives", train=30, held=5)
    out = tmp_path / "out"
    assert make_corpus(CORPORA["wmt14_en_de"], tmp_path / "archives", out) == {
        "train": 90,
        "valid": 5,
        "test": 5,
    }
    expected = [pair for seed in range(3) for pair in sentence_pairs(30, seed)]
    assert pairs(out, "train", "en", "de") == expected
    assert pairs(out, "valid", "en", "de") == sentence_pairs(5, 10)
    assert pairs(out, "test", "en", "de") == sentence_pairs(5, 11)
    assert len(list(out.iterdir())) == 6
    splits = find_splits(out, "en", "de")
    assert [split.subset for split in splits] == ["train", "valid", "test"]
    assert read_pairs(splits[0]) == expected


def test_iwslt14_holds_out_every_23rd_pair(tmp_path: Path) -> None:
    iwslt14(tmp_path / "archives", train=90, held=7)
    out = tmp_path / "out"
    assert make_corpus(CORPORA["iwslt14_de_en"], tmp_path / "archives", out) == {
        "train": 88,
        "valid": 4,
        "test": 7,
    }
    talk = [("Von Häusern", "On houses"), ("Von Häusern & more", "On houses & more")]
    everything = talk + [(german, english) for english, german in sentence_pairs(90, 1)]
    assert pairs(out, "valid", "de", "en") == everything[22::23]
    assert pairs(out, "test", "de", "en") == [(german, english) for english, german in sentence_pairs(7, 11)]
    held_out = set(range(22, len(everything), 23))
    assert pairs(out, "train", "de", "en") == [
        pair for number, pair in enumerate(everything) if number not in held_out
    ]


@pytest.mark.parametrize("prefix", ["./", ""])
def test_members_may_be_named_from_the_folder(tmp_path: Path, prefix: str) -> None:
    wmt14(tmp_path)
    text = sentence_pairs(3, 1)
    members = {
        f"{prefix}commoncrawl.de-en.{name}": lines(text, side) for side, name in enumerate(("en", "de"))
    }
    write_archive(tmp_path / "training-parallel-commoncrawl.tgz", members)
    assert make_corpus(CORPORA["wmt14_en_de"], tmp_path, tmp_path / "out")["train"] == 63


def test_training_pairs_with_an_empty_side_are_left_out(tmp_path: Path) -> None:
    wmt14(tmp_path)
    text = [("one", "eins"), ("", "zwei"), ("red", " \t"), ("tree\r", "Baum\x85\u2028Baum")]
    members = {f"commoncrawl.de-en.{name}": lines(text, side) for side, name in enumerate(("en", "de"))}
    write_archive(tmp_path / "training-parallel-commoncrawl.tgz", members)
    make_corpus(CORPORA["wmt14_en_de"], tmp_path, tmp_path / "out")
    assert pairs(tmp_path / "out", "train", "en", "de")[30:32] == [("one", "eins"), ("tree", "Baum Baum")]


def spoil_length(folder: Path) -> str:
    members = {"commoncrawl.de-en.en": "a\nb\n", "commoncrawl.de-en.de": "a\n"}
    write_archive(folder / "training-parallel-commoncrawl.tgz", members)
    return r"commoncrawl\.tgz: commoncrawl\.de-en\.en and commoncrawl\.de-en\.de differ in length"


def spoil_member(folder: Path) -> str:
    write_archive(folder / "training-parallel-commoncrawl.tgz", {"commoncrawl.de-en.en": "a\n"})
    return r"commoncrawl\.tgz: holds no commoncrawl\.de-en\.de"


def spoil_segments(folder: Path) -> str:
    text = sgml([("a", "b"), ("c", "d")], 0)
    members = {
        "newstest2014-deen-src.en.sgm": text.replace("</seg>", ""),
        "newstest2014-deen-ref.de.sgm": text,
    }
    write_archive(folder / "test-full.tgz", {f"test-full/{name}": text for name, text in members.items()})
    return r"test-full\.tgz: test-full/newstest2014-deen-src\.en\.sgm and .* differ in length"


def spoil_encoding(folder: Path) -> str:
    members = {"newstest2013.en": "green\n", "newstest2013.de": "grün\n".encode("latin-1")}
    write_archive(folder / "dev.tgz", {f"dev/{name}": text for name, text in members.items()})
    return r"^dev\.tgz: dev/newstest2013\.de: not UTF-8"


def spoil_archive(folder: Path) -> str:
    (folder / "dev.tgz").unlink()
    return r"dev\.tgz: missing, damaged or incomplete"


def cut_archive(folder: Path) -> str:
    path = folder / "test-full.tgz"
    path.write_bytes(path.read_bytes()[:-200])
    return r"test-full\.tgz: missing, damaged or incomplete .*; fetch it again"


def no_archive(folder: Path) -> str:
    (folder / "test-full.tgz").write_text("<html>404</html>")
    return r"test-full\.tgz: missing, damaged or incomplete"


def empty_test(folder: Path) -> str:
    members = [f"test-full/newstest2014-deen-{name}.sgm" for name in ("src.en", "ref.de")]
    write_archive(folder / "test-full.tgz", {name: sgml([], 0) for name in members})
    return "has no sentence pairs for test"


@pytest.mark.parametrize(
    "spoil",
    [
        spoil_length,
        spoil_member,
        spoil_segments,
        spoil_encoding,
        spoil_archive,
        cut_archive,
        no_archive,
        empty_test,
    ],
)
def test_spoilt_archives_are_refused_and_nothing_is_written(
    tmp_path: Path, spoil: Callable[[Path], str]
) -> None:
    folder, out = tmp_path / "archives", tmp_path / "out"
    wmt14(folder)
    message = spoil(folder)
    with pytest.raises(DataError, match=message):
        make_corpus(CORPORA["wmt14_en_de"], folder, out)
    assert not out.exists() or list(out.iterdir()) == []


def test_only_line_feeds_end_a_line(tmp_path: Path) -> None:
    path = tmp_path / "text"
    path.write_bytes("\ufeffa\rb\u2028c\x0bd\x85e\r\n\nf\xa0g".encode())
    assert list(plain_lines(path)) == ["a b c d e", "", "f g"]


def test_tagged_text(tmp_path: Path) -> None:
    path = tmp_path / "text"
    path.write_text(
        '<doc docid="1">\n<url>http://x</url>\n<speaker>A B</speaker>\n<talkid>1</talkid>\n'
        "<title>Of <3 &amp; more</title>\n<description></description>\n"
        '<reviewer></reviewer>\n<translator href="x">C</translator>\n I <3 R&B &#39;n&#10;roll. \n'
        "<i>Yes.</i>\n</doc>\n"
    )
    assert list(tagged_lines(path)) == ["Of <3 & more", "", "I <3 R&B 'n roll.", "<i>Yes.</i>"]


def test_segments_of_text_that_is_not_well_formed(tmp_path: Path) -> None:
    path = tmp_path / "test.sgm"
    path.write_text(
        '<?xml version="1.0"?><!DOCTYPE mteval SYSTEM "">\n<SRCSET setid=x>\n<DOC docid=1><title>no</title>\n'
        '<SEG id="1">"A &amp; B" &lt; R&D &copy C&T;</SEG>\n<p><seg id=2>two\nlines < 3 <b>bold</b></seg>\n'
        "<seg id='3'></seg></DOC></SRCSET>\n"
    )
    assert list(segments(path)) == ['"A & B" < R&D &copy C&T;', "two lines < 3 bold", ""]


@given(st.text(alphabet="ab&;<#3 "))
def test_unescape_undoes_what_xml_does(text: str) -> None:
    from xml.sax.saxutils import escape

    assert unescape(escape(text)) == text


def test_members_cannot_be_written_elsewhere(tmp_path: Path) -> None:
    wmt14(tmp_path / "archives")
    archive = tmp_path / "archives" / "dev.tgz"
    text = {"../outside": "x\n", "dev/newstest2013.en": "a\n", "dev/newstest2013.de": "b\n"}
    write_archive(archive, text)
    make_corpus(CORPORA["wmt14_en_de"], tmp_path / "archives", tmp_path / "deep" / "out")
    assert not list(tmp_path.rglob("outside"))


def test_the_command(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    wmt14(tmp_path / "archives")
    words = ["wmt14_en_de", "--archives", str(tmp_path / "archives"), "--out", str(tmp_path / "out")]
    monkeypatch.setattr(sys, "argv", ["corpora.py", *words])
    main()
    assert "train: 90 sentence pairs" in capsys.readouterr().out
    shutil.rmtree(tmp_path / "archives")
    with pytest.raises(SystemExit, match="2"):
        main()
    line = capsys.readouterr().err.splitlines()[-1]
    assert line.startswith("corpora.py: error: ") and "missing" in line
