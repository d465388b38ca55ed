"""Trainings that are run again: what is damaged, finished, changed or in use."""

import logging
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from fairseq import checkpoint_utils
from fairseq_cli import train
from tiny import STUDENT, TRAINING, parse, train_student

from vqnat_plugin.errors import BusyError, CheckpointError, UsageError
from vqnat_plugin.fairseq_options import LAST
from vqnat_plugin.files import alone

ANEW = ("--reset-optimizer", "--reset-lr-scheduler", "--reset-dataloader", "--reset-meters")
VALIDATED = TRAINING.replace("--disable-validation", "").replace("--no-epoch-checkpoints", "")


@pytest.fixture(autouse=True)
def as_in_a_new_process(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    """What fairseq keeps from one training to the next is forgotten."""
    caplog.set_level(logging.INFO, "vqnat_plugin")
    forget()


def forget() -> None:
    for function in (checkpoint_utils.save_checkpoint, train.should_stop_early):
        for name in ("best", "num_runs"):
            vars(function).pop(name, None)


def train_with(data: Path, out: Path, flags: str) -> Path:
    """Train the tiny student, with validation, as in a process of its own."""
    forget()
    train.main(parse(f"{data} --save-dir {out} {STUDENT} {VALIDATED} {flags}".split()))
    return out / "checkpoint_last.pt"


def saved(path: Path) -> dict[str, Any]:
    return checkpoint_utils.load_checkpoint_to_cpu(str(path))


def updates(path: Path) -> int:
    return int(saved(path)["optimizer_history"][-1]["num_updates"])


def same_weights(first: Path, second: Path) -> bool:
    one, two = saved(first)["model"], saved(second)["model"]
    return one.keys() == two.keys() and all(torch.equal(one[name], two[name]) for name in one)


def files(folder: Path) -> dict[str, tuple[int, bytes]]:
    return {path.name: (path.stat().st_mtime_ns, path.read_bytes()) for path in folder.glob("*.pt")}


# An epoch has 5 updates. --maximize-best-checkpoint-metric takes every better loss for a worse one.
@pytest.mark.parametrize(
    ("flags", "reason"),
    [
        ("--max-update 4 --lr-scheduler inverse_sqrt --warmup-updates 2", "4 updates of --max-update 4"),
        ("--max-update 12", "12 updates of --max-update 12"),
        ("--max-epoch 2", "2 epochs of --max-epoch 2"),
        (
            "--lr-scheduler reduce_lr_on_plateau --maximize-best-checkpoint-metric --stop-min-lr 0.001",
            "its learning rate has come down to 0.0003, --stop-min-lr is 0.001",
        ),
        ("--max-epoch 9 --patience 1 --maximize-best-checkpoint-metric", "1 validations without progress"),
    ],
)
def test_a_finished_training_that_is_run_again_changes_nothing(
    tiny_corpus: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture, flags: str, reason: str
) -> None:
    train_with(tiny_corpus, tmp_path, flags)
    before = files(tmp_path)
    assert "is finished" not in caplog.text
    train_with(tiny_corpus, tmp_path, flags)
    assert files(tmp_path) == before
    assert f"{tmp_path}: this training is finished: {reason}" in caplog.text


def test_validations_without_codes_do_not_count(tiny_corpus: Path, tmp_path: Path) -> None:
    """Their losses are infinite: no progress is a matter of those that come after."""
    start = "--unquantized-updates 17 --max-epoch 4"
    assert updates(train_with(tiny_corpus, tmp_path / "patient", f"{start} --patience 1")) == 20
    # In two parts, the first without codes.
    train_with(tiny_corpus, tmp_path / "parts", f"{start} --patience 1 --max-epoch 2")
    assert updates(train_with(tiny_corpus, tmp_path / "parts", f"{start} --patience 1")) == 20
    # Other figures are finite, but say as little.
    score = "--eval-bleu --eval-tokenized-bleu --best-checkpoint-metric bleu"
    assert updates(train_with(tiny_corpus, tmp_path / "bleu", f"{start} {score} --patience 1")) == 20
    last = train_with(tiny_corpus, tmp_path / "plateau", f"{start} --lr-scheduler reduce_lr_on_plateau")
    assert saved(last)["last_optimizer_state"]["param_groups"][0]["lr"] == pytest.approx(0.003)


def test_a_model_without_codes_is_none_of_the_best(tiny_corpus: Path, tmp_path: Path) -> None:
    flags = "--unquantized-updates 12 --max-epoch 5 --keep-best-checkpoints 2 --no-epoch-checkpoints"
    train_with(tiny_corpus, tmp_path, flags)
    kept = [path.name for path in tmp_path.glob("checkpoint.best_*.pt")]
    assert len(kept) == 2 and not any("inf" in name for name in kept), kept


def test_an_end_before_there_are_codes_is_said(
    tiny_corpus: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    said = "--max-update 3: the training ends without codes, which come after --unquantized-updates 4"
    train_student(tiny_corpus, tmp_path / "a", "--unquantized-updates=4", "--max-update=4")
    assert "without codes" not in caplog.text
    train_student(tiny_corpus, tmp_path / "b", "--unquantized-updates=4", "--max-update=3")
    assert said in caplog.text


def test_a_finished_training_goes_on_when_it_is_to_be_longer(tiny_corpus: Path, tmp_path: Path) -> None:
    train_student(tiny_corpus, tmp_path, "--max-update=4")
    assert updates(train_student(tiny_corpus, tmp_path, "--max-update=6")) == 6


def test_a_training_without_its_optimizer_is_not_begun_anew(tiny_corpus: Path, tmp_path: Path) -> None:
    flags = ("--max-update=4", "--no-save-optimizer-state")
    train_student(tiny_corpus, tmp_path, *flags)
    before = files(tmp_path)
    with pytest.raises(
        UsageError, match=r"checkpoint_last\.pt: has no state of the optimizer .* --reset-opt"
    ):
        train_student(tiny_corpus, tmp_path, *flags)
    assert files(tmp_path) == before
    train_student(tiny_corpus, tmp_path, *flags, *ANEW)
    assert updates(tmp_path / "checkpoint_last.pt") == 4 and files(tmp_path) != before


@pytest.mark.parametrize("bottleneck", ["em", "gradient"])
def test_an_average_of_the_weights_is_kept(tiny_corpus: Path, tmp_path: Path, bottleneck: str) -> None:
    flags = (f"--bottleneck={bottleneck}", "--store-ema", "--ema-decay=0.5")
    last = train_student(tiny_corpus, tmp_path, "--max-update=3", flags[0])
    # Also from a training on that had none.
    for longer in (4, 5):
        train_student(tiny_corpus, tmp_path, f"--max-update={longer}", *flags)
    state = saved(last)
    average = state["extra_state"]["ema"]
    name = "decoder.norm.weight"
    assert updates(last) == 5 and not torch.equal(average[name], state["model"][name])
    if bottleneck == "em":
        assert int(average["quantizer.started"]) == 1


@pytest.mark.slow
@pytest.mark.parametrize("workers", [1, 2])
def test_the_command_changes_nothing_either(tiny_corpus: Path, tmp_path: Path, workers: int) -> None:
    words = (
        f"{tiny_corpus} --save-dir {tmp_path} {STUDENT} {TRAINING} --max-update 4 --lr-scheduler inverse_sqrt"
    )
    command = [*f"{sys.executable} -m vqnat_plugin train --workers {workers}".split(), *words.split()]
    subprocess.run(command, check=True, capture_output=True)
    before = files(tmp_path)
    again = subprocess.run(command, check=True, capture_output=True, text=True)
    assert files(tmp_path) == before and "is finished: 4 updates" in again.stdout


@pytest.mark.parametrize(
    "flags",
    [
        "--lr-scheduler reduce_lr_on_plateau --maximize-best-checkpoint-metric --max-epoch 3",
        # By such a threshold no loss is better than another; the kill is between the two that it waits for.
        "--lr-scheduler reduce_lr_on_plateau --lr-patience 1 --lr-threshold 9 --max-epoch 5",
        "--lr-scheduler fixed --force-anneal 2 --lr-shrink 0.5 --max-epoch 3",
        "--patience 2 --maximize-best-checkpoint-metric --max-epoch 9",
    ],
)
def test_what_changes_between_epochs_outlives_a_kill(tiny_corpus: Path, tmp_path: Path, flags: str) -> None:
    whole = train_with(tiny_corpus, tmp_path / "whole", flags)
    (tmp_path / "killed").mkdir()
    shutil.copy(whole.with_name("checkpoint2.pt"), tmp_path / "killed" / "checkpoint_last.pt")
    last = train_with(tiny_corpus, tmp_path / "killed", flags)
    assert updates(last) == updates(whole) > updates(whole.with_name("checkpoint2.pt"))
    assert same_weights(last, whole)


# Damage.


def test_a_damaged_last_checkpoint_gives_way_to_the_newest_whole_one(
    tiny_corpus: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    flags = ("--save-interval-updates=2", "--max-update=6")
    train_student(tiny_corpus, tmp_path / "whole", *flags)
    folder = tmp_path / "damaged"
    train_student(tiny_corpus, folder, "--save-interval-updates=2", "--max-update=5")
    last = folder / "checkpoint_last.pt"
    last.write_bytes(last.read_bytes()[:-1000])
    newest = folder / "checkpoint_1_4.pt"
    # Neither an average nor another damaged one will do.
    average = {**torch.load(newest, weights_only=False), "last_optimizer_state": None}
    torch.save(average, folder / "checkpoint_average.pt")
    (folder / "checkpoint_1_5.pt").write_bytes(b"PK")
    assert updates(train_student(tiny_corpus, folder, *flags)) == 6
    assert f"{last}: truncated" in caplog.text
    assert f"the training goes on from {newest}, update 4" in caplog.text
    assert same_weights(last, tmp_path / "whole" / "checkpoint_last.pt")


def test_where_nothing_is_whole_one_line_says_the_way_out(tiny_corpus: Path, tmp_path: Path) -> None:
    last = tmp_path / "checkpoint_last.pt"
    last.write_bytes(b"PK\3\4")
    with pytest.raises(CheckpointError, match=r"no other checkpoint in .* is whole either: delete it"):
        train_student(tiny_corpus, tmp_path, "--max-update=2")
    assert last.read_bytes() == b"PK\3\4"
    with pytest.raises(CheckpointError, match=r"mine\.pt: truncated"):
        shutil.copy(last, tmp_path / "mine.pt")
        train_student(
            tiny_corpus, tmp_path / "new", "--max-update=2", f"--restore-file={tmp_path / 'mine.pt'}"
        )


def test_a_checkpoint_is_copied_in_one_step(
    tiny_corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    flags = ("--save-interval-updates=2",)
    last = train_student(tiny_corpus, tmp_path, *flags, "--max-update=2")

    def half(source: str, target: Path) -> None:
        target.write_bytes(Path(source).read_bytes()[:1000])
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(shutil, "copyfile", half)
        train_student(tiny_corpus, tmp_path, *flags, "--max-update=6")
    assert updates(last) == 2 and (tmp_path / "checkpoint_1_4.pt").is_file()
    assert not list(tmp_path.glob(".*.part*"))
    assert updates(train_student(tiny_corpus, tmp_path, *flags, "--max-update=6")) == 6


# Changes.


@pytest.fixture(scope="module")
def begun(tiny_corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a training of two updates."""
    return train_student(tiny_corpus, tmp_path_factory.mktemp("begun"), "--max-update=2").parent


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (
            "--codebook-size=32",
            "checkpoint_last.pt: does not fit: --codebook-size was 16, is now 32; take the old",
        ),
        ("--embed-dim=16 --ffn-dim=32", "--embed-dim was 32, is now 16, --ffn-dim was 64, is now 32; "),
        ("--decoder-layers=2", "--decoder-layers was 1, is now 2; "),
        ("--compress-steps=2", "--compress-steps was 1, is now 2; "),
        # The same weights, but another function.
        (
            "--attention-heads=4 --decoder-attention=causal",
            "--attention-heads was 2, is now 4, --decoder-attention was bidirectional, is now causal; ",
        ),
        (
            "--arch=vq_nat_em_6_1_3 --predictor-layers=2",
            "--arch was vq_nat_em_tiny, is now vq_nat_em_6_1_3; ",
        ),
        ("--optimizer=sgd", "FairseqAdam vs SGD"),
        ("--amp", "please reset the optimizer (--reset-optimizer). FairseqAdam vs AMPOptimizer"),
    ],
)
def test_options_that_do_not_fit_are_named(
    tiny_corpus: Path, begun: Path, tmp_path: Path, flags: str, message: str
) -> None:
    folder = shutil.copytree(begun, tmp_path / "run")
    before = files(folder)
    with pytest.raises(UsageError) as raised:
        train_student(tiny_corpus, folder, "--max-update=4", *flags.split())
    assert message in str(raised.value) and "\n" not in str(raised.value)
    assert files(folder) == before


def test_a_teachers_options_are_compared_as_well(
    tiny_corpus: Path, prenorm_teacher: Path, tmp_path: Path
) -> None:
    options = saved(prenorm_teacher)["cfg"]["model"]
    sizes = ("encoder_embed_dim", "encoder_ffn_embed_dim", "encoder_layers", "encoder_attention_heads")
    sizes += tuple(name.replace("encoder", "decoder") for name in sizes)
    words = f"{tiny_corpus} --save-dir {tmp_path} --task translation --arch transformer {TRAINING}"
    words += " --share-all-embeddings --encoder-normalize-before --decoder-normalize-before --max-update 30"
    words += "".join(f" --{name.replace('_', '-')} {getattr(options, name)}" for name in sizes)
    shutil.copy(prenorm_teacher, tmp_path / LAST)
    with pytest.raises(UsageError, match="--no-scale-embedding was False, is now True; take the old"):
        train.main(parse([*words.split(), "--no-scale-embedding"]))
    train.main(parse(words.split()))
    assert updates(tmp_path / LAST) == 30


def test_a_training_that_has_begun_is_not_begun_once_more(
    tiny_corpus: Path, begun: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun = shutil.copytree(begun, tmp_path / "begun")
    shutil.copy(begun / "checkpoint_last.pt", begun / "other.pt")
    start = [f"--restore-file={begun / 'checkpoint_last.pt'}", "--reset-optimizer", "--reset-dataloader"]
    start += ["--reset-lr-scheduler", "--reset-meters"]
    train_student(tiny_corpus, tmp_path / "run", "--max-update=2", *start)
    before = files(tmp_path / "run")
    # Also by a name in the current folder.
    monkeypatch.chdir(begun)
    for again in (start, ["--restore-file=other.pt", *start[1:]]):
        with pytest.raises(
            UsageError, match=r"--restore-file .*: .*run has a training that has begun; leave"
        ):
            train_student(tiny_corpus, tmp_path / "run", "--max-update=4", *again)
    assert files(tmp_path / "run") == before
    train_student(tiny_corpus, tmp_path / "run", "--max-update=4", "--no-save", *start)
    assert files(tmp_path / "run") == before
    train_student(tiny_corpus, tmp_path / "run", "--max-update=4")
    assert updates(tmp_path / "run" / "checkpoint_last.pt") == 4
    # Back to a checkpoint of its own.
    shutil.copy(begun / "checkpoint_last.pt", tmp_path / "run" / "checkpoint_1_2.pt")
    back = f"--restore-file={tmp_path / 'run' / 'checkpoint_1_2.pt'}"
    train_student(tiny_corpus, tmp_path / "run", "--max-update=3", back)
    assert updates(tmp_path / "run" / "checkpoint_last.pt") == 3


def test_data_of_other_symbols_are_refused(tiny_corpus: Path, begun: Path, tmp_path: Path) -> None:
    data = shutil.copytree(tiny_corpus, tmp_path / "data")
    for path in data.glob("dict.*.txt"):
        path.write_text("".join(reversed(path.read_text().splitlines(keepends=True))))
    for folder, flags in (
        (shutil.copytree(begun, tmp_path / "run"), []),
        (tmp_path / "new", [f"--finetune-from-model={begun / 'checkpoint_last.pt'}"]),
    ):
        with pytest.raises(CheckpointError, match="was trained with other symbols than the dictionaries in"):
            train_student(data, folder, "--max-update=4", *flags)


def test_the_other_direction_is_another_training(tiny_corpus: Path, begun: Path, tmp_path: Path) -> None:
    """With one dictionary for both languages nothing else tells them apart."""
    folder = shutil.copytree(begun, tmp_path / "run")
    other = ("--max-update=4", "--source-lang=de", "--target-lang=en")
    before = files(folder)
    with pytest.raises(UsageError, match="--source-lang was en, is now de, --target-lang was de, is now en"):
        train_student(tiny_corpus, folder, *other)
    assert files(folder) == before
    # One may begin from the other's weights.
    new = train_student(tiny_corpus, tmp_path / "new", *other, f"--finetune-from-model={folder / LAST}")
    assert updates(new) == 4
    # Earlier versions did not write them down.
    state = torch.load(folder / LAST, weights_only=False)
    del state["extra_state"]["vqnat"]["languages"]
    torch.save(state, folder / LAST)
    assert updates(train_student(tiny_corpus, folder, *other)) == 4


def test_the_hours_of_another_training_do_not_count(tiny_corpus: Path, begun: Path, tmp_path: Path) -> None:
    state = torch.load(begun / "checkpoint_last.pt", weights_only=False)
    state["extra_state"]["previous_training_time"] = 36_000.0
    torch.save(state, tmp_path / "other.pt")
    flags = ["--max-update=4", f"--finetune-from-model={tmp_path / 'other.pt'}", "--stop-time-hours=4"]
    train_student(tiny_corpus, tmp_path / "new", *flags)
    assert updates(tmp_path / "new" / "checkpoint_last.pt") == 4


def test_options_that_may_change_are_no_obstacle(tiny_corpus: Path, begun: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(begun, tmp_path / "run")
    assert updates(train_student(tiny_corpus, folder, "--max-update=4", "--dropout=0.1", "--lr=0.001")) == 4


def test_an_optimizer_has_the_options_that_are_asked_for(
    tiny_corpus: Path, begun: Path, tmp_path: Path
) -> None:
    folder = shutil.copytree(begun, tmp_path / "run")
    flags = ["--max-update=4", "--weight-decay=0.02", "--adam-betas=(0.8,0.9)"]
    last = train_student(tiny_corpus, folder, *flags, "--optimizer-overrides={'eps': 0.001}")
    (group,) = torch.load(last, weights_only=False)["last_optimizer_state"]["param_groups"]
    assert (group["weight_decay"], tuple(group["betas"]), group["eps"]) == (0.02, (0.8, 0.9), 0.001)
    assert updates(last) == 4


def test_codes_of_before_they_could_be_frozen(tiny_corpus: Path, begun: Path, tmp_path: Path) -> None:
    earlier = shutil.copytree(begun, tmp_path / "earlier")
    for path in earlier.glob("*.pt"):
        state = torch.load(path, weights_only=False)
        del state["model"]["quantizer.frozen"]
        torch.save(state, path)
    now = shutil.copytree(begun, tmp_path / "now")
    ends = [train_student(tiny_corpus, folder, "--max-update=4") for folder in (earlier, now)]
    assert same_weights(*ends) and updates(ends[0]) == 4


def test_another_seed_or_data_set_is_said(
    tiny_corpus: Path, begun: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    other = shutil.copytree(tiny_corpus, tmp_path / "other")
    for language in ("en", "de"):
        for ending in ("bin", "idx"):
            shutil.copy(
                tiny_corpus / f"test.en-de.{language}.{ending}", other / f"train.en-de.{language}.{ending}"
            )
    folder = shutil.copytree(begun, tmp_path / "run")
    train_student(tiny_corpus, folder, "--max-update=3")
    assert not [record for record in caplog.records if record.levelno >= logging.WARNING]
    earlier = shutil.copytree(folder, tmp_path / "earlier")
    train_student(other, folder, "--max-update=4", "--seed=2")
    assert "--seed was 1, is now 2" in caplog.text
    assert (
        "its training set had 60 examples of " in caplog.text and f"that of {other} has 5 of " in caplog.text
    )
    # Earlier versions did not write down how many batches an epoch had.
    state = torch.load(earlier / "checkpoint_last.pt", weights_only=False)
    del state["extra_state"]["train_iterator"]["batches"]
    torch.save(state, earlier / "checkpoint_last.pt")
    with pytest.raises(UsageError, match=r"in the middle of an epoch of more .* --reset-dataloader"):
        train_student(other, earlier, "--max-update=4")


# Two at once.


def test_two_trainings_do_not_write_to_one_folder(tiny_corpus: Path, begun: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(begun, tmp_path / "run")
    with alone(folder):
        before = files(folder)
        with pytest.raises(BusyError, match="another process is writing there"):
            train_student(tiny_corpus, folder, "--max-update=4")
        assert files(folder) == before
        train_student(tiny_corpus, folder, "--max-update=4", "--no-save")
    assert updates(train_student(tiny_corpus, folder, "--max-update=4")) == 4
