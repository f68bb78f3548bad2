"""Answers in use are asked for anew before they end, so that whoever shows a hot token never waits.

In the ring an answer has, where other entries have their end, the moment it is due: three
quarters of its life. The short way takes that for its end and leaves it to the whole way,
which serves the answer all the same, has the server asked apart, and puts the answer back
with its real end, so that the next callers go the short way again. Nothing here makes a life
longer: what was not renewed in time ends when it would have ended.

* One caller of a token wins the right to have it renewed; all others notice nothing.
* At most ``_MOST`` renewals of one server are under way at once, none waits in a queue, and
  after one that failed there are none for a while: they are the first load to be shed.
"""

from __future__ import annotations

import logging
import random
from collections.abc import Callable

from bearer_middleware.errors import Refused, Unavailable
from bearer_middleware.flow.clock import Backoff, Clock
from bearer_middleware.flow.effects import Background, Flow
from bearer_middleware.flow.events import Event, Events
from bearer_middleware.flow.flights import GRACE_SECONDS
from bearer_middleware.flow.locks import LazyLock, renew_after_fork
from bearer_middleware.flow.ring import Entry, Ring
from bearer_middleware.issuer.server import AuthorizationServer
from bearer_middleware.memory.places import END

_MOST = 10
# Jitter: workers that began together shall not ask together.
_EARLIEST, _LATEST = 0.75, 0.80
# With fewer seconds left than this, what was shed is left to its end.
_TOO_LATE = 0.1
# A token that ends no later than this after its answer is not worth asking about again.
_TOO_LITTLE = 0.1
_DUE, _WALL = 2, 1

#: Asks again, until the given monotonic deadline. Raises ``Refused``.
Renewal = Callable[[float], Flow[Entry]]


class Ahead:
    """When answers are due, and how many of them are being renewed."""

    def __init__(self, answers: Ring, clock: Clock, events: Events) -> None:
        self._answers, self._clock, self._events = answers, clock, events
        self._lock = LazyLock()
        self._under_way: dict[int, dict[bytes, float]] = {}
        self._backoffs: dict[int, Backoff] = {}
        renew_after_fork(self)

    def after_fork(self) -> None:
        """The parent's renewals are under way in the parent."""
        self._under_way = {}

    def plan(self, entry: Entry, life: float) -> Entry:
        """``entry`` with the moment it is due before its end, which stands at ``END``.

        ``life`` is what an answer has from its first second to its end. One that ends with
        its token is never due: asking again would not make it live longer.
        """
        end = entry[_DUE]
        gain = (entry[_WALL] - self._clock.now()) - (end - self._clock.monotonic())
        if gain < _TOO_LITTLE:
            return (*entry, end)
        due = end - life * (1 - random.uniform(_EARLIEST, _LATEST))  # noqa: S311 - jitter
        return (*entry[:_DUE], due, *entry[_DUE + 1 :], end)

    def is_due(self, entry: Entry) -> bool:
        """Is it time to renew this answer, which still serves?"""
        return bool(self._clock.monotonic() >= entry[_DUE])

    def renew(
        self, entry: Entry, server: AuthorizationServer, patience: float, renewal: Renewal
    ) -> Flow[None]:
        """Start ``renewal`` apart, unless another caller was here first or there is no room.
        Whatever comes of it, this caller goes on at once. ``patience`` is in seconds.
        """
        rested = self._answers.exchange(entry, _due_at(entry, entry[END]))
        if rested is None:
            return
        if not self._board(entry[0], server.number, patience):
            self._answers.exchange(rested, _due_at(rested, self._another_time(rested)))
            yield from self._tell("refresh_shed", server)
            return
        try:
            yield from Background(lambda: self._renewed(entry[0], server, patience, renewal))
        except Exception:  # noqa: BLE001 - no thread to be had: that is no reason to refuse anybody
            self._leave(entry[0], server.number)
            yield from self._tell("refresh_shed", server)

    def _renewed(
        self, digest: bytes, server: AuthorizationServer, patience: float, renewal: Renewal
    ) -> Flow[None]:
        try:
            yield from renewal(self._clock.monotonic() + patience)
        except Unavailable:
            self._learn(server.number, failed=True)  # told of where it happened
            return
        except Refused:
            self._learn(server.number, failed=False)  # the next caller meets the refusal
        else:
            self._learn(server.number, failed=False)
        finally:  # also when cancelled, killed or closed
            self._leave(digest, server.number)
        yield from self._tell("answer_refreshed", server)

    def _board(self, digest: bytes, number: int, patience: float) -> bool:
        now = self._clock.monotonic()
        with self._lock:
            backoff = self._backoffs.get(number)
            if backoff is not None and now < backoff.until:
                return False
            under_way = self._under_way.setdefault(number, {})
            if len(under_way) >= _MOST:
                for lost in [key for key, until in list(under_way.items()) if now >= until]:
                    under_way.pop(lost, None)
            if len(under_way) >= _MOST:
                return False
            # Work that was lost, with its loop say, gives its place back by itself.
            under_way[digest] = now + patience + GRACE_SECONDS
            return True

    def _leave(self, digest: bytes, number: int) -> None:
        # Without the lock: the collector may close a lost renewal in the thread that holds it.
        self._under_way.get(number, {}).pop(digest, None)

    def _learn(self, number: int, *, failed: bool) -> None:
        now = self._clock.monotonic()
        with self._lock:
            backoff = self._backoffs.setdefault(number, Backoff())
            if not failed:
                backoff.succeeded()
            elif now >= backoff.until:  # those that fail together are one failure
                backoff.failed(now)

    def _another_time(self, entry: Entry) -> float:
        """Half-way to its end, so that what was shed in a rush may still come before it."""
        left = float(entry[END]) - self._clock.monotonic()
        if left < _TOO_LATE:
            return float(entry[END])
        return float(entry[END]) - left * random.uniform(0.4, 0.6)  # noqa: S311 - jitter

    def _tell(self, name: str, server: AuthorizationServer) -> Flow[None]:
        return self._events.happened(Event(name, logging.DEBUG, issuer=server.issuer))


def _due_at(entry: Entry, due: float) -> Entry:
    """``entry`` of the ring with another moment it is due, without its slot."""
    return (*entry[:_DUE], due, *entry[_DUE + 1 : END + 1])
