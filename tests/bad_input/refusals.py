"""Running commands that have to refuse what they are given, and what a refusal is."""

import json
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

SERVER = Path(__file__).with_name("warm_server.py")
SECONDS = 60.0
# One of so many inputs is tried by default, all of them with -m "slow or not slow".
SHARE = 6
# Bars of progress, of which the last state stays: "tokenise train.en: 100%|###| 12/12 [00:00<...]".
PROGRESS = re.compile(r"\d+%\|.*\||\d+\S* ?\[\d+:\d\d")


@dataclass(frozen=True)
class Ended:
    """A command that has ended.

    Attributes:
        status: its exit status, negative for a signal; None if it had to be killed.
        out, err: what it printed.
    """

    status: int | None
    out: str
    err: str

    @property
    def complaints(self) -> list[str]:
        """The lines on stderr, without bars of progress."""
        lines = re.split(r"[\r\n]+", self.err)
        return [line for line in lines if line.strip() and not PROGRESS.search(line)]


class Warm:
    """A server that runs commands at the cost of a fork, see `warm_server.py`."""

    def __init__(self, folder: Path) -> None:
        """
        Args:
            folder: for what the commands print.
        """
        self.streams = [folder / "stdout", folder / "stderr"]
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONWARNINGS": "ignore"}
        self.process = subprocess.Popen(
            [sys.executable, SERVER],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=environment,
        )
        assert self._answer() == "ready\n"

    def _answer(self) -> str:
        assert self.process.stdout is not None
        return self.process.stdout.readline()

    def run(self, *words: str, folder: Path, seconds: float = SECONDS) -> Ended:
        """Run a command to its end.

        Args:
            words: its program, `vqnat`, `fairseq-...`, or `worker` for a process of `vqnat train`; and its
                arguments.
            folder: where it runs.
            seconds: that it may take.
        """
        assert self.process.stdin is not None
        streams = [str(path) for path in self.streams]
        request = {"words": words, "folder": str(folder), "streams": streams, "seconds": seconds}
        # Names that are not UTF-8 pass as Python has them.
        print(json.dumps(request), file=self.process.stdin, flush=True)
        status = json.loads(self._answer())
        out, err = (path.read_text(errors="replace") for path in self.streams)
        return Ended(status, out, err)

    def close(self) -> None:
        """End the server."""
        assert self.process.stdin is not None
        self.process.stdin.close()
        self.process.wait(timeout=60)


def contents(folder: Path) -> dict[str, tuple[int, int]]:
    """Everything below a folder, with sizes and times."""
    found = {}
    for place, folders, files in os.walk(folder):
        for name in (*folders, *files):
            path = Path(place, name)
            stat = path.lstat()
            found[str(path)] = (0, 0) if path.is_dir() else (stat.st_size, stat.st_mtime_ns)
    return found


def words_of(line: str, things: Mapping[str, Any]) -> list[str]:
    """The words of a command line, with `{name}` put for the things of that name."""
    return [filled(word, things) for word in shlex.split(line)]


def filled(text: str, things: Mapping[str, str]) -> str:
    """A text with the things put for their `{name}`; other braces stay."""
    return re.sub(r"\{([a-z]\w*(?:\.\w+)?)\}", lambda found: things[found[1]], text)


def assert_refused(warm: Warm, folder: Path, line: str, named: str | tuple[str, ...], things: Any) -> None:
    """A command ends with one line that names what is wrong, and leaves nothing behind.

    Args:
        warm: runs it.
        folder: where it runs, with what it is to leave as it is.
        line: the command line, see `words_of`.
        named: what the line on stderr has to name, likewise; one of several.
        things: what the command line names, see `malformed.Things`.
    """
    words = words_of(line, things)
    names = [filled(name, things) for name in ((named,) if isinstance(named, str) else named)]
    # Also of what the line names.
    before = {**contents(folder), **contents(things.folder), **contents(Path(things["text"]))}
    ended = warm.run(*words, folder=folder)
    said = f"{shlex.join(words)}\nstatus {ended.status}\n{ended.err[-3000:]}"
    assert ended.status is not None, f"hangs: {said}"
    assert "Traceback" not in ended.err + ended.out, said
    assert 0 < ended.status < 128, said
    assert len(ended.complaints) == 1, said
    assert any(name in ended.complaints[0] for name in names), f"names none of {names}: {said}"
    after = {**contents(folder), **contents(things.folder), **contents(Path(things["text"]))}
    assert after == before, f"left behind: {sorted(after.items() ^ before.items())}\n{said}"


def cases(table: Iterable[tuple[str, str | tuple[str, ...]]]) -> Any:
    """Parameters `line` and `named` of a test, named by program and the end of the line; most are slow."""
    return pytest.mark.parametrize(
        ("line", "named"),
        [
            pytest.param(*case, id=f"{case[0].split()[0]} ... {case[0][-50:]}", marks=often(number))
            for number, case in enumerate(table)
        ],
    )


def often(number: int) -> Any:
    """The marks of a test, by its place in a table: so many of them are run by default."""
    return () if number % SHARE == 0 else pytest.mark.slow
