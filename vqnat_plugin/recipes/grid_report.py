"""The report of a grid, of whichever kind: `report.json`, and `report.md` and plots made from it."""

from pathlib import Path
from typing import Any

from ..errors import DataError
from ..files import write_json, write_text
from ..reading import read_json, read_json_if_there
from .cells import GridRun
from .grid import NAME, Grid
from .grid_images import ImageKind
from .grid_translation import TranslationKind

# By what the grid file calls `measure`.
KINDS: dict[str, type[TranslationKind] | type[ImageKind]] = {
    "translation": TranslationKind,
    "images": ImageKind,
}


def write_report(
    grid: Grid, grid_run: GridRun, title: str, commands: list[str], stages: dict[str, float]
) -> str:
    """Write the report of the cells that are done to the grid's folder.

    Args:
        grid: what is compared.
        grid_run: where its cells are.
        title: heading.
        commands: that made it.
        stages: seconds of what was done before the grid.

    Returns:
        Its figures as Markdown.

    Raises:
        DataError: there is a report, and a cell that was done with other options than now, or none that is
            done.
    """
    kind = KINDS[grid.measure]
    before = read_json_if_there(grid_run.out / "report.json")
    if before and _has_figures(before):
        done = any(map(grid_run.is_done, grid.cells()))
        if not done or any(map(grid_run.is_done_otherwise, grid.cells())):
            found = (
                "some trainings here were done with other" if done else "no training here was done with these"
            )
            raise DataError(f"{grid_run.out / 'report.json'}: stays as it is: {found} options")
    report = {"measure": grid.measure, **kind.report(grid, grid_run, title, commands, stages)}
    write_json(grid_run.out / "report.json", report)
    return render_report(grid_run.out)


def _has_figures(report: dict[str, Any]) -> bool:
    rows = [row for each in report.get("comparisons", {}).values() for row in each["rows"].values()]
    return bool(report.get("results")) or any(row["cells"] for row in rows)


def render_report(folder: Path) -> str:
    """Make `report.md` and the plots of figures anew from `report.json` alone; cells need not be there.

    Returns:
        The figures as Markdown.

    Raises:
        DataError: it is no report of a grid.
    """
    report = read_json(folder / "report.json")
    kind = KINDS.get(str(report.get("measure")))
    names = report.get("comparisons", {})
    if kind is None or not isinstance(names, dict) or not all(map(NAME.fullmatch, names)):
        raise DataError(f"{folder / 'report.json'}: is no report of a grid")
    write_text(folder / "report.md", kind.render(report, folder))
    return kind.table(report)
