"""Decision points made of others.

They combine as XACML 3.0 has it (appendix C), and each is besides asked at once where all its
parts can be.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace

from bearer_middleware.access.extensions import Extensions
from bearer_middleware.flow.effects import Flow
from bearer_middleware.issuer.upstream import Upstream
from bearer_middleware.policy.asked import ask, ask_many, judged
from bearer_middleware.policy.function import extensions_of
from bearer_middleware.policy.model import AccessRequest, Decision, Effect
from bearer_middleware.policy.passages import upstreams_of
from bearer_middleware.policy.point import AtOnce, DecisionPoint


class _Combined:
    """The parts, in order; how their decisions make one is for the subclasses to say."""

    judge: Callable[[AccessRequest], Decision]
    _word = ""

    def __init__(self, *points: DecisionPoint, name: str | None = None) -> None:
        if not points:
            raise ValueError(f"{type(self).__name__} needs a decision point")
        self.points_within = points
        self.name = name or f"{self._word}({', '.join(point.name for point in points)})"
        #: What :func:`~bearer_middleware.access.extensions.refuse_async` has to look at.
        self.extensions: Extensions = tuple(
            extension for point in points for extension in extensions_of(point)
        )
        judges = [(point.judge, point.name) for point in points if isinstance(point, AtOnce)]
        if len(judges) == len(points):
            self._judges = judges
            self.judge = self._judge

    @property
    def upstreams(self) -> tuple[Upstream, ...]:
        """Those of all parts, for health and metrics."""
        return upstreams_of(*self.points_within)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.name}>"

    def decide(
        self, request: AccessRequest, deadline: float, *, fresh: bool = False
    ) -> Flow[Decision]:
        """The decision about one request; who comes later is asked only where that matters."""
        decisions: list[Decision] = []
        for point in self.points_within:
            decisions.append((yield from ask(point, request, deadline, fresh=fresh)))
            if self._settles(decisions[-1]):
                break
        return self._combine(decisions)

    def decide_many(
        self, requests: Sequence[AccessRequest], deadline: float, *, fresh: bool = False
    ) -> Flow[list[Decision]]:
        """Every part is asked once, about those requests that are not settled by then."""
        decisions: list[list[Decision]] = [[] for _ in requests]
        unsettled = list(range(len(requests)))
        for point in self.points_within:
            if not unsettled:
                break
            asked = [requests[place] for place in unsettled]
            said = yield from ask_many(point, asked, deadline, fresh=fresh)
            for place, decision in zip(unsettled, said, strict=True):
                decisions[place].append(decision)
            unsettled = [place for place in unsettled if not self._settles(decisions[place][-1])]
        return [self._combine(each) for each in decisions]

    def _judge(self, request: AccessRequest) -> Decision:
        decisions: list[Decision] = []
        for judge, name in self._judges:
            decisions.append(judged(judge, request, name))
            if self._settles(decisions[-1]):
                break
        return self._combine(decisions)

    def _settles(self, decision: Decision) -> bool:
        """Need nobody else be asked?"""
        raise NotImplementedError

    def _combine(self, decisions: list[Decision]) -> Decision:
        raise NotImplementedError


class AllOf(_Combined):
    """Permits where all of them permit. A denial wins over everything, then indeterminate, then
    not applicable (XACML's deny-overrides, with permits that must be unanimous).

    A denial that stronger authentication would lift gives way to one that it would not, so that
    nobody authenticates in vain. A permit has the obligations and reasons of all.
    """

    _word = "all_of"

    def _settles(self, decision: Decision) -> bool:
        return decision.effect is Effect.DENY and not _curable(decision)

    def _combine(self, decisions: list[Decision]) -> Decision:
        if self._settles(decisions[-1]):
            return decisions[-1]
        for effect in (Effect.DENY, Effect.INDETERMINATE, Effect.NOT_APPLICABLE):
            for decision in decisions:
                if decision.effect is effect:
                    return decision
        if len(decisions) == 1:
            return decisions[0]
        return replace(
            decisions[0],
            reasons=tuple(reason for each in decisions for reason in each.reasons),
            obligations=tuple(one for each in decisions for one in each.obligations),
            point=self.name,
            policy_version=_joined(each.policy_version for each in decisions),
            decision_id=_joined(each.decision_id for each in decisions),
            cached=any(each.cached for each in decisions),
            age=max(each.age for each in decisions),
        )


class FirstApplicable(_Combined):
    """The decision of the first that has one: a part that is not applicable leaves it to the
    next, one that is indeterminate does not (XACML's first-applicable).
    """

    _word = "first_applicable"

    def _settles(self, decision: Decision) -> bool:
        return decision.effect is not Effect.NOT_APPLICABLE

    def _combine(self, decisions: list[Decision]) -> Decision:
        return decisions[-1]


def _curable(decision: Decision) -> bool:
    return bool(decision.acr_values) or decision.max_age is not None


def _joined(texts: Iterable[str | None]) -> str | None:
    return "+".join(text for text in texts if text) or None
