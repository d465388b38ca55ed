"""Training and measuring the cells of a grid, several side by side, resumable at any moment."""

import math
import os
import queue
import subprocess
import threading
import time
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Protocol

import torch

from ..errors import DataError
from ..evaluation.training_log import TrainingLog
from ..files import write_json
from ..launch import available_cores, worker_environment
from ..reading import read_json, read_json_if_there
from .grid import Cell, Comparison, Grid
from .stages import Stages

TRAIN, MEASURE = "train", "measure"
# In the folder of each cell: what it is.
CELL = "cell.json"
# Characters of what a command said last.
LONGEST_LINE = 300


class GridKind(Protocol):
    """How cells of one kind are trained and measured; `KINDS` in `grid_report` lists the kinds.

    Attributes:
        result: name of the JSON file that measuring leaves in a cell's folder.
        jobs: how many cells are run side by side, unless told otherwise.
        paths: what the commands read, absolute, by the names that stand for it in records of stages.
    """

    result: str
    jobs: int
    paths: dict[str, Path]

    def train_command(self, cell: Cell, folder: Path, threads: int, gpu: bool) -> list[str]:
        """The training of a cell, checkpoints in `folder/checkpoints`, by so many threads or on a GPU."""

    def measure_command(self, cell: Cell, folder: Path) -> list[str]:
        """What measures the end of the training of a cell in a folder, and writes `result` there."""

    def figures(self, measured: dict[str, Any]) -> list[Any]:
        """Those in the content of `result` that the report shows; each a number, or None where it may be."""


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
        """Whether a cell has been trained and measured, as it would be now."""
        folder, stages = self.folder(cell), self.stages(cell)
        begun = read_json_if_there(folder / CELL)
        if begun is None:
            return False
        record = _cell_record(folder, begun)
        train = self.kind.train_command(cell, folder, record["threads"], record["gpu"])
        measure = self.kind.measure_command(cell, folder)
        return stages.is_done(TRAIN, train) and stages.is_done(MEASURE, measure)

    def is_done_otherwise(self, cell: Cell) -> bool:
        """Whether a cell has been trained and measured, but by other commands than now."""
        stages = self.stages(cell)
        return stages.is_done(TRAIN) and stages.is_done(MEASURE) and not self.is_done(cell)

    def log(self, cell: Cell) -> Path:
        """What the training of a cell printed."""
        return self.stages(cell).log(TRAIN)

    def logs(self, comparison: Comparison) -> dict[str, TrainingLog]:
        """The training of the first seed of each row that is done, by the row's name."""
        first = {row.name: row.cells[0] for row in comparison.rows if self.is_done(row.cells[0])}
        return {name: TrainingLog(self.log(cell)) for name, cell in first.items() if self.log(cell).is_file()}

    def read(self, cell: Cell) -> dict[str, Any] | None:
        """What was measured of a cell; None if it is not done.

        Its `seconds` are those of the training; None if that was interrupted, since what was redone would
        count twice.
        """
        if not self.is_done(cell):
            return None
        folder, seconds = self.folder(cell), round(self.stages(cell).seconds()[TRAIN])
        interrupted = _cell_record(folder, read_json(folder / CELL))["interrupted"]
        return {**self._measured(folder / self.kind.result), "seconds": None if interrupted else seconds}

    def _measured(self, path: Path) -> dict[str, Any]:
        """What measuring has left.

        Raises:
            DataError: a figure is missing, or none.
        """
        measured = read_json(path)
        try:
            sound = all(value is None or _is_number(value) for value in self.kind.figures(measured))
        except (AttributeError, KeyError, TypeError):
            sound = False
        if not sound:
            raise DataError(f"{path}: lacks a figure, or has one that is no number; {_remove(path.parent)}")
        return measured


def _cell_record(folder: Path, content: dict[str, Any]) -> dict[str, Any]:
    """The content of a cell's own file; `DataError` if it is none."""
    record = {"gpu": False, "keep": False, **content}
    threads, *switches = (record.get(name) for name in ("threads", "interrupted", "gpu", "keep"))
    if type(threads) is not int or threads < 1 or any(type(each) is not bool for each in switches):
        raise DataError(f"{folder / CELL}: is no record of a cell; {_remove(folder)}")
    return record


def _remove(folder: Path) -> str:
    return f"remove {folder} and run the same command again"


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and not math.isnan(value)


class Runner:
    """Runs cells; a cell that is done stays done, one that was killed goes on from its last checkpoint."""

    def __init__(self, grid_run: GridRun, threads: int = 1, jobs: int = 1) -> None:
        """
        Args:
            grid_run: see there.
            threads: of each training. One that has begun keeps its number, on which last digits depend.
            jobs: how many cells are run side by side. More than one share out the GPUs; one has them all.
        """
        self.grid_run = grid_run
        self.threads, self.gpu = threads, torch.cuda.is_available()
        # What the environment of each cell that runs has to say.
        self._shares: queue.SimpleQueue[dict[str, str]] = queue.SimpleQueue()
        for share in _shares_of_gpus(jobs):
            self._shares.put(share)
        self._processes: list[subprocess.Popen[bytes]] = []
        self._lock = threading.Lock()
        self._stopped = False

    def run(self, cell: Cell) -> None:
        """Train and measure one cell.

        Raises:
            DataError: a command failed; the message names its log. Or the cell was done by another command,
                or has begun on the other kind of device.
        """
        folder, kind, stages = self.grid_run.folder(cell), self.grid_run.kind, self.grid_run.stages(cell)
        record = self._begin(cell, stages)
        threads = record["threads"]
        kept = folder / "checkpoints" / "checkpoint_last.pt"
        if stages.is_done(TRAIN) and not stages.is_done(MEASURE) and not kept.exists():
            # What is to be measured anew went when it was measured.
            stages.redo(TRAIN)
        if record["gpu"] != self.gpu and not stages.is_done(TRAIN):
            # The batch, and with it the result, would be another one.
            began = "a GPU" if record["gpu"] else "the CPU"
            raise DataError(f"{folder}: began on {began}; go on there, or {_remove(folder)}")
        share = self._shares.get()
        try:
            environment = {**worker_environment(threads), **share}
            more: dict[str, Any] = {"environment": environment, "started": self._started}
            stages.run(TRAIN, kind.train_command(cell, folder, threads, record["gpu"]), quiet=True, **more)
            stages.run(MEASURE, kind.measure_command(cell, folder), quiet=True, **more)
        finally:
            self._shares.put(share)
        checkpoints = folder / "checkpoints"
        if not record["keep"] and not checkpoints.is_symlink():
            for checkpoint in checkpoints.glob("checkpoint*.pt"):
                checkpoint.unlink()

    def _begin(self, cell: Cell, stages: Stages) -> dict[str, Any]:
        """Note what a cell is, and whether its training is not the first attempt; its record."""
        path = self.grid_run.folder(cell) / CELL
        before = read_json_if_there(path)
        if before is None:
            record = {**asdict(cell), "threads": self.threads, "gpu": self.gpu, "interrupted": False}
        else:
            record = _cell_record(path.parent, before)
            record["interrupted"] |= not stages.is_done(TRAIN)
        # Kept once, they stay.
        record["keep"] = record.get("keep", False) or self.grid_run.keep_checkpoints
        if record != before:
            write_json(path, record)
        return record

    def _started(self, process: "subprocess.Popen[bytes]") -> None:
        with self._lock:
            self._processes.append(process)
            if self._stopped:
                process.terminate()

    def stop(self) -> None:
        """End what is running, and let nothing new begin."""
        with self._lock:
            self._stopped = True
            for process in self._processes:
                # Does nothing to one that has ended.
                process.terminate()


def _shares_of_gpus(jobs: int) -> list[dict[str, str]]:
    """Which GPU each of the cells has that run side by side: all would take the first. One has them all."""
    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if jobs == 1 or not count:
        return [{}] * jobs
    given = os.environ.get("CUDA_VISIBLE_DEVICES")
    gpus = given.split(",")[:count] if given else [str(number) for number in range(count)]
    return [{"CUDA_VISIBLE_DEVICES": gpus[number % len(gpus)]} for number in range(jobs)]


def run_grid(grid: Grid, grid_run: GridRun, jobs: int) -> int:
    """Run all cells that are not done, `jobs` side by side; says on stdout how far it is.

    Returns:
        The number of cells that failed; the others are run all the same.
    """
    runner = Runner(grid_run, max(1, available_cores() // jobs), jobs)
    cells = grid.cells()
    pending = [cell for cell in cells if not _is_done(grid_run, cell)]
    _say(f"{len(cells)} trainings, {len(cells) - len(pending)} done before")
    failed, number, start = 0, 0, time.monotonic()
    with ThreadPoolExecutor(jobs) as pool:
        # Those that are done are not trained again, but it shows if another command did them.
        futures = {pool.submit(runner.run, cell): cell for cell in cells}
        try:
            for future in as_completed(futures):
                cell, trouble = futures[future], future.exception()
                if trouble is not None and not isinstance(trouble, DataError):
                    raise trouble
                failed += trouble is not None
                state = (
                    f"FAILED ({trouble}){_last_words(grid_run, cell, str(trouble))}" if trouble else "done"
                )
                if cell in pending:
                    number += 1
                    minutes = (time.monotonic() - start) / 60
                    left = minutes / number * (len(pending) - number)
                    state += f"; {minutes:.0f} minutes, about {left:.0f} to go"
                    _say(f"{number}/{len(pending)} {cell.name} {state}")
                elif trouble:
                    _say(f"{cell.name} {state}")
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            runner.stop()
            raise
    return failed


def _is_done(grid_run: GridRun, cell: Cell) -> bool:
    try:
        return grid_run.is_done(cell)
    except DataError:
        # Running it says what is damaged; the others are run all the same.
        return False


def _last_words(grid_run: GridRun, cell: Cell, trouble: str) -> str:
    """The last line of the log that a message names: mostly the error."""
    named = [log for name in (MEASURE, TRAIN) if str(log := grid_run.stages(cell).log(name)) in trouble]
    logs = [log for log in named if log.is_file()]
    lines = logs[0].read_text(errors="replace").split("\n") if logs else []
    return next((f": {line.strip()[:LONGEST_LINE]}" for line in reversed(lines) if line.strip()), "")


def _say(text: str) -> None:
    print(f"ablate: {text}", flush=True)
