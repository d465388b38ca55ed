"""Options of decoding, for the command and for Python."""

import math
from dataclasses import dataclass

from ..errors import UsageError
from ..options import MOST_BEAM, MOST_TOKENS, check, option

# Beyond it, powers of lengths are no numbers any more.
MOST_EXPONENT = 50
# Nats; the unknown word is out of the question long before.
MOST_PENALTY = 1_000_000
# Log-probability from which on a greedy search ends. Many codes stand for similar words, and each of them may
# be less probable than the end, which is one symbol, where a sentence that goes on is more probable.
LIKELY_END = math.log(0.5)


def check_least(min_len: int, longest: int) -> None:
    """Raise `UsageError` if a teacher that writes so many tokens, EOS included, cannot write the fewest."""
    if min_len >= longest:
        raise UsageError(f"--min-len {min_len}: the teacher writes at most {longest - 1} sub-words")


@dataclass(kw_only=True)
class Decoding:
    """How sentences are translated; the defaults are those of fairseq-generate, but for one candidate."""

    candidates: int = option(
        1,
        "latent sequences a sentence; that of the best joint score of latents and words is taken",
        least=1,
        most=MOST_BEAM,
    )
    rescore: bool = option(
        False, "rank the candidates by the teacher's score; needs a model exported --with-teacher"
    )
    verify: bool = option(
        False,
        "let the teacher check the best translation and put its own sub-words where they differ: the result "
        "is the teacher's greedy translation (int8 rounds); needs a model exported --with-teacher",
    )
    tolerance: float = option(
        0.0,
        "with --verify: let a sub-word pass when the teacher's log-probability of it is at most so far below "
        "that of its best one, nats",
        least=0,
    )
    max_len_a: float = option(
        0.0,
        "with --max-len-b: at most a * source length + b sub-words a translation",
        least=0,
        most=MOST_TOKENS,
    )
    max_len_b: int = option(200, "b of --max-len-a", least=0, most=MOST_TOKENS)
    min_len: int = option(1, "at least so many sub-words a translation", least=0, most=MOST_TOKENS)
    lenpen: float = option(
        1.0, "exponent of the length by which scores are divided", least=-MOST_EXPONENT, most=MOST_EXPONENT
    )
    unkpen: float = option(
        0.0, "taken off the log-probability of the unknown word", least=-MOST_PENALTY, most=MOST_PENALTY
    )

    def check(self) -> None:
        """Raise `UsageError` for an option that is out of its range, or for two that do not go together."""
        check(self)
        if self.max_len_a == 0 and self.min_len > self.max_len_b:
            raise UsageError(f"--min-len {self.min_len}: needs --max-len-b of as much, or more")
        if self.verify and self.rescore:
            raise UsageError("--verify: the teacher checks one translation, leave --rescore out")
        if self.tolerance and not self.verify:
            raise UsageError(f"--tolerance {self.tolerance:g}: needs --verify")

    def limit(self, length: int) -> int:
        """Most sub-words for a source of this length; both with the end of the sentence."""
        return max(int(self.max_len_a * length + self.max_len_b), self.min_len) + 1
