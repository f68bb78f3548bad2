"""``CachedPoint``: decisions remembered for seconds, and the same question asked once at a time.

A decision is remembered no longer than its time to live, than the token it was asked for, and
than the policy behind it: :meth:`CachedPoint.invalidate` says that the policy or its data changed,
and no decision that was asked for before is given out after it. What is indeterminate is never
remembered.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import partial

from cachetools import LRUCache

from bearer_middleware.flow.clock import Clock
from bearer_middleware.flow.effects import Flow
from bearer_middleware.flow.flights import Flights
from bearer_middleware.flow.inheritance import inherited
from bearer_middleware.flow.locks import LazyLock, renew_after_fork
from bearer_middleware.policy.asked import ask, ask_many
from bearer_middleware.policy.model import AccessRequest, Decision, Effect, indeterminate
from bearer_middleware.policy.outcomes import NOT_ANSWERED
from bearer_middleware.policy.passages import Around
from bearer_middleware.policy.point import AtOnce, DecisionPoint, forget
from bearer_middleware.policy.remembering import (
    Generation,
    Generations,
    digest_of,
    from_cache,
    likeness_of,
)
from bearer_middleware.settings import Settings

_LATE = "timeout"


@dataclass(frozen=True, slots=True)
class _Kept:
    """A decision, and how long it may serve by either clock: the earlier end counts."""

    decision: Decision
    generation: Generation
    since: float
    until: float
    until_now: float


@dataclass(frozen=True, slots=True, eq=False)
class _Question:
    """A request that is being asked about. Of two with the same key the newer one counts."""

    request: AccessRequest
    key: bytes
    generation: Generation
    #: When it was asked, by either clock: a decision is as old as its question.
    since: float
    now: float


class CachedPoint(Around):
    """A decision point around another one.

    ``ttl`` is the seconds a permit serves, ``deny_ttl`` those of any other decision (at most one
    where nothing is said); with 0 nothing is remembered, but callers with the same question still
    share one exchange. ``size`` bounds the number of decisions kept.
    """

    def __init__(
        self,
        point: DecisionPoint,
        *,
        ttl: float = 0.0,
        deny_ttl: float | None = None,
        clock: Clock | None = None,
        size: int = 10_000,
    ) -> None:
        self.point = point
        self._ttl, self._deny_ttl = ttl, min(1.0, ttl) if deny_ttl is None else deny_ttl
        self._clock = Clock() if clock is None else clock
        self._lock, self._size = LazyLock(), size
        self._kept: LRUCache[bytes, _Kept] = LRUCache(size)
        self._asked: dict[bytes, _Question] = {}
        self._generations = Generations(size)
        self._one: Flights[Decision] = Flights(self._clock.monotonic)
        self._many: Flights[list[Decision]] = Flights(self._clock.monotonic)
        #: Or is each decision for those alone who wait for it?
        self.remembers = ttl > 0 or self._deny_ttl > 0
        renew_after_fork(self)

    def after_fork(self) -> None:
        """Decisions hold in the child, too; questions are the parent's."""
        self._kept = inherited(self._kept, LRUCache(self._size))
        self._asked = {}

    def __len__(self) -> int:
        return len(self._kept)

    # -- what is remembered ----------------------------------------------------------------

    def remembered(self, request: AccessRequest, now: float | None = None) -> Decision | None:
        """The decision there is already. ``now`` is seconds since the epoch."""
        key = digest_of(request)
        return None if key is None else self._recall(key, request, now)

    def invalidate(self, *, subject: str | None = None, resource_type: str | None = None) -> None:
        """The policy or its data changed: for everybody, or for a subject's id, or for a type of
        resources; with both, for either.
        """
        forget(self.point, subject=subject, resource_type=resource_type)
        with self._lock:
            if self._generations.bump(subject, resource_type):
                self._kept.clear()

    def _recall(self, key: bytes, request: AccessRequest, now: float | None) -> Decision | None:
        with self._lock:
            kept = self._kept.get(key)
            if kept is None:
                return None
            monotonic = self._clock.monotonic()
            now = self._clock.now() if now is None else now
            lives = monotonic < kept.until and now < kept.until_now
            if not lives or kept.generation != self._generations.of(request):
                del self._kept[key]
                return None
        return from_cache(kept.decision, monotonic - kept.since)

    def _keep(self, question: _Question, decision: Decision, expires: float | None) -> None:
        ttl = self._ttl if decision.permitted else self._deny_ttl
        if decision.effect is Effect.INDETERMINATE or NOT_ANSWERED in decision.reasons:
            return
        since, until_now = question.since, question.now + ttl
        if expires is not None:
            until_now = min(until_now, expires)
        kept = _Kept(decision, question.generation, since, since + ttl, until_now)
        with self._lock:
            # A newer question may have been answered meanwhile, or the policy have changed.
            if self._asked.get(question.key) is not question:
                return
            if ttl > 0 and question.generation == self._generations.of(question.request):
                self._kept[question.key] = kept
            else:  # what was decided before is no longer so, even if this is not to be kept
                self._kept.pop(question.key, None)

    # -- what is asked ---------------------------------------------------------------------

    def decide(
        self,
        request: AccessRequest,
        deadline: float,
        *,
        fresh: bool = False,
        expires: float | None = None,
    ) -> Flow[Decision]:
        """The decision about one request. ``expires`` is when the token ends, in seconds since the
        epoch; with ``fresh`` nothing that was asked for before this call is good enough.
        """
        key = digest_of(request) if self.remembers else likeness_of(request)
        if key is None:  # nobody can say which other request would be the same
            return (yield from ask(self.point, request, deadline, fresh=fresh))
        if self.remembers and not fresh:
            found = self._recall(key, request, None)
            if found is not None:
                return found
        flight = (key, self._generations.of(request))
        if self.remembers:
            question = self._question(key, request)
            work = partial(self._lead, question, deadline, fresh, expires)
        else:
            work = partial(ask, self.point, request, deadline, fresh=fresh)
        if fresh:
            return (yield from work())
        late = partial(TimeoutError, _LATE)
        try:
            return (yield from self._one.once(flight, work, deadline=deadline, late=late))
        except TimeoutError:
            return indeterminate(_LATE, point=self.name)

    def decide_many(
        self,
        requests: Sequence[AccessRequest],
        deadline: float,
        *,
        fresh: bool = False,
        expires: float | None = None,
    ) -> Flow[list[Decision]]:
        """As many decisions, in the same order. What is not remembered is asked in one batch, each
        question once.
        """
        keys = [digest_of(request) for request in requests]
        found: dict[int, Decision] = {}
        if not fresh:
            found = self._recalled(requests, keys)
        wanted: dict[object, int] = {}  # by question: where it stands first
        for place, key in enumerate(keys):
            if place not in found:
                wanted.setdefault(place if key is None else key, place)
        asked = [requests[place] for place in wanted.values()]
        if asked:
            answers = yield from self._batch(asked, list(wanted), deadline, fresh, expires)
            by_question = dict(zip(wanted, answers, strict=True))
            for place, key in enumerate(keys):
                if place not in found:
                    found[place] = by_question[place if key is None else key]
        return [found[place] for place in range(len(requests))]

    def _recalled(
        self, requests: Sequence[AccessRequest], keys: Sequence[bytes | None]
    ) -> dict[int, Decision]:
        found: dict[int, Decision] = {}
        for place, (request, key) in enumerate(zip(requests, keys, strict=True)):
            decision = None if key is None else self._recall(key, request, None)
            if decision is not None:
                found[place] = decision
        return found

    def _question(self, key: bytes, request: AccessRequest) -> _Question:
        times = (self._clock.monotonic(), self._clock.now())
        with self._lock:
            return _Question(request, key, self._generations.of(request), *times)

    def _lead(
        self, question: _Question, deadline: float, fresh: bool, expires: float | None
    ) -> Flow[Decision]:
        self._begin((question,))
        try:
            decision = yield from ask(self.point, question.request, deadline, fresh=fresh)
            self._keep(question, decision, expires)
            return decision
        finally:
            self._end((question,))

    def _batch(
        self,
        requests: Sequence[AccessRequest],
        keys: Sequence[object],
        deadline: float,
        fresh: bool,
        expires: float | None,
    ) -> Flow[list[Decision]]:
        questions = [
            self._question(key, request) if isinstance(key, bytes) else None
            for key, request in zip(keys, requests, strict=True)
        ]
        work = partial(self._lead_many, requests, questions, deadline, fresh, expires)
        if fresh or None in questions:
            return (yield from work())
        flight = tuple((one.key, one.generation) for one in questions if one is not None)
        late = partial(TimeoutError, _LATE)
        try:
            return (yield from self._many.once(flight, work, deadline=deadline, late=late))
        except TimeoutError:
            return [indeterminate(_LATE, point=self.name) for _ in requests]

    def _lead_many(
        self,
        requests: Sequence[AccessRequest],
        questions: Sequence[_Question | None],
        deadline: float,
        fresh: bool,
        expires: float | None,
    ) -> Flow[list[Decision]]:
        known = [question for question in questions if question is not None]
        self._begin(known)
        try:
            decisions = yield from ask_many(self.point, requests, deadline, fresh=fresh)
            for question, decision in zip(questions, decisions, strict=True):
                if question is not None:
                    self._keep(question, decision, expires)
            return decisions
        finally:
            self._end(known)

    def _begin(self, questions: Iterable[_Question]) -> None:
        with self._lock:
            for question in questions:
                self._asked[question.key] = question

    def _end(self, questions: Iterable[_Question]) -> None:
        with self._lock:
            for question in questions:
                if self._asked.get(question.key) is question:
                    del self._asked[question.key]


def cached(point: DecisionPoint, settings: Settings, clock: Clock) -> DecisionPoint:
    """The point as the settings have it: one that is asked over the network is shared by all who
    ask the same, and its decisions kept for ``BEARER_POLICY_CACHE_TTL``; one in this process is
    left alone unless that was set, and so is one that keeps decisions itself.
    """
    if hasattr(point, "remembered") or hasattr(point, "invalidate"):
        return point
    if isinstance(point, AtOnce) and settings.policy_cache_ttl <= 0:
        return point
    return CachedPoint(point, ttl=settings.policy_cache_ttl, clock=clock, size=settings.cache_size)
