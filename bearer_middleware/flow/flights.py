"""Asked once: any number of callers with the same question cause one exchange.

The first caller leads and does the work; the others wait for the flight to land. One
``Flights`` serves threads, greenlets, tasks and trio of several loops at the same time,
because the meeting point is a ``concurrent.futures.Future`` (see ``flow.landing``).

* A leader that is cancelled or killed leaves the flight *abandoned*: a follower leads on.
* A failure is shared as a value; every follower raises a fresh copy of it.
* A flight whose leader's loop has died would never land: newcomers replace it once its
  time is up.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Hashable
from typing import Generic, TypeVar

from bearer_middleware.errors import Reason, Refused, TransportError, Unavailable
from bearer_middleware.flow.effects import Flow, Wait
from bearer_middleware.flow.landing import Landing
from bearer_middleware.flow.locks import LazyLock, renew_after_fork

T = TypeVar("T")

#: A leader keeps its own deadline; only one that is gone for good exceeds it by this much.
GRACE_SECONDS = 1.0


class Flight(Generic[T]):
    """One piece of work under way, and where to wait for it, once somebody does."""

    __slots__ = ("_landing", "expires", "failure", "landed", "result", "succeeded")

    def __init__(self, expires: float) -> None:
        self._landing: Landing | None = None
        self.expires, self.landed = expires, False
        self.succeeded = False
        self.failure: Refused | TransportError | None = None
        self.result: T

    def succeed(self, result: T) -> None:
        self.result, self.succeeded = result, True

    def landing(self) -> Landing:
        """Where to wait. Most flights have nobody to meet, so it is made here. Under the lock."""
        if self._landing is None:
            self._landing = Landing()
            if self.landed:
                self._landing.land()
        return self._landing

    def land(self) -> Landing | None:
        """There is nothing more to wait for: whom to tell that. Under the lock."""
        self.landed = True
        return self._landing


class Flights(Generic[T]):
    """The flights under way, by question."""

    __slots__ = ("__weakref__", "_flights", "_lock", "_monotonic", "_note")

    def __init__(
        self,
        monotonic: Callable[[], float] = time.monotonic,
        note: Callable[[], None] | None = None,
    ) -> None:
        """``note`` is called for every caller that waits for another one."""
        self._monotonic, self._note = monotonic, note
        self._flights: dict[Hashable, Flight[T]] = {}
        self._lock = LazyLock()
        renew_after_fork(self)

    def after_fork(self) -> None:
        """The threads and tasks that led the parent's flights do not exist in the child."""
        self._flights = {}

    def under_way(self, key: Hashable) -> Flight[T] | None:
        """The flight that answers ``key`` right now, if one is in the air."""
        flight = self._flights.get(key)
        return flight if flight is not None and self._monotonic() < flight.expires else None

    def once(
        self,
        key: Hashable,
        work: Callable[[], Flow[T]],
        *,
        deadline: float,
        late: Callable[[], Exception],
        permit: Callable[[], None] | None = None,
    ) -> Flow[T]:
        """The result of ``work``, done by this caller or by the one who is already at it.

        ``deadline`` is monotonic seconds: until then this caller waits, and raises ``late()``
        after it. ``permit`` is called, under the lock, before this caller leads: it raises
        where new work is not allowed, while joining work under way always is.
        """
        while True:
            flight, landing = self._board(key, deadline, permit)
            permit = None  # going on with what a lost leader began is no new work
            if landing is None:
                return (yield from self._lead(key, flight, work))
            if self._note is not None:
                self._note()
            if not (yield from Wait(landing, deadline - self._monotonic())):
                raise late()
            if flight.succeeded:
                return flight.result
            if flight.failure is not None:
                raise _copy(flight.failure)

    def join(self, flight: Flight[T], deadline: float) -> Flow[bool]:
        """Wait for somebody else's flight, whatever comes of it; ``False`` if it took too long."""
        with self._lock:
            landing = flight.landing()
        return (yield from Wait(landing, deadline - self._monotonic()))

    def _board(
        self, key: Hashable, deadline: float, permit: Callable[[], None] | None
    ) -> tuple[Flight[T], Landing | None]:
        """The flight, and where to wait for it; nowhere is for its leader."""
        with self._lock:
            flight = self._flights.get(key)
            if flight is not None and self._monotonic() < flight.expires:
                return flight, flight.landing()
            if permit is not None:
                permit()
            flight = Flight(deadline + GRACE_SECONDS)
            self._flights[key] = flight
            return flight, None

    def _lead(self, key: Hashable, flight: Flight[T], work: Callable[[], Flow[T]]) -> Flow[T]:
        try:
            result = yield from work()
            flight.succeed(result)
            return result
        except Exception as failure:
            flight.failure = _shareable(failure)
            raise
        finally:  # also when cancelled, killed or closed: then it lands abandoned
            with self._lock:
                if self._flights.get(key) is flight:
                    del self._flights[key]
                landing = flight.land()
            if landing is not None:
                landing.land()


def _shareable(failure: Exception) -> Refused | TransportError:
    if isinstance(failure, Refused | TransportError):
        return failure
    return Unavailable(Reason.INTERNAL, type(failure).__name__)


def _copy(failure: Refused | TransportError) -> Exception:
    """One exception object must not be raised, and grow a traceback, in many callers."""
    return failure.again() if isinstance(failure, Refused) else TransportError(failure.detail)
