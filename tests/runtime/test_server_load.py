"""The server under clients of which many are rude: others get their answers, and nothing is left behind."""

import contextlib
import gc
import itertools
import json
import os
import random
import socket
import struct
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from serving import ask, served, translate

from vqnat_plugin.runtime import Translator

WORDS = ["Mann", "Hund", "Café", "halb-wach", "schläft", "☃", "\u2028", "<b>", "Hund!" * 9]
MOST_BYTES = 20_000
HEAD = "POST /translate HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n"


class Crowd:
    """Clients at once, each of which does one thing after the other, chosen at random."""

    def __init__(self, port: int, translator: Translator, requests: int, seconds: float) -> None:
        rng = random.Random(1)
        self.port, self.counts, self.wrong = port, Counter[str](), list[str]()
        self.lines = [" ".join(rng.choices(WORDS, k=rng.randint(1, 9))) for _ in range(30)]
        self.expected = translator.translate(self.lines, split_sentences=True)
        self.numbers: Iterator[int] = iter(range(requests)) if requests else itertools.count()
        self.end, self.lock = time.monotonic() + seconds, threading.Lock()

    def run(self, clients: int) -> None:
        with ThreadPoolExecutor(clients) as pool:
            list(pool.map(self.client, range(clients)))

    def client(self, seed: int) -> None:
        rng = random.Random(seed)
        actions = (self.polite, self.polite, self.malformed, self.oversized, self.half_sent, self.gone)
        while time.monotonic() < self.end:
            with self.lock:
                if next(self.numbers, None) is None:
                    return
            action = rng.choice(actions)
            try:
                wrong = action(rng)
            except Exception as error:
                wrong = f"{type(error).__name__}: {error}"
            with self.lock:
                self.counts[action.__name__] += 1
                self.wrong += [f"{action.__name__}: {wrong}"] if wrong else []

    def polite(self, rng: random.Random) -> str:
        places = rng.choices(range(len(self.lines)), k=rng.randint(1, 4))
        status, answer = translate(self.port, [self.lines[place] for place in places])
        good = status == 200 and answer["translations"] == [self.expected[place] for place in places]
        return "" if good else f"{status} {answer}"

    def malformed(self, rng: random.Random) -> str:
        body = json.dumps({"text": rng.choice(self.lines), "candidates": 2}).encode()
        ways = (
            body[: rng.randrange(1, len(body))],
            rng.randbytes(rng.randint(1, 99)),
            b"[" * rng.randint(1, 9999),
            json.dumps({"text": rng.choice((7, None, {}, [[]]))}).encode(),
            json.dumps({"text": "a", rng.choice(("candidates", "lenpen", "odd")): "x"}).encode(),
        )
        status, answer = ask(self.port, "POST", "/translate", rng.choice(ways))
        return "" if status == 400 and "error" in answer else f"{status} {answer}"

    def oversized(self, rng: random.Random) -> str:
        body = json.dumps({"text": "a" * rng.randint(MOST_BYTES, 9 * MOST_BYTES)}).encode()
        try:
            status, answer = ask(self.port, "POST", "/translate", body)
        except ConnectionError:
            # The server need not read what it refuses.
            return ""
        return "" if status == 413 else f"{status} {answer}"

    def half_sent(self, rng: random.Random) -> str:
        body = json.dumps({"text": self.lines}).encode()
        message = HEAD.format(len(body)).encode() + body
        return self._send_and_go(message[: rng.randrange(1, len(message))], rng)

    def gone(self, rng: random.Random) -> str:
        body = json.dumps({"text": rng.choices(self.lines, k=20), "candidates": 4}).encode()
        return self._send_and_go(HEAD.format(len(body)).encode() + body, rng)

    def _send_and_go(self, message: bytes, rng: random.Random) -> str:
        with socket.create_connection(("127.0.0.1", self.port)) as connection:
            connection.sendall(message)
            if rng.random() < 0.5:
                # The other end sees an error instead of an end.
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        return ""


def resident() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


def wait_until_idle(port: int, before: int) -> None:
    """Return when nothing waits and connections are closed; the test's time limit is the limit."""
    end = time.monotonic() + 60
    while ask(port, "GET", "/health")[1]["waiting"] or descriptors() > before:
        assert time.monotonic() < end, (ask(port, "GET", "/health"), descriptors(), before)


@pytest.mark.skipif(sys.platform != "linux", reason="files are read from /proc")
def test_clients_that_do_not_read_are_let_go(german_exported: Path) -> None:
    with served(german_exported, timeout=1) as port, contextlib.ExitStack() as opened:
        ask(port, "GET", "/health")
        before, end = descriptors(), time.monotonic() + 60
        for _ in range(3):
            client = opened.enter_context(socket.socket())
            client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            client.settimeout(0.5)
            client.connect(("127.0.0.1", port))
            # The server stops reading when it cannot write.
            with contextlib.suppress(TimeoutError):
                client.sendall(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n" * 3000)
        # Their own ends stay.
        while descriptors() > before + 3:
            assert time.monotonic() < end


@pytest.mark.skipif(sys.platform != "linux", reason="memory and files are read from /proc")
@pytest.mark.parametrize(
    ("clients", "requests", "seconds"),
    [(8, 400, 300.0), pytest.param(64, 0, 600.0, marks=pytest.mark.slow)],
)
def test_polite_clients_are_served_among_rude_ones(
    german_exported: Path,
    clients: int,
    requests: int,
    seconds: float,
    caplog: pytest.LogCaptureFixture,
    capfd: pytest.CaptureFixture[str],
) -> None:
    translator = Translator(german_exported)
    # A place in the queue for all that can be asked at once: lines of up to 35 sentences.
    with served(translator, max_bytes=MOST_BYTES, max_sentences=900, queue=64 * 700, timeout=60) as port:
        warm_up = Crowd(port, translator, 20 * clients, seconds)
        warm_up.run(clients)
        ask(port, "GET", "/health")
        before, memory = descriptors(), resident()
        crowd = Crowd(port, translator, requests, seconds)
        crowd.run(clients)
        wait_until_idle(port, before)
        assert warm_up.wrong + crowd.wrong == []
        assert len(crowd.counts) == 5 and (not requests or crowd.counts.total() == requests)
        assert resident() - memory < 40 << 20
        assert translate(port, crowd.lines)[1]["translations"] == crowd.expected
    # asyncio complains of what nobody has looked at when it is deleted.
    gc.collect()
    assert "Traceback" not in capfd.readouterr().err
    assert not [record for record in caplog.records if record.levelname == "ERROR"]
    print(dict(crowd.counts))
