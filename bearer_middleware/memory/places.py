"""What is remembered of tokens: facts under digests, never a token, never a verdict for ever.

Three places, so that junk can never push out what is good: verified JWTs, active answers
of introspection, and refusals. An entry is a tuple of atoms (see ``flow.ring``).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from cachetools import LRUCache

from bearer_middleware.errors import Refused
from bearer_middleware.flow.clock import Clock
from bearer_middleware.flow.inheritance import inherited
from bearer_middleware.flow.locks import LazyLock, renew_after_fork
from bearer_middleware.flow.ring import Entry, Ring
from bearer_middleware.memory.served import Served
from bearer_middleware.tokens.facts import Facts

#: An answer has one item more: its end, since the deadline of its entry is when it is due
#: to be asked for anew (see ``memory.ahead``).
END = 10


def entry_of(  # noqa: PLR0917 - an entry is that long
    digest: bytes,
    facts: Facts,
    expires: float | None,
    seconds: float,
    serial: int | None,
    server: int,
    now: float,
    monotonic: float,
) -> Entry:
    """What may serve for ``seconds``, and never past the token's ``exp``: its digest, wall
    and monotonic deadline, key serial, number of the server, and the facts.
    """
    wall = math.inf if expires is None else float(expires)
    left = wall - now
    until = monotonic + (seconds if seconds < left else left)  # noqa: FURB136 - half the time
    return (digest, wall, until, serial, server) + facts  # noqa: RUF005 - here, too


@dataclass(frozen=True, slots=True, repr=False, eq=False)
class Refusal:
    """A refusal worth remembering, until a monotonic deadline.

    ``payload`` is there when the server said *active* and our rules said no: the rules are
    asked again on every use, since a token may become valid.
    """

    until: float
    error: Refused
    payload: bytes | None = None


class Refusals:
    """The last refusals, by digest: bounded, apart from what is good."""

    def __init__(self, size: int, clock: Clock) -> None:
        self._clock = clock
        self._lock = LazyLock()
        self._known: LRUCache[bytes, Refusal] = LRUCache(size)
        #: How many had to make room for others.
        self.evicted = 0
        renew_after_fork(self)

    def after_fork(self) -> None:
        """Another thread of the parent may have been changing this."""
        self._known = inherited(self._known, LRUCache(self._known.maxsize))

    def __len__(self) -> int:
        return len(self._known)

    def get(self, digest: bytes) -> Refusal | None:
        if digest not in self._known:  # most are not, and to ask that changes nothing
            return None
        with self._lock:
            refusal = self._known.get(digest)
        if refusal is None or self._clock.monotonic() >= refusal.until:
            return None
        return refusal

    def remember(
        self, digest: bytes, error: Refused, seconds: float, payload: bytes | None = None
    ) -> None:
        if seconds <= 0:
            return
        kept = Refusal(self._clock.monotonic() + seconds, error.again(), payload)
        with self._lock:
            before, new = len(self._known), digest not in self._known
            self._known[digest] = kept
            self.evicted += new and len(self._known) == before


class Memory:
    """The three places together, and how often they served."""

    def __init__(self, size: int, clock: Clock, servers: int) -> None:
        self.verified = Ring(size, clock.monotonic)
        self.introspected = Ring(size, clock.monotonic)
        self.refusals = Refusals(size, clock)
        self.served = Served(servers)
        self.now, self.monotonic = clock.now, clock.monotonic

    def get(self, digest: bytes) -> Entry | None:
        """The answer that is remembered under ``digest`` and in date, due or not."""
        entry = self.introspected.get(digest)
        if entry is None or self.monotonic() >= entry[END] or self.now() >= entry[1]:
            return None
        return entry

    def at_hand(self) -> tuple[Any, ...]:
        """What the short way holds: how verified JWTs are found and marked as read, how answers
        are found, both clocks, and whether and where hits are counted.
        """
        jwts, served = self.verified, self.served
        found = jwts.find, jwts.touched, self.introspected.get
        return *found, self.now, self.monotonic, served.watched, served.hits

    def __repr__(self) -> str:
        return f"<Memory of {len(self.verified)} JWTs and {len(self.introspected)} answers>"
