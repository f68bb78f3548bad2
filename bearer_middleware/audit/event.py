"""The canonical audit event: what is written of a record, as a JSON object.

Its schema is ``bearer_middleware.access/1``. It never holds a token, a query string, a body, a
header but for those in :class:`~bearer_middleware.audit.record.RequestFacts`, nor what a decision
point told besides its decision. Texts are bounded, and printable: a line stays a line.
"""

from __future__ import annotations

import hashlib
import random
import time
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any

from bearer_middleware.access.identity import Identity
from bearer_middleware.audit.record import Record, RequestFacts
from bearer_middleware.errors import Reason
from bearer_middleware.policy.model import Decision

SCHEMA = "bearer_middleware.access/1"
#: One event, fit for JSON. What is not known is left out.
Event = dict[str, Any]

LONGEST_TEXT = 512
_MOST_ITEMS = 32
_CROCKFORD = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"


def event_of(record: Record, service: Mapping[str, str] | None = None) -> Event:
    """All that is told of one record. ``service`` has the name and version of the application."""
    event: Event = {
        "schema": SCHEMA,
        "event_id": _new_id(record.at),
        "time": _time(record.at),
        "kind": _kind(record),
        "outcome": record.outcome,
        "status": record.status,
    }
    if subject := _subject(record):
        event["subject"] = subject
    if (request := record.request) is not None:
        event["action"] = clean(request.action.name)
        event["resource"] = {"type": clean(request.resource.type), "id": clean(request.resource.id)}
    if decision := _decision(record):
        event["decision"] = decision
    event["request"] = _request(record.facts)
    if trace := _present(trace_id=record.facts.trace_id, span_id=record.facts.span_id):
        event["trace"] = trace
    if service:
        event["service"] = service
    return event


def _kind(record: Record) -> str:
    """Of a good token it was decided what it may, be it by the table of routes alone."""
    known = record.request is not None or record.identity is not None
    return "authorization" if known else "authentication"


def clean(text: str, longest: int = LONGEST_TEXT) -> str:
    """Printable text of a bounded length: what is not printable is shown as an escape."""
    if len(text) > longest:
        text = text[:longest] + "..."
    return text if text.isprintable() else "".join(map(_printable, text))


def token_id(jti: object) -> str | None:
    """How a token is named where its own name does not belong: the same for the same ``jti``."""
    if not isinstance(jti, str) or not jti:
        return None
    return "sha256:" + hashlib.sha256(jti.encode("utf-8", "surrogatepass")).hexdigest()[:16]


def _printable(character: str) -> str:
    if character.isprintable():
        return character
    return character.encode("unicode_escape").decode("ascii")


def _present(**members: Any) -> dict[str, Any]:
    """What is known of them, cleaned."""
    told: dict[str, Any] = {}
    for name, value in members.items():
        if isinstance(value, str):
            if value:
                told[name] = clean(value)
        elif value is not None:
            told[name] = value
    return told


def _subject(record: Record) -> dict[str, Any]:
    identity, told = record.identity, {}
    if identity is not None:
        told = _who(identity)
    elif record.refusal is not None:
        told = _present(issuer=record.refusal.issuer)
    if record.request is not None:  # as the decision point was asked
        subject = record.request.subject
        told["type"], told["id"] = clean(subject.type), clean(subject.id)
        tenant = subject.properties.get("tenant")
        if isinstance(tenant, str) and tenant:
            told["tenant"] = clean(tenant)
    return told


def _who(identity: Identity) -> dict[str, Any]:
    claims = identity.claims
    return _present(
        type="client" if identity.is_client else "user",
        id=_text(identity.subject),
        issuer=_text(identity.issuer),
        client_id=_text(identity.client_id),
        tenant=identity.tenant,
        token_id=token_id(identity.token_id),
        auth_time=_number(claims.get("auth_time")),
        acr=_text(claims.get("acr")),
    )


def _text(value: object) -> str | None:
    return value if isinstance(value, str) else None


def _number(value: object) -> float | None:
    # What no double holds is no time, and JSON has no NaN.
    number = isinstance(value, int | float) and not isinstance(value, bool)
    return value if number and -1e15 < value < 1e15 else None  # type: ignore[operator, return-value]


def _decision(record: Record) -> dict[str, Any]:
    if record.decision is not None:
        return _decided(record.decision, record.seconds)
    if record.refusal is None:
        return {}
    reason = record.refusal.reason
    # What an extension raised may have any text for its reason.
    return {"reasons": [str(reason if type(reason) is Reason else Reason.EXTENSION_FAILED)]}


def _decided(decision: Decision, seconds: float) -> dict[str, Any]:
    told = _present(
        pdp=decision.point,
        id=decision.decision_id,
        reasons=_items(decision.reasons),
        policy_version=decision.policy_version,
        cached=decision.cached,
        latency_ms=round(seconds * 1000, 3),
        obligations=_items([obligation.type for obligation in decision.obligations]),
        error=decision.error,
    )
    if decision.cached:
        told["cache_age_ms"] = round(decision.age * 1000)
    return told


def _items(texts: Sequence[str]) -> list[str] | None:
    return [clean(text) for text in texts[:_MOST_ITEMS]] if texts else None


def _request(facts: RequestFacts) -> dict[str, Any]:
    return _present(
        id=facts.request_id,
        method=facts.method,
        # Whatever a caller of ours made of it: no query gets into an audit trail.
        route=facts.route.partition("?")[0],
        host=facts.host,
        ip=facts.ip,
        user_agent=facts.user_agent,
    )


def _new_id(at: float) -> str:
    """A ULID: sorts by time, and nobody has the same. No secret: it names, and opens nothing."""
    time_part, chance = int(at * 1000) & 0xFFFF_FFFF_FFFF, random.getrandbits(80)
    high, low = chance >> 40, chance & 0xFF_FFFF_FFFF
    words = [_PAIRS[time_part >> shift & 1023] for shift in (40, 30, 20, 10, 0)]
    words += [_PAIRS[high >> shift & 1023] for shift in (30, 20, 10, 0)]
    words += [_PAIRS[low >> shift & 1023] for shift in (30, 20, 10, 0)]
    return "".join(words)


#: Ten bits at a time.
_PAIRS = [one + other for one in _CROCKFORD for other in _CROCKFORD]


def _time(at: float) -> str:
    """RFC 3339, in UTC, with milliseconds."""
    whole = int(at)
    return f"{_second(whole)}.{int((at - whole) * 1000):03d}Z"


@lru_cache(maxsize=2)
def _second(whole: int) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(whole))
