"""Asks a decision point, and makes an indeterminate decision of whatever is none."""

from __future__ import annotations

from collections.abc import Sequence

from bearer_middleware.flow.effects import Flow
from bearer_middleware.policy.model import AccessRequest, Decision, indeterminate
from bearer_middleware.policy.point import DecisionPoint

_FAILED, _INCOMPLETE = "failed", "incomplete"


def ask(
    point: DecisionPoint, request: AccessRequest, deadline: float, *, fresh: bool
) -> Flow[Decision]:
    """One decision. A point does not raise; one that does, or answers otherwise, could not
    decide.
    """
    try:
        decision: object = yield from point.decide(request, deadline, fresh=fresh)
    except Exception:  # noqa: BLE001 - its text may be anybody's
        decision = None
    return decision if isinstance(decision, Decision) else _failed(point, _FAILED)


def ask_many(
    point: DecisionPoint, requests: Sequence[AccessRequest], deadline: float, *, fresh: bool
) -> Flow[list[Decision]]:
    """As many decisions as requests."""
    try:
        answer: object = yield from point.decide_many(requests, deadline, fresh=fresh)
    except Exception:  # noqa: BLE001 - as above
        answer = None
    if not isinstance(answer, list | tuple):
        return [_failed(point, _FAILED) for _ in requests]
    if len(answer) != len(requests):  # nobody can say which of them is whose
        return [_failed(point, _INCOMPLETE) for _ in requests]
    return [one if isinstance(one, Decision) else _failed(point, _FAILED) for one in answer]


def _failed(point: DecisionPoint, word: str) -> Decision:
    return indeterminate(word, point=point.name)
