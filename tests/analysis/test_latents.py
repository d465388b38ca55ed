"""The latents' figures on a small trained model."""

import json
from pathlib import Path

import pytest
from tiny import train_student

from vqnat_plugin.analysis.latents import evaluate_latents
from vqnat_plugin.commands.main import main
from vqnat_plugin.errors import CheckpointError, DataError


@pytest.fixture(scope="module")
def student(tiny_corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return train_student(tiny_corpus, tmp_path_factory.mktemp("student"), "--max-update", "60")


def test_figures(student: Path, tiny_corpus: Path) -> None:
    figures = evaluate_latents(student, tiny_corpus, "train", batch_size=7)
    text = (tiny_corpus.parent / "text" / "train.de").read_text()
    lengths = [len(line.split()) for line in text.splitlines()]
    # One halving of the words and EOS.
    latents = sum(-(-(length + 1) // 2) for length in lengths)
    assert figures["latents_per_sentence"] == pytest.approx(latents / len(lengths))
    assert figures["codebook_size"] == 16
    assert 1 <= figures["perplexity"] <= figures["usage"] * 16 + 1e-6 <= 16 + 1e-6
    assert 0 <= figures["predictor_accuracy"] <= 1 <= figures["predictor_perplexity"]
    assert 0 < figures["reconstruction_bleu"] <= 100


def test_batch_size_changes_nothing(student: Path, tiny_corpus: Path) -> None:
    one = evaluate_latents(student, tiny_corpus, "train", batch_size=1)
    # The posterior entropy is a mean over batches.
    one.pop("posterior_entropy")
    many = evaluate_latents(student, tiny_corpus, "train", batch_size=60)
    assert one == pytest.approx({name: many[name] for name in one}, rel=1e-3)


def test_errors(tiny_teacher: Path, student: Path, tiny_corpus: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"nonesuch\.pt"):
        evaluate_latents(tmp_path / "nonesuch.pt", tiny_corpus)
    with pytest.raises(CheckpointError, match="is no latent translation model"):
        evaluate_latents(tiny_teacher, tiny_corpus)
    with pytest.raises(DataError, match="test7"):
        evaluate_latents(student, tiny_corpus, "test7")


def test_command(
    student: Path, tiny_corpus: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["latents", str(student), "--data", str(tiny_corpus), "--tokenizer", "space", "--cpu"]
    assert main(words) == 0
    shown = capsys.readouterr().out
    assert "codebook_size: 16\n" in shown and "reconstruction_bleu: " in shown
    out = tmp_path / "latents.json"
    assert main([*words, "--out", str(out)]) == 0
    assert capsys.readouterr().out == shown
    assert json.loads(out.read_text())["codebook_size"] == 16


def test_the_command_scores_with_any_of_sacrebleus_tokenisers(
    student: Path, tiny_corpus: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    found = []
    for tokenize in ("13a", "char"):
        words = ["latents", str(student), "--data", str(tiny_corpus), "--gen-subset", "train"]
        assert main([*words, "--tokenize", tokenize, "--cpu"]) == 0
        shown = dict(line.split(": ") for line in capsys.readouterr().out.splitlines() if ": " in line)
        found.append(float(shown["reconstruction_bleu"]))
    assert 0 < found[0] != found[1] > 0
