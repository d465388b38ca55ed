"""From parallel text to binarised data: no line is lost, no bad input is taken."""

import gzip
import json
import logging
import os
import shutil
import signal
from pathlib import Path
from typing import Any

import pytest
from fairseq.data import Dictionary, indexed_dataset
from forked import forked
from hypothesis import given, settings
from hypothesis import strategies as st
from sacremoses import MosesDetokenizer

from vqnat_plugin.commands.main import main
from vqnat_plugin.data import prepare as preparation
from vqnat_plugin.data.parallel import find_splits, hold_out, read_corpus, read_pairs
from vqnat_plugin.data.prepare import Prepared, unusable
from vqnat_plugin.data.settings import PrepareOptions
from vqnat_plugin.errors import BusyError, DataError, UsageError, UserError
from vqnat_plugin.files import alone
from vqnat_plugin.text import moses
from vqnat_plugin.text.pipeline import TextPipeline
from vqnat_plugin.text.subwords import learn_merges

ENGLISH = ["A small house.", "The dog sees the cat!", "Don't worry, it is half-price.", "Hello, world"]
GERMAN = [
    "Ein kleines Haus.",
    "Der Hund sieht die Katze!",
    "Sorge dich nicht, es ist ein halber Preis.",
    "Hallo, Welt",
]


def prepare(data: Path, out: Path, source: str, target: str, **options: Any) -> dict[str, int]:
    """Prepare, and the sentence pairs of each subset."""
    return prepare_text(data, out, source, target, **options).pairs


def prepare_text(data: Path, out: Path, source: str, target: str, **options: Any) -> Prepared:
    chosen = PrepareOptions(data=(data,), out=out, source_lang=source, target_lang=target, **options)
    return preparation.prepare(chosen)


def tokenize(line: str, language: str) -> str:
    """Moses tokens, blanks between them."""
    return " ".join(TextPipeline(language, "de").tokenize(line, language))


def usable(source: str, target: str, max_length: int, max_ratio: float) -> bool:
    return unusable(source.split(), target.split(), max_length, max_ratio) is None


def write_split(folder: Path, name: str, english: list[str], german: list[str]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for language, lines in (("en", english), ("de", german)):
        (folder / f"{name}.{language}").write_bytes("".join(line + "\n" for line in lines).encode())


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """A folder of raw text: 20 training pairs, two validation pairs under the name `val`, one test pair."""
    write_split(tmp_path / "data", "train", ENGLISH * 5, GERMAN * 5)
    write_split(tmp_path / "data", "val", ENGLISH[:2], GERMAN[:2])
    write_split(tmp_path / "data", "test", ENGLISH[2:3], GERMAN[2:3])
    return tmp_path / "data"


def binarised(folder: Path, subset: str, language: str) -> list[str]:
    """The sentences of a subset as text."""
    dictionary = Dictionary.load(str(folder / f"dict.{language}.txt"))
    sentences = indexed_dataset.make_dataset(str(folder / f"{subset}.en-de.{language}"), impl="mmap")
    return [dictionary.string(sentences[i], "@@ ") for i in range(len(sentences))]


def test_everything_is_written(data: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    assert prepare(data, out, "en", "de", merges=30) == {"train": 20, "valid": 2, "test": 1}
    written = {str(path.relative_to(out)) for path in out.rglob("*") if path.is_file()}
    assert not [name for name in written if name.endswith(".part") or ".part/" in name]
    subsets = [f"{subset}.{language}" for subset in ("train", "valid", "test") for language in ("en", "de")]
    assert {f"bpe/{name}" for name in subsets} <= written
    assert {f"reference/{name}" for name in subsets if "train" not in name} <= written
    assert {"bpe.codes", "bin/dict.en.txt", "bin/dict.de.txt", "bin/test.en-de.de.bin"} <= written
    assert (out / "reference" / "valid.de").read_text() == "\n".join(GERMAN[:2]) + "\n"
    for language, text in (("en", ENGLISH), ("de", GERMAN)):
        assert binarised(out / "bin", "train", language) == [tokenize(line, language) for line in text] * 5
        assert "@@ " in (out / "bpe" / f"train.{language}").read_text()
    assert (out / "bin" / "dict.en.txt").read_text() == (out / "bin" / "dict.de.txt").read_text()


def test_processes_change_nothing(data: Path, tmp_path: Path) -> None:
    written = []
    for workers in (1, 2):
        out = tmp_path / str(workers)
        prepare(data, out, "en", "de", merges=30, workers=workers)
        written.append(
            {
                str(path.relative_to(out)): path.read_bytes()
                for path in out.rglob("*")
                if path.is_file() and path.name != "preprocess.log"
            }
        )
    assert written[0] == written[1]


def test_tokenisation_is_undone_by_moses() -> None:
    for language, text in (("en", ENGLISH), ("de", GERMAN)):
        detokenizer = MosesDetokenizer(lang=language)
        tokenized = [tokenize(line, language) for line in text]
        assert [detokenizer.detokenize(line.split()) for line in tokenized] == text


def test_valid_and_test_stay_whole(data: Path, tmp_path: Path) -> None:
    odd = ["", "word " * 300, "a", " ", ENGLISH[0]]
    write_split(data, "val", odd, [*odd[::-1]])
    write_split(data, "test", odd, odd)
    write_split(data, "train", [*ENGLISH, *odd], [*GERMAN, *odd[::-1]])
    counts = prepare(data, tmp_path / "out", "en", "de", merges=10, max_length=50)
    # In training only whole pairs stay that are neither too long nor too lopsided.
    assert counts == {"train": 5, "valid": 5, "test": 5}
    for language in ("en", "de"):
        assert len(binarised(tmp_path / "out" / "bin", "valid", language)) == 5
        assert binarised(tmp_path / "out" / "bin", "test", language)[0] == ""


# Every character that Python, but not a text tool, takes for the end of a line.
SEPARATORS = ["\r", "\v", "\f", "\x1c", "\x1d", "\x1e", "\x85", "\u2028", "\u2029"]


def test_strange_separators_inside_sentences_end_no_line(data: Path, tmp_path: Path) -> None:
    lines = [f"dog{separator}house" for separator in SEPARATORS]
    write_split(data, "val", lines, lines)
    assert prepare(data, tmp_path / "out", "en", "de", merges=10)["valid"] == len(SEPARATORS)
    assert binarised(tmp_path / "out" / "bin", "valid", "en") == ["dog house"] * len(SEPARATORS)
    assert (tmp_path / "out" / "reference" / "valid.en").read_bytes().count(b"\n") == len(SEPARATORS)


@settings(max_examples=50)
@given(
    st.lists(
        st.text(st.characters(exclude_characters="\n", exclude_categories=["Cs"]), max_size=20), max_size=5
    )
)
def test_tokens_of_a_line_stay_on_one_line(lines: list[str]) -> None:
    tokenized = [tokenize(line, "en") for line in lines]
    assert len(tokenized) == len(lines)
    assert all(len(line.splitlines()) <= 1 for line in tokenized)


def test_files_of_windows_are_read_too(data: Path) -> None:
    (data / "train.en").write_bytes(b"\xef\xbb\xbfone\r\ntwo\r\n")
    (data / "train.de").write_bytes(b"eins\nzwei")
    (train, *_) = find_splits(data, "en", "de")
    assert read_pairs(train) == [("one", "eins"), ("two", "zwei")]


def test_every_test_set_is_found_and_it_is_said_which_is_which(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for number in range(1, 14):
        write_split(data, f"test_{2015 + number}", ENGLISH[:1] * number, GERMAN[:1] * number)
    subsets = [split.subset for split in find_splits(data, "en", "de")]
    assert subsets == ["train", "valid", "test", *(f"test{number}" for number in range(1, 14))]
    counts = prepare(data, tmp_path / "out", "en", "de", merges=50)
    for number in range(1, 14):
        name = f"test{number}"
        assert counts[name] == number == len(binarised(tmp_path / "out" / "bin", name, "en"))
        assert (tmp_path / "out" / "reference" / f"{name}.de").read_text() == f"{GERMAN[0]}\n" * number
    assert binarised(tmp_path / "out" / "bin", "test", "de") == [tokenize(GERMAN[2], "de")]
    assert main(["prepare", "--data", str(data), "--out", str(tmp_path / "out"), "--merges", "50"]) == 0
    shown = capsys.readouterr().out
    assert "\ntest: 1 sentence pairs\n" in shown and "\ntest3 (was test_2018): 3 sentence pairs\n" in shown


def test_numbers_of_test_sets_are_in_order(data: Path) -> None:
    for number in (1, 2, 3, 10, 11, 21):
        write_split(data, f"test{number}", ENGLISH[:1], GERMAN[:1])
    found = {split.subset: split.target.name for split in find_splits(data, "en", "de")[2:]}
    numbers = ["", "1", "2", "3", "10", "11", "21"]
    expected = {f"test{i or ''}": f"test{number}.de" for i, number in enumerate(numbers)}
    assert found == expected


def test_further_references_of_a_test_set_are_kept(data: Path, tmp_path: Path) -> None:
    (data / "test.de.1").write_bytes("\ufeffEin anderes.\r\n".encode())
    (data / "test.de.10").write_text("Ein zehntes.\n")
    for name in ("test.de.x", "test.de.01", "test.de.", "test.en.1", "test2.de.1", "train.de.1"):
        (data / name).write_text("no\nreference\n")
    out = tmp_path / "out"
    plain = {"valid.en", "valid.de", "test.en", "test.de"}
    assert prepare(data, out, "en", "de", merges=10)["test"] == 1
    assert {path.name for path in (out / "reference").iterdir()} == plain | {"test.de.1", "test.de.10"}
    assert (out / "reference" / "test.de.1").read_text() == "Ein anderes.\n"
    assert (out / "reference" / "test.de.10").read_text() == "Ein zehntes.\n"
    # None is left over from a former run.
    (data / "test.de.1").unlink()
    prepare(data, out, "en", "de", merges=10)
    assert {path.name for path in (out / "reference").iterdir()} == plain | {"test.de.10"}


def test_a_further_reference_of_another_length_is_refused(data: Path, tmp_path: Path) -> None:
    (data / "test.de.2").write_text("Eins.\nZwei.\n")
    message = refusal(data, tmp_path / "out")
    assert message == f"{data}/test.de has 1 lines but {data}/test.de.2 has 2"


def test_a_second_run_replaces_the_first(data: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    prepare(data, out, "en", "de", merges=10)
    first = (out / "bin" / "dict.en.txt").read_bytes()
    (out / "bin" / "test7.left_over").write_text("")
    (out / ".part").mkdir()
    prepare(data, out, "en", "de", merges=10)
    assert (out / "bin" / "dict.en.txt").read_bytes() == first
    assert not (out / "bin" / "test7.left_over").exists() and not (out / ".part").exists()


def test_no_log_stays_open(data: Path, tmp_path: Path) -> None:
    from fairseq_cli import preprocess

    prepare(data, tmp_path / "out", "en", "de", merges=10)
    assert not [each for each in preprocess.logger.handlers if isinstance(each, logging.FileHandler)]
    assert (tmp_path / "out" / "bin" / "preprocess.log").is_file()


def test_merges_depend_on_the_words_alone() -> None:
    lines = [*ENGLISH * 3, *GERMAN * 3]
    codes = learn_merges(lines, 40)
    assert codes.startswith("#version: 0.2\n") and len(codes.splitlines()) == 41
    assert learn_merges(lines, 40) == learn_merges(lines[::-1], 40) == codes
    assert learn_merges(lines, 10).splitlines() == codes.splitlines()[:11]


@pytest.mark.parametrize(
    ("source", "target", "good"),
    [
        ("a b", "c d", True),
        ("", "c", False),
        ("a", "", False),
        ("a b c", "d e f", False),
        ("a", "b c", True),
        ("a b", "", False),
    ],
)
def test_usable_pairs(source: str, target: str, good: bool) -> None:
    assert usable(source, target, max_length=2, max_ratio=2.0) == good


def test_a_piece_that_looks_like_a_mark_counts() -> None:
    assert moses.APART in moses.MARKS
    piece = [moses.APART] * 3
    assert unusable(piece, ["a"], 9, 2.5) == "empty"
    assert unusable(piece, ["a"], 9, 2.5, typical=0.5, words=False) is None
    assert unusable(piece, ["a"], 2, 2.5, typical=0.5, words=False) == "longer than --max-length 2"


def test_lopsided_pairs_are_not_usable() -> None:
    assert usable("a b", "c d e f g", max_length=9, max_ratio=2.5)
    assert not usable("a b", "c d e f g h", max_length=9, max_ratio=2.5)


# The text pipeline, other forms of input, and what is left out.

CHINESE = ["一座小房子。", "狗看见了猫！", "别担心，是半价。", "你好，世界"]


def test_the_pipeline_of_the_data_is_beside_it(data: Path, tmp_path: Path) -> None:
    prepare(data, tmp_path / "out", "en", "de", merges=30)
    pipeline = TextPipeline.find(tmp_path / "out" / "bin")
    assert pipeline is not None and (pipeline.source, pipeline.target) == ("en", "de")
    assert (tmp_path / "out" / "bpe.codes").read_text() == pipeline.merges
    for language, text in (("en", ENGLISH), ("de", GERMAN)):
        lines = (tmp_path / "out" / "bpe" / f"train.{language}").read_text().splitlines()
        assert lines == [pipeline.encode(line, language) for line in text] * 5
        assert [pipeline.decode(line, language) for line in lines] == text * 5


def test_text_without_blanks_is_kept(data: Path, tmp_path: Path) -> None:
    for split, count in (("train", 30), ("val", 2), ("test", 1)):
        for language, side in (("en", ENGLISH), ("zh", CHINESE)):
            lines = (side * count)[: count * 4]
            (data / f"{split}.{language}").write_text("".join(f"{line}\n" for line in lines))
    prepared = prepare_text(data, tmp_path / "out", "en", "zh", merges=60)
    assert prepared.pairs == {"train": 120, "valid": 8, "test": 4} and not prepared.dropped
    pipeline = TextPipeline.load(tmp_path / "out" / "bin")
    assert pipeline.tokenizer == "sentencepiece"
    assert (tmp_path / "out" / "sentencepiece.model").read_bytes() == pipeline.model
    lines = (tmp_path / "out" / "bpe" / "test.zh").read_text().splitlines()
    assert [pipeline.decode(line) for line in lines] == CHINESE


def test_what_is_left_out_is_counted_by_reason(data: Path, tmp_path: Path) -> None:
    odd = [("", "leer"), ("no", ""), ("word " * 60, "wort " * 60), ("one", "eins zwei drei vier")]
    pairs = [*zip(ENGLISH, GERMAN, strict=True)] * 4 + odd
    write_split(data, "train", *map(list, zip(*pairs, strict=True)))
    prepared = prepare_text(data, tmp_path / "out", "en", "de", merges=10, max_length=50)
    assert prepared.pairs["train"] == 16
    assert prepared.dropped == {
        "empty": 2,
        "longer than --max-length 50": 1,
        "more lopsided than --max-ratio 2.5": 1,
    }
    warning = prepared.warning()
    assert warning is not None and "4 of 20 training pairs (20%) were left out, 2 of them empty" in warning
    prepared.pairs["train"] = 96
    assert prepared.warning() is None


def test_marks_are_written_where_they_can_be_learnt(data: Path, tmp_path: Path) -> None:
    english, german = ["Read and/or write."], ["Lies und/oder schreib."]
    for name, count in (("few", 1), ("many", 10)):
        write_split(data, "train", ENGLISH * 75 + english * count, GERMAN * 75 + german * count)
        prepare(data, tmp_path / name, "en", "de", merges=30)
        pipeline = TextPipeline.load(tmp_path / name / "bin")
        text = (tmp_path / name / "bpe" / "train.de").read_text()
        assert pipeline.marks == (moses.JOINED in text) == (name == "many")
    line = "Und/oder"
    assert pipeline.decode(pipeline.encode(line, "de")) == line


@pytest.mark.parametrize("header", ["", "de\tsource\ten\n"])
def test_tables_are_read(data: Path, tmp_path: Path, header: str) -> None:
    prepare(data, tmp_path / "plain", "en", "de", merges=10)
    for name in ("train", "val", "test"):
        sides = [(data / f"{name}.{language}").read_text().splitlines() for language in ("en", "de")]
        rows = (f"{de}\tbook\t{en}\n" if header else f"{en}\t{de}\n" for en, de in zip(*sides, strict=True))
        (data / f"{name}.tsv").write_text(header + "".join(rows))
        for language in ("en", "de"):
            (data / f"{name}.{language}").unlink()
    prepare(data, tmp_path / "table", "en", "de", merges=10)
    for name in ("bpe/train.en", "bpe/valid.de", "reference/test.de", "bin/train.en-de.de.bin"):
        assert (tmp_path / "table" / name).read_bytes() == (tmp_path / "plain" / name).read_bytes()


def test_columns_and_keys_may_leave_the_country_out(data: Path) -> None:
    (data / "c.tsv").write_text("de\ten\neins\tone\n")
    assert read_corpus([data / "c.tsv"], "en-US", "de") == [("one", "eins")]
    (data / "c.jsonl").write_text('{"en": "one", "de-AT": "eins", "de": "zwei"}\n')
    assert read_corpus([data / "c.jsonl"], "en-US", "de-AT") == [("one", "eins")]


def test_json_lines_are_read_and_split(data: Path, tmp_path: Path) -> None:
    pairs = [
        (f"House {i}, {en}", f"Haus {i}, {de}")
        for i in range(10)
        for en, de in zip(ENGLISH, GERMAN, strict=True)
    ]
    one = {"translation": {"en": "Two\nlines", "de": "Zwei\u2028Zeilen"}}
    objects = [{"en": en, "de": de, "id": 1} for en, de in pairs[1:]]
    path = tmp_path / "corpus.jsonl"
    path.write_text("".join(f"{json.dumps(each)}\n" for each in [one, *objects]))
    assert prepare(path, tmp_path / "out", "en", "de", merges=10) == {"train": 36, "valid": 2, "test": 2}
    kept = [
        (tmp_path / "out" / "reference" / f"{subset}.en").read_text().splitlines()
        for subset in ("valid", "test")
    ]
    assert kept == [["Two lines", pairs[20][0]], [pairs[10][0], pairs[30][0]]]
    out = tmp_path / "more"
    assert prepare(path, out, "en", "de", merges=10, held_out=10) == {"train": 20, "valid": 10, "test": 10}
    sides = (tmp_path / "a.txt", tmp_path / "b.txt")
    for side, lines in zip(sides, zip(*pairs, strict=True), strict=True):
        side.write_text("".join(f"{line}\n" for line in lines))
    options = PrepareOptions(data=sides, out=tmp_path / "two", source_lang="en", target_lang="de", merges=10)
    assert preparation.prepare(options).pairs == {"train": 36, "valid": 2, "test": 2}


def test_given_segmentation_and_dictionaries_are_used(data: Path, tmp_path: Path) -> None:
    prepare(data, tmp_path / "first", "en", "de", merges=30)
    given = {
        "bpe_codes": tmp_path / "first" / "bpe.codes",
        "srcdict": tmp_path / "first" / "bin" / "dict.en.txt",
    }
    write_split(data, "train", ENGLISH[:2] * 3, GERMAN[:2] * 3)
    prepare(data, tmp_path / "second", "en", "de", **given)
    for name in ("bpe.codes", "bin/dict.en.txt", "bin/dict.de.txt"):
        assert (tmp_path / "second" / name).read_bytes() == (tmp_path / "first" / name).read_bytes()
    prepare(data, tmp_path / "pieces", "en", "de", merges=30, tokenizer="sentencepiece")
    model = tmp_path / "pieces" / "sentencepiece.model"
    prepare(data, tmp_path / "again", "en", "de", sentencepiece_model=model)
    assert TextPipeline.load(tmp_path / "again" / "bin").model == model.read_bytes()
    dictionaries = {"srcdict": given["srcdict"], "tgtdict": tmp_path / "pieces" / "bin" / "dict.de.txt"}
    prepare(data, tmp_path / "both", "en", "de", merges=0, **dictionaries)
    assert not TextPipeline.load(tmp_path / "both" / "bin").merges
    for language, file in zip(("en", "de"), dictionaries.values(), strict=True):
        assert (tmp_path / "both" / "bin" / f"dict.{language}.txt").read_bytes() == file.read_bytes()


def test_a_country_in_the_code_changes_nothing_but_names(data: Path, tmp_path: Path) -> None:
    prepare(data, tmp_path / "plain", "en", "de", merges=10)
    prepare(data, tmp_path / "country", "en-US", "de-AT", merges=10)
    for name in ("train", "valid", "test"):
        found = (tmp_path / "country" / "bpe" / f"{name}.en-US").read_bytes()
        assert found == (tmp_path / "plain" / "bpe" / f"{name}.en").read_bytes()


# Bad input.


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("c.tsv", "one\teins\ntwo\n", "line 2 has 1 columns, needs 2"),
        ("c.tsv", "en\tde\tx\none\teins\n", "line 2 has 2 columns, needs 3"),
        ("c.jsonl", '{"en": "a", "de": "b"}\n{"en": "a"}\n', "line 2: needs an object"),
        ("c.jsonl", "[1]\n", "line 1: needs an object"),
        ("c.jsonl", "{\n", "line 1: not JSON"),
        ("c.jsonl", "", "empty"),
        ("c.txt", "a\n", "needs a folder, a file that ends in .tsv or .jsonl, or two files"),
        ("c.tsv", "one\teins\n", "--data: 1 usable pairs"),
        ("c.tsv", "en\tfr\none\tun\n", "line 1 names en, fr, but no 'de'"),
        ("c.tsv", "one\reins\r", "CR"),
    ],
)
def test_files_of_another_form_are_refused(tmp_path: Path, name: str, content: str, message: str) -> None:
    path = tmp_path / name
    path.write_bytes(content.encode())
    with pytest.raises(UserError) as caught:
        prepare(path, tmp_path / "out", "en", "de", merges=10)
    assert str(path) in str(caught.value) or "--held-out" in str(caught.value)
    assert message in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (("a.jsonl", "b.jsonl"), "a.jsonl alone holds both languages"),
        (("a.de", "b.en"), "needs the source (en) first, then the target (de)"),
        (("a.deu", "b.EN"), "needs the source (en) first"),
        (("a.en", "a.en"), "are the same file"),
    ],
)
def test_two_files_are_source_and_target(tmp_path: Path, names: tuple[str, str], message: str) -> None:
    files = [tmp_path / name for name in names]
    for file in files:
        file.write_text('{"en": "one", "de": "eins"}\n')
    with pytest.raises(UsageError) as caught:
        read_corpus(files, "en", "de")
    assert message in str(caught.value) and f"--data {files[0]} {files[1]}: " in str(caught.value)


@pytest.mark.parametrize("header", ["DE\tEN", "deu\teng", "de\ten-GB", "de-AT\ten"])
def test_columns_may_be_called_as_languages_are(tmp_path: Path, header: str) -> None:
    (tmp_path / "c.tsv").write_text(f"{header}\neins\tone\n")
    assert read_corpus([tmp_path / "c.tsv"], "en", "de") == [("one", "eins")]
    # Words are no header.
    (tmp_path / "c.tsv").write_text("no\tnein\n")
    assert read_corpus([tmp_path / "c.tsv"], "en", "de") == [("no", "nein")]


@pytest.mark.parametrize("languages", [("en", "EN"), ("eng", "en"), ("en-US", "en-GB")])
def test_both_languages_are_not_read_from_one_place(tmp_path: Path, languages: tuple[str, str]) -> None:
    for name in ("train", "valid", "test"):
        (tmp_path / f"{name}.en").write_text("one\n")
        (tmp_path / f"{name}.EN").symlink_to(f"{name}.en")
    source, target = languages
    if target != "EN":
        with pytest.raises(DataError, match=f"{source} and {target}: both would be read from the file"):
            find_splits(tmp_path, *languages)
        (tmp_path / "c.tsv").write_text("en\tx\none\tuno\n")
        with pytest.raises(DataError, match="both would be read from the column 'en'"):
            read_corpus([tmp_path / "c.tsv"], *languages)
        (tmp_path / "c.jsonl").write_text('{"en": "one"}\n')
        with pytest.raises(DataError, match="both would be read from the key 'en'"):
            read_corpus([tmp_path / "c.jsonl"], *languages)
    else:
        options = PrepareOptions(data=(tmp_path,), out=tmp_path / "o", source_lang=source, target_lang=target)
        with pytest.raises(UsageError, match="--target-lang EN: needs another language than the source"):
            options.check()


def test_a_second_download_is_no_reference(data: Path, tmp_path: Path) -> None:
    for name in ("train", "val", "test"):
        sides = [(data / f"{name}.{language}").read_text().splitlines() for language in ("en", "de")]
        (data / f"{name}.tsv").write_text("".join(f"{en}\t{de}\n" for en, de in zip(*sides, strict=True)))
        for language in ("en", "de"):
            (data / f"{name}.{language}").unlink()
    shutil.copy(data / "test.tsv", data / "test.tsv.1")
    prepare(data, tmp_path / "out", "en", "de", merges=10)
    assert {path.name for path in (tmp_path / "out" / "reference").glob("test*")} == {"test.en", "test.de"}


def test_marks_are_those_of_given_dictionaries(data: Path, tmp_path: Path) -> None:
    english, german = ["Read and/or write."], ["Lies und/oder schreib."]
    for name, count in (("few", 1), ("many", 10)):
        write_split(data, "train", ENGLISH * 75 + english * count, GERMAN * 75 + german * count)
        prepare(data, tmp_path / name, "en", "de", merges=30)
    for name, other, text in (("few", "again", 10), ("many", "more", 1)):
        write_split(data, "train", ENGLISH * 75 + english * text, GERMAN * 75 + german * text)
        given = {
            "bpe_codes": tmp_path / name / "bpe.codes",
            "srcdict": tmp_path / name / "bin" / "dict.en.txt",
        }
        prepare(data, tmp_path / other, "en", "de", **given)
        pipeline = TextPipeline.load(tmp_path / other / "bin")
        assert pipeline.marks == (name == "many")
        written = indexed_dataset.make_dataset(str(tmp_path / other / "bin" / "train.en-de.en"), impl="mmap")
        unknown = Dictionary.load(str(given["srcdict"])).unk()
        assert not any(unknown in written[number].tolist() for number in range(len(written)))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["-s", "en", "-t", "en"], "--target-lang en: needs another language than the source"),
        (["-s", "xx"], "'xx' is no code of a language"),
        (["-t", "zh", "--tokenizer", "moses"], "--tokenizer moses: has no rules for 'zh'"),
        (["--held-out", "5"], "--held-out 5: needs a corpus in files"),
        (["--tgtdict", "FILE"], "needs --srcdict beside it"),
        (["--srcdict", "FILE"], "needs --bpe-codes or --sentencepiece-model, whose sub-words it counts"),
        (["--bpe-codes", "FILE", "--merges", "9"], "--merges 9: needs no --bpe-codes"),
        (["--bpe-codes", "FILE", "--sentencepiece-model", "FILE"], "only one of them"),
        (["--bpe-codes", "FILE", "--tokenizer", "sentencepiece"], "needs --tokenizer moses"),
        (["--bpe-codes", "FILE"], "not BPE merges"),
        (["--sentencepiece-model", "FILE"], "not a SentencePiece model"),
        (["--max-ratio", "inf"], "--max-ratio inf: needs"),
    ],
)
def test_options_that_do_not_fit_are_refused(
    data: Path, tmp_path: Path, arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").write_text("this is no model\n")
    words = [str(tmp_path / "file") if word == "FILE" else word for word in arguments]
    with pytest.raises(SystemExit, match="2"):
        main(["prepare", "--data", str(data), "--out", str(tmp_path / "out"), *words])
    assert message in capsys.readouterr().err.splitlines()[-1]
    assert not (tmp_path / "out").exists()


def refusal(data: Path, out: Path) -> str:
    with pytest.raises(DataError) as caught:
        prepare(data, out, "en", "de", merges=10)
    assert "\n" not in str(caught.value)
    assert not (out / "bin").exists()
    return str(caught.value)


def test_files_of_different_length_are_refused(data: Path, tmp_path: Path) -> None:
    write_split(data, "val", ENGLISH, GERMAN[:3])
    assert refusal(data, tmp_path / "out") == f"{data}/val.en has 4 lines but {data}/val.de has 3"


def test_compressed_text_is_told_from_missing_text(data: Path, tmp_path: Path) -> None:
    packed = gzip.compress((data / "train.en").read_bytes())
    for name in ("val.de", "train.de"):
        (data / name).rename(data / f"{name}.gz")
        message = refusal(data, tmp_path / "out")
        assert message.endswith(f"; {name}.gz is compressed: gunzip it first")
        (data / f"{name}.gz").rename(data / name)
    (data / "train.en").write_bytes(packed)
    assert refusal(data, tmp_path / "out").endswith(" at byte 1); it is compressed: gunzip it first")
    (data / "train.en").write_bytes("one\n".encode("utf-16"))
    assert "; it is UTF-16: convert it with iconv" in refusal(data, tmp_path / "out")


@pytest.mark.parametrize("name", ["train.en", "train.de", "val.en", "test.en", "test.de"])
def test_missing_file_is_named(data: Path, tmp_path: Path, name: str) -> None:
    (data / name).unlink()
    message = refusal(data, tmp_path / "out")
    assert message.startswith(f"--data {data}: needs ")
    assert name.replace("val", "valid") in message


def test_missing_folder_is_named(tmp_path: Path) -> None:
    assert refusal(tmp_path / "nowhere", tmp_path / "out") == f"--data {tmp_path}/nowhere: no such folder"


def test_text_that_is_not_utf_8_is_refused(data: Path, tmp_path: Path) -> None:
    (data / "val.de").write_bytes("schön\nzwei\n".encode("latin-1"))
    message = refusal(data, tmp_path / "out")
    assert (
        message.startswith(f"{data}/val.de: not UTF-8 (")
        and "at byte 3), in line 1; if it is Latin-1" in message
    )


@pytest.mark.parametrize("split", ["train", "val", "test"])
def test_empty_files_are_refused(data: Path, tmp_path: Path, split: str) -> None:
    write_split(data, split, [], [])
    assert refusal(data, tmp_path / "out") == f"{data}/{split}.en: empty"


@pytest.mark.parametrize("most", [5, 6, 10, 15, 20, 30])
def test_of_many_pairs_some_from_everywhere_are_learnt_from(
    most: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Sorted, with two scripts: characters that no chosen line has would be written as bytes.
    pairs = [("aab aba", "我喜欢")] * 30 + [("ddc dcd", "水果好")] * 30
    for name in ("train", "valid", "test"):
        text = "".join(f"{source}\t{target}\n" for source, target in pairs)
        (tmp_path / f"{name}.tsv").write_text(text, encoding="utf-8")
    monkeypatch.setattr(preparation, "MOST_LEARNT", most)
    prepare(tmp_path, tmp_path / "out", "en", "zh", merges=4)
    text = "".join(path.read_text(encoding="utf-8") for path in (tmp_path / "out" / "bpe").iterdir())
    assert "我" in text and "<0x" not in text


def test_what_cannot_be_learnt_from_is_not_held_out(tmp_path: Path) -> None:
    good = [(f"A house with the number {number}", f"Haus mit der Nummer {number}") for number in range(59)]
    # Lopsided by their characters alone.
    good.append(("A house", "Das hier ist ein Haus"))
    bad = [(f"No {number}", f"Das ist ein Satz, der nicht dazu gehört {number}") for number in range(30)]
    bad += [(f"{number} " * 2000, f"{number} " * 2000) for number in range(2)]
    path = tmp_path / "corpus.tsv"
    path.write_text("".join(f"{source}\t{target}\n" for source, target in [*bad, *good]))
    for pair, name in (("en de", "words"), ("en zh", "pieces")):
        source, target = pair.split()
        assert prepare(path, tmp_path / name, source, target, merges=60, held_out=20)["test"] == 20
        for subset in ("valid", "test"):
            lines = (tmp_path / name / "reference" / f"{subset}.{source}").read_text().splitlines()
            assert len(lines) == 20 and all(line.startswith("A house") for line in lines)


def test_short_pairs_may_be_held_out_in_any_script(tmp_path: Path) -> None:
    # Three characters of English for one of Chinese.
    pairs = [("Hello.", "你好。"), ("I went home by bus.", "我坐车回家。"), ("Yes.", "是。")]
    options = PrepareOptions(data=(tmp_path,), out=tmp_path / "out", target_lang="zh")
    usable = preparation._roughly_usable(
        [*pairs, ("The weather is fine today.", "今天天气好。")] * 9, options
    )
    assert all(map(usable, pairs)) and not usable(
        ("Yes.", "是的，我昨天已经坐车回家，今天天气也很好，我们去公园。")
    )


def test_nothing_that_is_held_out_is_in_train(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    # Each English sentence three times, not side by side, as in collections of translations.
    pairs = [(f"House {number}", f"Haus {number} {way}") for way in "abc" for number in range(40)]
    split = hold_out([("", "leer"), *pairs], None)
    assert [len(split[subset]) for subset in ("train", "valid", "test")] == [109, 2, 2]
    held_out = {source for subset in ("valid", "test") for source, _ in split[subset]}
    assert len(held_out) == 4 and held_out.isdisjoint(source for source, _ in split["train"])
    with pytest.raises(
        UsageError, match="--held-out 14: of 40 usable pairs with different sources so many cannot"
    ):
        hold_out(pairs, 14)
    path = tmp_path / "corpus.tsv"
    path.write_text("".join(f"{source}\t{target}\n" for source, target in pairs))
    command = ["--data", str(path), "--out", str(tmp_path / "out"), "--source-lang", "en", "--merges", "9"]
    assert main(["prepare", *command]) == 0
    told = capsys.readouterr()
    assert "train: 108 sentence pairs, 8 left out (8 other translations of what is held out)" in told.out
    assert "warning" not in told.err and "as well" not in told.out


def test_what_is_held_out_is_not_in_train_in_another_writing(tmp_path: Path) -> None:
    pairs = [(f"It{mark}s  house {number}.", f"Haus {number}.") for mark in "'’" for number in range(40)]
    path = tmp_path / "corpus.tsv"
    path.write_text("".join(f"{source}\t{target}\n" for source, target in pairs))
    found = prepare_text(path, tmp_path / "out", "en", "de", merges=10, held_out=10)
    assert found.pairs == {"train": 40, "valid": 10, "test": 10}
    assert found.known == {"valid": 0, "test": 0}


def test_a_corpus_too_small_to_be_split_says_what_to_do(tmp_path: Path) -> None:
    path = tmp_path / "corpus.tsv"
    path.write_text("".join(f"House {number}\tHaus {number}\n" for number in range(10)))
    with pytest.raises(UsageError, match=r"--data: 10 usable pairs .* name a folder with train, valid and"):
        prepare_text(path, tmp_path / "out", "en", "de", merges=10)


def test_languages_that_need_fewer_words_lose_no_pairs(data: Path, tmp_path: Path) -> None:
    english = ["I 'm going to sleep .", "They are going to get married .", "I was not able to sleep ."] * 4
    write_split(
        data, "train", [*english, "a"], ["Uyuyacağım .", "Evlenecekler .", "Uyuyamadım ."] * 4 + ["a b c"]
    )
    found = prepare_text(data, tmp_path / "out", "en", "de", merges=10)
    # Only what is lopsided beside the others is left out.
    assert found.pairs["train"] == 12 and found.dropped == {"more lopsided than --max-ratio 2.5": 1}


def test_one_endless_line_does_not_say_what_is_usual(data: Path, tmp_path: Path) -> None:
    write_split(data, "train", ["a b c d"] * 9, ["e f g h"] * 8 + ["x " * 9000])
    found = prepare_text(data, tmp_path / "out", "en", "de", merges=10)
    assert found.pairs["train"] == 8 and found.dropped == {"longer than --max-length 175": 1}


@pytest.mark.parametrize(("ending", "line"), [("tsv", "Hi\tHallo"), ("jsonl", '{"en": "Hi", "de": "Hallo"}')])
def test_blank_lines_of_one_file_are_left_out(tmp_path: Path, ending: str, line: str) -> None:
    path = tmp_path / f"corpus.{ending}"
    path.write_text(f"\n{line}\n\n{line}\n\n")
    assert read_corpus([path], "en", "de") == [("Hi", "Hallo"), ("Hi", "Hallo")]
    if ending == "tsv":
        path.write_text(f"\nde\ten\n \n{line}\nx\n")
        with pytest.raises(DataError, match="line 5 has 1 columns"):
            read_corpus([path], "en", "de")
        path.write_text(f"\nde\ten\n{line}\n")
        assert read_corpus([path], "en", "de") == [("Hallo", "Hi")]


def test_sources_of_test_that_are_in_train_are_told(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_split(data, "train", [*ENGLISH, "A new one."], [*GERMAN, "Ein neuer."])
    write_split(data, "test", ["A new one.", "Another one."], ["Ein neuer.", "Noch einer."])
    assert prepare_text(data, tmp_path / "out", "en", "de", merges=10).known["test"] == 1
    assert main(["prepare", "--data", str(data), "--out", str(tmp_path / "out"), "--merges", "10"]) == 0
    assert "test: 1 of its sources are in train as well" in capsys.readouterr().out


def test_training_text_without_a_usable_pair_is_refused(data: Path, tmp_path: Path) -> None:
    write_split(data, "train", ["", "a"], ["b", ""])
    message = refusal(data, tmp_path / "out")
    assert "no usable training pair" in message and "--max-length 175" in message


def test_a_link_in_the_place_of_the_unfinished_folder_is_not_followed(data: Path, tmp_path: Path) -> None:
    theirs = tmp_path / "theirs"
    theirs.mkdir()
    (tmp_path / "out").mkdir()
    for name in (".part", "bin"):
        (tmp_path / "out" / name).symlink_to(theirs)
    prepare(data, tmp_path / "out", "en", "de", merges=10)
    assert not list(theirs.iterdir()) and not (tmp_path / "out" / "bin").is_symlink()


@pytest.mark.parametrize("name", ["bin", "bpe", "reference"])
def test_files_of_others_are_not_deleted(data: Path, tmp_path: Path, name: str) -> None:
    out = tmp_path / "home"
    (out / name).mkdir(parents=True)
    (out / name / "tool").write_text("mine")
    with pytest.raises(UserError, match=f"{name}.*tool"):
        prepare(data, out, "en", "de", merges=10)
    assert [path.name for path in out.rglob("*")] == [name, "tool"]


def test_files_of_others_among_ours_are_not_deleted(data: Path, tmp_path: Path) -> None:
    prepare(data, tmp_path, "en", "de", merges=10)
    (tmp_path / "bin" / "checkpoints").mkdir()
    with pytest.raises(UserError, match="'bin' would be replaced, but 'checkpoints' in it was not made here"):
        prepare(data, tmp_path, "en", "de", merges=10)
    assert (tmp_path / "bin" / "checkpoints").is_dir()
    (tmp_path / "bin" / "checkpoints").rmdir()
    prepare(data, tmp_path, "en", "de", merges=10)


@pytest.mark.parametrize("name", ["bpe", "reference", "bpe.codes"])
def test_files_of_others_with_names_of_ours_are_not_replaced(data: Path, tmp_path: Path, name: str) -> None:
    out = tmp_path / "corpus"
    mine = out / name / "train.en" if "." not in name else out / name
    mine.parent.mkdir(parents=True)
    mine.write_text("mine\n")
    with pytest.raises(UserError, match=f"--out .*: its '{name}' would be replaced, but was not made here"):
        prepare(data, out, "en", "de", merges=10)
    assert mine.read_text() == "mine\n"
    assert sorted(out.iterdir()) == [out / name]


@pytest.mark.parametrize(("name", "folder"), [("bpe.codes", True), ("reference", False)])
def test_what_is_no_file_or_no_folder_is_not_replaced(
    data: Path, tmp_path: Path, name: str, folder: bool
) -> None:
    prepare(data, tmp_path / "out", "en", "de", merges=10)
    place = tmp_path / "out" / name
    place.unlink() if folder else shutil.rmtree(place)
    place.mkdir() if folder else place.write_text("mine")
    with pytest.raises(UserError, match=f"its '{name}' would be replaced, but was not made here"):
        prepare(data, tmp_path / "out", "en", "de", merges=10)
    assert place.is_dir() if folder else place.read_text() == "mine"


def test_text_in_a_folder_that_would_be_replaced_is_not_read(data: Path, tmp_path: Path) -> None:
    shutil.move(data, tmp_path / "corpus" / "reference")
    for _ in range(2):
        with pytest.raises(UserError, match="reference: lies in the 'reference' of --out"):
            prepare(tmp_path / "corpus" / "reference", tmp_path / "corpus", "en", "de", merges=10)
        # As if it had been made here.
        (tmp_path / "corpus" / "bin").mkdir(exist_ok=True)
        (tmp_path / "corpus" / "bin" / "text.json").touch()
    assert (tmp_path / "corpus" / "reference" / "train.en").is_file()


def test_what_comes_there_meanwhile_stays(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def learn(lines: Any, merges: int) -> str:
        (tmp_path / "out" / "bpe.codes").write_text("mine")
        return learn_merges(lines, merges)

    monkeypatch.setattr(preparation, "learn_merges", learn)
    with pytest.raises(UserError, match=r"its 'bpe\.codes' would be replaced, but was not made here"):
        prepare(data, tmp_path / "out", "en", "de", merges=10)
    assert (tmp_path / "out" / "bpe.codes").read_text() == "mine"


@pytest.mark.parametrize("first", [True, False])
@pytest.mark.parametrize("at", [1, 2, 3, 4])
def test_an_interruption_at_the_end_leaves_the_data_of_before(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, at: int, first: bool
) -> None:
    out, calls = tmp_path / "out", 0
    out.mkdir()
    (out / ".prepared").touch()
    if not first:
        prepare(data, out, "en", "de", merges=10)
    before = {path: path.read_bytes() for path in out.rglob("*") if path.is_file()}
    moves = os.replace

    def interrupted(source: Path, target: Path) -> None:
        nonlocal calls
        if target.parent == out and source.parent.name == ".part":
            calls += 1
            if calls == at:
                raise KeyboardInterrupt
        moves(source, target)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(os, "replace", interrupted)
        prepare(data, out, "en", "de", merges=20)
    assert {path: path.read_bytes() for path in out.rglob("*") if path.is_file()} == before
    assert prepare(data, out, "en", "de", merges=20)["train"] == 20


@pytest.mark.parametrize("first", [True, False])
def test_a_kill_at_the_end_leaves_the_data_of_before(data: Path, tmp_path: Path, first: bool) -> None:
    out = tmp_path / "out"
    if not first:
        prepare(data, out, "en", "de", merges=10)
    before = {path: path.read_bytes() for path in out.rglob("*") if path.is_file()}

    def killed() -> None:
        moves = os.replace

        def replace(source: Path, target: Path) -> None:
            if target == out / "bpe.codes":
                os.kill(os.getpid(), signal.SIGKILL)
            moves(source, target)

        os.replace = replace  # type: ignore[assignment]
        prepare(data, out, "en", "de", merges=20)

    assert forked(killed, out).status == -signal.SIGKILL
    with pytest.raises(DataError):
        prepare(data, out, "en", "fr", merges=10)
    if not first:
        assert {path: path.read_bytes() for path in out.rglob("*") if path.is_file()} == before
    assert prepare(data, out, "en", "de", merges=10)["train"] == 20


def test_two_do_not_write_to_one_folder(data: Path, tmp_path: Path) -> None:
    with alone(tmp_path / "out"), pytest.raises(BusyError, match="out: another process is writing there"):
        prepare(data, tmp_path / "out", "en", "de", merges=10)
    assert not (tmp_path / "out").exists()


def test_a_failure_leaves_the_data_of_before(data: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    prepare(data, out, "en", "de", merges=10)
    before = {path: path.read_bytes() for path in out.rglob("*") if path.is_file()}
    with pytest.raises(DataError, match="no usable training pair"):
        prepare(data, out, "en", "de", merges=20, max_length=1)
    assert {path: path.read_bytes() for path in out.rglob("*") if path.is_file()} == before


def test_a_folder_that_is_deleted_meanwhile_is_an_error(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def learn(lines: Any, merges: int) -> str:
        shutil.rmtree(tmp_path / "out")
        return learn_merges(lines, merges)

    with (
        monkeypatch.context() as patch,
        pytest.raises(DataError, match="out: was deleted meanwhile; run the"),
    ):
        patch.setattr(preparation, "learn_merges", learn)
        prepare(data, tmp_path / "out", "en", "de", merges=10)
    assert not (tmp_path / "out" / "bin").exists()
    assert prepare(data, tmp_path / "out", "en", "de", merges=10)["train"] == 20


def test_the_command(data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["prepare", "--data", str(data), "--out", str(tmp_path / "out"), "--merges", "10"]
    assert main(arguments) == 0
    assert (
        "train: 20 sentence pairs\nvalid: 2 sentence pairs\ntest: 1 sentence pairs" in capsys.readouterr().out
    )
    with pytest.raises(SystemExit, match="2"):
        main([*arguments, "--workers", "0"])
    assert "--workers 0: needs at least 1" in capsys.readouterr().err
    (data / "train.de").unlink()
    with pytest.raises(SystemExit, match="2"):
        main(arguments)
    line = capsys.readouterr().err.splitlines()[-1]
    assert line == f"vqnat prepare: error: --data {data}: needs train.en and train.de"
