"""Ranking candidates by an exported autoregressive model."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from .exported import PAD, TEACHER_GRAPHS, Exported
from .graphs import LOGITS, Floats, Whole, memory_feeds, padded
from .hypotheses import Hypothesis
from .positions import Positions
from .sessions import open_session


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
        self._symbols = exported.sizes["target_symbols"]

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
        group = max(map(len, found))
        tokens = padded([words for every in found for words in (*every, *[()] * (group - len(every)))])
        tokens = tokens.reshape(len(found), group, -1)
        source = padded(rows)
        feeds = {"source": source, "positions": self._source_positions(source.shape[1])}
        memory, mask = self._encoder.run(["memory", "mask"], feeds)
        # So many candidates at a time; one alone may have more logits.
        most = max(1, LOGITS // (tokens.shape[-1] * self._symbols))
        sentences, beam = max(1, most // group), min(most, group)
        scores = np.zeros((len(found), group), np.float32)
        for start in range(0, len(found), sentences):
            part = slice(start, start + sentences)
            seen = memory_feeds(memory[:, part], mask[part])
            for first in range(0, group, beam):
                some = slice(first, first + beam)
                scores[part, some] = self._run(tokens[part, some], seen)
        return scores

    def _run(self, tokens: Whole, memory: dict[str, Any]) -> Floats:
        """Log-probabilities (batch, group) of candidates (batch, group, words)."""
        flat = tokens.reshape(-1, tokens.shape[-1])
        scores = np.zeros(flat.shape, np.float32)
        places = np.flatnonzero(flat != PAD)
        feeds = {**memory, "tokens": flat, "places": places, "positions": self._positions(flat.shape[1])}
        [scores.flat[places]] = self._scorer.run(["log_probabilities"], feeds)
        return scores.sum(-1).reshape(tokens.shape[:2])


def _width(session: Any) -> int:
    """That of the vectors of positions."""
    return int(next(each.shape[-1] for each in session.get_inputs() if each.name == "positions"))
