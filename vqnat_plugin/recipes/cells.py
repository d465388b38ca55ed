"""Training and measuring the cells of a grid, several side by side, resumable at any moment."""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Protocol

from ..errors import DataError
from ..files import read_json, read_json_if_there, write_json
from ..launch import available_cores, worker_environment
from .grid import Cell, Grid
from .stages import Stages

TRAIN, MEASURE = "train", "measure"
TERMINATED = 128 + signal.SIGTERM


class GridKind(Protocol):
    """All that differs from one kind of grid to another; `KINDS` in `grid_report` lists them.

    Attributes:
        result: name of the JSON file that measuring leaves in a cell's folder.
        jobs: how many cells are run side by side, unless told otherwise.
        paths: what the commands read, by the names that stand for it in records of stages.
    """

    result: str
    jobs: int
    paths: dict[str, Path]

    def train_command(self, cell: Cell, folder: Path, threads: int) -> list[str]:
        """The training of a cell, with its checkpoints in `folder/checkpoints`, by so many threads."""
        ...

    def measure_command(self, folder: Path) -> list[str]:
        """What measures the trained cell in a folder, and writes `result` there."""
        ...

    def report(
        self, grid: Grid, grid_run: "GridRun", title: str, commands: list[str], stages: dict[str, float]
    ) -> dict[str, Any]:
        """The content of `report.json`; draws what needs more than that, curves of trainings, beside it."""
        ...

    @staticmethod
    def table(report: dict[str, Any]) -> str:
        """The figures of a report, for the terminal."""
        ...

    @staticmethod
    def render(report: dict[str, Any], out: Path) -> str:
        """`report.md`, with the images in `out`; first draws those that the report suffices for."""
        ...


@dataclass(frozen=True)
class GridRun:
    """The cells of a grid on disk.

    Attributes:
        out: folder to write to; cells go to `out/cells`.
        kind: how cells are trained and measured.
        keep_checkpoints: whether they stay once a cell has been measured.
    """

    out: Path
    kind: GridKind
    keep_checkpoints: bool = False

    def folder(self, cell: Cell) -> Path:
        """Where everything of a cell is."""
        return Path(os.path.abspath(self.out)) / "cells" / cell.name

    def stages(self, cell: Cell) -> Stages:
        """The two stages of a cell, `train` and `measure`."""
        return Stages(self.folder(cell), **self.kind.paths, GRID=self.out)

    def is_done(self, cell: Cell) -> bool:
        """Whether a cell has been trained and measured."""
        stages = self.stages(cell)
        return stages.is_done(TRAIN) and stages.is_done(MEASURE)

    def log(self, cell: Cell) -> Path:
        """What the training of a cell printed."""
        return self.stages(cell).log(TRAIN)

    def read(self, cell: Cell) -> dict[str, Any] | None:
        """What was measured of a cell; None if it is not done.

        Its `seconds` are those of the training; None if that was interrupted, since what was redone would
        count twice.
        """
        if not self.is_done(cell):
            return None
        seconds = self.stages(cell).seconds()[TRAIN]
        if read_json(self.folder(cell) / "cell.json")["interrupted"]:
            return {**read_json(self.folder(cell) / self.kind.result), "seconds": None}
        return {**read_json(self.folder(cell) / self.kind.result), "seconds": round(seconds)}


class Runner:
    """Runs cells; a cell that is done stays done, one that was killed goes on from its last checkpoint."""

    def __init__(self, grid_run: GridRun, threads: int = 1) -> None:
        """
        Args:
            grid_run: see there.
            threads: of each training. One that has begun keeps its number, on which last digits depend.
        """
        self.grid_run = grid_run
        self.threads = threads
        self.running: set[subprocess.Popen[bytes]] = set()
        self.lock = threading.Lock()
        self.stopped = False

    def run(self, cell: Cell) -> None:
        """Train and measure one cell.

        Raises:
            DataError: a command failed; the message names its log. Or the cell was done by another command.
        """
        folder, kind = self.grid_run.folder(cell), self.grid_run.kind
        threads = self._begin(cell)
        self._stage(cell, TRAIN, kind.train_command(cell, folder, threads), threads)
        self._stage(cell, MEASURE, kind.measure_command(folder), threads)
        if not self.grid_run.keep_checkpoints:
            for checkpoint in (folder / "checkpoints").glob("*.pt"):
                checkpoint.unlink()

    def _begin(self, cell: Cell) -> int:
        """Note what a cell is, and whether its training is not the first attempt; its number of threads."""
        path = self.grid_run.folder(cell) / "cell.json"
        before = read_json_if_there(path)
        if before is None:
            write_json(path, {**asdict(cell), "threads": self.threads, "interrupted": False})
            return self.threads
        if not before["interrupted"] and not self.grid_run.stages(cell).is_done(TRAIN):
            write_json(path, {**before, "interrupted": True})
        return int(before["threads"])

    def _stage(self, cell: Cell, name: str, command: list[str], threads: int) -> None:
        own: list[subprocess.Popen[bytes]] = []

        def started(process: "subprocess.Popen[bytes]") -> None:
            with self.lock:
                own.append(process)
                self.running.add(process)
                if self.stopped:
                    process.terminate()

        try:
            self.grid_run.stages(cell).run(
                name, command, environment=worker_environment(threads), quiet=True, started=started
            )
        finally:
            with self.lock:
                self.running.difference_update(own)

    def stop(self) -> None:
        """End what is running, and let nothing new begin."""
        with self.lock:
            self.stopped = True
            for process in self.running:
                process.terminate()


def run_grid(grid: Grid, grid_run: GridRun, jobs: int) -> int:
    """Run all cells that are not done, `jobs` side by side; says on stdout how far it is.

    Returns:
        The number of cells that failed; the others are run all the same.
    """
    runner = Runner(grid_run, threads=max(1, available_cores() // jobs))
    cells = grid.cells()
    pending = [cell for cell in cells if not grid_run.is_done(cell)]
    _say(f"{len(cells)} trainings, {len(cells) - len(pending)} done before")
    failed, start = 0, time.monotonic()
    for cell in cells:
        # Trains nothing, but notices that it was another command that did it.
        if cell not in pending and (trouble := _trouble(runner, cell)):
            failed += 1
            _say(f"{cell.name} FAILED ({trouble})")
    with ThreadPoolExecutor(jobs) as pool, _ended_by_sigterm():
        futures = {pool.submit(_trouble, runner, cell): cell for cell in pending}
        try:
            for number, future in enumerate(as_completed(futures), start=1):
                trouble = future.result()
                failed += trouble is not None
                state = "done" if trouble is None else f"FAILED ({trouble})"
                minutes = (time.monotonic() - start) / 60
                left = minutes / number * (len(pending) - number)
                _say(
                    f"{number}/{len(pending)} {futures[future].name} {state}; {minutes:.0f} minutes, about "
                    f"{left:.0f} to go"
                )
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            runner.stop()
            raise
    return failed


def _trouble(runner: Runner, cell: Cell) -> DataError | None:
    try:
        runner.run(cell)
    except DataError as error:
        return error
    return None


def _say(text: str) -> None:
    print(f"ablate: {text}", flush=True)


@contextmanager
def _ended_by_sigterm() -> Iterator[None]:
    """Lets SIGTERM raise, so that what is running is ended too."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, lambda *_: sys.exit(TERMINATED))
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
