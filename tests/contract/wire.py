"""What a server does with a request, without a server: raw ASGI and WSGI, any header, any path."""

from __future__ import annotations

import io
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any
from wsgiref.validate import validator

import anyio

from bearer_middleware import BearerMiddleware, ResourceServer, Settings, WSGIBearerMiddleware
from bearer_middleware.testing import Issuer

ISSUER = Issuer()  # for those who only need tokens; a test that breaks its issuer makes its own

Headers = Sequence[tuple[str, str | bytes]]


@dataclass(frozen=True)
class Reply:
    """An HTTP response. Header names are in lower case, however they were sent."""

    status: int
    headers: list[tuple[str, str]] = field(default_factory=list)
    body: bytes = b""

    def header(self, name: str) -> str | None:
        """The value of a header that may be there once."""
        values = [value for known, value in self.headers if known == name]
        assert len(values) <= 1, f"{name} stands {len(values)} times"
        return values[0] if values else None

    @property
    def challenge(self) -> str | None:
        return self.header("www-authenticate")

    @property
    def json(self) -> Any:
        return json.loads(self.body)


def bearer(token: str | bytes) -> list[tuple[str, str | bytes]]:
    """The headers of a request with this token."""
    text = token.encode() if isinstance(token, str) else token
    return [("Authorization", b"Bearer " + text)]


def scope_of(
    path: str = "/", headers: Headers = (), *, method: str = "GET", **members: Any
) -> dict[str, Any]:
    """A scope as a server makes it. ``path`` is decoded, as ASGI has it."""
    path, _, query = path.partition("?")
    return {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.4"},
        "http_version": "1.1",
        "method": method,
        "scheme": "http",
        "path": path,
        "query_string": query.encode(),
        "root_path": "",
        "server": ("testserver", 80),
        "client": ("127.0.0.1", 50000),
        "headers": [(b"host", b"testserver"), *_raw(headers)],
        "extensions": {},
        **members,
    }


def _raw(headers: Headers) -> list[tuple[bytes, bytes]]:
    return [
        (name.lower().encode(), value.encode("latin-1") if isinstance(value, str) else value)
        for name, value in headers
    ]


async def converse(
    app: Any, scope: dict[str, Any], incoming: Iterable[dict[str, Any]] = ()
) -> list[dict[str, Any]]:
    """Every message that the application sends. The client stays until the end."""
    waiting, sent = list(incoming), []
    asked = len(waiting)

    async def receive() -> dict[str, Any]:
        if not waiting:
            await anyio.sleep_forever()
        return waiting.pop(0)

    async def send(message: dict[str, Any]) -> None:
        # ASGI-3: the handshake of a websocket is read before it is answered.
        assert scope["type"] != "websocket" or len(waiting) < asked
        sent.append(message)

    await app(scope, receive, send)
    return sent


def exchange(
    app: Any, path: str = "/", headers: Headers = (), *, backend: str = "asyncio", **members: Any
) -> Reply:
    """One HTTP exchange over ASGI, in a loop of its own."""
    scope = scope_of(path, headers, **members)
    request = {"type": "http.request", "body": b"", "more_body": False}
    return reply_of(anyio.run(converse, app, scope, [request], backend=backend))


def reply_of(messages: list[dict[str, Any]], kind: str = "http.response") -> Reply:
    """The response that these messages are."""
    start, *parts = messages
    assert start["type"] == f"{kind}.start", messages
    assert {part["type"] for part in parts} == {f"{kind}.body"}
    headers = [(name.decode().lower(), text.decode("latin-1")) for name, text in start["headers"]]
    return Reply(start["status"], headers, b"".join(part.get("body", b"") for part in parts))


def handshake(
    app: Any,
    path: str = "/",
    headers: Headers = (),
    *,
    can_deny: bool = True,
    incoming: Iterable[dict[str, Any]] = (),
    backend: str = "asyncio",
) -> list[dict[str, Any]]:
    """What the application sends to a websocket that asks to be let in."""
    scope = scope_of(path, headers, type="websocket", scheme="ws", subprotocols=[])
    del scope["method"]
    scope["extensions"] = {"websocket.http.response": {}} if can_deny else {}
    messages = [{"type": "websocket.connect"}, *incoming]
    return anyio.run(converse, app, scope, messages, backend=backend)


def environ_of(
    path: str = "/", headers: Headers = (), *, method: str = "GET", **members: Any
) -> dict[str, Any]:
    """An environ as wsgiref makes it: what stands twice is joined by a comma."""
    path, _, query = path.partition("?")
    environ: dict[str, Any] = {
        "REQUEST_METHOD": method,
        "SCRIPT_NAME": "",
        "PATH_INFO": path.encode().decode("latin-1"),
        "QUERY_STRING": query,
        "SERVER_NAME": "testserver",
        "SERVER_PORT": "80",
        "SERVER_PROTOCOL": "HTTP/1.1",
        "REMOTE_ADDR": "127.0.0.1",
        "HTTP_HOST": "testserver",
        "wsgi.version": (1, 0),
        "wsgi.url_scheme": "http",
        "wsgi.input": io.BytesIO(),
        "wsgi.errors": io.StringIO(),
        "wsgi.multithread": True,
        "wsgi.multiprocess": True,
        "wsgi.run_once": False,
    }
    for name, value in headers:
        text = value if isinstance(value, str) else value.decode("latin-1")
        key = "HTTP_" + name.upper().replace("-", "_")
        environ[key] = f"{environ[key]},{text}" if key in environ else text
    return {**environ, **members}


def call(app: Any, path: str = "/", headers: Headers = (), **members: Any) -> Reply:
    """One HTTP exchange over WSGI, with ``wsgiref.validate`` watching."""
    started: list[tuple[int, list[tuple[str, str]]]] = []

    def start_response(status: str, headers: list[tuple[str, str]], *_: Any) -> Any:
        started.append((int(status[:3]), [(name.lower(), text) for name, text in headers]))
        return lambda _: None

    result = validator(app)(environ_of(path, headers, **members), start_response)
    try:
        body = b"".join(result)
    finally:
        result.close()
    [(status, got)] = started
    return Reply(status, got, body)


def server_of(issuer: Issuer = ISSUER, **overrides: Any) -> ResourceServer:
    """A resource server that trusts ``issuer`` and reaches it without a network."""
    return ResourceServer(Settings(**issuer.settings(**overrides)), transport=issuer.transport())


def protected(app: Any, issuer: Issuer = ISSUER, **overrides: Any) -> BearerMiddleware:
    """``app`` behind the middleware that trusts ``issuer``."""
    return BearerMiddleware(app, server=server_of(issuer, **overrides))


def wsgi_protected(app: Any, issuer: Issuer = ISSUER, **overrides: Any) -> WSGIBearerMiddleware:
    """The same over WSGI."""
    return WSGIBearerMiddleware(app, server=server_of(issuer, **overrides))
