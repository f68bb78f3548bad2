"""Starlette: who is calling, and scopes for single endpoints. FastAPI routes may use it too."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from functools import wraps
from typing import Any, ParamSpec, TypeVar, cast

from starlette.exceptions import HTTPException
from starlette.requests import HTTPConnection
from starlette.responses import Response
from starlette.websockets import WebSocket, WebSocketState

from bearer_middleware.access.identity import Identity
from bearer_middleware.errors import ConfigError
from bearer_middleware.flow.effects import is_async
from bearer_middleware.web.asgi import Message, refuse
from bearer_middleware.web.challenge import Answer
from bearer_middleware.web.guards import Guard, identity_in

P = ParamSpec("P")
T = TypeVar("T")


def current_identity(connection: HTTPConnection) -> Identity | None:
    """Who is calling; ``None`` is an anonymous caller. Takes a request or a websocket."""
    return identity_in(connection.scope)


def requires_scopes(*scopes: str) -> Callable[[Callable[P, T]], Callable[P, T]]:
    """Keep an endpoint for tokens with ALL of ``scopes``; without scopes, for any good token.

    For plain and async functions, methods of endpoint classes and websocket endpoints with a
    parameter ``request`` or ``websocket``. It belongs below ``@app.get(...)``. Raises
    ``ConfigError`` where a scope is no scope-token or the endpoint has no such parameter.
    """
    guard = Guard(*scopes)

    def decorate(endpoint: Callable[P, T]) -> Callable[P, T]:
        find = _finder(endpoint)
        if is_async(endpoint):
            asynchronous = cast("Callable[..., Any]", endpoint)

            @wraps(endpoint)
            async def guarded(*args: P.args, **kwargs: P.kwargs) -> Any:
                enforce(guard, find(args, kwargs))
                return await asynchronous(*args, **kwargs)

            return cast("Callable[P, T]", guard.mark(guarded))

        @wraps(endpoint)
        def plainly_guarded(*args: P.args, **kwargs: P.kwargs) -> T:
            enforce(guard, find(args, kwargs))
            return endpoint(*args, **kwargs)

        return guard.mark(plainly_guarded)

    return decorate


def _finder(endpoint: Callable[..., Any]) -> Callable[..., HTTPConnection]:
    """How to find the connection among the arguments of a call."""
    names = [*inspect.signature(endpoint).parameters]
    name = next((name for name in names if name in ("request", "websocket")), None)
    if name is None:
        raise ConfigError("requires_scopes: the endpoint needs a parameter request or websocket")
    index = names.index(name)

    def find(args: tuple[Any, ...], kwargs: dict[str, Any]) -> HTTPConnection:
        connection: HTTPConnection = kwargs[name] if name in kwargs else args[index]
        return connection

    return find


class Refusal(HTTPException):
    """An endpoint refuses. Sent as the middleware sends its own refusals, to the byte.

    A handler of the application for this class, or for its status code, goes first.
    """

    def __init__(self, answer: Answer, connection: HTTPConnection) -> None:
        # For who handles every HTTPException in the same way; what describes the body is theirs.
        headers = {name: value for name, value in answer.headers if not name.startswith("content-")}
        super().__init__(answer.status, answer.reason, headers)
        self.answer = answer
        self.connection = connection


def enforce(guard: Guard, connection: HTTPConnection) -> None:
    """Raise a ``Refusal`` where the caller may not pass."""
    answer = guard.refusal(connection.scope)
    if answer is not None:
        raise refusal(answer, connection)


def refusal(answer: Answer, connection: HTTPConnection) -> Refusal:
    """The exception that makes the application around this connection send ``answer``."""
    # ExceptionMiddleware leaves its handlers in the scope for the routes below it. Ours gets there
    # now, since nobody knows the application before: BearerMiddleware may be around or inside it.
    handlers, _ = connection.scope.get("starlette.exception_handlers", ({}, {}))
    handlers.setdefault(Refusal, _send)
    return Refusal(answer, connection)


async def _send(_: HTTPConnection, refusal: Refusal) -> Response | None:
    # An endpoint class has a connection of its own, which alone knows how far it got.
    connection, answer = refusal.connection, refusal.answer
    if isinstance(connection, WebSocket):
        await _deny(connection, answer)
        return None
    body = b"" if connection.scope["method"] == "HEAD" else answer.body
    response = Response(body, answer.status)
    response.raw_headers = [
        (name.encode("ascii"), value.encode("latin-1")) for name, value in answer.headers
    ]
    return response


async def _deny(websocket: WebSocket, answer: Answer) -> None:
    accepted = websocket.application_state is not WebSocketState.CONNECTING

    async def receive() -> Message:
        if websocket.client_state is WebSocketState.CONNECTING:
            return await websocket.receive()
        return {}  # the handshake was read before

    # Once it was accepted there is no HTTP any more, only the code that it is closed with.
    scope = {"type": "websocket"} if accepted else websocket.scope
    await refuse(answer, scope, receive, websocket.send)
