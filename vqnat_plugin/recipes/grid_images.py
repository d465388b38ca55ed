"""Grids of autoencoders of images: bits a dimension of the test images, how close they come, use of codes."""

import os
from pathlib import Path
from typing import Any

from ..imaging.curves import draw_training
from ..imaging.report import figures, images_report, render_images_report, table_and_notes
from .cells import GridRun
from .grid import Cell, Grid, Row
from .grid_options import GridOptions

SIDE_BY_SIDE = "time: of trainings and measurements, each by itself; they may have run side by side"
PARTIAL_TIME = "time: rows of which a training was interrupted have none, and the total leaves them out"


class ImageKind:
    """Cells are trained on all cores, one after the other, and measured by `vqnat images evaluate`."""

    needs: tuple[str, ...] = ()
    result = "images.json"
    jobs = 1

    def __init__(self, options: GridOptions) -> None:
        self.data = os.path.abspath(options.data)
        self.cache = os.path.abspath(options.out / "images")
        self.paths = {"DATA": Path(self.data)}
        self.shared = options.for_measuring()

    def train_command(self, cell: Cell, folder: Path, threads: int, gpu: bool) -> list[str]:
        """`vqnat train`; it finds the number of its processes and threads by itself."""
        return [
            *("vqnat", "train", self.data, *cell.flags, "--image-cache", self.cache),
            *("--save-dir", str(folder / "checkpoints"), "--seed", str(cell.seed)),
            *("--log-format", "json", "--no-epoch-checkpoints"),
        ]

    def measure_command(self, cell: Cell, folder: Path) -> list[str]:
        """`vqnat images evaluate`."""
        return [
            *("vqnat", "images", "evaluate", str(folder / "checkpoints" / "checkpoint_last.pt")),
            *("--data", self.data, "--image-cache", self.cache, "--out", str(folder)),
            *self.shared,
            *cell.plugin(),
        ]

    # One table of all rows, and what its columns mean; `report.md`.
    table = staticmethod(table_and_notes)
    render = staticmethod(render_images_report)

    figures = staticmethod(figures)

    @staticmethod
    def report(
        grid: Grid, grid_run: GridRun, title: str, commands: list[str], stages: dict[str, float]
    ) -> dict[str, Any]:
        """What was measured, by row; draws the curves of the first seed where the grid asks for them."""
        rows = {f"{each.title}, {row.name}": row for each in grid.comparisons for row in each.rows}
        results = {name: [*filter(None, map(grid_run.read, row.cells))] for name, row in rows.items()}
        # What a training that was interrupted took is not known, see `GridRun.read`.
        whole = [name for name, each in results.items() if None not in [one["seconds"] for one in each]]
        times = {name: _seconds(rows[name], grid_run) for name in whole if results[name]}
        drawn = [each for each in grid.comparisons if each.curves]
        logs = {
            f"{each.title}, {name}" if len(drawn) > 1 else name: log
            for each in drawn
            for name, log in grid_run.logs(each).items()
        }
        curves = grid_run.out / "training.png"
        if not draw_training(logs, curves):
            # Of a report before.
            curves.unlink(missing_ok=True)
        paper = [f"{each.title}, the paper: {each.paper}" for each in grid.comparisons if each.paper]
        here = [f"{each.title}, here: {each.note}" for each in grid.comparisons if each.note]
        time = [SIDE_BY_SIDE, *([PARTIAL_TIME] if len(whole) < len(results) else [])]
        return {
            **images_report(
                title,
                {name: cells for name, cells in results.items() if cells},
                [grid.caption, *grid.notes, *paper, *here, *time],
                {**stages, **times},
                commands,
                None,
            ),
            "flags": {name: list(row.cells[0].flags) for name, row in rows.items()},
        }


def _seconds(row: Row, grid_run: GridRun) -> float:
    """Of all trainings of a row that are done, measuring included."""
    done = (grid_run.stages(cell).seconds() for cell in row.cells if grid_run.is_done(cell))
    return sum(sum(each.values()) for each in done)
