"""A teacher checks a draft: it keeps what it would have written itself and corrects the rest.

Source: Xia et al. 2023, "Speculative Decoding: Exploiting Speculative Execution for Accelerating Seq2seq
Generation" (arXiv 2203.16487), with a latent model as the drafter. A draft that is checked in one pass costs
about as much as one word does, where reading the weights takes the time.
"""

from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from .exported import EOS

# How far behind a difference a draft is searched for the teacher's token.
WINDOW = 4
# So much of a draft is read at once behind a difference: where one is, others are near, and what stands
# behind the next is read in vain. Twice as much each time that all of it passes.
AHEAD = 5


@dataclass(frozen=True)
class Verdict:
    """What a teacher thinks of tokens that it was shown.

    Attributes:
        best: its most probable token at each place, and at the one behind them unless they end by EOS.
        best_scores: log-probabilities of these, nats, less the penalty of the unknown word.
        scores: likewise those of the tokens; behind them that of EOS. -inf where a token is not allowed.
    """

    best: Sequence[int]
    best_scores: Sequence[float]
    scores: Sequence[float]


@dataclass(frozen=True)
class Shown:
    """Tokens of a sentence that a teacher is to judge.

    Attributes:
        accepted: how many tokens stand before them. Those but the last were shown before, and what else was
            shown behind them counts no more.
        last: the last of these; EOS at the start of a sentence.
        tokens: what is to be judged; EOS stands at their end only.
    """

    accepted: int
    last: int
    tokens: list[int]


class Reader(Protocol):
    """A teacher that reads sentences from left to right."""

    def read(self, shown: Mapping[int, Shown]) -> Sequence[Verdict]:
        """Judge tokens of several sentences, in their order.

        Args:
            shown: by the number of the sentence; one that is missing does not come again.
        """


@dataclass(frozen=True)
class Verified:
    """A draft that was checked.

    Attributes:
        tokens: what became of it, EOS at the end.
        scores: the teacher's log-probability of each token, nats.
        passes: how often the teacher read.
    """

    tokens: list[int]
    scores: list[float]
    passes: int


def verify(
    drafts: Sequence[Sequence[int]], reader: Reader, most: Sequence[int], tolerance: float = 0.0
) -> list[Verified]:
    """Let a teacher check drafts, all at once, until it has accepted a whole sentence for each.

    Args:
        drafts: tokens of each sentence, EOS at the end.
        reader: the teacher with the sources.
        most: at most so many tokens of each, EOS among them.
        tolerance: a token passes when its log-probability is at most so far below the best, nats. With 0 the
            result is the teacher's greedy translation, whatever the draft is.
    """
    checks = [_check(draft, limit, tolerance) for draft, limit in zip(drafts, most, strict=True)]
    shown = {number: next(check) for number, check in enumerate(checks)}
    found: dict[int, Verified] = {}
    while shown:
        for number, verdict in zip(list(shown), reader.read(shown), strict=True):
            try:
                shown[number] = checks[number].send(verdict)
            except StopIteration as finished:
                found[number] = finished.value
                del shown[number]
    return [found[number] for number in range(len(checks))]


def _check(draft: Sequence[int], most: int, tolerance: float) -> Generator[Shown, Verdict, Verified]:
    """The check of one draft: shows tokens, is sent what the teacher thinks of them, returns the outcome."""
    tokens: list[int] = []
    scores: list[float] = []
    guess = list(draft)
    place, passes, ahead = 0, 0, len(guess)
    while True:
        rest, room = _until_end(guess[place : place + ahead]), most - 1 - len(tokens)
        if len(rest) - (EOS in rest) >= room:
            rest = [*rest[:room], EOS]
        verdict = yield Shown(len(tokens), tokens[-1] if tokens else EOS, rest)
        passes += 1
        good = [_passes(verdict, number, token, tolerance) for number, token in enumerate(rest)]
        kept = good.index(False) if False in good else len(rest)
        if kept < len(rest) and kept == room:
            # Nothing but the end has room here.
            kept += 1
        tokens += rest[:kept]
        scores += verdict.scores[:kept]
        if EOS not in tokens[-1:]:
            tokens.append(verdict.best[kept])
            scores.append(verdict.best_scores[kept])
        if tokens[-1] == EOS:
            return Verified(tokens, scores, passes)
        # Behind a token that passes, the teacher's own is the better guess where the next one does not.
        for number in range(kept + 2, min(len(rest), len(guess) - place)):
            if good[number - 1] and not good[number]:
                guess[place + number] = verdict.best[number]
        ahead = 2 * ahead if kept == len(rest) else AHEAD
        place = _behind(guess, place + kept, tokens[-1])


def _until_end(tokens: list[int]) -> list[int]:
    return tokens[: tokens.index(EOS) + 1] if EOS in tokens else tokens


def _passes(verdict: Verdict, place: int, token: int, tolerance: float) -> bool:
    if token == verdict.best[place]:
        return True
    return 0 < tolerance >= verdict.best_scores[place] - verdict.scores[place]


def _behind(draft: Sequence[int], place: int, token: int) -> int:
    """Where a draft goes on once the teacher has put a token at a place: behind that token, if it is near.

    It may be the one before the place, which was passed over for another: then that was too many.
    """
    near = range(max(0, place - 1), min(len(draft), place + WINDOW))
    same = [each for each in near if draft[each] == token]
    return min(same, key=lambda each: abs(each - place), default=place) + 1
