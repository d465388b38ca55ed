from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from distilling import ids, manifest, words

from vqnat_plugin.distillation import run as running

Distill = Callable[..., int]


def spoil_outputs(monkeypatch: pytest.MonkeyPatch, outputs: Callable[[list[int]], list[int] | None]) -> None:
    """Let the teacher answer `outputs(source)` where that is not None."""
    whole = running.Teacher.translate

    def translate(self: running.Teacher, sources: list[torch.Tensor]) -> list[Any]:
        found = whole(self, sources)
        instead = (outputs(source.tolist()) for source in sources)
        return [
            old if new is None else torch.tensor(new, dtype=torch.int32).numpy()
            for old, new in zip(found, instead, strict=True)
        ]

    monkeypatch.setattr(running.Teacher, "translate", translate)


@pytest.fixture
def spoilt(distill: Distill, tmp_path: Path, tiny_corpus: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Work whose teacher says nothing to sentence 0, stutters at 1, copies 2, knows not 3, chatters at 4."""
    source = ids(tiny_corpus, "en")
    instead = {0: [], 1: [9] * 6, 2: source[2][:-1], 3: [3, *range(10, 12)], 4: list(range(10, 45))}
    table = {tuple(source[index]): output for index, output in instead.items()}
    assert len({tuple(sentence) for sentence in source}) == 60
    with monkeypatch.context() as patch:
        spoil_outputs(patch, lambda sentence: table.get(tuple(sentence)))
        assert distill(tmp_path / "out") == 0
    return tmp_path / "out"


FILTERS = ("--filter-copies", "--filter-unk", "--filter-repeats=2", "--filter-ratio=4")
REASONS = {0: "empty", 1: "looping", 2: "copy", 3: "unknown_word", 4: "length_ratio"}


def test_by_default_only_the_empty_is_left_out(spoilt: Path, tiny_corpus: Path) -> None:
    assert manifest(spoilt)["counts"] == {"in": 60, "out": 59, "distilled": 59, "filtered": {"empty": 1}}
    assert ids(spoilt, "en") == ids(tiny_corpus, "en")[1:]
    source = words(tiny_corpus, "en")[0]
    table = (spoilt / "filtered.tsv").read_text().splitlines()
    assert table == ["index\treason\tsource\tteacher", f"0\tempty\t{source}\t"]
    assert len((spoilt / "train.distilled.de").read_text().splitlines()) == 60


def test_filters_reuse_the_translations(
    distill: Distill, spoilt: Path, tiny_corpus: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(running, "open_teacher", lambda *_: pytest.fail("the teacher is not needed"))
    assert distill(spoilt, *FILTERS) == 0
    rows = [line.split("\t") for line in (spoilt / "filtered.tsv").read_text().splitlines()[1:]]
    found = {int(index): reason for index, reason, _, _ in rows}
    assert {index: found.get(index) for index in range(5)} == REASONS
    text = (spoilt / "train.distilled.de").read_text().splitlines()
    assert all(text[int(index)] == output for index, _, _, output in rows)
    counts = manifest(spoilt)["counts"]
    assert counts["in"] == counts["distilled"] + sum(counts["filtered"].values()) == 60
    assert counts["out"] == counts["distilled"] == 60 - len(rows)
    kept = [index for index in range(60) if index not in found]
    assert ids(spoilt, "en") == [ids(tiny_corpus, "en")[index] for index in kept]
    assert words(spoilt, "de") == [text[index] for index in kept]


def test_empty_translations_can_stay(distill: Distill, spoilt: Path) -> None:
    assert distill(spoilt, "--keep-empty") == 0
    assert ids(spoilt, "de")[0] == [2]
    assert manifest(spoilt)["counts"]["out"] == 60


def test_raw_fallback_keeps_the_human_translation(distill: Distill, spoilt: Path, tiny_corpus: Path) -> None:
    assert distill(spoilt, *FILTERS, "--filtered-fallback=raw") == 0
    rows = [line.split("\t") for line in (spoilt / "filtered.tsv").read_text().splitlines()[1:]]
    filtered = {int(row[0]) for row in rows}
    raw, text = words(tiny_corpus, "de"), (spoilt / "train.distilled.de").read_text().splitlines()
    assert ids(spoilt, "en") == ids(tiny_corpus, "en")
    assert words(spoilt, "de") == [raw[i] if i in filtered else text[i] for i in range(60)]
    assert manifest(spoilt)["counts"]["out"] == 60


def test_both(distill: Distill, spoilt: Path, tiny_corpus: Path) -> None:
    text = (spoilt / "train.distilled.de").read_text().splitlines()
    assert distill(spoilt, "--mix=both") == 0
    assert ids(spoilt, "en") == ids(tiny_corpus, "en") + ids(tiny_corpus, "en")[1:]
    assert words(spoilt, "de") == words(tiny_corpus, "de") + text[1:]
    assert manifest(spoilt)["counts"] == {"in": 60, "out": 119, "distilled": 59, "filtered": {"empty": 1}}


def test_filters_that_leave_nothing(
    distill: Distill, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    spoil_outputs(monkeypatch, lambda _: [])
    assert distill(tmp_path / "out") == 2
    assert "the filters leave nothing" in capsys.readouterr().err
    assert distill(tmp_path / "out", "--filtered-fallback=raw") == 0
