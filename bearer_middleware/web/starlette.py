"""Starlette: who is calling, scopes and policy for endpoints. FastAPI routes may use it too."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from functools import partial, wraps
from typing import Any, ParamSpec, TypeVar, cast

from starlette.exceptions import HTTPException
from starlette.requests import HTTPConnection
from starlette.responses import Response
from starlette.websockets import WebSocket, WebSocketState

from bearer_middleware.access.identity import Identity
from bearer_middleware.errors import ConfigError
from bearer_middleware.flow.effects import is_async
from bearer_middleware.policy.model import Action
from bearer_middleware.web.asgi import Message, refuse
from bearer_middleware.web.authorizing import AsyncAuthorizer
from bearer_middleware.web.challenge import Answer
from bearer_middleware.web.guards import Guard, asked_by, authorizer_in, identity_in
from bearer_middleware.web.requirement import Requirement, ResourceOf

P = ParamSpec("P")
T = TypeVar("T")


def current_identity(connection: HTTPConnection) -> Identity | None:
    """Who is calling; ``None`` is an anonymous caller. Takes a request or a websocket."""
    return identity_in(connection.scope)


def current_authorizer(connection: HTTPConnection) -> AsyncAuthorizer:
    """What an endpoint asks whether the caller may; plain ones ask its ``blocking``. Raises
    ``ConfigError`` where there is neither policy nor table of routes.
    """
    return cast("AsyncAuthorizer", authorizer_in(connection.scope))


def requires_scopes(*scopes: str) -> Callable[[Callable[P, T]], Callable[P, T]]:
    """Keep an endpoint for tokens with ALL of ``scopes``; without scopes, for any good token.

    For plain and async functions, methods of endpoint classes and websocket endpoints with a
    parameter ``request`` or ``websocket``. It belongs below ``@app.get(...)``. Raises
    ``ConfigError`` where a scope is no scope-token or the endpoint has no such parameter.
    """
    guard = Guard(*scopes)

    def decorate(endpoint: Callable[P, T]) -> Callable[P, T]:
        find = _finder(endpoint, "requires_scopes")
        if is_async(endpoint):
            asynchronous = cast("Callable[..., Any]", endpoint)

            @wraps(endpoint)
            async def guarded(*args: P.args, **kwargs: P.kwargs) -> Any:
                enforce(guard, find(args, kwargs), partial(asked_by, endpoint))
                return await asynchronous(*args, **kwargs)

            return cast("Callable[P, T]", guard.mark(guarded))

        @wraps(endpoint)
        def plainly_guarded(*args: P.args, **kwargs: P.kwargs) -> T:
            enforce(guard, find(args, kwargs), partial(asked_by, endpoint))
            return endpoint(*args, **kwargs)

        return guard.mark(plainly_guarded)

    return decorate


def requires(
    action: Action | str, resource: ResourceOf
) -> Callable[[Callable[P, T]], Callable[P, T]]:
    """Keep an endpoint for callers that policy permits ``action`` on ``resource``: a
    ``Resource``, ``type:id``, ``type:{parameter}`` with parameters of the path, or a function of
    the request that returns one of the first two.

    For the endpoints that :func:`requires_scopes` is for. Plain ones wait where they run, which
    Starlette sees to in a thread. Raises ``ConfigError`` for what cannot be meant.
    """
    requirement = Requirement(action, resource)

    def decorate(endpoint: Callable[P, T]) -> Callable[P, T]:
        find = _finder(endpoint, "requires")
        if is_async(endpoint):
            asynchronous = cast("Callable[..., Any]", endpoint)

            @wraps(endpoint)
            async def guarded(*args: P.args, **kwargs: P.kwargs) -> Any:
                await ask(requirement, find(args, kwargs))
                return await asynchronous(*args, **kwargs)

            return cast("Callable[P, T]", requirement.mark(guarded))

        requirement.refuse_async()

        @wraps(endpoint)
        def plainly_guarded(*args: P.args, **kwargs: P.kwargs) -> T:
            connection = find(args, kwargs)
            scope, parameters = connection.scope, connection.path_params
            answer = requirement.refusal(scope, parameters, connection)
            if answer is not None:
                raise refusal(answer, connection)
            return endpoint(*args, **kwargs)

        return requirement.mark(plainly_guarded)

    return decorate


async def ask(requirement: Requirement, connection: HTTPConnection) -> None:
    """Raise a ``Refusal`` where policy does not permit."""
    scope, parameters = connection.scope, connection.path_params
    answer = await requirement.arefusal(scope, parameters, connection)
    if answer is not None:
        raise refusal(answer, connection)


def _finder(endpoint: Callable[..., Any], decorator: str) -> Callable[..., HTTPConnection]:
    """How to find the connection among the arguments of a call."""
    names = [*inspect.signature(endpoint).parameters]
    name = next((name for name in names if name in ("request", "websocket")), None)
    if name is None:
        raise ConfigError(f"{decorator}: the endpoint needs a parameter request or websocket")
    index = names.index(name)

    def find(args: tuple[Any, ...], kwargs: dict[str, Any]) -> HTTPConnection:
        connection: HTTPConnection = kwargs[name] if name in kwargs else args[index]
        return connection

    return find


class Refusal(HTTPException):
    """An endpoint refuses. Sent as the middleware sends its own refusals, to the byte.

    A handler of the application for this class, or for its status code, goes first.
    """

    def __init__(self, answer: Answer, connection: HTTPConnection | None = None) -> None:
        # For who handles every HTTPException in the same way; what describes the body is theirs.
        headers = {name: value for name, value in answer.headers if not name.startswith("content-")}
        super().__init__(answer.status, answer.reason, headers)
        self.answer = answer
        self.connection = connection


def enforce(
    guard: Guard, connection: HTTPConnection, further: Callable[[], Sequence[str]] = tuple
) -> None:
    """Raise a ``Refusal`` where the caller may not pass. ``further`` is that of the guard."""
    answer = guard.refusal(connection.scope, further)
    if answer is not None:
        raise refusal(answer, connection)


def refusal(answer: Answer, connection: HTTPConnection) -> Refusal:
    """The exception that makes the application around this connection send ``answer``."""
    _handle_in(connection.scope)
    return Refusal(answer, connection)


def refusal_in(answer: Answer, scope: Mapping[str, Any]) -> Refusal:
    """The same where only the scope is at hand."""
    _handle_in(scope)
    return Refusal(answer)


def _handle_in(scope: Mapping[str, Any]) -> None:
    # ExceptionMiddleware leaves its handlers in the scope for the routes below it. Ours gets there
    # now, since nobody knows the application before: BearerMiddleware may be around or inside it.
    handlers, _ = scope.get("starlette.exception_handlers", ({}, {}))
    handlers.setdefault(Refusal, _send)


async def _send(around: HTTPConnection, refusal: Refusal) -> Response | None:
    # An endpoint class has a connection of its own, which alone knows how far it got.
    connection, answer = refusal.connection or around, refusal.answer
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
