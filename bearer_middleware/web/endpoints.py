"""What the middleware answers itself, without a token and without the application.

Only requests that are exempt are looked up here, so the others do not pay for it.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping

from bearer_middleware.flow.effects import Flow
from bearer_middleware.resource_server import ResourceServer
from bearer_middleware.web.challenge import Answer

#: From the method of a request to its answer.
Endpoint = Callable[[str], Flow[Answer]]

_READING = ("GET", "HEAD")


def endpoints_for(server: ResourceServer) -> Mapping[str, Endpoint]:
    """By path, what this server's settings ask for."""
    path = server.settings.health_path
    return {} if path is None else {path: lambda method: _health(server, method)}


def not_allowed() -> Answer:
    """The answer to any method but GET and HEAD (RFC 9110 section 15.5.6)."""
    body = json.dumps({"status": 405, "title": "Method Not Allowed"}).encode()
    return _answer(405, "application/problem+json", body, ("allow", ", ".join(_READING)))


def _health(server: ResourceServer, method: str) -> Flow[Answer]:
    """200 while requests should come here, else 503. Nobody is waited for."""
    if method not in _READING:
        return not_allowed()
    yield from server.wake()
    health = server.health()
    body = json.dumps(health.as_dict()).encode()
    return _answer(200 if health.ready else 503, "application/json", body)


def _answer(status: int, media_type: str, body: bytes, *headers: tuple[str, str]) -> Answer:
    usual = (("content-type", media_type), ("cache-control", "no-store"))
    return Answer(status, (*usual, *headers, ("content-length", str(len(body)))), body)
