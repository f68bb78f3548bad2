"""Where everything that is measured is kept until somebody asks: plain integers.

This is the one seam to telemetry. Whoever has something to tell calls :meth:`Tally.add` for
counters and :meth:`Tally.took` for histograms, or hands :meth:`Tally.watch` a function that
tells the present value; none of them knows who will read it. OpenTelemetry and Prometheus
both read what :meth:`Tally.read` says. Nothing here waits, raises or decides anything.
"""

from __future__ import annotations

import logging
import math
import sys
import time
from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator
from typing import Protocol

from bearer_middleware.flow.effects import HttpRequest
from bearer_middleware.flow.instruments import BOUNDARIES, Instrument
from bearer_middleware.flow.locks import renew_after_fork

_logger = logging.getLogger("bearer_middleware")

#: The values of an instrument's labels, in their order. Empty text is a label that is absent.
Labels = tuple[str, ...]
#: Tells the present values of an instrument.
Reading = Callable[[], Iterable[tuple[Labels, float]]]
_Key = tuple[Instrument, Labels]
# With more series of one tally, somebody has used as a label what is none.
_MOST_SERIES = 5_000
_SECONDS_BETWEEN_LOOKS = 1.0
_KINDS = ("jwt", "opaque")


class Span(Protocol):
    """A network call under way, in the eyes of whoever traces it."""

    def end(self, status: int | None, error: str | None) -> None:
        """It is over: with this HTTP status, or our word for what went wrong."""
        ...


#: Is told of a histogram's value when it happens.
Observer = Callable[[Instrument, float, Labels], None]
#: Begins a span around a network call, if anybody traces.
Tracer = Callable[[str, HttpRequest], Span | None]


class Histogram:
    """How often a value was at most so large, by :data:`BOUNDARIES`, and all of them in sum."""

    __slots__ = ("counts", "total")

    def __init__(self) -> None:
        self.counts = [0] * (len(BOUNDARIES) + 1)
        self.total = 0.0


class Tally:
    """The counts of one resource server. ``issuers`` are the configured ones: no other text
    becomes a label.
    """

    def __init__(self, issuers: Iterable[str | None] = ()) -> None:
        self._issuers = frozenset(issuers)
        self._counts: dict[_Key, list[int]] = {}
        self._histograms: dict[_Key, Histogram] = {}
        self._readings: dict[Instrument, list[Reading]] = {}
        #: Is anybody there who reads this? What takes time to measure is left out else.
        self.watched = False
        #: Lists that become true then, for who has no time to look at an attribute.
        self.signs: list[list[bool]] = []
        #: Finds out who might read this: called now and then until it says it found somebody.
        self._search: Callable[[], bool] | None = None
        #: When there is next a use in :meth:`look`, in monotonic seconds, for who calls it often.
        self.look_at = math.inf
        self.observer: Observer | None = None
        self.tracer: Tracer | None = None
        renew_after_fork(self)

    def after_fork(self) -> None:
        """What the parent counted it tells itself."""
        self._counts, self._histograms = {}, {}

    def attend(self) -> None:
        """Somebody is there who reads this, from now on."""
        self.watched = True
        for sign in self.signs:
            sign[:] = [True]

    # -- for those who have something to tell ----------------------------------------------

    def add(self, counter: Instrument, *labels: str) -> None:
        """One more. No lock: the interpreter changes threads at calls, and there is none
        between reading a cell and writing it.
        """
        key = (counter, labels)
        cell = self._counts.get(key)
        if cell is None:
            if len(self._counts) >= _MOST_SERIES:
                return
            cell = self._counts.setdefault(key, [0])
        cell[0] += 1

    def took(self, histogram: Instrument, seconds: float, *labels: str) -> None:
        """One more value of a histogram, where anybody wants to know."""
        if not self.watched:
            return
        key = (histogram, labels)
        kept = self._histograms.get(key)
        if kept is None:
            if len(self._histograms) >= _MOST_SERIES:
                return
            kept = self._histograms.setdefault(key, Histogram())
        kept.counts[bisect_left(BOUNDARIES, seconds)] += 1
        kept.total += seconds
        if self.observer is None:
            return
        try:
            self.observer(histogram, seconds, labels)
        except Exception as error:  # noqa: BLE001 - telemetry never decides over a request
            say_once(f"telemetry raised {type(error).__name__}")

    def watch(self, instrument: Instrument, reading: Reading) -> None:
        """``reading`` is called whenever somebody wants to know; it must neither wait nor ask."""
        self._readings.setdefault(instrument, []).append(reading)

    def begin(self, name: str, request: HttpRequest) -> Span | None:
        """A span around a network call, where anybody traces."""
        if self.tracer is None:
            return None
        try:
            return self.tracer(name, request)
        except Exception as error:  # noqa: BLE001 - as above
            say_once(f"telemetry raised {type(error).__name__}")
            return None

    def issuer(self, issuer: str | None) -> str:
        """The label for an issuer. One that is not configured may be anybody's text."""
        return issuer if issuer is not None and issuer in self._issuers else ""

    def kind(self, kind: str) -> str:
        """The label for a kind of token, which an extension may have made up as well."""
        return kind if kind in _KINDS else ""

    # -- for those who read it -------------------------------------------------------------

    def search(self, find: Callable[[], bool]) -> None:
        """From now on call ``find`` now and then, until it says that it found who reads this."""
        self._search, self.look_at = find, 0.0

    def look(self) -> None:
        """See whether somebody is there by now; called where a little time does not matter."""
        now = time.monotonic()
        if now < self.look_at:
            return
        self.look_at = now + _SECONDS_BETWEEN_LOOKS
        try:
            find = self._search  # which another thread may just be done with
            found = find is None or find()
        except Exception as error:  # noqa: BLE001 - telemetry never decides over a request
            found = True
            say_once(f"telemetry could not be started: {type(error).__name__}")
        if found:
            self._search, self.look_at = None, math.inf

    def read(self, instrument: Instrument) -> Iterator[tuple[Labels, float]]:
        """The present values of a counter or gauge; some labels may come twice."""
        yield from self.counted(instrument)
        for reading in self._readings.get(instrument, ()):
            try:
                yield from list(reading())
            except Exception as error:  # noqa: BLE001 - the other values are still to be had
                say_once(f"{instrument.name} could not be read: {type(error).__name__}")

    def counted(self, counter: Instrument) -> Iterator[tuple[Labels, int]]:
        """What :meth:`add` was told of it."""
        for (instrument, labels), cell in list(self._counts.items()):
            if instrument is counter:
                yield labels, cell[0]

    def read_histogram(self, instrument: Instrument) -> Iterator[tuple[Labels, Histogram]]:
        """The present values of a histogram."""
        for (histogram, labels), kept in list(self._histograms.items()):
            if histogram is instrument:
                yield labels, kept


_said: set[str] = set()


def say_once(what: str) -> None:
    """Telemetry that is broken is worth one line, and no request."""
    if what not in _said:
        _said.add(what)
        _logger.warning(what)


def is_loaded(module: str) -> bool:
    """Does the application use it? Who does not is not made to import it."""
    return module in sys.modules
