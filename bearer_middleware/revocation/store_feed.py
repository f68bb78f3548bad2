"""The feed in Redis or Valkey: a sorted set of all that is revoked, and a stream of the news.

A revocation is one transaction: into the set, by when it may be dropped, and into the stream.
A reader remembers the end of the stream, reads the set, and follows the stream from there, so
nothing falls between the two. A store that was emptied, restored or trimmed past a reader is
noticed, and makes it read the set anew.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterable, Iterator
from itertools import islice
from typing import Any

from bearer_middleware.errors import TransportError
from bearer_middleware.flow.clock import Clock
from bearer_middleware.flow.effects import Flow, StoreCommand
from bearer_middleware.flow.store import Store
from bearer_middleware.revocation.entries import Entries
from bearer_middleware.revocation.marks import Mark
from bearer_middleware.revocation.state import MOST_MARKS

# The braces keep all three on one node of a cluster.
SET = "bearer:{revocation}:entries"
STREAM = "bearer:{revocation}:stream"
#: A random text that is new where the store lost what it had.
GENERATION = "bearer:{revocation}:generation"

_LONGEST_STREAM = 100_000
_BLOCK_MILLISECONDS = 1_000
#: Longer than a reader is made to wait, and short enough to notice silence in time (``bound``).
READING_PATIENCE, WRITING_PATIENCE = 1.5, 1.0
_PAGE, _AT_ONCE = 2_000, 500

_Id = tuple[int, int]
_BEGINNING: _Id = (0, 0)
_GENERATION = ("GET", GENERATION)


class StoreFeed:
    """A feed that can be written, and tells all its readers within milliseconds."""

    def __init__(self, reading: Store, writing: Store, entries: Entries, clock: Clock) -> None:
        self._reading, self._writing = reading, writing
        self._entries, self._clock = entries, clock
        self._generation: bytes | None = None
        #: How far we have read, and the last of all we know to have been there.
        self._last = self._highest = _BEGINNING

    def __repr__(self) -> str:
        return "<StoreFeed>"

    def close(self) -> None:
        """Whoever waits for news is told that there will be none."""
        self._reading.close()

    def snapshot(self) -> Flow[list[Mark]]:
        """All of the set. Raises ``TransportError``."""
        highest = self._highest
        generation, newest = yield from StoreCommand(
            self._reading, _GENERATION, more=(_end("XREVRANGE", "+", "-"),)
        )
        if generation is None:
            generation = yield from self._generate()
        marks: list[Mark] = []
        cursor, seen = 0, 0
        while True:
            page = yield from StoreCommand(self._reading, ("ZSCAN", SET, cursor, "COUNT", _PAGE))
            cursor, seen = int(page[0]), seen + len(page[1])
            marks += self._entries.opened(entry for entry, _ in page[1])
            if cursor == 0:
                break
            if seen > 2 * MOST_MARKS:
                raise TransportError("too_large")
        self._generation = generation
        self._last = _first_id(newest) or _BEGINNING
        if self._highest == highest:  # else something was published meanwhile
            self._highest = self._last
        return marks

    def _generate(self) -> Flow[bytes | None]:
        """Now, or the first revocation would look like the loss of everything before it."""
        try:
            replies = yield from StoreCommand(self._reading, self._born(), more=(_GENERATION,))
        except TransportError:  # a replica cannot be written; whoever writes does it then
            return None
        return replies[1]  # type: ignore[no-any-return]

    def _born(self) -> tuple[str, ...]:
        return ("SET", GENERATION, secrets.token_hex(16), "NX")

    def following(self) -> Flow[list[Mark] | None]:
        """What the stream has after what was read of it. Raises ``TransportError``."""
        generation, oldest, newest = yield from StoreCommand(
            self._reading,
            _GENERATION,
            more=(_end("XRANGE", "-", "+"), _end("XREVRANGE", "+", "-")),
        )
        first, last = _first_id(oldest) or _BEGINNING, _first_id(newest) or _BEGINNING
        if generation != self._generation or first > self._last or last < self._highest:
            return None
        where = f"{self._last[0]}-{self._last[1]}"
        blocking = ("XREAD", "COUNT", _AT_ONCE, "BLOCK", _BLOCK_MILLISECONDS)
        reply = yield from StoreCommand(self._reading, (*blocking, "STREAMS", STREAM, where))
        news = [item for _, items in reply or () for item in items]
        entries = [entry for _, fields in news for entry in (fields or {}).values()]
        marks = self._entries.opened(entries)
        if news:
            self._last = _id(news[-1][0])
            self._highest = max(self._highest, self._last)
        return marks

    def publish(self, marks: Iterable[Mark]) -> Flow[None]:
        """Acknowledged by the store when it returns. Raises ``TransportError``."""
        rest = iter(marks)
        while batch := list(islice(rest, _AT_ONCE)):
            replies = yield from StoreCommand(
                self._writing,
                ("ZADD", SET, *self._scored(batch)),
                more=(
                    ("XADD", STREAM, "MAXLEN", "~", _LONGEST_STREAM, "*", *self._fields(batch)),
                    self._born(),
                    ("ZREMRANGEBYSCORE", SET, "-inf", f"({int(self._clock.now())}"),
                ),
            )
            self._highest = max(self._highest, _id(replies[1]))

    def _scored(self, marks: Iterable[Mark]) -> Iterator[str | bytes]:
        for mark in marks:
            yield str(int(mark.until) + 1)
            yield self._entries.sealed(mark)

    def _fields(self, marks: Iterable[Mark]) -> Iterator[str | bytes]:
        for number, mark in enumerate(marks):
            yield str(number)
            yield self._entries.sealed(mark)


def _end(command: str, begin: str, end: str) -> tuple[str | int, ...]:
    return (command, STREAM, begin, end, "COUNT", 1)


def _first_id(items: Any) -> _Id | None:
    return _id(items[0][0]) if items else None


def _id(text: bytes) -> _Id:
    milliseconds, _, number = text.partition(b"-")
    return int(milliseconds), int(number)
