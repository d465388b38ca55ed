from pathlib import Path

import pytest
import torch
from distilling import copy_of, ids

from vqnat_plugin.distillation.corpus import open_data, write_sentences
from vqnat_plugin.errors import DataError


def test_reads_the_direction_off_the_files(tiny_corpus: Path) -> None:
    data = open_data(tiny_corpus)
    assert (data.source_lang, data.target_lang) == ("en", "de")
    sentences = data.read()
    assert [sentences.source[i].tolist() for i in range(60)] == ids(tiny_corpus, "en")
    assert [sentences.target[i].tolist() for i in range(60)] == ids(tiny_corpus, "de")
    assert sentences.source_lengths.tolist() == [len(sentence) for sentence in ids(tiny_corpus, "en")]


def test_reads_the_same_files_the_other_way_round(tiny_corpus: Path) -> None:
    data = open_data(tiny_corpus, "de", "en")
    assert data.pair == "en-de"
    assert data.read().source[5].tolist() == ids(tiny_corpus, "de")[5]


def test_reads_numbered_parts_as_one(tiny_corpus: Path, tmp_path: Path) -> None:
    folder = copy_of(tiny_corpus, tmp_path / "data")
    for file in tiny_corpus.glob("valid.*"):
        (folder / file.name.replace("valid", "train1")).write_bytes(file.read_bytes())
    data = open_data(folder)
    sentences = data.read()
    assert len(sentences) == len(sentences.source_lengths) == 68
    assert sentences.target[67].tolist() == ids(tiny_corpus, "de", "valid")[-1]
    assert len(data.files("train")) == 8


def test_what_is_written_is_what_preprocess_wrote(tiny_corpus: Path, tmp_path: Path) -> None:
    sentences = open_data(tiny_corpus).read()
    rows = (torch.as_tensor(sentences.source[i]) for i in range(len(sentences)))
    write_sentences(tmp_path / "train.en-de.en", rows, len(sentences.source_dictionary))
    for ending in ("bin", "idx"):
        name = f"train.en-de.en.{ending}"
        assert (tmp_path / name).read_bytes() == (tiny_corpus / name).read_bytes()


@pytest.mark.parametrize(
    ("remove", "message"),
    [
        ("*", r"no train\.SRC-TGT\.SRC\.idx there"),
        ("train.en-de.de.bin", r"train\.en-de\.de\.bin or \.idx is missing"),
        ("train.en-de.de.idx", r"train\.en-de\.de\.bin or \.idx is missing"),
        ("dict.de.txt", r"dict\.de\.txt is missing"),
    ],
)
def test_missing_files_are_named(tiny_corpus: Path, tmp_path: Path, remove: str, message: str) -> None:
    folder = copy_of(tiny_corpus, tmp_path / "data")
    for file in folder.glob(remove):
        file.unlink()
    with pytest.raises(DataError, match=message):
        open_data(folder)


def test_unclear_pair_has_to_be_chosen(tiny_corpus: Path, tmp_path: Path) -> None:
    folder = copy_of(tiny_corpus, tmp_path / "data")
    (folder / "train.en-fr.en.idx").touch()
    with pytest.raises(DataError, match=r"holds en-de, en-fr; choose with --source-lang"):
        open_data(folder)
    assert open_data(folder, "en", "de").pair == "en-de"


def test_unequal_sides_are_refused(tiny_corpus: Path, tmp_path: Path) -> None:
    folder = copy_of(tiny_corpus, tmp_path / "data")
    for ending in ("bin", "idx"):
        (folder / f"valid.en-de.de.{ending}").replace(folder / f"train.en-de.de.{ending}")
    with pytest.raises(DataError, match="60 training sentences in en, but 8 in de"):
        open_data(folder).read()
