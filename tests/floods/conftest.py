"""Many requests through a middleware of either world, in time that is moved by hand."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from bearer_middleware import BearerMiddleware, ResourceServer, Settings, WSGIBearerMiddleware
from bearer_middleware.testing import Issuer

#: ``(token, peer, forwarded for) -> status``, where the application answers 200.
Ask = Callable[..., int]
PEER = "192.0.2.1"


class FakeClock:
    """Wall and monotonic time in one, moved by hand."""

    def __init__(self) -> None:
        self.time = float(int(time.time()))

    def __call__(self) -> float:
        return self.time

    def advance(self, seconds: float) -> None:
        self.time += seconds


def over_wsgi(server: ResourceServer) -> Ask:
    """Requests over WSGI."""
    statuses: list[int] = []

    def start_response(status: str, headers: list[tuple[str, str]]) -> None:
        assert (status[:3] == "503") == any(name == "Retry-After" for name, _ in headers)
        statuses.append(int(status[:3]))

    def application(environ: dict[str, Any], start_response: Any) -> list[bytes]:
        start_response("200 OK", [])
        return []

    middleware = WSGIBearerMiddleware(application, server=server)

    def ask(token: str, peer: str | None = PEER, forwarded: str | None = None) -> int:
        environ = {
            "REQUEST_METHOD": "GET",
            "PATH_INFO": "/",
            "HTTP_AUTHORIZATION": f"Bearer {token}",
            "REMOTE_ADDR": peer or "",
        }
        if forwarded is not None:
            environ["HTTP_X_FORWARDED_FOR"] = forwarded
        list(middleware(environ, start_response))
        return statuses.pop()

    return ask


def over_asgi(server: ResourceServer, loop: asyncio.AbstractEventLoop) -> Ask:
    """Requests over ASGI, one after the other on one loop."""
    statuses: list[int] = []

    async def receive() -> Any:
        return {"type": "http.request", "body": b""}

    async def send(message: Any) -> None:
        if message["type"] == "http.response.start":
            names = {name for name, _ in message["headers"]}
            assert (message["status"] == 503) == (b"retry-after" in names)
            statuses.append(message["status"])

    async def application(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b""})

    middleware = BearerMiddleware(application, server=server)

    def ask(token: str, peer: str | None = PEER, forwarded: str | None = None) -> int:
        headers = [(b"authorization", f"Bearer {token}".encode())]
        if forwarded is not None:
            headers.append((b"x-forwarded-for", forwarded.encode()))
        client = None if peer is None else (peer, 4711)
        scope = {"type": "http", "method": "GET", "path": "/", "headers": headers, "client": client}
        loop.run_until_complete(middleware(scope, receive, send))
        return statuses.pop()

    return ask


@pytest.fixture
def issuer() -> Issuer:
    """In process."""
    return Issuer()


@pytest.fixture
def clock() -> FakeClock:
    """Stands still."""
    return FakeClock()


@pytest.fixture(params=["asgi", "wsgi"])
def make(request: pytest.FixtureRequest, issuer: Issuer, clock: FakeClock) -> Iterator[Any]:
    """``make(**settings)`` is a server that trusts the issuer, and how to ask it."""
    loop = asyncio.new_event_loop()
    servers: list[ResourceServer] = []

    def build(**settings: Any) -> tuple[ResourceServer, Ask]:
        keywords = Settings(**issuer.settings(**settings))
        server = ResourceServer(keywords, clock=clock, transport=issuer.transport())
        servers.append(server)
        return server, over_wsgi(server) if request.param == "wsgi" else over_asgi(server, loop)

    yield build
    for server in servers:
        loop.run_until_complete(server.aclose())
        server.close()
    loop.close()


@pytest.fixture(params=["asgi", "wsgi"])
def make_world(request: pytest.FixtureRequest) -> Iterator[Callable[[ResourceServer], Ask]]:
    """How to ask a server that is there already, in each world."""
    loop = asyncio.new_event_loop()
    servers: list[ResourceServer] = []

    def build(server: ResourceServer) -> Ask:
        servers.append(server)
        return over_wsgi(server) if request.param == "wsgi" else over_asgi(server, loop)

    yield build
    for server in servers:
        loop.run_until_complete(server.aclose())
        server.close()
    loop.run_until_complete(loop.shutdown_default_executor())
    loop.close()
