"""Time, as a parameter: deadlines are monotonic, ``exp`` and ``nbf`` are wall time.

What is remembered carries both, and the earlier one counts: a clock set back must not
revive a token, and a clock set forward must not keep one.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, eq=False)
class Clock:
    """Seconds since the epoch, and seconds that only go forward."""

    now: Callable[[], float] = time.time
    monotonic: Callable[[], float] = time.monotonic


class Backoff:
    """After failures: wait 1, 2, 4 ... up to 30 seconds, each with jitter, before asking again."""

    __slots__ = ("_failures", "until")
    _LONGEST = 30.0

    def __init__(self) -> None:
        self._failures = 0
        #: Monotonic seconds before which nobody should ask.
        self.until = 0.0

    def failed(self, monotonic: float, at_least: float = 0.0) -> None:
        """Wait longer than the last time, and ``at_least`` so many seconds."""
        full = min(2.0**self._failures, self._LONGEST)
        self._failures = min(self._failures + 1, 16)
        pause = random.uniform(max(1.0, full / 2), full)  # noqa: S311 - jitter
        self.until = monotonic + max(pause, at_least)

    def wait(self, monotonic: float, seconds: float) -> None:
        """Ask again after ``seconds``: somebody else is waiting already, so this is no failure."""
        self.until = monotonic + seconds

    @property
    def failing(self) -> bool:
        """Was the last attempt a failure?"""
        return self._failures > 0 or self.until > 0

    def succeeded(self) -> None:
        self._failures, self.until = 0, 0.0


class Bucket:
    """A token bucket: ``burst`` at once, then one per ``seconds``. Its caller holds the lock."""

    __slots__ = ("_burst", "_level", "_seconds", "_since")

    def __init__(self, burst: int, seconds: float) -> None:
        self._burst, self._seconds = burst, seconds
        self._level, self._since = float(burst), 0.0

    def would_give(self, monotonic: float) -> bool:
        """Would :meth:`take` give one now?"""
        return self._level + (monotonic - self._since) / self._seconds >= 1

    def level(self, monotonic: float) -> float:
        """How many are there now."""
        gained = (monotonic - self._since) / self._seconds
        return min(self._burst, self._level + max(gained, 0.0))

    def take(self, monotonic: float) -> bool:
        """Take one, if there is one."""
        self._level = self.level(monotonic)
        self._since = monotonic
        if self._level < 1:
            return False
        self._level -= 1
        return True

    def give(self) -> None:
        """Put back one that was taken."""
        self._level = min(self._burst, self._level + 1)
