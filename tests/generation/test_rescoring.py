"""Candidates ranked by an autoregressive model: as fairseq would score them."""

import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from fairseq import checkpoint_utils, tasks
from fairseq.data import Dictionary
from fairseq.sequence_scorer import SequenceScorer
from omegaconf import OmegaConf
from tiny import padded, parse

from vqnat_plugin.errors import CheckpointError, UserError
from vqnat_plugin.generation.latent_generator import LatentGenerator
from vqnat_plugin.generation.rescoring import load_rescorer, rescore
from vqnat_plugin.models.checkpoints import Checkpoint
from vqnat_plugin.models.vq_nat import VQNAT

FLAGS = "--task translation_vq --arch vq_nat_em_tiny --criterion vq_nat_loss --optimizer adam"


class Setting:
    """The tiny student with its task, and a batch of the test set."""

    def __init__(self, data: Path, student: Path, rescore_with: str | None) -> None:
        self.cfg = parse(f"{data} {FLAGS}".split())
        self.cfg.task.rescore_with = rescore_with
        self.task = tasks.setup_task(self.cfg.task)
        self.models, _ = checkpoint_utils.load_model_ensemble([str(student)], task=self.task)
        self.task.load_dataset("test")
        dataset = self.task.dataset("test")
        self.batch = dataset.collater([dataset[i] for i in range(len(dataset))])

    def generator(self, **options: Any) -> LatentGenerator:
        for name, value in options.items():
            assert hasattr(self.cfg.generation, name)
            setattr(self.cfg.generation, name, value)
        return self.task.build_generator(self.models, self.cfg.generation)

    def translate(self, **options: Any) -> list[list[dict[str, Any]]]:
        return self.generator(**options).generate(self.models, self.batch)


def scored_by_fairseq(
    setting: Setting, teachers: list[torch.nn.Module], hypotheses: list[list[dict[str, Any]]], number: int
) -> list[dict[str, Any]]:
    """fairseq's scores of candidate `number` of each sentence."""
    rows = [found[number]["tokens"].tolist() for found in hypotheses]
    target = padded(rows)
    eos = setting.task.target_dictionary.eos()
    shifted = torch.cat([target.new_full((len(rows), 1), eos), target[:, :-1]], 1)
    net_input = {**setting.batch["net_input"], "prev_output_tokens": shifted}
    scorer = SequenceScorer(setting.task.target_dictionary)
    return [h[0] for h in scorer.generate(teachers, {"net_input": net_input, "target": target, "id": None})]


@pytest.mark.parametrize("ensemble", [1, 2])
def test_scores_are_those_of_fairseqs_scorer(
    tiny_corpus: Path, tiny_student: Path, tiny_teacher: Path, prenorm_teacher: Path, ensemble: int
) -> None:
    paths = [str(tiny_teacher), str(prenorm_teacher)][:ensemble]
    setting = Setting(tiny_corpus, tiny_student, ":".join(paths))
    teachers, _ = checkpoint_utils.load_model_ensemble(paths)
    found = setting.translate(beam=3, max_len_b=12)
    for number in range(3):
        expected = scored_by_fairseq(setting, [t.eval() for t in teachers], found, number)
        for hypotheses, theirs in zip(found, expected, strict=True):
            ours = hypotheses[number]
            assert ours["score"] == pytest.approx(float(theirs["score"]), abs=1e-4)
            torch.testing.assert_close(
                ours["positional_scores"], theirs["positional_scores"], atol=1e-4, rtol=1e-4
            )


def test_teacher_decides_on_the_same_candidates(
    tiny_corpus: Path, tiny_student: Path, tiny_teacher: Path
) -> None:
    own = Setting(tiny_corpus, tiny_student, None).translate(beam=4, max_len_b=12)
    ranked = Setting(tiny_corpus, tiny_student, str(tiny_teacher)).translate(beam=4, max_len_b=12)
    for first, second in zip(own, ranked, strict=True):
        assert sorted(h["tokens"].tolist() for h in first) == sorted(h["tokens"].tolist() for h in second)
        assert [h["score"] for h in second] == sorted((h["score"] for h in second), reverse=True)
    assert [h[0]["score"] for h in own] != [h[0]["score"] for h in ranked]


def test_translations_that_users_see_differ(
    tiny_corpus: Path, tiny_student: Path, tiny_teacher: Path
) -> None:
    for rescore_with in (None, str(tiny_teacher)):
        setting = Setting(tiny_corpus, tiny_student, rescore_with)
        every = setting.translate(beam=12, max_len_b=4)
        words = [[tuple(h["tokens"].tolist()) for h in hypotheses] for hypotheses in every]
        assert any(len(set(each)) < len(each) for each in words)
        shown = setting.task.inference_step(setting.generator(), setting.models, setting.batch)
        for seen, hypotheses, kept in zip(words, every, shown, strict=True):
            assert [tuple(h["tokens"].tolist()) for h in kept] == [*dict.fromkeys(seen)]
            # Of each the best.
            assert all(
                h["score"] == hypotheses[seen.index(tuple(h["tokens"].tolist()))]["score"] for h in kept
            )


def test_some_candidates_at_a_time(
    tiny_corpus: Path, tiny_student: Path, tiny_teacher: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    setting = Setting(tiny_corpus, tiny_student, str(tiny_teacher))
    whole = setting.translate(beam=4, max_len_b=12)
    monkeypatch.setattr("vqnat_plugin.generation.rescoring.MOST_LOGITS", 1)
    for one, other in zip(whole, setting.translate(beam=4, max_len_b=12), strict=True):
        assert [h["tokens"].tolist() for h in one] == [h["tokens"].tolist() for h in other]
        assert [h["score"] for h in one] == pytest.approx([h["score"] for h in other], abs=1e-5)


def test_the_same_words_are_scored_once(
    tiny_corpus: Path, tiny_student: Path, tiny_teacher: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    [teacher], _ = checkpoint_utils.load_model_ensemble([str(tiny_teacher)])
    setting, read = Setting(tiny_corpus, tiny_student, None), []
    run = type(teacher.decoder).forward

    def counted(decoder: Any, rows: torch.Tensor, **more: Any) -> Any:
        read.append(len(rows))
        return run(decoder, rows, **more)

    monkeypatch.setattr(type(teacher.decoder), "forward", counted)
    one, other = torch.tensor([5, 6, 2]), torch.tensor([5, 2, 1])
    sentences = len(setting.batch["id"])
    tokens = torch.stack([one, other, one, one]).repeat(sentences, 1, 1)
    scores, by_token = rescore([teacher.eval()], setting.batch["net_input"], tokens, pad=1)
    assert sum(read) == 2 * sentences
    assert torch.equal(scores[:, 0], scores[:, 2]) and torch.equal(scores[:, 0], scores[:, 3])
    assert not torch.equal(scores[:, 0], scores[:, 1]) and not by_token[:, 1, 2].any()


def test_a_teacher_without_logits_is_refused(
    tiny_corpus: Path, tiny_student: Path, tiny_teacher: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    build = Checkpoint.build

    def built(self: Checkpoint, **changes: Any) -> Any:
        model, *others = build(self, **changes)
        if hasattr(model.decoder, "adaptive_softmax"):
            model.decoder.adaptive_softmax = torch.nn.Identity()
        return model, *others

    monkeypatch.setattr(Checkpoint, "build", built)
    with pytest.raises(CheckpointError, match=r"checkpoint.*pt: has an adaptive softmax"):
        Setting(tiny_corpus, tiny_student, str(tiny_teacher)).translate(beam=1)


def test_padding_costs_nothing(tiny_corpus: Path, tiny_student: Path, tiny_teacher: Path) -> None:
    setting = Setting(tiny_corpus, tiny_student, None)
    teachers, _ = checkpoint_utils.load_model_ensemble([str(tiny_teacher)])
    tokens = torch.tensor([[[5, 6, 2, 1, 1], [7, 2, 1, 1, 1]]]).expand(5, -1, -1)
    scores, per_token = rescore([teachers[0].eval()], setting.batch["net_input"], tokens, pad=1)
    shorter, _ = rescore([teachers[0].eval()], setting.batch["net_input"], tokens[..., :3], pad=1)
    torch.testing.assert_close(scores, shorter, atol=1e-4, rtol=1e-4)
    assert not per_token[tokens == 1].any() and (per_token[tokens != 1] < 0).all()


def with_data(path: Path, out: Path, data: str) -> Path:
    """The checkpoint as if it had been trained on another folder."""
    state = checkpoint_utils.load_checkpoint_to_cpu(str(path))
    state["cfg"]["task"]["data"] = data
    state["cfg"] = OmegaConf.to_container(state["cfg"])
    torch.save(state, out)
    return out


def test_teacher_whose_data_is_gone_still_ranks(
    tiny_corpus: Path, tiny_student: Path, tiny_teacher: Path, tmp_path: Path
) -> None:
    moved = with_data(tiny_teacher, tmp_path / "teacher.pt", "/nowhere/bin")
    scores = [
        [
            h["score"]
            for found in Setting(tiny_corpus, tiny_student, str(path)).translate(beam=2)
            for h in found
        ]
        for path in (moved, tiny_teacher)
    ]
    assert scores[0] == scores[1]


def test_teachers_that_cannot_rank_are_refused(
    tiny_corpus: Path, tiny_student: Path, tiny_teacher: Path, tmp_path: Path
) -> None:
    def refusal(path: Path, data: Path = tiny_corpus) -> str:
        with pytest.raises(CheckpointError) as caught:
            setting = Setting(tiny_corpus, tiny_student, str(path))
            setting.task.cfg.data = str(data)
            setting.generator()
        assert str(caught.value).startswith(f"--rescore-with {path}: ") and "\n" not in str(caught.value)
        return str(caught.value)

    assert "No such file" in refusal(tmp_path / "missing.pt")
    assert "is no autoregressive model" in refusal(tiny_student)
    other = tmp_path / "other"
    shutil.copytree(tiny_corpus, other)
    for language in ("en", "de"):
        dictionary = Dictionary.load(str(other / f"dict.{language}.txt"))
        dictionary.add_symbol("one_word_more")
        dictionary.save(str(other / f"dict.{language}.txt"))
    assert "has other symbols than" in refusal(tiny_teacher, data=other)
    (tmp_path / "broken.pt").write_text("no checkpoint")
    with pytest.raises(CheckpointError):
        Setting(tiny_corpus, tiny_student, str(tmp_path / "broken.pt")).generator()


def test_models_of_images_cannot_rank(
    tiny_corpus: Path, tiny_student: Path, image_autoencoder: Path, image_prior: Path
) -> None:
    for path in (image_autoencoder, image_prior):
        with pytest.raises(UserError) as caught:
            Setting(tiny_corpus, tiny_student, str(path)).generator()
        assert str(path) in str(caught.value) and "\n" not in str(caught.value)


def test_options_that_are_newer_than_a_checkpoint_can_be_set(
    tiny_corpus: Path, tiny_student: Path, tiny_teacher: Path, tmp_path: Path
) -> None:
    state = checkpoint_utils.load_checkpoint_to_cpu(str(tiny_student))
    state["cfg"] = OmegaConf.to_container(state["cfg"])
    for name in ("verify_with", "verify_tolerance"):
        state["cfg"]["task"].pop(name)
    torch.save(state, tmp_path / "old.pt")
    hub = VQNAT.from_pretrained(
        tmp_path / "old.pt", data_name_or_path=tiny_corpus, verify_with=str(tiny_teacher)
    )
    [[found]] = hub.generate([hub.encode("w1 w2 w3")], beam=1)
    assert found["passes"] >= 1


def test_a_model_that_ranks_is_read_once(
    tiny_student: Path, tiny_teacher: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub = VQNAT.from_pretrained(tiny_student, rescore_with=str(tiny_teacher))
    read: list[Path] = []

    def counted(path: Path, *rest: Any) -> Any:
        read.append(path)
        return load_rescorer(path, *rest)

    monkeypatch.setattr("vqnat_plugin.tasks.translation_vq.load_rescorer", counted)
    found = [hub.translate(["w1 w2 w3"], beam=4) for _ in range(3)]
    assert found[0] == found[1] == found[2] and read == [tiny_teacher]
    # In another precision it is another one.
    hub.double()
    assert hub.translate(["w1 w2 w3"], beam=4) == found[0] and read == [tiny_teacher] * 2
