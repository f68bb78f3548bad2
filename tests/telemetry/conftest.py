"""Servers in both worlds, and what Prometheus and OpenTelemetry would be shown of them."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Any

import pytest
from prometheus_client import CollectorRegistry

from bearer_middleware import BearerMiddleware, ResourceServer, Settings, WSGIBearerMiddleware
from bearer_middleware.testing import Issuer


class FakeClock:
    """Wall and monotonic time in one, moved by hand."""

    def __init__(self) -> None:
        self.time = float(int(time.time()))

    def __call__(self) -> float:
        return self.time


def ask_wsgi(server: ResourceServer, *tokens: str | None) -> list[int]:
    """The status of one request after another."""

    def application(environ: Any, start_response: Any) -> list[bytes]:
        start_response("200 OK", [])
        return []

    middleware, statuses = WSGIBearerMiddleware(application, server=server), []
    for token in tokens:
        environ = {"REQUEST_METHOD": "GET", "PATH_INFO": "/", "SCRIPT_NAME": ""}
        if token is not None:
            environ["HTTP_AUTHORIZATION"] = f"Bearer {token}"
        list(middleware(environ, lambda status, headers: statuses.append(int(status[:3]))))
    return statuses


def ask_asgi(server: ResourceServer, *tokens: str | None) -> list[int]:
    """The same on a loop."""
    statuses: list[int] = []

    async def application(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})

    async def send(message: Any) -> None:
        if message["type"] == "http.response.start":
            statuses.append(message["status"])

    async def main() -> None:
        middleware = BearerMiddleware(application, server=server)
        for token in tokens:
            headers = [] if token is None else [(b"authorization", f"Bearer {token}".encode())]
            scope = {"type": "http", "method": "GET", "path": "/", "headers": headers}
            await middleware(scope, None, send)
        await server.aclose()

    asyncio.run(main())
    return statuses


@pytest.fixture(params=["asgi", "wsgi"])
def ask(request: pytest.FixtureRequest) -> Callable[..., list[int]]:
    """``ask(server, *tokens)`` in either world."""
    return ask_asgi if request.param == "asgi" else ask_wsgi


@pytest.fixture
def issuer() -> Issuer:
    """In process."""
    return Issuer()


@pytest.fixture
def clock() -> FakeClock:
    """Stands still."""
    return FakeClock()


@pytest.fixture
def registry() -> CollectorRegistry:
    """Of this test alone."""
    return CollectorRegistry()


@pytest.fixture
def make(
    issuer: Issuer, clock: FakeClock, registry: CollectorRegistry
) -> Callable[..., ResourceServer]:
    """A server that trusts the issuer, shown in the registry; ``settings`` are changes."""
    kept: list[ResourceServer] = []  # what is gone counts no more

    def build(settings: dict[str, Any] | None = None, **extensions: Any) -> ResourceServer:
        extensions = {"clock": clock, "metrics": registry, **extensions}
        keywords = issuer.settings(**(settings or {}))
        kept.append(
            ResourceServer(Settings(**keywords), transport=issuer.transport(), **extensions)
        )
        return kept[-1]

    return build


@pytest.fixture
def value(registry: CollectorRegistry, issuer: Issuer) -> Callable[..., float]:
    """``value(name, **labels)``: the sum of the samples of this name that have these labels."""

    def read(name: str, **labels: str) -> float:
        return sum(
            sample.value
            for family in registry.collect()
            for sample in family.samples
            if sample.name == name and labels.items() <= sample.labels.items()
        )

    return read
