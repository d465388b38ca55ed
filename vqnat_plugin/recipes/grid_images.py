"""Grids of autoencoders of images: bits a dimension of the test images, how close they come, use of codes."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..evaluation.training_log import TrainingLog
from ..imaging.curves import draw_training
from ..imaging.report import images_report, render_images_report, table_and_notes
from .cells import GridRun
from .grid import Cell, Comparison, Grid, Row
from .grid_options import GridOptions


class ImageKind:
    """Cells are trained on all cores, one after the other, and measured by `vqnat images evaluate`."""

    needs: tuple[str, ...] = ()
    result = "images.json"
    jobs = 1

    def __init__(self, options: GridOptions) -> None:
        """
        Args:
            options: of the grid.
        """
        self.data = os.path.abspath(options.data)
        self.cache = os.path.abspath(options.out / "images")
        self.paths = {"DATA": Path(self.data)}

    def train_command(self, cell: Cell, folder: Path, threads: int) -> list[str]:
        """`vqnat train`; it finds the number of its processes and threads by itself."""
        return [
            *("vqnat", "train", self.data, *cell.flags, "--image-cache", self.cache),
            *("--save-dir", str(folder / "checkpoints"), "--seed", str(cell.seed)),
            *("--log-format", "json", "--no-epoch-checkpoints"),
        ]

    def measure_command(self, folder: Path) -> list[str]:
        """`vqnat images evaluate` of the end of the training."""
        return [
            *("vqnat", "images", "evaluate", str(folder / "checkpoints" / "checkpoint_last.pt")),
            *("--data", self.data, "--image-cache", self.cache, "--out", str(folder)),
        ]

    def report(
        self, grid: Grid, grid_run: GridRun, title: str, commands: list[str], stages: dict[str, float]
    ) -> dict[str, Any]:
        """What was measured, by row; draws the curves of the first seed where the grid asks for them."""
        rows = {
            f"{comparison.title}, {row.name}": row
            for comparison in grid.comparisons
            for row in comparison.rows
        }
        results = {name: _measured(row, grid_run) for name, row in rows.items()}
        times = {name: _seconds(row, grid_run) for name, row in rows.items() if results[name]}
        draw_training(_logs(grid, grid_run), grid_run.out / "training.png")
        return {
            **images_report(
                title,
                {name: cells for name, cells in results.items() if cells},
                [grid.caption, *grid.notes, *_remarks(grid.comparisons)],
                {**stages, **times},
                commands,
                None,
            ),
            "flags": {name: list(row.cells[0].flags) for name, row in rows.items()},
        }

    @staticmethod
    def table(report: Mapping[str, Any]) -> str:
        """One table of all rows, and what its columns mean."""
        return table_and_notes(report)

    @staticmethod
    def render(report: Mapping[str, Any], out: Path) -> str:
        """`report.md`."""
        return render_images_report(report, out)


def _measured(row: Row, grid_run: GridRun) -> list[dict[str, Any]]:
    found = map(grid_run.read, row.cells)
    return [values for values in found if values is not None]


def _seconds(row: Row, grid_run: GridRun) -> float:
    """Of all trainings of a row that are done, measuring included."""
    done = (grid_run.stages(cell).seconds() for cell in row.cells if grid_run.is_done(cell))
    return sum(sum(each.values()) for each in done)


def _logs(grid: Grid, grid_run: GridRun) -> dict[str, TrainingLog]:
    """Of the first seed of each row of the comparisons whose curves are drawn."""
    drawn = [comparison for comparison in grid.comparisons if comparison.curves]
    return {
        f"{comparison.title}, {row.name}" if len(drawn) > 1 else row.name: TrainingLog(log)
        for comparison in drawn
        for row in comparison.rows
        if grid_run.is_done(row.cells[0]) and (log := grid_run.log(row.cells[0])).is_file()
    }


def _remarks(comparisons: tuple[Comparison, ...]) -> list[str]:
    paper = [f"{each.title}, the paper: {each.paper}" for each in comparisons if each.paper]
    return [*paper, *(f"{each.title}, here: {each.note}" for each in comparisons if each.note)]
