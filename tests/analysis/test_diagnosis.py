"""Where quality is lost: every kind of latents against what they must give, and the command."""

import json
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from matplotlib.figure import Figure
from sacrebleu.metrics import BLEU

from vqnat_plugin.analysis.diagnosis import SYSTEMS, Diagnosis, PredictorFigures, Written, decode
from vqnat_plugin.analysis.latents import evaluate_latents
from vqnat_plugin.analysis.losses import find_losses, losses_table
from vqnat_plugin.analysis.plot import plot_diagnosis
from vqnat_plugin.commands.main import main
from vqnat_plugin.errors import CheckpointError, DataError, UserError
from vqnat_plugin.evaluation.plots import finish
from vqnat_plugin.tasks.validation_bleu import UNKNOWN_IN_REFERENCE


def diagnosis(student: Path, teacher: Path | None, **options: Any) -> Diagnosis:
    return Diagnosis(student, teacher=teacher, subset="valid", tokenizer="space", **options)


@pytest.fixture(scope="module")
def written(tiny_student: Path, tiny_teacher: Path) -> Written:
    return decode(diagnosis(tiny_student, tiny_teacher))


@pytest.fixture(scope="module")
def result(written: Written) -> dict[str, Any]:
    return find_losses(written)


def test_every_system_writes_every_sentence(written: Written) -> None:
    assert set(written.systems) >= set(SYSTEMS) - {"oracle"}
    for texts in written.systems.values():
        assert texts.keys() == written.references.keys() == written.lengths.keys()


def test_systems_are_scored_alike(result: dict[str, Any], written: Written) -> None:
    assert list(result["systems"]) == list(SYSTEMS)
    order = sorted(written.references)
    truth = [[written.references[number] for number in order]]
    for name in ("teacher_greedy", "predicted"):
        texts = [written.systems[name][number] for number in order]
        assert result["systems"][name]["bleu"] == pytest.approx(BLEU().corpus_score(texts, truth).score)
    bleu = {name: figures["bleu"] for name, figures in result["systems"].items()}
    assert bleu["oracle"] >= max(bleu["candidates"], bleu["rescored"]) - 1
    assert result["losses"]["autoencoder"] == pytest.approx(bleu["teacher_greedy"] - bleu["autoencoder"])
    parts = ("autoencoder", "predictor", "length")
    assert sum(result["losses"][name] for name in parts) == pytest.approx(
        bleu["teacher_greedy"] - bleu["predicted"]
    )


def test_codes_of_the_reference_are_those_of_reconstruction(tiny_student: Path, tiny_corpus: Path) -> None:
    found = find_losses(decode(diagnosis(tiny_student, None)))
    assert not {"teacher_greedy", "rescored"} & set(found["systems"]) and "autoencoder" not in found["losses"]
    figures = evaluate_latents(tiny_student, tiny_corpus, "valid", tokenizer="space")
    # The task rounds what it logs.
    assert found["systems"]["autoencoder"]["bleu"] == pytest.approx(figures["reconstruction_bleu"], abs=0.01)
    predictor = found["predictor"]
    assert predictor["accuracy"] == pytest.approx(figures["predictor_accuracy"], abs=1e-3)
    assert predictor["perplexity"] == pytest.approx(figures["predictor_perplexity"], abs=1e-2)
    for name in ("usage", "perplexity", "codebook_size"):
        assert found["codes"][name] == pytest.approx(figures[name])


def test_latents_of_true_length(tiny_student: Path, tiny_teacher: Path) -> None:
    one = diagnosis(tiny_student, tiny_teacher)
    sample = next(iter(one.batches(8)))
    memory = one.model.encode(sample["net_input"]["src_tokens"])
    lengths = torch.arange(1, len(sample["id"]) + 1)
    found = one.greedy.search([one.model], [memory], lengths, longest=int(lengths.max()), at_least=lengths)
    assert torch.equal(found.mask.sum(-1)[:, 0], lengths)
    # The length that would have been chosen anyway changes nothing.
    free = one.greedy.search([one.model], [memory], torch.full_like(lengths, 20), longest=20, at_least=1)
    own = free.mask.sum(-1)[:, 0]
    forced = one.greedy.search([one.model], [memory], own, longest=int(own.max()), at_least=own)
    width = int(own.max())
    assert torch.equal(free.codes[..., :width], forced.codes[..., :width])


def test_batch_size_changes_what_is_shuffled_only(
    written: Written, tiny_student: Path, tiny_teacher: Path
) -> None:
    other = decode(diagnosis(tiny_student, tiny_teacher), batch_size=3)
    # Seven in a batch, and one alone.
    alone = decode(diagnosis(tiny_student, tiny_teacher), batch_size=7)
    same = [text == alone.systems["autoencoder"][i] for i, text in alone.systems["shuffled"].items()]
    assert len(same) == 8 and sum(same) < 4 and not same[-1]
    for name in set(SYSTEMS) - {"oracle", "shuffled", "random"}:
        assert other.systems[name] == written.systems[name], name
    assert other.candidates == written.candidates


def test_an_unknown_word_is_never_right(
    tiny_student: Path, tiny_teacher: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = diagnosis(tiny_student, tiny_teacher)
    unknown = one.dictionary.unk()
    sample = next(iter(one.batches(8)))
    sample["target"] = torch.full_like(sample["target"], unknown)
    monkeypatch.setattr(one, "batches", lambda size: iter([sample]))
    monkeypatch.setattr(one, "teacher_output", lambda sample: [row[:3] for row in sample["target"]])
    found = decode(one)
    assert not set(found.systems["teacher_greedy"].values()) & set(found.references.values())
    assert all(text.split()[0] == UNKNOWN_IN_REFERENCE for text in found.references.values())


def test_predictor_by_position() -> None:
    predictor = PredictorFigures()
    for _ in range(2):
        predictor.add(0, 10, 20 * np.log(2.0), 20)
        predictor.add(1, 6, 12 * np.log(4.0), 12)
        predictor.add(2, 1, 3.0, 1)
    found = predictor.summary()
    assert found["accuracy_by_position"] == pytest.approx([0.5, 0.5])
    assert found["perplexity_by_position"] == pytest.approx([2.0, 4.0])
    assert found["accuracy"] == pytest.approx(34 / 66)
    assert found["perplexity"] == pytest.approx(np.exp((40 * np.log(2) + 24 * np.log(4) + 6) / 66))


def test_oracle_and_lengths_by_hand() -> None:
    texts = {0: "a b c d", 1: "e f g h i", 2: "j k l m", 3: "n o p q r"}
    written = Written(
        references=texts, lengths={0: 3, 1: 5, 2: 9, 3: 30}, codes=Counter({1: 2, 3: 2}), codebook_size=8
    )
    written.predictor.add(0, 1, 0.0, 1)
    written.candidates = {number: ["x y z w", text, "a"] for number, text in texts.items()}
    written.add("predicted", [0, 1, 2, 3], ["x y z w", texts[1], texts[2], "n o p q"])
    found = find_losses(written)
    assert found["systems"]["oracle"]["bleu"] == pytest.approx(100.0)
    assert found["length_classes"] == ["2-2", "4-4", "8-8", "29-29"]
    first, second, third, last = found["systems"]["predicted"]["bleu_by_length"]
    assert second == third == pytest.approx(100.0) and first < 10 < last < 100
    assert found["codes"] == pytest.approx({"codebook_size": 8, "usage": 0.25, "perplexity": 2.0})
    assert "| predicted |" in losses_table(found).replace("  ", "")


def test_errors(tiny_teacher: Path, tiny_student: Path, written: Written, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"nonesuch\.pt"):
        Diagnosis(tmp_path / "nonesuch.pt")
    with pytest.raises(CheckpointError, match="is no latent translation model"):
        Diagnosis(tiny_teacher)
    with pytest.raises(UserError, match=r"--teacher .*away\.pt: No such file"):
        Diagnosis(tiny_student, teacher=tmp_path / "away.pt")
    with pytest.raises(DataError, match="no subset 'test7'"):
        Diagnosis(tiny_student, subset="test7", tokenizer="space")
    (tmp_path / "short").write_text("one line\n")
    with pytest.raises(DataError, match=r"short: 1 lines for \d+ sentences"):
        find_losses(written, [tmp_path / "short"])


def test_command(
    tiny_student: Path, tiny_teacher: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = f"diagnose {tiny_student} --gen-subset valid --tokenizer space --teacher {tiny_teacher}"
    assert main([*words.split(), "--out", str(tmp_path)]) == 0
    shown = capsys.readouterr().out
    assert "| teacher_greedy" in shown and "accuracy" in shown
    assert f"{tmp_path}: diagnosis.json, diagnosis.md, diagnosis.png written" in shown
    found = json.loads((tmp_path / "diagnosis.json").read_text())
    assert {"systems", "losses", "predictor", "machine", "versions", "seed", "teacher"} <= set(found)
    assert (tmp_path / "diagnosis.png").read_bytes().startswith(b"\x89PNG")
    assert "teacher_greedy" in (tmp_path / "diagnosis.md").read_text()


def test_command_without_a_teacher_and_with_references(
    tiny_student: Path, tiny_corpus: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text = tiny_corpus.parent / "text" / "valid.de"
    words = f"diagnose {tiny_student} --gen-subset valid --tokenizer space --beam 2 --ref {text} {text}"
    assert main([*words.split(), "--out", str(tmp_path)]) == 0
    assert "no teacher (--teacher)" in capsys.readouterr().err
    found = json.loads((tmp_path / "diagnosis.json").read_text())
    assert found["teacher"] is None and "nrefs:2" in found["systems"]["predicted"]["signature"]
    (tmp_path / "short").write_text("one line\n")
    with pytest.raises(SystemExit, match="2"):
        main([*words.split(), str(tmp_path / "short"), "--out", str(tmp_path)])
    line = capsys.readouterr().err.splitlines()[-1]
    assert line.startswith("vqnat diagnose: error: --ref ") and "1 lines for 8 sentences" in line
    (tmp_path / "blank").write_text(" \n" * 8)
    with pytest.raises(SystemExit, match="2"):
        main([*words.split(), str(tmp_path / "blank"), "--out", str(tmp_path)])
    assert capsys.readouterr().err.splitlines()[-1].endswith("blank: holds no word")


@pytest.mark.parametrize("accuracy", [[], [0.5], [0.5, 0.25, 1.0]], ids=len)
def test_plot_of_any_title_and_of_few_positions(
    result: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, accuracy: list[float]
) -> None:
    def finish_and_look(figure: Figure, path: Path) -> None:
        finish(figure, path)
        assert all(axes.get_position().width > 0.15 for axes in figure.axes)

    monkeypatch.setattr("vqnat_plugin.analysis.plot.finish", finish_and_look)
    shown = {**result, "predictor": {**result["predictor"], "accuracy_by_position": accuracy}}
    plot_diagnosis(shown, tmp_path / "plot.png", r"checkpoint $\nonesuch{$ _ % \frac")
    assert (tmp_path / "plot.png").read_bytes().startswith(b"\x89PNG")


def test_axes_of_the_plot(result: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every row has its name, the legend lies outside, positions start at 1, accuracy goes from 0 to 1."""
    drawn = []
    monkeypatch.setattr("vqnat_plugin.analysis.plot.finish", lambda figure, path: drawn.append(figure))
    shown = {**result, "predictor": {**result["predictor"], "accuracy_by_position": [0.5, 0.4, 0.3]}}
    plot_diagnosis(shown, tmp_path / "plot.png")
    bars, lengths, positions = drawn[0].axes
    assert [label.get_text() for label in bars.get_yticklabels()] == list(result["systems"])[::-1]
    assert bars.get_xlim()[0] == 0
    assert positions.get_xlim() == (1, 3) and positions.get_ylim() == (0, 1)
    assert positions.get_xticks().tolist() == [1, 2, 3]
    drawn[0].draw_without_rendering()
    assert lengths.get_legend().get_window_extent().x0 >= lengths.get_window_extent().x1
