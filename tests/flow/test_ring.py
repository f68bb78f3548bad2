"""The ring: bounded, quick to forget what nobody reads, and honest under threads."""

from __future__ import annotations

import hashlib
import os
import random
import threading
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bearer_middleware.flow.ring import Ring


def digest(number: int) -> bytes:
    """Like those of tokens: spread evenly."""
    return hashlib.sha256(str(number).encode()).digest()


def entry(number: int, deadline: float = 1e9) -> tuple[Any, ...]:
    """An entry that says whose it is."""
    return digest(number), 1e9, deadline, number


def whole(found: tuple[Any, ...] | None) -> tuple[Any, ...]:
    """What was put; behind it stands the number of a slot."""
    assert found is not None
    assert isinstance(found[-1], int)
    return found[:-1]


def test_it_remembers() -> None:
    """What was put is found, and nothing else."""
    ring = Ring(10)
    ring.put(entry(1))
    assert whole(ring.get(digest(1))) == entry(1)
    assert ring.get(digest(2)) is None
    assert len(ring) == 1


def test_an_exchange_is_of_the_very_entry() -> None:
    """Who read an entry that was replaced or forgotten meanwhile changes nothing."""
    ring = Ring(10)
    ring.put(entry(1, 5.0))
    read = ring.get(digest(1))
    assert read is not None
    changed = ring.exchange(read, entry(1, 6.0))
    assert changed is ring.get(digest(1))
    assert whole(changed) == entry(1, 6.0)
    assert ring.exchange(read, entry(1, 7.0)) is None
    ring.put(entry(1, 8.0))
    assert changed is not None
    assert ring.exchange(changed, entry(1, 9.0)) is None
    assert whole(ring.get(digest(1))) == entry(1, 8.0)
    last = ring.get(digest(1))
    assert last is not None
    ring.discard(digest(1))
    assert ring.exchange(last, entry(1, 9.0)) is None
    assert ring.get(digest(1)) is None
    assert len(ring) == 0


def test_one_of_many_exchanges(quick_switches: None) -> None:
    """Threads that read the same entry: one of them puts another in its place."""
    for number in range(50):
        ring = Ring(10)
        ring.put(entry(number))
        read = ring.get(digest(number))
        assert read is not None
        barrier, won = threading.Barrier(8), []

        def race(
            read: tuple[Any, ...] = read,
            ring: Ring = ring,
            barrier: threading.Barrier = barrier,
            won: list[bool] = won,
        ) -> None:
            barrier.wait(10)
            won.append(ring.exchange(read, read[:-1]) is not None)

        threads = [threading.Thread(target=race) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(10)
        assert sorted(won) == [False] * 7 + [True]


def test_the_newer_entry_replaces_the_older() -> None:
    """One digest, one slot."""
    ring = Ring(10)
    ring.put(entry(1, 5.0))
    ring.put(entry(1, 6.0))
    assert whole(ring.get(digest(1))) == entry(1, 6.0)
    assert len(ring) == 1


@pytest.mark.parametrize("capacity", [1, 2, 7, 100])
def test_it_is_bounded(capacity: int) -> None:
    """Whatever comes, and the last one put is always there."""
    ring = Ring(capacity)
    for number in range(capacity * 5):
        ring.put(entry(number))
        assert ring.get(digest(number)) is not None
        assert len(ring) <= capacity
    assert len(ring) == capacity


def test_what_is_read_outlives_what_is_not() -> None:
    """The hand passes over an entry that was touched, once."""
    ring = Ring(4)
    for number in range(4):
        ring.put(entry(number))
    ring.get(digest(0))
    ring.put(entry(4))
    assert ring.get(digest(0)) is not None
    assert ring.get(digest(1)) is None


def test_junk_cannot_push_out_what_is_in_use() -> None:
    """A flood that nobody reads again takes its own slots."""
    ring = Ring(100)
    for number in range(10):
        ring.put(entry(number))
    for number in range(1000, 6000):
        for used in range(10):
            ring.get(digest(used))
        ring.put(entry(number))
    assert all(ring.get(digest(number)) is not None for number in range(10))


def test_what_is_out_of_date_goes_first() -> None:
    """Even where it was read a moment ago."""
    now = 0.0
    ring = Ring(2, lambda: now)
    ring.put(entry(1, deadline=5.0))
    ring.put(entry(2, deadline=50.0))
    ring.get(digest(1))
    ring.get(digest(2))
    now = 10.0
    ring.put(entry(3, deadline=60.0))
    assert ring.get(digest(1)) is None
    assert ring.get(digest(2)) is not None


def test_a_put_takes_a_bounded_number_of_steps() -> None:
    """Where all are touched, one of them is given up rather than all looked at."""
    ring = Ring(10_000)
    for number in range(10_000):
        ring.put(entry(number))
    for number in range(10_000):
        ring.get(digest(number))
    ring.put(entry(10_000))
    assert sum(ring.get(digest(number)) is None for number in range(10_000)) == 1


def test_discard() -> None:
    """What is forgotten is gone; forgetting the unknown is no mistake."""
    ring = Ring(3)
    ring.put(entry(1))
    ring.discard(digest(1))
    ring.discard(digest(1))
    ring.discard(digest(2))
    assert ring.get(digest(1)) is None
    assert len(ring) == 0


@given(
    st.integers(1, 8),
    st.lists(st.tuples(st.sampled_from("pgd"), st.integers(0, 15)), max_size=80),
)
def test_it_never_lies(capacity: int, steps: list[tuple[str, int]]) -> None:
    """Against a plain dictionary: what it has is the latest, and it never has too much."""
    ring, latest = Ring(capacity), {}
    for count, (step, number) in enumerate(steps):
        if step == "p":
            latest[number] = entry(number, 1e6 + count)
            ring.put(latest[number])
        elif step == "d":
            latest.pop(number, None)
            ring.discard(digest(number))
        found = ring.get(digest(number))
        assert found is None or whole(found) == latest[number]
        assert step != "p" or found is not None
        assert len(ring) <= capacity


@pytest.mark.parametrize("capacity", [3, 64])
def test_eight_threads_never_get_anothers_entry(capacity: int, quick_switches: None) -> None:
    """Readers take no lock, yet nobody is ever given the identity of somebody else."""
    ring = Ring(capacity)
    results: list[bool] = []
    start = threading.Barrier(8)

    def step(luck: random.Random) -> bool:
        number = luck.randrange(capacity * 3)
        action = luck.randrange(8)
        if action == 0:
            ring.discard(digest(number))
        elif action <= 3:
            ring.put(entry(number))
        found = ring.get(digest(number))
        return found is None or found[3] == number

    def work(seed: int) -> None:
        luck = random.Random(seed)
        start.wait()
        results.append(all(step(luck) for _ in range(4000)))

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert results == [True] * 8
    assert len(ring) <= capacity
    assert sum(found is not None for found in ring._entries) == len(ring)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here")
@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")
def test_a_fork_in_the_middle_of_a_put_leaves_a_usable_ring(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The thread that was at it does not exist in the child, and never finishes its work."""
    ring = Ring(4)
    for number in range(4):
        ring.put(entry(number))
    inside, go_on = threading.Event(), threading.Event()
    whole = Ring._vacate

    def interrupted(self: Ring) -> int:
        slot = whole(self)
        inside.set()
        go_on.wait(20)
        return slot

    monkeypatch.setattr(Ring, "_vacate", interrupted)
    thread = threading.Thread(target=ring.put, args=(entry(10),))
    thread.start()
    inside.wait(20)
    child = os.fork()
    if child == 0:
        Ring._vacate = whole  # type: ignore[method-assign]
        try:
            for number in range(20, 40):
                ring.put(entry(number))
            os._exit(0 if ring.get(digest(39)) is not None else 1)
        finally:
            os._exit(2)
    go_on.set()
    thread.join()
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
