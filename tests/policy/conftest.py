"""One API with a policy, asked over ASGI and WSGI; what was asked of the policy is kept."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import pytest

from bearer_middleware import BearerMiddleware, ResourceServer, Settings, WSGIBearerMiddleware
from bearer_middleware.policy.model import AccessRequest, Decision, Effect
from bearer_middleware.testing import Issuer
from tests.contract.wire import ISSUER, Reply, bearer, call, exchange

Ask = Callable[..., Reply]

ROUTES: list[dict[str, Any]] = [
    {"method": "GET", "path": "/todos", "action": "list", "resource": "todo"},
    {"method": "GET", "path": "/todos/{id}", "action": "read", "resource": "todo:{id}"},
    {"method": "PUT", "path": "/todos/{id}", "action": "update", "resource": "todo:{id}"},
    {"method": "GET", "path": "/open", "public": True},
    {"method": "GET", "path": "/plain", "policy": False},
]


def decision(effect: str, **more: Any) -> Decision:
    """A decision of this effect."""
    return Decision(effect=Effect(effect), **more)


@dataclass
class Point:
    """A decision point that has to be asked, and keeps what it was asked; ``answer`` is a
    decision, or makes one of a request.
    """

    answer: Any = field(default_factory=lambda: decision("permit"))
    name: str = "point"
    asked: list[AccessRequest] = field(default_factory=list)
    batches: list[int] = field(default_factory=list)
    fresh: list[bool] = field(default_factory=list)

    def _one(self, request: AccessRequest) -> Any:
        self.asked.append(request)
        return self.answer(request) if callable(self.answer) else self.answer

    def decide(self, request: AccessRequest, deadline: float, *, fresh: bool = False) -> Any:
        yield from ()
        self.fresh.append(fresh)
        return self._one(request)

    def decide_many(self, requests: Any, deadline: float, *, fresh: bool = False) -> Any:
        yield from ()
        self.batches.append(len(requests))
        return [self._one(request) for request in requests]


@dataclass
class NearPoint(Point):
    """The same in this process."""

    def judge(self, request: AccessRequest) -> Any:
        return self._one(request)


async def asgi_app(scope: Any, receive: Any, send: Any) -> None:
    """Says that the request came through."""
    await send({"type": "http.response.start", "status": 204, "headers": []})
    await send({"type": "http.response.body", "body": b""})


def wsgi_app(environ: Any, start_response: Any) -> list[bytes]:
    """The same."""
    start_response("204 No Content", [])
    return []


def policed(
    policy: Any = None, *, issuer: Issuer = ISSUER, given: dict[str, Any] | None = None, **said: Any
) -> ResourceServer:
    """A server with this policy, and these settings."""
    settings = Settings(**issuer.settings(**said))
    return ResourceServer(settings, policy=policy, transport=issuer.transport(), **(given or {}))


def over_asgi(server: ResourceServer, app: Any = asgi_app, backend: str = "asyncio") -> Ask:
    """Asks ``app`` behind this server."""
    return partial(exchange, BearerMiddleware(app, server=server), backend=backend)


def over_wsgi(server: ResourceServer, app: Any = wsgi_app) -> Ask:
    """The same in the other world."""
    return partial(call, WSGIBearerMiddleware(app, server=server))


@pytest.fixture(params=["asgi", "asgi-trio", "wsgi"])
def around(request: pytest.FixtureRequest) -> Callable[[ResourceServer], Ask]:
    """Puts a middleware of each world around an application that answers 204."""
    if request.param == "asgi-trio":
        return partial(over_asgi, backend="trio")
    return over_asgi if request.param == "asgi" else over_wsgi


def token(**claims: Any) -> Any:
    """The headers of a request with such a token."""
    return bearer(ISSUER.jwt(**claims))
