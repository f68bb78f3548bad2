"""What was just asked about, while answers are not to be relied on for as long as they last."""

from __future__ import annotations

from cachetools import LRUCache

from bearer_middleware.flow.clock import Clock
from bearer_middleware.flow.inheritance import inherited
from bearer_middleware.flow.locks import LazyLock, renew_after_fork

_MOST = 10_000


class JustAsked:
    """Tokens, by digest, that the server called good a moment ago. Bounded."""

    __slots__ = ("__weakref__", "_clock", "_lock", "_until")

    def __init__(self, clock: Clock) -> None:
        self._clock, self._lock = clock, LazyLock()
        self._until: LRUCache[bytes, float] = LRUCache(_MOST)
        renew_after_fork(self)

    def after_fork(self) -> None:
        """Another thread of the parent may have been changing this."""
        self._until = inherited(self._until, LRUCache(_MOST))

    def has(self, digest: bytes) -> bool:
        """Need it not be asked about again yet?"""
        with self._lock:
            return self._clock.monotonic() < self._until.get(digest, 0.0)

    def add(self, digest: bytes, until: float) -> None:
        """It was, and that holds ``until`` then, in monotonic seconds."""
        with self._lock:
            self._until[digest] = until
