import zipfile
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vqnat_plugin.distillation.chunks import (
    Chunk,
    ChunkStore,
    equal_length_batches,
    in_mixed_order,
    plan_chunks,
)
from vqnat_plugin.errors import DataError

some_lengths = st.lists(st.integers(1, 30), min_size=1, max_size=80).map(np.array)


@given(some_lengths, st.integers(1, 20))
def test_every_sentence_is_in_one_chunk_with_others_of_its_length(lengths: np.ndarray, size: int) -> None:
    chunks = plan_chunks(lengths, size)
    assert sorted(np.concatenate(chunks)) == list(range(len(lengths)))
    assert sorted(map(len, chunks))[1:] == [size] * (len(chunks) - 1)
    ranges = sorted((lengths[chunk].min(), lengths[chunk].max()) for chunk in chunks)
    assert all(earlier[1] <= later[0] for earlier, later in pairwise(ranges))


def test_ranks_get_the_same_work() -> None:
    lengths = np.arange(1, 1201)
    chunks = plan_chunks(lengths, 10)
    for world in (2, 3, 4, 7, 8):
        means = [np.mean([lengths[chunk].mean() for chunk in chunks[rank::world]]) for rank in range(world)]
        assert max(means) - min(means) <= 10 * world


def test_order_of_work_is_mixed_and_begins_with_the_longest() -> None:
    order = in_mixed_order(range(0, 400, 4))
    assert sorted(order) == list(range(0, 400, 4))
    assert order[0] == 0
    # Any tenth of the work tells how long the rest will take.
    tenths = [np.mean(order[start : start + 10]) for start in range(0, 100, 10)]
    assert max(abs(mean - np.mean(order)) for mean in tenths) < 40


@given(some_lengths, st.integers(1, 100), st.none() | st.integers(1, 5))
def test_batches_hold_sentences_of_one_length(
    lengths: np.ndarray, max_tokens: int, limit: int | None
) -> None:
    [chunk] = plan_chunks(lengths, len(lengths))
    batches = list(equal_length_batches(chunk, lengths, max_tokens, limit))
    assert np.concatenate(batches).tolist() == chunk.tolist()
    for batch in batches:
        assert len(set(lengths[batch])) == 1
        assert len(batch) == 1 or lengths[batch].sum() <= max_tokens
        assert limit is None or len(batch) <= limit


def test_no_sentence_is_no_batch() -> None:
    assert list(equal_length_batches(np.empty(0, np.int64), np.array([3]), 10, None)) == []


def test_chunk_is_read_as_it_was_written(tmp_path: Path) -> None:
    store = ChunkStore(tmp_path / "chunks")
    outputs = [np.array([4, 5], np.int32), None, np.empty(0, np.int32), np.array([70000], np.int32)]
    assert 3 not in store
    store.write(3, Chunk(np.array([9, 2, 7, 1]), outputs, 1.5))
    assert 3 in store
    chunk = store.read(3)
    assert chunk.indices.tolist() == [9, 2, 7, 1]
    assert [output if output is None else output.tolist() for output in chunk.outputs] == [
        [4, 5],
        None,
        [],
        [70000],
    ]
    assert chunk.seconds == 1.5


def test_half_written_chunk_is_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = ChunkStore(tmp_path)

    def cut_off(part: Path, **arrays: np.ndarray) -> None:
        part.write_bytes(b"PK")
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(np, "savez", cut_off)
        store.write(0, Chunk(np.array([0]), [np.array([4])], 0.0))
    assert 0 not in store
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("keep", [0, 10, 200])
def test_damaged_chunk_is_named(tmp_path: Path, keep: int) -> None:
    store = ChunkStore(tmp_path)
    store.write(0, Chunk(np.array([0]), [np.array([4])], 0.0))
    store.path(0).write_bytes(store.path(0).read_bytes()[:keep])
    with pytest.raises(DataError, match=r"000000\.npz: damaged .* delete it and run again"):
        store.read(0)


SOUND = {
    "indices": np.array([0, 1]),
    "lengths": np.array([2, -1]),
    "tokens": np.array([4, 5], np.int32),
    "seconds": np.array(1.0),
}


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("tokens", np.array([4, 5, 6], np.int32)),
        ("tokens", np.array([4, None], object)),
        ("tokens", np.array([4, 5])),
        ("lengths", np.array([3, -1])),
        ("lengths", np.array([2, -2])),
        ("lengths", np.array([2**62, 2**62])),
        ("lengths", np.array([2])),
        ("indices", np.array([[0], [1]])),
        ("indices", np.array(["0", "1"])),
        ("seconds", np.array([1.0])),
    ],
)
def test_forged_chunk_is_named(tmp_path: Path, name: str, value: np.ndarray) -> None:
    store = ChunkStore(tmp_path)
    np.savez(store.path(0), **SOUND)
    assert store.read(0).outputs[0].tolist() == [4, 5]
    np.savez(store.path(0), **{**SOUND, name: value})
    with pytest.raises(DataError, match=r"000000\.npz: (damaged|no chunk) .*delete it and run again"):
        store.read(0)


def test_chunk_takes_no_more_memory_than_its_file(tmp_path: Path) -> None:
    store = ChunkStore(tmp_path)
    np.savez_compressed(store.path(0), **{**SOUND, "tokens": np.zeros(1 << 20, np.int32)})
    with pytest.raises(DataError, match="is compressed"):
        store.read(0)
    with zipfile.ZipFile(store.path(0), "w") as archive:
        for name, value in SOUND.items():
            with archive.open(f"{name}.npy", "w") as stream:
                claimed = (10**11,) if name == "tokens" else value.shape
                header = {"descr": value.dtype.str, "fortran_order": False, "shape": claimed}
                np.lib.format.write_array_header_1_0(stream, header)
                stream.write(value.tobytes())
    with pytest.raises(DataError, match="holds other values than it says"):
        store.read(0)


@pytest.mark.parametrize(
    ("indices", "tokens", "fits"),
    [
        ([0, 9], [4, 19], True),
        ([0, 10], [4], False),
        ([-1, 0], [4], False),
        ([0], [20], False),
        ([0], [-1], False),
    ],
)
def test_chunk_of_other_data(indices: list[int], tokens: list[int], fits: bool) -> None:
    chunk = Chunk(np.array(indices), [np.array(tokens, np.int32), None], 0.0)
    assert chunk.fits(10, 20) == fits
    assert Chunk(np.array([0]), [None], 0.0).fits(1, 1)
