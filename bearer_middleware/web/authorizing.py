"""``bearer_middleware.authorizer``: how handlers ask whether the caller may, in both worlds.

In ASGI the methods return what has to be awaited; in WSGI, and in the ``blocking`` one for plain
functions below ASGI, they wait themselves. The logic is one flow each.
"""

from __future__ import annotations

import sys
from collections.abc import Awaitable, Callable, Generator, Iterable, Mapping
from importlib import import_module
from typing import Any, Generic, NoReturn, TypeVar

from bearer_middleware.errors import Refused
from bearer_middleware.flow.drivers import arun, run
from bearer_middleware.flow.effects import Flow
from bearer_middleware.flow.transport import HttpTransport
from bearer_middleware.policy.inquiry import Inquiry
from bearer_middleware.policy.model import Action, Decision, Resource
from bearer_middleware.web.challenge import Answer, Challenges

#: Where a middleware leaves it, in the ASGI scope and in the environ alike.
AUTHORIZER = "bearer_middleware.authorizer"

T = TypeVar("T")
_NOWHERE: Mapping[str, Any] = {}


class Asked(Awaitable[T], Generic[T]):
    """A question that is put when it is awaited. It is neither true nor false, so that a
    forgotten ``await`` is no permit.
    """

    __slots__ = ("_answer", "_awaited")

    def __init__(self, answer: Callable[[], Awaitable[T]], awaited: Callable[[], None]) -> None:
        self._answer, self._awaited = answer, awaited

    def __await__(self) -> Generator[Any, None, T]:
        awaited, self._awaited = self._awaited, _nothing  # once, however often it is put
        awaited()
        return self._answer().__await__()

    def __bool__(self) -> NoReturn:
        raise TypeError("a question is neither true nor false: await it")


class Face:
    """What both have: the question of one request, and how a refusal is raised."""

    __slots__ = ("_challenges", "drive", "inquiry", "place", "raised", "transport")

    def __init__(self, inquiry: Inquiry, challenges: Challenges, transport: HttpTransport) -> None:
        self.inquiry, self.transport, self._challenges = inquiry, transport, challenges
        #: How plain functions wait for what they ask.
        self.drive: Callable[[Flow[Any], HttpTransport], Any] = run
        #: The ASGI scope, while its request is served: the scope knows us, too.
        self.place: Mapping[str, Any] = _NOWHERE
        #: What was raised here, and may come through the application, with its answer.
        self.raised: list[tuple[Exception, Answer]] = []

    def answer_to(self, failure: Exception) -> Answer | None:
        """Of a refusal of ours that nobody made an answer of, or of several that tasks raised
        together; of nothing else.
        """
        if isinstance(failure, ExceptionGroup):
            answers = [self.answer_to(each) for each in failure.exceptions]
            return None if None in answers else answers[0]
        return next((answer for raised, answer in self.raised if raised is failure), None)

    def answer(self, refusal: Refused) -> Answer:
        """What the caller gets; the refusal was told of before."""
        return self._challenges.answer(refusal)

    def failure(self, refusal: Refused) -> Exception:
        """The refusal as an exception that the framework around makes an answer of; where there
        is none, the middleware does.
        """
        failure: Exception = refusal
        answer = self.answer(refusal)
        if "starlette.exception_handlers" in self.place:
            adapter = import_module("bearer_middleware.web.starlette")
            failure = adapter.refusal_in(answer, self.place)
        elif "flask" in sys.modules:
            adapter = import_module("bearer_middleware.web.flask")
            failure = adapter.refusal_of(answer) or refusal
        self.raised.append((failure, answer))
        return failure


class BlockingAuthorizer(Face):
    """For WSGI applications, and for plain functions below ASGI."""

    __slots__ = ()

    def decide(self, action: Action | str, resource: Resource | str, **context: Any) -> Decision:
        """What the decision point says; a permit whose obligations are not met is a denial.
        ``resource`` is a ``Resource``, ``type:id`` or ``type:{parameter}``; ``context`` is told to
        the decision point.
        """
        return self._run(self.inquiry.decide(action, resource, context))

    def permitted(self, action: Action | str, resource: Resource | str, **context: Any) -> bool:
        """May the caller? Refuses the request with 503 where nobody can decide."""
        return self._run(self.inquiry.permitted(action, resource, context))

    def require(self, action: Action | str, resource: Resource | str, **context: Any) -> None:
        """Refuses the request where the caller may not."""
        self._run(self.inquiry.require(action, resource, context))

    def filter(
        self,
        action: Action | str,
        items: Iterable[T],
        key: Callable[[T], Resource | str],
        **context: Any,
    ) -> list[T]:
        """Those of ``items`` that the caller may, in their order, asked for in one batch;
        ``key`` makes a resource of an item.
        """
        return self._run(self.inquiry.filter(action, items, key, context))

    def _run(self, flow: Flow[T]) -> T:
        try:
            answer: T = self.drive(flow, self.transport)
            return answer
        except Refused as refusal:
            refused = refusal
        raise self.failure(refused)


class AsyncAuthorizer(Face):
    """For ASGI applications; :attr:`blocking` is for their plain functions."""

    __slots__ = ("pending",)

    def __init__(self, inquiry: Inquiry, challenges: Challenges, transport: HttpTransport) -> None:
        super().__init__(inquiry, challenges, transport)
        #: How many requirements nobody awaited yet: with one of them no response is sent.
        self.pending = 0

    @property
    def blocking(self) -> BlockingAuthorizer:
        """For code that runs in a thread, where waiting holds up nobody."""
        face = BlockingAuthorizer(self.inquiry, self._challenges, self.transport)
        face.place, face.raised, face.drive = self.place, self.raised, self.drive
        return face

    def decide(
        self, action: Action | str, resource: Resource | str, **context: Any
    ) -> Asked[Decision]:
        """What the decision point says; a permit whose obligations are not met is a denial.
        ``resource`` is a ``Resource``, ``type:id`` or ``type:{parameter}``; ``context`` is told to
        the decision point.
        """
        return Asked(lambda: self._run(self.inquiry.decide(action, resource, context)), _nothing)

    def permitted(
        self, action: Action | str, resource: Resource | str, **context: Any
    ) -> Asked[bool]:
        """May the caller? Refuses the request with 503 where nobody can decide."""
        return Asked(lambda: self._run(self.inquiry.permitted(action, resource, context)), _nothing)

    def require(
        self, action: Action | str, resource: Resource | str, **context: Any
    ) -> Asked[None]:
        """Refuses the request where the caller may not. One that is not awaited is no permit:
        the response is then withheld, and 503 is sent.
        """
        self.pending += 1
        return Asked(
            lambda: self._run(self.inquiry.require(action, resource, context)), self._settle
        )

    def filter(
        self,
        action: Action | str,
        items: Iterable[T],
        key: Callable[[T], Resource | str],
        **context: Any,
    ) -> Asked[list[T]]:
        """Those of ``items`` that the caller may, in their order, asked for in one batch;
        ``key`` makes a resource of an item.
        """
        return Asked(lambda: self._run(self.inquiry.filter(action, items, key, context)), _nothing)

    def _settle(self) -> None:
        self.pending -= 1

    async def _run(self, flow: Flow[T]) -> T:
        try:
            return await arun(flow, self.transport)
        except Refused as refusal:
            refused = refusal
        raise self.failure(refused)


def _nothing() -> None:
    """Of a question whose answer has to be looked at."""
