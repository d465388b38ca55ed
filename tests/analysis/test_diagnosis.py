"""Where quality is lost: every kind of latents against what they must give, and the command."""

import json
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from sacrebleu.metrics import BLEU

from vqnat_plugin.analysis.decoding import SYSTEMS, Diagnosis, Predictor, Written, decode
from vqnat_plugin.analysis.latents import evaluate_latents
from vqnat_plugin.analysis.scoring import evaluate, table
from vqnat_plugin.errors import DataError

ROOT = Path(__file__).resolve().parents[2]


def diagnosis(student: Path, teacher: Path | None, **options: Any) -> Diagnosis:
    return Diagnosis(student, teacher=teacher, subset="valid", detokenizer="space", **options)


@pytest.fixture(scope="module")
def written(tiny_student: Path, tiny_teacher: Path) -> Written:
    return decode(diagnosis(tiny_student, tiny_teacher))


@pytest.fixture(scope="module")
def result(written: Written) -> dict[str, Any]:
    return evaluate(written)


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
    found = evaluate(decode(diagnosis(tiny_student, None)))
    assert not {"teacher_greedy", "rescored"} & set(found["systems"]) and "autoencoder" not in found["losses"]
    figures = evaluate_latents(tiny_student, tiny_corpus, "valid", detokenizer="space")
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
    for name in set(SYSTEMS) - {"oracle", "shuffled", "random"}:
        assert other.systems[name] == written.systems[name], name
    assert other.candidates == written.candidates


def test_predictor_by_position() -> None:
    predictor = Predictor()
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
    found = evaluate(written)
    assert found["systems"]["oracle"]["bleu"] == pytest.approx(100.0)
    assert found["length_classes"] == ["2-2", "4-4", "8-8", "29-29"]
    first, second, third, last = found["systems"]["predicted"]["bleu_by_length"]
    assert second == third == pytest.approx(100.0) and first < 10 < last < 100
    assert found["codes"] == pytest.approx({"codebook_size": 8, "usage": 0.25, "perplexity": 2.0})
    assert "| predicted |" in table(found).replace("  ", "")


def test_errors(tiny_teacher: Path, tiny_student: Path, written: Written, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"nonesuch\.pt"):
        Diagnosis(tmp_path / "nonesuch.pt")
    with pytest.raises(DataError, match="not a latent translation model"):
        Diagnosis(tiny_teacher)
    with pytest.raises(DataError, match=r"--teacher .*away\.pt: no such file"):
        Diagnosis(tiny_student, teacher=tmp_path / "away.pt")
    with pytest.raises(DataError, match="no subset 'test7'"):
        Diagnosis(tiny_student, subset="test7", detokenizer="space")
    (tmp_path / "short").write_text("one line\n")
    with pytest.raises(DataError, match=r"short: 1 lines for \d+ sentences"):
        evaluate(written, [tmp_path / "short"])


def test_script(tiny_student: Path, tiny_teacher: Path, tmp_path: Path) -> None:
    command = ["scripts/diagnose.py", str(tiny_student), "--subset", "valid", "--detokenizer", "space"]
    command += ["--teacher", str(tiny_teacher), "--out", str(tmp_path)]
    done = subprocess.run(
        [sys.executable, *command], cwd=ROOT, check=True, timeout=300, text=True, stdout=subprocess.PIPE
    )
    assert "| teacher_greedy" in done.stdout and "accuracy" in done.stdout
    found = json.loads((tmp_path / "diagnosis.json").read_text())
    assert {"systems", "losses", "predictor", "machine", "versions", "seed", "teacher"} <= set(found)
    assert (tmp_path / "diagnosis.png").read_bytes().startswith(b"\x89PNG")
    assert "teacher_greedy" in (tmp_path / "diagnosis.md").read_text()
