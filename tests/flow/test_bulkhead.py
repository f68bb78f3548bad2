"""The bulkhead as conversations, and under threads and tasks: no place is lost or given twice."""

from __future__ import annotations

import asyncio
import random
import threading
import time
from collections.abc import Generator
from typing import Any

import pytest
import trio

from bearer_middleware.flow.bulkhead import Bulkhead, Place
from bearer_middleware.flow.drivers import arun, run
from bearer_middleware.flow.effects import Call, Wait

Flow = Generator[Any, Any, Any]


class House:
    """A bulkhead of three places, and its clock."""

    def __init__(self, places: int = 3) -> None:
        self.time = 1000.0
        self.bulkhead = Bulkhead(lambda: self.time, places=places)

    def enter(self, seconds: float = 3.0) -> Place:
        """Where there is a place at once."""
        place = returned(self.bulkhead.enter(seconds))
        assert isinstance(place, Place)
        return place

    def queue(self, seconds: float = 3.0) -> tuple[Flow, Wait]:
        """Where there is none."""
        flow = self.bulkhead.enter(seconds)
        wait = next(flow)
        assert isinstance(wait, Wait)
        return flow, wait


def returned(flow: Flow, *sent: Any) -> Any:
    """What the flow returns, now or after this reply."""
    with pytest.raises(StopIteration) as done:
        flow.send(*sent) if sent else next(flow)
    return done.value.value


@pytest.fixture
def house() -> House:
    """Empty."""
    return House()


def test_places_are_given_and_come_back(house: House) -> None:
    """Three at once; nobody waits while there is one."""
    places = [house.enter() for _ in range(3)]
    assert house.bulkhead.in_flight == 3
    for place in places:
        house.bulkhead.leave(place)
        house.bulkhead.leave(place)  # harmless
    assert house.bulkhead.in_flight == 0
    assert len({house.enter() for _ in range(3)}) == 3


def test_a_full_house_says_no_after_a_quarter_of_a_second(house: House) -> None:
    """Or after the time the caller has, where that is less."""
    for _ in range(3):
        house.enter()
    flow, wait = house.queue()
    assert wait.timeout == 0.25
    assert returned(flow, False) is None
    assert not house.bulkhead._queue
    flow, wait = house.queue(0.1)
    assert wait.timeout == pytest.approx(0.1)
    assert returned(flow, False) is None


def test_waiting_goes_on_while_places_become_free(house: House) -> None:
    """A quarter of a second after the last one that did, there is no hope any more."""
    place = house.enter(9.0), house.enter(9.0), house.enter(9.0)
    first, last = house.queue(), house.queue()[0]
    house.time += 0.2
    house.bulkhead.leave(place[0])
    assert isinstance(returned(first[0], True), Place)
    house.time += 0.05
    wait = last.send(False)
    assert isinstance(wait, Wait)
    assert wait.timeout == pytest.approx(0.2)
    house.time += 0.2
    assert returned(last, False) is None
    assert not house.bulkhead._queue


def test_a_wait_that_took_too_long_says_nothing(house: House) -> None:
    """The loop stood still, and with it those who would have made room: that is no hung server."""
    places = [house.enter(60.0) for _ in range(3)]
    (first, _), (last, _) = house.queue(), house.queue()
    house.time += 0.6
    again = first.send(False), last.send(False)
    assert [wait.timeout for wait in again] == pytest.approx([0.25, 0.25])
    house.bulkhead.leave(places[0])
    assert isinstance(returned(first, True), Place)
    house.time += 0.25
    assert returned(last, False) is None
    late, _ = house.queue()
    house.time += 3.1  # but nobody waits for longer than he has
    assert returned(late, False) is None
    assert not house.bulkhead._queue


def test_a_queue_that_moves_on_serves_everybody(house: House) -> None:
    """However long that takes, within the time that each has."""
    places = [house.enter(1000.0) for _ in range(3)]
    queue = [house.queue(60.0) for _ in range(200)]
    for flow, wait in queue:
        house.time += 0.2
        house.bulkhead.leave(places.pop(0))
        assert wait.landing.done()
        places.append(returned(flow, True))
        for number, (other, its) in enumerate(queue):
            if not its.landing.done():  # those who still wait show themselves
                queue[number] = other, other.send(False)
    assert house.bulkhead.in_flight == 3


def test_nobody_waits_for_longer_than_he_has(house: House) -> None:
    """Though places become free all the time: they are for those who came before."""
    places, others = [house.enter(60.0) for _ in range(3)], [house.queue(60.0) for _ in range(9)]
    flow, wait = house.queue(1.0)
    for _ in range(4):
        house.time += 0.2
        house.bulkhead.leave(places.pop(0))
        places.append(returned(others.pop(0)[0], True))
        wait = flow.send(False)
        assert wait.timeout == pytest.approx(min(0.25, 1001 - house.time))
        others = [(other, other.send(False)) for other, _ in others]
    house.time += wait.timeout
    house.bulkhead.leave(places.pop(0))
    assert returned(flow, False) is None
    for other, _ in others:
        other.close()


def test_a_queue_has_an_end() -> None:
    """Who finds it full is told so at once; who leaves it makes room."""
    house = House()
    places = [house.enter(60.0) for _ in range(3)]
    queue = [house.queue() for _ in range(1000)]
    assert returned(house.bulkhead.enter(3.0)) is None
    queue.pop()[0].close()
    queue.append(house.queue())
    assert returned(house.bulkhead.enter(3.0)) is None
    house.bulkhead.leave(places[0])
    assert queue[0][1].landing.done()
    queue.append(house.queue())
    for flow, _ in queue:
        flow.close()
    assert not house.bulkhead._queue


def test_nobody_is_let_in_too_late(house: House) -> None:
    """Who has less time left than exchanges take would only keep the server from others."""
    places = [house.enter(60.0) for _ in range(3)]
    for _ in range(200):
        house.bulkhead.lasted(1.0)
    (late, wait), (early, early_wait) = house.queue(3.0), house.queue(9.0)
    while house.time < 1001.9:
        house.time += 0.1
        house.bulkhead._free(1, house.time)
        wait, early_wait = late.send(False), early.send(False)
    assert wait.timeout == pytest.approx(0.1, abs=0.01)
    house.time += 0.11
    house.bulkhead.leave(places[0])
    assert (wait.landing.done(), early_wait.landing.done()) == (False, True)
    assert returned(late, False) is None
    assert isinstance(returned(early, True), Place)
    assert house.bulkhead.in_flight == 3


@pytest.mark.parametrize("in_vain", [False, True])
def test_a_server_that_was_slow_is_not_thought_to_be_so_for_ever(
    house: House, in_vain: bool
) -> None:
    """Half of the time that a caller had is always enough."""
    places = [house.enter(60.0) for _ in range(3)]
    for _ in range(100):
        house.bulkhead.lasted(3.0, in_vain=in_vain)
    flow, wait = house.queue(3.0)
    for _ in range(7):
        house.time += 0.2
        house.bulkhead._free(1, house.time)
        wait = flow.send(False)
    assert wait.timeout == pytest.approx(0.1)
    house.bulkhead.leave(places[0])
    assert isinstance(returned(flow, True), Place)


def test_what_ran_out_of_time_is_taken_for_slower(house: House) -> None:
    """Else callers would be let in too late for ever."""
    for _ in range(200):
        house.bulkhead.lasted(max(0.1, min(house.bulkhead._usual, 1.0)), in_vain=True)
    assert house.bulkhead._usual > 1
    before = house.bulkhead._usual
    house.bulkhead.lasted(0.01, in_vain=True)
    assert house.bulkhead._usual == before


def test_places_are_handed_on_in_order(house: House) -> None:
    """First come, first served; and nobody who comes later overtakes."""
    places = [house.enter() for _ in range(3)]
    queue = [house.queue() for _ in range(4)]
    house.bulkhead.leave(places[0])
    assert [wait.landing.done() for _, wait in queue] == [True, False, False, False]
    late, late_wait = house.queue()
    house.bulkhead.leave(places[1])
    assert [wait.landing.done() for _, wait in queue] == [True, True, False, False]
    assert not late_wait.landing.done()
    assert isinstance(returned(queue[0][0], True), Place)
    assert house.bulkhead.in_flight == 3
    late.close()


def test_a_place_given_in_the_last_moment_is_taken(house: House) -> None:
    """The wait is over, and the place came before the caller could say so."""
    place = house.enter(), house.enter(), house.enter()
    flow, _ = house.queue()
    house.bulkhead.leave(place[0])
    given = returned(flow, False)
    assert isinstance(given, Place)
    house.bulkhead.leave(given)
    assert house.bulkhead.in_flight == 2


@pytest.mark.parametrize("given", [False, True])
@pytest.mark.parametrize("way", ["cancelled", "closed"])
def test_who_is_cancelled_while_waiting(house: House, given: bool, way: str) -> None:
    """Leaves the queue, or hands the place just given to the next."""
    places = [house.enter() for _ in range(3)]
    (first, _), (second, second_wait) = house.queue(), house.queue()
    if given:
        house.bulkhead.leave(places[0])
    if way == "closed":
        first.close()
    else:
        with pytest.raises(asyncio.CancelledError):
            first.throw(asyncio.CancelledError())
    if not given:
        assert not second_wait.landing.done()
        house.bulkhead.leave(places[0])
    assert second_wait.landing.done()
    house.bulkhead.leave(returned(second, True))
    assert house.bulkhead.in_flight == 2
    assert not house.bulkhead._queue


def test_a_holder_that_never_comes_back(house: House) -> None:
    """Its loop has died: a second after its time limit the place is free."""
    for _ in range(3):
        house.enter(3.0)
    house.time += 3.9
    assert returned(house.queue()[0], False) is None
    house.time += 0.2
    assert [house.enter() for _ in range(3)]
    house.queue()[0].close()


def test_one_who_waits_and_never_comes_back(house: House) -> None:
    """Gets no place after its time, so none is lost with it."""
    places = [house.enter() for _ in range(3)]
    dead, dead_wait = house.queue()
    house.time += 0.3
    house.bulkhead.leave(places[0])
    assert not dead_wait.landing.done()
    assert house.enter()
    dead.close()


def test_many_who_wait_and_never_come_back(house: House) -> None:
    """Their loop has died with all of them: others are served, and the queue forgets them."""
    places = [house.enter(60.0) for _ in range(3)]
    dead = [house.queue(60.0) for _ in range(997)]
    house.time += 0.2
    (alive, alive_wait), others = house.queue(60.0), [house.queue(60.0) for _ in range(2)]
    house.time += 0.1
    house.bulkhead.leave(places[0])
    assert alive_wait.landing.done()
    assert not any(wait.landing.done() for _, wait in dead)
    assert isinstance(returned(alive, True), Place)
    for other, _ in others:
        other.close()
    assert len(house.bulkhead._queue) == 997
    house.time += 1
    house.bulkhead.leave(places[1])
    assert not house.bulkhead._queue
    for flow, _ in dead:
        flow.close()


def test_one_who_is_late(house: House) -> None:
    """Its loop was busy: it keeps its turn, or takes the place that is free now."""
    places = [house.enter(60.0) for _ in range(3)]
    (first, _), (second, second_wait) = house.queue(60.0), house.queue(60.0)
    house.time += 0.3
    house.bulkhead.leave(places[0])
    assert isinstance(returned(first, False), Place)
    assert not second_wait.landing.done()
    second_wait = second.send(False)
    house.bulkhead.leave(places[1])
    assert second_wait.landing.done()
    assert isinstance(returned(second, True), Place)
    third, _ = house.queue(60.0)
    house.time += 2
    house.bulkhead.leave(places[2])  # it is forgotten, and comes all the same
    assert isinstance(returned(third, False), Place)


def test_a_forked_child_begins_empty(house: House, in_child: Any) -> None:
    """The parent's callers are not there."""
    for _ in range(3):
        house.enter()
    waiting, _ = house.queue()
    assert in_child(lambda: bool([house.enter() for _ in range(3)])) == 0
    assert house.bulkhead.in_flight == 3
    waiting.close()


class Crowd:
    """Callers who hold a place for a moment, and count how many do at once."""

    def __init__(self, places: int, wait: float) -> None:
        self.bulkhead = Bulkhead(places=places, wait=wait)
        self.now, self.most = 0, 0
        self.lock = threading.Lock()

    def count(self, change: int) -> None:
        with self.lock:
            self.now += change
            self.most = max(self.most, self.now)

    def visit(self, sleep: Any, seconds: float) -> Flow:
        place = yield from self.bulkhead.enter(30.0)
        if place is None:
            return False
        self.count(1)
        try:
            yield from Call(sleep, (seconds,))
        finally:
            self.count(-1)
            self.bulkhead.leave(place)
        return True

    def empty(self) -> bool:
        return not self.bulkhead._held and not self.bulkhead._queue


def test_many_threads(quick_switches: None) -> None:
    """Never more than there are places, everybody in the end, and the house is empty."""
    crowd, results = Crowd(5, 30.0), []

    def one() -> None:
        results.extend(run(crowd.visit(time.sleep, 0.001)) for _ in range(10))

    threads = [threading.Thread(target=one) for _ in range(40)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert results == [True] * 400
    assert crowd.most <= 5
    assert crowd.empty()


@pytest.mark.parametrize("world", ["asyncio", "trio"])
def test_a_storm_of_cancellations(world: str) -> None:
    """Whoever is cancelled and when, waiting or holding: no place is lost."""
    crowd, luck = Crowd(4, 0.02), random.Random(11)

    async def on_asyncio() -> None:
        for _ in range(20):
            tasks = [
                asyncio.create_task(arun(crowd.visit(asyncio.sleep, luck.random() * 0.01)))
                for _ in range(40)
            ]
            await asyncio.sleep(luck.random() * 0.03)
            for task in luck.sample(tasks, 25):
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            assert crowd.empty()

    async def on_trio() -> None:
        for _ in range(20):
            with trio.move_on_after(luck.random() * 0.03):
                async with trio.open_nursery() as nursery:
                    for _ in range(40):
                        nursery.start_soon(arun, crowd.visit(trio.sleep, luck.random() * 0.01))
            assert crowd.empty()

    asyncio.run(on_asyncio()) if world == "asyncio" else trio.run(on_trio)
    assert crowd.most <= 4


def test_threads_and_loops_share_the_places() -> None:
    """Two asyncio loops, a trio run and threads with one bulkhead between them."""
    crowd, results = Crowd(3, 30.0), []

    async def tasks() -> None:
        visits = (arun(crowd.visit(asyncio.sleep, 0.002)) for _ in range(30))
        results.extend(await asyncio.gather(*visits))

    async def trio_tasks() -> None:
        async def one() -> None:
            results.append(await arun(crowd.visit(trio.sleep, 0.002)))

        async with trio.open_nursery() as nursery:
            for _ in range(30):
                nursery.start_soon(one)

    def thread() -> None:
        results.append(run(crowd.visit(time.sleep, 0.002)))

    threads = [threading.Thread(target=thread) for _ in range(30)]
    threads += [threading.Thread(target=lambda: asyncio.run(tasks())) for _ in range(2)]
    threads.append(threading.Thread(target=lambda: trio.run(trio_tasks)))
    for each in threads:
        each.start()
    for each in threads:
        each.join(60)
    assert results == [True] * 120
    assert crowd.most <= 3
    assert crowd.empty()
