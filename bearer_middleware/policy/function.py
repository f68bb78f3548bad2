"""A function of the user's as a decision point."""

from __future__ import annotations

import inspect
import logging
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from bearer_middleware.access.extensions import Extensions
from bearer_middleware.flow.effects import Flow, is_async, is_flow, lift
from bearer_middleware.flow.events import Event
from bearer_middleware.policy.model import AccessRequest, Decision, Effect, indeterminate
from bearer_middleware.policy.point import DecisionPoint, Surroundings

_PERMIT, _DENY = Effect.PERMIT, Effect.DENY


class FunctionPoint:
    """Asks ``function``, which is plain, ``async`` or a flow: ``(request) -> bool | Decision |
    None``.

    ``True`` or a ``Decision`` that permits lets the request through, and nothing else does:
    ``False`` denies, ``None`` says that the function has no opinion (not applicable). Anything
    else, and whatever it raises, is an indeterminate decision, 503. A plain function is asked at
    once, without a flow; an ``async`` one cannot serve WSGI, and is cancelled at the deadline.
    """

    judge: Callable[[AccessRequest], Decision]

    def __init__(
        self,
        function: Callable[[AccessRequest], Any],
        *,
        name: str | None = None,
        surroundings: Surroundings | None = None,
    ) -> None:
        self._function = function
        self.name = name or str(getattr(function, "__name__", type(function).__name__))
        surroundings = surroundings or Surroundings()
        self._note, self._monotonic = surroundings.events.note, surroundings.clock.monotonic
        #: What :func:`~bearer_middleware.access.extensions.refuse_async` has to look at.
        self.extensions: Extensions = (function,)
        if not (is_async(function) or is_flow(function)):
            self.judge = self._judge  # so it is AtOnce, and others are not

    def __repr__(self) -> str:
        return f"<FunctionPoint {self.name}>"

    def decide(
        self, request: AccessRequest, deadline: float, *, fresh: bool = False
    ) -> Flow[Decision]:
        """The decision of the function; one that is not ``async`` keeps its own deadline."""
        try:
            within = deadline - self._monotonic()
            said = yield from lift(self._function, request, within=within)
        except Exception as error:  # noqa: BLE001 - it is not ours, and must not let anybody in
            return self._failed(f"raised {type(error).__name__}")
        return self._decision(said)

    def decide_many(
        self, requests: Sequence[AccessRequest], deadline: float, *, fresh: bool = False
    ) -> Flow[list[Decision]]:
        """One after the other."""
        decisions = []
        for request in requests:
            decision = yield from self.decide(request, deadline, fresh=fresh)
            decisions.append(decision)
        return decisions

    def _judge(self, request: AccessRequest) -> Decision:
        try:
            said = self._function(request)
        except Exception as error:  # noqa: BLE001 - it is not ours, and must not let anybody in
            return self._failed(f"raised {type(error).__name__}")
        if inspect.iscoroutine(said):
            said.close()  # a plain function that returned what would have to be awaited
        return self._decision(said)

    def _decision(self, said: Any) -> Decision:
        if said is True:
            return Decision(effect=_PERMIT, point=self.name)
        if said is False:
            return Decision(effect=_DENY, point=self.name)
        if said is None:
            return Decision(effect=Effect.NOT_APPLICABLE, point=self.name)
        if isinstance(said, Decision):
            return said if said.point else replace(said, point=self.name)
        return self._failed("returned neither a bool nor a Decision nor None")

    def _failed(self, what: str) -> Decision:
        self._note(Event("policy_failed", logging.WARNING, detail=f"{self.name}: {what}"))
        return indeterminate("function_failed", point=self.name)


def extensions_of(point: DecisionPoint) -> Extensions:
    """The functions of the user's that ``point`` asks, for ``refuse_async``."""
    extensions: Extensions = getattr(point, "extensions", ())
    return extensions
