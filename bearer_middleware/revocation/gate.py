"""Whether the state can be relied on now, and what becomes of requests where it cannot.

While the gate is open the short way is, and costs a request nothing. It is shut until the
first snapshot is there, and in silence where the policy forbids to serve; then requests go
the whole way, and meet :meth:`Gate.patience` and :meth:`Gate.refuse` there.
"""

from __future__ import annotations

import logging
from concurrent.futures import Future
from typing import Literal

from bearer_middleware.errors import Reason, Unavailable
from bearer_middleware.flow.clock import Clock
from bearer_middleware.flow.events import Event
from bearer_middleware.flow.locks import LazyLock
from bearer_middleware.revocation.bound import STALE_SECONDS
from bearer_middleware.revocation.state import Revocations

Policy = Literal["serve", "introspect", "refuse"]

FULL = "there are more revocations than can be kept"
_SILENT = "there is no word of it"
# Who waits for the first snapshot shall have time left for what it came for.
_PART_OF_DEADLINE = 2 / 3


class Gate:
    """Shut at first. ``policy`` is that of ``BEARER_ON_STALE_FEED``."""

    def __init__(self, revocations: Revocations, policy: Policy, clock: Clock) -> None:
        self._revocations, self._policy, self._clock = revocations, policy, clock
        self._lock = LazyLock()
        #: Monotonic seconds: when the reader began, and when it last heard of the feed.
        self.began: float | None = None
        self.heard: float | None = None
        #: Where requests wait for the first snapshot.
        self.landing: Future[None] | None = None
        #: Of the reader that counts; one that was ended may still be on its way out.
        self.reader: Future[None] | None = None
        #: In a word of ours: what keeps the feed from being read.
        self.failing: str | None = None
        self.overflows = self._is_stale = False
        revocations.shut_alone()

    @property
    def is_live(self) -> bool:
        """Was everything read, and the feed heard of in the last seconds?"""
        if self.heard is None or self.overflows:
            return False
        return self._clock.monotonic() - self.heard <= STALE_SECONDS

    @property
    def asks_again(self) -> bool:
        """Shall tokens that are remembered be asked about all the same?"""
        return self._policy == "introspect" and not self.is_live

    @property
    def status(self) -> Literal["ok", "degraded", "failing"]:
        """For health: ready is who may serve."""
        if self.is_live:
            return "ok"
        if self.overflows or self._policy == "refuse":
            return "failing"
        waits = self.began is None or self._clock.monotonic() - self.began <= STALE_SECONDS
        return "ok" if self.heard is None and waits else "degraded"

    def begin(self) -> None:
        """A reader begins."""
        with self._lock:
            if self.began is None:
                self.began = self._clock.monotonic()
                self.landing = Future()
                self.landing.set_running_or_notify_cancel()

    def follow(self, reader: Future[None]) -> bool:
        """May this reader begin to read? One that was ended before its thread came to that may
        not: another has begun since, perhaps, and nobody would believe that one any more.
        """
        with self._lock:
            if reader.done():
                return False
            self.reader = reader
            return True

    def patience(self, deadline: float) -> float:
        """Seconds that a request may wait for the first snapshot, before ``deadline`` and
        until 5 s after the reader began.
        """
        if self.heard is not None or self._is_stale or self.began is None:
            return 0.0
        now = self._clock.monotonic()
        return min(self.began + STALE_SECONDS - now, (deadline - now) * _PART_OF_DEADLINE)

    def refuse(self) -> None:
        """Raises ``Unavailable`` where nobody may be served now."""
        if self.overflows or (self._policy == "refuse" and not self.is_live):
            raise Unavailable(Reason.REVOCATION_STALE, self.failing or _SILENT)

    def hear(self, reader: Future[None]) -> Event | None:
        """All is read up to now; the event where that is news."""
        with self._lock:
            if self.reader is not reader:
                return None
            was_stale, self._is_stale = self._is_stale, False
            self.heard, self.failing = self._clock.monotonic(), None
            landing, self.landing = self.landing, None
            if self._revocations.is_shut and not self.overflows:
                self._revocations.shut(shut=False)
        if landing is not None:
            landing.set_result(None)
        return Event("revocation_feed_recovered") if was_stale else None

    def look(self) -> Event | None:
        """Notice silence; the event where that is news."""
        with self._lock:
            since = self.began if self.heard is None else self.heard
            if self._is_stale or since is None:
                return None
            if self._clock.monotonic() - since <= STALE_SECONDS:
                return None
            self._is_stale = True
            # Whoever serves without the feed serves the short way.
            self._revocations.shut(shut=self._policy != "serve" or self.overflows)
        detail = f"{self.failing or _SILENT}; the policy is {self._policy}"
        return Event("revocation_feed_stale", logging.ERROR, detail=detail)

    def overflow(self) -> None:
        """What does not fit cannot be held against anybody, so nobody is let in."""
        with self._lock:
            self.overflows, self.failing = True, FULL
            self._revocations.shut()

    def begin_anew(self) -> None:
        """As before the first reader, but for what is revoked."""
        # Without a lock: in a forked child, another thread of the parent may hold it.
        landing, self.landing = self.landing, None
        self.reader = self.began = self.heard = None
        self._is_stale = False
        self._revocations.shut_alone()
        if landing is not None:
            landing.set_result(None)

    def after_fork(self) -> None:
        """Who waits does so in the parent."""
        self.landing = None
        self.begin_anew()
