"""What distillation keeps in memory for each sentence pair, so that large corpora fit."""

import shutil
import tracemalloc
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from distilling import manifest, options

from vqnat_plugin.distillation.chunks import Chunk, plan_chunks
from vqnat_plugin.distillation.corpus import ENDINGS, open_data, write_sentences
from vqnat_plugin.distillation.merge import merge
from vqnat_plugin.distillation.workspace import Workspace, identity

# 50 million pairs in 2 GiB.
BYTES = 40
LENGTH = 12


def sentences(count: int, seed: int) -> Iterator[torch.Tensor]:
    rng = np.random.default_rng(seed)
    for length in rng.integers(1, 2 * LENGTH, count).tolist():
        yield torch.from_numpy(np.append(rng.integers(4, 40, length), 2))


def merged(folder: Path, corpus: Path, count: int) -> int:
    """Distil so many sentence pairs, whose translations are there already; the most memory it took."""
    folder.mkdir()
    for number, language in enumerate(("en", "de")):
        shutil.copyfile(corpus / f"dict.{language}.txt", folder / f"dict.{language}.txt")
        write_sentences(folder / f"train.en-de.{language}", sentences(count, number), 48)
    (folder / "teacher.pt").write_bytes(b"teacher")
    some = options(
        data=folder, teacher=str(folder / "teacher.pt"), out=folder / "out", mix="both", chunk_size=500
    )
    data = open_data(folder)
    workspace = Workspace(some.out, identity(some, data))
    workspace.open()
    lengths, rng = data.read().source_lengths, np.random.default_rng(1)
    for number, indices in enumerate(plan_chunks(lengths, some.chunk_size)):
        outputs = [
            rng.integers(4, 40, length).astype(np.int32) for length in rng.integers(1, 24, len(indices))
        ]
        workspace.chunks.write(number, Chunk(indices, outputs, 0.0))
    tracemalloc.start()
    try:
        read = data.read()
        # fairseq reads files through once, 100 MiB at a time.
        tracemalloc.reset_peak()
        merge(some, data, read, workspace, len(plan_chunks(read.source_lengths, some.chunk_size)))
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert manifest(some.out)["counts"]["in"] == count
    return peak


@pytest.mark.parametrize(
    ("few", "many"), [(1000, 5000), pytest.param(100_000, 400_000, marks=pytest.mark.slow)]
)
def test_memory_of_a_sentence_pair(tiny_corpus: Path, tmp_path: Path, few: int, many: int) -> None:
    peaks = [merged(tmp_path / str(count), tiny_corpus, count) for count in (few, many)]
    assert (peaks[1] - peaks[0]) / (many - few) < BYTES


def test_a_plan_takes_hardly_more_memory_than_it_is(tmp_path: Path) -> None:
    count = 200_000
    lengths = np.random.default_rng(1).integers(1, 60, count).astype(np.int32)
    tracemalloc.start()
    try:
        plan = plan_chunks(lengths, 1000)
        kept, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert kept < 5 * count and peak < 16 * count
    assert np.array_equal(np.concatenate(plan), np.lexsort((np.arange(count), -lengths)))


@pytest.mark.parametrize("vocabulary", [48, 1 << 17])
def test_files_are_those_of_fairseqs_writer(tmp_path: Path, vocabulary: int) -> None:
    from fairseq.data import indexed_dataset

    builder = indexed_dataset.make_builder(str(tmp_path / "theirs.bin"), impl="mmap", vocab_size=vocabulary)
    for sentence in sentences(50, 1):
        builder.add_item(sentence)
    builder.finalize(str(tmp_path / "theirs.idx"))
    write_sentences(tmp_path / "ours", sentences(50, 1), vocabulary)
    for ending in ENDINGS:
        assert (tmp_path / f"ours{ending}").read_bytes() == (tmp_path / f"theirs{ending}").read_bytes()
