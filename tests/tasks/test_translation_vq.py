"""Training through fairseq's trainer: one M step an update, whatever happens to the update."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import sacrebleu
import torch
from fairseq import tasks
from fairseq.logging import metrics
from fairseq.trainer import Trainer
from tiny import batches, different, model_state, parse, trainer
from torch import Tensor, nn

from vqnat_plugin.errors import UsageError
from vqnat_plugin.evaluation.bleu import bleu_metric

# Codes that depend on nothing but the batches: no sampling, no replacement, and no start from data (`plain`).
PLAIN_EM = ("--unquantized-updates=0", "--code-revival=0", "--em-decay=0.8")


@contextmanager
def plain(data: Path, *flags: str) -> Iterator[Trainer]:
    """A trainer whose codes are given."""
    with trainer(data, *PLAIN_EM, *flags) as student:
        quantizer = student.get_model().quantizer
        codes = torch.randn(quantizer.codebook.shape, generator=torch.Generator().manual_seed(1))
        quantizer.set_codebook(nn.functional.layer_norm(codes, codes.shape[1:]))
        yield student


def merged(student: Trainer, parts: list[dict[str, Any]]) -> dict[str, Any]:
    """The sentences of several batches as one batch."""
    dataset = student.task.dataset("train")
    return dataset.collater([dataset[int(number)] for part in parts for number in part["id"]])


def distance(first: dict[str, Tensor], second: dict[str, Tensor]) -> float:
    """Euclidean distance over all floating-point tensors."""
    names = [name for name in first if first[name].is_floating_point()]
    return float(torch.stack([(first[name] - second[name]).double().norm() for name in names]).norm())


@pytest.mark.parametrize("bottleneck", ["hard", "posterior"])
def test_two_accumulated_batches_equal_one_of_twice_the_size(tiny_corpus: Path, bottleneck: str) -> None:
    # Plain gradient descent, whose steps are linear in the gradient: Adam's first ones only see its sign.
    flags = [f"--bottleneck={bottleneck}", "--optimizer=sgd", "--lr=0.1", "--clip-norm=0"]
    with plain(tiny_corpus, *flags) as accumulated:
        data = batches(accumulated, 8, max_tokens=40)
        for first, second in zip(data[::2], data[1::2], strict=True):
            accumulated.train_step([first, second])
    with plain(tiny_corpus, *flags) as large:
        batches(large, 1)
        start = model_state(large.get_model())
        for first, second in zip(data[::2], data[1::2], strict=True):
            large.train_step([merged(large, [first, second])])
    assert accumulated.get_num_updates() == large.get_num_updates() == 4
    ends = model_state(accumulated.get_model()), model_state(large.get_model())
    # Single elements may differ more: rounding moves some ReLU to the other side.
    for part in ("quantizer.", "encoder.", "compressor.", "decoder.", "predictor."):
        first, second, before = ({n: s[n] for n in s if n.startswith(part)} for s in (*ends, start))
        assert distance(first, second) < 1e-4 * distance(second, before), part


def test_one_m_step_an_update(tiny_corpus: Path) -> None:
    with plain(tiny_corpus) as student:
        quantizer = student.get_model().quantizer
        data, counts = batches(student, 3, max_tokens=40), quantizer.counts.clone()
        latents = sum(int((-(-batch["target"].ne(1).sum(1) // 2)).sum()) for batch in data)
        student.train_step(data)
        # N_j <- lambda N_j + (1 - lambda) n_j, summed over j.
        expected = 0.8 * float(counts.sum()) + 0.2 * latents
        assert float(quantizer.counts.sum()) == pytest.approx(expected, rel=1e-5)


def test_dummy_batch_leaves_no_trace(tiny_corpus: Path) -> None:
    with plain(tiny_corpus) as student:
        data = batches(student, 2)
        student.reset_dummy_batch(data[0])
        quantizer = student.get_model().quantizer
        before = model_state(quantizer)
        student.train_step([{}])
        assert different(before, model_state(quantizer)) == []
        student.train_step([data[1], {}])
        after = model_state(quantizer)
    with plain(tiny_corpus) as other:
        batches(other, 1)
        other.train_step([data[1]])
        torch.testing.assert_close(model_state(other.get_model().quantizer), after)
    assert "codebook" in different(before, after)


def test_step_without_memory_leaves_no_trace(tiny_corpus: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with plain(tiny_corpus) as student:
        first, second = batches(student, 2)
        before = model_state(student.get_model())

        def fail(_loss: Any) -> None:
            raise RuntimeError("CUDA out of memory")

        with monkeypatch.context() as patch:
            patch.setattr(student.optimizer, "backward", fail)
            assert student.train_step([first]) is None
        assert not student.get_model().quantizer.update_codebook()
        assert different(before, model_state(student.get_model())) == []
        student.train_step([second])
    with plain(tiny_corpus) as other:
        batches(other, 1)
        other.train_step([second])
    assert different(model_state(other.get_model()), model_state(student.get_model())) == []


def test_interrupted_update_leaves_nothing_for_the_next(
    tiny_corpus: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with plain(tiny_corpus) as student:
        first, second = batches(student, 2)

        def overflow(*_args: Any, **_options: Any) -> None:
            raise KeyboardInterrupt

        with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
            patch.setattr(student.optimizer, "clip_grad_norm", overflow)
            student.train_step([first])
        student.train_step([second])
    with plain(tiny_corpus) as other:
        batches(other, 1)
        other.train_step([second])
    assert different(model_state(other.get_model()), model_state(student.get_model())) == []


def test_a_new_epoch_counts_codes_anew(tiny_corpus: Path) -> None:
    with plain(tiny_corpus) as student:
        student.train_step(batches(student, 1))
        quantizer = student.get_model().quantizer
        assert quantizer.histogram.sum() > 0
        student.begin_epoch(2)
        assert quantizer.histogram.sum() == 0 and int(quantizer.revived) == 0


def test_codebook_starts_at_the_update_that_was_asked_for(tiny_corpus: Path) -> None:
    with trainer(tiny_corpus, "--unquantized-updates=2") as student:
        data, started, shown = batches(student, 4), [], []
        for batch in data:
            with metrics.aggregate(new_root=True) as meters:
                student.train_step([batch])
                shown.append("codebook_perplexity" in meters.get_smoothed_values())
            started.append(student.get_model().quantizer.initialized)
    assert started == [False, True, True, True]
    assert shown == [False, False, True, True]


def test_codebook_starts_from_the_whole_update(tiny_corpus: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with trainer(tiny_corpus, "--unquantized-updates=1") as student:
        quantizer = student.get_model().quantizer
        *data, lost = batches(student, 4, max_tokens=40)
        student.reset_dummy_batch(data[0])
        latents = sum(int((-(-batch["target"].ne(1).sum(1) // 2)).sum()) for batch in data)

        def fail(_loss: Any) -> None:
            raise RuntimeError("CUDA out of memory")

        with monkeypatch.context() as patch:
            patch.setattr(student.optimizer, "backward", fail)
            assert student.train_step([lost]) is None
        assert not quantizer.initialized
        student.train_step([*data, {}])
        assert float(quantizer.counts.sum()) == pytest.approx(latents, rel=1e-5)


@pytest.mark.parametrize("bottleneck", ["em", "hard", "posterior"])
def test_the_same_seed_gives_the_same_training(tiny_corpus: Path, bottleneck: str) -> None:
    states = []
    for _ in range(2):
        with trainer(
            tiny_corpus, f"--bottleneck={bottleneck}", "--dropout=0.2", "--unquantized-updates=1"
        ) as student:
            for batch in batches(student, 4):
                student.train_step([batch])
            states.append(model_state(student.get_model()))
    assert different(*states) == []


# Validation.


def test_validation_logs_bleu_end_to_end_and_of_reconstruction(tiny_corpus: Path) -> None:
    arguments = '--eval-bleu-args={"beam": 2, "max_len_b": 12}'
    with trainer(tiny_corpus, "--eval-bleu", arguments, "--eval-bleu-remove-bpe") as student:
        for batch in batches(student, 4):
            student.train_step([batch])
        task, model = student.task, student.get_model()
        task.load_dataset("valid")
        dataset = task.dataset("valid")
        halves = [dataset.collater([dataset[i] for i in part]) for part in (range(5), range(5, 8))]
        with metrics.aggregate(new_root=True) as meters:
            for half in halves:
                student.valid_step(half)
            shown = meters.get_smoothed_values()
    whole = dataset.collater([dataset[i] for i in range(8)])
    generator = task.sequence_generator
    references = [task.target_dictionary.string(row, extra_symbols_to_ignore={1}) for row in whole["target"]]
    decoders: dict[str, Callable[..., Any]] = {
        "bleu": generator.generate,
        "reconstruction_bleu": generator.reconstruct,
    }
    for name, decode in decoders.items():
        found = decode([model.eval()], whole)
        texts = [task.target_dictionary.string(hypotheses[0]["tokens"]) for hypotheses in found]
        assert shown[name] == pytest.approx(sacrebleu.corpus_bleu(texts, [references]).score, abs=0.02)
    assert shown["words_loss"] > 0


# Refusals.


def refusal(data: Path, *flags: str) -> str:
    with pytest.raises(UsageError) as caught, trainer(data, *flags):
        pass
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_bleu_that_cannot_be_had_is_found_out_before_a_training(
    tiny_corpus: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else at its first validation, which comes before it saves anything."""

    def missing(**_: Any) -> None:
        raise ImportError("MeCab")

    bleu_metric.cache_clear()
    monkeypatch.setattr("vqnat_plugin.evaluation.bleu.BLEU", missing)
    missing.TOKENIZERS = sacrebleu.BLEU.TOKENIZERS  # type: ignore[attr-defined]
    arguments = '--eval-bleu-args={"beam": 1, "max_len_b": 12}'
    shown = "--eval-bleu with --target-lang de: sacreBLEU's tokeniser 13a cannot be used here: MeCab, or take"
    assert f"{shown} --eval-tokenized-bleu" in refusal(tiny_corpus, "--eval-bleu", arguments)
    monkeypatch.setattr("vqnat_plugin.tasks.validation_bleu.sacrebleu_tokenizer", lambda _: "ja-mecab")
    assert "pip install 'sacrebleu[ja]', or take --eval" in refusal(tiny_corpus, "--eval-bleu", arguments)
    with trainer(tiny_corpus):
        pass


def built(data: Path, task: str, arch: str, *flags: str) -> nn.Module:
    words = f"{data} --task {task} --arch {arch} --criterion vq_nat_loss --optimizer adam".split()
    cfg = parse([*words, *flags])
    return tasks.setup_task(cfg.task).build_model(cfg.model)


@pytest.mark.parametrize("flag", ["--rescore-with", "--verify-with"])
def test_teachers_follow_the_model(tiny_corpus: Path, prenorm_teacher: Path, flag: str) -> None:
    flags = ("--eval-bleu", '--eval-bleu-args={"beam": 2}', f"{flag}={prenorm_teacher}")
    with trainer(tiny_corpus, "--unquantized-updates=0", "--codebook-init=random", *flags) as student:
        task = student.task
        # As a GPU's memory would be another place.
        model = student.get_model().double().eval()
        task.valid_step(batches(student, 1)[0], model, student.get_criterion())
        generator = task.sequence_generator
        [teacher] = generator.rescorers or [generator.verifier.teacher]
        assert next(teacher.parameters()).dtype == torch.float64


def test_missing_companion_flags_are_named(tiny_corpus: Path) -> None:
    with pytest.raises(UsageError) as caught:
        built(tiny_corpus, "translation", "vq_nat_em_tiny")
    assert str(caught.value) == (
        "--arch vq_nat_em cannot be driven by --task translation: add --task translation_vq"
    )
    assert refusal(tiny_corpus, "--criterion=cross_entropy") == (
        "--task translation_vq cannot be driven by --criterion cross_entropy: add --criterion vq_nat_loss"
    )


@pytest.mark.parametrize("flags", [[], ["--eval-bleu"]])
def test_another_architecture_is_refused(tiny_corpus: Path, flags: list[str]) -> None:
    with pytest.raises(UsageError, match=r"cannot drive --arch transformer_tiny: .*--arch vq_nat_em"):
        built(tiny_corpus, "translation_vq", "transformer_tiny", *flags)


def test_target_padded_on_the_left_is_refused(tiny_corpus: Path) -> None:
    assert refusal(tiny_corpus, "--left-pad-target").startswith("--left-pad-target")


def test_bad_options_of_validation_are_refused_before_training(tiny_corpus: Path) -> None:
    assert refusal(tiny_corpus, "--eval-bleu", '--eval-bleu-args={"prefix_size": 2}').startswith(
        "--prefix-size 2"
    )
