from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vqnat_plugin.commands.main import main
from vqnat_plugin.errors import DataError
from vqnat_plugin.evaluation.bleu import read_generated, repetition_rate, score, score_file
from vqnat_plugin.files import read_json

TEXTS = ["Das ist gut.", "Ein Haus steht dort.", "Wir gehen heute nach Hause, sagt sie."]


def block(number: int, *texts: str) -> str:
    """What fairseq-generate prints about one sentence, best hypothesis first."""
    lines = [f"S-{number}\tsource @@ed", f"T-{number}\ttarget @@ed"]
    for text in texts:
        lines += [f"H-{number}\t-0.25\tto@@ kens", f"D-{number}\t-0.25\t{text}", f"P-{number}\t-0.1 -0.4"]
    return "\n".join(lines) + "\n"


@pytest.fixture
def generated(tmp_path: Path) -> Path:
    path = tmp_path / "generate-test.txt"
    blocks = [block(number, TEXTS[number], "zweite Wahl") for number in (2, 0, 1)]
    path.write_text(
        "2026-01-01 | INFO | fairseq_cli.generate | {...}\n" + "".join(blocks) + "Generate test with beam=4\n"
    )
    return path


@pytest.fixture
def reference(tmp_path: Path) -> Path:
    path = tmp_path / "test.de"
    path.write_text("\n".join(TEXTS) + "\n")
    return path


def test_sentences_come_in_order_and_the_first_of_nbest_counts(generated: Path) -> None:
    assert read_generated(generated) == TEXTS


def test_empty_hypothesis_is_a_sentence(tmp_path: Path) -> None:
    path = tmp_path / "out.txt"
    path.write_text(block(0, "") + block(1, "ja\tnein"))
    assert read_generated(path) == ["", "ja\tnein"]


def test_separators_inside_a_line_do_not_end_it(tmp_path: Path) -> None:
    path = tmp_path / "out.txt"
    path.write_text(block(0, "ein\u2028Satz\x85hier"), encoding="utf-8")
    assert read_generated(path) == ["ein\u2028Satz\x85hier"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (block(0, "a") + block(3, "b"), r"2 sentences missing \(1, 2\).*--required-batch-size-multiple 1"),
        (block(0, "a") + block(1, "b") + block(0, "a"), "sentence 0 occurs twice"),
        (block(0, "a") + block(0, "a"), "sentence 0 occurs twice"),
        ("nothing here\n", "no 'D-' lines"),
        ("", "no 'D-' lines"),
        ("D-0\t-0.3", "cut off"),
    ],
)
def test_broken_output_is_refused(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "out.txt"
    path.write_text(text)
    with pytest.raises(DataError, match=message):
        read_generated(path)


def test_identical_text_scores_100_with_signature(generated: Path, reference: Path) -> None:
    result = score_file(generated, [reference])
    assert result.bleu == pytest.approx(100)
    assert result.brevity_penalty == 1
    assert result.sentences == 3
    assert {"nrefs:1", "case:mixed", "tok:13a"} <= set(result.signature.split("|"))


def test_case_counts() -> None:
    assert score([text.upper() for text in TEXTS], [TEXTS]).bleu < 20


def test_any_of_several_references_will_do(generated: Path, reference: Path, tmp_path: Path) -> None:
    other = tmp_path / "other.de"
    other.write_text("x\n" * len(TEXTS))
    assert score_file(generated, [other]).bleu < 1
    both = score_file(generated, [other, reference])
    assert both.bleu == pytest.approx(100)
    assert "nrefs:2" in both.signature


def test_short_output_has_a_brevity_penalty() -> None:
    short = score(["a b c d e"], [["a b c d e f g h i j"]])
    assert short.brevity_penalty == pytest.approx(2.718281828 ** (1 - 10 / 5))


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        (4, "1 sentences missing \\(3\\).*--required-batch-size-multiple 1"),
        (2, "2 lines, but .* holds 3 sentences"),
    ],
)
def test_lines_out_must_equal_lines_in(generated: Path, tmp_path: Path, lines: int, message: str) -> None:
    reference = tmp_path / "other.de"
    reference.write_text("x\n" * lines)
    with pytest.raises(DataError, match=message):
        score_file(generated, [reference])


def test_plain_text_is_a_sentence_a_line(tmp_path: Path, reference: Path) -> None:
    path = tmp_path / "out.txt"
    path.write_text("\n".join(TEXTS) + "\n")
    assert score_file(path, [reference]).bleu == pytest.approx(100)
    path.write_text("D-Day\n\nS- 1\n")
    assert score_file(path, [reference]).sentences == 3


@pytest.mark.parametrize("text", ["Ein Satz.\n", "", "Generate test with beam=4: BLEU4 = 3\n"])
def test_plain_text_of_another_length_is_said_to_be_taken_for_it(
    tmp_path: Path, reference: Path, text: str
) -> None:
    path = tmp_path / "out.txt"
    path.write_text(text)
    lines = len(text.splitlines())
    message = (
        f"out.txt: {lines} lines, but .*test.de has 3; it has no 'D-' lines of fairseq-generate, so it was"
    )
    with pytest.raises(DataError, match=message):
        score_file(path, [reference])


def test_generated_output_without_detokenised_lines_is_not_plain_text(
    tmp_path: Path, reference: Path
) -> None:
    path = tmp_path / "out.txt"
    path.write_text("S-0\ta\nT-0\tb\nH-0\t-0.5\tc\n")
    with pytest.raises(DataError, match="no 'D-' lines"):
        score_file(path, [reference])


def test_command_prints_and_writes_the_score(
    generated: Path, reference: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["score", "--sys", generated, "--ref", reference, reference]
    assert main([*map(str, words)]) == 0
    assert capsys.readouterr().out.startswith("generate-test.txt: BLEU 100.00 (nrefs:2|case:mixed|")
    out = tmp_path / "a" / "score.json"
    assert main([*map(str, words), "--name", "student", "--out", str(out)]) == 0
    assert capsys.readouterr().out.startswith("student: BLEU 100.00 ")
    content = read_json(out)
    assert content["system"] == "student" and content["bleu"] == pytest.approx(100)
    assert content["sys"] == str(generated) and content["ref"] == [str(reference)] * 2


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--sys", "none", "--ref", "none", "--out", "o"], "vqnat score: error: --sys none: no such file"),
        (["--ref", "none"], "--sys"),
    ],
)
def test_mistakes_are_named_and_nothing_is_written(
    words: list[str],
    message: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as error:
        main(["score", *words])
    (line,) = capsys.readouterr().err.splitlines()
    assert error.value.code == 2 and message in line
    assert list(tmp_path.iterdir()) == []


def test_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"none\.txt: cannot be read"):
        read_generated(tmp_path / "none.txt")


def test_repetitions_are_counted_by_sentence() -> None:
    result = score(["a a b b", "a b a", "", "c c"], [["a", "b b", "c", "d"]])
    assert result.repetition_rate == 0.5
    assert result.reference_repetition_rate == 0.25


@given(st.lists(st.lists(st.sampled_from("abc"), unique=True), min_size=1))
def test_no_repetition_where_all_words_differ(sentences: list[list[str]]) -> None:
    assert repetition_rate([" ".join(words) for words in sentences]) == 0
    assert repetition_rate([" ".join([*words, "x", "x"]) for words in sentences]) == 1
