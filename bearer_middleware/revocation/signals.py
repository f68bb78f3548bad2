"""Shared Signals: a transmitter pushes what happened to sessions and accounts (RFC 8935).

An event token (RFC 8417, SSF 1.0 section 4) is a JWT of its own kind, with events of CAEP 1.0
and RISC 1.0. Nothing in it is believed before its signature is verified. What an event says of
a subject revokes all that the subject was issued up to then; what is issued later is good.

A token that was carried out already is acknowledged and not carried out again: its transmitter
did not get the answer, and sends it until it does (RFC 8935 section 2). Nothing else can come
of a replay, since every revocation has its time in it. For the same reason a token may be old:
it may have waited for us, and is refused only when there is nothing left that it could revoke.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from typing import Any, Literal, NamedTuple

from bearer_middleware.errors import InvalidToken, Reason
from bearer_middleware.flow.clock import Clock
from bearer_middleware.flow.effects import Flow
from bearer_middleware.flow.events import Event, Events
from bearer_middleware.issuer.transmitter import Transmitter
from bearer_middleware.revocation.incoming import (
    Rejected,
    Seen,
    Turnstile,
    identifier_in,
    read_jwt,
    time_in,
    verify,
)
from bearer_middleware.revocation.request import Revocation
from bearer_middleware.revocation.subjects import Subject, Subjects
from bearer_middleware.tokens.claims import audience_of
from bearer_middleware.tokens.jws import Jws

MAX_SET_BYTES = 65_536
#: For health: a status, and what is shown.
Condition = tuple[Literal["ok", "degraded", "failing"], Mapping[str, Any]]
_MEDIA_TYPE = "application/secevent+jwt"
_TYPES: frozenset[str | None] = frozenset({"secevent+jwt"})
_BURST, _SECONDS_PER_TOKEN = 100, 0.02
_REMEMBERED_SECONDS = 86_400.0
_EVENTS = "https://schemas.openid.net/secevent"
_VERIFICATION = f"{_EVENTS}/ssf/event-type/verification"
#: What our refusals are in the words of RFC 8935 section 2.4; all others: invalid_request.
_CODES = {
    Reason.BAD_SIGNATURE: "authentication_failed",
    Reason.UNKNOWN_KID: "invalid_key",
    Reason.UNSUPPORTED_ALG: "invalid_key",
    Reason.ENCRYPTED_TOKEN: "invalid_key",
}


class _Meaning(NamedTuple):
    """What an event type is to us."""

    #: Does it end sessions, and leave the account alone?
    of_sessions: bool = False
    #: Does this event revoke anything? Others of its type tell of something better.
    revokes: Callable[[Mapping[str, Any]], bool] = lambda event: True


_MEANINGS = {
    f"{_EVENTS}/caep/event-type/session-revoked": _Meaning(of_sessions=True),
    # Tokens of before say what is not true any more, or were got with what is lost.
    f"{_EVENTS}/caep/event-type/token-claims-change": _Meaning(),
    f"{_EVENTS}/caep/event-type/credential-change": _Meaning(),
    f"{_EVENTS}/caep/event-type/assurance-level-change": _Meaning(
        revokes=lambda event: event.get("change_direction") != "increase"
    ),
    f"{_EVENTS}/caep/event-type/device-compliance-change": _Meaning(
        of_sessions=True, revokes=lambda event: event.get("current_status") == "not-compliant"
    ),
    f"{_EVENTS}/risc/event-type/sessions-revoked": _Meaning(of_sessions=True),
    f"{_EVENTS}/risc/event-type/account-credential-change-required": _Meaning(),
    f"{_EVENTS}/risc/event-type/account-disabled": _Meaning(),
    f"{_EVENTS}/risc/event-type/account-purged": _Meaning(),
    f"{_EVENTS}/risc/event-type/credential-compromise": _Meaning(),
    f"{_EVENTS}/risc/event-type/identifier-changed": _Meaning(),
    f"{_EVENTS}/risc/event-type/identifier-recycled": _Meaning(),
}


class SignalReceiver:
    """Takes event tokens of one transmitter that are meant for ``audience``. ``oldest`` is how
    old they may be, in seconds.
    """

    def __init__(
        self,
        transmitter: Transmitter,
        audience: str,
        subjects: Subjects,
        revoking: Callable[[Revocation], Flow[None]],
        *,
        oldest: float,
        clock: Clock,
        events: Events,
    ) -> None:
        self.transmitter, self._audience = transmitter, audience
        self._subjects, self._revoking = subjects, revoking
        self._oldest, self._clock, self._events = oldest, clock, events
        self._turnstile = Turnstile(_BURST, _SECONDS_PER_TOKEN, clock)
        self._seen = Seen(clock)

    def receive(self, media_type: str, body: bytes, deadline: float) -> Flow[None]:
        """Carry out what an event token says. ``deadline`` is in monotonic seconds.

        Raises ``Rejected`` with a code of RFC 8935 section 2.4, ``Busy``; ``Unavailable`` where
        keys or metadata cannot be had and ``RevocationError`` where it would not hold
        everywhere.
        """
        self._turnstile.enter()
        try:
            jws = self._read(media_type, body)
            issued, identifier = self._judged(jws.hints)
            yield from verify(jws, self.transmitter, deadline)
        except InvalidToken as refusal:
            code = _CODES.get(refusal.reason, "invalid_request")
            raise Rejected(refusal.detail, code) from None
        issuer = self.transmitter.issuer
        if self._seen.has(issuer, identifier):
            return
        self._turnstile.give_back()
        yield from self._carry_out(jws.hints, issued, deadline)
        # Only now: what did not work may be tried again.
        self._seen.add(issuer, identifier, _REMEMBERED_SECONDS)

    def condition(self) -> Condition:
        """How the keys are that are the transmitter's own, for health. Before the first event
        there are none, and nothing is wrong.
        """
        keys = self.transmitter.keys.condition()
        age = None if keys.age is None else round(keys.age, 1)
        return "degraded" if keys.failing else "ok", {"keys": keys.number, "age_seconds": age}

    # -- is it for us, and of now? -------------------------------------------------------

    def _read(self, media_type: str, body: bytes) -> Jws:
        if media_type.partition(";")[0].strip().lower() != _MEDIA_TYPE:
            raise Rejected(f"not {_MEDIA_TYPE}")
        if len(body) > MAX_SET_BYTES:
            raise Rejected("the token is too long")
        return read_jwt(body.strip(b" \t\r\n"), _TYPES, "a security event token")

    def _judged(self, claims: Mapping[str, Any]) -> tuple[float, str]:
        """Time and ``jti`` of a token that is one of ours (RFC 8417 section 2.2, SSF 1.0
        section 4.1).
        """
        if claims.get("iss") != self.transmitter.issuer:
            raise Rejected("iss is not the transmitter", "invalid_issuer")
        if self._audience not in audience_of(claims):
            raise Rejected("aud does not name us", "invalid_audience")
        for name in ("sub", "exp"):  # those of other tokens, which this one must not be taken for
            if name in claims:
                raise Rejected(f"{name} is not for security event tokens")
        events = claims.get("events")
        if not isinstance(events, dict) or not events:
            raise Rejected("no events")
        if not all(isinstance(event, dict) for event in events.values()):
            raise Rejected("an event is not an object")
        issued, now = time_in(claims, "iat"), self._clock.now()
        if not now - self._oldest <= issued <= now + self.transmitter.leeway:
            raise Rejected("iat is too old, or in the future")
        return issued, identifier_in(claims)

    # -- what to do about it -------------------------------------------------------------

    def _carry_out(self, claims: Mapping[str, Any], issued: float, deadline: float) -> Flow[None]:
        meant: list[tuple[str, list[Revocation]]] = []
        # All of it is understood before anything is done.
        for kind, event in claims["events"].items():
            meaning = _MEANINGS.get(kind)
            if kind == _VERIFICATION:
                yield from self._tell("signals_verified", "the stream works")
            elif meaning is None or not meaning.revokes(event):
                yield from self._tell("signal_ignored", "an event that revokes nothing")
            else:
                subject = self._subjects.read(claims.get("sub_id"))
                cutoff = _cutoff(event, issued)
                said = subject.revocations(cutoff, of_sessions=meaning.of_sessions)
                if said and (yield from self._may_heed(subject, deadline)):
                    meant.append((kind.rpartition("/")[2], said))
                else:
                    yield from self._tell("signal_ignored", "a subject that we do not know")
        for word, revocations in meant:
            for revocation in revocations:
                yield from self._revoking(revocation)
            yield from self._tell("signal_applied", word)

    def _may_heed(self, subject: Subject, deadline: float) -> Flow[bool]:
        """SSF 1.0 section 3.6: an event is discarded where a critical member of its subject
        says nothing to us.
        """
        if not subject.unread:
            return True
        critical = yield from self.transmitter.critical_members(deadline)
        return subject.unread.isdisjoint(critical)

    def _tell(self, name: str, detail: str) -> Flow[None]:
        issuer = self.transmitter.issuer
        return self._events.happened(Event(name, logging.INFO, issuer=issuer, detail=detail))


def _cutoff(event: Mapping[str, Any], issued: float) -> float:
    """When it happened (CAEP 1.0 section 2): not after it was told. Some say milliseconds."""
    happened = event.get("event_timestamp")
    if isinstance(happened, int | float) and not isinstance(happened, bool):
        return float(happened) if 0 < happened < issued else issued
    return issued
