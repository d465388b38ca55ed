"""From the words of all positions to translations: where each ends, what it scores, which is the best."""

from dataclasses import dataclass

import numpy as np

from .exported import EOS
from .graphs import Floats, Whole, Words
from .latents import Latents


@dataclass
class Hypothesis:
    """A candidate.

    Attributes:
        tokens: numbers of its sub-words, EOS at the end.
        score: joint log-probability by the number of sub-words; 0 where no scores were asked for.
        codes: its latents.
        passes: how often a teacher has read it, to check it.
    """

    tokens: list[int]
    score: float
    codes: list[int]
    passes: int = 0


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
    tokens = np.concatenate([words.tokens, np.full((len(counts), 1), EOS)], 1)
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
    if not words.ends.size:
        # Those that the search never filled stay recognisable.
        return np.where(np.isfinite(latents.scores.ravel()), np.float32(0), -np.inf)
    inside = np.arange(words.tokens.shape[1]) < ends[:, None]
    of_words = np.where(inside, words.log_probabilities, 0).sum(-1, dtype=np.float32)
    of_end = words.ends[np.arange(len(ends)), np.minimum(ends, last)]
    return latents.scores.ravel() + of_words + of_end
