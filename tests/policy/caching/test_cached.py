"""``CachedPoint``: what is remembered, for how long, and who is asked how often."""

from __future__ import annotations

import asyncio
import gc
import os
import threading
from collections.abc import Callable
from concurrent.futures import Future
from types import MappingProxyType
from typing import Any

import pytest
import trio

from bearer_middleware.flow.drivers import arun, run
from bearer_middleware.policy.cached import CachedPoint, cached
from bearer_middleware.policy.combined import AllOf
from bearer_middleware.policy.model import (
    AccessRequest,
    Action,
    Decision,
    Effect,
    Obligation,
    Resource,
    Subject,
)
from bearer_middleware.policy.point import InProcess
from bearer_middleware.policy.remembering import digest_of
from bearer_middleware.policy.shadow import Shadow
from bearer_middleware.resource_server import ResourceServer
from bearer_middleware.settings import Settings
from tests.policy.caching.conftest import ask, decision

Make = Callable[..., CachedPoint]
LATER = 1e9


@pytest.fixture
def make(point: Any, clock: Any) -> Make:
    """A cache of ten seconds around the point."""

    def build(**changes: Any) -> CachedPoint:
        return CachedPoint(point, **{"ttl": 10.0, "clock": clock.clock()} | changes)

    return build


def one(cache: CachedPoint, request: AccessRequest | None = None, **how: Any) -> Decision:
    """One decision, blocking."""
    return run(cache.decide(ask() if request is None else request, LATER, **how))


# -- how long ------------------------------------------------------------------------------


def test_a_permit(make: Make, point: Any, clock: Any) -> None:
    """Serves for its time to live, says that it is remembered and how old it is, and no longer."""
    cache = make()
    first = one(cache)
    assert (first.cached, first.age) == (False, 0.0)
    clock.forward(9.9)
    again = one(cache)
    assert again.cached
    assert again.age == pytest.approx(9.9)
    assert cache.remembered(ask(), clock.now) == again
    clock.forward(0.1)
    assert cache.remembered(ask()) is None
    assert not one(cache).cached
    assert len(point.asked) == 2


@pytest.mark.parametrize("effect", [Effect.DENY, Effect.NOT_APPLICABLE])
def test_a_denial(make: Make, point: Any, clock: Any, effect: Effect) -> None:
    """Serves for a second at most, or as long as was said."""
    point.answer = lambda _: decision(effect)
    for cache, seconds in ((make(), 1.0), (make(ttl=0.5), 0.5), (make(deny_ttl=3.0), 3.0)):
        one(cache)
        clock.forward(seconds - 0.1)
        assert one(cache).cached
        clock.forward(0.2)
        assert cache.remembered(ask()) is None


def test_what_is_indeterminate(make: Make, point: Any) -> None:
    """Is never remembered."""
    point.answer = lambda _: decision(Effect.INDETERMINATE, error="timeout")
    cache = make(deny_ttl=100.0)
    for _ in range(3):
        assert not one(cache).cached
    assert len(point.asked) == 3
    assert len(cache) == 0


def test_the_life_of_the_token(make: Make, point: Any, clock: Any) -> None:
    """Bounds that of the decision; a token that has ended leaves nothing."""
    cache = make()
    one(cache, expires=clock.now + 3)
    clock.forward(2.9)
    assert one(cache).cached
    clock.forward(0.1)
    assert not one(cache, expires=clock.now - 1).cached
    assert not one(cache).cached


def test_clocks_that_are_set(make: Make, clock: Any) -> None:
    """Of both clocks the earlier end counts."""
    cache = make()
    one(cache)
    clock.now -= 3600
    clock.monotonic += 10
    assert cache.remembered(ask()) is None
    one(cache)
    clock.now += 3600
    assert cache.remembered(ask()) is None


def test_as_old_as_its_question(make: Make, point: Any, clock: Any) -> None:
    """What took the point three seconds is three seconds old."""
    cache = make()
    flow = cache.decide(ask(), LATER)
    point.gate = Future()
    next(flow)
    clock.forward(3)
    with pytest.raises(StopIteration):
        flow.send(True)
    assert one(cache).age == pytest.approx(3)


def test_off(make: Make, point: Any) -> None:
    """With no time to live nothing is remembered."""
    cache = make(ttl=0.0)
    for _ in range(3):
        assert not one(cache).cached
    assert cache.remembered(ask()) is None
    assert len(cache) == 0


def test_all_of_a_decision_is_kept(make: Make, point: Any) -> None:
    """Obligations, steps, reasons and context too."""
    whole = decision(
        reasons=("r",),
        user_reason="u",
        obligations=(Obligation("audit", "1", {"a": 1}),),
        acr_values=("loa3",),
        max_age=300,
        decision_id="d",
        policy_version="v",
        context={"x": 1},
    )
    point.answer = lambda _: whole
    cache = make()
    one(cache)
    again = one(cache)
    assert again.cached
    assert again.context == {"x": 1}
    for name in Decision.__slots__:
        if name not in ("cached", "age"):
            assert getattr(again, name) == getattr(whole, name)


def test_only_so_many(make: Make, point: Any) -> None:
    """The one that was not used for the longest time makes room."""
    cache = make(size=3)
    for number in range(5):
        one(cache, ask(resource=f"todo:{number}"))
    assert len(cache) == 3
    assert cache.remembered(ask(resource="todo:0")) is None
    assert cache.remembered(ask(resource="todo:4")) is not None


# -- which are the same --------------------------------------------------------------------


def request(**parts: Any) -> AccessRequest:
    """A whole request with something changed."""
    subject = Subject(parts.get("st", "user"), parts.get("si", "a"), parts.get("sp", {"r": ["x"]}))
    action = Action(parts.get("an", "read"), parts.get("ap", {}))
    resource = Resource(parts.get("rt", "t"), parts.get("ri", "1"), parts.get("rp", {"o": 1}))
    return AccessRequest(subject, action, resource, parts.get("c", {"ip": "::1"}))


@pytest.mark.parametrize(
    "parts",
    [
        {"st": "client"},
        {"si": "b"},
        {"sp": {"r": ["x", "y"]}},
        {"sp": {"r": "x"}},
        {"an": "write"},
        {"ap": {"x": 1}},
        {"rt": "u"},
        {"ri": "2"},
        {"rp": {"o": "1"}},
        {"rp": {"o": True}},
        {"rp": {"o": None}},
        {"c": {}},
        {"c": {"ip": "::2"}},
        # Nobody moves a border by what an id holds.
        {"rt": 't","1', "ri": ""},
    ],
)
def test_another_question(parts: dict[str, Any]) -> None:
    """Every part of a request makes it another one."""
    assert digest_of(request(**parts)) != digest_of(request())


def test_the_same_question() -> None:
    """However its mappings are made and ordered."""
    plain = request(sp={"a": 1, "b": [1, 2], "c": ["x", "y"]})
    proxy = MappingProxyType({"c": frozenset({"y", "x"}), "b": (1, 2), "a": 1})
    assert digest_of(request(sp=proxy)) == digest_of(plain)
    assert digest_of(request(si="\ud800")) not in (None, digest_of(request(si="?")))


@pytest.mark.parametrize("odd", [object(), float("nan"), {1: 2, "a": 3}, {object(), 1}, b"x"])
def test_what_cannot_be_compared(make: Make, point: Any, odd: object) -> None:
    """Is asked each time, one by one and in a batch."""
    what = ask(odd=odd)
    assert digest_of(what) is None
    cache = make()
    for _ in range(2):
        assert not one(cache, what).cached
    assert cache.remembered(what) is None
    run(cache.decide_many([what, ask(), what], LATER))
    assert len(point.asked) == 2
    assert len(point.batches[0]) == 3
    assert len(cache) == 1


def test_a_mapping_in_itself() -> None:
    """Is no request that could be compared."""
    context: dict[str, Any] = {}
    context["self"] = context
    assert digest_of(ask(context=context)) is None


# -- generations ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "left"),
    [
        ({}, set()),
        ({"subject": "alice"}, {"bob todo", "bob note"}),
        ({"resource_type": "todo"}, {"alice note", "bob note"}),
        ({"subject": "alice", "resource_type": "todo"}, {"bob note"}),
        ({"subject": "nobody"}, {"alice todo", "alice note", "bob todo", "bob note"}),
    ],
)
def test_invalidated(make: Make, change: dict[str, str], left: set[str]) -> None:
    """Everything, a subject's, or those on a type of resource."""
    cache = make()
    questions = {
        f"{who} {what}": ask(who, resource=f"{what}:1")
        for who in ("alice", "bob")
        for what in ("todo", "note")
    }
    for question in questions.values():
        one(cache, question)
    cache.invalidate(**change)
    assert {name for name, what in questions.items() if cache.remembered(what) is not None} == left


@pytest.mark.parametrize("wrap", [AllOf, lambda point: Shadow(point, Here()), CachedPoint])
@pytest.mark.parametrize("change", [{}, {"subject": "alice"}, {"resource_type": "todo"}])
def test_invalidated_within_another_point(
    make: Make, point: Any, wrap: Any, change: dict[str, str]
) -> None:
    """Whoever says so knows of the server alone, or of the outer cache."""
    routes = [{"method": "GET", "path": "/", "action": "read", "resource": "todo:1"}]
    settings = Settings(issuer="https://as", audience="api", routes=routes)
    server = ResourceServer(settings, policy=wrap(make(ttl=60.0)))
    outer = CachedPoint(wrap(make(ttl=60.0)), ttl=60.0)
    assert server.authorizer is not None
    changes: list[tuple[Any, Callable[..., Any]]] = [
        (server.authorizer.point, server.policy_changed),
        (outer, outer.invalidate),
    ]
    for cache, invalidate in changes:
        point.answer = lambda _: decision(Effect.PERMIT)
        assert one(cache).permitted
        point.answer = lambda _: decision(Effect.DENY)
        invalidate(**change)
        assert one(cache).effect is Effect.DENY


@pytest.mark.parametrize("change", [{}, {"subject": "alice"}, {"resource_type": "todo"}])
@pytest.mark.parametrize("many", [False, True])
def test_changed_while_it_was_asked(make: Make, point: Any, change: Any, many: bool) -> None:
    """The answer is for those who waited already: it is not remembered, and nobody joins."""
    cache = make()
    point.gate = Future()
    flow: Any = cache.decide_many([ask()], LATER) if many else cache.decide(ask(), LATER)
    next(flow)
    cache.invalidate(**change)
    point.gate = None
    assert not one(cache).cached  # does not wait for the other
    cache.invalidate(**change)
    with pytest.raises(StopIteration):
        flow.send(True)
    assert cache.remembered(ask()) is None


def test_many_names(make: Make) -> None:
    """Are not remembered for ever: beyond a bound everything is invalid."""
    cache = make(size=10)
    one(cache)
    for number in range(12):
        cache.invalidate(subject=f"s-{number}")
    assert cache.remembered(ask()) is None
    one(cache)
    assert cache.remembered(ask()) is not None
    cache.invalidate(subject="alice")
    assert cache.remembered(ask()) is None


# -- fresh ---------------------------------------------------------------------------------


def test_fresh(make: Make, point: Any) -> None:
    """Reads nothing, is told to the point, and is remembered for the others."""
    cache = make()
    one(cache)
    point.answer = lambda _: decision(Effect.DENY)
    assert one(cache, fresh=True).effect is Effect.DENY
    assert point.fresh == [False, True]
    assert one(cache).effect is Effect.DENY
    assert run(cache.decide_many([ask()], LATER, fresh=True))[0].cached is False
    assert point.fresh == [False, True, True]


def test_a_fresh_denial_that_is_not_kept(make: Make, point: Any) -> None:
    """Ends the permit of before nevertheless."""
    cache = make(deny_ttl=0.0)
    one(cache)
    point.answer = lambda _: decision(Effect.DENY)
    one(cache, fresh=True)
    assert cache.remembered(ask()) is None


def test_fresh_beside_an_older_question(make: Make, point: Any) -> None:
    """It does not wait for that one, whose answer takes the place of nothing newer."""
    cache = make()
    point.gate = Future()
    older = cache.decide(ask(), LATER)
    next(older)
    point.gate, point.answer = None, lambda _: decision(Effect.DENY)
    assert one(cache, fresh=True).effect is Effect.DENY
    with pytest.raises(StopIteration) as end:
        older.send(True)
    assert end.value.value.permitted
    assert cache.remembered(ask()).effect is Effect.DENY  # type: ignore[union-attr]


# -- batches -------------------------------------------------------------------------------


def test_a_batch(make: Make, point: Any) -> None:
    """What is remembered is not asked; the rest is one batch, each question once."""
    point.answer = lambda what: decision(reasons=(what.resource.id,))
    cache = make()
    one(cache, ask(resource="todo:1"))
    wanted = [ask(resource=f"todo:{number}") for number in (2, 1, 3, 2)]
    told = run(cache.decide_many(wanted, LATER))
    assert [each.reasons[0] for each in told] == ["2", "1", "3", "2"]
    assert [each.cached for each in told] == [False, True, False, False]
    assert [[what.resource.id for what in batch] for batch in point.batches] == [["2", "3"]]
    assert all(each.cached for each in run(cache.decide_many(wanted, LATER)))
    assert len(point.batches) == 1
    assert run(cache.decide_many([], LATER)) == []


@pytest.mark.parametrize("answers", [[], [None] * 3, None, 7, RuntimeError("canary")])
def test_a_batch_that_is_none(make: Make, point: Any, answers: Any) -> None:
    """Nobody can say which answer is whose: all are indeterminate. What a short one leaves out is
    denied, this time.
    """

    def decide_many(*_: Any, **__: Any) -> Any:
        yield from ()
        if isinstance(answers, Exception):
            raise answers
        return answers

    point.decide_many = decide_many
    cache = make(deny_ttl=10.0)
    told = run(cache.decide_many([ask(), ask("bob")], LATER))
    wanted = Effect.DENY if answers == [] else Effect.INDETERMINATE
    assert [each.effect for each in told] == [wanted] * 2
    assert len(cache) == 0


@pytest.mark.parametrize("answer", [None, True, RuntimeError("canary"), "permit"])
def test_a_point_that_is_out_of_order(make: Make, point: Any, answer: Any) -> None:
    """Could not decide. It never lets anybody in."""
    point.answer = lambda _: answer
    told = one(make())
    assert told.effect is Effect.INDETERMINATE
    assert told.error in {"point_failed", "not_a_decision"}


# -- many at once --------------------------------------------------------------------------


def test_many_threads(make: Make, point: Any) -> None:
    """Two hundred with the same question ask once, also where nothing is remembered."""
    cache = make(ttl=0.0)
    point.gate = Future()
    told: list[Decision] = []
    waiting = threading.Semaphore(0)
    cache._one._note = waiting.release
    threads = [threading.Thread(target=lambda: told.append(one(cache))) for _ in range(200)]
    for thread in threads:
        thread.start()
    for _ in range(199):
        assert waiting.acquire(timeout=30)
    point.gate.set_result(None)
    for thread in threads:
        thread.join(30)
    assert len(told) == 200
    assert all(each.permitted for each in told)
    assert len(point.asked) == 1


@pytest.mark.parametrize("many", [False, True])
@pytest.mark.parametrize("library", ["asyncio", "trio"])
def test_many_tasks(make: Make, point: Any, library: str, many: bool) -> None:
    """The same in a loop, and for a batch."""
    cache = make(ttl=0.0)
    point.gate = Future()
    told: list[Any] = []
    waiting: list[int] = []
    flights: Any = cache._many if many else cache._one

    def followed() -> None:
        waiting.append(1)
        if len(waiting) == 199:
            point.gate.set_result(None)

    flights._note = followed

    async def task() -> None:
        flow: Any = cache.decide_many([ask(), ask("bob")], LATER) if many else None
        told.append(await arun(cache.decide(ask(), LATER) if flow is None else flow))

    async def all_of_them() -> None:
        await asyncio.gather(*(task() for _ in range(200)))

    async def all_in_trio() -> None:
        async with trio.open_nursery() as nursery:
            for _ in range(200):
                nursery.start_soon(task)

    asyncio.run(all_of_them()) if library == "asyncio" else trio.run(all_in_trio)
    assert len(told) == 200
    assert (len(point.asked), len(point.batches)) == ((0, 1) if many else (1, 0))


def test_who_waits_too_long(make: Make, point: Any, clock: Any) -> None:
    """Cannot know: the others' question is not ours to wait for."""
    cache = make()
    point.gate = Future()
    leader = cache.decide(ask(), LATER)
    next(leader)
    many = cache.decide_many([ask("bob")], LATER)
    next(many)
    follower = run(cache.decide(ask(), clock.monotonic))
    assert (follower.effect, follower.error) == (Effect.INDETERMINATE, "timeout")
    (other,) = run(cache.decide_many([ask("bob")], clock.monotonic))
    assert other.error == "timeout"
    leader.close()
    many.close()


def test_a_leader_that_is_lost(make: Make, point: Any) -> None:
    """Leaves nothing behind: the next one asks."""
    cache = make()
    point.gate = Future()
    leader = cache.decide(ask(), LATER)
    next(leader)
    leader.close()
    point.gate = None
    assert one(cache).permitted
    assert cache._asked == {}


@pytest.mark.needs("/dev/null")
def test_a_forked_child(make: Make, point: Any) -> None:
    """Has the decisions of its parent, and waits for none of its questions."""
    cache = make()
    one(cache, ask("bob"))
    point.gate = Future()
    leader = cache.decide(ask(), LATER)
    next(leader)
    child = os.fork()
    if child == 0:
        status = 1
        try:
            point.gate = None
            good = one(cache, ask("bob")).cached and not one(cache).cached
            cache.invalidate()
            status = 0 if good and cache.remembered(ask()) is None else 2
        finally:
            os._exit(status)
    assert os.waitpid(child, 0)[1] == 0
    leader.close()


def test_a_race_of_threads(point: Any) -> None:
    """Policies change and questions come from many threads: after a change has returned, nobody
    is given what was decided before it.
    """
    version = [0, 0]
    cache = CachedPoint(point, ttl=1000.0)
    point.answer = lambda _: decision(policy_version=str(version[0]))
    wrong: list[tuple[int, int]] = []
    over = threading.Event()

    def question() -> None:
        while not over.is_set():
            least = version[1]
            told = int(one(cache).policy_version or -1)
            if told < least:
                wrong.append((told, least))

    threads = [threading.Thread(target=question, daemon=True) for _ in range(4)]
    for thread in threads:
        thread.start()
    try:
        for number in range(1, 300):
            version[0] = number
            cache.invalidate(**({} if number % 2 else {"subject": "alice"}))
            version[1] = number
    finally:
        over.set()
    for thread in threads:
        thread.join(30)
    assert wrong == []


# -- by the settings -----------------------------------------------------------------------


class Here(InProcess):
    """A point in this process."""

    name = "here"

    def judge(self, request: AccessRequest) -> Decision:
        return decision()


def test_by_the_settings(point: Any, clock: Any) -> None:
    """A remote point is always shared; one in this process is left alone unless it is wanted."""
    keywords: Any = {"issuer": "https://as.test", "audience": "api"}
    off, on = Settings(**keywords), Settings(**keywords, policy_cache_ttl=2)
    here = Here()
    assert cached(here, off, clock.clock()) is here  # type: ignore[arg-type]
    assert isinstance(cached(here, on, clock.clock()), CachedPoint)  # type: ignore[arg-type]
    remote = cached(point, off, clock.clock())
    assert isinstance(remote, CachedPoint)
    assert (remote.name, remote.point) == ("pdp", point)
    assert not one(remote).cached
    wanted = cached(point, on, clock.clock())
    assert isinstance(wanted, CachedPoint)
    one(wanted)
    assert one(wanted).cached
    gc.collect()
