"""Introspection answers: asked once for many callers, remembered, judged on every use."""

from __future__ import annotations

import logging
from collections.abc import Callable
from functools import partial
from typing import Any

from bearer_middleware.errors import InvalidToken, RateLimited, Reason, Refused, Unavailable
from bearer_middleware.flow.clock import Clock
from bearer_middleware.flow.effects import Flow
from bearer_middleware.flow.events import Event, Events
from bearer_middleware.flow.flights import GRACE_SECONDS, Flights
from bearer_middleware.flow.instruments import FOLLOWERS, LOOKUPS
from bearer_middleware.flow.ring import Entry
from bearer_middleware.issuer.introspection import Answer
from bearer_middleware.memory.ahead import Ahead
from bearer_middleware.memory.asked import JustAsked
from bearer_middleware.memory.limits import Limits, Turn
from bearer_middleware.memory.places import END, Memory, Refusals, entry_of
from bearer_middleware.memory.question import Question
from bearer_middleware.memory.shared import SharedCache
from bearer_middleware.memory.stale import StaleAnswers
from bearer_middleware.tokens.facts import STATUS, Facts
from bearer_middleware.tokens.status import require_same
from bearer_middleware.tokens.text import parse_object

# So that callers who come in a row while the server fails do not each wait for it.
_FAILURE_SECONDS = 0.3
_FAILURES = 1_000
# A shared answer is asked for later than ours only if it lives on for longer than rounding does.
_NEWER_SECONDS = 1.0
# No key has this serial, so what rests on it is never served without a look at the JWT.
_NO_KEY = -1


class Answers:
    """Finds the entry of a token that only its authorization server can speak for."""

    def __init__(
        self,
        memory: Memory,
        clock: Clock,
        events: Events,
        shared: SharedCache | None,
        limits: Limits,
    ) -> None:
        self._memory, self._clock, self._events = memory, clock, events
        self._shared = shared
        follows = partial(events.tally.add, FOLLOWERS, "introspection")
        self._flights: Flights[Entry] = Flights(clock.monotonic, follows)
        self._failures = Refusals(_FAILURES, clock)
        self._ahead = Ahead(memory.introspected, clock, events)
        self._stale = StaleAnswers(memory.introspected, clock, events)
        self._advised: set[int] = set()
        self._asked = JustAsked(clock)
        self._limits = limits

    def entry(self, question: Question) -> Flow[Entry]:
        """What the answer amounts to. Raises ``InvalidToken``, ``Unavailable``."""
        question.comes_from("l1")
        try:
            entry = self._remembered(question)
            if entry is None:
                question.comes_from("upstream")
                return (yield from self._once(question, lambda: self._find(question)))
        except Unavailable as failure:
            unavailable = failure
        else:
            if self._ahead.is_due(entry):
                yield from self._renew_apart(question, entry)
            return entry
        entry = yield from self._stale.instead_of(unavailable, question.digest, question.server)
        self._events.tally.add(LOOKUPS, "pos", "stale")
        return entry

    def renewed(self, question: Question, seconds: float) -> Flow[Entry]:
        """The same, but from an answer that was asked for within so many seconds."""
        digest = question.digest
        if self._asked.has(digest):
            return (yield from self.entry(question))
        refusal = self._memory.refusals.get(digest) or self._failures.get(digest)
        if refusal is not None and refusal.payload is None:
            raise refusal.error.again()
        asked = self._clock.monotonic()
        try:
            entry = yield from self._once(question, lambda: self._within_limits(question))
        except Unavailable as failure:
            unavailable = failure
        else:
            self._asked.add(digest, asked + seconds)
            return entry
        return (yield from self._stale.instead_of(unavailable, digest, question.server))

    def _once(self, question: Question, work: Callable[[], Flow[Entry]]) -> Flow[Entry]:
        return self._flights.once(
            question.digest,
            work,
            deadline=question.deadline,
            late=lambda: _late(question),
        )

    def _renew_apart(self, question: Question, entry: Entry) -> Flow[None]:
        def renewal(deadline: float) -> Flow[Entry]:
            again = question.again(deadline)
            return self._once(again, lambda: self._find_newer(again, entry))

        patience = question.deadline - self._clock.monotonic()
        return self._ahead.renew(entry, question.server, patience, renewal)

    def _find(self, question: Question) -> Flow[Entry]:
        known = self._known(question)  # a flight may have landed before this one took off
        if known is not None:
            return known
        token, server = question.token, question.server
        if self._shared is None or server.introspection is None:
            return (yield from self._within_limits(question))
        found = yield from self._shared.find(token, server, question.deadline)
        if found.answer is not None:
            question.comes_from("l2")
            return self._accept(question, *found.answer)
        try:
            return (yield from self._within_limits(question))
        except Refused:
            yield from self._shared.give_up(token, server, found, question.deadline)
            raise

    def _within_limits(self, question: Question) -> Flow[Entry]:
        """Ask. What was good before, or the issuer signed, is no part of a flood."""
        if question.verified or self._memory.introspected.get(question.digest):
            return (yield from self._ask(question))
        return (
            yield from self._limits.within(
                question.digest,
                question.client,
                lambda turn: self._ask(question, turn),
                remember=question.server.settings.introspection_ttl <= 0,
            )
        )

    def _find_newer(self, question: Question, entry: Entry) -> Flow[Entry]:
        """Another process may have asked since then; its answer counts from when it did."""
        if self._shared is not None:
            shared = yield from self._shared.look(question.token, question.server)
            left = entry[END] - self._clock.monotonic()
            if shared is not None and shared[1] > left + _NEWER_SECONDS:
                return self._accept(question, *shared)
        return (yield from self._ask(question))

    def _ask(self, question: Question, turn: Turn | None = None) -> Flow[Entry]:
        server, asked = question.server, self._clock.monotonic()
        if server.introspection is None:
            raise InvalidToken(Reason.UNSUPPORTED_TOKEN, "no introspection", issuer=server.issuer)
        admit = None if turn is None else turn.admit
        try:
            answer = yield from server.introspection.ask(question.token, question.deadline, admit)
        except InvalidToken as inactive:
            self._end(question, inactive)
            raise
        except RateLimited:  # which says nothing of the server
            raise
        except Unavailable as failure:
            self._failures.remember(question.digest, failure, _FAILURE_SECONDS)
            raise
        now = self._clock.monotonic()
        if now >= question.deadline + GRACE_SECONDS:
            raise _late(question)  # others asked since then, and may have heard otherwise
        # It says what the server knew when it was asked, and its life counts from there.
        seconds = server.settings.introspection_ttl - (now - asked)
        entry = self._accept(question, answer, seconds)
        if turn is not None:  # before the store takes its time
            turn.good()
        if self._shared is not None and seconds > 0:
            deadline = question.deadline
            yield from self._shared.put(question.token, server, answer, seconds, deadline)
        return entry

    def _remembered(self, question: Question) -> Entry | None:
        """The same as :meth:`_known`, counted."""
        tally = self._events.tally
        try:
            entry = self._known(question)
        except Refused:
            tally.add(LOOKUPS, "neg", "hit")
            raise
        if entry is None:
            tally.add(LOOKUPS, "neg", "miss")
        tally.add(LOOKUPS, "pos", "miss" if entry is None else "hit")
        return entry

    def _known(self, question: Question) -> Entry | None:
        """A remembered answer. Raises what is remembered where that is a refusal."""
        entry = self._memory.get(question.digest)
        if entry is not None:
            return entry
        refusal = self._memory.refusals.get(question.digest)
        if refusal is None:
            failure = self._failures.get(question.digest)
            if failure is not None:
                raise failure.error.again()
            return None
        if refusal.payload is None:
            raise refusal.error.again()
        answer = Answer(parse_object(refusal.payload), refusal.payload)
        return self._accept(question, answer, refusal.until - self._clock.monotonic())

    def _accept(self, question: Question, answer: Answer, seconds: float) -> Entry:
        """Judge an answer and remember it: a good one here, a refused one apart."""
        server = question.server
        try:
            server.judge(answer.claims)
            facts = self._facts(question, answer)
        except InvalidToken as refusal:
            self._advise(question, answer, refusal)
            memory = self._memory
            memory.introspected.discard(question.digest)
            memory.refusals.remember(question.digest, refusal, seconds, answer.payload)
            raise
        serial, life = None, server.settings.introspection_ttl
        expires = answer.claims.get("exp")
        if question.verified is not None:
            facts, serial = question.verified[5:10], question.verified[3]
            if server.settings.jwt_cache_ttl == 0:
                serial = _NO_KEY  # the signature shall be verified anew each time
            life = min(life, server.settings.jwt_cache_ttl or life)
            seconds = min(seconds, life)
            expires = _earlier(expires, question.verified[1])
        if facts[2] & STATUS:
            serial = _NO_KEY  # nor without a look at its status list
        now, monotonic = self._clock.now(), self._clock.monotonic()
        digest, number = question.digest, server.number
        entry = entry_of(digest, facts, expires, seconds, serial, number, now, monotonic)
        entry = self._ahead.plan(entry, life)
        if seconds > 0:
            self._memory.introspected.put(entry)
        return entry

    def _advise(self, question: Question, answer: Answer, refusal: InvalidToken) -> None:
        """Some servers never send ``aud``: say once which setting is about that."""
        server = question.server
        if refusal.reason is not Reason.WRONG_AUDIENCE or answer.claims.get("aud") is not None:
            return
        if server.number in self._advised:
            return
        self._advised.add(server.number)
        detail = "the server sends no aud; BEARER_INTROSPECTION_AUDIENCE says what that means"
        event = Event("no_audience", logging.WARNING, refusal.reason, server.issuer, detail)
        self._events.note(event)

    def _facts(self, question: Question, answer: Answer) -> Facts:
        server, claims = question.server, answer.claims
        if question.verified is not None:
            subject = claims.get("sub")
            if subject not in (None, question.verified[5], _said(question.verified, "sub")):
                raise InvalidToken(
                    Reason.SUBJECT_MISMATCH, "the answer names another sub", issuer=server.issuer
                )
        status = server.answer_rules.status.concerns(claims)
        if status and question.verified is not None:  # which has a status of its own, if any
            require_same(claims["status"], _said(question.verified, "status"))
        return server.facts_of(claims, answer.payload, server.name, not question.is_jwt, status)

    def _end(self, question: Question, inactive: InvalidToken) -> None:
        """The server said so: whatever it said before is over at once."""
        settings, digest = question.server.settings, question.digest
        seconds = settings.negative_ttl
        if self._shared is not None and self._memory.introspected.get(digest) is not None:
            # What it said before may be shared still, and must not come back from there.
            seconds = max(seconds, settings.introspection_ttl)
        self._memory.refusals.remember(digest, inactive, seconds)
        self._memory.introspected.discard(digest)


def _earlier(one: float | None, other: float) -> float:
    return other if one is None else min(one, other)


def _said(verified: Entry, name: str) -> Any:
    """What the JWT itself says."""
    return parse_object(verified[8]).get(name)


def _late(question: Question) -> Unavailable:
    return Unavailable(Reason.INTROSPECTION_UNAVAILABLE, "timeout", issuer=question.server.issuer)
