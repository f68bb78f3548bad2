"""Old answers in an outage: the one exception from "we cannot know, so not now".

Only where ``BEARER_STALE_IF_ERROR`` asks for it, only in its window, only while the server
cannot be asked. Never past the token's ``exp``, and never once the server said that the
token is inactive. Each use is marked, in ``Identity.stale``, and counted.
"""

from __future__ import annotations

import logging

from bearer_middleware.access.identity import stale_facts
from bearer_middleware.errors import Reason, Unavailable
from bearer_middleware.flow.clock import Clock
from bearer_middleware.flow.effects import Flow
from bearer_middleware.flow.events import Event, Events
from bearer_middleware.flow.ring import Entry, Ring
from bearer_middleware.issuer.server import AuthorizationServer
from bearer_middleware.memory.places import END

_OUTAGES = frozenset(
    {
        Reason.INTROSPECTION_UNAVAILABLE,
        Reason.METADATA_UNAVAILABLE,
        Reason.JWKS_UNAVAILABLE,  # they verify signed answers
    }
)
_SECONDS_PER_LINE = 1.0


class StaleAnswers:
    """Serves what has ended, if it may, and tells of it."""

    def __init__(self, answers: Ring, clock: Clock, events: Events) -> None:
        self._answers, self._clock, self._events = answers, clock, events
        self._next_line: dict[int, float] = {}

    def instead_of(
        self, failure: Unavailable, digest: bytes, server: AuthorizationServer
    ) -> Flow[Entry]:
        """The old answer, marked. Raises ``failure`` where there is none that may serve."""
        window = server.settings.stale_if_error
        entry = self._answers.get(digest)
        if (
            window <= 0
            or failure.reason not in _OUTAGES
            or entry is None
            or self._clock.now() >= entry[1]
            or self._clock.monotonic() >= entry[END] + window
        ):
            raise failure
        level = self._level(server.number)
        yield from self._events.happened(Event("stale_served", level, issuer=server.issuer))
        return stale_facts(entry)

    def _level(self, number: int) -> int:
        """A warning once a second; every use is an event, and is counted."""
        now = self._clock.monotonic()
        if now < self._next_line.get(number, now):
            return logging.DEBUG
        self._next_line[number] = now + _SECONDS_PER_LINE
        return logging.WARNING
