"""A bounded memory for tokens: a CLOCK ring.

Reading takes no lock and costs a dictionary look-up. Writing evicts the first entry that
is out of date or was not read since the hand last passed, within a bounded number of
steps, so no single ``put`` is slow at any size, and nothing ever sweeps the whole ring.

An entry is a tuple of atoms ``(digest, ..., ...)`` whose first item is its key and whose
third is its monotonic deadline; the ring adds the number of its slot at the end. Tuples of
atoms are invisible to the garbage collector, which keeps a million of them free of pauses.
The index of a large ring is cut into 256 dictionaries by the first byte of the digest, since
a dictionary that grows copies itself: small ones are copied in microseconds, a large one in
tens of milliseconds.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from bearer_middleware.flow.locks import LazyLock

Entry = tuple[Any, ...]
_DEADLINE = 2
_MAX_STEPS = 64
#: A dictionary of so many is copied in a third of a millisecond.
_SMALL = 16_384


class Ring:
    """At most ``capacity`` entries, by digest.

    Whoever cannot afford the call of :meth:`get` calls ``find`` and marks ``touched``.
    """

    __slots__ = (
        "_capacity",
        "_clock",
        "_entries",
        "_hand",
        "_lock",
        "_mask",
        "_shards",
        "evicted",
        "find",
        "touched",
    )

    def __init__(self, capacity: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._capacity = capacity
        self._clock = clock
        self._lock = LazyLock()
        self._mask = 0 if capacity <= _SMALL else 255
        #: By the first byte of the digest: digest to entry.
        self._shards: tuple[dict[bytes, Entry], ...] = tuple({} for _ in range(self._mask + 1))
        #: The entry of a digest, in date or not, and not marked as read.
        self.find: Callable[[bytes], Entry | None]
        self.find = self._find if self._mask else self._shards[0].get
        self._entries: list[Entry | None] = []
        #: By slot: was it read since the hand last passed? An item of a list is set more quickly
        #: than one of a bytearray.
        self.touched: list[int] = []
        self._hand = 0
        #: How many entries had to make room for others before their time.
        self.evicted = 0

    def __len__(self) -> int:
        return sum(map(len, self._shards))

    def get(self, digest: bytes) -> Entry | None:
        """The entry of ``digest``, in date or not; the caller looks at its deadlines."""
        entry = self.find(digest)
        if entry is not None:
            self.touched[entry[-1]] = 1
        return entry

    def _find(self, digest: bytes) -> Entry | None:
        return self._shards[digest[0]].get(digest)

    def put(self, entry: Entry) -> None:
        """Remember ``entry``, in place of an older one with the same digest."""
        digest: bytes = entry[0]
        with self._lock:
            shard = self._shards[digest[0] & self._mask]
            older = shard.get(digest)
            slot = self._vacate() if older is None else older[-1]
            entry = (*entry, slot)
            if slot == len(self._entries):
                self._entries.append(entry)
                self.touched.append(0)
            else:
                self._entries[slot] = entry
                self.touched[slot] = 0
            shard[digest] = entry

    def exchange(self, older: Entry, newer: Entry) -> Entry | None:
        """Put ``newer`` in the place of ``older``, an entry that was read here, and return it
        as it is now; ``None`` where ``older`` is not there any more.
        """
        digest: bytes = older[0]
        with self._lock:
            shard = self._shards[digest[0] & self._mask]
            if shard.get(digest) is not older:
                return None
            entry = (*newer, older[-1])
            self._entries[older[-1]] = shard[digest] = entry
            return entry

    def discard(self, digest: bytes) -> None:
        """Forget the entry of ``digest``, if there is one."""
        with self._lock:
            entry = self._shards[digest[0] & self._mask].pop(digest, None)
            if entry is not None:
                self._entries[entry[-1]] = None

    def _vacate(self) -> int:
        if len(self._entries) < self._capacity:  # it grows; a large one at once takes milliseconds
            return len(self._entries)
        now, slot, evicted, in_date = self._clock(), 0, b"", False
        for _ in range(_MAX_STEPS):
            slot = self._hand
            self._hand = (slot + 1) % self._capacity
            entry = self._entries[slot]
            if entry is None:
                return slot
            evicted, in_date = entry[0], entry[_DEADLINE] > now
            if not in_date or not self.touched[slot]:
                break
            self.touched[slot] = 0
        self.evicted += in_date
        # It may be gone already: a fork in the midst of another thread's put leaves that behind.
        self._shards[evicted[0] & self._mask].pop(evicted, None)
        return slot
