"""Several processes that answer the blocks of an input, in order."""

import contextlib
import multiprocessing
import signal
from collections.abc import Callable, Iterator
from multiprocessing.connection import Connection, wait
from typing import Any

from ..errors import DataError, UserError, explain
from ..line_filter import Answer, AnswerBlock, Input

# Blocks for each process that are read but not written yet.
AHEAD = 2


class Workers:
    """Processes that are started and ended together; none outlives this one."""

    def __init__(self, jobs: int, make: Callable[[], AnswerBlock]) -> None:
        """
        Args:
            jobs: how many.
            make: called in each of them for what answers blocks there; has to be picklable.
        """
        self._jobs, self._make = jobs, make
        self._processes: dict[Connection, Any] = {}
        self._idle: list[Connection] = []

    def __enter__(self) -> "Workers":
        context = multiprocessing.get_context("spawn")
        # Ctrl-C reaches them as well; they are born deaf to it, since this process ends them.
        before = signal.signal(signal.SIGINT, signal.SIG_IGN)
        try:
            for _ in range(self._jobs):
                ours, theirs = context.Pipe()
                process = context.Process(target=_work, args=(self._make, theirs), daemon=True)
                process.start()
                theirs.close()
                self._processes[ours] = process
        finally:
            signal.signal(signal.SIGINT, before)
        return self

    def __exit__(self, *_: object) -> None:
        for process in self._processes.values():
            process.terminate()
        for process in self._processes.values():
            process.join()

    def answers(self, source: Input) -> Iterator[Answer]:
        """The answer for each block of an input, in order; a line that is there is answered at once.

        Raises:
            UserError: a process could not be made ready, or was killed.
        """
        blocks, descriptor = iter(source), source.fileno()
        busy: dict[Connection, int] = {}
        done: dict[int, Answer] = {}
        given = written = before = 0
        ended = False
        while not ended or written < given:
            reading = not ended and bool(self._idle) and given - written < AHEAD * self._jobs
            for ready in self._ready(reading, descriptor):
                if isinstance(ready, Connection):
                    answer = self._receive(ready)
                    if answer is not None:
                        done[busy.pop(ready)] = answer
                    self._idle.append(ready)
                    continue
                block, error = next(blocks, (None, None))
                ended = block is None or error is not None
                if block:
                    worker = self._idle.pop()
                    # If it is dead by now, reading from it says so.
                    with contextlib.suppress(ConnectionError):
                        worker.send((block, before))
                    busy[worker] = given
                    given, before = given + 1, before + len(block)
                if error is not None:
                    # Behind what is being translated.
                    done[given], given = Answer((), 0, error=error), given + 1
            while written in done:
                yield done.pop(written)
                written += 1

    def _ready(self, reading: bool, descriptor: int | None) -> list[Any]:
        """What there is to be received: from processes, and if it is asked for, from the input."""
        at_once = reading and descriptor is None
        waiting: list[Any] = [*self._processes]
        if reading and descriptor is not None:
            waiting.append(descriptor)
        found: list[Any] = wait(waiting, 0 if at_once else None)
        return [*found, None] if at_once else found

    def _receive(self, connection: Connection) -> Answer | None:
        """What a process says: an answer, or, at first, that it is ready."""
        try:
            message = _received(connection)
        except (EOFError, ConnectionError):
            process = self._processes[connection]
            process.join()
            code = process.exitcode
            how = f"was killed by signal {-code}" if code < 0 else "failed, see above"
            raise DataError(f"one of --jobs {self._jobs} {how}; fewer need less memory") from None
        if isinstance(message, UserError):
            raise message
        assert message is None or isinstance(message, Answer)
        return message


def _received(connection: Connection) -> Any:
    """The next message.

    Raises:
        EOFError, ConnectionError: the other end is gone, perhaps within a message.
    """
    try:
        return connection.recv()
    except OSError as error:
        if error.errno is None:
            raise EOFError from error
        raise


def _work(make: Callable[[], AnswerBlock], connection: Connection) -> None:
    try:
        answer = make()
        connection.send(None)
        while True:
            connection.send(answer(*_received(connection)))
    except (EOFError, ConnectionError):
        # The other end is closed when the process that reads is gone, however it went.
        return
    except Exception as error:
        explained = explain(error)
        if explained is None:
            raise
        with contextlib.suppress(ConnectionError):
            connection.send(error if isinstance(error, UserError) else DataError(explained[0]))
