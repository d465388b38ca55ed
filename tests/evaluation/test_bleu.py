import random
import subprocess
import sys
import unicodedata
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from vqnat_plugin.commands.main import main
from vqnat_plugin.errors import DataError
from vqnat_plugin.evaluation import bleu
from vqnat_plugin.evaluation.bleu import (
    bleu_metric,
    corpus_bleu,
    language_of,
    paired_bootstrap,
    repetition_rate,
    score,
    score_file,
)
from vqnat_plugin.evaluation.generated import read_generated
from vqnat_plugin.reading import read_json
from vqnat_plugin.text.languages import sacrebleu_tokenizer

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
        (
            block(0, "a") + block(3, "b"),
            r"2 sentences missing \(1, 2\): perhaps .*--required-batch-size-multiple",
        ),
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
        (4, "1 sentences missing \\(3\\): perhaps .*other.de is not the reference of this test set"),
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
    path.write_text("D-Day\n\nS-300\n")
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


# Composed and decomposed, halfwidth, of several scripts; not what would end a line.
LINES = st.lists(
    st.text(
        st.characters(codec="utf-8", exclude_characters="\n\r\ufeff")
        | st.sampled_from("aä\u0308 我喜हि\u093c."),
        min_size=1,
        max_size=12,
    ),
    min_size=1,
    max_size=4,
)


@given(st.data())
@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_how_a_file_is_written_never_changes_a_score(tmp_path: Path, data: st.DataObject) -> None:
    references = data.draw(LINES)
    hypotheses = data.draw(
        st.lists(st.sampled_from(references), min_size=len(references), max_size=len(references))
    )
    tokenize = data.draw(st.sampled_from(["13a", "zh", "char"]))

    def write(name: str, lines: list[str]) -> Path:
        path = tmp_path / name
        mark, end = data.draw(st.sampled_from(["", "\ufeff"])), data.draw(st.sampled_from(["\n", "\r\n"]))
        form = data.draw(st.sampled_from(["NFC", "NFD"]))
        text = unicodedata.normalize(form, end.join(lines)) + end * data.draw(st.booleans())
        path.write_bytes((mark + text).encode())
        return path

    expected = score(hypotheses, [references], tokenize)
    assert score_file(write("a", hypotheses), [write("b", references)], tokenize) == expected


@pytest.mark.parametrize("tokenize", ["13a", "zh"])
def test_what_is_scored_is_in_nfc(tokenize: str) -> None:
    decomposed = [
        unicodedata.normalize("NFD", text) for text in ("Ein schöner Löwe schläft über Öfen.", "Größe")
    ]
    composed = [unicodedata.normalize("NFC", text) for text in decomposed]
    assert decomposed != composed
    for hypotheses, references in ((decomposed, composed), (composed, decomposed)):
        found = score(hypotheses, [references], tokenize)
        assert found.bleu == pytest.approx(100) and found.chrf == pytest.approx(100)
        assert corpus_bleu(hypotheses, [references], "de").score == pytest.approx(100)


def test_scripts_without_blanks_are_scored_by_characters(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert [sacrebleu_tokenizer(code) for code in ("th", "lo", "km-KH", "my", "bo")] == ["char"] * 5
    assert [sacrebleu_tokenizer(code) for code in ("zh-TW", "ja", "ko", "en", "ar", "vi", None)] == [
        *("zh", "ja-mecab", "ko-mecab", "13a", "13a", "13a", "13a")
    ]
    thai = ["ฉันชอบกินข้าวผัดกับไข่ดาว", "วันนี้อากาศดีมาก"]
    for name, text in (("a", thai), ("ref.th", [thai[0].replace("ไข่ดาว", "หมู"), thai[1]]), ("ref.txt", thai)):
        (tmp_path / name).write_text("\n".join(text), encoding="utf-8")
    assert main(["score", "--sys", str(tmp_path / "a"), "--ref", str(tmp_path / "ref.th")]) == 0
    out, err = capsys.readouterr()
    assert "|tok:char|" in out and float(out.split("BLEU ")[1].split()[0]) > 60 and not err
    assert main(["score", "--sys", str(tmp_path / "a"), "--ref", str(tmp_path / "ref.txt")]) == 0
    assert "such as zh, ja or th" in capsys.readouterr().err


def test_what_nobody_sees_does_not_count() -> None:
    # A reference of Khmer has blanks without width, one of Hebrew marks of direction; no model writes them.
    khmer, hebrew = "ខ្ញុំចូលចិត្តបាយ", "שלום לכולם כאן היום"
    for plain, seen in ((khmer, f"{khmer[:6]}\u200b{khmer[6:]}"), (hebrew, f"\u200f{hebrew}")):
        assert score([plain], [[seen]], "char").bleu == pytest.approx(100)


def test_words_that_follow_themselves_among_characters() -> None:
    lines = ["เขาออกไปแล้ว", "กินข้าวกินข้าวแล้ว", "แล้ว แล้วไป", "", "aabb", "1000000 ......"]
    assert repetition_rate(lines, "char") == pytest.approx(2 / 6) and repetition_rate([], "char") == 0


CHINESE = ["我喜欢吃红苹果。", "他今天去学校上课。"], ["我喜欢吃苹果。", "他今天去学校上课。"]


def test_the_language_chooses_how_text_is_cut(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    hypotheses, references = CHINESE
    for name in ("a", "ref.zh", "ref.zh.1", "ref.zh-TW", "ref.cmn.txt"):
        (tmp_path / name).write_text("\n".join(references if "ref" in name else hypotheses), encoding="utf-8")

    def bleu(name: str, *words: str) -> tuple[str, str]:
        assert main(["score", "--sys", str(tmp_path / "a"), "--ref", str(tmp_path / name), *words]) == 0
        out, err = capsys.readouterr()
        return out, err

    for name in ("ref.zh", "ref.zh.1", "ref.zh-TW", "ref.cmn.txt"):
        out, err = bleu(name)
        assert "BLEU 79.49 (" in out and "|tok:zh|" in out and "chrF 77.75 (" in out and "|nc:6|" in out
        assert err == ""
    (tmp_path / "ref.txt").write_text("\n".join(references), encoding="utf-8")
    out, err = bleu("ref.txt")
    assert "|tok:13a|" in out and len(err.splitlines()) == 1
    assert "looks like text without blanks between words" in err
    for words in (
        ["--target-lang", "zh"],
        ["-t", "zh"],
        ["--tokenize", "zh"],
        ["-t", "de", "--tokenize", "zh"],
    ):
        out, err = bleu("ref.txt", *words)
        assert "|tok:zh|" in out and err == ""
    assert "|tok:char|" in bleu("ref.zh", "--tokenize", "char")[0]


@pytest.mark.parametrize(
    ("name", "language"),
    [("test.de", "de"), ("a.b.de.2", "de"), ("test.de.txt", "de"), ("test", None), ("test.2", None)],
)
def test_the_name_of_a_reference_says_its_language(name: str, language: str | None) -> None:
    assert language_of(Path(name)) == language


@pytest.mark.parametrize(
    ("code", "texts", "signature"),
    [
        ("ja", ["私は赤いりんごが好きです。", "彼は今日学校へ行きました。"], "tok:ja-mecab"),
        ("ko", ["나는 빨간 사과를 좋아합니다.", "그는 오늘 학교에 갔습니다."], "tok:ko-mecab"),
    ],
)
def test_japanese_and_korean_are_cut_by_mecab(
    code: str, texts: list[str], signature: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip({"ja": "ipadic", "ko": "mecab_ko"}[code])
    path = tmp_path / f"test.{code}"
    path.write_text("\n".join(texts), encoding="utf-8")
    assert main(["score", "--sys", str(path), "--ref", str(path)]) == 0
    out = capsys.readouterr().out
    assert "BLEU 100.00" in out and signature in out


def refused(capsys: pytest.CaptureFixture[str], *words: object) -> str:
    """The one line with which `vqnat score` refuses."""
    with pytest.raises(SystemExit) as error:
        main(["score", *map(str, words)])
    assert error.value.code == 2
    (line,) = capsys.readouterr().err.splitlines()
    return line


@pytest.mark.parametrize("code", ["ja", "ko"])
def test_a_missing_tokeniser_is_one_line(
    code: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(f"sacrebleu.tokenizers.tokenizer_{code}_mecab.MeCab", None)
    bleu_metric.cache_clear()
    path = tmp_path / f"test.{code}"
    path.write_text("a\n")
    line = refused(capsys, "--sys", path, "--ref", path)
    assert f"pip install 'sacrebleu[{code}]'" in line and "--tokenize char" in line


def test_unknown_tokenisers_and_languages_are_one_line(
    reference: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ("--sys", reference, "--ref", reference)
    assert "--tokenize moses: needs one of none, zh, 13a," in refused(capsys, *words, "--tokenize", "moses")
    assert "'xx' is no code of a language" in refused(capsys, *words, "-t", "xx")


def test_words_are_those_of_the_language() -> None:
    assert repetition_rate(["我我们", "我们"]) == 0
    assert repetition_rate(["我我们", "我们"], "zh") == 0.5


LOG = {
    "options": "INFO | fairseq_cli.generate | {{'dataset': {{'skip_invalid_size_inputs_valid_test': {skips}, "
    "'required_batch_size_multiple': {multiple}}}, "
    "'distributed_training': {{'distributed_world_size': {parts}}}}}",
    "loaded": "INFO | fairseq.data.data_utils | loaded {loaded:,} examples from: bin/test.en-de.en",
    "skipped": "WARNING | fairseq.tasks.fairseq_task | {skipped:,} samples have invalid sizes and will be "
    "skipped, max_positions=(8, 64), first few sample ids=[7, 4]",
    "translated": "INFO | fairseq_cli.generate | Translated {translated:,} sentences (40 tokens) in 0.5s",
}
SKIP, MULTIPLE, CUT = "--skip-invalid-size-inputs-valid-test", "--required-batch-size-multiple", "cut short"
OTHER = "the reference of this test set"


def output(numbers: list[int], **said: object) -> str:
    """What fairseq-generate writes of some sentences, with as much of its log as is said."""
    names = {"skips": "options", "multiple": "options", "parts": "options"}
    kinds = dict.fromkeys(names.get(name, name) for name in said)
    values = {"skips": False, "multiple": 1, "parts": 1, **said}
    log = [LOG[kind].format(**values) for kind in LOG if kind in kinds]
    return "\n".join([*log[:-1], *(block(number, "a").strip() for number in numbers), *log[-1:]]) + "\n"


@pytest.mark.parametrize(
    ("text", "said", "unsaid"),
    [
        # Skipped by length, with what is needed against incomplete batches.
        (
            output([0, 2], skips=True, multiple=1, loaded=4, skipped=2, translated=2),
            ["2 are longer than the model reads", SKIP],
            [MULTIPLE, CUT, OTHER],
        ),
        (output([0, 2], skips=True, multiple=1), [SKIP, CUT], [MULTIPLE, OTHER]),
        (output([0, 2], skipped=2), [SKIP], [MULTIPLE, OTHER]),
        # An incomplete last batch.
        (
            output([0, 3], multiple=8, loaded=4, translated=2),
            ["left out 2", f"{MULTIPLE} 1"],
            [SKIP, CUT, OTHER],
        ),
        (output([0, 3], multiple=8), [f"{MULTIPLE} was not 1 but 8", CUT], [SKIP, OTHER]),
        # Both.
        (
            output([3], skips=True, multiple=8, loaded=4, skipped=1, translated=1),
            ["1 are longer", SKIP, "left out 2", f"{MULTIPLE} 1"],
            [CUT, OTHER],
        ),
        # The run was cut short, or its output was.
        (output([0, 2], multiple=1, loaded=4), [CUT], [SKIP, MULTIPLE, OTHER]),
        (
            output([0, 2], multiple=1, loaded=4, translated=4),
            ["cut off or changed later"],
            [SKIP, MULTIPLE, OTHER],
        ),
        # Another test set, or one that was cut.
        (
            output([0, 1], multiple=1, loaded=2, translated=2),
            ["the test set has 2, but", OTHER],
            [SKIP, MULTIPLE, CUT],
        ),
        (output([0, 1], multiple=1, translated=2), [OTHER], [MULTIPLE, CUT]),
        # A part.
        (output([0, 2], parts=2, loaded=4, translated=2), ["one of 2 parts"], [SKIP, MULTIPLE, CUT, OTHER]),
        # No log: gaps are not for want of sentences in the test set.
        (output([0, 3]), [SKIP, MULTIPLE, CUT, "perhaps"], [OTHER]),
        (output([0, 1]), [SKIP, MULTIPLE, CUT, "perhaps", OTHER], []),
        # More than an incomplete batch.
        (output([11]), [SKIP, CUT, "perhaps"], [MULTIPLE, OTHER]),
        (output([11], multiple=4), [CUT, "perhaps"], [MULTIPLE, SKIP, OTHER]),
        (output([11], multiple=16), [MULTIPLE, CUT, "perhaps"], [SKIP, OTHER]),
    ],
)
def test_advice_names_the_true_cause(
    text: str, said: list[str], unsaid: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "gen.txt").write_text(text)
    numbers = [int(line[2:].split("\t")[0]) for line in text.splitlines() if line.startswith("D-")]
    (tmp_path / "test.de").write_text("a\n" * max(4, max(numbers) + 1))
    line = refused(capsys, "--sys", tmp_path / "gen.txt", "--ref", tmp_path / "test.de")
    assert "sentences missing" in line
    assert [part for part in said if part not in line] == []
    assert [part for part in unsaid if part in line] == []


@pytest.mark.parametrize(
    ("system", "reference_text", "message"),
    [
        ("a\nb\n\n\n", "a\nb\n", "the last 2 of .*out.txt are empty"),
        ("a\nb\n", "a\n\nb\n", "were empty ones left out of .*out.txt"),
        ("a\nb\u2028c\n", "a\nb\nc\n", "out.txt has characters inside its lines that some programs take"),
        ("a\nb\n", "a\nb\nc\n", "no 'D-' lines"),
        ("a\rb\r", "a\nb\n", "out.txt: its only line ends are carriage returns"),
        ("a\rb", "a\rb", "out.txt: its only line ends are carriage returns"),
    ],
)
def test_other_numbers_of_lines_are_explained(
    system: str, reference_text: str, message: str, tmp_path: Path
) -> None:
    for name, text in (("out.txt", system), ("ref.de", reference_text)):
        (tmp_path / name).write_bytes(text.encode())
    with pytest.raises(DataError, match=message):
        score_file(tmp_path / "out.txt", [tmp_path / "ref.de"])


def test_scoring_needs_neither_torch_nor_fairseq() -> None:
    code = "import sys, vqnat_plugin.evaluation.bleu; sys.exit(bool({'torch', 'fairseq'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], timeout=60).returncode == 0


def test_a_bootstrap_of_too_many_sentences_is_left_out(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(bleu, "MOST_TESTED", 2)
    assert paired_bootstrap({"a": ["x"] * 3}, [["x"] * 3], "a") == {}
    assert "3 sentences: above 2 BLEU is reported without its uncertainty" in capsys.readouterr().err
    assert paired_bootstrap({"a": ["x"] * 2}, [["x"] * 2], "a").keys() == {"a"}


def test_a_paired_bootstrap_tells_chance_from_difference() -> None:
    rng = random.Random(1)
    words = ["der", "die", "das", "ein", "Haus", "Hund", "Baum", "steht", "liegt", "geht", "dort", "hier"]
    truth = [" ".join(rng.choices(words, k=rng.randint(6, 14))) for _ in range(200)]

    def spoilt(share: float, seed: int) -> list[str]:
        noise = random.Random(seed)
        return [" ".join("x" if noise.random() < share else word for word in line.split()) for line in truth]

    base, like_it = spoilt(0.1, 3), spoilt(0.1, 4)
    # Other words that are as wrong.
    alike = [line.replace("x", "y") for line in base]
    systems = {"worse": spoilt(0.3, 2), "base": base, "like it": like_it, "same": [*base], "alike": alike}
    found = paired_bootstrap(systems, [truth], "base")
    assert found.keys() == systems.keys()
    assert "bleu_p" not in found["base"] and found["worse"]["bleu_baseline"] == "base"
    assert found["worse"]["bleu_p"] < 0.01 < 0.05 < found["like it"]["bleu_p"] <= 1 == found["same"]["bleu_p"]
    assert all(0.1 < each["bleu_interval"] < 5 for each in found.values())
    assert found["alike"]["bleu_p"] == 1
    assert "|bs:1000|seed:" in found["base"]["bleu_test"]
    # The same numbers each time.
    assert paired_bootstrap(systems, [truth], "base") == found
    assert paired_bootstrap({"base": systems["base"]}, [truth], "base") == {"base": found["base"]}
