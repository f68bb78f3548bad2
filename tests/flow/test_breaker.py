"""The breaker by itself: when it opens, whom it lets through, and when it closes."""

from __future__ import annotations

import threading
from typing import Any

import pytest

from bearer_middleware.flow.breaker import Breaker, Permit


class Line:
    """A breaker and its clock."""

    def __init__(self, longest: float = 60.0) -> None:
        self.time = 1000.0
        self.breaker = Breaker(lambda: self.time, longest)

    def permit(self) -> Permit:
        permit = self.breaker.admit(3.0)
        assert permit is not None
        return permit

    def fail(self, times: int = 1, patience: float | None = None) -> list[bool]:
        return [self.breaker.failed(self.permit(), patience) for _ in range(times)]

    def succeed(self, times: int = 1) -> list[bool]:
        return [self.breaker.succeeded(self.permit()) for _ in range(times)]

    def open(self) -> Line:
        self.fail(5)
        assert self.breaker.state == "open"
        return self

    def wait(self) -> float:
        """Until somebody may try; how long that took."""
        seconds = self.breaker.wait
        self.time += seconds
        assert self.breaker.state == "half-open"
        return seconds


@pytest.fixture
def line() -> Line:
    """Closed."""
    return Line()


def test_five_failures_in_a_row_open_it(line: Line) -> None:
    """And the fifth one is told that it was it."""
    assert line.fail(5) == [False] * 4 + [True]
    assert line.breaker.state == "open"
    assert line.breaker.admit(3.0) is None
    assert 4.0 <= line.breaker.wait <= 6.0


def test_a_success_in_between_begins_the_row_anew(line: Line) -> None:
    """Four and four are not five."""
    line.fail(4)
    line.succeed()
    assert not any(line.fail(4))
    assert line.breaker.state == "closed"


def test_half_of_twenty_open_it(line: Line) -> None:
    """Never five in a row, but every second one: nineteen are too few, twenty are enough."""
    line.succeed()
    for _ in range(9):
        assert line.fail() == [False]
        line.succeed()
    assert line.breaker.state == "closed"
    assert line.fail() == [True]


def test_fewer_than_half_do_not(line: Line) -> None:
    """However many they are."""
    for _ in range(200):
        assert line.fail() == [False]
        line.succeed(2)
        line.time += 0.01


def test_what_is_older_than_ten_seconds_is_forgotten(line: Line) -> None:
    """Half of very many, but never twenty within the window."""
    for _ in range(200):
        line.succeed()
        line.fail()
        line.time += 1.2
    assert line.breaker.state == "closed"


def test_the_window_is_bounded(line: Line) -> None:
    """However many exchanges and however long."""
    for _ in range(5000):
        line.succeed()
        line.time += 0.7
    assert len(line.breaker._recent._seconds) <= 10


@pytest.mark.parametrize("patience", [1.0, 17.0, 60.0])
def test_patience_opens_it_at_once(line: Line, patience: float) -> None:
    """One answer that asks for it, and for exactly that long."""
    assert line.fail(patience=patience) == [True]
    assert line.breaker.wait == patience
    line.time += patience - 0.1
    assert line.breaker.admit(3.0) is None
    line.time += 0.1
    assert line.breaker.admit(3.0) is not None


def test_exactly_one_probe(line: Line) -> None:
    """Of a thousand who come when the time is over."""
    line.open().wait()
    assert sum(line.breaker.admit(3.0) is not None for _ in range(1000)) == 1
    assert line.breaker.state == "half-open"
    assert line.breaker.wait == 1.0


def admitted_together(breaker: Breaker) -> list[Permit | None]:
    """What eight threads are told that ask in the same moment."""
    permits: list[Permit | None] = []
    barrier = threading.Barrier(8)

    def one() -> None:
        barrier.wait(10)
        permits.append(breaker.admit(3.0))

    threads = [threading.Thread(target=one) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return permits


def test_exactly_one_probe_among_threads(quick_switches: None) -> None:
    """The same, all at once, again and again."""
    for _ in range(30):
        line = Line().open()
        line.wait()
        permits = admitted_together(line.breaker)
        assert len(permits) == 8
        assert sum(permit is not None for permit in permits) == 1


def test_the_probe_closes_it(line: Line) -> None:
    """And nothing of the failures before is left."""
    line.open().wait()
    assert line.succeed() == [True]
    assert line.breaker.state == "closed"
    assert line.breaker.wait == 0
    assert not any(line.fail(4))
    line.succeed()
    assert not any(line.fail(4))


def test_the_probe_opens_it_again_for_twice_as_long(line: Line) -> None:
    """Up to a minute, with jitter; nobody is told of it again."""
    line.open()
    waits = []
    for _ in range(12):
        waits.append(line.wait())
        assert line.fail() == [False]
        assert line.breaker.admit(3.0) is None
    for wait, usual in zip(waits, (5, 10, 20, 40, *[60] * 8), strict=True):
        assert usual * 0.8 <= wait <= min(usual * 1.2, 60)
    line.wait()
    line.succeed()
    assert line.open().breaker.wait <= 6


def test_the_longest_time_can_be_shorter() -> None:
    """For what backs off by itself."""
    line = Line(longest=30.0).open()
    for _ in range(12):
        assert line.wait() <= 30
        line.fail()


def test_a_cancelled_probe_is_none(line: Line) -> None:
    """The next caller is the probe, at once."""
    line.open().wait()
    line.breaker.abandoned(line.permit())
    assert line.breaker.admit(3.0) is not None
    assert line.breaker.admit(3.0) is None


def test_a_probe_that_never_comes_back(line: Line) -> None:
    """Its loop has died: a second after its time limit, somebody else tries; it counts no more."""
    line.open().wait()
    lost = line.permit()
    line.time += 3.9
    assert line.breaker.admit(3.0) is None
    line.time += 0.2
    probe = line.permit()
    assert not line.breaker.succeeded(lost)
    line.breaker.abandoned(lost)
    assert line.breaker.admit(3.0) is None
    assert line.breaker.succeeded(probe)


def test_what_was_begun_before_it_opened_says_nothing(line: Line) -> None:
    """Neither a late success nor late failures: twenty that fail together open it once."""
    permits = [line.permit() for _ in range(20)]
    assert sum(line.breaker.failed(permit) for permit in permits[:-1]) == 1
    wait = line.breaker.wait
    assert wait <= 6
    assert not line.breaker.succeeded(permits[-1])
    assert line.breaker.state == "open"
    line.wait()
    line.succeed()
    assert not any(line.breaker.failed(permit, None) for permit in permits)


def test_late_patience_counts(line: Line) -> None:
    """Whoever hears of it: an open breaker is open for at least that long."""
    late = [line.permit() for _ in range(2)]
    line.open()
    assert not line.breaker.failed(late[0], 30.0)
    assert line.breaker.wait == 30
    assert not line.breaker.failed(late[1], 2.0)
    assert line.breaker.wait == 30


def test_an_abandoned_exchange_changes_nothing(line: Line) -> None:
    """A cancelled caller knows nothing of the server."""
    for _ in range(50):
        line.breaker.abandoned(line.permit())
    line.fail(4)
    line.breaker.abandoned(line.permit())
    assert line.fail() == [True]


def test_a_clock_that_jumps(line: Line) -> None:
    """It may be a wall clock in tests: back and far ahead raise nothing and bound the window."""
    for time in (1000.0, 5.0, 10.0**12, -5.0, 0.0):
        line.time = time
        line.fail(2)
        line.succeed(2)
    assert line.breaker.state == "closed"


def test_a_forked_child_has_no_probe_under_way(line: Line, in_child: Any) -> None:
    """The parent's one never comes back there; what the parent learned is kept."""
    line.open().wait()
    probe = line.permit()

    def child() -> bool:
        breaker = line.breaker
        good = breaker.state == "half-open" and not breaker.succeeded(probe)
        return good and breaker.admit(3.0) is not None

    assert in_child(child) == 0
    assert line.breaker.admit(3.0) is None
    assert line.breaker.succeeded(probe)
