"""Drivers by name, and a loopback server that answers as a test says."""

from __future__ import annotations

import asyncio
import socketserver
import sys
import threading
import time
from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler
from typing import Any

import pytest
import trio

from bearer_middleware.flow.drivers import arun, run
from bearer_middleware.flow.effects import HttpRequest, HttpResponse
from bearer_middleware.flow.transport import HttpTransport

WORLDS = ("sync", "asyncio", "trio")
Drive = Callable[..., Any]


def _drive(world: str, flow: Any, transport: Any = None) -> Any:
    if world == "sync":
        return run(flow, transport)

    async def go() -> Any:
        try:
            return await arun(flow, transport)
        finally:
            if isinstance(transport, HttpTransport):
                await transport.aclose()

    return asyncio.run(go()) if world == "asyncio" else trio.run(go)


@pytest.fixture(params=WORLDS)
def world(request: pytest.FixtureRequest) -> str:
    """Each driver in turn."""
    return str(request.param)


@pytest.fixture
def drive(world: str) -> Drive:
    """Run a flow to its end in this world."""
    return lambda flow, transport=None: _drive(world, flow, transport)


@pytest.fixture
def transport() -> Iterator[HttpTransport]:
    """A transport over the real network, closed afterwards."""
    transport = HttpTransport()
    yield transport
    transport.close()


@pytest.fixture
def send(drive: Drive, transport: HttpTransport) -> Callable[[HttpRequest], HttpResponse]:
    """Perform one exchange in this world."""

    def one(request: HttpRequest) -> Generator[Any, Any, HttpResponse]:
        return (yield from request)

    return lambda request: drive(one(request), transport)


@dataclass
class Seen:
    """A request as it arrived."""

    method: str
    target: str
    headers: dict[str, str]
    body: bytes


@dataclass
class Recorder:
    """A server on loopback: it writes the bytes of ``answer``, piece by piece."""

    url: str = ""
    port: int = 0
    seen: list[Seen] = field(default_factory=list)
    #: Whole answers, one after another; the last one stays.
    answers: list[bytes] = field(default_factory=list)
    pause: float = 0.0
    connections: int = 0
    stopping: threading.Event = field(default_factory=threading.Event)

    def next_answer(self) -> bytes:
        return self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]


def http_answer(body: bytes = b"{}", status: str = "200 OK", **headers: str) -> bytes:
    """An answer as it stands on the wire."""
    lines = [f"HTTP/1.1 {status}", f"content-length: {len(body)}"]
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    return "\r\n".join([*lines, "", ""]).encode() + body


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def setup(self) -> None:
        super().setup()
        self.server.recorder.connections += 1  # type: ignore[attr-defined]

    def _reply(self) -> None:
        recorder: Recorder = self.server.recorder  # type: ignore[attr-defined]
        body = self.rfile.read(int(self.headers.get("content-length") or 0))
        headers = {name.lower(): value for name, value in self.headers.items()}
        recorder.seen.append(Seen(self.command, self.path, headers, body))
        answer = recorder.next_answer()
        if not recorder.pause:
            self.wfile.write(answer)
            return
        for byte in answer:
            if recorder.stopping.wait(recorder.pause):
                return
            self.wfile.write(bytes([byte]))

    do_GET = do_POST = do_CONNECT = _reply  # noqa: N815 - http.server's names

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - http.server's name
        """Stay silent."""


class _Server(socketserver.ThreadingTCPServer):
    allow_reuse_address = True
    daemon_threads = True

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that hangs up is what these tests are about."""


@pytest.fixture
def recorder() -> Iterator[Recorder]:
    """A server that records what it is asked."""
    recorder = Recorder(answers=[http_answer()])
    with _Server(("127.0.0.1", 0), _Handler) as server:
        server.recorder = recorder  # type: ignore[attr-defined]
        recorder.port = server.server_address[1]
        recorder.url = f"http://127.0.0.1:{recorder.port}"
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield recorder
        recorder.stopping.set()
        server.shutdown()
        thread.join()


@pytest.fixture
def answer() -> Callable[..., bytes]:
    """Make an answer for the recorder."""
    return http_answer


@pytest.fixture
def quick_switches() -> Iterator[None]:
    """Threads change places as often as the interpreter can."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(before)


@pytest.fixture(autouse=True)
def no_thread_is_left() -> Iterator[None]:
    """What blocking code starts ends by itself, also after a time limit."""
    before = set(threading.enumerate())
    yield
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline and _ours(before):
        time.sleep(0.01)
    assert not _ours(before)


def _ours(before: set[threading.Thread]) -> list[str]:
    return [
        thread.name
        for thread in set(threading.enumerate()) - before
        if thread.name.startswith("bearer_middleware")
    ]
