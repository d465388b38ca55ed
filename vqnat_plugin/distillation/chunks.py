"""The work in units: fixed chunks of sentences, each kept in one file once it is translated."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..errors import DataError
from ..files import write_atomically
from ..plain_arrays import read_npz

GOLDEN_RATIO = 0.6180339887498949
# What a file of a chunk holds: kind of numbers, and dimensions.
ARRAYS = {
    "indices": (np.int64, 1),
    "lengths": (np.int64, 1),
    "tokens": (np.int32, 1),
    "seconds": (np.float64, 0),
}


def plan_chunks(lengths: np.ndarray, size: int) -> list[np.ndarray]:
    """Split a corpus into chunks of sentences of similar length.

    The plan depends on the corpus alone. Ranks that take turns get about the same work.

    Args:
        lengths: source lengths in tokens, shape (sentences,).
        size: sentences in a chunk.

    Returns:
        Sentence indices of each chunk, longest first; together each sentence exactly once.
    """
    order = np.empty(len(lengths), np.int32)
    start = 0
    # A length at a time: sorting would take several times the memory of what it returns.
    for length in np.unique(lengths)[::-1]:
        same = np.flatnonzero(lengths == length)
        order[start : start + len(same)] = same
        start += len(same)
    return [order[start : start + size] for start in range(0, len(order), size)]


def in_mixed_order(numbers: Sequence[int]) -> list[int]:
    """The same chunks with long and short ones in turn, so that progress foretells the time that remains.

    The first stays first: when it is the longest, what does not fit into memory shows at once.
    """
    return [numbers[i] for i in sorted(range(len(numbers)), key=lambda i: i * GOLDEN_RATIO % 1)]


def equal_length_batches(
    indices: np.ndarray, lengths: np.ndarray, max_tokens: int, batch_size: int | None
) -> Iterator[np.ndarray]:
    """Cut a chunk into batches whose sentences are all of one length.

    Without padding a translation does not depend on its neighbours, and neither does the limit on its length,
    which fairseq takes from the longest source of a batch. A sentence longer than `max_tokens` gets a batch
    of its own.

    Args:
        indices: sentences of the chunk, sorted by length.
        lengths: source lengths of the whole corpus, shape (sentences,).
        max_tokens: source tokens in a batch.
        batch_size: sentences in a batch, or None for no limit.
    """
    if not len(indices):
        return
    for same in np.split(indices, np.flatnonzero(np.diff(lengths[indices])) + 1):
        size = max(1, max_tokens // max(1, int(lengths[same[0]])))
        size = min(size, batch_size or size)
        for start in range(0, len(same), size):
            yield same[start : start + size]


@dataclass(frozen=True)
class Chunk:
    """The translations of one chunk.

    Attributes:
        indices: sentence indices, shape (n,).
        outputs: token ids of each translation without EOS, or None where the teacher cannot read the source.
        seconds: what it took.
    """

    indices: np.ndarray
    outputs: Sequence[np.ndarray | None]
    seconds: float

    def fits(self, sentences: int, symbols: int) -> bool:
        """Whether it can be of a corpus of so many sentences, and of a dictionary of so many symbols."""
        tokens = [output for output in self.outputs if output is not None]
        numbers = ((self.indices, sentences), (np.concatenate([*tokens, np.empty(0, np.int32)]), symbols))
        return all(
            values.min(initial=0) >= 0 and values.max(initial=0) < max(end, 1) for values, end in numbers
        )


class ChunkStore:
    """A folder of finished chunks. A file appears in one step, so that one that exists is whole."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def path(self, number: int) -> Path:
        """Where chunk `number` is kept."""
        return self.folder / f"{number:06d}.npz"

    def __contains__(self, number: int) -> bool:
        return self.path(number).is_file()

    def write(self, number: int, chunk: Chunk) -> None:
        """Keep a finished chunk."""
        tokens = [output for output in chunk.outputs if output is not None]
        lengths = [-1 if output is None else len(output) for output in chunk.outputs]

        def save(part: Path) -> None:
            np.savez(
                part,
                indices=chunk.indices.astype(np.int64),
                lengths=np.array(lengths, dtype=np.int64),
                tokens=np.concatenate([*tokens, np.empty(0, np.int32)]).astype(np.int32),
                seconds=np.array(chunk.seconds),
            )

        write_atomically(self.path(number), save)

    def read(self, number: int) -> Chunk:
        """A finished chunk.

        Raises:
            DataError: the file was damaged later on, or is none of ours.
        """
        try:
            arrays = read_npz(self.path(number), *ARRAYS)
        except Exception as error:
            # Of any kind: damaged files get far into numpy.
            raise DataError(f"{self.path(number)}: damaged ({error}); delete it and run again") from None
        indices, lengths, tokens, seconds = arrays
        fits = (
            [(array.dtype, array.ndim) for array in arrays] == list(ARRAYS.values())
            and len(indices) == len(lengths)
            and ((lengths >= -1) & (lengths <= len(tokens))).all()
            and np.maximum(lengths, 0).sum() == len(tokens)
        )
        if not fits:
            raise DataError(f"{self.path(number)}: no chunk of translations; delete it and run again")
        ends = np.cumsum(np.maximum(lengths, 0))
        outputs = [
            None if length < 0 else tokens[end - length : end]
            for length, end in zip(lengths, ends, strict=True)
        ]
        return Chunk(indices, outputs, float(seconds))
