"""What is told of exchanges with an authorization server: how many, how long, with what result.

Only here are there spans, since only here is there something to wait for. Neither a span nor
a label holds anything of the request but its method and where it went.
"""

from __future__ import annotations

import time

from bearer_middleware.errors import TransportError
from bearer_middleware.flow.clock import Clock
from bearer_middleware.flow.effects import Flow, HttpRequest, HttpResponse
from bearer_middleware.flow.instruments import UPSTREAM_DURATION, UPSTREAM_REQUESTS
from bearer_middleware.flow.tally import Tally

_TARGETS = {"keys": "jwks", "metadata": "discovery"}
_SPANS = {
    "jwks": "bearer.jwks.fetch",
    "introspection": "bearer.introspect",
    "policy": "bearer.decide",
}


class Exchanges:
    """Keeps record of the exchanges with one endpoint; ``name`` is that of its upstream."""

    __slots__ = ("_clock", "_tally", "skew", "target")

    def __init__(self, name: str, clock: Clock, tally: Tally) -> None:
        self._clock, self._tally = clock, tally
        #: The label: ``jwks``, ``introspection`` or ``discovery``.
        kind = name.rpartition(" ")[2]  # a transmitter of events has keys and metadata, too
        self.target = _TARGETS.get(kind, kind)
        #: By how many seconds the server's clock is ahead of ours, if it ever told the time.
        self.skew: float | None = None

    def kept(self, request: HttpRequest) -> Flow[HttpResponse]:
        """Perform an exchange. Raises ``TransportError``."""
        started, tally = time.perf_counter(), self._tally
        tally.look()
        name = _SPANS.get(self.target, f"bearer.{self.target}.fetch")
        span, status, error = tally.begin(name, request), None, "cancelled"
        try:
            response = yield from request
            status, error = response.status, _result(response.status)
            self._set_clock(response)
            return response
        except TransportError as failure:
            error = failure.detail if failure.detail in ("timeout", "connect") else "protocol"
            raise
        finally:  # also when cancelled, killed or closed
            tally.add(UPSTREAM_REQUESTS, self.target, error)
            seconds = time.perf_counter() - started
            tally.took(UPSTREAM_DURATION, seconds, self.target, error)
            if span is not None:
                failed = status is None or status >= 400
                word = str(status) if status is not None else error
                span.end(status, word if failed else None)

    def _set_clock(self, response: HttpResponse) -> None:
        told = time_of(response.headers.get("date", ""))
        if told is not None:
            self.skew = told - self._clock.now()


def _result(status: int) -> str:
    """The label of an answer. Whether it can be believed is seen elsewhere."""
    if status == 200:
        return "ok"
    if status in (401, 403):
        return "auth"
    if status == 429:
        return "429"
    return "5xx" if status >= 500 else "protocol"


def time_of(text: str) -> float | None:
    """Seconds since the epoch of an HTTP date (RFC 9110 section 5.6.7)."""
    from email.utils import mktime_tz, parsedate_tz  # takes milliseconds: not with the package

    try:
        parsed = parsedate_tz(text)
        # Without a zone it is GMT here, and not the time of this place.
        return None if parsed is None else float(mktime_tz((*parsed[:9], parsed[9] or 0)))
    except (ValueError, OverflowError, TypeError, IndexError):
        return None
