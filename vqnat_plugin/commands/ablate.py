"""Run a grid of small trainings that differ in a few flags, measure them, and compare them.

GRID is a YAML file, see examples/ablations/grid.yaml and examples/cifar10/grid.yaml: what all trainings
share, and for each comparison its rows with the flags by which they differ. A training that stands in several
comparisons is run once. Run the same command again to go on after a kill: what is done stays done.
Writes report.md, report.json and plots to --out; the exit status is 1 if a training failed.

  vqnat ablate examples/ablations/grid.yaml --data OUT/data/bin --distilled OUT/distilled \\
      --teacher OUT/teacher/checkpoint_best.pt --ref OUT/data/reference/test.de --out OUT
  vqnat ablate examples/cifar10/grid.yaml --data IMAGES --out runs/cifar10_compare
"""

from dataclasses import replace
from pathlib import Path

from ..errors import GOES_ON
from ..recipes.grid_options import GridOptions as Options

INTERRUPTED = GOES_ON


def writes_to(options: Options) -> Path:
    """The folder of the report and of the trainings."""
    return options.out


def run(options: Options) -> int:
    """Train, measure, report."""
    from ..recipes.grid import read_grid

    grid = read_grid(options.grid)

    from ..evaluation.report import own_command
    from ..recipes.cells import GridRun, run_grid
    from ..recipes.grid_report import KINDS, write_report
    from ..recipes.stages import Stages

    options.check_for(grid.measure, KINDS[grid.measure].needs)
    kind = KINDS[grid.measure](options)
    grid_run = GridRun(options.out, kind, options.keep_checkpoints)
    failed = 0 if options.report_only else run_grid(grid, grid_run, options.jobs or kind.jobs)
    before = Stages(options.out)
    # Looking at it once more is not what made it.
    folders = {"OUT": options.out, "DATA": options.data}
    own = own_command(["vqnat", "ablate"], replace(options, report_only=False), folders)
    commands = [*before.commands(), own]
    print(write_report(grid, grid_run, options.title or grid.title, commands, before.seconds()))
    print(f"\n{options.out}: report.md, report.json and plots written")
    return 1 if failed else 0
