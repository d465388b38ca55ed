"""A `--user-dir` for trainings of several processes: the plugin, watched, and faults at a chosen update.

WATCH names a folder: process R appends to `R.jsonl`, for each step of the optimizer, the number of updates
before it, whether it was skipped, and a digest of the codebook's state. FAULT is `KIND:RANK:UPDATE`; KIND is
`kill` or `error` before that update, or `inf`: gradients of one attempt at it, before they are reduced.
"""

import hashlib
import json
import os
import signal
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

import vqnat_plugin
from vqnat_plugin import compat
from vqnat_plugin.errors import DataError
from vqnat_plugin.tasks.em_task import EMTask

assert vqnat_plugin  # importing it registers the model with fairseq
kind, fault_rank, fault_update = os.environ.get("FAULT", ":-1:-1").split(":")
train_step, optimizer_step = EMTask.train_step, EMTask.optimizer_step


def inner(model: Any) -> Any:
    while isinstance(getattr(model, "module", None), torch.nn.Module):
        model = model.module
    return model


def digest(model: Any) -> str:
    state = inner(model).quantizer.state_dict()
    return hashlib.sha256(b"".join(state[name].numpy().tobytes() for name in sorted(state))).hexdigest()


def to_infinity(gradient: Tensor) -> Tensor:
    return torch.full_like(gradient, torch.inf)


def faulty_step(
    self: EMTask,
    sample: Any,
    model: Any,
    criterion: Any,
    optimizer: Any,
    update_num: int,
    *rest: Any,
    **more: Any,
) -> Any:
    global kind
    ill = os.environ["RANK"] == fault_rank and update_num == int(fault_update)
    hooks = []
    if ill and kind == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    if ill and kind == "error":
        raise DataError("a sentence is damaged")
    if ill and kind == "inf":
        hooks = [each.register_hook(to_infinity) for each in model.parameters()]
        kind = ""
    found = train_step(self, sample, model, criterion, optimizer, update_num, *rest, **more)
    for hook in hooks:
        hook.remove()
    return found


def watched_step(self: EMTask, optimizer: Any, model: Any, update_num: int) -> None:
    before = digest(model)
    optimizer_step(self, optimizer, model, update_num)
    skipped = compat.step_was_skipped(optimizer)
    line = {"update": update_num, "skipped": skipped, "before": before, "after": digest(model)}
    with Path(os.environ["WATCH"], os.environ["RANK"] + ".jsonl").open("a") as file:
        file.write(json.dumps(line) + "\n")


EMTask.train_step, EMTask.optimizer_step = faulty_step, watched_step  # type: ignore[method-assign]
