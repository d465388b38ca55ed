"""A server in this process, and clients of it."""

import http.client
import json
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from vqnat_plugin.runtime.decoding import Decoding
from vqnat_plugin.runtime.limits import Limits
from vqnat_plugin.runtime.server import Service, build_server, listen
from vqnat_plugin.runtime.translator import Translator

JSON = {"Content-Type": "application/json"}


class Gate:
    """Holds a translator's decoding up, and keeps what it is asked to decode."""

    def __init__(self, translator: Any) -> None:
        self.entered, self.open = threading.Semaphore(0), threading.Event()
        self.batches: list[tuple[int, Decoding]] = []
        self.translator, self._decode = translator, translator.decode
        translator.decode = self

    def __call__(self, rows: Sequence[Sequence[int]], options: Decoding, scores: bool = True) -> Any:
        self.batches.append((len(rows), options))
        self.entered.release()
        assert self.open.wait(60)
        return self._decode(rows, options, scores)


def ask(port: int, method: str, path: str, body: Any = None, headers: Any = JSON) -> tuple[int, Any]:
    """Status and content of an answer; bodies that are no bytes are sent as JSON."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    try:
        body = body if body is None or isinstance(body, bytes) else json.dumps(body).encode()
        connection.request(method, path, body, headers)
        response = connection.getresponse()
        content = response.read()
        if response.headers["Content-Type"] == "application/json":
            return response.status, {**json.loads(content), "headers": dict(response.headers)}
        return response.status, {"text": content.decode(), "headers": dict(response.headers)}
    finally:
        connection.close()


def translate(port: int, text: Any, **fields: Any) -> tuple[int, Any]:
    """What `/translate` answers."""
    return ask(port, "POST", "/translate", {"text": text, **fields})


def wait_for_waiting(port: int, sentences: int) -> None:
    """Return when so many sentences wait."""
    while ask(port, "GET", "/health")[1]["waiting"] != sentences:
        pass


@contextmanager
def served(model: Path | Translator, **limits: Any) -> Iterator[int]:
    """The port of a server of an exported model."""
    translator = model if isinstance(model, Translator) else Translator(model)
    service = Service(translator, Limits(**limits))
    listening = listen("127.0.0.1", 0, service.timeout)
    server = build_server(service, 60)
    thread = threading.Thread(target=server.run, args=([listening],))
    thread.start()
    try:
        yield listening.getsockname()[1]
    finally:
        server.should_exit = True
        thread.join()
