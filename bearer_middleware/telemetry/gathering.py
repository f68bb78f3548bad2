"""What all servers of this process counted, as if they were one.

Two servers in one process would be the same series twice, which neither library takes. So
each place that shows something has one gathering, and every server joins it.
"""

from __future__ import annotations

import functools
import weakref
from itertools import accumulate

from bearer_middleware.flow.instruments import BOUNDARIES, Instrument
from bearer_middleware.flow.locks import LazyLock
from bearer_middleware.flow.tally import Labels, Tally


class Gathering:
    """Adds up the tallies that joined, for as long as their servers live."""

    def __init__(self) -> None:
        self._lock = LazyLock()
        self._tallies: weakref.WeakSet[Tally] = weakref.WeakSet()

    def join(self, tally: Tally) -> None:
        with self._lock:
            self._tallies.add(tally)
        tally.attend()

    def _joined(self) -> list[Tally]:
        with self._lock:  # nobody may join while the set is gone through
            return list(self._tallies)

    def read(self, instrument: Instrument) -> dict[Labels, float]:
        """The present values of a counter or gauge, by labels."""
        values: dict[Labels, float] = {}
        for tally in self._joined():
            own: dict[Labels, float] = {}
            for labels, value in tally.read(instrument):
                # Inside one server, counters have several sources and gauges several endpoints.
                known = own.get(labels)
                own[labels] = value if known is None else instrument.together(known, value)
            for labels, value in own.items():
                known = values.get(labels)
                values[labels] = value if known is None else instrument.together(known, value)
        return values

    def read_histogram(self, instrument: Instrument) -> dict[Labels, tuple[list[int], float]]:
        """By labels: how many values were at most each of the boundaries and, last, how many
        there were; and their sum.
        """
        values: dict[Labels, tuple[list[int], float]] = {}
        nothing = ([0] * (len(BOUNDARIES) + 1), 0.0)
        for tally in self._joined():
            for labels, kept in tally.read_histogram(instrument):
                counts, total = values.get(labels, nothing)
                more = accumulate(list(kept.counts))
                values[labels] = (
                    [one + other for one, other in zip(counts, more, strict=True)],
                    total + kept.total,
                )
        return values


@functools.lru_cache(maxsize=1024)
def present(instrument: Instrument, labels: Labels) -> dict[str, str]:
    """The labels by name, without those that are empty. Nobody may change what is returned."""
    named = zip(instrument.labels, labels, strict=True)
    return {name: str(value) for name, value in named if value}
