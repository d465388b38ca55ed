"""The graphs of an exported model in ONNX Runtime."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .decoding import Decoding
from .exported import BOS, EOS, GRAPHS, PAD, SPECIALS, UNK, Exported
from .positions import Positions
from .sessions import open_session

Floats = NDArray[np.float32]
Whole = NDArray[np.int64]
KINDS = ("keys", "values")
# Word logits that are made at a time.
LOGITS = 1 << 22


@dataclass
class Memory:
    """Encoded sources: what each layer sees of them, and a mask.

    Attributes:
        predictor, decoder: keys and values of each layer in turn, (batch, heads, positions, head dim).
        mask: 1 at real tokens, (batch, positions).
    """

    predictor: list[Floats]
    decoder: list[Floats]
    mask: NDArray[np.int32]

    @property
    def batch(self) -> int:
        """Number of sentences."""
        return len(self.mask)

    def part(self, part: slice) -> "Memory":
        """Some of the sentences, not copied."""
        predictor, decoder = ([each[part] for each in values] for values in (self.predictor, self.decoder))
        return Memory(predictor, decoder, self.mask[part])


class Graphs:
    """Encoder, step and writer; may be used by several threads at once."""

    def __init__(self, exported: Exported, threads: int) -> None:
        """Load them.

        Args:
            exported: where they are.
            threads: how many a graph may use.

        Raises:
            DataError: ONNX Runtime cannot read a file.
        """
        self._sessions = {name: open_session(exported.path(f"{name}.onnx"), threads) for name in GRAPHS}
        self.codes, self.steps = exported.sizes["codebook_size"], exported.sizes["compress_steps"]
        self._dim, self._heads = exported.sizes["embed_dim"], exported.sizes["attention_heads"]
        self._symbols = exported.sizes["target_symbols"]
        self._predictor_layers = exported.sizes["predictor_layers"]
        self.positions = Positions(self._dim)

    def encode(self, rows: Sequence[Sequence[int]]) -> Memory:
        """Encode sentences, each ended by EOS."""
        source = padded(rows)
        feeds = {"source": source, "positions": self.positions(source.shape[1])}
        memory, mask = self._sessions["encoder"].run(["memory", "mask"], feeds)
        split = 2 * self._predictor_layers
        return Memory(list(memory[:split]), list(memory[split:]), mask)

    def predict(self, memory: Memory, group: int) -> "Prediction":
        """The latent predictor at its first step, for `group` sequences a sentence."""
        shape = (memory.batch * group, self._heads, 0, self._dim // self._heads)
        return Prediction(self._sessions["step"], memory, self.positions, np.empty(shape, np.float32))

    def write(
        self,
        memory: Memory,
        codes: Whole,
        real: NDArray[np.bool_],
        most: int,
        options: Decoding,
        scores: bool,
    ) -> "Words":
        """The words of all positions that may be needed.

        Args:
            memory: of the sources; as many consecutive rows of codes share one as there are.
            codes: (rows, latents).
            real: which of them are, likewise.
            most: at most so many positions are needed.
            options: their `min_len` and `unkpen` count.
            scores: whether log-probabilities are needed.
        """
        latents = codes.shape[1]
        group, words = len(codes) // memory.batch, latents << self.steps
        needed = min(words, most)
        extra = np.zeros((needed, SPECIALS), np.float32)
        extra[:, [BOS, PAD]], extra[:, UNK] = -np.inf, -options.unkpen
        extra[: options.min_len, EOS] = -np.inf
        shared = {
            "latent_positions": self.positions(latents),
            "positions": self.positions(words),
            "needed": np.array([needed]),
            "extra": extra,
            "scores": np.array([scores]),
        }
        found = []
        for sentences, rows in parts(memory.batch, group, LOGITS // (needed * self._symbols)):
            part = memory.part(sentences)
            feeds = {"codes": codes[rows], "real": real[rows, :, None].astype(np.float32), **shared}
            feeds |= memory_feeds(part.decoder, part.mask)
            found.append(self._sessions["writer"].run(["tokens", "log_probabilities", "ends"], feeds))
        return Words(*(found[0] if len(found) == 1 else map(np.concatenate, zip(*found, strict=True))))


def parts(batch: int, group: int, most: int) -> Iterator[tuple[slice, slice]]:
    """Sentences, and their rows, `group` for each: at most `most` rows at a time, but at least one."""
    sentences = max(1, most // group)
    # All rows of several sentences, or some of one.
    rows = sentences * max(1, min(most, group))
    for start in range(0, batch, sentences):
        end = min(start + sentences, batch)
        for first in range(start * group, end * group, rows):
            yield slice(start, end), slice(first, min(first + rows, end * group))


@dataclass
class Words:
    """The most probable word of each position, as if none were the last.

    Attributes:
        tokens: (rows, words).
        log_probabilities: of the tokens, nats, (rows, words); empty where no scores are needed.
        ends: log-probability of EOS instead, likewise.
    """

    tokens: Whole
    log_probabilities: Floats
    ends: Floats


class Prediction:
    """The predictor on its way through a batch, with the keys and values of the steps before."""

    def __init__(
        self, session: Any, memory: Memory, positions: Callable[[int], Floats], empty: Floats
    ) -> None:
        self._session, self._positions = session, positions
        layers = range(len(memory.predictor) // 2)
        self._past = [f"past_{kind}_{number}" for number in layers for kind in KINDS]
        self._names = ["log_probabilities"] + [name.replace("past", "present") for name in self._past]
        # Arrays go in and out faster than ONNX Runtime's own values, which cost more to wrap than to copy.
        self._feeds = memory_feeds(memory.predictor, memory.mask) | dict.fromkeys(self._past, empty)

    def step(self, codes: Whole, position: int) -> Floats:
        """Log-probabilities of the next code, (rows, codebook size + 1), after `codes` (rows,)."""
        self._feeds["code"] = codes[:, None]
        self._feeds["position"] = self._positions(position + 1)[position]
        found, *present = self._session.run(self._names, self._feeds)
        self._feeds.update(zip(self._past, present, strict=True))
        return found[:, 0]

    def select(self, rows: Whole) -> None:
        """Go on with the given rows, in that order."""
        for name in self._past:
            self._feeds[name] = self._feeds[name][rows]


def memory_feeds(values: Sequence[Floats] | Floats, mask: NDArray[np.int32]) -> dict[str, Any]:
    """Keys and values of each layer in turn, and their mask, by the names that they have as inputs."""
    names = (f"memory_{kind}_{number}" for number in range(len(values) // 2) for kind in KINDS)
    return dict(zip(names, values, strict=True)) | {"mask": mask}


def padded(rows: Sequence[Sequence[int]]) -> Whole:
    """Rows of tokens as one array, with `PAD` behind the shorter ones, (rows, longest)."""
    tokens = np.full((len(rows), max(map(len, rows))), PAD, np.int64)
    for number, row in enumerate(rows):
        tokens[number, : len(row)] = row
    return tokens
