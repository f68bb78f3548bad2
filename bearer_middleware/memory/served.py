"""How often the short way served, as plain integers that cost nearly nothing to count.

By the number of the server and the flags of the facts, both of which are at hand in an entry.
No lock: see ``flow.tally``.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

from bearer_middleware.flow.locks import renew_after_fork
from bearer_middleware.flow.ring import Entry
from bearer_middleware.tokens.facts import ALL_FLAGS, OPAQUE

#: By server, then by flags.
Counts = list[list[int]]
_FLAGS = 2 * ALL_FLAGS[-1]  # whatever they are together
_SERVER, _FACTS_FLAGS = 4, 7


class Served:
    """The counts. Remembered entries that served, others that did, and JWTs that were verified
    to be remembered.
    """

    __slots__ = ("__weakref__", "afresh", "hits", "verified")

    def __init__(self, servers: int) -> None:
        self.hits: Counts = [[0] * _FLAGS for _ in range(servers)]
        self.afresh: Counts = [[0] * _FLAGS for _ in range(servers)]
        self.verified = [0] * servers
        renew_after_fork(self)

    def after_fork(self) -> None:
        """What the parent served it tells itself. In place: the hot path holds these lists."""
        for counts in (*self.hits, *self.afresh):
            counts[:] = [0] * _FLAGS
        self.verified[:] = [0] * len(self.verified)

    def count(self, counts: Counts, entry: Entry) -> None:
        """One more of this entry's kind."""
        counts[entry[_SERVER]][entry[_FACTS_FLAGS]] += 1


def kind_of(entry: Entry) -> Literal["jwt", "opaque"]:
    """What kind of token an entry is of."""
    return "opaque" if entry[_FACTS_FLAGS] & OPAQUE else "jwt"


def each(counts: Counts) -> Iterator[tuple[int, int, int]]:
    """Server, flags and number, but for what never happened."""
    for server, by_flags in enumerate(counts):
        for flags, number in enumerate(by_flags):
            if number:
                yield server, flags, number
