"""What decorators and dependencies refuse, on its way into the audit trail.

They are plain functions of any framework, so they leave a note, and whoever is around the
application tells it before the answer begins. Nothing of this runs without an audit trail.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import Any

from bearer_middleware.audit.record import RequestFacts
from bearer_middleware.flow.drivers import arun, run
from bearer_middleware.flow.effects import Flow
from bearer_middleware.flow.transport import HttpTransport
from bearer_middleware.web.auditing import Audited
from bearer_middleware.web.authorizing import AUTHORIZER
from bearer_middleware.web.challenge import Answer
from bearer_middleware.web.client_address import ClientAddresses
from bearer_middleware.web.facts import facts_of_environ, facts_of_scope
from bearer_middleware.web.guards import NOTED, Noted, identity_in
from bearer_middleware.web.layers import (
    BEGINS,
    Refuse,
    Respond,
    close_body,
    read_before,
    write_nothing,
)


class _Noting:
    """Around an application. ``answer`` sends an answer of ours, where what was refused had to be
    kept, and could not.
    """

    def __init__(
        self,
        app: Callable[..., Any],
        audited: Audited,
        transport: HttpTransport,
        clients: ClientAddresses | None,
        answer: Callable[..., Any],
    ) -> None:
        self._app, self._audited, self._transport = app, audited, transport
        self._clients, self._answer = clients, answer


class NotingASGI(_Noting):
    """For ASGI."""

    _answer: Refuse

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return
        noted: Noted = []
        scope[NOTED] = noted

        async def told() -> Answer | None:
            facts = _known(scope) or facts_of_scope(scope, self._clients)
            return await arun(_told(self._audited, noted, scope, facts), self._transport)

        async def answer(failure: Answer) -> None:
            await self._answer(failure, scope, read_before, send)

        sending = _Sending(noted, told, answer, send)
        try:
            await self._app(scope, receive, sending.send)
        except Exception:  # whoever is around us makes an answer of it
            await sending.tell()
            if not sending.answered:
                raise


class _Sending:
    """What the application sends, once what was refused by then is told."""

    __slots__ = ("_answer", "_begun", "_noted", "_send", "_told", "answered")

    def __init__(
        self,
        noted: Noted,
        told: Callable[[], Awaitable[Answer | None]],
        answer: Callable[[Answer], Awaitable[None]],
        send: Any,
    ) -> None:
        self._noted, self._told, self._answer, self._send = noted, told, answer, send
        self._begun = False
        #: Was another answer sent in place of the application's?
        self.answered = False

    async def send(self, message: Any) -> None:
        await self.tell()
        self._begun = self._begun or message["type"] in BEGINS
        if not self.answered:
            await self._send(message)

    async def tell(self) -> None:
        failure = await self._told() if self._noted else None
        if failure is not None and not (self._begun or self.answered):
            self.answered = True
            await self._answer(failure)


class NotingWSGI(_Noting):
    """For WSGI."""

    _answer: Respond

    def __call__(self, environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        noted: Noted = []
        environ[NOTED] = noted
        failure, has_returned = None, False

        def start(status: str, *more: Any) -> Any:
            nonlocal failure
            if noted:
                facts = _known(environ) or facts_of_environ(environ, self._clients)
                answer = run(_told(self._audited, noted, environ, facts), self._transport)
                # A generator begins when its body is under way: then the refusal itself stands.
                failure = None if has_returned else answer
            return start_response(status, *more) if failure is None else write_nothing

        body: Iterable[bytes] = self._app(environ, start)
        has_returned = True
        if failure is None:
            return body
        close_body(body)
        return self._answer(failure, environ, start_response)


def _told(
    audited: Audited, noted: Noted, place: Mapping[str, Any], facts: RequestFacts
) -> Flow[Answer | None]:
    """Tell of all that was noted; the answer where that had to be kept, and could not."""
    failure = None
    while noted:
        refusal, answer = noted.pop(0)
        told = yield from audited(refusal, answer, facts, identity_in(place))
        failure = failure if told is answer else told
    return failure


def _known(place: Mapping[str, Any]) -> RequestFacts | None:
    """The facts with the template of the route, where there is a table."""
    facts: RequestFacts | None = getattr(
        getattr(place.get(AUTHORIZER), "inquiry", None), "facts", None
    )
    return facts
