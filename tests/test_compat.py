"""Checkpoints as data, `--amp` on a CPU, skipped steps, batches of an epoch."""

import argparse
import collections
import functools
import os
import pickle
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from fairseq import tasks
from fairseq.optim.amp_optimizer import AMPOptimizer
from fairseq.tasks.fairseq_task import FairseqTask
from fairseq_cli import train
from forging import call, nested, raw, write_archive
from hypothesis import given, settings
from hypothesis import strategies as st
from omegaconf import open_dict
from tiny import STUDENT, TRAINING, batches, different, model_state, parse, trainer

from vqnat_plugin import compat
from vqnat_plugin.errors import CheckpointError, UsageError


def load(path: Path) -> dict[str, Any]:
    from fairseq import checkpoint_utils

    return checkpoint_utils.load_checkpoint_to_cpu(str(path))


class Foreign:
    """A class that fairseq does not know."""


class Command:
    """Runs a shell command when it is unpickled."""

    def __init__(self, command: str) -> None:
        self.command = command

    def __reduce__(self) -> Any:
        return os.system, (self.command,)


def checkpoint(**entries: Any) -> dict[str, Any]:
    """What fairseq insists on, and `entries`."""
    return {"extra_state": {}, "best_loss": None, "optimizer_history": [], "args": None, **entries}


def history() -> list[dict[str, Any]]:
    return [{"criterion_name": "C", "optimizer_name": "O", "lr_scheduler_state": {}, "num_updates": 1}]


def test_what_fairseq_stores_can_be_loaded(tmp_path: Path) -> None:
    entries = {
        "optimizer_history": history(),
        "extra_state": {
            "options": argparse.Namespace(lr=[0.1]),
            "metrics": collections.OrderedDict(
                counts=np.array([1, 2]), float64=np.float64(0.5), float32=np.float32(0.25), int64=np.int64(7),
                int32=np.int32(6), flag=np.bool_(True), matrix=np.ones((2, 2), dtype=np.float32),
            ),
        },
        "model": {"weight": torch.arange(3)},
    }  # fmt: skip
    torch.save(checkpoint(**entries), tmp_path / "checkpoint.pt")
    loaded = load(tmp_path / "checkpoint.pt")
    metrics = loaded["extra_state"]["metrics"]
    assert loaded["extra_state"]["options"].lr == [0.1]
    assert metrics["counts"].tolist() == [1, 2] and metrics["matrix"].shape == (2, 2)
    assert [metrics[name] for name in ("float64", "float32", "int64", "int32", "flag")] == [
        0.5,
        0.25,
        7,
        6,
        True,
    ]
    assert loaded["model"]["weight"].tolist() == [0, 1, 2]


def test_checkpoints_of_trainings_that_measure_bleu(tiny_corpus: Path, tmp_path: Path) -> None:
    flags = f"{tiny_corpus} --save-dir {tmp_path} {STUDENT} {TRAINING} --max-update 1 --eval-bleu"
    train.main(parse(flags.replace("--disable-validation", "").split()))
    valid = load(tmp_path / "checkpoint_last.pt")["extra_state"]["metrics"]["valid"]
    counts = [meter["sum"] for _, name, _, meter in valid if name == "_bleu_counts"]
    assert [type(each) for each in counts] == [np.ndarray]


def test_forged_arrays_are_refused(tmp_path: Path) -> None:
    """Of objects, over bytes of the attacker's choice: read as such, they end the process."""
    array = call("numpy.ndarray", raw((1,)), raw("O"), call("_codecs.encode", raw("\1" * 8), raw("latin1")))
    write_archive(tmp_path / "c.pt", nested(array))
    with pytest.raises(CheckpointError, match=r"c\.pt: truncated, or not a checkpoint \(UnpicklingError "):
        load(tmp_path / "c.pt")


@pytest.mark.parametrize(
    "entry", [{"cfg": {"task": {"data": "${oc.env:HOME}"}}}, {"args": argparse.Namespace(a=["${b}"])}]
)
def test_options_take_nothing_from_the_environment(tmp_path: Path, entry: dict[str, Any]) -> None:
    torch.save(checkpoint(**entry), tmp_path / "c.pt")
    with pytest.raises(CheckpointError, match="an option refers to something outside the file"):
        load(tmp_path / "c.pt")


@pytest.mark.parametrize("zipped", [True, False])
def test_code_in_a_checkpoint_is_refused_and_not_run(tmp_path: Path, zipped: bool) -> None:
    path, trace = tmp_path / "stranger.pt", tmp_path / "trace"
    content = checkpoint(model={}, optimizer_history=[Command(f"touch {trace}")])
    torch.save(content, path, _use_new_zipfile_serialization=zipped)
    with pytest.raises(CheckpointError) as caught:
        load(path)
    assert str(path) in str(caught.value) and "system'" in str(caught.value)
    assert "\n" not in str(caught.value) and "weights_only" not in str(caught.value)
    assert not trace.exists()


def test_foreign_class_is_refused_by_name(tmp_path: Path) -> None:
    torch.save(checkpoint(model=Foreign()), tmp_path / "c.pt")
    with pytest.raises(CheckpointError, match=r"c\.pt: refused.*test_compat\.Foreign'.*data only"):
        load(tmp_path / "c.pt")


def test_plain_pickle_is_refused_and_not_run(tmp_path: Path) -> None:
    path, trace = tmp_path / "plain.pt", tmp_path / "trace"
    for protocol in range(pickle.HIGHEST_PROTOCOL + 1):
        path.write_bytes(pickle.dumps(checkpoint(model=Command(f"touch {trace}")), protocol=protocol))
        with pytest.raises(CheckpointError, match=r"plain\.pt: ") as caught:
            load(path)
        assert "weights_only" not in str(caught.value) and "\n" not in str(caught.value)
        assert not trace.exists()


@pytest.mark.parametrize("zipped", [True, False])
def test_truncated_checkpoint_is_named(tmp_path: Path, zipped: bool) -> None:
    path = tmp_path / "checkpoint.pt"
    content = checkpoint(model={"weight": torch.randn(1000)}, optimizer_history=history())
    torch.save(content, path, _use_new_zipfile_serialization=zipped)
    whole = path.read_bytes()
    for kept in (0, 10, 1000, len(whole) // 2, len(whole) - 50):
        path.write_bytes(whole[:kept])
        with pytest.raises(CheckpointError, match=r"checkpoint\.pt: truncated, or not a checkpoint"):
            load(path)


@settings(max_examples=40)
@given(garbage=st.binary(max_size=40))
def test_garbage_is_never_a_checkpoint(tmp_path_factory: pytest.TempPathFactory, garbage: bytes) -> None:
    path = tmp_path_factory.mktemp("garbage") / "c.pt"
    path.write_bytes(garbage)
    with pytest.raises(CheckpointError, match=r"c\.pt: "):
        load(path)


def test_missing_checkpoint_stays_a_missing_file(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        load(tmp_path / "nothing.pt")


def test_install_is_idempotent() -> None:
    from fairseq import checkpoint_utils
    from fairseq.trainer import Trainer

    before = checkpoint_utils.load_checkpoint_to_cpu, Trainer.train_step
    compat.install()
    assert before == (checkpoint_utils.load_checkpoint_to_cpu, Trainer.train_step)


@pytest.mark.parametrize(
    ("flags", "fast", "expected"),
    [(["--amp"], True, torch.bfloat16), (["--amp"], False, torch.float32), ([], True, torch.float32)],
)
def test_amp_computes_in_bfloat16_where_the_cpu_has_it(
    tiny_corpus: Path, monkeypatch: pytest.MonkeyPatch, flags: list[str], fast: bool, expected: torch.dtype
) -> None:
    monkeypatch.setattr(compat, "_bfloat16_is_fast", lambda: fast)
    with trainer(tiny_corpus, *flags) as student:
        seen: list[torch.dtype] = []
        attention = student.get_model().encoder.layers[0].self_attention
        attention.query.register_forward_hook(lambda _module, _in, out: seen.append(out.dtype))
        before = model_state(student.get_model())
        student.train_step(batches(student, 1))
        assert set(seen) == {expected}
        assert different(before, model_state(student.get_model()))
        assert {p.dtype for p in student.get_model().parameters()} == {torch.float32}


@pytest.mark.parametrize("flags", [["--amp"], []])
def test_precision_is_said_once_where_bfloat16_is_not_to_be_had(
    tiny_corpus: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    flags: list[str],
) -> None:
    monkeypatch.setattr(compat, "has_bfloat16", lambda: False)
    compat._bfloat16_is_fast.cache_clear()
    caplog.set_level("INFO", logger=compat.__name__)
    with trainer(tiny_corpus, *flags) as student:
        for batch in batches(student, 2):
            student.train_step([batch])
    compat._bfloat16_is_fast.cache_clear()
    ours = [record.message for record in caplog.records if record.name == compat.__name__]
    assert [message.split(":")[0] for message in ours] == flags


def test_step_with_infinite_gradients_changes_nothing_under_amp(tiny_corpus: Path) -> None:
    with trainer(tiny_corpus, "--amp", "--unquantized-updates", "0", "--em-decay", "0.5") as student:
        model = student.get_model()
        first, second = batches(student, 2)
        student.train_step([first])
        broken = model.upsampler.project.weight.register_hook(lambda gradient: gradient * float("inf"))
        before = model_state(model)
        student.train_step([second])
        assert compat.step_was_skipped(student.optimizer)
        assert student.get_num_updates() == 1
        assert different(before, model_state(model)) == []
        broken.remove()
        student.train_step([second])
        assert not compat.step_was_skipped(student.optimizer)
        assert {"upsampler.project.weight", "quantizer.codebook"} <= set(
            different(before, model_state(model))
        )


def test_gradients_are_unscaled_once_under_amp(tiny_corpus: Path) -> None:
    flags = ("--amp", "--optimizer=sgd", "--lr=1", "--amp-init-scale=256", "--amp-scale-window=7")
    with trainer(tiny_corpus, *flags) as student:
        optimizer = student.optimizer
        # As on a GPU.
        optimizer._grad_scaler = torch.amp.GradScaler("cpu", init_scale=128.0)
        weight = student.get_model().upsampler.project.weight
        before = weight.detach().clone()
        optimizer.zero_grad()
        optimizer.backward((weight * 0.5).sum())
        optimizer.clip_grad_norm(0.0)
        optimizer.step()
        torch.testing.assert_close(before - weight, torch.full_like(weight, 0.5))
        assert not compat.step_was_skipped(optimizer)


def test_options_of_the_scaler_are_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    common = SimpleNamespace(amp_init_scale=256, amp_scale_window=7, fp16_init_scale=128, min_loss_scale=1)
    # That of GPUs is disabled without one.
    monkeypatch.setattr(torch.cuda.amp, "GradScaler", functools.partial(torch.amp.GradScaler, "cpu"))
    parameter = torch.nn.Parameter(torch.zeros(1))
    made = AMPOptimizer(
        SimpleNamespace(common=common, optimizer=None), [parameter], torch.optim.SGD([parameter], 1)
    )
    assert (made.scaler.get_scale(), made.scaler.get_growth_interval()) == (256, 7)


@pytest.mark.parametrize(("flags", "message"), [(["--amp"], "Minimum loss scale reached"), ([], "Nan/Inf")])
def test_training_that_never_gets_a_finite_gradient_ends(
    tiny_corpus: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture, flags: list[str], message: str
) -> None:
    with trainer(tiny_corpus, f"--save-dir={tmp_path}", *flags) as student:
        (batch,) = batches(student, 1)
        with torch.no_grad():
            student.get_model().upsampler.project.weight.fill_(float("nan"))
        with pytest.raises(FloatingPointError, match=message):
            for _ in range(20):
                student.train_step([batch])
        assert student.get_num_updates() == 0
    assert "NaN detected in output of upsampler.project" in caplog.text


def test_training_needs_a_model(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    from fairseq import options

    with pytest.raises(UsageError, match="needs --arch"):
        options.parse_args_and_arch(options.get_training_parser(), ["DATA"])
    with pytest.raises(SystemExit) as ended:
        options.parse_args_and_arch(options.get_training_parser(), ["--help"])
    assert ended.value.code == 0 and "--max-tokens" in capsys.readouterr().out


@pytest.mark.parametrize("flag", ["-h", "--help"])
def test_help_shows_the_options_of_model_and_task(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], flag: str
) -> None:
    from fairseq import options

    words = ["--task", "translation_vq", "--arch", "vq_nat_em", "--criterion", "vq_nat_loss", flag]
    for typed in (words, None):
        monkeypatch.setattr("sys.argv", ["fairseq-train", *words])
        with pytest.raises(SystemExit) as ended:
            options.parse_args_and_arch(options.get_training_parser(), typed)
        shown = capsys.readouterr().out
        assert ended.value.code == 0
        assert all(option in shown for option in ("--compress-steps", "--rescore-with", "--max-tokens"))


def batches_of(task: Any, epoch: int, asked: Any = None) -> list[Any]:
    """The batches of the training data in an epoch, as a process makes them that starts with it."""
    asked = asked or {}
    task.dataset_to_epoch_iter.clear()
    made = task.get_batch_iterator(task.dataset("train"), max_tokens=100, seed=1, epoch=epoch, **asked)
    return [tuple(batch) for batch in made.frozen_batches]


@pytest.fixture
def training_task(tiny_corpus: Path) -> Any:
    """The task of the tiny student with its training data."""
    task = tasks.setup_task(parse(f"{tiny_corpus} {STUDENT} {TRAINING}".split()).task)
    task.load_dataset("train")
    return task


def test_batches_made_once_are_those_of_the_first_epoch(training_task: Any) -> None:
    first = batches_of(training_task, 1)
    assert all(batches_of(training_task, epoch) == first for epoch in (2, 3))
    # fairseq's own, in a training that starts with the first epoch.
    fairseqs = FairseqTask.get_batch_iterator.__wrapped__
    training_task.dataset_to_epoch_iter.clear()
    own = fairseqs(training_task, training_task.dataset("train"), max_tokens=100, seed=1, epoch=1)
    assert [tuple(batch) for batch in own.frozen_batches] == first and own.seed == 1


@pytest.mark.parametrize("reason", ["dataset", "disable_iterator_cache", "update_epoch_batch_itr"])
def test_batches_made_anew_belong_to_their_epoch(
    training_task: Any, monkeypatch: pytest.MonkeyPatch, reason: str
) -> None:
    asked = {} if reason == "dataset" else {reason: True}
    if reason == "dataset":
        monkeypatch.setattr(training_task, "can_reuse_epoch_itr", lambda _dataset: False)
    epochs = [batches_of(training_task, epoch, asked) for epoch in (1, 2, 3)]
    assert epochs[0] != epochs[1] != epochs[2]
    assert epochs == [batches_of(training_task, epoch, asked) for epoch in (1, 2, 3)]


def test_batches_rebuilt_for_each_epoch_do_not_depend_on_the_start(training_task: Any) -> None:
    with open_dict(training_task.cfg):
        training_task.cfg.rebuild_batches = True
    made = training_task.get_batch_iterator(training_task.dataset("train"), max_tokens=100, seed=1, epoch=1)
    assert len(list(made.next_epoch_itr(shuffle=False))) == len(made.frozen_batches)
    made.next_epoch_itr(shuffle=False)
    assert made.epoch == 2
    assert [tuple(batch) for batch in made.frozen_batches] == batches_of(training_task, 2)
