"""A bulkhead: so many exchanges with one server at a time; the others wait while there is hope.

A server that hangs would else take every thread, connection and task there is. Places are
handed from one caller to the next, in the order of arrival, among threads, greenlets and tasks
of any loop, because a ``concurrent.futures.Future`` is the meeting point.

* As long as places become free, callers wait for theirs; when none did for a quarter of a
  second, those who have waited for as long give up. The queue is bounded, too. Who finds that
  its wait took far longer has a loop or machine that stood still, and no server to blame.
* Who has waited for so long that the time left would not do for an exchange is not let in:
  else a server that is only slow would do nothing but work for callers who have gone.
* Who is cancelled while waiting leaves the queue, or hands on the place it was just given.
* Who waits shows again and again that it is there, so one whose loop has died gets no place.
  And a place has an end: one whose holder died with its loop is free again after that.
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
MOST_WAITING = 1_000
# A holder enforces its own deadline; only one that is gone for good exceeds it by this much. The
# same for one who waits, and should have shown itself.
_GRACE_SECONDS = 1.0
# A wait that ends by so much too late says nothing.
_LATE_SECONDS = 0.05
# How much of what is known about the time an exchange takes is due to the last one.
_WEIGHT = 0.05


class Place:
    """A place, or the wait for one. All times are monotonic seconds."""

    __slots__ = ("arrived", "deadline", "landing", "since", "until")

    def __init__(self, arrived: float, seconds: float) -> None:
        self.landing: Future[None] = Future()
        # Without this mark one that waits on a loop and is cancelled would cancel the future.
        self.landing.set_running_or_notify_cancel()
        #: Who came when, and has time until when.
        self.arrived, self.deadline = arrived, arrived + seconds
        #: From when on it counts that no place becomes free.
        self.since = arrived
        #: Until when it is held, or its caller shows itself if it still waits.
        self.until = self.deadline + _GRACE_SECONDS


class Bulkhead:
    """``places`` exchanges at once; who finds none waits for as long as there is one free every
    ``wait`` seconds.
    """

    __slots__ = (
        "__weakref__",
        "_freed",
        "_freed_at",
        "_held",
        "_lock",
        "_monotonic",
        "_places",
        "_queue",
        "_usual",
        "_wait",
    )

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
        # How many places became free, and when the last one did: whether there is hope.
        self._freed, self._freed_at = 0, 0.0
        # Seconds an exchange takes, in the mean.
        self._usual = 0.0
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
        place = Place(self._monotonic(), seconds)
        while True:
            wait, freed = self._take_or_queue(place)
            if place in self._held:
                return place
            if wait <= 0:
                return None
            try:
                yield from Wait(place.landing, wait)
            except BaseException:  # cancelled or killed, and perhaps given a place just now
                self.leave(place)
                raise
            with self._lock:
                # Whether it was given a place is said here alone: it may come after the wait.
                if place in self._held:
                    return place
                now = self._monotonic()
                if now > place.until + _LATE_SECONDS:
                    place.since = now
                elif freed == self._freed:
                    self._queue.pop(place, None)
                    return None

    def leave(self, place: Place) -> None:
        """Give the place back, or the wait for it up; doing so twice does no harm."""
        with self._lock:
            now = self._monotonic()
            self._queue.pop(place, None)
            if place in self._held:
                self._held.discard(place)
                self._free(1, now)
            called = self._seat_waiting(now)
        for each in called:
            each.landing.set_result(None)

    def lasted(self, seconds: float, *, in_vain: bool = False) -> None:
        """An exchange took so long; or did not end in that time, and would have taken longer."""
        if in_vain:
            seconds = max(2 * seconds, self._usual)
        self._usual += (seconds - self._usual) * _WEIGHT

    def _take_or_queue(self, place: Place) -> tuple[float, int]:
        """Have it wait, where there is no place now: for how long, and how many have become free
        so far. No time at all where waiting is in vain.
        """
        with self._lock:
            now = self._monotonic()
            called = self._seat_waiting(now)
            hope = max(place.since, self._freed_at) + self._wait
            wait = min(hope, place.deadline - self._needed(place)) - now
            if place in self._held:
                pass
            elif len(self._held) < self._places:
                self._queue.pop(place, None)
                self._hold(place)
            elif wait <= 0 or (place not in self._queue and len(self._queue) >= MOST_WAITING):
                self._queue.pop(place, None)
                wait = 0.0
            else:
                place.until = now + wait
                self._queue[place] = None
            freed = self._freed
        for each in called:
            each.landing.set_result(None)
        return wait, freed

    def _seat_waiting(self, now: float) -> list[Place]:
        """Give free places to those who wait, and say whom to call. Under the lock."""
        called: list[Place] = []
        if len(self._held) >= self._places:
            held = {place for place in self._held if now < place.until}
            self._free(len(self._held) - len(held), now)
            self._held = held
        if len(self._held) >= self._places:
            return called
        for place in [*self._queue]:
            if len(self._held) >= self._places:
                break
            if now < place.until:
                del self._queue[place]
                self._hold(place)
                called.append(place)
            elif now >= place.until + _GRACE_SECONDS:  # its loop has died
                del self._queue[place]
            # else it is late, or about to give up: it says so itself
        return called

    def _hold(self, place: Place) -> None:
        place.until = place.deadline + _GRACE_SECONDS
        self._held.add(place)

    def _free(self, places: int, now: float) -> None:
        if places:
            self._freed, self._freed_at = self._freed + places, now

    def _needed(self, place: Place) -> float:
        """Seconds without which it is in vain to begin: what exchanges take, and not more than
        half of what this caller had, since a server that is well again has to be found so.
        """
        return min(self._usual, (place.deadline - place.arrived) / 2)
