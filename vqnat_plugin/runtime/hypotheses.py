"""From the logits of all words to translations: where each ends, what it scores, which is the best."""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from .decoding import Decoding
from .exported import BOS, EOS, PAD, UNK
from .graphs import Floats, Whole
from .latents import Latents


@dataclass
class Words:
    """The most probable word of each position, as if none were the last.

    Attributes:
        tokens: (rows, words).
        log_probabilities: of the tokens, nats, (rows, words); None where no scores are needed.
        ends: log-probability of EOS instead, likewise.
    """

    tokens: Whole
    log_probabilities: Floats | None
    ends: Floats | None


@dataclass
class Hypothesis:
    """A candidate.

    Attributes:
        tokens: numbers of its sub-words, EOS at the end.
        score: joint log-probability by the number of sub-words; 0 where no scores were asked for.
        codes: its latents.
    """

    tokens: list[int]
    score: float
    codes: list[int]


def choose(parts: Iterable[Floats], options: Decoding, scores: bool) -> Words:
    """The words of logits (rows, words, symbols), which are changed in place.

    Args:
        parts: one after the other, rows by rows.
        options: `min_len` and `unkpen` are of use here.
        scores: whether log-probabilities are needed.
    """
    tokens, log_probabilities, ends = [], [], []
    for logits in parts:
        if scores:
            normalizer = _logsumexp(logits)
            ends.append(logits[..., EOS] - normalizer)
        logits[..., [BOS, PAD]] = -np.inf
        logits[..., UNK] -= options.unkpen
        logits[:, : options.min_len, EOS] = -np.inf
        best = logits.argmax(-1)
        tokens.append(best)
        if scores:
            log_probabilities.append(np.take_along_axis(logits, best[..., None], -1)[..., 0] - normalizer)
    if not scores:
        return Words(np.concatenate(tokens), None, None)
    return Words(np.concatenate(tokens), np.concatenate(log_probabilities), np.concatenate(ends))


def _logsumexp(logits: Floats) -> Floats:
    largest = logits.max(-1, keepdims=True)
    return (largest[..., 0] + np.log(np.exp(logits - largest).sum(-1))).astype(np.float32, copy=False)


def hypotheses(
    latents: Latents, words: Words, limits: Whole, block: int, lenpen: float
) -> list[list[Hypothesis]]:
    """The candidates of each sentence, best first.

    A candidate ends at its first EOS. Where none comes within its own positions, EOS follows the last word;
    where the length limit comes first, EOS takes the last place. A forced EOS costs what it has where the
    words end.

    Args:
        latents: of the candidates.
        words: what was chosen for them.
        limits: most words of each sentence with EOS, (batch,).
        block: words a latent stands for.
        lenpen: exponent of the number of words by which scores are divided.
    """
    batch, beam, _ = latents.codes.shape
    counts = latents.mask.sum(-1).ravel()
    last = np.minimum(counts * block, np.repeat(limits, beam) - 1)
    # One position more, where EOS may have to follow.
    tokens = np.pad(words.tokens, ((0, 0), (0, 1)))
    places = np.arange(tokens.shape[1])
    ends = ((tokens == EOS) | (places >= last[:, None])).argmax(-1)
    tokens[np.arange(len(ends)), ends] = EOS
    scores = _scores(latents, words, ends, counts * block - 1) / (ends + 1.0) ** lenpen
    scores = scores.reshape(batch, beam)
    found = []
    for sentence, order in enumerate(np.argsort(-scores, axis=-1, kind="stable")):
        every: list[Hypothesis] = []
        for row in sentence * beam + order:
            score = float(scores.flat[row])
            # Those that the search never filled (fewer codes than beam) are none.
            if np.isfinite(score) or not every:
                codes = latents.codes[sentence, row % beam, : counts[row]].tolist()
                every.append(Hypothesis(tokens[row, : ends[row] + 1].tolist(), score, codes))
        found.append(every)
    return found


def _scores(latents: Latents, words: Words, ends: Whole, last: Whole) -> Floats:
    """Joint log-probabilities, (rows,); EOS stands at `ends` and costs what it does at `last` at the most."""
    if words.log_probabilities is None or words.ends is None:
        return np.zeros(len(ends), np.float32)
    inside = np.arange(words.tokens.shape[1]) < ends[:, None]
    of_words = np.where(inside, words.log_probabilities, 0).sum(-1, dtype=np.float32)
    of_end = words.ends[np.arange(len(ends)), np.minimum(ends, last)]
    return latents.scores.ravel() + of_words + of_end
