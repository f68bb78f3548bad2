"""The cache of a fleet, in Redis or Valkey, and whose turn it is to ask.

Whatever the store does, down, slow, full, read-only or wrong, is a miss: the authorization
server is asked instead. A store that fails is left alone for a while.
"""

from __future__ import annotations

import logging
import random
from collections.abc import Iterator
from typing import Any, Literal

from bearer_middleware.errors import TransportError
from bearer_middleware.flow.clock import Clock
from bearer_middleware.flow.effects import CommandSender, Flow, StoreCommand
from bearer_middleware.flow.events import Event, Events
from bearer_middleware.flow.locks import LazyLock
from bearer_middleware.memory.shared import MAX_VALUE_BYTES

_FAILURES = 3
_SKIP_SECONDS = 5.0
# Who has not answered by then is gone, or slower than asking oneself.
_CLAIM_SECONDS = 3.0
# Then the turn can be taken, so that nobody waits for who is gone.
_LONGEST_WAIT = _CLAIM_SECONDS + 1.0
_SHORTEST_PAUSE, _LONGEST_PAUSE = 0.010, 0.050
# Nothing that the store is to blame for: too many of us at once, or a key that holds no text.
_BUSY, _NO_TEXT = "busy", "wrong type"
_UNKNOWN, _OTHERWISE = object(), object()
# What stands for the latter: it is nothing that we wrote.
_NOT_OURS = b"\0"


class _Way:
    """One way to use the store. It fails three times in a row, and is closed for five seconds;
    then one caller tries it for all.
    """

    __slots__ = ("_clock", "_lock", "_until", "closed", "failures", "name")

    def __init__(self, name: str, clock: Clock) -> None:
        self.name, self._clock = name, clock
        self._lock = LazyLock()
        #: How many in a row.
        self.failures = 0
        self._until = 0.0
        self.closed = False

    def permits(self) -> bool:
        """May it be used now?"""
        if not self.closed:
            return True
        now = self._clock.monotonic()
        with self._lock:
            if now < self._until:
                return False
            self._until = now + _SKIP_SECONDS  # for all but this caller
            return True

    def succeeded(self) -> bool:
        """Is that news?"""
        if not self.failures:
            return False
        with self._lock:
            self.failures = 0
            was, self.closed = self.closed, False
            return was

    def failed(self) -> bool:
        """Is that news?"""
        with self._lock:
            self.failures += 1
            if self.failures < _FAILURES:
                return False
            self._until = self._clock.monotonic() + _SKIP_SECONDS
            was, self.closed = self.closed, True
            return not was


class FleetCache:
    """A cache in a store that the processes of a fleet have in common. Never raises."""

    def __init__(self, store: CommandSender, clock: Clock, events: Events) -> None:
        self._store, self._clock, self._events = store, clock, events
        # Apart, since a store that is full or a replica can still be read.
        self._reading, self._writing = _Way("reading", clock), _Way("writing", clock)

    def __repr__(self) -> str:
        return f"<FleetCache{' that fails' if self.failing else ''}>"

    @property
    def failing(self) -> tuple[str, ...]:
        """Which ways to use the store are closed: ``reading``, ``writing``, or none."""
        return tuple(way.name for way in (self._reading, self._writing) if way.closed)

    @property
    def unreadable(self) -> bool:
        """Did the last attempt to read fail? Then nothing found says nothing."""
        return self._reading.failures > 0

    def condition(self) -> tuple[Literal["ok", "degraded"], dict[str, Any]]:
        """For health. Whatever is wrong with the store, tokens are validated without it."""
        failing = self.failing
        return ("degraded", {"failing": list(failing)}) if failing else ("ok", {})

    def get(self, key: str) -> Flow[bytes | None]:
        """What is stored, or ``None``."""
        value = yield from self._do(self._reading, "GETRANGE", _name(key), 0, MAX_VALUE_BYTES)
        return value or None

    def set(self, key: str, value: bytes, seconds: float) -> Flow[None]:
        """Store a value for so many seconds."""
        milliseconds = max(int(seconds * 1000), 1)
        yield from self._do(self._writing, "SET", _name(key), value, "PX", milliseconds)

    def claim(self, key: str, seconds: float) -> Flow[bool | None]:
        """Are we the one who asks, for at most so many seconds? ``None``: nobody can tell.

        Where too many of us want to know at once, it is not this caller: one of the others, or
        of another process, is, and this one may try again.
        """
        milliseconds = max(int(min(seconds, _CLAIM_SECONDS) * 1000), 1)
        arguments = ("SET", _claim(key), b"1", "NX", "PX", milliseconds)
        taken = yield from self._do(self._writing, *arguments, otherwise=_UNKNOWN, busy=None)
        return None if taken is _UNKNOWN else bool(taken)

    def release(self, key: str) -> Flow[None]:
        """We ask no longer, and have nothing to share."""
        yield from self._do(self._writing, "DEL", _claim(key))

    def ping(self) -> Flow[str | None]:
        """What keeps the store from answering, or ``None``; for ``check``."""
        try:
            yield from StoreCommand(self._store, ("PING",))
        except TransportError as failure:
            return failure.detail
        return None

    def waits(self, deadline: float) -> Iterator[float]:
        """Pauses while another process asks: until its turn has lapsed, and never so much that
        the request could not ask for itself afterwards. ``deadline`` is monotonic seconds.
        """
        now = self._clock.monotonic
        longest = min((deadline - now()) / 3, _LONGEST_WAIT)
        until, waited, shortest = now() + longest, 0.0, _SHORTEST_PAUSE
        while waited < longest and now() < until:
            pause = shortest * random.uniform(1, 2)  # noqa: S311 - jitter
            yield pause
            waited, shortest = waited + pause, min(shortest * 1.5, _LONGEST_PAUSE)

    def _do(
        self,
        way: _Way,
        *arguments: str | bytes | int,
        otherwise: Any = None,
        busy: Any = _OTHERWISE,
    ) -> Flow[Any]:
        if way is self._writing and self._reading.failures:
            return otherwise  # one time limit for a request is enough
        if not way.permits():
            return otherwise
        try:
            reply = yield from StoreCommand(self._store, arguments)
        except TransportError as failure:
            detail = failure.detail
        except Exception as error:  # noqa: BLE001 - whatever a client raises is a miss
            detail = type(error).__name__
        else:
            if way.succeeded():
                yield from self._tell("cache_recovered", logging.INFO, way.name)
            return reply
        if detail not in (_BUSY, _NO_TEXT) and way.failed():
            yield from self._tell("cache_failed", logging.WARNING, f"{way.name}: {detail}")
        instead = {_NO_TEXT: _NOT_OURS, _BUSY: otherwise if busy is _OTHERWISE else busy}
        return instead.get(detail, otherwise)

    def _tell(self, name: str, level: int, detail: str) -> Flow[None]:
        yield from self._events.happened(Event(name, level, detail=detail))


# The braces keep both on one node of a cluster.
def _name(key: str) -> str:
    return f"bearer:{{{key}}}"


def _claim(key: str) -> str:
    return f"bearer:{{{key}}}:asking"
