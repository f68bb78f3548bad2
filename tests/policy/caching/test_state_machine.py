"""Whatever happens in whatever order: no decision is served that was invalidated or outlived."""

from __future__ import annotations

from concurrent.futures import Future
from typing import Any

from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, rule

from bearer_middleware.policy.cached import CachedPoint
from bearer_middleware.policy.model import AccessRequest, Decision, Effect
from tests.policy.caching.conftest import FakeClock, Point, ask, decision

TTL, DENY_TTL = 10.0, 1.0
_EFFECTS = (Effect.PERMIT, Effect.PERMIT, Effect.DENY, Effect.NOT_APPLICABLE, Effect.INDETERMINATE)
subjects = st.sampled_from(["alice", "bob"])
requests = st.sampled_from([ask("alice"), ask("alice", resource="note:1"), ask("bob")])


class Decisions(RuleBasedStateMachine):
    """A point whose decisions carry a number, and a model that knows of each when it was asked,
    what has been invalidated since, and which newer one there is.
    """

    flights = Bundle("flights")

    def __init__(self) -> None:
        super().__init__()
        self.clock, self.point = FakeClock(), Point()
        self.cache = CachedPoint(
            self.point, ttl=TTL, deny_ttl=DENY_TTL, clock=self.clock.clock(), size=100
        )
        self.effect = Effect.PERMIT
        #: Of each decision by its number: the request, its effect, when, how long the token lives.
        self.made: dict[str, tuple[AccessRequest, Effect, float, float]] = {}
        self.spoilt: set[str] = set()
        self.expires = 0.0
        self.point.answer = self._answer

    def _answer(self, request: AccessRequest) -> Decision:
        number = str(len(self.made))
        now = self.clock.monotonic
        self.made[number] = (request, self.effect, now, self.expires)
        return decision(self.effect, decision_id=number)

    def _look(self, request: AccessRequest, told: Decision) -> None:
        """Is what was served from the cache still good?"""
        if not told.cached:
            return
        asked, effect, at, expires = self.made[told.decision_id or ""]
        age = self.clock.monotonic - at
        assert asked == request
        assert effect is told.effect is not Effect.INDETERMINATE
        assert told.decision_id not in self.spoilt
        assert age < (TTL if effect is Effect.PERMIT else DENY_TTL)
        assert self.clock.now < expires
        assert told.age == age

    def _spoil(self, request: AccessRequest) -> None:
        """What was asked before a fresh question began is good for nobody after it."""
        number = self.fresh_before
        for other, (asked, *_) in self.made.items():
            if asked == request and int(other) < number:
                self.spoilt.add(other)

    @rule(
        request=requests, effect=st.sampled_from(_EFFECTS), life=st.sampled_from([0.5, 3.0, 99.0])
    )
    def asked(self, request: AccessRequest, effect: Effect, life: float) -> None:
        """One question, answered at once, unless somebody is at it."""
        self.effect, self.expires = effect, self.clock.now + life
        self.point.gate = None
        flow: Any = self.cache.decide(request, self.clock.monotonic + 5, expires=self.expires)
        self._look(request, _end(flow))

    @rule(batch=st.lists(requests, max_size=4), effect=st.sampled_from(_EFFECTS))
    def asked_many(self, batch: list[AccessRequest], effect: Effect) -> None:
        """Several."""
        self.effect, self.expires = effect, self.clock.now + 99
        self.point.gate = None
        flow: Any = self.cache.decide_many(batch, self.clock.monotonic + 5, expires=self.expires)
        for request, told in zip(batch, _end(flow), strict=True):
            self._look(request, told)

    @rule(request=requests, effect=st.sampled_from(_EFFECTS))
    def asked_afresh(self, request: AccessRequest, effect: Effect) -> None:
        """Past the cache."""
        self.effect, self.expires = effect, self.clock.now + 99
        self.point.gate = None
        self.fresh_before = len(self.made)
        flow: Any = self.cache.decide(
            request, self.clock.monotonic + 5, fresh=True, expires=self.expires
        )
        told = _end(flow)
        assert not told.cached
        assert int(told.decision_id or -1) >= self.fresh_before
        # An answer that nobody keeps leaves what there was: only what is newer takes its place.
        if told.effect is not Effect.INDETERMINATE:
            self._spoil(request)

    @rule(target=flights, request=requests, effect=st.sampled_from(_EFFECTS))
    def begins(self, request: AccessRequest, effect: Effect) -> Any:
        """A question that takes its time."""
        self.effect, self.expires = effect, self.clock.now + 99
        self.point.gate = Future()
        flow: Any = self.cache.decide(request, self.clock.monotonic + 5, expires=self.expires)
        try:
            return flow, next(flow), self.point.gate
        except StopIteration as end:
            self._look(request, end.value)
            return None

    @rule(flight=consumes(flights), lost=st.booleans())
    def lands(self, flight: Any, lost: bool) -> None:
        """Its answer comes, or whoever asked has gone; who waits for another waits in vain, unless
        that one has landed.
        """
        if flight is None:
            return
        flow, effect, gate = flight
        if lost:
            flow.close()
            return
        self.point.gate = None
        try:
            while True:
                effect = flow.send(effect.landing is gate or effect.landing.done())
        except StopIteration:
            return

    @rule(subject=st.none() | subjects, kind=st.none() | st.sampled_from(["todo", "note"]))
    def changes(self, subject: str | None, kind: str | None) -> None:
        """The policy, for somebody or everybody."""
        self.cache.invalidate(subject=subject, resource_type=kind)
        everything = subject is None and kind is None
        for number, (request, *_) in self.made.items():
            if everything or request.subject.id == subject or request.resource.type == kind:
                self.spoilt.add(number)

    @rule(seconds=st.sampled_from([0.1, 0.5, 1.0, 4.0, 10.0]))
    def goes_by(self, seconds: float) -> None:
        """Time."""
        self.clock.forward(seconds)

    @rule(request=requests)
    def remembered(self, request: AccessRequest) -> None:
        """The short way."""
        told = self.cache.remembered(request)
        if told is not None:
            self._look(request, told)


def _end(flow: Any) -> Any:
    """What a flow returns; who has to wait waits in vain."""
    try:
        next(flow)
        while True:
            flow.send(False)
    except StopIteration as end:
        return end.value


TestDecisions = Decisions.TestCase
TestDecisions.settings = hypothesis_settings(
    max_examples=200, stateful_step_count=40, deadline=None
)
