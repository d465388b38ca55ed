import itertools
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vqnat_plugin.evaluation.detokenizer import Detokenizer
from vqnat_plugin.evaluation.fairseq_translator import FairseqTranslator
from vqnat_plugin.evaluation.latency import (
    MIN_BATCHES,
    Timing,
    beam_baseline,
    choose_batches,
    measure,
    summarize,
)
from vqnat_plugin.evaluation.steadiness import BUSY, FixedWork
from vqnat_plugin.evaluation.systems import Conditions, System, parse_system


@given(
    lengths=st.lists(st.integers(1, 50), min_size=1, max_size=60),
    batch_size=st.integers(1, 20),
    sentences=st.integers(1, 100),
)
def test_batches_are_full_sorted_by_length_and_use_all_sentences_alike(
    lengths: list[int], batch_size: int, sentences: int
) -> None:
    batches = choose_batches(lengths, batch_size, sentences, seed=1)
    assert len(batches) >= MIN_BATCHES and len(batches) * batch_size >= sentences
    assert {len(batch) for batch in batches} == {batch_size}
    counts = Counter(number for batch in batches for number in batch)
    assert max(counts.values()) - min(counts.get(number, 0) for number in range(len(lengths))) <= 1
    spans = sorted((min(lengths[i] for i in batch), max(lengths[i] for i in batch)) for batch in batches)
    assert all(left[1] <= right[0] for left, right in itertools.pairwise(spans))
    assert batches == choose_batches(lengths, batch_size, sentences, seed=1)


class Recorder:
    """A system that writes down what happens to it."""

    def __init__(self, name: str, events: list[tuple[str, str, tuple[int, ...]]]) -> None:
        self.name, self.events = name, events
        self.passes: list[int] = []

    def prepare(self, sentences: Sequence[int]) -> tuple[int, ...]:
        return tuple(sentences)

    def translate(self, batch: tuple[int, ...]) -> list[list[int]]:
        self.events.append((self.name, "translate", batch))
        return [[1, 2, 3] for _ in batch]

    def tokens(self, translations: list[list[int]]) -> list[list[int]]:
        return translations

    def synchronize(self) -> None:
        self.events.append((self.name, "synchronize", ()))


def test_systems_take_turns_at_every_batch() -> None:
    events: list[tuple[str, str, tuple[int, ...]]] = []
    systems = [Recorder(name, events) for name in "abc"]
    batches = [[0, 1], [2, 3], [4, 5], [6, 7]]
    timings = measure(systems, batches, warmup=2).timings

    translated = [(name, batch) for name, what, batch in events if what == "translate"]
    assert translated[:6] == [(name, batch) for batch in ((0, 1), (2, 3)) for name in "abc"]
    timed = translated[6:]
    orders = ["".join(name for name, batch in timed if batch == tuple(wanted)) for wanted in batches]
    assert orders == ["abc", "bca", "cab", "abc"]
    for name, timing in timings.items():
        assert len(timing.seconds) == 4 and timing.tokens == 24
        assert Counter(what for who, what, _ in events if who == name) == {"translate": 6, "synchronize": 8}
    # The clock runs between two synchronisations of the same system.
    timed_events = [what for _, what, _ in events][6:]
    assert timed_events == ["synchronize", "translate", "synchronize"] * 12


def test_a_sentence_alone_is_translated_twice_and_the_second_time_counts() -> None:
    events: list[tuple[str, str, tuple[int, ...]]] = []
    timings = measure([Recorder("a", events)], [[3]], warmup=0).timings
    assert [what for _, what, _ in events] == ["translate", "synchronize", "translate", "synchronize"]
    assert len(timings["a"].seconds) == 1 and timings["a"].tokens == 3


class Watch(FixedWork):
    """Fixed work that takes the seconds it is given, in turn."""

    def __init__(self, events: list[tuple[str, str, tuple[int, ...]]], *seconds: float) -> None:
        super().__init__()
        self.events, self.seconds = events, iter(seconds)

    def sample(self) -> float:
        self.events.append(("watch", "sample", ()))
        seconds = next(self.seconds)
        self.shortest = min(self.shortest, seconds)
        return seconds


def test_fixed_work_is_done_before_every_translation_that_counts() -> None:
    events: list[tuple[str, str, tuple[int, ...]]] = []
    found = measure([Recorder("a", events)], [[0, 1], [2, 3]], warmup=1, work=Watch(events, 1, BUSY - 0.01))
    timed = ["sample", "synchronize", "translate", "synchronize"]
    assert [what for _, what, _ in events] == ["translate", *timed, *timed]
    assert found.work == [1, BUSY - 0.01] and found.again == 0


def test_a_batch_is_timed_again_when_the_machine_was_busy(monkeypatch: pytest.MonkeyPatch) -> None:
    events: list[tuple[str, str, tuple[int, ...]]] = []
    systems = [Checked("a", events), Recorder("b", events)]
    # The first batch is disturbed once, the second always, the third never.
    work = Watch(events, 2, 2, 4, 4, 1, 1, *(1.1, 1.1, 3, 3), *(5, 5))
    clock = itertools.count()
    monkeypatch.setattr(time, "perf_counter", lambda: next(clock) ** 2)
    found = measure(systems, [[0, 1], [2, 3], [4, 5]], warmup=0, work=work)

    translated = [(name, batch[0]) for name, what, batch in events if what == "translate"]
    # In the order that the batch had before.
    assert translated[6:] == [("a", 0), ("b", 0), ("b", 2), ("a", 2), ("b", 2), ("a", 2)]
    # Times count as a whole: of all systems, those beside which the work was fastest.
    assert found.again == 3 and found.work == [1.1, 1.1, 3, 3, 1, 1]
    # The n-th translation of all takes 4n + 1 seconds: 2n + 1 squared less 2n squared.
    assert found.timings["a"].seconds == [4 * 6 + 1, 4 * 9 + 1, 4 * 4 + 1]
    assert found.timings["b"].seconds == [4 * 7 + 1, 4 * 8 + 1, 4 * 5 + 1]
    assert [timing.tokens for timing in found.timings.values()] == [18, 18]
    # Of the same translations: the fourth, the fifth and the third of this system.
    assert found.timings["a"].passes == (7 + 9 + 5) / 3 and found.timings["b"].passes is None


class Checked(Recorder):
    """A teacher checks what it writes, in passes that grow."""

    def translate(self, batch: tuple[int, ...]) -> list[list[int]]:
        self.passes += [len(self.passes) + 1] * len(batch)
        return super().translate(batch)


def test_passes_are_of_what_is_timed_in_batches_of_the_first_size() -> None:
    systems = [Recorder("plain", []), Checked("checked", [])]
    timings = {size: measure(systems, [[1] * size, [2] * size], warmup=2).timings for size in (2, 3)}
    # Counted anew behind the warm-up.
    assert timings[2]["checked"].passes == 2 and timings[3]["checked"].passes == 2.5
    assert timings[2]["plain"].passes is None
    figures = summarize([System(name, ("a.pt",)) for name in ("plain", "checked")], timings, ["plain"])
    assert figures["checked"]["passes"] == 2 and "passes" not in figures["plain"]


def test_latencies_are_medians_and_speedups_their_ratios() -> None:
    specs = [
        System("greedy", ("t.pt",)),
        System("beam", ("t.pt",), {"beam": 4}),
        System("student", ("s.pt",)),
    ]
    timings = {
        1: {
            "greedy": Timing([0.010, 0.020, 0.030], 30),
            "beam": Timing([0.040] * 3, 30),
            "student": Timing([0.005, 0.005, 0.9], 24),
        },
        32: {name: Timing([0.1, 0.1], 640) for name in ("greedy", "beam", "student")},
    }
    systems = summarize(specs, timings, ["greedy", "student"])
    assert systems["greedy"]["latency_ms"]["batch_1"] == {"median": 20.0, "p90": 28.0}
    assert systems["student"]["speedup_vs_greedy"] == 4.0
    assert systems["student"]["speedup_vs_beam"] == 8.0
    assert systems["beam"]["speedup_vs_greedy"] == 0.5
    assert systems["student"]["speedup"]["batch_32"] == {"vs_greedy": 1.0, "vs_beam": 1.0}
    assert systems["student"]["mean_output_tokens"] == 8.0
    ratios = systems["student"]["ratios"]["batch_1"]
    assert list(ratios) == ["greedy", "student"]
    assert ratios["student"] == {"ratio": 1, "low": 1, "high": 1}
    assert ratios["greedy"]["low"] < ratios["greedy"]["ratio"] == 4 <= ratios["greedy"]["high"]
    assert systems["beam"]["ratios"]["batch_32"]["student"]["ratio"] == 1
    alone = summarize(specs, timings, ["greedy"])["student"]["ratios"]["batch_1"]
    assert list(alone) == ["greedy", "beam"] and alone["beam"]["ratio"] == 8
    assert beam_baseline(specs[::2], "greedy") is None
    exported = [System("greedy", ("t",)), parse_system(["four", "t", "candidates=4"])]
    assert beam_baseline(exported, "greedy") == "four"
    assert "speedup_vs_beam" not in summarize(specs[::2], timings, ["greedy"])["student"]


def test_translations_do_not_depend_on_the_batch(tiny_corpus: Path, tiny_teacher: Path) -> None:
    system = FairseqTranslator(parse_system(["greedy", str(tiny_teacher)]), Conditions(tiny_corpus, cpu=True))
    numbers = list(range(len(system.dataset)))
    together = system.prepare(numbers)
    assert set(together["net_input"]) == {"src_tokens", "src_lengths"}
    translations = dict(zip(together["id"].tolist(), system.translate(together), strict=True))
    eos = system.task.target_dictionary.eos()
    for number in numbers:
        assert system.translate(system.prepare([number])) == [translations[number]]
        assert translations[number][-1] == eos
    text = Detokenizer(system.task, tiny_corpus, "space")
    assert system.decode(2, text) == system.decode(5, text)
