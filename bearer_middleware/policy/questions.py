"""Asking a decision point, whatever it does: there are always as many decisions as questions."""

from __future__ import annotations

import inspect
import logging
from collections.abc import Callable, Sequence
from typing import Any

from bearer_middleware.flow.clock import Clock
from bearer_middleware.flow.effects import Flow
from bearer_middleware.flow.events import Event, Events
from bearer_middleware.policy.model import AccessRequest, Decision, indeterminate
from bearer_middleware.policy.outcomes import believed, believed_all
from bearer_middleware.policy.point import AtOnce, DecisionPoint


class Questions:
    """Puts questions to one decision point. ``patience`` is in seconds."""

    __slots__ = (
        "_clock",
        "_events",
        "_patience",
        "_point",
        "_remembered",
        "bounded",
        "judge",
        "name",
    )

    def __init__(
        self, point: DecisionPoint | None, patience: float, clock: Clock, events: Events
    ) -> None:
        self._point, self._patience, self._clock, self._events = point, patience, clock, events
        self.name = "" if point is None else point.name
        #: Of an engine in this process: see :meth:`judged`.
        self.judge: Callable[[AccessRequest], Decision] | None = (
            point.judge if isinstance(point, AtOnce) else None
        )
        #: Of one that remembers decisions: what it knows, without asking anybody.
        self._remembered: Callable[[AccessRequest], Decision | None] | None = (
            getattr(point, "remembered", None) if getattr(point, "remembers", True) else None
        )
        #: Does it want to know how long the token lives?
        self.bounded = _takes(point, "expires")

    def answers(
        self, requests: Sequence[AccessRequest], *, fresh: bool, expires: float | None
    ) -> Flow[Sequence[Decision]]:
        """As many decisions as requests, in their order. What a short batch leaves out is denied,
        a longer one is no answer to anything. Raises nothing.
        """
        point = self._point
        if point is None or not requests:
            return ()
        if self.judge is not None:
            return [self.judged(request) for request in requests]
        try:
            deadline = self._clock.monotonic() + self._patience
            more: dict[str, Any] = {"expires": expires} if self.bounded else {}
            if len(requests) == 1:
                decision = yield from point.decide(requests[0], deadline, fresh=fresh, **more)
                return (believed(decision, self.name),)
            answers = yield from point.decide_many(requests, deadline, fresh=fresh, **more)
        except Exception as error:  # noqa: BLE001 - it must not let anybody in
            yield from self._events.happened(_failed(error))
            return [indeterminate("point_failed", point=self.name) for _ in requests]
        return believed_all(answers, len(requests), self.name)

    @property
    def asks(self) -> bool:
        """Has somebody to be asked for every decision?"""
        return self.judge is None and self._remembered is None

    def at_once(self, request: AccessRequest, *, fresh: bool) -> Decision | None:
        """The decision, where no flow is needed for it: a plain call. Raises nothing."""
        if self.judge is not None:
            return self.judged(request)
        if self._remembered is None or fresh:
            return None
        try:
            known = self._remembered(request)
        except Exception as error:  # noqa: BLE001 - as below
            self._events.note(_failed(error))
            return None
        return None if known is None else believed(known, self.name)

    def judged(self, request: AccessRequest) -> Decision:
        """The decision of an engine in this process: a plain call. Raises nothing."""
        if self.judge is None:
            return indeterminate("not_at_once", point=self.name)
        try:
            return believed(self.judge(request), self.name)
        except Exception as error:  # noqa: BLE001 - it must not let anybody in
            self._events.note(_failed(error))
            return indeterminate("point_failed", point=self.name)


def _failed(error: Exception) -> Event:
    # The text of a foreign exception may hold anything: its class says enough.
    detail = f"the decision point raised {type(error).__name__}"
    return Event("policy_failed", logging.ERROR, detail=detail)


def _takes(point: DecisionPoint | None, name: str) -> bool:
    methods = () if point is None else (point.decide, point.decide_many)
    return bool(methods) and all(name in inspect.signature(each).parameters for each in methods)
