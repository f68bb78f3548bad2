"""``BEARER_CLOSE_ON_EXPIRY``: connections end when the identity they were opened with does.

A request is held against the rules when it begins. A websocket or a stream may go on for
hours after that, so where this is asked for it is held against them again: when its token
expires, and within a second of a revocation. A websocket is closed with 1008; a stream is
cut off, so that nobody takes the part for the whole. What was answered whole is left alone.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Iterator
from typing import Any

from bearer_middleware.access.identity import Identity
from bearer_middleware.errors import InvalidToken
from bearer_middleware.resource_server import ResourceServer

_LOOK_SECONDS = 0.5
_POLICY_VIOLATION = 1008  # RFC 6455 section 7.4.1


class IdentityEnded(ConnectionError):
    """The token of this connection expired or was revoked while it was open."""


class Term:
    """How long one identity may stay."""

    __slots__ = ("_identity", "_server", "_state", "_token")

    def __init__(self, server: ResourceServer, identity: Identity, token: bytes) -> None:
        self._server, self._identity, self._token = server, identity, token
        #: What it was held against: nothing yet, since it may have been revoked by now.
        self._state: object = None

    @property
    def is_over(self) -> bool:
        """Has it expired, or was it revoked?"""
        expires = self._identity.expires_at
        if expires is not None and self._server.now() >= expires:
            return True
        state = self._server.revocations.held
        if state is self._state:
            return False
        try:
            self._server.refuse_revoked(self._identity, self._token)
        except InvalidToken:
            return True
        self._state = state
        return False

    @property
    def look_after(self) -> float:
        """Seconds until it is worth a look again."""
        expires = self._identity.expires_at
        left = _LOOK_SECONDS if expires is None else expires - self._server.now()
        # What expired before there was anything to end is looked at in turn, and not incessantly.
        return min(left, _LOOK_SECONDS) if left > 0 else _LOOK_SECONDS


class EndingASGI:
    """Around an ASGI application, inside the middleware that identified the caller."""

    def __init__(self, app: Callable[..., Awaitable[None]], server: ResourceServer) -> None:
        self._app, self._server = app, server

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        identity = scope.get("bearer_middleware.identity")
        if identity is None:
            await self._app(scope, receive, send)
            return
        term = Term(self._server, identity, _token_in(scope["headers"]))
        connection = _Connection(scope["type"], send)
        await _run_while(lambda: self._app(scope, receive, connection.send), term, connection)


class _Connection:
    """What was sent so far tells whether there is something to end, and how."""

    def __init__(self, kind: str, send: Any) -> None:
        self._kind, self._send = kind, send
        self._is_open = kind == "websocket"

    async def send(self, message: Any) -> None:
        kind = message["type"]
        if kind == "http.response.body":
            self._is_open = bool(message.get("more_body"))
        elif kind == "websocket.close":
            self._is_open = False
        await self._send(message)

    async def end(self) -> bool:
        """Close it, if it is open; a response that has not begun goes on."""
        if not self._is_open:
            return False
        if self._kind == "websocket":
            self._is_open = False
            await self._send({"type": "websocket.close", "code": _POLICY_VIOLATION, "reason": ""})
        return True


async def _run_while(
    work: Callable[[], Awaitable[None]], term: Term, connection: _Connection
) -> None:
    import anyio

    async def watch() -> None:
        while True:
            await anyio.sleep(term.look_after)
            if term.is_over and await connection.end():
                tasks.cancel_scope.cancel()
                return

    try:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(watch)
            await work()
            tasks.cancel_scope.cancel()
    except BaseExceptionGroup as group:
        failures = group.exceptions
        if len(failures) != 1:
            raise
        raise failures[0] from None  # the application's own, as without us


def _token_in(headers: Iterable[tuple[bytes, bytes]]) -> bytes:
    value = next((value for name, value in headers if name.lower() == b"authorization"), b"")
    return bytes(value).partition(b" ")[2].strip()


class EndingWSGI:
    """Around a WSGI application, inside the middleware that identified the caller."""

    def __init__(self, app: Callable[..., Iterable[bytes]], server: ResourceServer) -> None:
        self._app, self._server = app, server

    def __call__(self, environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        # Looked at before the application can put something else there.
        identity = environ.get("bearer_middleware.identity")
        value = environ.get("HTTP_AUTHORIZATION", "").encode("latin-1", "replace")
        body = self._app(environ, start_response)
        if identity is None or isinstance(body, list | tuple):  # it is there already
            return body
        token = value.partition(b" ")[2].strip()
        return _EndingBody(body, Term(self._server, identity, token))


class _EndingBody:
    """Raises ``IdentityEnded`` in place of the next part, which makes a server cut the line."""

    def __init__(self, body: Iterable[bytes], term: Term) -> None:
        self._body, self._parts, self._term = body, iter(body), term
        self._has_begun = False

    def __iter__(self) -> Iterator[bytes]:
        return self

    def __next__(self) -> bytes:
        part = next(self._parts)
        if self._has_begun and self._term.is_over:
            raise IdentityEnded
        self._has_begun = True  # the first may be all: whoever was let in gets his answer
        return part

    def close(self) -> None:
        """PEP 3333: the application's own ``close`` is called, whatever happens."""
        close = getattr(self._body, "close", None)
        if close is not None:
            close()
