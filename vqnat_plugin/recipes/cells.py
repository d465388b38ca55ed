"""Training and measuring the cells of a grid, several side by side, resumable at any moment."""

import json
import os
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import asdict, dataclass
from pathlib import Path

import torch

from ..errors import DataError
from ..files import write_json
from ..launch import PLUGIN, available_cores, worker_environment, worker_process
from .grid import Cell, Grid

DONE = "done.json"
# In a grid's flags, the path of the teacher's checkpoint.
TEACHER = "TEACHER"


@dataclass(frozen=True)
class Settings:
    """What a grid is run on.

    Attributes:
        raw, distilled: binarised data; the test set of `raw` is decoded.
        teacher: checkpoint.
        references: raw text of the test set.
        out: folder to write to; cells go to `out/cells`.
        candidates: latent candidates that decoding takes.
        detokenizer: fairseq's name of one.
        keep_checkpoints: whether they stay once a cell has been measured.
    """

    raw: Path
    distilled: Path
    teacher: Path
    references: tuple[Path, ...]
    out: Path
    candidates: int = 4
    detokenizer: str = "moses"
    keep_checkpoints: bool = False

    def folder(self, cell: Cell) -> Path:
        """Where everything of a cell is."""
        return self.out / "cells" / cell.name


def train_command(cell: Cell, settings: Settings) -> list[str]:
    """The training of a cell, as one process."""
    data = settings.raw if cell.data == "raw" else settings.distilled
    flags = [str(settings.teacher) if flag == TEACHER else flag for flag in cell.flags]
    fixed = ["--save-dir", str(settings.folder(cell) / "checkpoints"), "--seed", str(cell.seed)]
    fixed += ["--log-format", "json", "--no-epoch-checkpoints"]
    device = [] if torch.cuda.is_available() else ["--cpu"]
    return worker_process([str(data), "--user-dir", PLUGIN, *flags, *fixed, *device])


def measure_command(cell: Cell, settings: Settings) -> list[str]:
    """Decoding and scores of a trained cell, at its end: the best checkpoint may be older than a collapse."""
    return [
        *(sys.executable, "-m", "vqnat_plugin.commands.diagnose"),
        str(settings.folder(cell) / "checkpoints" / "checkpoint_last.pt"),
        *("--data", str(settings.raw), "--teacher", str(settings.teacher)),
        *("--references", *map(str, settings.references)),
        *("--candidates", str(settings.candidates), "--detokenizer", settings.detokenizer),
        *("--out", str(settings.folder(cell))),
    ]


class Runner:
    """Runs cells; a cell that is done stays done, one that was killed goes on from its last checkpoint."""

    def __init__(self, settings: Settings, threads: int = 1) -> None:
        """
        Args:
            settings: see there.
            threads: of each process.
        """
        self.settings = settings
        self.environment = worker_environment(threads)
        self.running: set[subprocess.Popen[bytes]] = set()
        self.lock = threading.Lock()
        self.stopped = False

    def is_done(self, cell: Cell) -> bool:
        """Whether a cell has been trained and measured."""
        return (self.settings.folder(cell) / DONE).is_file()

    def run(self, cell: Cell) -> None:
        """Train and measure one cell.

        Raises:
            DataError: a command failed; the message names its log.
        """
        folder = self.settings.folder(cell)
        folder.mkdir(parents=True, exist_ok=True)
        resumed = (folder / "checkpoints" / "checkpoint_last.pt").is_file()
        write_json(folder / "cell.json", asdict(cell))
        start = time.monotonic()
        self._call(train_command(cell, self.settings), folder / "train.log")
        seconds = time.monotonic() - start
        self._call(measure_command(cell, self.settings), folder / "measure.log")
        # The seconds of a training in several parts would mean nothing.
        write_json(folder / DONE, {"seconds": None if resumed else round(seconds)})
        if not self.settings.keep_checkpoints:
            for checkpoint in (folder / "checkpoints").glob("*.pt"):
                checkpoint.unlink()

    def _call(self, command: list[str], log: Path) -> None:
        with log.open("ab") as output:
            process = subprocess.Popen(
                command, stdout=output, stderr=subprocess.STDOUT, env={**os.environ, **self.environment}
            )
            with self.lock:
                self.running.add(process)
                if self.stopped:
                    process.terminate()
            status = process.wait()
            with self.lock:
                self.running.discard(process)
        if status:
            raise DataError(f"exit status {status}; its log is {log}")

    def stop(self) -> None:
        """End what is running, and let nothing new begin."""
        with self.lock:
            self.stopped = True
            for process in self.running:
                process.terminate()


def run_grid(grid: Grid, settings: Settings, jobs: int) -> int:
    """Run all cells that are not done, `jobs` side by side; says on stdout how far it is.

    Returns:
        The number of cells that failed; the others are run all the same.
    """
    runner = Runner(settings, threads=max(1, available_cores() // jobs))
    cells = grid.cells()
    pending = [cell for cell in cells if not runner.is_done(cell)]
    print(f"ablations: {len(cells)} trainings, {len(cells) - len(pending)} done before", flush=True)
    failed, start = 0, time.monotonic()
    with ThreadPoolExecutor(jobs) as pool:
        futures = {pool.submit(runner.run, cell): cell for cell in pending}
        try:
            for number, future in enumerate(as_completed(futures), start=1):
                cell = futures[future]
                try:
                    future.result()
                    state = "done"
                except DataError as error:
                    failed += 1
                    state = f"FAILED ({error})"
                minutes = (time.monotonic() - start) / 60
                left = minutes / number * (len(pending) - number)
                print(
                    f"ablations: {number}/{len(pending)} {cell.name} {state}; {minutes:.0f} minutes, about "
                    f"{left:.0f} to go",
                    flush=True,
                )
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            runner.stop()
            raise
    return failed


def read_cell(cell: Cell, settings: Settings) -> dict[str, object] | None:
    """What was measured of a cell, with its `seconds`; None if it is not done."""
    folder = settings.folder(cell)
    if not (folder / DONE).is_file():
        return None
    done = json.loads((folder / DONE).read_text())
    return {**json.loads((folder / "diagnosis.json").read_text()), **done}
