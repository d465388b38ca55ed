"""Run a command once: a stage of a recipe, which is skipped when it is done and goes on after a kill.

OUT/logs/NAME.log gets what the command prints, OUT/stages/NAME.json its words and seconds. When the command
ends well, the same stage is skipped from then on; when it is another command, or vqnat prepare would find
other text in --data, that is a mistake, and the line says what changed. `vqnat`, `python` and `fairseq-...`
are those of the Python that runs this.

  vqnat stage prepare --out runs/mine --data text -- vqnat prepare --data text --out runs/mine/data
  vqnat stage --redo prepare --out runs/mine
"""

import shlex
from dataclasses import dataclass
from pathlib import Path

from ..errors import GOES_ON, UsageError
from ..options import FOLDER, option
from ..recipes.stages import Stages

INTERRUPTED = GOES_ON


@dataclass(kw_only=True)
class Options:
    """Options of `vqnat stage`."""

    name: str | None = option(None, "of the stage", positional=True)
    out: Path = option(..., "folder of the recipe's results", metavar="DIR", writes=FOLDER)
    data: Path | None = option(
        None, "folder that the recipe reads; it may move, as --out may, without a change", metavar="DIR"
    )
    dry_run: bool = option(False, "print the command and run nothing")
    redo: tuple[str, ...] = option((), "let these stages be run again; what they made stays", metavar="NAME")
    command: tuple[str, ...] = option((), "what is run", rest="--")

    def check(self) -> None:
        """Raise `UsageError` unless there is one thing to do."""
        if self.redo:
            if self.name is not None or self.command or self.dry_run:
                raise UsageError("--redo: needs names of stages and --out, nothing else")
        elif self.name is None or not self.command:
            raise UsageError("needs the name of a stage and '-- COMMAND ...'")


def run(options: Options) -> None:
    """Run the stage, or let others be run again."""
    stages = Stages(options.out, options.data)
    for name in options.redo:
        stages.redo(name)
        others = [each for each in stages.behind(name) if each not in options.redo]
        stay = f"; those behind it stay as they are: {', '.join(others)}" if others else ""
        print(f"{name}: will be run again{stay}")
    if options.dry_run:
        print(" ".join(map(_shown, options.command)))
    elif options.name is not None:
        stages.run(options.name, options.command)


def _shown(word: str) -> str:
    """A word as a shell is given it; a pattern of files that are not there yet is left for the shell."""
    pattern = word.endswith("*") and "/" in word
    return shlex.quote(word[:-1]) + "*" if pattern else shlex.quote(word)
