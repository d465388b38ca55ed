"""What waits is decoded together, in order, and nothing is lost."""

import threading
from collections.abc import Iterator
from typing import Any

import pytest
from serving import Gate

from vqnat_plugin.runtime.batcher import MOST_TOKENS, Batcher, Unavailable
from vqnat_plugin.runtime.decoding import Decoding

PLAIN = Decoding()


class Mirror:
    """Stands for a translator: the source is the translation."""

    def decode(self, rows: Any, options: Decoding, scores: bool) -> Any:
        if [13] in rows:
            raise RuntimeError("ill luck")
        return rows


@pytest.fixture
def gate() -> Gate:
    return Gate(Mirror())


@pytest.fixture
def batcher(gate: Gate) -> Iterator[Batcher]:
    """Its first batch is being decoded."""
    batcher = Batcher(gate.translator, batch_size=4, queue=9)
    batcher.submit([[0]], PLAIN, False)
    assert gate.entered.acquire(timeout=60)
    yield batcher
    gate.open.set()
    batcher.close()


def test_what_waits_is_decoded_together(gate: Gate, batcher: Batcher) -> None:
    many, checked = Decoding(candidates=2), Decoding(verify=True)
    found = [
        *batcher.submit([[1]], PLAIN, False),
        *batcher.submit([[2]], many, False),
        *batcher.submit([[3], [4], [5]], PLAIN, False),
        # Candidates have scores, wanted or not; a single translation only where they are wanted.
        *batcher.submit([[6]], many, True),
        *batcher.submit([[7]], PLAIN, True),
        # What a teacher has checked has its scores.
        *batcher.submit([[8]], checked, False),
        *batcher.submit([[9]], checked, True),
    ]
    assert batcher.waiting == 9
    gate.open.set()
    assert [each.result(60) for each in found] == [[number] for number in range(1, 10)]
    assert gate.batches == [(1, PLAIN), (4, PLAIN), (2, many), (1, PLAIN), (2, checked)]
    assert batcher.waiting == 0


def test_what_was_given_up_is_not_begun_and_takes_no_place(gate: Gate, batcher: Batcher) -> None:
    given_up = batcher.submit([[number] for number in range(1, 10)], PLAIN, False)
    with pytest.raises(Unavailable, match="9 sentences wait"):
        batcher.submit([[10]], PLAIN, False)
    assert all(each.cancel() for each in given_up[1:])
    kept = batcher.submit([[10]], PLAIN, False)
    assert given_up[0].cancel()
    gate.open.set()
    assert kept[0].result(60) == [10]
    assert [sentences for sentences, _ in gate.batches] == [1, 1]


def test_nothing_of_a_request_is_taken_where_a_part_has_no_place(batcher: Batcher) -> None:
    batcher.submit([[1]] * 5, PLAIN, False)
    with pytest.raises(Unavailable, match="5 sentences wait"):
        batcher.submit([[2]] * 5, PLAIN, False)
    assert batcher.waiting == 5


def test_a_failure_is_told_and_does_not_end_it(gate: Gate, batcher: Batcher) -> None:
    failing = batcher.submit([[13], [1]], PLAIN, False)
    gate.open.set()
    for each in failing:
        with pytest.raises(RuntimeError, match="ill luck"):
            each.result(60)
    assert batcher.submit([[2]], PLAIN, False)[0].result(60) == [2]


def test_long_sentences_are_not_held_together(gate: Gate, batcher: Batcher) -> None:
    long = [[number] * (MOST_TOKENS // 4) for number in range(1, 4)]
    found = [
        *batcher.submit([*long, long[0]], Decoding(candidates=2), False),
        # One alone may be longer than that.
        *batcher.submit([long[0], long[1]], Decoding(candidates=9), False),
    ]
    gate.open.set()
    assert [each.result(60)[0] for each in found] == [1, 2, 3, 1, 1, 2]  # type: ignore[comparison-overlap]
    assert [sentences for sentences, _ in gate.batches] == [1, 2, 2, 1, 1]


def test_words_that_have_to_be_written_count(gate: Gate, batcher: Batcher) -> None:
    long = Decoding(candidates=2, min_len=MOST_TOKENS // 4)
    found = batcher.submit([[1], [2], [3]], long, False)
    gate.open.set()
    assert [each.result(60) for each in found] == [[1], [2], [3]]  # type: ignore[comparison-overlap]
    assert [sentences for sentences, _ in gate.batches] == [1, 2, 1]


def test_scores_are_made_where_they_are_wanted_or_come_by_themselves() -> None:
    asked = []

    class Asked(Mirror):
        def decode(self, rows: Any, options: Decoding, scores: bool) -> Any:
            asked.append(scores)
            return rows

    batcher = Batcher(Asked(), batch_size=4, queue=9)  # type: ignore[arg-type]
    ranked, many = Decoding(candidates=4, rescore=True), Decoding(candidates=4)
    for options, wanted in ((PLAIN, False), (many, False), (ranked, False), (ranked, True)):
        batcher.submit([[1]], options, wanted)[0].result(60)
    batcher.close()
    # What a teacher ranks may be one translation, which needs none.
    assert asked == [False, True, False, True]


def test_what_has_begun_is_decoded_before_it_ends(gate: Gate, batcher: Batcher) -> None:
    gate.open.set()
    found = batcher.submit([[1]] * 4, PLAIN, False)
    assert all(each.result(60) == [1] for each in found)
    gate.open.clear()
    begun = batcher.submit([[1]] * 4, PLAIN, False)
    while begun[-1].running() is False:
        pass
    waiting = batcher.submit([[2]] * 4, PLAIN, False)
    closing = threading.Thread(target=batcher.close)
    closing.start()
    while not batcher.closed:
        pass
    gate.open.set()
    closing.join(60)
    assert all(each.result(60) == [1] for each in begun) and all(each.cancelled() for each in waiting)
    with pytest.raises(Unavailable, match="the server stops"):
        batcher.submit([[1]], PLAIN, False)
