"""From the start of a process to its end: with the issuer away, and over the real network."""

from __future__ import annotations

import json
import socket
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import anyio
import pytest

from bearer_middleware import BearerMiddleware, WSGIBearerMiddleware
from bearer_middleware.testing import Issuer
from tests.contract.wire import bearer, call, scope_of


def free_port() -> int:
    """A port where nobody listens."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


async def hello(scope: Any, receive: Any, send: Any) -> None:
    """An application."""
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b""})


def wsgi_hello(environ: Any, start_response: Any) -> list[bytes]:
    """The same over WSGI."""
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [b""]


Ask = Callable[..., int]


def asgi_asking(**settings: Any) -> tuple[Any, Ask]:
    """A middleware, and how to ask it: each time on a new loop."""
    app = BearerMiddleware(hello, **settings)

    async def once(token: str, path: str) -> int:
        sent: list[Any] = []

        async def send(message: Any) -> None:
            sent.append(message)

        await app(scope_of(path, bearer(token) if token else []), hello, send)
        await app.server.aclose()
        return int(sent[0]["status"])

    return app.server, lambda token="", path="/": anyio.run(once, token, path)


def wsgi_asking(**settings: Any) -> tuple[Any, Ask]:
    """The same over WSGI."""
    app = WSGIBearerMiddleware(wsgi_hello, **settings)
    return app.server, lambda token="", path="/": call(app, path, bearer(token)).status


both = pytest.mark.parametrize("asking", [asgi_asking, wsgi_asking])


def until(true: Callable[[], bool]) -> None:
    """It takes a moment: the back-off after the failure."""
    deadline = time.monotonic() + 20
    while not true():
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.05)


@both
def test_an_issuer_that_is_down_at_the_start(asking: Any) -> None:
    """The application starts, answers 503, and serves by itself once the issuer is there."""
    port = free_port()
    issuer = Issuer(url=f"http://127.0.0.1:{port}")
    server, ask = asking(**issuer.settings())
    assert not server.health().ready
    assert (ask(issuer.jwt()), ask(issuer.opaque())) == (503, 503)
    with issuer.serve(port):
        until(lambda: ask(issuer.jwt()) == 200)
        assert ask(issuer.opaque()) == 200
        assert server.health().ready
    server.close()
    assert ask(issuer.jwt()) == 200  # keys that are known serve through the next outage
    assert server.health().ready
    server.close()


@both
def test_a_bootstrap_set_at_a_start_without_issuer(asking: Any, tmp_path: Path) -> None:
    """Its tokens are served from the first request on, without waiting."""
    issuer = Issuer(url=f"http://127.0.0.1:{free_port()}")
    token = issuer.jwt()
    file = tmp_path / "keys.json"
    file.write_text(json.dumps(issuer.jwks))
    server, ask = asking(**issuer.settings(jwks_bootstrap_file=file))
    for _ in range(3):
        assert ask(token) == 200
    assert server.health().ready
    server.close()


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
@pytest.mark.parametrize("end", ["complete", "failed"])
def test_the_end_of_lifespan_closes_clients(backend: str, end: str) -> None:
    """Before the application says that it has ended: afterwards the loop may be gone."""
    clients: list[Any] = []
    closed: list[bool] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "http":
            await hello(scope, receive, send)
        else:
            await send({"type": "lifespan.startup.complete"})
            await send({"type": f"lifespan.shutdown.{end}"})

    async def live(middleware: BearerMiddleware, token: str) -> None:
        async def send(message: Any) -> None:
            if message["type"].startswith("lifespan.shutdown"):
                closed.extend(client.is_closed for client in clients)

        await middleware(scope_of("/", bearer(token)), hello, send)
        for of_loop in middleware.server.transport._loops.values():
            clients.extend(of_loop.values())
        await middleware({"type": "lifespan"}, hello, send)

    with Issuer().serve() as issuer:
        middleware = BearerMiddleware(app, **issuer.settings())
        anyio.run(live, middleware, issuer.opaque(), backend=backend)
    assert closed == [True]


@both
def test_health_asks_for_nothing_at_the_start(asking: Any) -> None:
    """Building and asking for health reach nobody."""
    with Issuer().serve() as issuer:
        server, _ = asking(**issuer.settings())
        assert server.health().as_dict()["status"] == "failing"
        assert sum(issuer.requests.values()) == 0


def test_health_over_the_network() -> None:
    """Readiness without a single request."""
    with Issuer().serve() as issuer:
        settings = issuer.settings(health_path="/ready")
        app = WSGIBearerMiddleware(wsgi_hello, **settings)
        until(lambda: call(app, "/ready").status == 200)
        app.server.close()
