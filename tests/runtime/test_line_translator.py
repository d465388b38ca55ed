"""Blocks of lines become lines: as many, in order, whatever stands in them."""

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vqnat_plugin.errors import UsageError
from vqnat_plugin.runtime import Translator
from vqnat_plugin.runtime.decoding import Decoding
from vqnat_plugin.runtime.line_translator import LineTranslator

LINES = ["Mann schläft!", "", "Hund", " \t", "Café Hund schläft", "☃\0\u2028x\ufeff", "\u200b"]
LONG = "Hund schläft " * 2500


@pytest.fixture(scope="module")
def splitting(german_exported: Path) -> LineTranslator:
    return LineTranslator(german_exported, 1, Decoding(), split_sentences=True)


def test_lines_become_their_translations(german_exported: Path) -> None:
    answer = LineTranslator(german_exported, 1, Decoding()).answer(LINES, 7)
    assert list(answer.lines) == Translator(german_exported).translate(LINES)
    assert (answer.read, answer.error, list(answer.notes)) == (len(LINES), None, [])
    two = LineTranslator(german_exported, 1, Decoding(candidates=2, max_len_b=4)).answer(LINES, 0)
    assert list(two.lines) == Translator(german_exported).translate(LINES, candidates=2, max_len_b=4)


@pytest.mark.parametrize("line", ["\x1a", "\0", "\x7f \x7f"])
def test_a_line_of_controls_holds_no_text(
    line: str, german_exported: Path, splitting: LineTranslator
) -> None:
    expected = Translator(german_exported).translate(["Hund", line])
    assert expected[0] and not expected[1]
    for each in (LineTranslator(german_exported, 1, Decoding()), splitting):
        assert each.answer(["Hund", line], 0).lines == expected
    ranked = LineTranslator(german_exported, 1, Decoding(candidates=2), n_best=1)
    assert ranked.answer([line], 3).lines == ["4\t1\t0.0000\t"]


@settings(max_examples=40)
@given(st.lists(st.text(st.characters(exclude_characters="\n", exclude_categories=["Cs"])), max_size=6))
def test_any_line_is_one_line(splitting: LineTranslator, lines: list[str]) -> None:
    found = splitting.answer([*lines, "Hund!"], 0).lines
    assert len(found) == len(lines) + 1 and not any("\n" in line for line in found)
    assert all(bool(found) <= bool(line.strip()) for line, found in zip(lines, found, strict=False))
    assert found[-1] == splitting.answer(["Hund!"], 0).lines[0]


def test_a_line_that_is_too_long_ends_the_work_behind_the_lines_before(german_exported: Path) -> None:
    answer = LineTranslator(german_exported, 1, Decoding()).answer(["Hund", "", LONG, "Mann"], 40)
    assert list(answer.lines) == Translator(german_exported).translate(["Hund", ""]) and answer.read == 2
    assert str(answer.error) == (
        "line 43 has 5001 tokens, the model reads 1024 at most: split it into sentences (--split-sentences)"
    )


def test_sentences_are_translated_one_by_one_and_make_one_line(
    german_exported: Path, splitting: LineTranslator
) -> None:
    translator = Translator(german_exported)
    one, two = "Mann schläft!", "Café Hund schläft!"
    answer = splitting.answer([f" {one}  {two} ", "", one, LONG], 7)
    assert answer.lines[:3] == [" ".join(translator.translate([one, two])), "", *translator.translate([one])]
    # Halved six times: 5000 words, of which 78 stay together.
    part, words = translator.translate([("Hund schläft " * 39).strip()])[0], answer.lines[3].split()
    assert answer.error is None and answer.read == 4
    assert list(answer.notes) == [
        "line 11: a sentence is longer than nearly all that the model was trained on "
        f"({translator.exported.usual} tokens); translated in 64 parts"
    ]
    assert words and words[: len(part.split())] == part.split()
    # Text without any blank is cut as well, where the model cannot read it.
    cut = splitting.answer(["猫" * 3000], 0)
    assert cut.error is None and len(cut.lines) == 1 and "in 4 parts" in cut.notes[0]


def test_what_is_longer_than_the_training_is_noted(german_exported: Path) -> None:
    answer = LineTranslator(german_exported, 1, Decoding()).answer(["Hund", "Hund " * 100], 3)
    usual = Translator(german_exported).exported.usual
    note = (
        "line 5: has 101 tokens, nearly all that the model was trained on have at most "
        f"{usual}; some of it may be missing"
    )
    assert list(answer.notes) == [f"{note} (--split-sentences)"]
    ranked = LineTranslator(german_exported, 1, Decoding(candidates=2), n_best=1)
    assert list(ranked.answer(["Hund", "Hund " * 100], 3).notes) == [note]


def test_words_are_not_cut_below_what_the_model_reads(
    splitting: LineTranslator, german_exported: Path
) -> None:
    translator = Translator(german_exported)
    long = "x" * 300
    assert translator.exported.usual < len(translator.encode(long)) < translator.exported.longest
    answer = splitting.answer([f"Mann {long} Hund"], 0)
    assert answer.lines == [" ".join(translator.translate(["Mann", long, "Hund"]))]
    assert "in 3 parts" in answer.notes[0]
    assert "translated in 1 part" in splitting.answer([long], 0).notes[0]


def test_candidates_stand_below_each_other(german_exported: Path) -> None:
    made = LineTranslator(german_exported, 1, Decoding(candidates=3), n_best=2)
    rows = [line.split("\t") for line in made.answer(["Mann schläft!", " ", "Hund"], 7).lines]
    expected = []
    found = Translator(german_exported).candidates(["Mann schläft!", " ", "Hund"], candidates=3, n_best=2)
    for number, each in enumerate(found, 8):
        expected += [
            [str(number), str(rank), f"{one.score:.4f}", one.text] for rank, one in enumerate(each, 1)
        ]
    assert rows == expected and ["9", "1", "0.0000", ""] in rows


def test_what_is_no_text_has_no_sentences(german_exported: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("vqnat_plugin.text.pipeline.TextPipeline.find", lambda folder: None)
    with pytest.raises(UsageError, match=r"--split-sentences: .* has no text pipeline"):
        LineTranslator(german_exported, 1, Decoding(), split_sentences=True)
