"""Asks a decision point, and makes an indeterminate decision of whatever is none."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from bearer_middleware.flow.effects import Flow
from bearer_middleware.policy.model import AccessRequest, Decision, indeterminate
from bearer_middleware.policy.outcomes import believed, believed_all
from bearer_middleware.policy.point import DecisionPoint

_FAILED = "point_failed"


def ask(
    point: DecisionPoint, request: AccessRequest, deadline: float, *, fresh: bool
) -> Flow[Decision]:
    """One decision. A point does not raise; one that does could not decide."""
    try:
        answer: object = yield from point.decide(request, deadline, fresh=fresh)
    except Exception:  # noqa: BLE001 - its text may be anybody's
        return indeterminate(_FAILED, point=point.name)
    return believed(answer, point.name)


def ask_many(
    point: DecisionPoint, requests: Sequence[AccessRequest], deadline: float, *, fresh: bool
) -> Flow[list[Decision]]:
    """As many decisions as requests."""
    try:
        answers: object = yield from point.decide_many(requests, deadline, fresh=fresh)
    except Exception:  # noqa: BLE001 - as above
        return [indeterminate(_FAILED, point=point.name) for _ in requests]
    return believed_all(answers, len(requests), point.name)


def judged(judge: Callable[[AccessRequest], object], request: AccessRequest, name: str) -> Decision:
    """One decision of a point in this process, called ``name``: a plain call."""
    try:
        return believed(judge(request), name)
    except Exception:  # noqa: BLE001 - as above
        return indeterminate(_FAILED, point=name)
