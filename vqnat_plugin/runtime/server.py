"""Translation over HTTP: JSON for programs, a page for people."""

import asyncio
import base64
import hashlib
import itertools
import math
import re
import signal
import socket
import threading
import time
from collections.abc import AsyncIterator, Coroutine, Mapping, Sequence
from concurrent.futures import Future
from contextlib import asynccontextmanager
from dataclasses import asdict
from importlib import resources
from typing import Any, TypeVar

import uvicorn
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.requests import Request as Connection
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from .. import __version__
from ..errors import DataError, UsageError
from .answer import NOTHING, describe
from .batcher import Batcher, Unavailable
from .connections import timed_protocol
from .decoding import Decoding
from .exported import read_config
from .hypotheses import Hypothesis
from .limits import Limits
from .request import Request, TooLarge, check_length, parse
from .splitter import Cut, Splitter, cut
from .translator import Translator

Answer = TypeVar("Answer")
# Errors that are not faults of the server, and their status codes.
STATUS: dict[type[Exception], int] = {
    UsageError: 400,
    ClientDisconnect: 400,
    TooLarge: 413,
    DataError: 422,
    Unavailable: 503,
    asyncio.TimeoutError: 504,
}
# Seconds after which one may try again.
RETRY = {"Retry-After": "1"}
SAFE = {"Cache-Control": "no-store", "X-Content-Type-Options": "nosniff"}


class Service:
    """The endpoints of a model.

    Attributes:
        timeout: seconds that a request may take.
    """

    def __init__(self, translator: Translator, limits: Limits) -> None:
        """
        Args:
            translator: the model.
            limits: what clients may ask for, checked.
        """
        self._translator, self._limits = translator, limits
        self.timeout = limits.timeout
        # What is loaded when it is first used, is loaded now.
        translator.translate(["."], rescore=translator.exported.teacher)
        self._batcher = Batcher(translator, limits.batch_size, limits.queue)
        self._splitter = Splitter(translator) if translator.exported.text else None
        page = resources.files(__package__).joinpath("page.html").read_text(encoding="utf-8")
        self._page = Response(page, media_type="text/html", headers={**SAFE, **_policy(page)})
        self._model = _describe(translator, limits)

    def app(self) -> Starlette:
        """An ASGI application; when it shuts down, what it has begun is decoded."""
        routes = [
            Route("/", self._show),
            Route("/health", self._health),
            Route("/model", self._describe),
            Route("/translate", self._translate, methods=["POST"]),
        ]
        handlers: Mapping[Any, Any] = {
            **dict.fromkeys(STATUS, _explain),
            HTTPException: _explain_http,
            Exception: _explain_fault,
        }
        app = Starlette(routes=routes, exception_handlers=handlers, lifespan=self._lifespan)
        # Where a client is sent to would depend on what it says of this server.
        app.router.redirect_slashes = False
        return app

    @asynccontextmanager
    async def _lifespan(self, app: Starlette) -> AsyncIterator[None]:
        yield
        await asyncio.to_thread(self._batcher.close)

    async def _show(self, connection: Connection) -> Response:
        return self._page

    async def _health(self, connection: Connection) -> Response:
        if self._batcher.closed:
            raise Unavailable("the server stops")
        return _json({"status": "ok", "waiting": self._batcher.waiting})

    async def _describe(self, connection: Connection) -> Response:
        return _json(self._model)

    async def _translate(self, connection: Connection) -> Response:
        start, timeout = time.perf_counter(), self._limits.timeout
        try:
            request = await asyncio.wait_for(self._request(connection), timeout)
        except asyncio.TimeoutError:
            raise HTTPException(408, f"the request took longer than {timeout:g} seconds to arrive") from None
        try:
            left = timeout - (time.perf_counter() - start)
            answer = await asyncio.wait_for(self._answer(connection, request), left)
        except asyncio.TimeoutError:
            raise asyncio.TimeoutError(f"it took longer than {timeout:g} seconds") from None
        return _json({**answer, "milliseconds": round(1000 * (time.perf_counter() - start), 2)})

    async def _request(self, connection: Connection) -> Request:
        kind = connection.headers.get("content-type", "").partition(";")[0].strip().lower()
        if kind != "application/json":
            # A page of another origin cannot send this type without asking, which is not answered.
            raise HTTPException(415, f"Content-Type '{kind[:40]}': needs application/json")
        return parse(await self._body(connection), self._limits, self._translator.exported)

    async def _answer(self, connection: Connection, request: Request) -> dict[str, Any]:
        # Text costs time: little is spent in vain, and no other request waits for it.
        self._batcher.admit(sum(bool(line.strip()) for line in request.lines))
        cuts = await asyncio.to_thread(self._cuts, request)
        flat = [row for each in cuts for row in each.rows]
        jobs = self._batcher.submit(flat, request.options, request.details)
        results = iter(await _unless_gone(connection, _results(jobs)))
        found = [[next(results) for _ in each.rows] for each in cuts]
        given_up = threading.Event()
        try:
            return await asyncio.to_thread(self._shown, request, cuts, found, given_up)
        finally:
            given_up.set()

    async def _body(self, connection: Connection) -> bytes:
        body = bytearray()
        async for part in connection.stream():
            body += part
            if len(body) > self._limits.max_bytes:
                raise TooLarge(f"the request has more than {self._limits.max_bytes} bytes")
        return bytes(body)

    def _cuts(self, request: Request) -> list[Cut]:
        """What is to be translated for each text."""
        splitter = self._splitter if request.split_sentences else None
        cuts, left, most = [], self._limits.max_sentences, self._limits.max_sentences
        for number, line in enumerate(request.lines, 1):
            cuts.append(cut(self._translator, splitter, line, number, most=left + 1))
            left -= len(cuts[-1].rows)
            if left < 0:
                raise TooLarge(f"text: more than {most} sentences: send several requests")
        if left < most:
            longest = max(len(row) for each in cuts for row in each.rows)
            check_length(longest, request.options, self._translator.exported)
        return cuts

    def _shown(
        self,
        request: Request,
        cuts: Sequence[Cut],
        found: Sequence[list[list[Hypothesis]]],
        given_up: threading.Event,
    ) -> dict[str, Any]:
        """The answer, of the candidates of each sentence of each line."""
        if not request.details:
            texts = [[self._translator.text(each[0].tokens) for each in line] for line in found]
            return {"translations": [line.join(each) for line, each in zip(cuts, texts, strict=True)]}
        details: list[list[dict[str, Any]]] = []
        for line in found:
            details.append([] if line else [NOTHING])
            # With details a text is one sentence, or none.
            distinct = self._translator.distinct(line[0]) if line else {}
            for each in itertools.islice(distinct.values(), request.n_best):
                # Of long texts this takes long, and a thread goes on when nobody waits for it any more.
                if given_up.is_set():
                    raise Unavailable("it took too long")
                details[-1].append(describe(self._translator, each))
        return {"translations": [each[0]["text"] for each in details], "details": details}


async def _results(jobs: "Sequence[Future[Answer]]") -> list[Answer]:
    return await asyncio.gather(*map(asyncio.wrap_future, jobs))


async def _unless_gone(connection: Connection, coroutine: Coroutine[Any, Any, Answer]) -> Answer:
    """An answer; when the client goes away meanwhile, what has not begun of it is given up.

    Args:
        connection: its body has been read.
        coroutine: what takes long.

    Raises:
        ClientDisconnect: nobody waits for it any more.
    """
    answer, gone = asyncio.ensure_future(coroutine), asyncio.ensure_future(_gone(connection))
    either: set[asyncio.Future[Any]] = {answer, gone}
    try:
        await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
        if not answer.done():
            raise ClientDisconnect("the client has gone")
        return await answer
    finally:
        # Also where it took too long, and this is cancelled itself.
        answer.cancel()
        gone.cancel()


async def _gone(connection: Connection) -> None:
    while (await connection.receive())["type"] != "http.disconnect":
        pass


def listen(host: str, port: int, timeout: float) -> socket.socket:
    """A socket for `serve`.

    Args:
        host: name or number of the machine, as others are to see it.
        port: 0 for one that is free.
        timeout: seconds after which a connection is closed whose client does not read, where Linux runs.

    Raises:
        UsageError: the host is none of this machine, or the port is taken or not allowed.
    """
    try:
        family, *_, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
    except (OSError, UnicodeError):
        raise UsageError(f"--host {host}: is no address of this machine") from None
    try:
        listening = socket.create_server(address[:2], family=family)
    except OSError as error:
        raise UsageError(f"--host {host} --port {port}: {error.strerror}; name others") from None
    # Connections inherit it. asyncio does not set it for a socket made here, and then the end of an answer
    # waits 40 ms for the client.
    listening.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    if unread := getattr(socket, "TCP_USER_TIMEOUT", None):
        # So is what nobody reads given up; else each such client kept a descriptor from the others.
        listening.setsockopt(socket.IPPROTO_TCP, unread, min(int(1000 * timeout), 2**31 - 1))
    return listening


def build_server(service: Service, timeout: float) -> uvicorn.Server:
    """A server that finishes what has begun when it is to exit.

    Args:
        service: the endpoints.
        timeout: seconds that this may take.
    """
    config = uvicorn.Config(
        service.app(),
        http=timed_protocol(service.timeout),
        log_level="warning",
        access_log=False,
        server_header=False,
        ws="none",
        timeout_graceful_shutdown=math.ceil(timeout),
    )
    return uvicorn.Server(config)


def serve(server: uvicorn.Server, listening: socket.socket) -> None:
    """Answer requests until SIGINT or SIGTERM; a second SIGINT does not wait for what has begun.

    Args:
        server: see `build_server`.
        listening: see `listen`.
    """
    for number in (signal.SIGINT, signal.SIGTERM):
        # uvicorn raises a signal again when it is done, for the handler that was there before.
        signal.signal(number, server.handle_exit)
    server.run([listening])


def _describe(translator: Translator, limits: Limits) -> dict[str, Any]:
    exported = translator.exported
    return {
        "source_lang": exported.source,
        "target_lang": exported.target,
        "precision": exported.precision,
        "teacher": exported.teacher,
        "max_source_positions": exported.longest,
        "usual_source_tokens": exported.usual,
        "sizes": exported.sizes,
        "checkpoint": read_config(exported.folder).get("checkpoint"),
        "version": __version__,
        "decoding": asdict(Decoding()),
        "limits": {name: getattr(limits, name) for name in ("max_sentences", "max_candidates", "max_bytes")},
    }


def _policy(page: str) -> dict[str, str]:
    """Headers that let a page run its own script and style, ask this server, and nothing else."""
    hashes = {}
    for tag in ("script", "style"):
        [text] = re.findall(f"<{tag}>(.*?)</{tag}>", page, re.DOTALL)
        hashes[tag] = base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
    rules = [
        "default-src 'none'",
        *(f"{tag}-src 'sha256-{value}'" for tag, value in hashes.items()),
        "connect-src 'self'",
        "img-src data:",
        *(f"{what} 'none'" for what in ("base-uri", "form-action", "frame-ancestors")),
    ]
    return {"Content-Security-Policy": "; ".join(rules), "Referrer-Policy": "no-referrer"}


def _json(content: Any, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    return JSONResponse(content, status, {**SAFE, **(headers or {})})


async def _explain(connection: Connection, error: Exception) -> Response:
    status = next(STATUS[kind] for kind in type(error).__mro__ if kind in STATUS)
    # A request may hold half characters, which no answer can.
    said = str(error).encode("utf-8", "backslashreplace").decode()
    return _json({"error": said}, status, RETRY if status == 503 else None)


async def _explain_http(connection: Connection, error: HTTPException) -> Response:
    where = {404: f"{connection.url.path}: ", 405: f"{connection.method}: "}.get(error.status_code, "")
    return _json({"error": where + error.detail}, error.status_code, error.headers)


async def _explain_fault(connection: Connection, error: Exception) -> Response:
    # Raised again behind this; then uvicorn writes it to the log.
    return _json({"error": "the server failed; its log says why"}, 500)
