"""Flights as conversations: who leads, who waits, and what becomes of the failures."""

from __future__ import annotations

import asyncio
import gc
import threading
import time
from collections.abc import Generator
from functools import partial
from typing import Any

import pytest

from bearer_middleware.errors import (
    InsufficientScope,
    InvalidToken,
    MissingToken,
    Reason,
    Refused,
    TransportError,
    Unavailable,
)
from bearer_middleware.flow.drivers import arun, run
from bearer_middleware.flow.effects import Call, HttpRequest, HttpResponse, Wait
from bearer_middleware.flow.flights import Flights

Flow = Generator[Any, Any, Any]
REQUEST = HttpRequest("GET", "https://as.test/")


class Late(Exception):
    """The caller's own words for waiting too long."""


class Airport:
    """Flights with a clock that stands still unless told."""

    def __init__(self) -> None:
        self.time = 1000.0
        self.flights: Flights[Any] = Flights(lambda: self.time)
        self.started = 0

    def work(self) -> Flow:
        self.started += 1
        response = yield from REQUEST
        return response.status

    def caller(self, *, key: str = "k", seconds: float = 3.0, permit: Any = None) -> Flow:
        deadline = self.time + seconds
        return self.flights.once(key, self.work, deadline=deadline, late=Late, permit=permit)

    @property
    def in_the_air(self) -> int:
        return len(self.flights._flights)


@pytest.fixture
def airport() -> Airport:
    """Nothing in the air."""
    return Airport()


def finish(flow: Flow, reply: Any) -> Any:
    """Send the last reply and take what the flow returns."""
    try:
        flow.send(reply)
    except StopIteration as done:
        return done.value
    raise AssertionError("the flow asked for more")


def test_one_leads_and_the_others_wait(airport: Airport) -> None:
    """One exchange for three callers, and the same result."""
    leader, *followers = (airport.caller() for _ in range(3))
    assert next(leader) is REQUEST
    waits = [next(follower) for follower in followers]
    assert all(isinstance(wait, Wait) and not wait.landing.done() for wait in waits)
    assert finish(leader, HttpResponse(200)) == 200
    assert all(wait.landing.done() for wait in waits)
    assert [finish(follower, True) for follower in followers] == [200, 200]
    assert (airport.started, airport.in_the_air) == (1, 0)


def test_another_question_is_another_flight(airport: Airport) -> None:
    """They do not wait for each other."""
    first, second = airport.caller(key="a"), airport.caller(key="b")
    assert next(first) is REQUEST
    assert next(second) is REQUEST


def test_a_later_caller_asks_anew(airport: Airport) -> None:
    """A flight is no memory."""
    for _ in range(2):
        leader = airport.caller()
        next(leader)
        finish(leader, HttpResponse(200))
    assert airport.started == 2


FAILURES = [
    TransportError("timeout"),
    InvalidToken(Reason.INACTIVE, "d", issuer="i"),
    Unavailable(Reason.JWKS_UNAVAILABLE, "d", issuer="i", retry_after=7.5),
    InsufficientScope(("a", "b"), issuer="i"),
    MissingToken(Reason.MISSING, "another scheme"),
]


@pytest.mark.parametrize("failure", FAILURES, ids=lambda failure: type(failure).__name__)
def test_a_failure_is_shared_as_a_value(airport: Airport, failure: Exception) -> None:
    """Every follower raises its own exception, alike in every word."""
    leader, one, other = airport.caller(), airport.caller(), airport.caller()
    next(leader), next(one), next(other)
    with pytest.raises(type(failure)) as led:
        leader.throw(failure)
    raised = []
    for follower in (one, other):
        with pytest.raises(type(failure)) as followed:
            follower.send(True)
        raised.append(followed.value)
    assert led.value is failure
    assert len({id(error) for error in (failure, *raised)}) == 3
    names = ("status", "code", "reason", "detail", "issuer", "retry_after", "scopes")
    for error in raised:
        for name in names:
            assert getattr(error, name, None) == getattr(failure, name, None)
    assert airport.in_the_air == 0


def test_a_surprise_is_shared_without_its_text(airport: Airport) -> None:
    """An exception of a library may quote the token: followers learn its class."""
    leader, follower = airport.caller(), airport.caller()
    next(leader), next(follower)
    with pytest.raises(LookupError):
        leader.throw(LookupError("canary"))
    with pytest.raises(Unavailable) as followed:
        follower.send(True)
    assert "canary" not in str(followed.value)


class _Killed(BaseException):
    """A cancellation."""


@pytest.mark.parametrize("end", ["throw", "close", "forget"])
def test_a_lost_leader_hands_over(airport: Airport, end: str) -> None:
    """Cancelled, closed or collected: the first follower to wake leads on, alone."""
    leader, one, other = airport.caller(), airport.caller(), airport.caller()
    next(leader), next(one)
    wait = next(other)
    if end == "throw":
        with pytest.raises(_Killed):
            leader.throw(_Killed)
    elif end == "close":
        leader.close()
    del leader
    gc.collect()
    assert wait.landing.done()
    assert airport.in_the_air == 0
    assert one.send(True) is REQUEST
    assert isinstance(other.send(True), Wait)
    assert finish(one, HttpResponse(200)) == 200
    assert finish(other, True) == 200
    assert (airport.started, airport.in_the_air) == (2, 0)


def test_a_leader_is_collected_while_its_thread_holds_the_lock(airport: Airport) -> None:
    """The collector runs anywhere, also under the lock that the lost flow needs."""
    leader = airport.caller()
    next(leader)
    with airport.flights._lock:
        del leader
        gc.collect()
    assert airport.in_the_air == 0


def test_a_lost_follower_harms_nobody(airport: Airport) -> None:
    """The flight goes on for the others."""
    leader, lost, other = airport.caller(), airport.caller(), airport.caller()
    next(leader), next(lost), next(other)
    with pytest.raises(_Killed):
        lost.throw(_Killed)
    assert finish(leader, HttpResponse(200)) == 200
    assert finish(other, True) == 200


def test_a_follower_whose_time_is_up(airport: Airport) -> None:
    """It says so in its own words, and the flight goes on."""
    leader = airport.caller(seconds=10)
    next(leader)
    follower = airport.caller(seconds=2)
    wait = next(follower)
    assert wait.timeout == pytest.approx(2)
    with pytest.raises(Late):
        follower.send(False)
    assert finish(leader, HttpResponse(200)) == 200


def test_a_flight_that_never_lands_is_replaced(airport: Airport) -> None:
    """A leader whose loop died in silence blocks newcomers only until its time is up."""
    lost = airport.caller(seconds=3)
    next(lost)
    airport.time += 3.5
    assert isinstance(next(airport.caller()), Wait)
    airport.time += 1
    newcomer = airport.caller()
    assert next(newcomer) is REQUEST
    lost.close()  # it must not take the newcomer's flight with it
    assert airport.in_the_air == 1
    assert isinstance(next(airport.caller()), Wait)
    assert finish(newcomer, HttpResponse(200)) == 200
    assert airport.in_the_air == 0


def test_permission_is_needed_to_lead_not_to_join(airport: Airport) -> None:
    """A limit refuses new work; work under way is everybody's."""

    def forbidden() -> None:
        raise InvalidToken(Reason.UNKNOWN_KID)

    with pytest.raises(InvalidToken):
        next(airport.caller(permit=forbidden))
    assert airport.in_the_air == 0
    leader = airport.caller()
    next(leader)
    joined = airport.caller(permit=forbidden)
    assert isinstance(next(joined), Wait)
    leader.close()
    assert joined.send(True) is REQUEST  # going on is no new work
    joined.close()


def test_joining_without_caring(airport: Airport) -> None:
    """Whatever comes of it: landed or not is all that is told."""
    leader = airport.caller()
    next(leader)
    flight = airport.flights.under_way("k")
    assert flight is not None
    joined = airport.flights.join(flight, airport.time + 1)
    assert isinstance(next(joined), Wait)
    with pytest.raises(TransportError):
        leader.throw(TransportError("timeout"))
    assert finish(joined, True) is True
    assert airport.flights.under_way("k") is None


def test_threads_and_loops_meet_in_one_flight(quick_switches: None) -> None:
    """Thirty threads and two loops of fifty tasks: the work is done once."""
    flights: Flights[str] = Flights()
    gate = threading.Event()
    done: list[str] = []
    results: list[str] = []

    def work() -> Flow:
        yield from Call(gate.wait, (20,))
        done.append("once")
        return "answer"

    def caller() -> Flow:
        deadline = time.monotonic() + 20
        return (yield from flights.once("k", work, deadline=deadline, late=Late))

    async def tasks() -> None:
        results.extend(await asyncio.gather(*(arun(caller()) for _ in range(50))))

    leader = threading.Thread(target=lambda: results.append(run(caller())))
    leader.start()
    while flights.under_way("k") is None:
        time.sleep(0.001)
    others = [threading.Thread(target=lambda: results.append(run(caller()))) for _ in range(30)]
    others += [threading.Thread(target=lambda: asyncio.run(tasks())) for _ in range(2)]
    for thread in others:
        thread.start()
    time.sleep(0.1)
    gate.set()
    for thread in (leader, *others):
        thread.join(30)
    assert results == ["answer"] * 131
    assert done == ["once"]
    assert not flights._flights


class Echo:
    """Answers each number with itself; every third by way of a refusal."""

    def __init__(self) -> None:
        self.flights: Flights[int] = Flights()

    def work(self, number: int) -> Flow:
        yield from Call(time.sleep, (0,))
        if number % 3 == 0:
            raise InvalidToken(Reason.INACTIVE, str(number))
        return number

    def caller(self, number: int) -> Flow:
        deadline = time.monotonic() + 20
        work = partial(self.work, number)
        return (yield from self.flights.once(number, work, deadline=deadline, late=Late))

    def answered(self, number: int) -> int:
        try:
            return int(run(self.caller(number)))
        except Refused as refusal:
            return int(refusal.detail)


def test_many_questions_of_many_threads(quick_switches: None) -> None:
    """Nothing is mixed up, and nothing stays behind."""
    echo, results = Echo(), []

    def ask() -> None:
        numbers = [count % 7 for count in range(600)]
        results.append([*map(echo.answered, numbers)] == numbers)

    threads = [threading.Thread(target=ask) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert results == [True] * 8
    assert not echo.flights._flights
