"""An exported autoregressive model, which ranks candidates and checks drafts."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from .decoding import Decoding
from .exported import EOS, PAD, SPECIALS, TEACHER_GRAPHS, UNK, Exported
from .graphs import KINDS, LOGITS, Floats, Whole, memory_feeds, padded, parts
from .hypotheses import Hypothesis
from .positions import Positions
from .sessions import open_session
from .verification import Verdict, Verified, verify


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
        states: Floats | None = None,
    ) -> list[list[Hypothesis]]:
        """Candidates with the teacher's scores, best first.

        Args:
            rows: source tokens of each sentence, with EOS.
            found: its candidates, at least one.
            lenpen: exponent of the number of sub-words by which log-probabilities are divided.
            scores: whether they are needed where all candidates of a sentence have the same words.
            states: see `Memory`.
        """
        # Different latents often give the same words.
        distinct = [list(dict.fromkeys(tuple(each.tokens) for each in every)) for every in found]
        undecided = [number for number, words in enumerate(distinct) if scores or len(words) > 1]
        ranked = list(found)
        if not undecided:
            return ranked
        table = self._score(
            [rows[number] for number in undecided],
            [distinct[number] for number in undecided],
            None if states is None else states[undecided],
        )
        for number, row in zip(undecided, table.tolist(), strict=True):
            by_words = {
                words: score / len(words) ** lenpen
                for words, score in zip(distinct[number], row, strict=False)
            }
            scored = [replace(each, score=by_words[tuple(each.tokens)]) for each in found[number]]
            ranked[number] = sorted(scored, key=lambda each: -each.score)
        return ranked

    def _score(
        self,
        rows: Sequence[Sequence[int]],
        found: Sequence[Sequence[Sequence[int]]],
        states: Floats | None,
    ) -> Floats:
        """Log-probabilities of the candidates, nats, (sentences, most candidates); 0 where there is none."""
        group = max(map(len, found))
        tokens = padded([words for every in found for words in (*every, *[()] * (group - len(every)))])
        memory, mask = self._encode(rows, states)
        scores = np.zeros(len(tokens), np.float32)
        for sentences, some in parts(len(found), group, LOGITS // (tokens.shape[1] * self._symbols)):
            scores[some] = self._run(tokens[some], memory_feeds(memory[:, sentences], mask[sentences]))
        return scores.reshape(len(found), group)

    def _run(self, tokens: Whole, memory: dict[str, Any]) -> Floats:
        """Log-probabilities (rows,) of candidates (rows, words), as many of each source in turn."""
        scores = np.zeros(tokens.shape, np.float32)
        places = np.flatnonzero(tokens != PAD)
        before = np.full_like(tokens, EOS)
        before[:, 1:] = tokens[:, :-1]
        feeds = {**memory, "before": before, "tokens": tokens, "places": places}
        feeds |= {"positions": self._positions(tokens.shape[1]), **_past(memory, len(tokens)), **NO_SEARCH}
        [scores.flat[places]] = self._scorer.run(["log_probabilities"], feeds)
        return scores.sum(-1)

    def _encode(self, rows: Sequence[Sequence[int]], states: Floats | None) -> tuple[Floats, Any]:
        """Keys and values of sources, and their mask."""
        source = padded(rows)
        feeds: dict[str, Any] = {"source": source}
        if states is None:
            feeds["positions"] = self._source_positions(source.shape[1])
        else:
            feeds["states"] = np.ascontiguousarray(states[:, : source.shape[1]])
        memory, mask = self._encoder.run(["memory", "mask"], feeds)
        return memory, mask

    def verify(
        self, row: Sequence[int], draft: Hypothesis, options: Decoding, states: Floats | None = None
    ) -> Hypothesis:
        """What becomes of a draft when it is checked, with the teacher's score.

        Args:
            row: source tokens, with EOS.
            draft: its translation.
            options: its `tolerance`, limits and penalties are the teacher's.
            states: of this sentence, see `Memory`.
        """
        memory = memory_feeds(*self._encode([row], states))
        reader = SourceReader(self._scorer, self._positions, memory, options)
        most = min(options.limit(len(row)), self._longest)
        found: Verified = verify(draft.tokens, reader, most, options.tolerance)
        score = sum(found.scores) / len(found.tokens) ** options.lenpen
        # No code stands for words that the teacher may have put.
        return Hypothesis(found.tokens, score, [], found.passes)


class SourceReader:
    """A teacher with one source, see `verification.Reader`; keeps keys and values of what was read."""

    def __init__(
        self,
        scorer: Any,
        positions: Callable[[int], Floats],
        memory: dict[str, Any],
        options: Decoding,
    ) -> None:
        self._scorer, self._positions, self._memory = scorer, positions, memory
        self._options = options
        self._past = _past(memory, 1)
        self._names = ["log_probabilities", "best", "best_log_probabilities"]
        self._names += [name.replace("past", "present") for name in self._past]

    def read(self, accepted: int, last: int, tokens: Sequence[int]) -> Verdict:
        """See `verification.Reader`."""
        ended = bool(tokens) and tokens[-1] == EOS
        scored = np.array([[*tokens, *[EOS] * (not ended)]])
        before = np.array([[last, *scored[0, :-1]]])
        count = scored.shape[1]
        extra = np.zeros((count, SPECIALS), np.float32)
        extra[:, PAD], extra[:, UNK] = -np.inf, -self._options.unkpen
        extra[: max(0, self._options.min_len - accepted), EOS] = -np.inf
        feeds = {**self._memory, "before": before, "tokens": scored, "places": np.arange(count)}
        feeds |= {name: np.ascontiguousarray(each[:, :, :accepted]) for name, each in self._past.items()}
        feeds |= {"positions": self._positions(accepted + count)[accepted:], "extra": extra, **SEARCH}
        scores, best, best_scores, *present = self._scorer.run(self._names, feeds)
        self._past = dict(zip(self._past, present, strict=True))
        # What the best tokens are taken with counts for those that are shown as well.
        special = np.flatnonzero(scored[0] < SPECIALS)
        scores[special] += extra[special, scored[0, special]]
        return Verdict(best.tolist(), best_scores.tolist(), scores.tolist())


SEARCH = {"search": np.array([True])}
NO_SEARCH = {"search": np.array([False]), "extra": np.zeros((0, SPECIALS), np.float32)}


def _past(memory: dict[str, Any], rows: int) -> dict[str, Floats]:
    """Keys and values of nothing, by name: what so many rows have read at their start."""
    heads, dim = memory["memory_keys_0"].shape[1], memory["memory_keys_0"].shape[3]
    empty = np.zeros((rows, heads, 0, dim), np.float32)
    layers = range((len(memory) - 1) // len(KINDS))
    return {f"past_{kind}_{number}": empty for number in layers for kind in KINDS}


def _width(session: Any) -> int:
    """That of the vectors of positions; 0 where there are none, see `Memory.states`."""
    return next((int(each.shape[-1]) for each in session.get_inputs() if each.name == "positions"), 0)
