"""Workers with a fault. Apart from the tests, and light, as each process imports them anew."""

import os
import signal
from typing import Any


def die(job: Any, share: Any, connection: Any) -> None:
    """Worker 1 is killed after its first batch; worker 0 would work on for ever."""
    connection.send(5)
    if share.worker == 1:
        os.kill(os.getpid(), signal.SIGKILL)
    while True:
        signal.pause()


def complain(job: Any, share: Any, connection: Any) -> None:
    """Worker 1 finds a mistake of the user's."""
    if share.worker == 1:
        connection.send("the teacher is ill")
    signal.pause()


def crash(job: Any, share: Any, connection: Any) -> None:
    """Every worker meets a mistake of ours."""
    raise SystemExit(1)
