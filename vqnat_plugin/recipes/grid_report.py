"""The report of a grid, of whichever kind: `report.json`, and `report.md` and plots made from it."""

from pathlib import Path

from ..errors import DataError
from ..files import read_json, write_json, write_text
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
    """
    kind = KINDS[grid.measure]
    report = {"measure": grid.measure, **kind.report(grid, grid_run, title, commands, stages)}
    write_json(grid_run.out / "report.json", report)
    return render_report(grid_run.out)


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
