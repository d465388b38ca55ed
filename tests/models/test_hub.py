"""`VQNAT.from_pretrained`: what belongs to a checkpoint is found, or one line says what is missing."""

import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from fairseq import checkpoint_utils
from omegaconf import OmegaConf

from vqnat_plugin.errors import CheckpointError, DataError, UsageError
from vqnat_plugin.models.checkpoints import Checkpoint
from vqnat_plugin.models.hub import Belongings, find_checkpoint
from vqnat_plugin.models.vq_nat import VQNAT
from vqnat_plugin.text.pipeline import TextPipeline


def pairs(corpus: Path) -> list[tuple[str, str]]:
    """Training sentences with their translations, which the student knows by heart."""
    source, target = (
        (corpus.parent / "text" / f"train.{one}").read_text().splitlines() for one in ("en", "de")
    )
    return list(zip(source, target, strict=True))


def elsewhere(checkpoint: Path, out: Path, **task: object) -> Path:
    """A copy of the checkpoint whose training data is gone; other options of its task as given."""
    state = checkpoint_utils.load_checkpoint_to_cpu(str(checkpoint))
    for name, value in {"data": "/nowhere/bin", **task}.items():
        state["cfg"]["task"][name] = value
    state["cfg"] = OmegaConf.to_container(state["cfg"])
    out.parent.mkdir(parents=True, exist_ok=True)
    torch.save(state, out)
    return out


def test_a_training_folder_translates(tiny_corpus: Path, tiny_student: Path) -> None:
    known = pairs(tiny_corpus)
    hub = VQNAT.from_pretrained(tiny_student.parent)
    found = hub.translate([source for source, _ in known], beam=2)
    assert sum(one == target for one, (_, target) in zip(found, known, strict=True)) >= 0.9 * len(known)
    assert hub.translate(known[0][0], beam=2) == found[0]
    assert isinstance(hub.models[0], VQNAT) and not hub.models[0].training


def test_no_text_has_no_translation(tiny_corpus: Path, tiny_student: Path) -> None:
    hub, (source, _) = VQNAT.from_pretrained(tiny_student), pairs(tiny_corpus)[0]
    assert hub.translate(["", source, "  "]) == ["", hub.translate(source), ""]
    assert hub.translate("") == "" and hub.translate([]) == []
    with pytest.raises(DataError, match=r"sentences\[1\] has \d+ tokens, the model reads \d+ at most"):
        hub.translate([source, " ".join([source] * 500)])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"rescore_with": "t.pt"}, r"rescore_with is for from_pretrained\(rescore_with=\.\.\.\)"),
        ({"candidates": 4}, "fairseq's generation knows no 'candidates'"),
        ({"beam": "4"}, "beam '4': needs a value of type int"),
        ({"beam": 4.0}, "beam 4.0: needs a value of type int"),
        ({"lenpen": float("nan")}, "lenpen"),
    ],
)
def test_options_of_a_translation_are_checked(
    tiny_student: Path, options: dict[str, Any], message: str
) -> None:
    with pytest.raises(UsageError, match=f"^translate: {message}"):
        VQNAT.from_pretrained(tiny_student).translate("w1 w2", **options)


def test_an_option_that_nobody_knows_is_refused(tiny_student: Path) -> None:
    with pytest.raises(UsageError, match="without an option 'rescore_wiht'; is rescore_with meant"):
        VQNAT.from_pretrained(tiny_student, rescore_wiht="teacher.pt")
    # That of a tokeniser.
    assert VQNAT.from_pretrained(tiny_student, tokenizer="space", moses_no_escape=True)


@pytest.mark.parametrize("place", ["model", "model/data/bin", "data/bin", "data-bin"])
def test_dictionaries_of_a_moved_model_are_found(
    tiny_corpus: Path, tiny_student: Path, tmp_path: Path, place: str
) -> None:
    path = elsewhere(tiny_student, tmp_path / "model" / "c.pt", source_lang="en", target_lang="de")
    (tmp_path / place).mkdir(parents=True, exist_ok=True)
    for language in ("en", "de"):
        shutil.copy(tiny_corpus / f"dict.{language}.txt", tmp_path / place)
    found = Belongings.find(path, Checkpoint(path, weights=False).task)
    assert found == Belongings((tmp_path / place).resolve(), ("en", "de"), None)
    source, target = pairs(tiny_corpus)[0]
    assert VQNAT.from_pretrained(path).translate(source, beam=1) == target


def test_a_text_pipeline_beside_the_data_is_used(
    tiny_corpus: Path, tiny_student: Path, tmp_path: Path
) -> None:
    shutil.copytree(tiny_corpus, tmp_path / "data" / "bin")
    TextPipeline("en", "de", merges="#version: 0.2\nw 1</w>\n").save(tmp_path / "data" / "bin")
    path = elsewhere(tiny_student, tmp_path / "student" / "checkpoint_last.pt")
    hub = VQNAT.from_pretrained(path.parent)
    assert hub.tokenize("w1, w2") == "w1 , w@@ 2" and hub.detokenize("w@@ 2 , w1") == "w2, w1"
    without = VQNAT.from_pretrained(path.parent, tokenizer=None)
    source, target = pairs(tiny_corpus)[0]
    assert without.translate(source, beam=1) == target


def test_one_line_says_what_is_missing(tiny_corpus: Path, tiny_student: Path, tmp_path: Path) -> None:
    def complaint(place: Path, **options: object) -> str:
        with pytest.raises(DataError) as caught:
            VQNAT.from_pretrained(place, **options)
        assert "\n" not in str(caught.value)
        return str(caught.value)

    assert complaint(tmp_path) == f"{tmp_path}: has no checkpoint_best.pt and no checkpoint_last.pt"
    assert complaint(tmp_path, checkpoint_file="mine.pt") == f"{tmp_path}: has no mine.pt"
    path = elsewhere(tiny_student, tmp_path / "c.pt", source_lang="en", target_lang="de")
    line = complaint(path)
    assert line.startswith(f"{path}: needs dict.en.txt and dict.de.txt ") and "/nowhere/bin" in line
    assert str(tmp_path) in line and "data_name_or_path" in line
    assert complaint(path, data_name_or_path=tmp_path).count(str(tmp_path)) == 2
    # Dictionaries alone do not say which language is translated into which.
    for language in ("en", "de"):
        shutil.copy(tiny_corpus / f"dict.{language}.txt", tmp_path)
    path = elsewhere(tiny_student, tmp_path / "c.pt")
    assert "give source_lang and target_lang" in complaint(path)
    assert VQNAT.from_pretrained(path, source_lang="en", target_lang="de").task.cfg.target_lang == "de"


def test_the_best_checkpoint_comes_first(tmp_path: Path) -> None:
    for name in ("checkpoint_last.pt", "checkpoint_best.pt", "other.pt"):
        (tmp_path / name).touch()
    assert find_checkpoint(tmp_path) == tmp_path / "checkpoint_best.pt"
    assert find_checkpoint(tmp_path, "other.pt") == find_checkpoint(tmp_path / "other.pt")


def test_other_files_are_refused(tiny_teacher: Path, tmp_path: Path) -> None:
    with pytest.raises(
        CheckpointError, match=r"is no latent translation model, but was trained with .*--arch transformer"
    ):
        VQNAT.from_pretrained(tiny_teacher)
    (tmp_path / "text.pt").write_text("text")
    with pytest.raises(CheckpointError, match=r"text\.pt: truncated, or not a checkpoint"):
        VQNAT.from_pretrained(tmp_path / "text.pt")
    torch.save({"model": {}}, tmp_path / "weights.pt")
    with pytest.raises(CheckpointError, match=r"weights\.pt: truncated, or not a checkpoint"):
        VQNAT.from_pretrained(tmp_path / "weights.pt")
