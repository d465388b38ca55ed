"""Work in a fork of this process: it may be killed at any touch of a folder, or find no room on the disk."""

import io
import logging
import os
import resource
import signal
import sys
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from fairseq import checkpoint_utils
from fairseq_cli import train

# What is reported to Python's audit hooks when files and folders are opened, made, moved and deleted.
TOUCHES = {"open", "os.mkdir", "os.rename", "os.remove", "os.rmdir", "shutil.copyfile"}


@dataclass
class Ended:
    """How it ended.

    Attributes:
        status: the exit status, or minus the signal.
        output: standard output and standard error.
        touches: of the folder.
    """

    status: int
    output: str
    touches: int

    @property
    def errors(self) -> list[str]:
        """Lines that say what is wrong, as commands do; a traceback fails the test."""
        assert "Traceback" not in self.output, self.output
        return [line for line in self.output.splitlines() if ": error: " in line]


def forked(
    work: Callable[[], object], folder: Path, kill_at: int | None = None, largest_file: int | None = None
) -> Ended:
    """Do some work in a process of its own, which has everything that this one has imported.

    Args:
        work: what is done.
        folder: whose touches are counted.
        kill_at: the number of the touch at which the process is killed.
        largest_file: bytes; at more, the system refuses to write.
    """
    reading, writing = os.pipe()
    child = os.fork()
    if not child:
        try:
            os.dup2(writing, 1)
            os.dup2(writing, 2)
            os.close(reading)
            os._exit(_in_child(work, folder, kill_at, largest_file))
        finally:
            os._exit(70)
    os.close(writing)
    with open(reading, errors="replace") as pipe:
        output, _, touches = pipe.read().partition("\ntouches: ")
    _, status = os.waitpid(child, 0)
    return Ended(os.waitstatus_to_exitcode(status), output, int(touches or 0))


def _in_child(work: Callable[[], object], folder: Path, kill_at: int | None, largest_file: int | None) -> int:
    sys.stdout = sys.stderr = io.TextIOWrapper(io.FileIO(1, "w", closefd=False), line_buffering=True)
    logging.basicConfig(force=True, level=logging.INFO, stream=sys.stdout)
    # More threads than one do not outlive a fork.
    torch.set_num_threads(1)
    # What fairseq keeps from one training to the next.
    for function in (checkpoint_utils.save_checkpoint, train.should_stop_early):
        for name in ("best", "num_runs"):
            vars(function).pop(name, None)
    if largest_file is not None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (largest_file, largest_file))
    touches = 0

    def count(event: str, arguments: tuple[Any, ...]) -> None:
        nonlocal touches
        if event in TOUCHES and any(str(each).startswith(str(folder)) for each in arguments[:2]):
            touches += 1
            if touches == kill_at:
                os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(count)
    try:
        work()
        status = 0
    except SystemExit as ended:
        status = ended.code if isinstance(ended.code, int) else 1
    except BaseException:
        traceback.print_exc()
        status = 1
    print(f"\ntouches: {touches}", flush=True)
    return status
