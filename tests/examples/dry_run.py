"""What the recipes would run."""

import functools
import os
import shlex
import subprocess
from pathlib import Path

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
RECIPES = sorted(path for path in EXAMPLES.glob("*/*.sh"))


# Prints as `vqnat stage NAME --dry-run -- COMMAND` does, without a start of Python for each stage.
PRINTING = '() { while [ "$1" != -- ]; do shift; done; shift; printf "%q " "$@"; echo; }'


@functools.cache
def dry_run(recipe: Path, *options: str, **environment: str) -> list[list[str]]:
    """The words of each command that a recipe prints with --dry-run."""
    shown = subprocess.run(
        [recipe, "--dry-run", *options],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
        env={**os.environ, "BASH_FUNC_vqnat%%": PRINTING, **environment},
    )
    assert not shown.stderr
    return [shlex.split(line) for line in shown.stdout.splitlines()]


def value(command: list[str], option: str) -> str:
    """The last value of an option, which is the one that counts."""
    return command[len(command) - command[::-1].index(option)]
