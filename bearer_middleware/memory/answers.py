"""Introspection answers: asked once for many callers, remembered, judged on every use."""

from __future__ import annotations

import logging
from typing import NoReturn

from bearer_middleware.access.identity import Facts, facts_of
from bearer_middleware.errors import InvalidToken, Reason, Refused, Unavailable
from bearer_middleware.flow.clock import Clock
from bearer_middleware.flow.effects import Flow
from bearer_middleware.flow.events import Event, Events
from bearer_middleware.flow.flights import Flights
from bearer_middleware.flow.ring import Entry
from bearer_middleware.issuer.introspection import Answer
from bearer_middleware.issuer.server import AuthorizationServer
from bearer_middleware.memory.places import Memory, Refusals, entry_of
from bearer_middleware.memory.shared import SharedCache
from bearer_middleware.tokens.text import parse_object

# So that callers who come in a row while the server fails do not each wait for it.
_FAILURE_SECONDS = 0.3
_FAILURES = 1_000
# No key has this serial, so what rests on it is never served without a look at the JWT.
_NO_KEY = -1


class Question:
    """A token to be asked about, at whom, and until when (monotonic seconds).

    ``verified`` is the entry of a JWT that was verified locally before.
    """

    __slots__ = ("deadline", "digest", "is_jwt", "server", "token", "verified")

    def __init__(
        self,
        token: bytes,
        digest: bytes,
        server: AuthorizationServer,
        deadline: float,
        *,
        is_jwt: bool = False,
        verified: Entry | None = None,
    ) -> None:
        self.token, self.digest, self.server = token, digest, server
        self.deadline, self.is_jwt, self.verified = deadline, is_jwt, verified


class Answers:
    """Finds the entry of a token that only its authorization server can speak for."""

    def __init__(
        self, memory: Memory, clock: Clock, events: Events, shared: SharedCache | None
    ) -> None:
        self._memory, self._clock, self._events = memory, clock, events
        self._shared = shared
        self._flights: Flights[Entry] = Flights(clock.monotonic)
        self._failures = Refusals(_FAILURES, clock)
        self._advised: set[int] = set()

    def entry(self, question: Question) -> Flow[Entry]:
        """What the answer amounts to. Raises ``InvalidToken``, ``Unavailable``."""
        return self._known(question) or (
            yield from self._flights.once(
                question.digest,
                lambda: self._find(question),
                deadline=question.deadline,
                late=lambda: _late(question),
            )
        )

    def _find(self, question: Question) -> Flow[Entry]:
        known = self._known(question)  # a flight may have landed before this one took off
        if known is not None:
            return known
        token, server = question.token, question.server
        if self._shared is None or server.introspection is None:
            return (yield from self._ask(question))
        found = yield from self._shared.find(token, server, question.deadline)
        if found.answer is not None:
            return self._accept(question, *found.answer)
        try:
            return (yield from self._ask(question))
        except Refused:
            yield from self._shared.give_up(token, server, found)
            raise

    def _ask(self, question: Question) -> Flow[Entry]:
        server = question.server
        if server.introspection is None:
            raise InvalidToken(Reason.UNSUPPORTED_TOKEN, "no introspection", issuer=server.issuer)
        try:
            answer = yield from server.introspection.ask(question.token, question.deadline)
        except InvalidToken as inactive:
            seconds = server.settings.negative_ttl
            self._memory.refusals.remember(question.digest, inactive, seconds)
            self._memory.introspected.discard(question.digest)
            raise
        except Unavailable as failure:
            return (yield from self._do_without(question, failure))
        seconds = server.settings.introspection_ttl
        entry = self._accept(question, answer, seconds)
        if self._shared is not None and seconds > 0:
            yield from self._shared.put(question.token, server, answer, seconds)
        return entry

    def _known(self, question: Question) -> Entry | None:
        """A remembered answer. Raises what is remembered where that is a refusal."""
        entry = self._memory.get(question.digest)
        if entry is not None:
            return entry
        failure = self._failures.get(question.digest)
        if failure is not None:
            return self._stale(question) or _raise(failure.error.again())
        refusal = self._memory.refusals.get(question.digest)
        if refusal is None:
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
        serial = None
        claims = answer.claims
        if question.verified is not None:
            facts, serial = question.verified[5:10], question.verified[3]
            if server.settings.jwt_cache_ttl == 0:
                serial = _NO_KEY  # the signature shall be verified anew each time
            seconds = min(seconds, server.settings.jwt_cache_ttl or seconds)
            claims = {"exp": _earlier(claims.get("exp"), question.verified[1])}
        number, clock = server.number, self._clock
        entry = entry_of(question.digest, facts, claims, seconds, serial, number, clock)
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
            if subject is not None and subject != question.verified[5]:
                raise InvalidToken(
                    Reason.SUBJECT_MISMATCH, "the answer names another sub", issuer=server.issuer
                )
        return facts_of(claims, answer.payload, server.issuer, not question.is_jwt)

    def _do_without(self, question: Question, failure: Unavailable) -> Flow[Entry]:
        """The server did not answer: serve the old answer where that was asked for, or refuse."""
        self._failures.remember(question.digest, failure, _FAILURE_SECONDS)
        entry = self._stale(question)
        if entry is None:
            raise failure
        issuer = question.server.issuer
        yield from self._events.happened(Event("stale_served", logging.WARNING, issuer=issuer))
        return entry

    def _stale(self, question: Question) -> Entry | None:
        entry = self._memory.introspected.get(question.digest)
        window = question.server.settings.stale_if_error
        if entry is None or self._clock.now() >= entry[1]:
            return None
        return entry if self._clock.monotonic() < entry[2] + window else None


def _raise(error: Exception) -> NoReturn:
    raise error


def _earlier(one: float | None, other: float) -> float:
    return other if one is None else min(one, other)


def _late(question: Question) -> Unavailable:
    return Unavailable(Reason.INTROSPECTION_UNAVAILABLE, "timeout", issuer=question.server.issuer)
