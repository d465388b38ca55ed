from itertools import pairwise

import pytest
from distilling import options
from hypothesis import given
from hypothesis import strategies as st

from vqnat_plugin.distillation.filters import LONGEST_LOOP, most_repeats, reason_against

tokens = st.lists(st.sampled_from(["a", "b", "c", "<unk>"]), max_size=12)
everything = options(filter_ratio=1.5, filter_copies=True, filter_repeats=2, filter_unk=True)


def repeats_by_counting(sequence: list[str]) -> int:
    """`most_repeats` as its docstring says it, without any cleverness."""
    most = min(len(sequence), 1)
    for n in range(1, LONGEST_LOOP + 1):
        for start in range(len(sequence) - n + 1):
            unit, times = sequence[start : start + n], 1
            while sequence[start + times * n : start + (times + 1) * n] == unit:
                times += 1
            most = max(most, times)
    return most


@pytest.mark.parametrize(
    ("text", "repeats"),
    [("", 0), ("a", 1), ("a b a", 1), ("a a", 2), ("x a b a b a b y", 3), ("a a b a a b", 2), ("a b b b", 3)],
)
def test_most_repeats(text: str, repeats: int) -> None:
    assert most_repeats(text.split()) == repeats


def test_longest_loop_is_found_and_no_longer_one() -> None:
    loop = [str(i) for i in range(LONGEST_LOOP)]
    assert most_repeats(loop * 3) == 3
    assert most_repeats([*loop, "more"] * 3) == 1


@given(tokens)
def test_most_repeats_is_what_counting_gives(sequence: list[str]) -> None:
    assert most_repeats(sequence) == repeats_by_counting(sequence)


@given(tokens.filter(len), st.integers(2, 5))
def test_repeating_a_loop_is_noticed(unit: list[str], times: int) -> None:
    if len(unit) <= LONGEST_LOOP:
        assert most_repeats(unit * times) >= times


@pytest.mark.parametrize(
    ("source", "output", "reason"),
    [
        ("a b", "", "empty"),
        ("a b", "a b", "copy"),
        ("a b c", "x y", None),
        ("a b c d", "x y", "length_ratio"),
        ("a b", "w x y z", "length_ratio"),
        ("", "x", "empty_source"),
        ("", "", "empty_source"),
        ("<unk> <unk>", "x", "unknown_source"),
        ("<unk> a", "x y", None),
        ("a b c", "x x y", None),
        ("a b c", "x x x", "looping"),
        ("- - -", "x x x", None),
        ("a b", "x <unk>", "unknown_word"),
    ],
)
def test_reasons(source: str, output: str, reason: str | None) -> None:
    assert reason_against(everything, source.split(), output.split()) == reason


@pytest.mark.parametrize(
    ("source", "reason"),
    [("a b", "too_long_for_teacher"), ("", "empty_source"), ("<unk>", "unknown_source")],
)
def test_reasons_where_the_teacher_was_not_asked(source: str, reason: str) -> None:
    assert reason_against(options(keep_empty=True), source.split(), None) == reason


@given(tokens.filter(lambda source: set(source) - {"<unk>"}), tokens.filter(len))
def test_by_default_all_but_the_empty_stay(source: list[str], output: list[str]) -> None:
    assert reason_against(options(), source, output) is None
    assert reason_against(options(), source, []) == "empty"
    assert reason_against(options(keep_empty=True), source, []) is None


@given(tokens, tokens)
def test_what_all_filters_let_through_is_clean(source: list[str], output: list[str]) -> None:
    if reason_against(everything, source, output) is not None:
        return
    assert output and output != source and "<unk>" not in output
    assert max(len(source), len(output)) <= 1.5 * min(len(source), len(output))
    assert repeats_by_counting(output) <= max(2, repeats_by_counting(source))


@given(tokens, tokens, st.floats(1, 4))
def test_a_looser_threshold_lets_through_no_less(source: list[str], output: list[str], ratio: float) -> None:
    for strict, loose in (
        (options(filter_ratio=ratio), options(filter_ratio=ratio + 1)),
        *((options(filter_repeats=i), options(filter_repeats=j)) for i, j in pairwise(range(1, 5))),
    ):
        if reason_against(strict, source, output) is None:
            assert reason_against(loose, source, output) is None
