"""A teacher's check of a draft ends with what the teacher would have written by itself."""

import math
import random
from collections.abc import Mapping, Sequence
from typing import Any

import hypothesis.strategies as st
import pytest
from hypothesis import given

from vqnat_plugin.runtime.exported import EOS
from vqnat_plugin.runtime.verification import Shown, Verdict, Verified, verify

SYMBOLS = range(EOS, 9)


class Teacher:
    """Random log-probabilities of each token after any others."""

    def __init__(self, seed: int) -> None:
        self.seed = seed
        self.shown: list[int] = []
        self.passes = 0

    def scores(self, before: Sequence[int]) -> dict[int, float]:
        rng = random.Random(f"{self.seed} {list(before)}")
        weights = {token: rng.random() ** 3 * (0.1 if token == EOS else 1) for token in SYMBOLS}
        total = math.log(sum(weights.values()))
        return {token: math.log(weight) - total for token, weight in weights.items()}

    def greedy(self, most: int) -> list[int]:
        tokens: list[int] = []
        while len(tokens) < most - 1 and EOS not in tokens:
            scores = self.scores(tokens)
            tokens.append(max(scores, key=scores.__getitem__))
        return tokens if EOS in tokens else [*tokens, EOS]

    def read(self, accepted: int, last: int, tokens: Sequence[int]) -> Verdict:
        before = [*self.shown[: accepted - 1], last] if accepted else []
        assert len(before) == accepted and (accepted or last == EOS)
        assert EOS not in tokens[:-1]
        self.shown, self.passes = [*before, *tokens], self.passes + 1
        scored = [*tokens, *[EOS] * (EOS not in tokens)]
        found = [self.scores([*before, *tokens[:place]]) for place in range(len(scored))]
        best = [max(each, key=each.__getitem__) for each in found]
        return Verdict(
            best,
            [each[token] for each, token in zip(found, best, strict=True)],
            [each[token] for each, token in zip(found, scored, strict=True)],
        )


class Class:
    """Teachers by the number of their sentence; each reads its own."""

    def __init__(self, *teachers: Any) -> None:
        self.teachers, self.read_together = dict(enumerate(teachers)), list[list[int]]()

    def read(self, shown: Mapping[int, Shown]) -> list[Verdict]:
        assert not self.read_together or set(shown) <= set(self.read_together[-1])
        self.read_together.append(list(shown))
        return [
            self.teachers[number].read(each.accepted, each.last, each.tokens)
            for number, each in shown.items()
        ]


def checked(draft: list[int], teacher: Any, most: int, tolerance: float = 0.0) -> Verified:
    [found] = verify([draft], Class(teacher), [most], tolerance)
    return found


drafts = st.lists(st.integers(EOS + 1, SYMBOLS[-1]), max_size=30).map(lambda words: [*words, EOS])


@given(seed=st.integers(0, 10**6), draft=drafts, most=st.integers(1, 30))
def test_without_tolerance_it_is_the_greedy_translation(seed: int, draft: list[int], most: int) -> None:
    teacher = Teacher(seed)
    found = checked(draft, teacher, most)
    assert found.tokens == Teacher(seed).greedy(most)
    assert found.passes == teacher.passes <= len(found.tokens)
    expected = [teacher.scores(found.tokens[:place])[token] for place, token in enumerate(found.tokens)]
    assert found.scores == pytest.approx(expected)


@given(seed=st.integers(0, 10**6), draft=drafts, most=st.integers(1, 30), tolerance=st.floats(0.01, 5))
def test_with_a_tolerance_no_token_is_further_from_the_best(
    seed: int, draft: list[int], most: int, tolerance: float
) -> None:
    teacher = Teacher(seed)
    found = checked(draft, teacher, most, tolerance)
    assert len(found.tokens) <= most and found.tokens.index(EOS) == len(found.tokens) - 1
    for place, token in enumerate(found.tokens):
        scores = teacher.scores(found.tokens[:place])
        assert found.scores[place] == pytest.approx(scores[token])
        assert place == most - 1 or max(scores.values()) - scores[token] <= tolerance


@given(
    sentences=st.lists(st.tuples(st.integers(0, 10**6), drafts, st.integers(1, 30)), min_size=1, max_size=5),
    tolerance=st.sampled_from([0.0, 0.5, 2.0]),
)
def test_sentences_that_are_read_together_are_checked_as_alone(
    sentences: list[tuple[int, list[int], int]], tolerance: float
) -> None:
    seeds, every, most = (list(each) for each in zip(*sentences, strict=True))
    together = Class(*map(Teacher, seeds))
    found = verify(every, together, most, tolerance)
    assert found == [checked(draft, Teacher(seed), limit, tolerance) for seed, draft, limit in sentences]
    assert len(together.read_together) == max(each.passes for each in found)


@pytest.mark.parametrize("most", range(1, 24))
def test_every_limit_for_drafts_with_one_mistake(most: int) -> None:
    for seed in range(8):
        draft = Teacher(seed).greedy(40)
        for place in range(min(most, len(draft) - 1)):
            wrong = [*draft[:place], (draft[place] - 2) % 6 + 3, *draft[place + 1 :]]
            assert checked(wrong, Teacher(seed), most).tokens == Teacher(seed).greedy(most)


def test_a_draft_that_is_right_takes_one_pass_and_any_draft_passes_with_tolerance_enough() -> None:
    teacher = Teacher(3)
    expected = teacher.greedy(20)
    assert checked(expected, teacher, 20).passes == 1
    draft = [8, 7, 6, 5, EOS]
    found = checked(draft, Teacher(3), 20, tolerance=1e9)
    assert (found.tokens, found.passes) == (draft, 1)
    assert checked(draft, Teacher(3), 3, tolerance=1e9).tokens == [8, 7, EOS]


class Chain:
    """A teacher that counts up from 3 to 9, whatever came before the last token."""

    def read(self, accepted: int, last: int, tokens: Sequence[int]) -> Verdict:
        before = [3 if last == EOS else last + 1, *(token + 1 for token in tokens)]
        best = [token if token <= 9 else EOS for token in before[: len(tokens) + (EOS not in tokens)]]
        scored = [*tokens, *[EOS] * (EOS not in tokens)]
        return Verdict(best, [0.0] * len(best), [-float(x != y) for x, y in zip(best, scored, strict=True)])


@pytest.mark.parametrize(
    ("draft", "passes"),
    [
        ([3, 4, 5, 6, 7, 8, 9, EOS], 1),
        ([3, 4, 2 + 9, 6, 7, 8, 9, EOS], 2),  # one other word
        ([3, 4, 11, 11, 5, 6, 7, 8, 9, EOS], 2),  # two words too many
        ([3, 4, 6, 7, 8, 9, EOS], 3),  # a word is missing
        ([3, 11, 5, 6, 12, 8, 9, EOS], 2),  # two other words: the second is known from the first pass
        ([3, 4, EOS], 6),  # the end comes too early: word by word from there
        ([EOS], 8),
    ],
)
def test_what_is_left_of_a_draft_is_used_behind_a_difference(draft: list[int], passes: int) -> None:
    found = checked(draft, Chain(), 20)
    assert (found.tokens, found.passes) == ([3, 4, 5, 6, 7, 8, 9, EOS], passes)
