"""Whole trainings: what is learnt, resuming, two processes against one, and the commands that users type."""

import shutil
import subprocess
import sys
from argparse import Namespace
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from fairseq import checkpoint_utils, tasks
from tiny import PAD, STUDENT, TRAINING, parse, train_student

from vqnat_plugin.models.vq_nat import VQNAT

ROOT = Path(__file__).resolve().parents[1]


# What is learnt.


@pytest.fixture(scope="module")
def learnt(tiny_corpus: Path, tiny_student: Path) -> tuple[VQNAT, Any, dict[str, Any]]:
    """The tiny student, its task, and the sentences that it was trained on."""
    words = (
        f"{tiny_corpus} --task translation_vq --arch vq_nat_em_tiny --criterion vq_nat_loss --optimizer adam"
    )
    task = tasks.setup_task(parse(words.split()).task)
    (model,), _ = checkpoint_utils.load_model_ensemble([str(tiny_student)], task=task)
    task.load_dataset("train")
    dataset = task.dataset("train")
    return model.eval(), task, dataset.collater([dataset[i] for i in range(len(dataset))])


@torch.no_grad()
def word_loss_and_accuracy(model: VQNAT, batch: dict[str, Any], shuffled: bool) -> tuple[float, float]:
    """Nats and correct words a target token, from the codes of the reference or from codes mixed up."""
    target = batch["target"]
    memory = model.encode(batch["net_input"]["src_tokens"])
    z, mask = model.compress(target, memory)
    latents = model.quantizer(z, mask).quantized
    if shuffled:
        order = torch.randperm(int(mask.sum()), generator=torch.Generator().manual_seed(1))
        latents[mask] = latents[mask][order]
    states = model.decode(latents, mask, model.decoder.project(memory.states), memory.mask)
    logits = states[:, : target.size(1)] @ model.output_weight.T
    loss = F.cross_entropy(logits.flatten(0, 1), target.flatten(), ignore_index=PAD)
    return float(loss), float((logits.argmax(-1) == target)[target.ne(PAD)].float().mean())


def test_latents_carry_the_sentence(learnt: tuple[VQNAT, Any, dict[str, Any]]) -> None:
    model, _, batch = learnt
    loss, accuracy = word_loss_and_accuracy(model, batch, shuffled=False)
    assert accuracy > 0.99 and loss < 0.1
    lost, wrong = word_loss_and_accuracy(model, batch, shuffled=True)
    assert lost > loss + 1.0 and wrong < 0.8


def test_source_alone_gives_the_translation(learnt: tuple[VQNAT, Any, dict[str, Any]]) -> None:
    model, task, batch = learnt
    for beam in (1, 4):
        generator = task.build_generator([model], Namespace(beam=beam, max_len_b=12))
        found = task.inference_step(generator, [model], batch)
        expected = [row[row.ne(PAD)].tolist() for row in batch["target"]]
        exact = sum(h[0]["tokens"].tolist() == words for h, words in zip(found, expected, strict=True))
        assert exact >= 0.9 * len(expected)


# Resuming.


def saved(path: Path) -> dict[str, Any]:
    return checkpoint_utils.load_checkpoint_to_cpu(str(path))


@pytest.mark.parametrize(
    "flags",
    [
        ["--bottleneck=em", "--dropout=0.2", "--code-revival=0.3", "--em-decay=0.9"],
        ["--bottleneck=hard", "--unquantized-updates=6", "--update-freq=2", "--amp"],
    ],
)
def test_resumed_training_equals_an_uninterrupted_one(
    tiny_corpus: Path, tmp_path: Path, flags: list[str]
) -> None:
    validation = [
        "--eval-bleu",
        '--eval-bleu-args={"beam": 1, "max_len_b": 9}',
        "--best-checkpoint-metric=bleu",
    ]
    flags = [*flags, *validation, "--save-interval-updates=4", "--validate-interval-updates=4"]
    whole, resumed = tmp_path / "whole", tmp_path / "resumed"
    train_student(tiny_corpus, whole, *flags, "--max-update=12")
    # A kill behind update 4, in the middle of the first epoch or, with two batches an update, of the second.
    resumed.mkdir()
    (middle,) = whole.glob("checkpoint_*_4.pt")
    shutil.copy(middle, resumed / "checkpoint_last.pt")
    train_student(tiny_corpus, resumed, *flags, "--max-update=12")
    first, second = saved(whole / "checkpoint_last.pt"), saved(resumed / "checkpoint_last.pt")
    assert (
        first["optimizer_history"][-1]["num_updates"] == second["optimizer_history"][-1]["num_updates"] == 12
    )
    assert first["model"].keys() == second["model"].keys()
    differing = [n for n in first["model"] if not torch.equal(first["model"][n], second["model"][n])]
    assert differing == []
    assert {"quantizer.codebook", "quantizer.counts", "quantizer.sums"} <= first["model"].keys()
    assert not torch.equal(first["model"]["quantizer.codebook"], saved(middle)["model"]["quantizer.codebook"])
    states = [state["last_optimizer_state"]["state"] for state in (first, second)]
    assert states[0].keys() == states[1].keys()
    for key in states[0]:
        assert torch.equal(states[0][key]["exp_avg"], states[1][key]["exp_avg"])


# The commands, in processes of their own: importing fairseq takes them several seconds each.


def command(*arguments: str | Path) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, *map(str, arguments)],
        cwd=ROOT,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )


def test_two_processes_equal_one(tiny_corpus: Path, tmp_path: Path) -> None:
    # Five batches an epoch: the second process ends each of them with a dummy batch.
    flags = ["--unquantized-updates=1", "--code-revival=0", "--em-decay=0.8", "--lr=0.1", "--clip-norm=0"]
    flags += ["--optimizer=sgd", "--max-epoch=2"]
    first_epoch = train_student(tiny_corpus, tmp_path / "one", *flags, "--update-freq=2", "--max-epoch=1")
    start = saved(first_epoch)
    # Both go on from here, so the second process has to be given what the first one has loaded.
    (tmp_path / "two").mkdir()
    shutil.copy(first_epoch, tmp_path / "two")
    words = f"-m vqnat_plugin train --workers 2 {tiny_corpus} --save-dir {tmp_path / 'two'}"
    together = command(*f"{words} {STUDENT} {TRAINING}".split(), *flags)
    train_student(tiny_corpus, tmp_path / "one", *flags, "--update-freq=2")
    output, errors = together.communicate(timeout=500)
    assert together.returncode == 0, errors[-3000:] + output[-3000:]
    one, two = (saved(tmp_path / name / "checkpoint_last.pt") for name in ("one", "two"))
    assert [state["optimizer_history"][-1]["num_updates"] for state in (start, one, two)] == [3, 6, 6]
    # Every vector has found the same code in both.
    assert torch.equal(one["model"]["quantizer.counts"], two["model"]["quantizer.counts"])
    for part in ("quantizer.", "encoder.", "compressor.", "upsampler.", "decoder.", "predictor.", "source_"):
        assert distance(one, two, part) < 1e-4 * distance(one, start, part), part


def distance(first: dict[str, Any], second: dict[str, Any], part: str) -> float:
    """Euclidean distance between the models of two checkpoints over the tensors of one part."""
    names = [name for name in first["model"] if name.startswith(part)]
    differences = [(first["model"][name] - second["model"][name]).double().norm() for name in names]
    return float(torch.stack(differences).norm())


def test_commands_as_users_type_them(tiny_corpus: Path, tiny_student: Path, tmp_path: Path) -> None:
    training = (
        f"-m fairseq_cli.train {tiny_corpus} --user-dir vqnat_plugin --save-dir {tmp_path} --max-tokens 100"
    )
    companions = "--arch vq_nat_em_tiny --task translation --criterion vq_nat_loss --optimizer adam --cpu"
    wrong = command(*f"{training} {companions}".split())
    decoding = f"-m fairseq_cli.generate {tiny_corpus} --user-dir vqnat_plugin --task translation_vq --cpu"
    options = f"--path {tiny_student} --required-batch-size-multiple 1 --beam 2 --max-len-b 12"
    decoded = command(*f"{decoding} {options}".split())
    output, errors = wrong.communicate(timeout=500)
    assert wrong.returncode == 2 and "Traceback" not in output + errors
    line = "--arch vq_nat_em cannot be driven by --task translation: add --task translation_vq"
    assert errors.splitlines()[-1] == f"fairseq-train: error: {line}"
    output, errors = decoded.communicate(timeout=500)
    assert decoded.returncode == 0, errors
    translated = sorted(line.split("\t")[0] for line in output.splitlines() if line.startswith("D-"))
    assert translated == [f"D-{number}" for number in range(5)]
