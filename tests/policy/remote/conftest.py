"""A decision point on loopback that answers as a test says, and the drivers to ask it with."""

from __future__ import annotations

import asyncio
import json
import socketserver
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler
from typing import Any

import pytest
import trio

from bearer_middleware.flow.drivers import arun, run
from bearer_middleware.flow.effects import Background
from bearer_middleware.flow.transport import HttpTransport

#: Seconds; nothing is measured, so only what shall run out of time is given less.
PATIENT = 30.0


@dataclass(frozen=True)
class Seen:
    """A question as it arrived."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


def http(body: Any = b"", status: int = 200, **headers: str) -> bytes:
    """An answer as it stands on the wire; what is no bytes is told in JSON."""
    if not isinstance(body, bytes):
        body = json.dumps(body).encode()
        headers.setdefault("content_type", "application/json")
    lines = [f"HTTP/1.1 {status} x", f"content-length: {len(body)}"]
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    return "\r\n".join([*lines, "", ""]).encode() + body


@dataclass
class Pdp:
    """The decision point. ``answers`` are by path; a function is given the question."""

    url: str = ""
    seen: list[Seen] = field(default_factory=list)
    answers: dict[str, Any] = field(default_factory=dict)
    #: Of every path that is not among them.
    otherwise: Any = field(default_factory=lambda: http(status=404))
    #: Seconds before each byte.
    pause: float = 0.0
    stopping: threading.Event = field(default_factory=threading.Event)

    def answer(self, seen: Seen) -> bytes:
        answer = self.answers.get(seen.path.partition("?")[0], self.otherwise)
        answer = answer(seen) if callable(answer) else answer
        return answer if isinstance(answer, bytes) else http(answer)

    def wire(self, body: Any = b"", status: int = 200, **headers: str) -> bytes:
        """Make an answer."""
        return http(body, status, **headers)

    def soon(self) -> float:
        """A patient deadline, in monotonic seconds."""
        return time.monotonic() + PATIENT

    @property
    def paths(self) -> list[str]:
        return [seen.path for seen in self.seen]


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def _reply(self) -> None:
        pdp: Pdp = self.server.pdp  # type: ignore[attr-defined]
        body = self.rfile.read(int(self.headers.get("content-length") or 0))
        headers = {name.lower(): value for name, value in self.headers.items()}
        seen = Seen(self.command, self.path, headers, body)
        pdp.seen.append(seen)
        answer = pdp.answer(seen)
        if not pdp.pause:
            self.wfile.write(answer)
            return
        for byte in answer:
            if pdp.stopping.wait(pdp.pause):
                return
            self.wfile.write(bytes([byte]))

    do_GET = do_POST = _reply  # noqa: N815 - http.server's names

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - http.server's name
        """Stay silent."""


class _Server(socketserver.ThreadingTCPServer):
    allow_reuse_address = True
    daemon_threads = True
    request_queue_size = 128

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that hangs up is what these tests are about."""


@pytest.fixture
def pdp() -> Iterator[Pdp]:
    """Without metadata; every question is answered with 404 until a test says more."""
    pdp = Pdp()
    with _Server(("127.0.0.1", 0), _Handler) as server:
        server.pdp = pdp  # type: ignore[attr-defined]
        pdp.url = f"http://127.0.0.1:{server.server_address[1]}"
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield pdp
        pdp.stopping.set()
        server.shutdown()
        thread.join()


def _synchronously(flow: Any) -> Any:
    transport = HttpTransport()
    try:
        return run(flow, transport)
    finally:
        transport.close()


async def _asynchronously(flow: Any) -> Any:
    transport = HttpTransport()
    try:
        return await arun(flow, transport)
    finally:
        await transport.aclose()


_WORLDS: dict[str, Callable[[Any], Any]] = {
    "sync": _synchronously,
    "asyncio": lambda flow: asyncio.run(_asynchronously(flow)),
    "trio": lambda flow: trio.run(_asynchronously, flow),
}


@pytest.fixture(params=_WORLDS)
def ask(request: pytest.FixtureRequest) -> Callable[[Any], Any]:
    """Drive a flow over the network, in each world."""
    return _WORLDS[request.param]


@pytest.fixture
def ask_here() -> Callable[[Any], Any]:
    """The same in this thread alone."""
    return _synchronously


class FakeClock:
    """Wall and monotonic time in one, moved by hand."""

    def __init__(self) -> None:
        self.time = 1_000_000.0

    def __call__(self) -> float:
        return self.time

    def advance(self, seconds: float) -> None:
        self.time += seconds


@pytest.fixture
def clock() -> FakeClock:
    """Stands still."""
    return FakeClock()


class Apart:
    """Drives flows here, and keeps what they would do in the background."""

    def __init__(self) -> None:
        self.later: list[Callable[[], Any]] = []

    def __call__(self, flow: Any) -> Any:
        return _synchronously(self._apart(flow))

    def background(self) -> int:
        work, self.later = self.later, []
        for start in work:
            self(start())
        return len(work)

    def _apart(self, flow: Any) -> Any:
        try:
            effect = next(flow)
            while True:
                try:
                    if isinstance(effect, Background):
                        self.later.append(effect.start)
                        reply: Any = None
                    else:
                        reply = yield effect
                except Exception as failure:  # noqa: BLE001 - as the drivers do
                    effect = flow.throw(failure)
                else:
                    effect = flow.send(reply)
        except StopIteration as done:
            return done.value


@pytest.fixture
def apart() -> Apart:
    """A driver whose background work waits to be done."""
    return Apart()
