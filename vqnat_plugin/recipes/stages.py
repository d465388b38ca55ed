"""Stages: commands that are run once, in order, and go on from where they were when they are killed.

A stage is a command, its done-mark, its seconds, its log and its record. Recipes use `vqnat stage`, grids of
trainings `Stages` itself. Commands are lists of words: no shell ever sees them.
"""

import difflib
import math
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from ..errors import BusyError, DataError, UsageError
from ..files import alone, lock, open_no_link, write_json
from ..machine import processor
from ..reading import read_json, read_json_if_there
from .inputs import Known, changed, is_known, snapshot

# fairseq prints its whole configuration on one line: of use in a log, noise on a screen.
NOISE = re.compile(rb"fairseq_cli.* \{.*_name|is deprecated")
# Of all commands, unless the environment says otherwise.
ENVIRONMENT = {"PYTHONUNBUFFERED": "1", "PYTHONWARNINGS": "ignore"}


@dataclass
class Record:
    """What is kept of a stage, in `OUT/stages/NAME.json`.

    Attributes:
        order: of its first run among all stages of the folder, from 1.
        command: the words of the last run, with OUT and DATA put for the two folders.
        seconds: of all attempts; that of one that was killed is added by the next one.
        started: when the current or killed attempt began, in seconds since 1970; None if there is none.
        done: whether the command ended well.
        folders: where what the command reads was then, by the names that stand for it; not OUT.
        processors: on which its attempts ran; empty in records of version 0.2.0 and before.
        inputs: the text of DATA when it began, if the command reads any; see `inputs.snapshot`.
    """

    order: int
    command: list[str]
    seconds: float = 0.0
    started: float | None = None
    done: bool = False
    folders: dict[str, str] = field(default_factory=dict)
    processors: list[str] = field(default_factory=list)
    inputs: dict[str, Known] = field(default_factory=dict)


class Stages:
    """The stages of one folder. Several of these may be at work side by side, each in its own folder."""

    def __init__(self, out: Path, data: Path | None = None, **others: Path) -> None:
        """
        Args:
            out: folder of the records, in `stages/`, and of the logs, in `logs/`.
            data: folder of what the commands read; like `out`, it may move without a command having changed.
                Another one beside it is a change.
            others: further paths that may move, by the names that stand for them in records.
        """
        self.out = Path(os.path.abspath(out))
        # A data folder inside `out` is seen as a part of it.
        self._folders = {"OUT": str(self.out)}
        if data is not None:
            self._folders["DATA"] = os.path.abspath(data)
        self._folders |= {name: os.path.abspath(path) for name, path in others.items()}
        self._lock = threading.Lock()

    def run(
        self,
        name: str,
        command: Sequence[str],
        *,
        environment: Mapping[str, str] | None = None,
        quiet: bool = False,
        started: Callable[["subprocess.Popen[bytes]"], None] | None = None,
    ) -> bool:
        """Run a stage, unless it is done.

        Args:
            name: of the stage, its record and its log.
            command: its words, see `executable`.
            environment: variables on top of this process's.
            quiet: whether its output goes to the log alone.
            started: is given the process, so that it can be ended.

        Returns:
            False if it was done before.

        Raises:
            DataError: the command failed, or is done and was another one; the message is one line.
            UsageError: no stage can have this name, or there is no command.
        """
        if not command:
            raise UsageError(f"stage {name}: needs a command")
        masked = [self._masked(word) for word in command]
        if not self._was_done(name, masked):
            try:
                with alone(self._path(name), beside=True) as check:
                    # Another process may just have done it.
                    if not self._was_done(name, masked):
                        self._run(name, command, masked, environment or {}, quiet, started, check)
                        return True
            except BusyError:
                raise DataError(self._still_running(name)) from None
        _say(f"== {name}: done before", quiet)
        return False

    def log(self, name: str) -> Path:
        """Where the output of a stage goes, that of all attempts."""
        return self.out / "logs" / f"{name}.log"

    def is_done(self, name: str, command: Sequence[str] | None = None) -> bool:
        """Whether a stage has ended well, and by this command if one is given."""
        record = self._read(name)
        if record is None or not record.done:
            return False
        return command is None or not self._changes(record, [self._masked(word) for word in command])

    def seconds(self) -> dict[str, float]:
        """How long each stage that is done took, in order of first run."""
        return {name: record.seconds for name, record in self._done()}

    def commands(self) -> list[str]:
        """The commands of the stages that are done, quoted for a shell, in order of first run."""
        return [shlex.join(record.command) for _, record in self._done()]

    def before(self, program: Sequence[str], unless: str | None = None) -> tuple[dict[str, float], list[str]]:
        """As `seconds` and `commands`, without the stages that ran a program: it reports on the others.

        Args:
            program: its first words.
            unless: an option with which it makes something and reports on nothing.
        """
        done = [
            (name, each)
            for name, each in self._done()
            if each.command[: len(program)] != [*program] or unless in each.command
        ]
        return {name: each.seconds for name, each in done}, [shlex.join(each.command) for _, each in done]

    def elsewhere(self, names: Iterable[str]) -> dict[str, list[str]]:
        """Those of these stages that did not run on this processor alone, with where; empty if not known."""
        here = [processor()]
        return {
            name: each.processors for name, each in self._done() if name in names and each.processors != here
        }

    def behind(self, name: str) -> list[str]:
        """The stages that are done and were first run behind this one."""
        record = self._read(name)
        return [each for each, other in self._done() if record is not None and other.order > record.order]

    def redo(self, name: str) -> None:
        """Let a stage be run again; what it made stays where it is.

        Raises:
            DataError: there is no such stage.
        """
        record = self._read(name)
        if record is None:
            there = ", ".join(path.stem for path in self._records()) or "none"
            raise DataError(f"{self.out}: has no stage '{name}' (there: {there})")
        self._write(name, Record(record.order, record.command))

    def _was_done(self, name: str, command: list[str]) -> bool:
        record = self._read(name)
        if record is None or not record.done:
            return False
        if changes := self._changes(record, command):
            redo = shlex.join(["vqnat", "stage", "--redo", name, "--out", str(self.out)])
            behind = ", ".join(self.behind(name))
            others = f" (and redo those behind it that use what it makes: {behind})" if behind else ""
            raise DataError(
                f"stage {name} was done with {changes}; go back to that, or remove what it made and run: "
                f"{redo}{others}"
            )
        return True

    def _run(
        self,
        name: str,
        command: Sequence[str],
        masked: list[str],
        environment: Mapping[str, str],
        quiet: bool,
        started: Callable[["subprocess.Popen[bytes]"], None] | None,
        check: Callable[[], None],
    ) -> None:
        """Run a stage that is not done, see `run`; `check` raises if its record was deleted meanwhile."""
        _say(f"== {name}", quiet)
        record = self._begin(name, masked)
        start = time.monotonic()
        status = self._call(name, executable(command), environment, quiet, started)
        if status:
            ended = f"exit status {status}" if status > 0 else f"ended by {signal.Signals(-status).name}"
            raise DataError(
                f"stage {name} failed ({ended}); its log is {self.log(name)}; the same command goes on from "
                "here"
            )
        check()
        record.seconds = round(record.seconds + time.monotonic() - start, 1)
        record.started, record.done = None, True
        self._write(name, record)

    def _begin(self, name: str, command: list[str]) -> Record:
        """The record of a stage that begins now."""
        with self._lock:
            record = self._read(name)
            if record is None:
                orders = [_record(path, read_json(path)).order for path in self._records()]
                record = Record(max(orders, default=0) + 1, command)
            # An attempt that was killed lasted until its last line in the log.
            log = self.log(name)
            if record.started is not None and log.exists():
                record.seconds += max(0.0, round(log.stat().st_mtime - record.started, 1))
            record.command, record.started = command, time.time()
            record.folders = self._read_by(command)
            data = self._folders["DATA"] if "DATA" in record.folders else None
            record.inputs = snapshot(command, Path(data)) if data is not None else {}
            before = record.processors or ["unknown"] * (record.seconds > 0)
            record.processors = [*dict.fromkeys([*before, processor()])]
            self._write(name, record)
            log.parent.mkdir(parents=True, exist_ok=True)
            log.touch()
        return record

    def _call(
        self,
        name: str,
        command: list[str],
        environment: Mapping[str, str],
        quiet: bool,
        started: Callable[["subprocess.Popen[bytes]"], None] | None,
    ) -> int:
        """Run a command to its end; its output is appended to the log."""
        with open(self.log(name), "ab", buffering=0, opener=open_no_link) as log:
            try:
                # A command that has outlived its runner, and writes to the log itself, has the lock.
                lock(log, wait=False)
            except BlockingIOError:
                raise DataError(self._still_running(name)) from None
            try:
                process = subprocess.Popen(
                    command,
                    stdin=subprocess.DEVNULL,
                    stdout=log if quiet else subprocess.PIPE,
                    stderr=subprocess.STDOUT,
                    env={**ENVIRONMENT, **os.environ, **environment},
                )
            except OSError as error:
                raise DataError(f"stage {name}: cannot run '{command[0]}' ({error.strerror})") from None
            try:
                if started:
                    started(process)
                for line in process.stdout or ():
                    log.write(line)
                    if sys.stdout is not None and not NOISE.search(line):
                        sys.stdout.buffer.write(line)
                        sys.stdout.buffer.flush()
                return process.wait()
            except BaseException:
                process.terminate()
                process.wait()
                raise

    def _still_running(self, name: str) -> str:
        return f"stage {name} is still running; wait for its end, or end it"

    def _masked(self, word: str) -> str:
        """A word of a command with the names of folders in place of their paths."""
        for name, folder in self._folders.items():
            # The whole path only: not the /a of /a2 or of /x/a.
            word = re.sub(rf"""(?<![^=:;,"']){re.escape(folder)}(?![^/:;,"'])""", name, word)
        return _recordable(word)

    def _changes(self, record: Record, command: list[str]) -> str:
        """What differs between the command of a record and this one, as a phrase; empty if nothing does."""
        if record.command != command:
            return f"another command: {differences(record.command, command)}"
        moved = [
            f"{name} is now {shlex.quote(path)}, not {shlex.quote(before)}, which is still there"
            for name, path in self._read_by(command).items()
            if os.path.exists(before := record.folders.get(name, path)) and not _same(before, path)
        ]
        if moved:
            return f"another command: {', '.join(moved)}"
        data = Path(self._folders["DATA"]) if "DATA" in self._folders else None
        names = changed(data, record.inputs) if data is not None else []
        return f"other contents of {', '.join(names)} in {shlex.quote(str(data))}" if names else ""

    def _read_by(self, command: list[str]) -> dict[str, str]:
        """The folders that a command names, without OUT."""
        return {
            name: _recordable(folder)
            for name, folder in self._folders.items()
            if name != "OUT" and any(re.search(rf"\b{name}\b", word) for word in command)
        }

    def _path(self, name: str) -> Path:
        if not name or name.startswith((".", "-")) or re.search(r"[/\x00-\x1f]", name):
            raise UsageError(f"stage '{name}': needs a name without '/' that does not begin with '.' or '-'")
        return self.out / "stages" / f"{name}.json"

    def _records(self) -> list[Path]:
        return sorted(self.out.glob("stages/[!.]*.json"))

    def _read(self, name: str) -> Record | None:
        path = self._path(name)
        content = read_json_if_there(path)
        return None if content is None else _record(path, content)

    def _write(self, name: str, record: Record) -> None:
        write_json(self._path(name), asdict(record))

    def _done(self) -> list[tuple[str, Record]]:
        found = [(path.stem, _record(path, read_json(path))) for path in self._records()]
        return sorted((pair for pair in found if pair[1].done), key=lambda pair: pair[1].order)


def executable(command: Sequence[str]) -> list[str]:
    """A command with this Python's programs in place of `vqnat`, `python` and `fairseq-...`."""
    first, *others = command
    if first == "vqnat":
        return [sys.executable, "-m", "vqnat_plugin", *others]
    if first == "python":
        return [sys.executable, *others]
    if first.startswith("fairseq-"):
        beside = Path(sys.executable).parent / first
        return [str(beside) if beside.exists() else shutil.which(first) or first, *others]
    return list(command)


def differences(before: Sequence[str], now: Sequence[str]) -> str:
    """What changed from one command to another, as a phrase: words, with the options they belong to."""
    found = []
    matcher = difflib.SequenceMatcher(None, before, now, autojunk=False)
    for kind, start, end, new_start, new_end in matcher.get_opcodes():
        if kind == "equal":
            continue
        option = before[start - 1] if start and before[start - 1].startswith("--") else ""
        old, new = shlex.join(before[start:end]), shlex.join(now[new_start:new_end])
        change = f"{new} is new" if not old else f"{old} is gone" if not new else f"{old} is now {new}"
        found.append(f"{option} {change}" if option and old and new else change)
    return ", ".join(found)


def _record(path: Path, content: dict[str, Any]) -> Record:
    old: dict[str, Any] = {"seconds": 0.0, "started": None, "done": False}
    old |= {"folders": {}, "processors": [], "inputs": {}}
    values: dict[str, Any] = {**old, **content}
    command, started = values.get("command"), values["started"]
    sound = (
        values.keys() == Record.__dataclass_fields__.keys()
        and type(values["order"]) is int
        and isinstance(command, list)
        and all(isinstance(word, str) for word in command)
        and all(type(each) in (int, float) for each in (values["seconds"], started or 0.0))
        and 0 <= values["seconds"] < math.inf
        and 0 <= (started or 0.0) < math.inf
        and isinstance(values["done"], bool)
        and isinstance(values["folders"], dict)
        and all(isinstance(path, str) for path in values["folders"].values())
        and isinstance(values["processors"], list)
        and all(isinstance(each, str) for each in values["processors"])
        and isinstance(values["inputs"], dict)
        and all(is_known(each) for each in values["inputs"].values())
    )
    if not sound:
        raise DataError(f"{path}: is no record of a stage; delete it to run the stage again")
    return Record(**values)


def _recordable(text: str) -> str:
    # File names need not be UTF-8; records are.
    return os.fsencode(text).decode("utf-8", "backslashreplace")


def _same(path: str, other: str) -> bool:
    return os.path.exists(other) and os.path.samefile(path, other)


def _say(line: str, quiet: bool) -> None:
    if not quiet:
        print(line, flush=True)
