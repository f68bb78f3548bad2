"""Requests as a server makes them, and the applications they are for.

Scope and environ are built anew for each request, the Authorization header from its two
halves, so no hash and no copy of it is there from the request before.
"""

from __future__ import annotations

import io
import sys
from collections.abc import Awaitable, Callable
from typing import Any

Work = Callable[[bytes], Awaitable[None]]


class Refusal(Exception):
    """The application was not reached."""


def scope_of(token: bytes) -> dict[str, Any]:
    """A scope of 14 keys with 9 headers, as uvicorn makes it."""
    return {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.4"},
        "http_version": "1.1",
        "server": ("127.0.0.1", 8000),
        "client": ("127.0.0.1", 51034),
        "scheme": "http",
        "method": "GET",
        "root_path": "",
        "path": "/orders",
        "raw_path": b"/orders",
        "query_string": b"page=2",
        "headers": [
            (b"host", b"api.example.com"),
            (b"user-agent", b"Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36"),
            (b"accept", b"application/json"),
            (b"accept-language", b"en-GB,en;q=0.9"),
            (b"accept-encoding", b"gzip, deflate, br"),
            (b"authorization", b"Bearer " + token),
            (b"x-request-id", b"0b2b5f0e-6d5c-4b5e-9a8f-2f5b7d1c9e4a"),
            (b"x-forwarded-for", b"203.0.113.7"),
            (b"connection", b"keep-alive"),
        ],
        "state": {},
        "extensions": {},
    }


async def bare_asgi(scope: Any, receive: Any, send: Any) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"ok"})


async def _receive() -> dict[str, Any]:
    return {"type": "http.request", "body": b"", "more_body": False}


async def _send(message: dict[str, Any]) -> None:
    if message.get("status", 200) != 200:
        raise Refusal(message["status"])


async def _send_anything(message: dict[str, Any]) -> None:
    pass


def asgi(app: Any) -> Work:
    """One whole request through ``app``, which has to let it pass."""

    async def request(token: bytes) -> None:
        await app(scope_of(token), _receive, _send)

    return request


def refused_asgi(app: Any) -> Work:
    """One whole request through ``app``, whatever it answers."""

    async def request(token: bytes) -> None:
        await app(scope_of(token), _receive, _send_anything)

    return request


def environ_of(token: str) -> dict[str, Any]:
    """An environ as gunicorn makes it."""
    return {
        "REQUEST_METHOD": "GET",
        "SCRIPT_NAME": "",
        "PATH_INFO": "/orders",
        "RAW_URI": "/orders?page=2",
        "QUERY_STRING": "page=2",
        "SERVER_NAME": "127.0.0.1",
        "SERVER_PORT": "8000",
        "SERVER_PROTOCOL": "HTTP/1.1",
        "SERVER_SOFTWARE": "gunicorn/27.0.1",
        "REMOTE_ADDR": "127.0.0.1",
        "REMOTE_PORT": "51034",
        "HTTP_HOST": "api.example.com",
        "HTTP_USER_AGENT": "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36",
        "HTTP_ACCEPT": "application/json",
        "HTTP_ACCEPT_LANGUAGE": "en-GB,en;q=0.9",
        "HTTP_ACCEPT_ENCODING": "gzip, deflate, br",
        "HTTP_AUTHORIZATION": "Bearer " + token,
        "HTTP_X_REQUEST_ID": "0b2b5f0e-6d5c-4b5e-9a8f-2f5b7d1c9e4a",
        "HTTP_X_FORWARDED_FOR": "203.0.113.7",
        "HTTP_CONNECTION": "keep-alive",
        "wsgi.version": (1, 0),
        "wsgi.url_scheme": "http",
        "wsgi.input": _no_body,
        "wsgi.errors": sys.stderr,
        "wsgi.multithread": True,
        "wsgi.multiprocess": True,
        "wsgi.run_once": False,
    }


_no_body = io.BytesIO()


def bare_wsgi(environ: Any, start_response: Any) -> list[bytes]:
    start_response("200 OK", [("content-type", "text/plain")])
    return [b"ok"]


def _start_response(status: str, headers: Any, exc_info: Any = None) -> None:
    if not status.startswith("200"):
        raise Refusal(status)


def wsgi(app: Any) -> Callable[[str], None]:
    """One whole request through ``app``, which has to let it pass."""

    def request(token: str) -> None:
        body = app(environ_of(token), _start_response)
        for _ in body:
            pass
        close = getattr(body, "close", None)
        if close is not None:
            close()

    return request
