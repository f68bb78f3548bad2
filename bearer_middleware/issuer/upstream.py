"""Between us and one endpoint of an authorization server: breaker, bulkhead, one retry.

Each endpoint of each issuer has its own, so that an introspection endpoint that fails takes no
keys with it. What counts against a server is that it cannot be reached, does not answer in time,
or answers 429 or 5xx; any other answer, ``active: false`` or a refusal of our own credentials
among them, comes from a server that is well.
"""

from __future__ import annotations

import logging
import random
import re
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import replace
from email.utils import mktime_tz, parsedate_tz
from functools import partial

from bearer_middleware.errors import TransportError
from bearer_middleware.flow.breaker import Breaker, Permit, State
from bearer_middleware.flow.bulkhead import Bulkhead
from bearer_middleware.flow.clock import Clock
from bearer_middleware.flow.effects import Flow, HttpRequest, HttpResponse, Wait
from bearer_middleware.flow.events import Event, Events

_SHORTEST_PATIENCE, _LONGEST_PATIENCE, _UNREADABLE_PATIENCE = 1.0, 60.0, 5.0
_RETRY_SECONDS = (0.05, 0.15)
_NUMBER = re.compile(r"[+-]?\d+(\.\d*)?", re.ASCII)

#: Says whether an exchange may take place, when there is room for it, and raises where not. It
#: is given what makes room for the next one, to be called when all is done with the answer.
Admit = Callable[[Callable[[], None]], None]


class Shed(TransportError):
    """Nothing was sent: the breaker is open, or too many are asking already."""


class Upstream:
    """One endpoint, called ``name`` in events. ``timeout`` is what a request is usually given,
    ``longest`` how long the breaker stays open at most, both in seconds.
    """

    def __init__(
        self,
        name: str,
        *,
        issuer: str | None,
        timeout: float,
        clock: Clock,
        events: Events,
        longest: float = 60.0,
    ) -> None:
        self._name, self._issuer, self._timeout = name, issuer, timeout
        self._clock, self._events = clock, events
        self._breaker = Breaker(clock.monotonic, longest)
        self._bulkhead = Bulkhead(clock.monotonic)

    @property
    def state(self) -> State:
        """The state of the breaker, for health."""
        return self._breaker.state

    @property
    def in_flight(self) -> int:
        """How many exchanges are under way."""
        return self._bulkhead.in_flight

    @property
    def wait(self) -> float:
        """Seconds for which the endpoint is left alone; 0 where it may be asked."""
        return self._breaker.wait

    def refuse_if_open(self) -> None:
        """Spares whoever would prepare a request in vain. Raises ``Shed``."""
        if self._breaker.wait > 0:
            raise self._shed("the circuit breaker is open")

    def exchange(self, request: HttpRequest) -> Flow[HttpResponse]:
        """Perform one exchange within ``request.timeout``, waiting included. Raises
        ``TransportError``; :class:`Shed` where nothing was sent.
        """
        return self.exchange_late(lambda: request, request.timeout)

    def exchange_late(
        self, make: Callable[[], HttpRequest], timeout: float, admit: Admit | None = None
    ) -> Flow[HttpResponse]:
        """The same with a request that is made when it is its turn, and never in vain.

        Who gives an ``admit`` that does not raise keeps the place of an answer with status 200.
        """
        deadline = self._clock.monotonic() + timeout
        self.refuse_if_open()
        place = yield from self._bulkhead.enter(timeout)
        if place is None:
            raise self._shed("too many exchanges at once")
        leave, kept = partial(self._bulkhead.leave, place), False
        try:
            if admit is not None:
                admit(leave)
            response = yield from self._exchange(make(), deadline)
            kept = admit is not None and response.status == 200
            return response
        finally:
            if not kept:
                leave()

    def _exchange(self, request: HttpRequest, deadline: float) -> Flow[HttpResponse]:
        try:
            return (yield from self._send(request, deadline))
        except TransportError as failure:
            if failure.detail != "connect":
                raise
            return (yield from self._retry(request, deadline))

    def _retry(self, request: HttpRequest, deadline: float) -> Flow[HttpResponse]:
        """Once more, after a moment. Nothing has reached the server, so nothing is done twice."""
        pause = random.uniform(*_RETRY_SECONDS)  # noqa: S311 - so that callers part
        if self.state == "closed" and self._clock.monotonic() + pause < deadline:
            yield from Wait(Future(), pause)
            if self.state == "closed":  # a server that is down is left to its one probe
                return (yield from self._send(request, deadline))
        raise TransportError("connect")

    def _send(self, request: HttpRequest, deadline: float) -> Flow[HttpResponse]:
        began = self._clock.monotonic()
        seconds = deadline - began
        if seconds <= 0:
            raise TransportError("timeout")
        permit = self._breaker.admit(seconds)
        if permit is None:
            raise self._shed("the circuit breaker is open")
        try:
            response = yield from replace(request, timeout=seconds)
            self._bulkhead.lasted(self._clock.monotonic() - began)
        except TransportError as failure:
            yield from self._failed(permit, failure.detail, seconds)
            raise
        except BaseException:
            self._breaker.abandoned(permit)
            raise
        if response.status == 429 or response.status >= 500:
            patience = self._patience(response)
            yield from self._opened(permit, f"status {response.status}", patience)
        else:
            yield from self._succeeded(permit)
        return response

    def _failed(self, permit: Permit, word: str, seconds: float) -> Flow[None]:
        if word == "timeout":
            self._bulkhead.lasted(seconds, in_vain=True)
        if word == "too_large":  # an answer, of a server that is well: one token may have caused it
            yield from self._succeeded(permit)
        elif word == "timeout" and seconds < self._timeout / 2:
            self._breaker.abandoned(permit)  # others took the time: the server had hardly any
        else:
            yield from self._opened(permit, word, None)

    def _succeeded(self, permit: Permit) -> Flow[None]:
        if self._breaker.succeeded(permit):
            yield from self._tell("breaker_closed", logging.INFO, self._name)

    def _opened(self, permit: Permit, word: str, patience: float | None) -> Flow[None]:
        if self._breaker.failed(permit, patience):
            detail = f"{self._name}: {word}; asked again in {self.wait:.1f} s"
            yield from self._tell("breaker_opened", logging.WARNING, detail)

    def _patience(self, response: HttpResponse) -> float | None:
        """How long the server asks us to stay away (RFC 9110 section 10.2.3), if it does. What
        cannot be read is some seconds: that it asks is plain.
        """
        said = response.headers.get("retry-after", "").strip()
        if response.status not in (429, 503) or not said:
            return None
        if _NUMBER.fullmatch(said):
            seconds = float(said)
        else:
            until = _time_of(said)
            if until is None:
                return _UNREADABLE_PATIENCE
            # By the server's own clock, where it tells us: ours may differ.
            seconds = until - (_time_of(response.headers.get("date", "")) or self._clock.now())
        return min(max(seconds, _SHORTEST_PATIENCE), _LONGEST_PATIENCE)

    def _shed(self, detail: str) -> Shed:
        self._events.count("shed")
        return Shed(detail)

    def _tell(self, name: str, level: int, detail: str) -> Flow[None]:
        return self._events.happened(Event(name, level, issuer=self._issuer, detail=detail))


def _time_of(text: str) -> float | None:
    """Seconds since the epoch of an HTTP date (RFC 9110 section 5.6.7)."""
    try:
        parsed = parsedate_tz(text)
        # Without a zone it is GMT here, and not the time of this place.
        return None if parsed is None else float(mktime_tz((*parsed[:9], parsed[9] or 0)))
    except (ValueError, OverflowError, TypeError, IndexError):
        return None
