"""Both middlewares around an application that shows whom it was told of."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest

from bearer_middleware import BearerMiddleware, Identity, ResourceServer, Settings
from bearer_middleware import WSGIBearerMiddleware as WSGIMiddleware
from bearer_middleware.testing import Issuer

KEY = "bearer_middleware.identity"


class FakeClock:
    """Wall and monotonic time in one, moved by hand."""

    def __init__(self) -> None:
        self.time = float(int(time.time()))

    def __call__(self) -> float:
        return self.time

    def advance(self, seconds: float) -> None:
        self.time += seconds


@dataclass
class Reply:
    """What the caller got, and whom the application saw, if it was asked at all."""

    status: int
    headers: dict[str, str]
    body: bytes
    reached: bool
    identity: Identity | None


def ask_wsgi(server: ResourceServer, token: str | None) -> Reply:
    """One request over WSGI."""
    seen: list[Any] = []
    start: list[Any] = []

    def application(environ: dict[str, Any], start_response: Any) -> list[bytes]:
        seen.append(environ[KEY])
        start_response("200 OK", [])
        return [b"fine"]

    environ = {"REQUEST_METHOD": "GET", "PATH_INFO": "/", "SCRIPT_NAME": ""}
    if token is not None:
        environ["HTTP_AUTHORIZATION"] = f"Bearer {token}"
    body = b"".join(
        WSGIMiddleware(application, server=server)(environ, lambda *words: start.append(words))
    )
    ((status, headers),) = start
    lower = {name.lower(): value for name, value in headers}
    return Reply(int(status[:3]), lower, body, bool(seen), seen[0] if seen else None)


def ask_asgi(server: ResourceServer, token: str | None) -> Reply:
    """One request over ASGI, on a loop of its own."""
    seen: list[Any] = []
    sent: list[Any] = []

    async def application(scope: Any, receive: Any, send: Any) -> None:
        seen.append(scope[KEY])
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"fine"})

    async def receive() -> Any:
        return {"type": "http.request", "body": b""}

    async def send(message: Any) -> None:
        sent.append(message)

    async def main() -> None:
        headers = [(b"authorization", f"Bearer {token}".encode())] if token is not None else []
        scope = {"type": "http", "method": "GET", "path": "/", "headers": headers}
        await BearerMiddleware(application, server=server)(scope, receive, send)
        await server.aclose()

    asyncio.run(main())
    headers = {name.decode(): value.decode() for name, value in sent[0]["headers"]}
    body = b"".join(message.get("body", b"") for message in sent[1:])
    return Reply(sent[0]["status"], headers, body, bool(seen), seen[0] if seen else None)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What blocks cannot await: that pair is refused when it is built, and has its own test."""
    items[:] = [item for item in items if "wsgi-asynchronous" not in item.name]


@pytest.fixture(params=["asgi", "wsgi"])
def world(request: pytest.FixtureRequest) -> str:
    """Either middleware."""
    return str(request.param)


@pytest.fixture
def ask(world: str) -> Callable[..., Reply]:
    """``ask(server, token)`` in this world."""
    return ask_asgi if world == "asgi" else ask_wsgi


@pytest.fixture
def issuer() -> Issuer:
    """In process."""
    return Issuer()


@pytest.fixture
def clock() -> FakeClock:
    """Stands still."""
    return FakeClock()


@pytest.fixture
def make(issuer: Issuer, clock: FakeClock) -> Callable[..., ResourceServer]:
    """A server that trusts the issuer; ``settings`` are changes to its settings."""

    def build(settings: dict[str, Any] | None = None, **extensions: Any) -> ResourceServer:
        extensions.setdefault("clock", clock)
        keywords = issuer.settings(**(settings or {}))
        return ResourceServer(Settings(**keywords), transport=issuer.transport(), **extensions)

    return build


@pytest.fixture
def problem() -> Callable[[Reply], dict[str, Any]]:
    """The body of a refusal."""
    return lambda reply: json.loads(reply.body)
