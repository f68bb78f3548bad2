"""A circuit breaker: a server that fails is left alone for a while, and then tried once.

The breaker only counts and says; the exchange itself happens outside of it, so its lock is
held for no longer than that takes. Whoever is let through brings back what became of it.

* Closed: everybody may ask. Five failures in a row, half of twenty and more within ten
  seconds, or a server that asks for patience open it.
* Open: nobody may ask, for 5 s at first and twice as long after each vain try.
* Half-open: one caller may ask, the *probe*. It closes the breaker, or opens it again.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from typing import Literal

from bearer_middleware.flow.locks import LazyLock, renew_after_fork

State = Literal["closed", "open", "half-open"]

#: What a caller that may ask has to bring back. It is good for one state of the breaker.
Permit = int

_IN_A_ROW = 5
_FIRST_SECONDS, _LONGEST_SECONDS = 5.0, 60.0
_JITTER = 0.2
# A probe keeps its own time limit; only one that is gone for good exceeds it by this much.
_GRACE_SECONDS = 1.0
# So long do callers stay away while the probe is under way.
_PROBE_SECONDS = 1.0


class Breaker:
    """Counts failures, and says who may ask. ``longest`` is in seconds."""

    __slots__ = (
        "__weakref__",
        "_generation",
        "_in_a_row",
        "_lock",
        "_longest",
        "_monotonic",
        "_openings",
        "_probe_until",
        "_recent",
        "_until",
    )

    def __init__(
        self, monotonic: Callable[[], float] = time.monotonic, longest: float = _LONGEST_SECONDS
    ) -> None:
        self._monotonic, self._longest = monotonic, longest
        self._lock = LazyLock()
        self._recent = _Recent()
        self._in_a_row = 0
        #: How often in a row it has opened; 0 is closed.
        self._openings = 0
        self._until = self._probe_until = 0.0
        # What was begun in another state says nothing about this one.
        self._generation = 0
        renew_after_fork(self)

    def after_fork(self) -> None:
        """What the parent has under way is not brought back here."""
        self._generation += 1
        self._probe_until = 0.0

    @property
    def state(self) -> State:
        """For whoever wants to know: asking this changes nothing."""
        if not self._openings:
            return "closed"
        return "open" if self._monotonic() < self._until else "half-open"

    @property
    def wait(self) -> float:
        """Seconds for which nobody may ask; 0 where somebody may."""
        if not self._openings:
            return 0.0
        now = self._monotonic()
        if now < self._until:
            return self._until - now
        return _PROBE_SECONDS if now < self._probe_until else 0.0

    def admit(self, seconds: float) -> Permit | None:
        """May this caller ask, who needs at most so many seconds for it? If so, it owes us one
        of :meth:`succeeded`, :meth:`failed` and :meth:`abandoned`.
        """
        with self._lock:
            if self._openings:
                now = self._monotonic()
                if now < max(self._until, self._probe_until):
                    return None
                self._probe_until = now + max(seconds, 0.0) + _GRACE_SECONDS
                self._generation += 1
            return self._generation

    def succeeded(self, permit: Permit) -> bool:
        """The server answered. ``True`` where that has just closed the breaker."""
        with self._lock:
            if permit != self._generation:
                return False
            self._in_a_row = 0
            if not self._openings:
                self._recent.add(self._monotonic(), 0)
                return False
            self._openings, self._until, self._probe_until = 0, 0.0, 0.0
            self._generation += 1
            self._recent.clear()
            return True

    def failed(self, permit: Permit, patience: float | None = None) -> bool:
        """The server failed, and asked for so many seconds of patience if it said anything.
        ``True`` where that has just opened a closed breaker.
        """
        with self._lock:
            now = self._monotonic()
            if permit != self._generation:
                if self._openings and patience is not None:
                    self._until = max(self._until, now + patience)
                return False
            if self._openings:
                self._open(now, patience)
                return False
            self._in_a_row += 1
            self._recent.add(now, 1)
            bad = self._in_a_row >= _IN_A_ROW or self._recent.is_bad(now)
            if patience is None and not bad:
                return False
            self._open(now, patience)
            return True

    def abandoned(self, permit: Permit) -> None:
        """The caller was cancelled, or learned nothing: somebody else may be the probe."""
        with self._lock:
            if permit == self._generation:
                self._probe_until = 0.0

    def _open(self, now: float, patience: float | None) -> None:
        usual = min(_FIRST_SECONDS * 2.0 ** min(self._openings, 16), self._longest)
        jitter = random.uniform(1 - _JITTER, 1 + _JITTER)  # noqa: S311 - so that processes part
        seconds = min(usual * jitter, self._longest) if patience is None else patience
        self._openings += 1
        self._until, self._probe_until = now + seconds, 0.0
        self._generation += 1
        self._in_a_row = 0


class _Recent:
    """Exchanges and failures of the last ten seconds, counted by the second."""

    __slots__ = ("_seconds",)
    _KEPT, _ENOUGH = 10, 20

    def __init__(self) -> None:
        #: Which second, how many exchanges, how many of them failed; oldest first.
        self._seconds: list[list[int]] = []

    def clear(self) -> None:
        self._seconds = []

    def add(self, now: float, failures: int) -> None:
        second = int(now)
        if not self._seconds or self._seconds[-1][0] != second:
            self._seconds = [*self._seconds[1 - self._KEPT :], [second, 0, 0]]
        self._seconds[-1][1] += 1
        self._seconds[-1][2] += failures

    def is_bad(self, now: float) -> bool:
        counted = [each for each in self._seconds if each[0] > now - self._KEPT]
        asked = sum(each[1] for each in counted)
        return asked >= self._ENOUGH and 2 * sum(each[2] for each in counted) >= asked
