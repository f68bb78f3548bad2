"""The feed: keeps the state of this process up to date.

One reader for each process, on a thread of its own, begun by the first request. What was once
revoked stays so until its time, whatever a store lost; and what a store that can be written
lost, whoever knows it writes again.
"""

from __future__ import annotations

import logging
import math
import random
from collections.abc import Awaitable, Iterable
from concurrent.futures import Future
from typing import Any, Literal

from bearer_middleware.errors import RevocationError, TransportError
from bearer_middleware.flow.clock import Clock
from bearer_middleware.flow.companion import Companion
from bearer_middleware.flow.drivers import Transport, arun
from bearer_middleware.flow.effects import Flow, Wait, lift, pause
from bearer_middleware.flow.events import Event, Events
from bearer_middleware.flow.instruments import APPLIED, FEED_AGE
from bearer_middleware.flow.locks import renew_after_fork
from bearer_middleware.flow.worlds import threads_do_not_run
from bearer_middleware.revocation.bound import Bound
from bearer_middleware.revocation.gate import FULL, Gate, Policy
from bearer_middleware.revocation.marks import Mark
from bearer_middleware.revocation.repair import Repair
from bearer_middleware.revocation.source import Source, WritableSource
from bearer_middleware.revocation.state import Revocations

_RESYNC_SECONDS = 60.0
_SNAPSHOT_SECONDS = 1.0
_SHORTEST_PAUSE, _LONGEST_PAUSE, _OVERFLOW_SECONDS = 0.05, 0.25, 5.0


class Feed:
    """Reads ``source`` into ``revocations``, and writes into it where that can be done."""

    def __init__(
        self,
        source: Source,
        revocations: Revocations,
        *,
        policy: Policy,
        bound: Bound,
        transport: Transport,
        clock: Clock,
        events: Events,
    ) -> None:
        self.source, self.bound = source, bound
        self._revocations = revocations
        self._clock, self._events = clock, events
        self._gate = Gate(revocations, policy, clock)
        self._repair = Repair(source, revocations, clock, events)
        self._companion = Companion("bearer_middleware revocation", self._follow, transport)
        self._has_told = False
        events.tally.watch(FEED_AGE, self._ages)
        renew_after_fork(self)

    def __repr__(self) -> str:
        return f"<Feed of {self.source!r}>"

    def after_fork(self) -> None:
        """The reader is in the parent; the child keeps what is revoked, and reads it anew."""
        self._gate.after_fork()
        self._has_told = False

    @property
    def is_live(self) -> bool:
        """Was everything read, and the feed heard of in the last 5 s?"""
        return self._gate.is_live

    @property
    def asks_again(self) -> bool:
        """Shall tokens that are remembered be asked about all the same?"""
        return self._gate.asks_again

    @property
    def is_writable(self) -> bool:
        """Can a revocation be written into it?"""
        return isinstance(self.source, WritableSource)

    # -- requests ------------------------------------------------------------------------

    def start(self) -> None:
        """Begin to read, unless that is under way."""
        if self._companion.runs:
            return
        self._gate.begin()
        if threads_do_not_run():
            self._gate.failing = "no thread runs here"
            return
        try:
            self._companion.start()
        except RuntimeError:
            self._gate.failing = "no thread can be had"

    def admit(self, deadline: float) -> Flow[None]:
        """Let a request go on, or raise ``Unavailable`` where the policy says so. It waits for
        the first snapshot, but neither until its ``deadline`` (monotonic seconds) nor for
        longer than 5 s after the reader began.
        """
        self.start()
        if not self._has_told:
            self._has_told = True
            yield from self._events.happened(Event("revocation_bound", detail=str(self.bound)))
        gate = self._gate
        if gate.is_live:
            return
        landing, patience = gate.landing, gate.patience(deadline)
        if landing is not None and patience > 0 and self._companion.runs:
            yield from Wait(landing, patience)
        stale = gate.look()
        if stale is not None:
            yield from self._events.happened(stale)
        gate.refuse()

    def publish(self, mark: Mark) -> Flow[None]:
        """Revoke everywhere: written into the feed first, then in force here. Raises
        ``RevocationError`` where it was not acknowledged.
        """
        if not isinstance(self.source, WritableSource):
            raise RevocationError("the feed at BEARER_REVOCATION_URL can only be read")
        try:
            yield from lift(self.source.publish, (mark,))
        except Exception as error:  # noqa: BLE001 - its text may be of the store, and hold anything
            detail = _word_for(error)
        else:
            self._add([mark])
            self.start()  # what the feed loses, whoever knows it has to say again
            return
        raise RevocationError(f"the feed did not acknowledge it: {detail}")

    # -- health --------------------------------------------------------------------------

    def condition(self) -> tuple[Literal["ok", "degraded", "failing"], dict[str, Any]]:
        """For health: what was read, how long ago, and what is promised."""
        gate, heard = self._gate, self._gate.heard
        shown: dict[str, Any] = {
            "age_seconds": None if heard is None else round(self._clock.monotonic() - heard, 1),
            "entries": len(self._revocations),
            "bound_seconds": self.bound.as_dict(),
        }
        if gate.failing is not None:
            shown["failing"] = gate.failing
        return gate.status, shown

    def _ages(self) -> list[tuple[tuple[str], float]]:
        heard = self._gate.heard
        return [] if heard is None else [(("feed",), self._clock.monotonic() - heard)]

    def close(self) -> None:
        """End the reader; the next request would begin it again."""
        self._gate.begin_anew()  # first, or a reader that begins just now would not be believed
        self._companion.stop()
        close = getattr(self.source, "close", None)
        if close is not None:
            close()

    def aclose(self) -> Awaitable[None]:
        """The same for event loops; nobody is waited for."""
        return arun(self._closed())

    def _closed(self) -> Flow[None]:
        self.close()
        yield from ()

    # -- the reader ----------------------------------------------------------------------

    def _follow(self, ending: Future[None]) -> Flow[None]:
        gate, complete, failures, taken, resync = self._gate, False, 0, -math.inf, 0.0
        if not gate.follow(ending):
            return
        try:
            while not ending.done():
                now, was_complete = self._clock.monotonic(), complete
                full = not complete or now >= min(resync, self._repair.turn)
                if full:
                    taken, resync = now, now + _jittered(_RESYNC_SECONDS)
                try:
                    complete = yield from self._read(ending, full=full)
                except Exception as error:  # noqa: BLE001 - whatever it is, we try again
                    gate.failing = _word_for(error)
                    complete = complete and not full
                    failures += 1
                else:
                    # Once a snapshot is taken at once; not so if it is wanted again and again.
                    again = was_complete and now - taken >= _SNAPSHOT_SECONDS
                    failures = 0 if complete or again else failures + 1
                if failures and not ending.done():
                    yield from self._tell(gate.look())
                    yield from pause(_OVERFLOW_SECONDS if gate.overflows else _wait(failures))
        finally:
            if gate.reader is ending and not ending.done():  # nobody ended it
                gate.begin_anew()

    def _read(self, ending: Future[None], *, full: bool) -> Flow[bool]:
        """Read once; ``False`` where a snapshot has to follow."""
        marks = yield from lift(self.source.snapshot if full else self.source.following)
        if marks is None or ending.done():
            return False
        marks, overflowed = tuple(marks), self._gate.overflows
        added = self._add(marks, full=full, read=True)
        if self._gate.overflows:
            if not overflowed:
                yield from self._tell(Event("revocation_overflow", logging.CRITICAL, detail=FULL))
            return False
        yield from self._tell(self._gate.hear(ending))
        if added:
            yield from self._tell(Event("revocation_applied", detail=f"{added} of the feed"))
        if full:
            yield from self._repair.after(marks)
        return True

    def _add(self, marks: Iterable[Mark], *, full: bool = False, read: bool = False) -> int:
        """Apply what is new; how many that were. Where it is too much, nobody is let in."""
        news = [mark for mark in marks if self._revocations.is_news(mark)]
        try:
            if news:
                self._revocations.apply(news)
        except RevocationError:
            self._gate.overflow()
            return 0
        self._repair.learn(news)
        if read:  # else who asked for it has counted it
            for mark in news:
                self._events.tally.add(APPLIED, "feed", mark.kind)
        if full:
            self._gate.overflows = False
        return len(news)

    def _tell(self, event: Event | None) -> Flow[None]:
        if event is not None:
            yield from self._events.happened_apart(event)


def _word_for(error: Exception) -> str:
    return error.detail if isinstance(error, TransportError) else type(error).__name__


def _wait(failures: int) -> float:
    return _jittered(min(_SHORTEST_PAUSE * 2.0 ** min(failures, 10), _LONGEST_PAUSE))


def _jittered(seconds: float) -> float:
    return seconds * random.uniform(0.8, 1.2)  # noqa: S311 - jitter
