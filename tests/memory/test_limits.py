"""The buckets of new tokens: who gets a place, who gives it back, and that they stay bounded."""

from __future__ import annotations

import contextlib
import threading
from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bearer_middleware.errors import InvalidToken, RateLimited, Reason, Unavailable
from bearer_middleware.flow.clock import Bucket, Clock
from bearer_middleware.flow.drivers import run
from bearer_middleware.flow.effects import Call, Flow
from bearer_middleware.flow.events import Events
from bearer_middleware.memory.limits import Limits, Turn


@pytest.fixture
def events() -> Events:
    """Nobody listens."""
    return Events()


@pytest.fixture
def limits(clock: Any, events: Events) -> Limits:
    """All buckets are full."""
    return Limits(10, Clock(clock, clock), events)


def places(limits: Limits, client: bytes | None, most: int = 1000) -> int:
    """How many it gets before it is told to wait."""
    for number in range(most):
        try:
            limits.take(client)
        except RateLimited:
            return number
    return most


def answering(error: Exception | None = None) -> Callable[[Turn | None], Flow[str]]:
    """What asks at once, and gets an answer or this failure."""

    def ask(turn: Turn | None) -> Flow[str]:
        if turn is not None:
            turn.admit(int)
        yield from Call(int)
        if error is not None:
            raise error
        return "fine"

    return ask


def ask(
    limits: Limits,
    error: Exception | None = None,
    client: bytes | None = b"peer",
    *,
    digest: bytes = b"digest",
    remember: bool = False,
) -> Any:
    """One question within the limits."""
    return run(limits.within(digest, lambda: client, answering(error), remember=remember))


BAD = InvalidToken(Reason.INACTIVE)
DOWN = Unavailable(Reason.INTROSPECTION_UNAVAILABLE)


def test_the_bucket_of_all(limits: Limits, clock: Any) -> None:
    """A hundred at once, then fifty a second, and never more than a hundred."""
    assert places(limits, None) == 100
    clock.advance(1)
    assert places(limits, None) == 50
    clock.advance(3600)
    assert places(limits, None) == 100


def test_the_bucket_of_a_client(limits: Limits, clock: Any) -> None:
    """Twenty at once, then five a second; it is no other's."""
    assert places(limits, b"one") == 20
    assert places(limits, b"two") == 20
    clock.advance(1)
    assert places(limits, b"one") == 5


@pytest.mark.parametrize(("attackers", "until"), [(1, 0), (5, 0), (20, 0), (60, 2), (300, 8)])
def test_those_who_fail_leave_places_to_others(
    limits: Limits, clock: Any, attackers: int, until: float
) -> None:
    """In a flood of many addresses one that has not failed gets a place, at any moment; in a
    larger flood as soon as the attackers are known.
    """
    began, taken, refused = clock(), 0, []
    for number in range(1500):
        for attacker in range(attackers):
            taken += places(limits, b"bad %d" % attacker)
        if number % 5 == 0 and places(limits, b"good %d" % number, 1) == 0:
            refused.append(clock() - began)
        clock.advance(0.02)
    assert max(refused, default=0) <= until
    assert taken >= min(attackers * 5, 40) * 30 * 0.9


def test_waiting_as_long_as_told_is_enough(limits: Limits, clock: Any) -> None:
    """``retry_after`` is true where nobody else comes."""
    for client in (b"one", b"two", b"three", None):
        places(limits, client)
        with pytest.raises(RateLimited) as shed:
            limits.take(client)
        assert (shed.value.status, shed.value.reason) == (503, Reason.RATE_LIMITED)
        assert 0 < shed.value.retry_after <= 1
        clock.advance(shed.value.retry_after + 1e-6)
        assert places(limits, client, 1) == 1


def test_a_good_token_gives_its_places_back(limits: Limits) -> None:
    """Any number of them, at one moment."""
    assert [ask(limits) for _ in range(500)] == ["fine"] * 500
    assert places(limits, b"peer") == 20


def test_a_bad_token_does_not(limits: Limits) -> None:
    """Twenty, and the next is not asked about."""
    for _ in range(20):
        with pytest.raises(InvalidToken):
            ask(limits, BAD)
    with pytest.raises(RateLimited):
        ask(limits)


def test_an_outage_counts_for_all_and_not_for_the_client(limits: Limits) -> None:
    """The server was asked; that it did not answer is not the caller's doing."""
    for _ in range(100):
        with pytest.raises(Unavailable):
            ask(limits, DOWN)
    with pytest.raises(RateLimited, match="in all"):
        limits.take(b"peer")


def test_who_hangs_up_gives_nothing_back(limits: Limits) -> None:
    """Else a caller who does not wait for the refusal would have no limit."""
    for _ in range(20):
        flow = limits.within(b"digest", lambda: b"peer", answering(), remember=False)
        next(flow)
        flow.close()
    with pytest.raises(RateLimited, match="one address"):
        limits.take(b"peer")


def begin(limits: Limits, client: bytes | None = b"peer") -> tuple[Turn, Any]:
    """One who has come to ask, and waits until the server may be asked."""
    turns: list[Turn] = []

    def ask(turn: Turn | None) -> Flow[str]:
        assert turn is not None
        turns.append(turn)
        yield from Call(int)
        turn.admit(int)
        yield from Call(int)
        return "fine"

    flow = limits.within(b"", lambda: client, ask, remember=False)
    next(flow)
    return turns.pop(), flow


@pytest.mark.parametrize("client", [None, b"peer"])
def test_who_waits_takes_no_place(limits: Limits, client: bytes | None) -> None:
    """Any number may come while good tokens are under way; those who wait are let in later."""
    waiting = [begin(limits, client)[1] for _ in range(200)]
    for flow in waiting:
        flow.send(0)  # let in, asked
        with pytest.raises(StopIteration):
            flow.send(0)
    assert places(limits, client) == (100 if client is None else 20)


def test_what_is_under_way_may_be_good(limits: Limits) -> None:
    """All places are out: nobody is refused at the door, and nobody let in beyond them."""
    under_way = [begin(limits)[1] for _ in range(20)]
    for flow in under_way:
        flow.send(0)
    _, late = begin(limits)
    with pytest.raises(RateLimited, match="one address"):
        late.send(0)
    for flow in under_way[:19]:
        with pytest.raises(InvalidToken):
            flow.throw(BAD)
    _, next_one = begin(limits)  # the last one may yet be good
    with pytest.raises(StopIteration):
        under_way[19].send(0)
    next_one.send(0)
    with pytest.raises(InvalidToken):
        next_one.throw(BAD)
    with pytest.raises(RateLimited, match="one address"):  # at once
        begin(limits)


def test_bad_tokens_of_others_met_while_waiting(limits: Limits, events: Events) -> None:
    """Who came in time finds the places spent when it is let in, and is told of as others are."""
    _, flow = begin(limits, b"one")
    places(limits, None)
    with pytest.raises(RateLimited, match="in all"):
        flow.send(0)
    assert events.counts["shedding"] == 1
    assert repr(limits) == "<Limits of 0 clients>"


def test_the_next_is_let_in_when_the_places_are_back(limits: Limits) -> None:
    """Not between the answer and its verdict; and what is learned by then is not waited for."""
    left: list[int] = []
    for wanted in (20, 19):  # a good token, and then a bad one
        turn = Turn(limits, b"peer")
        turn.admit(lambda: left.append(places_left(limits)))
        assert places_left(limits) == 19
        turn.good() if wanted == 20 else turn.end()
        turn.end()
        turn.good()  # once settled, that is it
        assert left[0] == wanted
        left.clear()


def places_left(limits: Limits) -> int:
    """Of the client ``peer``, without taking any."""
    return int(limits._clients[b"peer"][0].level(limits._monotonic()))  # type: ignore[misc]


def test_asked_twice_about_one_token(limits: Limits) -> None:
    """With new credentials, say: that is one place, and the last way in is left."""
    turn, left = Turn(limits, b"peer"), []
    turn.admit(lambda: left.append("first"))
    turn.admit(lambda: left.append("second"))
    assert places_left(limits) == 19
    turn.good()
    assert left == ["second"]
    assert places(limits, b"peer") == 20


def test_the_table_of_clients_is_bounded(limits: Limits, clock: Any) -> None:
    """However many come, in a flood or slowly; and who is forgotten starts anew."""
    for number in range(12_000):
        places(limits, number.to_bytes(4, "big"), 1)
        clock.advance(0.02)
    assert repr(limits) == "<Limits of 10000 clients>"


def test_who_gets_no_place_leaves_no_trace(limits: Limits) -> None:
    """A flood from any number of addresses pushes nobody out."""
    places(limits, b"bad")
    places(limits, None)
    for number in range(20_000):
        assert places(limits, number.to_bytes(4, "big"), 1) == 0
    assert repr(limits) == "<Limits of 1 clients>"


def test_good_tokens_are_remembered_where_nothing_else_does(limits: Limits) -> None:
    """They meet no limit until they are bad; the last ten of them."""
    for number in range(12):
        ask(limits, digest=b"%d" % number, remember=True)
    assert places(limits, None) == 100
    assert ask(limits, digest=b"2", remember=True) == "fine"
    with pytest.raises(RateLimited):
        ask(limits, digest=b"1", remember=True)
    with pytest.raises(Unavailable):
        ask(limits, DOWN, digest=b"2", remember=True)
    with pytest.raises(InvalidToken):
        ask(limits, BAD, digest=b"2", remember=True)
    with pytest.raises(RateLimited):
        ask(limits, digest=b"2", remember=True)


def test_one_warning_a_minute(limits: Limits, clock: Any, events: Events) -> None:
    """A flood is told of; its requests are counted elsewhere."""
    places(limits, None)
    for warnings in (1, 2):
        for _ in range(50):
            with pytest.raises(RateLimited):
                ask(limits)
        assert events.counts["shedding"] == warnings
        clock.advance(60)
        places(limits, None)


def test_threads_get_no_more(limits: Limits) -> None:
    """A place is taken by one."""
    got: list[int] = []
    threads = [threading.Thread(target=lambda: got.append(places(limits, None))) for _ in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert sum(got) == 100


def test_a_forked_child_starts_with_whole_tables(limits: Limits) -> None:
    """And with the level that its parent had for all."""
    places(limits, b"one")
    limits.after_fork()
    assert repr(limits) == "<Limits of 0 clients>"
    assert places(limits, None) == 80


outcomes = st.sampled_from(["good", "bad", "bad", "down", "gone", "later"])
steps = st.tuples(
    outcomes, st.sampled_from([None, b"one", b"two"]), st.sampled_from([0, 0, 0.1, 9])
)


@given(st.lists(st.tuples(steps, st.integers(1, 60)), max_size=30))
def test_whatever_happens_bad_tokens_keep_within_the_budget(
    script: list[tuple[tuple[str, bytes | None, float], int]],
) -> None:
    """Good ones in between, outages, callers who hang up, answers that come late."""
    now = [1000.0]
    limits = Limits(10, Clock(lambda: now[0], lambda: now[0]), Events())
    spent, under_way = Counter[bytes | None](), []
    for (outcome, client, seconds), times in script:
        for _ in range(times):
            error = {"bad": BAD, "down": DOWN}.get(outcome)
            flow = limits.within(b"", lambda c=client: c, answering(error), remember=False)
            try:
                next(flow)
            except RateLimited:
                continue
            spent[None] += outcome != "good"
            spent[client] += outcome in ("bad", "gone") and client is not None
            if outcome == "later":
                spent[None] -= 1  # it will be good
                under_way.append(flow)
                continue
            with contextlib.suppress(InvalidToken, Unavailable, StopIteration):
                flow.close() if outcome == "gone" else flow.send(0)
        now[0] += seconds
        passed = now[0] - 1000
        assert spent[None] <= 100 + 50 * passed + 1e-6
        for one in (b"one", b"two"):
            assert spent[one] <= 20 + 5 * passed + 1e-6
    for flow in under_way:
        with contextlib.suppress(StopIteration):
            flow.send(0)
    now[0] += 60
    assert places(limits, b"one") == 20
    assert places(limits, None) == 80


def test_what_was_not_taken_does_not_fit() -> None:
    """A bucket never has more than its burst."""
    bucket = Bucket(2, 1.0)
    bucket.give()
    assert bucket.level(0.0) == 2
    assert bucket.take(5.0)
    bucket.give()
    bucket.give()
    assert bucket.level(5.0) == 2
    assert bucket.level(4.0) == 2  # a clock set back takes nothing away
