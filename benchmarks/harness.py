"""Paired measuring: every case once a round, in a new order each round, on the CPU clock.

The machine may be shared and its clock may drift, so a time alone says nothing. What is
reported is a ratio of two times of the same round: first the ratio of each round, then the
median and the quartiles of those.
"""

from __future__ import annotations

import gc
import inspect
import random
import statistics
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from itertools import cycle, islice
from typing import Any

_BATCH_NS = 3_000_000
_clock = time.thread_time_ns


@dataclass
class Case:
    """Something to be timed: ``work`` is called with one input after another, for ever again."""

    name: str
    work: Callable[[Any], Any]
    inputs: Sequence[Any]
    #: How many calls make a batch of some three milliseconds.
    count: int = 1
    #: Nanoseconds per call, one figure a round.
    times: list[float] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._is_async = inspect.iscoroutinefunction(self.work)
        self._inputs = cycle(self.inputs)

    async def batch(self) -> float:
        work = self.work
        inputs = list(islice(self._inputs, self.count))
        if self._is_async:
            begun = _clock()
            for item in inputs:
                await work(item)
        else:
            begun = _clock()
            for item in inputs:
                work(item)
        return (_clock() - begun) / self.count

    async def calibrate(self) -> None:
        """Find ``count``; this also warms up whatever the case keeps."""
        self.count = len(self.inputs)
        await self.batch()
        self.count = 1
        while (once := await self.batch() * self.count) < _BATCH_NS / 4 and self.count < 1 << 20:
            self.count *= 4
        self.count = max(1, round(self.count * _BATCH_NS / max(once, 1)))


async def measure(cases: Sequence[Case], rounds: int) -> None:
    """Fill ``times`` of every case, inside whatever loop is running."""
    for case in cases:
        await case.calibrate()
    gc.collect()
    gc.freeze()
    gc.disable()
    try:
        for _ in range(rounds):
            for case in random.sample(cases, len(cases)):
                case.times.append(await case.batch())
            gc.collect()
    finally:
        gc.enable()
        gc.unfreeze()


@dataclass(frozen=True)
class Ratio:
    """The median of the rounds, and the quartiles around it."""

    median: float
    low: float
    high: float

    @classmethod
    def of(cls, values: Iterable[float]) -> Ratio:
        values = sorted(values)
        if len(values) == 1:
            return cls(values[0], values[0], values[0])
        low, median, high = statistics.quantiles(values, n=4, method="inclusive")
        return cls(median, low, high)

    def __str__(self) -> str:
        return f"{_short(self.median)} [{_short(self.low)}-{_short(self.high)}]"


def over(case: Case, base: Case) -> Ratio:
    """What ``case`` costs, in units of ``base``."""
    return Ratio.of(one / unit for one, unit in zip(case.times, base.times, strict=True))


def added(case: Case, bare: Case, unit: Case) -> Ratio:
    """What ``case`` costs more than ``bare``, in units of ``unit``."""
    rounds = zip(case.times, bare.times, unit.times, strict=True)
    return Ratio.of((one - other) / base for one, other, base in rounds)


def _short(value: float) -> str:
    if abs(value) >= 100:
        return f"{value:.0f}"
    if abs(value) >= 10:
        return f"{value:.1f}"
    return f"{value:.2f}" if abs(value) >= 1 else f"{value:.3f}"
