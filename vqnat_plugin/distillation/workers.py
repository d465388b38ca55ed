"""Several decoding processes on one machine, and one progress bar for them all."""

import contextlib
import functools
import logging
import multiprocessing
import os
import signal
import sys
from collections.abc import Callable, Iterator
from multiprocessing.connection import Connection, wait
from typing import Any, TextIO

import torch
from tqdm import tqdm

from ..errors import CheckpointError, DataError
from ..launch import worker_environment
from .corpus import ParallelData
from .decode import decode_share
from .settings import Settings
from .workspace import Workspace


class _Lines:
    """A stream for a progress bar in a log file: each state is a line, and overwrites none."""

    def __init__(self, stream: TextIO) -> None:
        self.stream = stream

    def write(self, text: str) -> None:
        if text.strip():
            self.stream.write(text.strip() + "\n")

    def flush(self) -> None:
        self.stream.flush()


def progress_bar(total: int, done: int, disable: bool = False) -> Any:
    """A bar over sentences with the time that remains; in a log file a line every half minute."""
    bar = functools.partial(
        tqdm, total=total, initial=done, desc="distill", unit="sent", disable=disable, file=sys.stderr
    )
    if sys.stderr.isatty():
        return bar()
    return bar(file=_Lines(sys.stderr), mininterval=30, maxinterval=60, ascii=True)


def run_workers(
    settings: Settings, data: ParallelData, workspace: Workspace, report: Callable[[int], None]
) -> None:
    """Run this rank's workers until each has done its share.

    Raises:
        DataError: a worker met one, or was killed; the others are stopped.
    """
    context = multiprocessing.get_context("spawn")
    processes: dict[Connection, Any] = {}
    try:
        with _environment(worker_environment(threads=1)):
            for worker in range(settings.share.workers):
                ours, theirs = context.Pipe(duplex=False)
                process = context.Process(
                    target=_work, args=(settings, data, workspace, worker, theirs), daemon=True
                )
                process.start()
                theirs.close()
                processes[ours] = process
        while processes:
            for connection in wait(list(processes)):
                assert isinstance(connection, Connection)
                try:
                    message = connection.recv()
                except EOFError:
                    _check_exit(processes.pop(connection))
                    continue
                if isinstance(message, str):
                    raise DataError(message)
                report(message)
    finally:
        for process in processes.values():
            process.terminate()
        for process in processes.values():
            process.join()


def _work(
    settings: Settings, data: ParallelData, workspace: Workspace, worker: int, connection: Connection
) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent, which gets it too, stops us
    torch.set_num_threads(1)
    logging.getLogger("fairseq").setLevel(logging.WARNING)
    # Once the parent is gone, however it went, nobody reads and the next report ends this process.
    with contextlib.suppress(BrokenPipeError):
        try:
            decode_share(settings, data, workspace, settings.share.of_worker(worker), connection.send)
        except BrokenPipeError:
            raise
        except (DataError, CheckpointError, OSError) as error:
            connection.send(str(error))


def _check_exit(process: Any) -> None:
    process.join()
    if process.exitcode:
        how = f"was killed by signal {-process.exitcode}" if process.exitcode < 0 else "failed, see above"
        raise DataError(
            f"a worker {how}; finished chunks are kept: run the same command again, with fewer --workers if "
            "memory was short"
        )


@contextlib.contextmanager
def _environment(values: dict[str, str]) -> Iterator[None]:
    before = dict(os.environ)
    os.environ.update(values)
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)
