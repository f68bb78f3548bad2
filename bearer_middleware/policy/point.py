"""Decision points: whoever answers an ``AccessRequest``.

One that has to be asked over the network is a :class:`DecisionPoint`, written once as flows. One
that lives in this process is besides :class:`AtOnce`: a plain call, for which no flow is made.
Neither raises: what goes wrong is an indeterminate decision, with a word of ours.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol, runtime_checkable

from bearer_middleware.flow.clock import Clock
from bearer_middleware.flow.effects import Flow, Tls
from bearer_middleware.flow.events import Events
from bearer_middleware.policy.model import AccessRequest, Decision


class DecisionPoint(Protocol):
    """Answers requests. ``deadline`` is in monotonic seconds; ``fresh`` asks it to look at its
    policy and data as they are now, past any cache of its own.
    """

    @property
    def name(self) -> str:
        """What it is called in audit and metrics."""
        ...

    def decide(
        self, request: AccessRequest, deadline: float, *, fresh: bool = False
    ) -> Flow[Decision]:
        """The decision about one request."""
        ...

    def decide_many(
        self, requests: Sequence[AccessRequest], deadline: float, *, fresh: bool = False
    ) -> Flow[list[Decision]]:
        """As many decisions as requests, in their order, by as few exchanges as can be."""
        ...


@runtime_checkable
class AtOnce(Protocol):
    """A decision point in this process, safe under threads."""

    def judge(self, request: AccessRequest) -> Decision:
        """The decision, without asking anybody."""
        ...


class InProcess:
    """What makes a :class:`DecisionPoint` of a ``judge``."""

    def judge(self, request: AccessRequest) -> Decision:
        raise NotImplementedError

    def decide(
        self, request: AccessRequest, deadline: float, *, fresh: bool = False
    ) -> Flow[Decision]:
        yield from ()  # a flow that asks nothing
        return self.judge(request)

    def decide_many(
        self, requests: Sequence[AccessRequest], deadline: float, *, fresh: bool = False
    ) -> Flow[list[Decision]]:
        yield from ()
        return [self.judge(request) for request in requests]


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What a decision point is given by the server it works for."""

    clock: Clock = field(default_factory=Clock)
    events: Events = field(default_factory=lambda: Events(monotonic=time.monotonic))
    #: Whom to trust besides, with an address that begins with https.
    tls: Tls = field(default_factory=Tls)


def forget(point: object, *, subject: str | None, resource_type: str | None) -> None:
    """Have a point, and those within it, forget decisions, where they remember any. Those within
    come first, or what they still remember would be remembered anew.
    """
    for part in getattr(point, "points_within", ()):
        forget(part, subject=subject, resource_type=resource_type)
    invalidate = getattr(point, "invalidate", None)
    if invalidate is not None:
        invalidate(subject=subject, resource_type=resource_type)
