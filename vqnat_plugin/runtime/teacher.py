"""An exported autoregressive model, which ranks candidates and checks drafts."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from .decoding import Decoding
from .exported import EOS, PAD, SPECIALS, TEACHER_GRAPHS, UNK, Exported
from .graphs import KINDS, LOGITS, Floats, Whole, memory_feeds, padded, parts
from .hypotheses import Hypothesis
from .positions import Positions
from .sessions import open_session
from .verification import Shown, Verdict, Verified, verify

# Word logits of the first pass over drafts, which reads all their words, that are made at a time.
LOGITS_AT_FIRST = 1 << 24
SEARCH = {"search": np.array([True])}
NO_SEARCH = {"search": np.array([False]), "extra": np.zeros((0, SPECIALS), np.float32)}


class Teacher:
    """Encoder and scorer of an autoregressive model; may be used by several threads at once."""

    def __init__(self, exported: Exported, threads: int) -> None:
        """Load the graphs.

        Args:
            exported: where they are.
            threads: how many a computation may use.

        Raises:
            DataError: ONNX Runtime cannot read a file.
        """
        sessions = [open_session(exported.path(f"{name}.onnx"), threads) for name in TEACHER_GRAPHS]
        self._encoder, self._scorer = sessions
        self._source_positions, self._positions = (Positions(_width(each)) for each in sessions)
        self._symbols, self._longest = exported.sizes["target_symbols"], exported.teacher_longest

    def rank(
        self,
        rows: Sequence[Sequence[int]],
        found: Sequence[list[Hypothesis]],
        lenpen: float,
        scores: bool = True,
    ) -> list[list[Hypothesis]]:
        """Candidates with the teacher's scores, best first.

        Args:
            rows: source tokens of each sentence, with EOS.
            found: its candidates, at least one.
            lenpen: exponent of the number of sub-words by which log-probabilities are divided.
            scores: whether they are needed where all candidates of a sentence have the same words.
        """
        # Different latents often give the same words.
        distinct = [list(dict.fromkeys(tuple(each.tokens) for each in every)) for every in found]
        undecided = [number for number, words in enumerate(distinct) if scores or len(words) > 1]
        ranked = list(found)
        if not undecided:
            return ranked
        table = self._score(
            [rows[number] for number in undecided], [distinct[number] for number in undecided]
        )
        for number, row in zip(undecided, table.tolist(), strict=True):
            by_words = {
                words: score / len(words) ** lenpen
                for words, score in zip(distinct[number], row, strict=False)
            }
            scored = [replace(each, score=by_words[tuple(each.tokens)]) for each in found[number]]
            ranked[number] = sorted(scored, key=lambda each: -each.score)
        return ranked

    def _score(self, rows: Sequence[Sequence[int]], found: Sequence[Sequence[Sequence[int]]]) -> Floats:
        """Log-probabilities of the candidates, nats, (sentences, most candidates); 0 where there is none."""
        memory, mask = self._encode(rows)
        scores = np.zeros((len(found), max(map(len, found))), np.float32)
        for group in {len(every) for every in found}:
            # Together with those that have as many, so that no row is filled up for nothing.
            alike = [number for number, every in enumerate(found) if len(every) == group]
            tokens = padded([words for number in alike for words in found[number]])
            there, seen, own = memory[:, alike], mask[alike], np.zeros(len(tokens), np.float32)
            for sentences, some in parts(len(alike), group, LOGITS // (tokens.shape[1] * self._symbols)):
                own[some] = self._run(tokens[some], memory_feeds(there[:, sentences], seen[sentences]))
            scores[alike, :group] = own.reshape(-1, group)
        return scores

    def _run(self, tokens: Whole, memory: dict[str, Any]) -> Floats:
        """Log-probabilities (rows,) of candidates (rows, words), as many of each source in turn."""
        scores = np.zeros(tokens.shape, np.float32)
        places = np.flatnonzero(tokens != PAD)
        before = np.full_like(tokens, EOS)
        before[:, 1:] = tokens[:, :-1]
        feeds = {**memory, "before": before, "tokens": tokens, "places": places}
        feeds |= {"positions": self._positions(tokens.shape[1])[None], **_past(memory, len(tokens))}
        feeds |= {"seen": np.ones(tokens.shape, np.int32), **NO_SEARCH}
        [scores.flat[places]] = self._scorer.run(["log_probabilities"], feeds)
        return scores.sum(-1)

    def _encode(self, rows: Sequence[Sequence[int]]) -> tuple[Floats, Any]:
        """Keys and values of sources, and their mask."""
        source = padded(rows)
        feeds = {"source": source, "positions": self._source_positions(source.shape[1])}
        memory, mask = self._encoder.run(["memory", "mask"], feeds)
        return memory, mask

    def verify(
        self, rows: Sequence[Sequence[int]], drafts: Sequence[Hypothesis], options: Decoding
    ) -> list[Hypothesis]:
        """What becomes of drafts when they are checked, with the teacher's scores.

        Args:
            rows: source tokens of each sentence, with EOS.
            drafts: its translation.
            options: their `tolerance`, limits and penalties are the teacher's.
        """
        memory, mask = self._encode(rows)
        tokens = [each.tokens for each in drafts]
        most = [min(options.limit(len(row)), self._longest) for row in rows]
        found: list[Verified] = []
        words = max(min(len(draft), limit) for draft, limit in zip(tokens, most, strict=True))
        together = LOGITS_AT_FIRST // (words * self._symbols)
        for some, _ in parts(len(rows), 1, together):
            feeds = memory_feeds(memory[:, some], mask[some])
            reader = SourceReader(self._scorer, self._positions, feeds, options)
            found += verify(tokens[some], reader, most[some], options.tolerance)
        # No code stands for words that the teacher may have put.
        return [
            Hypothesis(each.tokens, sum(each.scores) / len(each.tokens) ** options.lenpen, [], each.passes)
            for each in found
        ]


class SourceReader:
    """A teacher with sources, see `verification.Reader`; keeps keys and values of what was read.

    Where one row went on and another did not, what did not pass stays between what did, and is seen no more.
    """

    def __init__(
        self,
        scorer: Any,
        positions: Callable[[int], Floats],
        memory: dict[str, Any],
        options: Decoding,
    ) -> None:
        self._scorer, self._positions, self._memory = scorer, positions, memory
        self._options = options
        rows = len(memory["mask"])
        self._past, self._numbers = _past(memory, rows), list(range(rows))
        # Where each row may see what was read, how much of that is of the last pass, and how many tokens had
        # been accepted before it.
        self._seen, self._last = np.zeros((rows, 0), np.int32), 0
        self._accepted = np.zeros(rows, np.int64)
        self._names = ["log_probabilities", "best", "best_log_probabilities"]
        self._names += [name.replace("past", "present") for name in self._past]

    def read(self, shown: Mapping[int, Shown]) -> list[Verdict]:
        """See `verification.Reader`."""
        accepted = np.array([each.accepted for each in shown.values()])
        self._forget(list(shown), accepted)
        words = [_with_end(each.tokens) for each in shown.values()]
        scored, counts = padded(words), np.array([*map(len, words)])
        before = np.concatenate([[[each.last] for each in shown.values()], scored[:, :-1]], 1)
        real = np.arange(scored.shape[1]) < counts[:, None]
        places = accepted[:, None] + np.arange(scored.shape[1])
        extra = np.zeros((counts.sum(), SPECIALS), np.float32)
        extra[:, PAD], extra[:, UNK] = -np.inf, -self._options.unkpen
        extra[places[real] < self._options.min_len, EOS] = -np.inf
        self._seen = np.concatenate([self._seen, np.ones(scored.shape, np.int32)], 1)
        feeds = {**self._memory, **self._past, "before": before, "tokens": scored, "seen": self._seen}
        feeds |= {"places": np.flatnonzero(real), "extra": extra, **SEARCH}
        feeds["positions"] = self._positions(int(places.max()) + 1)[places]
        scores, best, best_scores, *present = self._scorer.run(self._names, feeds)
        self._past, self._last = dict(zip(self._past, present, strict=True)), scored.shape[1]
        # What the best tokens are taken with counts for those that are shown as well.
        special = np.flatnonzero(scored[real] < SPECIALS)
        scores[special] += extra[special, scored[real][special]]
        each_row = (np.split(values, np.cumsum(counts)[:-1]) for values in (best, best_scores, scores))
        return [Verdict(*(part.tolist() for part in row)) for row in zip(*each_row, strict=True)]

    def _forget(self, numbers: list[int], accepted: Whole) -> None:
        """Leave sentences out that are finished, and what did not pass."""
        rows: Any = slice(None)
        if numbers != self._numbers:
            rows = [self._numbers.index(number) for number in numbers]
            self._memory = {name: each[rows] for name, each in self._memory.items()}
        before, passed = self._seen.shape[1] - self._last, accepted - self._accepted[rows]
        end = before + int(passed.max())
        self._past = {name: np.ascontiguousarray(each[rows, :, :end]) for name, each in self._past.items()}
        self._seen = self._seen[rows, :end]
        self._seen[:, before:] = np.arange(end - before) < passed[:, None]
        self._accepted, self._numbers = accepted, numbers


def _with_end(tokens: list[int]) -> list[int]:
    return tokens if tokens and tokens[-1] == EOS else [*tokens, EOS]


def _past(memory: dict[str, Any], rows: int) -> dict[str, Floats]:
    """Keys and values of nothing, by name: what so many rows have read at their start."""
    heads, dim = memory["memory_keys_0"].shape[1], memory["memory_keys_0"].shape[3]
    empty = np.zeros((rows, heads, 0, dim), np.float32)
    layers = range((len(memory) - 1) // len(KINDS))
    return {f"past_{kind}_{number}": empty for number in layers for kind in KINDS}


def _width(session: Any) -> int:
    """That of the vectors of positions."""
    return int(next(each.shape[-1] for each in session.get_inputs() if each.name == "positions"))
