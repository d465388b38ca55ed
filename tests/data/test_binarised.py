"""Whether binarised sentences are whole, and of the dictionary that they are read with."""

from pathlib import Path

import numpy as np
import pytest
import torch
from fairseq.data import data_utils, indexed_dataset

from vqnat_plugin.data import binarised
from vqnat_plugin.data.binarised import require_sound
from vqnat_plugin.errors import DataError

SENTENCES = [[4, 5, 2], [2], [6, 2]]


@pytest.fixture(autouse=True)
def several_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(binarised, "BLOCK", 2)


def written(folder: Path, impl: str = "mmap", symbols: int = 7) -> Path:
    """The prefix of a data set of a few sentences."""
    builder = indexed_dataset.make_builder(str(folder / "train.bin"), impl=impl, vocab_size=symbols)
    for sentence in SENTENCES:
        builder.add_item(torch.tensor(sentence))
    builder.finalize(str(folder / "train.idx"))
    return folder / "train"


@pytest.mark.parametrize(("impl", "symbols"), [("mmap", 7), ("mmap", 70_000), ("cached", 7)])
def test_what_fairseq_writes_is_sound(tmp_path: Path, impl: str, symbols: int) -> None:
    prefix = written(tmp_path, impl, symbols)
    require_sound(prefix, symbols)
    require_sound(prefix)


def test_token_ids_belong_to_the_dictionary(tmp_path: Path) -> None:
    prefix = written(tmp_path)
    with pytest.raises(DataError, match=r"train\.bin: has token 6, but the dictionary has 6 symbols"):
        require_sound(prefix, 6)
    with pytest.raises(DataError, match="has token 6"):
        data_utils.load_indexed_dataset(str(prefix), dictionary=range(5))
    assert len(data_utils.load_indexed_dataset(str(prefix), dictionary=range(7))) == len(SENTENCES)


@pytest.mark.parametrize("share", [0.0, 0.3, 0.5, 0.9, 0.99])
def test_an_index_that_is_cut_off(tmp_path: Path, share: float) -> None:
    prefix = written(tmp_path)
    index = tmp_path / "train.idx"
    index.write_bytes(index.read_bytes()[: int(share * index.stat().st_size)])
    with pytest.raises(DataError, match=r"train\.idx: (damaged or cut off|is no index)"):
        require_sound(prefix)


def test_any_damage_of_an_index_is_noticed_or_harmless(tmp_path: Path) -> None:
    prefix = written(tmp_path)
    index, random = tmp_path / "train.idx", np.random.default_rng(1)
    sound, noticed = index.read_bytes(), 0
    for _ in range(300):
        damaged = bytearray(sound)
        damaged[random.integers(len(sound))] ^= 1 << int(random.integers(8))
        index.write_bytes(damaged)
        try:
            require_sound(prefix, 7)
        except DataError:
            noticed += 1
            continue
        found = data_utils.load_indexed_dataset(str(prefix))
        assert all(found[number].max() < 7 for number in range(len(found)) if len(found[number]))
    assert noticed > 200


def test_a_binary_file_that_is_cut_off_or_empty(tmp_path: Path) -> None:
    prefix = written(tmp_path)
    binary = tmp_path / "train.bin"
    for content in (binary.read_bytes()[:-1], b""):
        binary.write_bytes(content)
        with pytest.raises(DataError, match=r"train\.bin: damaged or cut off"):
            require_sound(prefix, 7)
