"""A decision point of the user's: an object with the protocol, or a function."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, cast

from bearer_middleware.errors import ConfigError
from bearer_middleware.flow.effects import Flow, is_async, is_flow, lift
from bearer_middleware.policy.model import AccessRequest, Decision, Effect, indeterminate
from bearer_middleware.policy.point import DecisionPoint, InProcess


def point_of(given: DecisionPoint | Callable[[AccessRequest], Any]) -> DecisionPoint:
    """``given`` as a decision point. Raises ``ConfigError`` where it is none."""
    if callable(getattr(given, "decide", None)) and callable(getattr(given, "decide_many", None)):
        return cast("DecisionPoint", given)
    if not callable(given):
        raise ConfigError("policy: must be a decision point, or a function of an AccessRequest")
    if is_async(given) or is_flow(given):
        return _Asked(given)
    return _Plain(given)


def _decision(answer: object, name: str) -> Decision:
    """Only ``True`` permits; ``None`` is "nothing I know of"."""
    if isinstance(answer, Decision):
        return answer
    if answer is True:
        return Decision(effect=Effect.PERMIT, point=name)
    if answer is False:
        return Decision(effect=Effect.DENY, point=name)
    if answer is None:
        return Decision(effect=Effect.NOT_APPLICABLE, point=name)
    return indeterminate("not_a_decision", point=name)


class _Plain(InProcess):
    def __init__(self, function: Callable[[AccessRequest], Any]) -> None:
        self._function, self.name = function, "function"

    def judge(self, request: AccessRequest) -> Decision:
        return _decision(self._function(request), self.name)


class _Asked:
    """Of a function that is ``async`` or a flow."""

    def __init__(self, function: Callable[[AccessRequest], Any]) -> None:
        self._function, self.name = function, "function"
        #: What may need an event loop.
        self.extensions = (function,)

    def decide(
        self, request: AccessRequest, deadline: float, *, fresh: bool = False
    ) -> Flow[Decision]:
        return _decision((yield from lift(self._function, request)), self.name)

    def decide_many(
        self, requests: Sequence[AccessRequest], deadline: float, *, fresh: bool = False
    ) -> Flow[list[Decision]]:
        decided: list[Decision] = []
        for request in requests:
            decision = yield from self.decide(request, deadline)
            decided.append(decision)
        return decided
