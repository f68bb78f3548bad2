"""A candidate policy, asked about real requests and never obeyed."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

from bearer_middleware.access.extensions import Extensions
from bearer_middleware.flow.effects import Background, Flow, is_async, is_flow, lift
from bearer_middleware.flow.events import Event
from bearer_middleware.flow.locks import LazyLock
from bearer_middleware.issuer.upstream import Upstream
from bearer_middleware.policy.asked import ask_many
from bearer_middleware.policy.function import extensions_of
from bearer_middleware.policy.model import AccessRequest, Decision, Effect
from bearer_middleware.policy.passages import upstreams_of
from bearer_middleware.policy.point import AtOnce, DecisionPoint, Surroundings

#: ``(request, decision, candidate's decision)``, where they differ: plain, ``async`` or a flow.
Report = Callable[[AccessRequest, Decision, Decision], Any]

_MOST_AT_ONCE = 16


class Shadow:
    """Decides as ``primary`` does, and asks ``candidate`` the same, to see where it differs.

    Nothing the candidate says, raises or takes its time for changes the answer. One in this
    process is asked at once; another one in the background, with the deadline of the request, and
    not at all while sixteen such questions are open. ``counts`` has ``same``, ``different``,
    ``failed`` (it was indeterminate, or raised) and ``skipped``; what differs is logged as the
    event ``shadow_differed``, and told to ``report``.
    """

    judge: Callable[[AccessRequest], Decision]

    def __init__(
        self,
        primary: DecisionPoint,
        candidate: DecisionPoint,
        report: Report | None = None,
        *,
        name: str | None = None,
        surroundings: Surroundings | None = None,
    ) -> None:
        self._primary, self._candidate, self._report = primary, candidate, report
        self.points_within = primary, candidate
        self.name = name or primary.name
        surroundings = surroundings or Surroundings()
        self._note = surroundings.events.note
        self.extensions: Extensions = (*extensions_of(primary), *extensions_of(candidate), report)
        self.counts: Counter[str] = Counter()
        self._lock, self._monotonic = LazyLock(), surroundings.clock.monotonic
        #: Of the questions that are open: their deadlines.
        self._open: dict[object, float] = {}
        plain_report = report is None or not (is_async(report) or is_flow(report))
        self._at_once = isinstance(candidate, AtOnce) and plain_report
        if self._at_once and isinstance(primary, AtOnce):
            self.judge = self._judge

    @property
    def upstreams(self) -> tuple[Upstream, ...]:
        """Those of the primary, for health: the candidate changes nothing."""
        return upstreams_of(self._primary)

    def __repr__(self) -> str:
        return f"<Shadow {self.name}>"

    def decide(
        self, request: AccessRequest, deadline: float, *, fresh: bool = False
    ) -> Flow[Decision]:
        """The decision of the primary."""
        decision = yield from self._primary.decide(request, deadline, fresh=fresh)
        yield from self._watch([request], [decision], deadline)
        return decision

    def decide_many(
        self, requests: Sequence[AccessRequest], deadline: float, *, fresh: bool = False
    ) -> Flow[list[Decision]]:
        """The decisions of the primary."""
        decisions = yield from ask_many(self._primary, requests, deadline, fresh=fresh)
        yield from self._watch(list(requests), decisions, deadline)
        return decisions

    def _judge(self, request: AccessRequest) -> Decision:
        assert isinstance(self._primary, AtOnce)  # noqa: S101 - else there is no such method
        decision = self._primary.judge(request)
        self._compare_at_once(request, decision)
        return decision

    def _watch(
        self, requests: list[AccessRequest], decisions: list[Decision], deadline: float
    ) -> Flow[None]:
        if self._at_once:
            for request, decision in zip(requests, decisions, strict=True):
                self._compare_at_once(request, decision)
        elif (question := self._opened(deadline)) is None:
            self._count("skipped", len(requests))
        else:
            try:
                yield from Background(
                    lambda: self._compare(requests, decisions, deadline, question)
                )
            except Exception as error:  # noqa: BLE001 - there may be no thread left to start
                self._open.pop(question, None)
                self._failed(error)

    def _compare_at_once(self, request: AccessRequest, decision: Decision) -> None:
        try:
            assert isinstance(self._candidate, AtOnce)  # noqa: S101 - as above
            if self._differs(decision, other := self._candidate.judge(request)) and self._report:
                self._report(request, decision, other)
        except Exception as error:  # noqa: BLE001 - a candidate changes nothing
            self._failed(error)

    def _compare(
        self,
        requests: list[AccessRequest],
        decisions: list[Decision],
        deadline: float,
        question: object,
    ) -> Flow[None]:
        try:
            others = yield from self._candidate.decide_many(requests, deadline)
            for request, decision, other in zip(requests, decisions, others, strict=True):
                if self._differs(decision, other) and self._report is not None:
                    yield from lift(self._report, request, decision, other)
        except Exception as error:  # noqa: BLE001 - a candidate changes nothing
            self._failed(error)
        finally:
            self._open.pop(question, None)

    def _differs(self, decision: Decision, other: Decision) -> bool:
        if other.effect is Effect.INDETERMINATE:
            self._count("failed")
            return decision.effect is not Effect.INDETERMINATE
        if other.effect is decision.effect:
            self._count("same")
            return False
        self._count("different")
        detail = f"{self.name} says {decision.effect}, {self._candidate.name} {other.effect}"
        self._note(Event("shadow_differed", logging.INFO, detail=detail))
        return True

    def _failed(self, error: Exception) -> None:
        self._count("failed")
        detail = f"{self._candidate.name}: raised {type(error).__name__}"
        self._note(Event("policy_failed", logging.WARNING, detail=detail))

    def _opened(self, deadline: float) -> object | None:
        """A mark for one more question; ``None`` where there are enough of them. One whose task
        died before it began is forgotten after its deadline.
        """
        question = object()
        with self._lock:
            if len(self._open) >= _MOST_AT_ONCE:
                now = self._monotonic()
                self._open = {each: until for each, until in self._open.items() if until > now}
            if len(self._open) >= _MOST_AT_ONCE:
                return None
            self._open[question] = deadline
        return question

    def _count(self, what: str, times: int = 1) -> None:
        with self._lock:
            self.counts[what] += times
