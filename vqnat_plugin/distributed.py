"""Data-parallel training as GPUs run it, torchrun and DistributedDataParallel, on CPUs too.

fairseq takes both for a matter of GPUs: it counts devices that are not there, and names them to a module that
is on none. `compat` installs what is here.
"""

import functools
import os
from collections.abc import Callable
from typing import Any

import torch
from fairseq.data.iterators import EpochBatchIterator
from fairseq.distributed import utils as distributed_utils
from fairseq.models import distributed_fairseq_model
from fairseq.trainer import Trainer
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from .errors import UsageError
from .launch import by_torchrun

# Of what Slurm's srun tells them, how many tasks there are, and on how many machines. fairseq makes use of it
# itself, but takes a task for all GPUs of a machine where it is the only one there.
SLURM = ("SLURM_STEP_NUM_TASKS", "SLURM_STEP_NUM_NODES")


def _on_cpus(call_main: Callable[..., Any]) -> Callable[..., Any]:
    """Before fairseq finds out who the other processes are, do so for those without GPUs."""

    @functools.wraps(call_main)
    def call_main_anywhere(cfg: Any, main: Callable[..., Any], **kwargs: Any) -> Any:
        if not cfg.common.tpu and (cfg.common.cpu or not torch.cuda.is_available()):
            join_on_cpus(cfg.distributed_training)
        elif (
            not cfg.common.tpu and cfg.distributed_training.distributed_init_method is None and by_torchrun()
        ):
            # By default fairseq counts the GPUs that this process sees, and with one it would train alone.
            cfg.distributed_training.distributed_world_size = int(os.environ["WORLD_SIZE"])
        return call_main(cfg, main, **kwargs)

    return call_main_anywhere


def join_on_cpus(cfg: Any) -> None:
    """Fill in what fairseq's options on distributed training leave open, for a process without a GPU.

    Raises:
        UsageError: there are to be several processes, but nothing has started them.
    """
    if cfg.distributed_backend == "nccl":
        # fairseq's default, which knows GPUs only.
        cfg.distributed_backend = "gloo"
    if cfg.distributed_init_method is not None:
        return
    if by_torchrun() and os.environ["WORLD_SIZE"] != "1":
        cfg.distributed_init_method = "env://"
        cfg.distributed_world_size = int(os.environ["WORLD_SIZE"])
        cfg.distributed_rank = int(os.environ["RANK"])
        cfg.distributed_no_spawn = True
        cfg.device_id = 0
        return
    count, (tasks, nodes) = cfg.distributed_world_size, (int(os.environ.get(name, 1)) for name in SLURM)
    started = tasks > nodes
    # With a port fairseq takes it that each process knows its part.
    in_slurm = any(name in os.environ for name in ("SLURM_STEP_NODELIST", "SLURM_JOB_NODELIST"))
    if count > 1 and (cfg.distributed_port <= 0 or (in_slurm and not started)):
        raise UsageError(
            f"--distributed-world-size {count}: fairseq starts processes on GPUs only; on a CPU use torchrun "
            f"--nproc-per-node {count}, or vqnat train --workers {count}; or say 1"
        )


class DataParallel(DistributedDataParallel):
    """DistributedDataParallel as fairseq makes it, also of a module on the CPU."""

    def __init__(
        self,
        module: nn.Module,
        device_ids: Any,
        output_device: Any,
        find_unused_parameters: bool,
        **options: Any,
    ) -> None:
        if next(module.parameters()).device.type == "cpu":
            device_ids = output_device = None
        super().__init__(
            module, device_ids, output_device, find_unused_parameters=find_unused_parameters, **options
        )


def _without_dummies(train_step: Callable[..., Any]) -> Callable[..., Any]:
    """Leave out what fills up the last update of an epoch where a process has fewer batches.

    Where the last of several batches is such a dummy, fairseq takes all of them for dummies: their gradients
    count, but not their tokens, by which it divides. One dummy stays where a process has nothing else, since
    gradients are reduced in its backward pass.
    """

    @functools.wraps(train_step)
    def train_step_of_batches(self: Trainer, samples: list[Any], *args: Any, **kwargs: Any) -> Any:
        return train_step(self, [each for each in samples if each] or samples[:1], *args, **kwargs)

    return train_step_of_batches


def _with_shards(state_dict: Callable[..., dict[str, Any]]) -> Callable[..., dict[str, Any]]:
    @functools.wraps(state_dict)
    def state_dict_with_shards(self: EpochBatchIterator) -> dict[str, Any]:
        return {**state_dict(self), "shards": self.num_shards, "batches": len(self.frozen_batches)}

    return state_dict_with_shards


def _for_other_shards(load_state_dict: Callable[..., None]) -> Callable[..., None]:
    """Let a training go on in the middle of an epoch with another number of processes, or of batches.

    fairseq keeps how many batches each process has had, and gives the new ones as many: fewer processes see
    sentences twice, and more of them leave sentences out. Where batches are shared out among processes, or
    have another size, an epoch has more or fewer of them now, and the same share of them is done. Where the
    place falls between two updates of the new processes, it is the one before.
    """

    @functools.wraps(load_state_dict)
    def load_state_dict_of_others(self: EpochBatchIterator, state: dict[str, Any]) -> None:
        done, shards = state.get("iterations_in_epoch", 0), state.get("shards", self.num_shards)
        now = len(self.frozen_batches)
        done = done * shards * now // (state.get("batches", now) * self.num_shards)
        load_state_dict(self, {**state, "iterations_in_epoch": done})

    return load_state_dict_of_others


def install() -> None:
    """Teach fairseq."""
    distributed_utils.call_main = _on_cpus(distributed_utils.call_main)
    distributed_fairseq_model.DistributedDataParallel = DataParallel
    Trainer.train_step = _without_dummies(Trainer.train_step)
    EpochBatchIterator.state_dict = _with_shards(EpochBatchIterator.state_dict)
    EpochBatchIterator.load_state_dict = _for_other_shards(EpochBatchIterator.load_state_dict)
