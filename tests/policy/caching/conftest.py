"""A decision point that counts, waits and changes its mind; and a clock moved by hand."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import Any

import pytest

from bearer_middleware.flow.clock import Clock
from bearer_middleware.flow.effects import Flow, Wait
from bearer_middleware.policy.model import (
    AccessRequest,
    Action,
    Decision,
    Effect,
    Resource,
    Subject,
)


class FakeClock:
    """Wall and monotonic time, moved by hand."""

    def __init__(self) -> None:
        self.now, self.monotonic = 1_764_000_000.0, 50.0

    def forward(self, seconds: float) -> None:
        self.now += seconds
        self.monotonic += seconds

    def clock(self) -> Clock:
        return Clock(lambda: self.now, lambda: self.monotonic)


class Point:
    """Answers what ``answer`` makes of a request, after waiting for ``gate`` where there is one."""

    name = "pdp"

    def __init__(self) -> None:
        self.asked: list[AccessRequest] = []
        self.batches: list[list[AccessRequest]] = []
        self.fresh: list[bool] = []
        self.answer: Callable[[AccessRequest], Any] = lambda _: Decision(
            effect=Effect.PERMIT, point="pdp", decision_id="d"
        )
        self.gate: Any = None
        self.entered = threading.Event()

    def decide(
        self, request: AccessRequest, deadline: float, *, fresh: bool = False
    ) -> Flow[Decision]:
        self.asked.append(request)
        self.fresh.append(fresh)
        answer = self.answer(request)
        self.entered.set()
        if self.gate is not None:
            yield from Wait(self.gate, 30)
        if isinstance(answer, BaseException):
            raise answer
        return answer  # type: ignore[no-any-return]

    def decide_many(
        self, requests: Sequence[AccessRequest], deadline: float, *, fresh: bool = False
    ) -> Flow[list[Decision]]:
        self.batches.append(list(requests))
        self.fresh.append(fresh)
        answers = [self.answer(request) for request in requests]
        self.entered.set()
        if self.gate is not None:
            yield from Wait(self.gate, 30)
        return answers


def decision(effect: Effect = Effect.PERMIT, **members: Any) -> Decision:
    """Of the point."""
    return Decision(effect=effect, point="pdp", **members)


def ask(
    subject: str = "alice", action: str = "read", resource: str = "todo:1", **context: Any
) -> AccessRequest:
    """May the subject do this to that?"""
    kind, _, name = resource.partition(":")
    return AccessRequest(Subject("user", subject), Action(action), Resource(kind, name), context)


@pytest.fixture
def clock() -> FakeClock:
    """Stands still."""
    return FakeClock()


@pytest.fixture
def point() -> Point:
    """Permits."""
    return Point()
