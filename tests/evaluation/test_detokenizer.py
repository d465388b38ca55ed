"""Text of tokens as the data was prepared, and scores as its language asks for, in all commands."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

from vqnat_plugin.commands.main import main
from vqnat_plugin.evaluation.detokenizer import Detokenizer
from vqnat_plugin.evaluation.fairseq_translator import FairseqTranslator
from vqnat_plugin.evaluation.systems import Conditions, parse_system
from vqnat_plugin.reading import read_json, read_lines
from vqnat_plugin.text.pipeline import TextPipeline

PLAIN = TextPipeline("en", "de")


@pytest.fixture
def prepared(tiny_corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The tiny corpus with a text pipeline, which writes text of a language as no other tokeniser does."""

    def decode(self: TextPipeline, text: str, language: str | None = None) -> str:
        return " ".join(f"{language}-{word}" for word in text.split())

    data = tmp_path / "data"
    shutil.copytree(tiny_corpus, data)
    PLAIN.save(data)
    monkeypatch.setattr(TextPipeline, "decode", decode)
    return data


@pytest.fixture
def chinese(tiny_corpus: Path, tiny_student: Path, tmp_path: Path) -> tuple[Path, Path]:
    """The tiny corpus and student, called Chinese."""
    data = tmp_path / "bin"
    data.mkdir()
    for path in tiny_corpus.iterdir():
        shutil.copy(path, data / path.name.replace("en-de", "en-zh").replace(".de.", ".zh."))
    state = torch.load(tiny_student, weights_only=False)
    state["cfg"]["task"] |= {"data": str(data), "source_lang": "en", "target_lang": "zh"}
    torch.save(state, tmp_path / "student.pt")
    return data, tmp_path / "student.pt"


def run(*words: object) -> None:
    assert main(list(map(str, words))) == 0


def compare(data: Path, student: Path, reference: Path, out: Path, *words: object) -> dict[str, Any]:
    quick = ("--cpu", "--batch-sizes", 1, "--sentences", 1, "--warmup", 0)
    run("compare", data, "--ref", reference, "--out", out, *quick, "--system", "a", student, *words)
    return read_json(out / "report.json")


def test_the_pipeline_of_the_data_unless_told_otherwise(
    prepared: Path, tiny_student: Path, tiny_corpus: Path
) -> None:
    task = FairseqTranslator(parse_system(["a", str(tiny_student)]), Conditions(prepared, cpu=True)).task
    dictionary = task.target_dictionary
    tokens = torch.tensor([dictionary.index(word) for word in ("W1", "W2")])
    tokens = torch.cat([tokens, torch.tensor([dictionary.eos(), dictionary.pad()])])
    assert Detokenizer(task, prepared)(tokens) == "de-W1 de-W2"
    assert Detokenizer(task, prepared, "space")(tokens) == "W1 W2"
    assert Detokenizer(task, tiny_corpus)(tokens) == "W1 W2"
    unknown = torch.tensor([dictionary.unk()])
    assert Detokenizer(task, tiny_corpus)(unknown) == "<unk>"
    assert Detokenizer(task, tiny_corpus)(unknown, "UNKNOWN") == "UNKNOWN"


@pytest.mark.parametrize("tokenizer", ["moses", None])
def test_without_a_pipeline_subwords_and_moses_are_undone(
    tiny_student: Path, tiny_corpus: Path, tokenizer: str | None
) -> None:
    task = FairseqTranslator(parse_system(["a", str(tiny_student)]), Conditions(tiny_corpus, cpu=True)).task
    decode = Detokenizer(task, tiny_corpus, tokenizer).decode
    assert decode("Das ist g@@ ut , sagt sie .") == "Das ist gut, sagt sie."


def test_compare_writes_text_as_the_data_was_prepared(
    prepared: Path, tiny_student: Path, tiny_corpus: Path, tmp_path: Path
) -> None:
    reference = tiny_corpus.parent / "text" / "test.de"
    compare(prepared, tiny_student, reference, tmp_path / "out")
    written = [line.split() for line in read_lines(tmp_path / "out" / "decoded" / "a.txt")]
    assert all(word.startswith("de-") for words in written for word in words)
    assert "--tokenizer" not in read_json(tmp_path / "out" / "report.json")["commands"][0]

    # The pipeline is part of what was decoded.
    before = read_json(tmp_path / "out" / "decoded" / "a.json")["of"]
    TextPipeline("en", "de", normalization="none").save(prepared)
    compare(prepared, tiny_student, reference, tmp_path / "out")
    assert read_json(tmp_path / "out" / "decoded" / "a.json")["of"] != before

    compare(prepared, tiny_student, reference, tmp_path / "out", "--tokenizer", "space")
    assert "de-" not in (tmp_path / "out" / "decoded" / "a.txt").read_text()


def test_diagnose_latents_and_inspect_read_the_pipeline(
    prepared: Path, tiny_student: Path, tiny_corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scored: list[str] = []

    def watch(module: str, name: str) -> None:
        original = getattr(__import__(module, fromlist=[name]), name)

        def watched(texts: list[str], references: list[list[str]], *rest: Any, **named: Any) -> Any:
            scored.extend([*texts, *references[0]])
            return original(texts, references, *rest, **named)

        monkeypatch.setattr(f"{module}.{name}", watched)

    watch("vqnat_plugin.analysis.losses", "score")
    watch("vqnat_plugin.analysis.latents", "corpus_bleu")
    common = (tiny_student, "--data", prepared, "--gen-subset", "valid", "--cpu")
    for command in ("diagnose", "latents"):
        scored.clear()
        run(command, *common, "--out", tmp_path / command)
        assert scored and all(word.startswith("de-") for text in scored for word in text.split())
    run("inspect", *common, "--out", tmp_path / "codes")
    shown = read_json(tmp_path / "codes" / "codes.json")["sentences"].values()
    assert all(word.startswith("en-") for each in shown for word in each["source"].split())


def test_scores_are_cut_as_the_target_language_is(
    chinese: tuple[Path, Path], tiny_corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data, student = chinese
    reference = tiny_corpus.parent / "text" / "test.de"
    system = compare(data, student, reference, tmp_path / "out")["systems"]["a"]
    assert "|tok:zh|" in system["signature"] and 0 <= system["chrf"] <= 100
    system = compare(data, student, reference, tmp_path / "out", "--tokenize", "char")["systems"]["a"]
    assert "|tok:char|" in system["signature"]

    words = ("diagnose", student, "--gen-subset", "test", "--cpu", "--out", tmp_path / "diagnosis")
    for more, name in (((), "zh"), (("--tokenize", "intl"), "intl")):
        run(*words, *more)
        found = json.loads((tmp_path / "diagnosis" / "diagnosis.json").read_text())
        assert all(f"|tok:{name}|" in each["signature"] for each in found["systems"].values())
        text = (tmp_path / "diagnosis" / "diagnosis.md").read_text()
        assert "| chrF |" in text and f"|tok:{name}|" in text

    languages = []
    monkeypatch.setattr(
        "vqnat_plugin.analysis.latents.corpus_bleu",
        lambda texts, references, tokenize: languages.append(tokenize) or pytest.fail("measured"),
    )
    with pytest.raises(pytest.fail.Exception, match="measured"):
        main(["latents", str(student), "--cpu"])
    assert languages == ["zh"]


@pytest.mark.parametrize("command", ["compare", "diagnose"])
def test_a_tokeniser_that_is_not_there_is_refused_before_anything_is_decoded(
    command: str,
    tiny_corpus: Path,
    tiny_student: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    out = ("--out", tmp_path / "out", "--tokenize", "moses")
    reference = tiny_corpus.parent / "text" / "test.de"
    words: dict[str, tuple[object, ...]] = {
        "compare": (tiny_corpus, "--ref", reference, "--system", "a", tiny_student),
        "diagnose": (tiny_student,),
    }
    with pytest.raises(SystemExit) as ended:
        main([command, *map(str, (*words[command], *out))])
    assert ended.value.code == 2
    line = capsys.readouterr().err.splitlines()[-1]
    assert line.startswith(f"vqnat {command}: error: --tokenize moses: needs one of none, zh, 13a")
    assert not (tmp_path / "out").exists()
