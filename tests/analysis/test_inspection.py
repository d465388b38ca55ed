"""Codes and what they stand for: counts against the text, the map, the page, the command."""

import json
import re
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from vqnat_plugin.analysis import codes
from vqnat_plugin.analysis.codes import inspect
from vqnat_plugin.analysis.latents import evaluate_latents
from vqnat_plugin.analysis.page import render
from vqnat_plugin.commands.main import main
from vqnat_plugin.errors import CheckpointError, DataError


@pytest.fixture(scope="module")
def found(tiny_student: Path) -> dict[str, Any]:
    return inspect(tiny_student, subset="valid")


def test_no_word_is_lost(tiny_student: Path, tiny_corpus: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where all segments of a code are listed, and not just the most frequent ones."""
    monkeypatch.setattr(codes, "SEGMENTS", 10**6)
    lines = (tiny_corpus.parent / "text" / "valid.de").read_text().splitlines()
    words = Counter(word for line in lines for word in [*line.split(), "</s>"])
    seen: Counter[str] = Counter()
    for code in inspect(tiny_student, subset="valid")["codes"]:
        for text, n in code["segments"]:
            for word in text.split():
                seen[word] += n
    assert seen == words


def test_every_word_is_under_one_code(found: dict[str, Any], tiny_corpus: Path) -> None:
    lines = (tiny_corpus.parent / "text" / "valid.de").read_text().splitlines()
    words = Counter(word for line in lines for word in [*line.split(), "</s>"])
    seen: Counter[str] = Counter()
    for code in found["codes"]:
        assert sum(n for _, n in code["positions"]) == code["count"]
        assert code["distinct_segments"] == len(code["segments"]) or len(code["segments"]) == 12
        for text, n in code["segments"]:
            assert 1 <= len(text.split()) <= found["words_per_code"] == 2
            seen.update({word: n for word in set(text.split())})
        if code["distinct_segments"] <= 12:
            total = sum(n * len(text.split()) for text, n in code["segments"])
            assert total == sum(n for _, n in code["words"]) or len(code["words"]) == 12
    assert set(seen) <= set(words)
    latents = sum(-(-(len(line.split()) + 1) // 2) for line in lines)
    assert sum(code["count"] for code in found["codes"]) == latents


def test_figures_are_those_of_the_evaluation(
    found: dict[str, Any], tiny_student: Path, tiny_corpus: Path
) -> None:
    figures = evaluate_latents(tiny_student, tiny_corpus, "valid", tokenizer="space")
    assert found["usage"] == pytest.approx(figures["usage"])
    assert found["perplexity"] == pytest.approx(figures["perplexity"])


def test_examples_hold_their_code(found: dict[str, Any]) -> None:
    for code in found["codes"]:
        assert len(code["examples"]) == len(set(code["examples"])) <= 5
        for number in code["examples"]:
            assert code["code"] in [other for other, _ in found["sentences"][number]["segments"]]
        assert bool(code["count"]) == bool(code["examples"])
    assert not any("<pad>" in sentence["source"] for sentence in found["sentences"].values())


def test_neighbours_by_brute_force() -> None:
    codebook = np.random.default_rng(0).standard_normal((23, 5), np.float32)
    for code, neighbours in enumerate(codes._neighbours(codebook)):
        distances = np.linalg.norm(codebook - codebook[code], axis=1)
        expected = [int(other) for other in distances.argsort() if other != code][:8]
        assert [other for other, _ in neighbours] == expected
        assert [length for _, length in neighbours] == pytest.approx(distances[expected], abs=1e-3)
    assert codes._neighbours(np.zeros((1, 3))) == [[]]


def test_map_of_used_codes() -> None:
    codebook = torch.randn(40, 6, generator=torch.Generator().manual_seed(0))
    counts = np.arange(40) % 2
    places = codes._map(codebook, counts, seed=1)
    assert sorted(places) == list(range(1, 40, 2)) and all(len(place) == 2 for place in places.values())
    assert codes._map(codebook, counts, seed=1) == places
    assert codes._map(codebook, np.eye(40)[0], seed=1) == {}


def test_fewer_sentences_are_a_draw(tiny_student: Path) -> None:
    some = inspect(tiny_student, subset="train", sentences=7, seed=3)
    assert some["sentences_seen"] == 7 and set(some["sentences"]) <= set(range(1000))
    other = inspect(tiny_student, subset="train", sentences=7, seed=3, batch_size=2)
    assert [code["count"] for code in other["codes"]] == [code["count"] for code in some["codes"]]
    assert inspect(tiny_student, subset="train", sentences=7, seed=4)["sentences"] != some["sentences"]


def test_page_holds_the_data_and_nothing_from_elsewhere(found: dict[str, Any]) -> None:
    found = {**found, "checkpoint": "</script><b>"}
    page = render(found)
    assert "</script><b>" not in page and page.count("</script>") == 1
    data = re.search(r"^const data = (.*);$", page, re.MULTILINE)
    assert data is not None
    assert json.loads(data.group(1)) == json.loads(json.dumps(found))
    assert set(re.findall(r"https?://[^\"' ]+", page)) <= {"http://www.w3.org/2000/svg"}


def test_no_text_becomes_markup(found: dict[str, Any]) -> None:
    """A word of the dictionary, a sentence or a name that looks like HTML stays text on the page."""
    evil = "<img src=x onerror=alert(1)>"
    codes = [{**found["codes"][0], "segments": [[evil, 1]], "words": [[evil, 1]]}, *found["codes"][1:]]
    sentences = {number: {**each, "source": evil} for number, each in found["sentences"].items()}
    page = render(
        {**found, "codes": codes, "sentences": sentences, "checkpoint": evil, "subset": "<!--<script>"}
    )
    assert "<img" not in page and "<!--" not in page
    script = page[page.index("<script>") + len("<script>") : page.rindex("</script>")]
    # Text gets into the page by append() and textContent only: both make text nodes of it.
    for way in (
        *("innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "srcdoc", "DOMParser"),
        *("createContextualFragment", "setHTML", "eval(", "Function(", "setTimeout", "javascript:"),
    ):
        assert way not in script.replace(evil, ""), way
    assert "made.append(...children)" in script and ".textContent = " in script
    # Attributes are made of numbers and of words of the page itself.
    attributes = set(re.findall(r"[{,] *([a-z]+): ", script))
    assert not {"href", "src", "style", "action", "formaction"} & attributes
    assert (
        "<" not in script[script.index("const data = ") : script.index("\n", script.index("const data = "))]
    )


def test_errors(tiny_teacher: Path, tiny_student: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"nonesuch\.pt"):
        inspect(tmp_path / "nonesuch.pt")
    with pytest.raises(CheckpointError, match="is no latent translation model"):
        inspect(tiny_teacher)
    with pytest.raises(DataError, match="no subset 'test7'"):
        inspect(tiny_student, subset="test7")


def test_command(tiny_student: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["inspect", str(tiny_student), "--gen-subset", "valid", "--out", str(tmp_path)]
    assert main(words) == 0
    shown = capsys.readouterr().out
    assert "of 16 codes used" in shown and f"{tmp_path}: codes.html and codes.json written" in shown
    assert json.loads((tmp_path / "codes.json").read_text())["codebook_size"] == 16
    assert (tmp_path / "codes.html").read_text().startswith("<!DOCTYPE html>")
