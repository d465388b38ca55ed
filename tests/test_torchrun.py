"""Training as on GPUs, here on a CPU: torchrun and DistributedDataParallel, against one process."""

import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from fairseq import checkpoint_utils
from fairseq.data.iterators import EpochBatchIterator
from fairseq.dataclass.configs import DistributedTrainingConfig
from tiny import (
    STUDENT,
    TRAINING,
    batches,
    different,
    model_state,
    parse,
    train_student,
    trainer,
)

from vqnat_plugin import distributed
from vqnat_plugin.errors import UsageError
from vqnat_plugin.launch import TORCHRUN

TESTS = Path(__file__).resolve().parent
BIN = Path(sys.executable).parent
# What rounds least, so that trainings can be compared.
EXACT = (
    "--unquantized-updates=1",
    "--code-revival=0",
    "--em-decay=0.8",
    "--optimizer=sgd",
    "--lr=0.1",
    "--clip-norm=0",
)


class Ranks:
    """A training of several processes as a user starts it; see `watched_ranks`."""

    def __init__(
        self, count: int, data: Path, out: Path, *flags: str, fault: str = "", program: str = "fairseq-train"
    ) -> None:
        self.count, self.out = count, out
        out.mkdir(exist_ok=True)
        for record in out.glob("*.jsonl"):
            record.unlink()
        launcher = f"{BIN / 'torchrun'} --standalone --nproc-per-node {count} {BIN / program}"
        words = (
            f"{launcher} {data} --user-dir {TESTS / 'watched_ranks'} --save-dir {out} {STUDENT} {TRAINING}"
        )
        environment = {**os.environ, "WATCH": str(out), "OMP_NUM_THREADS": "1", "PYTHONWARNINGS": "ignore"}
        self.process = subprocess.Popen(
            [*words.split(), "--ddp-backend=c10d", "--distributed-backend=gloo", *flags],
            env={**environment, **({"FAULT": fault} if fault else {})},
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )

    def succeed(self) -> dict[str, Any]:
        """The last checkpoint, once all ranks have ended with the same codebook at every step."""
        output, errors = self.process.communicate(timeout=500)
        assert self.process.returncode == 0, errors[-3000:] + output[-3000:]
        records = self.records()
        assert len(records) == self.count and records[0]
        assert all(record == records[0] for record in records)
        return saved(self.out / "checkpoint_last.pt")

    def fail(self) -> list[str]:
        """What was written to standard error."""
        _, errors = self.process.communicate(timeout=500)
        assert self.process.returncode == 1
        return errors.splitlines()

    def records(self) -> list[list[dict[str, Any]]]:
        """The steps of each rank."""
        files = sorted(self.out.glob("*.jsonl"))
        return [[json.loads(line) for line in file.read_text().splitlines()] for file in files]


def saved(path: Path) -> dict[str, Any]:
    return checkpoint_utils.load_checkpoint_to_cpu(str(path))


def updates(state: dict[str, Any]) -> int:
    return int(state["optimizer_history"][-1]["num_updates"])


def distance(first: dict[str, Any], second: dict[str, Any]) -> dict[str, float]:
    """Euclidean distance between two models by their parts."""
    squares: dict[str, float] = {}
    for name, tensor in first["model"].items():
        part = name.partition(".")[0]
        square = float((tensor - second["model"][name]).double().square().sum())
        squares[part] = squares.get(part, 0.0) + square
    return {part: square**0.5 for part, square in squares.items()}


def assert_equal(one: dict[str, Any], several: dict[str, Any], start: dict[str, Any]) -> None:
    """The same within rounding, compared with the way from the start; every vector found the same code."""
    assert updates(one) == updates(several) > updates(start)
    assert torch.equal(one["model"]["quantizer.counts"], several["model"]["quantizer.counts"])
    apart, way = distance(one, several), distance(one, start)
    assert all(apart[part] <= 1e-4 * way[part] for part in apart), (apart, way)
    assert way["quantizer"] > 0


@pytest.mark.parametrize(
    "program", ["fairseq-train", pytest.param("vqnat train --threads 1", marks=pytest.mark.slow)]
)
def test_two_processes_equal_one(tiny_corpus: Path, tmp_path: Path, program: str) -> None:
    # Five batches an epoch: the second process ends each of them with a dummy batch.
    both = Ranks(2, tiny_corpus, tmp_path / "two", *EXACT, "--max-epoch=2", program=program)
    start = saved(train_student(tiny_corpus, tmp_path / "one", *EXACT, "--update-freq=2", "--max-update=1"))
    one = saved(train_student(tiny_corpus, tmp_path / "one", *EXACT, "--update-freq=2", "--max-epoch=2"))
    assert_equal(one, both.succeed(), start)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("ranks", "frequency", "tokens"),
    # Five batches; two, so that the third process never has one; one sentence a batch.
    [(3, 1, 100), (2, 2, 100), (3, 1, 200), (3, 2, 12)],
)
def test_ranks_and_accumulated_batches_equal_one(
    tiny_corpus: Path, tmp_path: Path, ranks: int, frequency: int, tokens: int
) -> None:
    flags = (*EXACT, f"--max-tokens={tokens}", "--max-epoch=3")
    alone, out = f"--update-freq={ranks * frequency}", tmp_path / "several"
    first = train_student(tiny_corpus, tmp_path / "one", *flags, alone, "--max-update=2")
    start = saved(first)
    # The codebook had its start, which depends on the order of the batches of an update.
    out.mkdir()
    shutil.copy(first, out)
    several = Ranks(ranks, tiny_corpus, out, *flags, f"--update-freq={frequency}")
    one = saved(train_student(tiny_corpus, tmp_path / "one", *flags, alone))
    assert_equal(one, several.succeed(), start)


@pytest.mark.slow
@pytest.mark.parametrize(
    "flags",
    [
        ("--bottleneck=em", "--code-revival=0.5", "--em-decay=0.5", "--update-freq=2"),
        ("--bottleneck=posterior", "--dropout=0.2", "--broadcast-buffers"),
        # Its codes are parameters, which the first updates make no use of.
        ("--bottleneck=gumbel", "--unquantized-updates=3"),
        ("--bottleneck=gradient", "--unquantized-updates=3", "--ddp-backend=legacy_ddp"),
        ("--bottleneck=fsq", "--unquantized-updates=3"),
        ("--bottleneck=rotation", "--broadcast-buffers"),
    ],
)
def test_ranks_keep_one_codebook(tiny_corpus: Path, tmp_path: Path, flags: tuple[str, ...]) -> None:
    state = Ranks(2, tiny_corpus, tmp_path, *flags, "--max-update=12").succeed()
    assert updates(state) == 12
    assert all(tensor.isfinite().all() for tensor in state["model"].values())


@pytest.mark.slow
def test_a_skipped_step_leaves_the_codebook_on_every_rank(tiny_corpus: Path, tmp_path: Path) -> None:
    ranks = Ranks(
        2, tiny_corpus, tmp_path, "--amp", "--max-update=6", "--amp-batch-retries=0", fault="inf:1:4"
    )
    assert updates(ranks.succeed()) == 6
    steps = ranks.records()[0]
    assert [step["update"] for step in steps if step["skipped"]] == [4]
    for step in steps:
        # The codebook has its start at update 2.
        assert (step["before"] == step["after"]) == (step["skipped"] or step["update"] < 1), step


@pytest.mark.slow
@pytest.mark.parametrize(
    ("fault", "reason"),
    [
        ("error:1:3", "fairseq-train: error: a sentence is damaged"),
        ("kill:1:3", "fairseq-train: error: another process of this training has ended"),
    ],
)
def test_a_rank_that_dies_ends_the_others(tiny_corpus: Path, tmp_path: Path, fault: str, reason: str) -> None:
    ranks = Ranks(2, tiny_corpus, tmp_path, "--max-update=100000", "--no-save", fault=fault)
    while len(ranks.records()) < 2 or len(ranks.records()[0]) < 3:
        assert ranks.process.poll() is None
    died = time.monotonic()
    lines = ranks.fail()
    assert time.monotonic() - died < 60
    ours = [line for line in lines if "fairseq-train: error:" in line]
    if fault.startswith("kill"):
        # torchrun may have ended the other one before it says anything.
        assert all(reason in line for line in ours) and "SIGKILL" in "".join(lines)
    else:
        assert any(reason in line for line in ours)
    # torchrun's own report is one; none of ours is.
    assert sum("Traceback (most recent call last)" in line for line in lines) <= 1


@pytest.mark.slow
def test_another_number_of_ranks_goes_on(tiny_corpus: Path, tmp_path: Path) -> None:
    flags = (*EXACT, "--max-tokens=20")
    alone, out = tmp_path / "one", tmp_path / "several"
    start = saved(train_student(tiny_corpus, tmp_path / "start", *flags, "--max-update=1"))
    # Behind 6, 12 and 15 batches of an epoch of some thirty.
    for ranks, last in ((2, 3), (3, 5), (1, 8)):
        one = train_student(tiny_corpus, alone, *flags, f"--update-freq={ranks}", f"--max-update={last}")
        several = Ranks(ranks, tiny_corpus, out, *flags, f"--max-update={last}").succeed()
        assert updates(several) == last
        assert_equal(saved(one), several, start)


# Without processes.


def test_dummies_behind_an_updates_batches_change_nothing(tiny_corpus: Path) -> None:
    states = []
    for dummies in ([], [{}], [None, {}]):
        with trainer(tiny_corpus, *EXACT) as made:
            made.train_step([*batches(made, 2), *dummies])
            states.append(model_state(made.get_model()))
    assert different(states[0], states[1]) == different(states[0], states[2]) == []


def iterator(shards: int, batches: int = 13) -> EpochBatchIterator:
    return EpochBatchIterator(
        dataset=torch.utils.data.TensorDataset(torch.arange(batches)),
        collate_fn=lambda rows: [int(row) for (row,) in rows],
        batch_sampler=[[number] for number in range(batches)],
        num_shards=shards,
    )


@pytest.mark.parametrize("before", [1, 2, 3, 4])
@pytest.mark.parametrize("after", [1, 2, 3, 4])
@pytest.mark.parametrize("taken", [0, 1, 2, 3])
def test_no_batch_is_lost_when_the_number_of_processes_changes(before: int, after: int, taken: int) -> None:
    first = iterator(before)
    batches = iter(first.next_epoch_itr(shuffle=False))
    for _ in range(taken):
        next(batches)
    second = iterator(after)
    second.load_state_dict(first.state_dict())
    position = 0 if before * taken >= 13 else before * taken
    assert second.iterations_in_epoch == position // after
    rest = list(second.next_epoch_itr(shuffle=False))
    assert rest[0] == [position // after * after]


@pytest.mark.parametrize(("before", "after"), [(4, 2), (2, 4), (4, 1), (1, 4), (3, 4)])
@pytest.mark.parametrize("taken", [0, 1, 5, 9])
def test_batches_that_are_shared_out_are_as_many_updates(before: int, after: int, taken: int) -> None:
    """With --batch-tokens an update has as much whatever the number of processes."""
    first = iterator(before, 10 * before)
    batches = iter(first.next_epoch_itr(shuffle=False))
    for _ in range(taken):
        next(batches)
    second = iterator(after, 10 * after)
    second.load_state_dict(first.state_dict())
    assert second.iterations_in_epoch == taken
    assert next(iter(second.next_epoch_itr(shuffle=False))) == [taken * after]


@pytest.mark.parametrize(("batches", "found"), [(24, 10), (6, 2), (12, 5)])
def test_batches_of_another_size_are_as_many_sentences(batches: int, found: int) -> None:
    first = iterator(1, 12)
    taken = iter(first.next_epoch_itr(shuffle=False))
    for _ in range(5):
        next(taken)
    second = iterator(1, batches)
    second.load_state_dict(first.state_dict())
    assert second.iterations_in_epoch == found


def test_a_position_without_the_number_of_processes_is_fairseqs_own() -> None:
    found = iterator(2)
    found.load_state_dict({"version": 2, "epoch": 1, "iterations_in_epoch": 3, "shuffle": False})
    assert found.iterations_in_epoch == 3


def cpu_config(**given: Any) -> DistributedTrainingConfig:
    return DistributedTrainingConfig(**{"distributed_world_size": 1, **given})


def test_processes_of_torchrun_find_each_other(monkeypatch: pytest.MonkeyPatch) -> None:
    told = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "1", "WORLD_SIZE": "3", "RANK": "2"}
    for name, value in told.items():
        monkeypatch.setenv(name, value)
    cfg = cpu_config()
    distributed.join_on_cpus(cfg)
    assert (cfg.distributed_init_method, cfg.distributed_world_size, cfg.distributed_rank) == ("env://", 3, 2)
    assert cfg.distributed_no_spawn and cfg.distributed_backend == "gloo"
    given = cpu_config(distributed_init_method="tcp://127.0.0.1:1", distributed_rank=1)
    distributed.join_on_cpus(given)
    assert given.distributed_init_method == "tcp://127.0.0.1:1" and given.distributed_rank == 1
    monkeypatch.setenv("WORLD_SIZE", "1")
    alone = cpu_config()
    distributed.join_on_cpus(alone)
    assert alone.distributed_init_method is None


@pytest.mark.parametrize(("given", "found"), [(None, 3), ("tcp://127.0.0.1:1", 1)])
def test_processes_that_see_one_gpu_each_are_not_alone(
    monkeypatch: pytest.MonkeyPatch, given: str | None, found: int
) -> None:
    """fairseq looks for others only where --distributed-world-size is more than the GPUs of a process."""
    for name in TORCHRUN:
        monkeypatch.setenv(name, "3" if name == "WORLD_SIZE" else "1")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    cfg = parse(f"DATA {STUDENT} {TRAINING}".split())
    cfg.common.cpu, cfg.distributed_training.distributed_world_size = False, 1
    cfg.distributed_training.distributed_init_method = given
    seen = []
    distributed._on_cpus(lambda cfg, main: seen.append(cfg.distributed_training.distributed_world_size))(
        cfg, print
    )
    assert seen == [found]


def test_nobody_starts_processes_on_a_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (*TORCHRUN, *distributed.SLURM):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(
        UsageError, match=r"--distributed-world-size 4: .* torchrun --nproc-per-node 4, or vqnat"
    ):
        distributed.join_on_cpus(cpu_config(distributed_world_size=4))
    # A batch script of Slurm; one task a machine, which fairseq would take for all GPUs there.
    monkeypatch.setenv("SLURM_JOB_NODELIST", "a[1-4]")
    steps: tuple[dict[str, str], ...] = ({}, {"SLURM_STEP_NUM_TASKS": "4", "SLURM_STEP_NUM_NODES": "4"})
    for step in steps:
        for name, value in step.items():
            monkeypatch.setenv(name, value)
        for port in (-1, 29500):
            with pytest.raises(UsageError, match="--distributed-world-size 4: fairseq starts processes"):
                distributed.join_on_cpus(cpu_config(distributed_world_size=4, distributed_port=port))
    monkeypatch.setenv("SLURM_STEP_NUM_NODES", "2")
    distributed.join_on_cpus(cpu_config(distributed_world_size=4, distributed_port=29500))
