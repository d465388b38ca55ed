from pathlib import Path

import pytest
from distilling import options

from vqnat_plugin.distillation.settings import Share, share_from_environment
from vqnat_plugin.errors import UsageError

TORCHRUN = {"WORLD_SIZE": "4", "RANK": "3", "LOCAL_RANK": "1"}
SLURM = {"SLURM_STEP_NUM_TASKS": "8", "SLURM_PROCID": "5", "SLURM_LOCALID": "2"}


def test_alone() -> None:
    assert share_from_environment({}) == Share(rank=0, world_size=1, workers=1, local_rank=0)


def test_torchrun() -> None:
    assert share_from_environment(TORCHRUN) == Share(rank=3, world_size=4, local_rank=1)


def test_a_batch_script_of_slurm_does_not_say_which_local_rank() -> None:
    environment = {"SLURM_PROCID": "0", "SLURM_NTASKS": "8", "SLURM_LOCALID": "0"}
    shares = [share_from_environment(environment, rank, 8) for rank in range(8)]
    assert [share.local_rank for share in shares] == list(range(8))


def test_slurm() -> None:
    assert share_from_environment(SLURM) == Share(rank=5, world_size=8, local_rank=2)


def test_torchrun_under_slurm_counts() -> None:
    assert share_from_environment(SLURM | TORCHRUN) == Share(rank=3, world_size=4, local_rank=1)


def test_slurm_without_srun_is_one_process() -> None:
    # In a shell of salloc, and in a batch script itself.
    for environment in ({"SLURM_NTASKS": "8"}, {"SLURM_NTASKS": "8", "SLURM_PROCID": "0"}):
        assert share_from_environment(environment).world_size == 1


def test_flags_come_before_the_environment() -> None:
    assert share_from_environment(TORCHRUN, rank=0, world_size=2).world_size == 2
    assert share_from_environment({}, rank=1, world_size=2) == Share(rank=1, world_size=2, local_rank=1)


@pytest.mark.parametrize(
    ("rank", "world_size", "message"),
    [
        (1, None, "add --distributed-world-size"),
        (None, 3, "add --distributed-rank"),
        (3, 3, "--distributed-rank 3: must be from 0 to 2"),
    ],
)
def test_half_a_share_is_refused(rank: int | None, world_size: int | None, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        share_from_environment({}, rank, world_size)


def test_workers_of_all_ranks_share_without_overlap() -> None:
    ranks = [Share(rank=rank, world_size=3, workers=2, local_rank=rank) for rank in range(3)]
    workers = [rank.of_worker(worker) for rank in ranks for worker in range(2)]
    assert [worker.local_rank for worker in workers] == list(range(6))
    for shares in (ranks, workers):
        assert sorted(chunk for share in shares for chunk in share.chunks(20)) == list(range(20))
    assert ranks[1].chunks(20) == sorted(workers[2].chunks(20) + workers[3].chunks(20))


def test_ranks_may_have_different_numbers_of_workers() -> None:
    ranks = [Share(rank=rank, world_size=3, workers=count) for rank, count in enumerate((2, 3, 1))]
    shares = [rank.of_worker(worker) for rank in ranks for worker in range(rank.workers)]
    assert sorted(chunk for share in shares for chunk in share.chunks(24)) == list(range(24))


def test_environment_without_numbers_is_refused() -> None:
    with pytest.raises(UsageError, match="RANK=one in the environment: needs a whole number"):
        share_from_environment({"WORLD_SIZE": "2", "RANK": "one"})


@pytest.mark.parametrize(
    ("gpus", "cpu", "workers", "precision"),
    [(0, False, 6, "fp32"), (2, False, 2, "fp16"), (2, True, 6, "fp32")],
)
def test_what_depends_on_the_machine(gpus: int, cpu: bool, workers: int, precision: str) -> None:
    found = options(workers=0, mixed_precision=True, cpu=cpu).on(gpus, cores=6)
    assert (found.workers, found.precision) == (workers, precision)
    assert options(workers=3, bf16=True, cpu=cpu).on(gpus, cores=6) == options(workers=3, bf16=True, cpu=cpu)


def test_more_words_than_are_allowed_are_not_asked_for(tmp_path: Path) -> None:
    (tmp_path / "t.pt").touch()
    for chosen in ({"min_len": 30}, {"max_len_a": 0.0, "max_len_b": 0}):
        with pytest.raises(UsageError, match=r"--min-len \d+: needs at most \d+, which --max-len-a"):
            options(teacher=str(tmp_path / "t.pt"), **chosen).check()
    options(teacher=str(tmp_path / "t.pt"), min_len=24).check()
