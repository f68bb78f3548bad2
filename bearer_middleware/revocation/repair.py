"""What a store lost, whoever still knows it writes again.

Marks are sealed and mean the same however often they are written, so this is safe to do from
every process at once; where there is much to write, they take turns by chance. The reader goes on
meanwhile, and takes the snapshot that the turn needs as any other one: what is new in it counts.
"""

from __future__ import annotations

import math
import random
from collections.abc import Iterable

from bearer_middleware.flow.clock import Clock
from bearer_middleware.flow.effects import Flow, lift
from bearer_middleware.flow.events import Event, Events
from bearer_middleware.revocation.marks import Kind, Mark
from bearer_middleware.revocation.source import Source, WritableSource
from bearer_middleware.revocation.state import Revocations

_MUCH = 500
_LONGEST_TURN_SECONDS = 2.0
_FORGET_AT = 10_000


class Repair:
    """Compares snapshots with what is known here."""

    def __init__(
        self, source: Source, revocations: Revocations, clock: Clock, events: Events
    ) -> None:
        self._source, self._revocations, self._events = source, revocations, events
        self._monotonic = clock.monotonic
        #: Monotonic seconds: when there shall be a snapshot to write much by.
        self.turn = math.inf
        #: The state has no use for them once a mark is in it.
        self._kinds: dict[bytes, Kind] = {}
        self._forget_at = _FORGET_AT

    def learn(self, marks: Iterable[Mark]) -> None:
        """These are in force here."""
        if not isinstance(self._source, WritableSource):
            return
        for mark in marks:
            self._kinds[mark.digest] = mark.kind
        if len(self._kinds) > self._forget_at:
            known = {mark.digest for mark in self._revocations.marks(self._kinds)}
            for digest in {*self._kinds} - known:  # a copy: several threads may revoke
                self._kinds.pop(digest, None)
            self._forget_at = max(_FORGET_AT, 2 * len(known))

    def after(self, snapshot: Iterable[Mark]) -> Flow[None]:
        """Write what is missing from ``snapshot``. A store that takes nothing is left alone."""
        source = self._source
        if not isinstance(source, WritableSource):
            return
        missing = self._missing(snapshot)
        if len(missing) > _MUCH and not self._is_our_turn():
            return
        self.turn = math.inf
        try:
            if missing:
                yield from lift(source.publish, missing)
        except Exception:  # noqa: BLE001 - the next snapshot shows it again
            return
        if missing:
            event = Event("revocation_republished", detail=f"{len(missing)} that the feed had lost")
            yield from self._events.happened_apart(event)

    def _is_our_turn(self) -> bool:
        """Has it come? Where there was none, there is from now on."""
        now = self._monotonic()
        if self.turn == math.inf:
            self.turn = now + random.uniform(0, _LONGEST_TURN_SECONDS)  # noqa: S311 - by chance
        return now >= self.turn

    def _missing(self, snapshot: Iterable[Mark]) -> list[Mark]:
        known = self._revocations.marks(self._kinds)
        if not known:
            return []
        there = {(mark.kind, mark.digest): mark for mark in _latest(snapshot)}
        return [mark for mark in known if not _covers(there.get((mark.kind, mark.digest)), mark)]


def _latest(marks: Iterable[Mark]) -> Iterable[Mark]:
    """Of several about the same, each part that counts, as the state has it."""
    found: dict[bytes, Mark] = {}
    for mark in marks:
        other = found.get(mark.digest)
        if other is not None:
            until = max(mark.until, other.until)
            before = None if mark.before is None else max(mark.before, other.before or 0.0)
            mark = Mark(mark.kind, mark.digest, until, before)  # noqa: PLW2901
        found[mark.digest] = mark
    return found.values()


def _covers(there: Mark | None, mark: Mark) -> bool:
    if there is None or there.until < mark.until:
        return False
    return mark.before is None or (there.before or 0.0) >= mark.before
