import io
import multiprocessing
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import ill_workers
import pytest
from distilling import contents

from vqnat_plugin.distillation import run as running
from vqnat_plugin.distillation.settings import Share
from vqnat_plugin.errors import CheckpointError, DataError

Distill = Callable[..., int]


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_two_workers_make_the_same_bytes(
    distill: Distill, distilled: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    environment = dict(os.environ)
    assert distill(tmp_path / "out", "--workers=2") == 0
    assert contents(tmp_path / "out") == contents(distilled)
    assert "60/60" in capsys.readouterr().err.splitlines()[-1]
    assert dict(os.environ) == environment


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        (ill_workers.die, "a worker was killed by signal 9; finished chunks are kept"),
        (ill_workers.complain, "the teacher is ill"),
        (ill_workers.crash, "a worker failed, see above; finished chunks are kept"),
    ],
)
def test_fault_of_a_worker_stops_all(
    monkeypatch: pytest.MonkeyPatch, fault: Callable[..., None], message: str
) -> None:
    monkeypatch.setattr(running, "_work", fault)
    nothing: Any = None
    reported: list[int] = []
    with pytest.raises(DataError, match=message):
        running.run_decoders(nothing, Share(workers=2), reported.append)
    assert not multiprocessing.active_children()
    # What was finished before.
    assert set(reported) <= {5} and bool(reported) == (fault is ill_workers.die)


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (CheckpointError("t.pt: is\n no checkpoint"), "t.pt: is no checkpoint"),
        (OSError(28, "No space left on device", "o/1.npz"), "o/1.npz: No space left on device"),
        (ModuleNotFoundError("no", name="sacrebleu"), "needs sacrebleu, which is not installed"),
    ],
)
def test_mistake_in_a_worker_is_one_line(
    monkeypatch: pytest.MonkeyPatch, error: Exception, line: str
) -> None:
    def fail(*_: object) -> None:
        raise error

    monkeypatch.setattr(running, "decode_share", fail)
    monkeypatch.setattr(running.signal, "signal", lambda *_: None)
    monkeypatch.setattr(running.torch, "set_num_threads", lambda _: None)
    ours, theirs = multiprocessing.Pipe(duplex=False)
    nothing: Any = None
    running._work(nothing, Share(), theirs)
    sent = ours.recv()
    assert sent.startswith(line) and "\n" not in sent


def test_progress_in_a_log_is_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    log = io.StringIO()
    monkeypatch.setattr(sys, "stderr", log)
    with running.progress_bar(total=60, done=10) as bar:
        bar.mininterval = 0
        bar.update(25)
        bar.update(25)
    lines = log.getvalue().splitlines()
    assert "\r" not in log.getvalue()
    assert [line for line in lines if "35/60" in line] and "60/60" in lines[-1]


def test_progress_on_a_terminal_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    with running.progress_bar(total=60, done=10) as bar:
        bar.update(50)
    assert terminal.getvalue().count("\n") == 1
