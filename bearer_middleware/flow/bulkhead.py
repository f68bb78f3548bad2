"""A bulkhead: so many exchanges with one server at a time, and a short wait for the others.

A server that hangs would else take every thread, connection and task there is. Places are
handed from one caller to the next, in the order of arrival, among threads, greenlets and tasks
of any loop, because a ``concurrent.futures.Future`` is the meeting point.

* Who is cancelled while waiting leaves the queue, or hands on the place it was just given.
* A place has an end: one whose holder died with its loop is free again after that.
"""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable
from concurrent.futures import Future

from bearer_middleware.flow.effects import Flow, Wait
from bearer_middleware.flow.locks import LazyLock, renew_after_fork

PLACES = 20
WAIT_SECONDS = 0.25
# A holder enforces its own deadline; only one that is gone for good exceeds it by this much.
_GRACE_SECONDS = 1.0


class Place:
    """A place, or the wait for one."""

    __slots__ = ("landing", "seconds", "until")

    def __init__(self, seconds: float, until: float) -> None:
        self.landing: Future[None] = Future()
        # Without this mark one that waits on a loop and is cancelled would cancel the future.
        self.landing.set_running_or_notify_cancel()
        #: How long it is needed, and until when it is held or waited for (monotonic seconds).
        self.seconds, self.until = seconds, until


class Bulkhead:
    """``places`` exchanges at once; whoever finds none waits for at most ``wait`` seconds."""

    __slots__ = ("__weakref__", "_held", "_lock", "_monotonic", "_places", "_queue", "_wait")

    def __init__(
        self,
        monotonic: Callable[[], float] = time.monotonic,
        *,
        places: int = PLACES,
        wait: float = WAIT_SECONDS,
    ) -> None:
        self._monotonic, self._places, self._wait = monotonic, places, wait
        self._lock = LazyLock()
        self._held: set[Place] = set()
        self._queue: OrderedDict[Place, None] = OrderedDict()
        renew_after_fork(self)

    def after_fork(self) -> None:
        """The parent's callers do not exist in the child."""
        self._held, self._queue = set(), OrderedDict()

    @property
    def in_flight(self) -> int:
        """How many places are taken."""
        return len(self._held)

    def enter(self, seconds: float) -> Flow[Place | None]:
        """A place for an exchange of at most so many seconds, waiting included; ``None`` where
        there was none in time. It has to be given back with :meth:`leave`.
        """
        wait = min(self._wait, seconds)
        place = self._take_or_queue(seconds, wait)
        if place in self._held:
            return place
        try:
            yield from Wait(place.landing, wait)
        except BaseException:  # cancelled or killed, and perhaps given a place just now
            self.leave(place)
            raise
        with self._lock:
            # Whether it was given a place is said here alone: the wait may have ended meanwhile.
            self._queue.pop(place, None)
            return place if place in self._held else None

    def leave(self, place: Place) -> None:
        """Give the place back, or the wait for it up; doing so twice does no harm."""
        with self._lock:
            self._queue.pop(place, None)
            self._held.discard(place)
            called = self._seat_waiting(self._monotonic())
        for each in called:
            each.landing.set_result(None)

    def _take_or_queue(self, seconds: float, wait: float) -> Place:
        with self._lock:
            now = self._monotonic()
            called = self._seat_waiting(now)
            if len(self._held) < self._places:
                place = Place(seconds, now + seconds + _GRACE_SECONDS)
                self._held.add(place)
            else:
                place = Place(seconds, now + wait)
                self._queue[place] = None
        for each in called:
            each.landing.set_result(None)
        return place

    def _seat_waiting(self, now: float) -> list[Place]:
        """Give free places to those who wait, and say whom to call. Under the lock."""
        called: list[Place] = []
        if len(self._held) >= self._places:
            self._held = {place for place in self._held if now < place.until}
        while self._queue and len(self._held) < self._places:
            place, _ = self._queue.popitem(last=False)
            if now < place.until:  # else its loop has died, or it is about to give up
                place.until = now + place.seconds + _GRACE_SECONDS
                self._held.add(place)
                called.append(place)
        return called
