"""What can be measured: every instrument, with its labels, in one table.

All labels have few values: words of ours, and the configured issuers. Never a token, a
subject, a client or a key id.
"""

from __future__ import annotations

import operator
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

#: Of seconds, from a signature verified in process to the longest a request may wait.
BOUNDARIES = (0.0001, 0.0005, 0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)


@dataclass(frozen=True, slots=True, eq=False)
class Instrument:
    """One thing that is measured. ``name`` is that of OpenTelemetry."""

    name: str
    kind: Literal["counter", "gauge", "histogram"]
    text: str
    labels: tuple[str, ...] = ()
    #: Never ``1`` for a gauge: that is a ratio, and on the way to Prometheus its name would say so.
    unit: str = "1"
    #: What two servers in one process amount to, where all labels are the same.
    together: Callable[[float, float], float] = operator.add

    @property
    def prometheus_name(self) -> str:
        """The name there, as the exporters of OpenTelemetry would make it of ours; without the
        ``_total`` that all counters end with.
        """
        name = self.name.replace(".", "_")
        return f"{name}_seconds" if self.unit == "s" and not name.endswith("_seconds") else name


REQUESTS = Instrument(
    "bearer.auth.requests",
    "counter",
    "Requests by what became of them; a route that refuses counts once more.",
    ("outcome", "reason", "kind", "issuer"),
    "{request}",
)
DURATION = Instrument(
    "bearer.auth.duration",
    "histogram",
    "How long it took to find out who is calling, where that was not remembered.",
    ("outcome", "source"),
    "s",
)
LOOKUPS = Instrument(
    "bearer.cache.lookups",
    "counter",
    "Tokens looked up in each cache.",
    ("cache", "result"),
    "{lookup}",
)
SIZE = Instrument("bearer.cache.size", "gauge", "Entries in each cache.", ("cache",), "{entry}")
EVICTIONS = Instrument(
    "bearer.cache.evictions",
    "counter",
    "Entries that had to make room for others.",
    ("cache",),
    "{entry}",
)
UPSTREAM_REQUESTS = Instrument(
    "bearer.upstream.requests",
    "counter",
    "Exchanges with authorization servers.",
    ("target", "result"),
    "{request}",
)
UPSTREAM_DURATION = Instrument(
    "bearer.upstream.duration",
    "histogram",
    "How long exchanges with authorization servers took.",
    ("target", "result"),
    "s",
)
IN_FLIGHT = Instrument(
    "bearer.upstream.in_flight",
    "gauge",
    "Exchanges under way.",
    ("target",),
    "{request}",
)
FOLLOWERS = Instrument(
    "bearer.singleflight.followers",
    "counter",
    "Callers that waited for an exchange of another caller.",
    ("target",),
    "{caller}",
)
SHED = Instrument("bearer.shed", "counter", "Questions that were not asked.", ("by",), "{request}")
BREAKER = Instrument(
    "bearer.breaker.state",
    "gauge",
    "Circuit breakers: 0 closed, 1 half-open, 2 open.",
    ("target",),
    "{state}",
    max,
)
KEYS = Instrument("bearer.jwks.keys", "gauge", "Keys we hold.", ("issuer",), "{key}", max)
KEYS_FETCHED = Instrument(
    "bearer.jwks.last_success_timestamp_seconds",
    "gauge",
    "When the keys were last known to be right, in seconds since the epoch.",
    ("issuer",),
    "s",
    min,
)
UNKNOWN_KID = Instrument(
    "bearer.jwks.unknown_kid",
    "counter",
    "Tokens refused since no key of ours has their kid.",
    ("issuer",),
    "{token}",
)
REVOKED = Instrument(
    "bearer.revocation.entries", "gauge", "Revocations in memory.", ("kind",), "{entry}", max
)
FEED_AGE = Instrument(
    "bearer.revocation.feed_age_seconds",
    "gauge",
    "Seconds since the revocation feed was last heard.",
    ("source",),
    "s",
    max,
)
LAG = Instrument(
    "bearer.revocation.lag_seconds",
    "histogram",
    "From a revocation to its being enforced here.",
    ("source",),
    "s",
)
APPLIED = Instrument(
    "bearer.revocation.applied",
    "counter",
    "Revocations taken in: from where, and of what.",
    ("source", "kind"),
    "{entry}",
)
DENIED = Instrument(
    "bearer.revocation.denied",
    "counter",
    "Requests refused since their token is revoked, by the kind of token.",
    ("kind",),
    "{request}",
)
DECISIONS = Instrument(
    "bearer.policy.decisions",
    "counter",
    "Questions to the decision point by what became of them.",
    ("outcome", "point", "cached"),
    "{decision}",
)
POLICY_DURATION = Instrument(
    "bearer.policy.duration",
    "histogram",
    "How long a decision took, or the batch that it was part of.",
    ("outcome", "point"),
    "s",
)
CLOCK_SKEW = Instrument(
    "bearer.clock_skew_seconds",
    "gauge",
    "By how much the clock of the authorization server is ahead of ours, to a second.",
    ("issuer",),
    "s",
    lambda one, other: max(one, other, key=abs),
)
AUDIT_EVENTS = Instrument(
    "bearer.audit.events",
    "counter",
    "Audit events: written to a sink, dropped since too many waited, or not taken by a sink.",
    ("result",),
    "{event}",
)

INSTRUMENTS = (
    REQUESTS,
    DURATION,
    LOOKUPS,
    SIZE,
    EVICTIONS,
    UPSTREAM_REQUESTS,
    UPSTREAM_DURATION,
    IN_FLIGHT,
    FOLLOWERS,
    SHED,
    BREAKER,
    KEYS,
    KEYS_FETCHED,
    UNKNOWN_KID,
    REVOKED,
    FEED_AGE,
    LAG,
    APPLIED,
    DENIED,
    DECISIONS,
    POLICY_DURATION,
    CLOCK_SKEW,
    AUDIT_EVENTS,
)
