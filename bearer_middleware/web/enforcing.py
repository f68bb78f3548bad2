"""Policy and routes, enforced: around the application, inside the middleware that identified
the caller. Only where there is a policy or a table of routes, so the others do not pay for it.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Awaitable, Callable, Iterable, Iterator
from typing import Any

from bearer_middleware.errors import Reason, Refused, Unavailable
from bearer_middleware.flow.drivers import arun, run, runner
from bearer_middleware.flow.transport import HttpTransport
from bearer_middleware.policy.authorizer import Authorizer
from bearer_middleware.web.asgi import TRY_AGAIN_LATER
from bearer_middleware.web.authorizing import AUTHORIZER, AsyncAuthorizer, BlockingAuthorizer
from bearer_middleware.web.challenge import Answer, Challenges
from bearer_middleware.web.client_address import ClientAddresses
from bearer_middleware.web.exemptions import below
from bearer_middleware.web.facts import facts_of_environ, facts_of_scope
from bearer_middleware.web.layers import (
    BEGINS,
    Refuse,
    Respond,
    close_body,
    read_before,
    write_nothing,
)

_logger = logging.getLogger("bearer_middleware")
_IDENTITY = "bearer_middleware.identity"
_FORGOTTEN = "authorizer.require(...) was never awaited, so the answer is withheld"
#: What a framework makes of a refusal of ours that it does not know.
_NOT_CAUGHT = 500

#: Is it without a token, and shall be?
IsOpen = Callable[[Any], bool]


class EnforcingASGI:
    """Lets requests on to an ASGI application by policy. ``refuse`` sends an answer;
    ``needs_loop``: there are functions of the user's that only the event loop can call.
    """

    def __init__(
        self,
        app: Callable[..., Awaitable[None]],
        authorizer: Authorizer,
        challenges: Challenges,
        transport: HttpTransport,
        clients: ClientAddresses | None,
        *,
        is_open: IsOpen,
        refuse: Refuse,
        needs_loop: bool,
    ) -> None:
        self._app, self._authorizer, self._challenges = app, authorizer, challenges
        self._transport, self._is_open, self._refuse = transport, is_open, refuse
        self._clients, self._needs_loop = clients, needs_loop

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return
        identity, authorizer = scope[_IDENTITY], self._authorizer
        inquiry = authorizer.inquiry(
            identity,
            scope.get("method", "GET"),
            path_in_scope(scope),
            lambda route: facts_of_scope(scope, self._clients, route=route),
        )
        if (identity is not None or not self._is_open(scope)) and not authorizer.admits_at_once(
            inquiry
        ):
            try:
                await arun(authorizer.admit(inquiry), self._transport)
            except Refused as refusal:
                await self._refuse(self._challenges.answer(refusal), scope, receive, send)
                return
        face = AsyncAuthorizer(inquiry, self._challenges, self._transport)
        scope[AUTHORIZER], face.place = face, scope
        if self._needs_loop:
            face.drive = runner()
        sending = _Sending(face, scope, send, self._refuse)
        try:
            await self._app(scope, receive, sending.send)
        except Exception as failure:
            answer = face.answer_to(failure)
            if sending.begun or answer is None:
                raise
            await self._refuse(answer, scope, read_before, send)
        finally:
            face.place = {}  # or scope and token would stay until they are collected


class _Sending:
    """What the application sends; nothing of it while a requirement was not awaited."""

    __slots__ = ("_face", "_scope", "_send", "_withheld", "_withhold", "begun")

    def __init__(self, face: AsyncAuthorizer, scope: Any, send: Any, withhold: Refuse) -> None:
        self._face, self._scope, self._send, self._withhold = face, scope, send, withhold
        self.begun = self._withheld = False

    async def send(self, message: Any) -> None:
        begins = not self.begun and message["type"] in BEGINS
        self.begun = self.begun or begins
        if self._withheld:
            return
        if self._face.pending and self.begun:
            from anyio.lowlevel import checkpoint

            await checkpoint()  # for a task that was made for it and has yet to begin
            if self._face.pending:
                await self._stop(begins=begins)
                return
        if begins and self._face.raised and message.get("status") == _NOT_CAUGHT:
            self._withheld = True
            await self._withhold(self._face.raised[-1][1], self._scope, read_before, self._send)
            return
        await self._send(message)

    async def _stop(self, *, begins: bool) -> None:
        """Answer, or end, what must not go on. Raises where it has begun, and HTTP has no word for
        that but a connection that is cut.
        """
        _logger.error(_FORGOTTEN)
        failure = Unavailable(Reason.MISCONFIGURED, _FORGOTTEN)
        if begins:
            self._withheld = True
            answer = self._face.answer(failure)
            await self._withhold(answer, self._scope, read_before, self._send)
        elif self._scope["type"] == "http":
            raise failure
        else:
            self._withheld = True
            await self._send({"type": "websocket.close", "code": TRY_AGAIN_LATER, "reason": ""})


class EnforcingWSGI:
    """Lets requests on to a WSGI application by policy. ``respond`` sends an answer."""

    def __init__(
        self,
        app: Callable[..., Iterable[bytes]],
        authorizer: Authorizer,
        challenges: Challenges,
        transport: HttpTransport,
        clients: ClientAddresses | None,
        *,
        is_open: IsOpen,
        respond: Respond,
    ) -> None:
        self._app, self._authorizer, self._challenges = app, authorizer, challenges
        self._transport, self._is_open, self._respond = transport, is_open, respond
        self._clients = clients

    def __call__(self, environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        identity, authorizer = environ[_IDENTITY], self._authorizer
        inquiry = authorizer.inquiry(
            identity,
            environ["REQUEST_METHOD"],
            path_in_environ(environ),
            lambda route: facts_of_environ(environ, self._clients, route=route),
        )
        if (identity is not None or not self._is_open(environ)) and not authorizer.admits_at_once(
            inquiry
        ):
            try:
                run(authorizer.admit(inquiry), self._transport)
            except Refused as refusal:
                return self._respond(self._challenges.answer(refusal), environ, start_response)
        face = BlockingAuthorizer(inquiry, self._challenges, self._transport)
        environ[AUTHORIZER] = face
        starting = _Starting(face, start_response)
        try:
            body = self._app(environ, starting.start)
        except Refused as refusal:
            answer = face.answer_to(refusal)
            if answer is None:
                raise
            return self._respond(answer, environ, starting.again)
        if starting.instead is not None:
            close_body(body)
            return self._respond(starting.instead, environ, start_response)
        if starting.begun:
            return body
        return _Late(
            body, face, starting, lambda answer: self._respond(answer, environ, starting.again)
        )


class _Late:
    """The body of an application that begins its answer only when it is read, as generators do."""

    __slots__ = ("_body", "_face", "_parts", "_respond", "_starting")

    def __init__(
        self,
        body: Iterable[bytes],
        face: BlockingAuthorizer,
        starting: _Starting,
        respond: Callable[[Answer], Iterable[bytes]],
    ) -> None:
        self._body, self._face, self._starting, self._respond = body, face, starting, respond
        self._parts: Iterator[bytes] | None = None

    def __iter__(self) -> Iterator[bytes]:
        return self

    def __next__(self) -> bytes:
        if self._parts is None:
            self._parts = iter(self._body)
            return self._first(self._parts)
        return next(self._parts)

    def _first(self, parts: Iterator[bytes]) -> bytes:
        try:
            part = next(parts, b"")
        except Refused as refusal:
            answer = self._face.answer_to(refusal)
            if answer is None:
                raise
            return self._instead(answer)
        answer = self._starting.instead
        return part if answer is None else self._instead(answer)

    def _instead(self, answer: Answer) -> bytes:
        self._parts = iter(self._respond(answer))
        return next(self._parts, b"")

    def close(self) -> None:
        """PEP 3333: the application's own ``close`` is called, whatever happens."""
        close_body(self._body)


class _Starting:
    """How the application begins its answer; where it begins to tell of a refusal of ours as of
    an error of its own, the refusal is answered instead.
    """

    __slots__ = ("_face", "_start", "begun", "instead")

    def __init__(self, face: BlockingAuthorizer, start_response: Any) -> None:
        self._face, self._start, self.begun = face, start_response, False
        self.instead: Answer | None = None

    def start(self, status: str, *more: Any) -> Any:
        begins, self.begun = not self.begun, True
        if begins and self._face.raised and status.startswith(str(_NOT_CAUGHT)):
            self.instead = self._face.raised[-1][1]
            return write_nothing
        return self._start(status, *more)

    def again(self, status: str, headers: Any) -> Any:
        """Begin in place of what was begun, of which nothing was sent, for the failure at hand."""
        failed = self.begun and self.instead is None
        return self._start(status, headers, *([sys.exc_info()] if failed else ()))


def path_in_scope(scope: Any) -> str:
    """As the framework routes it: decoded, below the mount point."""
    path: str = below(scope.get("root_path", ""), scope["path"])
    return path or "/"


def path_in_environ(environ: dict[str, Any]) -> str:
    """The same in WSGI; what is not UTF-8 is no path of ours, and becomes an unclear one."""
    try:
        return str(environ.get("PATH_INFO", "")).encode("latin-1").decode() or "/"
    except UnicodeError:
        return ""
