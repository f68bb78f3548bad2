"""Asked once, however many ask: threads, tasks, loops of both kinds, and all at the same time."""

from __future__ import annotations

import asyncio
import threading
import time
from typing import Any

import anyio
import pytest
import trio

from bearer_middleware import ResourceServer, Settings
from bearer_middleware.testing import Issuer


@pytest.fixture(params=["opaque", "jwt introspected", "both"])
def kind(request: pytest.FixtureRequest) -> str:
    """Every way of needing the introspection endpoint."""
    return str(request.param)


def made(issuer: Issuer, kind: str, **settings: Any) -> tuple[ResourceServer, str]:
    """A server and a token that it has to ask about, over a slow endpoint."""
    if kind == "jwt introspected":
        settings["jwt_validation"] = "introspect"
    elif kind == "both":
        settings["jwt_validation"] = "both"
    server = ResourceServer(Settings(**issuer.settings(http_timeout=30, **settings)))
    token = issuer.opaque() if kind == "opaque" else issuer.jwt()
    issuer.fail("introspection", delay=0.5)
    return server, token


def test_two_hundred_threads(issuer: Issuer, ask: Any, kind: str, quick_switches: None) -> None:
    """The same uncached token: one exchange, and everybody is let in (Duende
    OAuth2Introspection 9, whose own map of them had no effect).
    """
    server, token = made(issuer, kind)
    assert ask.threads(200, lambda: ask.sync(server, token)) == ["alice"] * 200
    assert issuer.requests["introspection"] == 1
    assert ask.flights_of(server) == 0
    server.transport.close()


def test_a_thousand_tasks(issuer: Issuer, ask: Any, kind: str) -> None:
    """On one asyncio loop."""
    server, token = made(issuer, kind)

    async def main() -> list[Any]:
        try:
            return await asyncio.gather(*(ask.on_loop(server, token) for _ in range(1000)))
        finally:
            await server.transport.aclose()

    assert asyncio.run(main()) == ["alice"] * 1000
    assert issuer.requests["introspection"] == 1
    assert ask.flights_of(server) == 0


def test_two_hundred_trio_tasks(issuer: Issuer, ask: Any, kind: str) -> None:
    """In one trio run."""
    server, token = made(issuer, kind)
    results = []

    async def one() -> None:
        results.append(await ask.on_loop(server, token))

    async def main() -> None:
        async with trio.open_nursery() as nursery:
            for _ in range(200):
                nursery.start_soon(one)
        await server.transport.aclose()

    trio.run(main)
    assert results == ["alice"] * 200
    assert issuer.requests["introspection"] == 1
    assert ask.flights_of(server) == 0


def test_threads_and_loops_at_once(issuer: Issuer, ask: Any, kind: str) -> None:
    """Fifty threads, two asyncio loops and a trio run with one server between them."""
    server, token = made(issuer, kind)
    results: list[Any] = []

    async def tasks() -> None:
        results.extend(await asyncio.gather(*(ask.on_loop(server, token) for _ in range(50))))
        await server.transport.aclose()

    async def one() -> None:
        results.append(await ask.on_loop(server, token))

    async def trio_tasks() -> None:
        async with trio.open_nursery() as nursery:
            for _ in range(20):
                nursery.start_soon(one)
        await server.transport.aclose()

    loops = [threading.Thread(target=lambda: asyncio.run(tasks())) for _ in range(2)]
    loops.append(threading.Thread(target=lambda: trio.run(trio_tasks)))
    for thread in loops:
        thread.start()
    results.extend(ask.threads(50, lambda: ask.sync(server, token)))
    for thread in loops:
        thread.join(60)
    assert results == ["alice"] * 170
    assert issuer.requests["introspection"] == 1
    assert ask.flights_of(server) == 0
    server.transport.close()


@pytest.mark.parametrize("world", ["threads", "tasks"])
def test_a_cold_start_dsc_9(issuer: Issuer, server: ResourceServer, ask: Any, world: str) -> None:
    """DSC-9: two hundred callers, each with a JWT of its own: one document, one key set."""
    issuer.fail("metadata", delay=0.2)
    issuer.fail("jwks", delay=0.2)
    tokens = [issuer.jwt() for _ in range(200)]

    async def main() -> list[Any]:
        try:
            return await asyncio.gather(*(ask.on_loop(server, token) for token in tokens))
        finally:
            await server.transport.aclose()

    if world == "threads":
        left = list(tokens)
        results = ask.threads(200, lambda: ask.sync(server, left.pop()))
    else:
        results = asyncio.run(main())
    assert results == ["alice"] * 200
    assert issuer.requests == {"metadata": 1, "jwks": 1}


def test_a_failing_exchange_is_shared(issuer: Issuer, server: ResourceServer, ask: Any) -> None:
    """Two hundred callers learn it from few attempts, and none of them waits for another's."""
    issuer.fail("introspection", status=500, delay=0.2)
    began = time.monotonic()
    assert ask.threads(200, lambda: ask.sync(server, "token")) == [503] * 200
    assert issuer.requests["introspection"] <= 3
    assert time.monotonic() - began < 10


def test_a_failing_cold_start_is_shared(issuer: Issuer, server: ResourceServer, ask: Any) -> None:
    """The same for keys."""
    issuer.fail("jwks", status=500, delay=0.2)
    tokens = [issuer.jwt() for _ in range(200)]
    assert ask.threads(200, lambda: ask.sync(server, tokens.pop())) == [503] * 200
    assert issuer.requests["jwks"] <= 3


def test_a_rotation_under_load(issuer: Issuer, server: ResourceServer, ask: Any) -> None:
    """All callers of the new key join one fetch; none is refused (quarkus 12984)."""
    assert ask.sync(server, issuer.jwt()) == "alice"
    issuer.rotate()
    issuer.fail("jwks", delay=0.3)
    tokens = [issuer.jwt() for _ in range(100)]
    assert ask.threads(100, lambda: ask.sync(server, tokens.pop())) == ["alice"] * 100
    assert issuer.requests["jwks"] <= 3


def test_different_tokens_do_not_wait_for_each_other(
    issuer: Issuer, server: ResourceServer, ask: Any
) -> None:
    """One flight for each question, and each caller gets its own answer."""
    tokens = {issuer.opaque(sub=f"user-{number}"): f"user-{number}" for number in range(20)}
    ask.sync(server, issuer.opaque())
    issuer.fail("introspection", delay=0.3)
    left = list(tokens)

    def one() -> bool:
        token = left.pop()
        return bool(ask.sync(server, token) == tokens[token])

    began = time.monotonic()
    assert ask.threads(20, one) == [True] * 20
    assert time.monotonic() - began < 10
    assert issuer.requests["introspection"] == 21


# -- those who do not stay until the end ---------------------------------------------------


def test_a_cancelled_leader_on_asyncio(issuer: Issuer, server: ResourceServer, ask: Any) -> None:
    """Its client hung up: a follower leads on, and everybody else is answered (zitadel/oidc 593,
    Duende foss 281).
    """
    token = issuer.opaque()
    issuer.fail("introspection", delay=1.0)

    async def main() -> list[Any]:
        leader = asyncio.create_task(ask.on_loop(server, token))
        await asyncio.sleep(0.3)
        followers = [asyncio.create_task(ask.on_loop(server, token)) for _ in range(20)]
        await asyncio.sleep(0.1)
        issuer.recover()
        leader.cancel()
        results = await asyncio.gather(*followers)
        with pytest.raises(asyncio.CancelledError):
            await leader
        await server.transport.aclose()
        return results

    assert asyncio.run(main()) == ["alice"] * 20
    assert issuer.requests["introspection"] == 2


def test_a_cancelled_leader_on_trio(issuer: Issuer, server: ResourceServer, ask: Any) -> None:
    """The same."""
    token = issuer.opaque()
    issuer.fail("introspection", delay=1.0)
    results: list[Any] = []

    async def lead(scope: trio.CancelScope) -> None:
        with scope:
            results.append(await ask.on_loop(server, token))

    async def follow() -> None:
        results.append(await ask.on_loop(server, token))

    async def main() -> None:
        scope = trio.CancelScope()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(lead, scope)
            await trio.sleep(0.3)
            for _ in range(20):
                nursery.start_soon(follow)
            await trio.sleep(0.1)
            issuer.recover()
            scope.cancel()
        await server.transport.aclose()

    trio.run(main)
    assert results == ["alice"] * 20
    assert issuer.requests["introspection"] == 2


@pytest.mark.parametrize("cold", [False, True])
def test_a_loop_that_dies_hands_over_to_threads(
    issuer: Issuer, server: ResourceServer, ask: Any, cold: bool
) -> None:
    """The leader's whole loop ends; followers in threads and in another loop go on."""
    if not cold:
        ask.sync(server, issuer.jwt())
    token = issuer.opaque()
    issuer.fail("introspection", delay=1.0)

    async def lead() -> None:
        task = asyncio.create_task(ask.on_loop(server, token))
        await asyncio.sleep(0.4)
        issuer.recover()
        assert not task.done()  # asyncio.run cancels it
        await server.transport.aclose()

    async def follow() -> Any:
        try:
            return await ask.on_loop(server, token)
        finally:
            await server.transport.aclose()

    results: list[Any] = []
    leader = threading.Thread(target=lambda: asyncio.run(lead()))
    leader.start()
    while not issuer.requests["introspection"]:
        time.sleep(0.005)
    others = [threading.Thread(target=lambda: results.append(ask.sync(server, token)))]
    others.append(threading.Thread(target=lambda: results.append(asyncio.run(follow()))))
    for thread in others:
        thread.start()
    for thread in (leader, *others):
        thread.join(60)
    assert results == ["alice", "alice"]


def test_cancelled_followers_harm_nobody(issuer: Issuer, server: ResourceServer, ask: Any) -> None:
    """Nineteen clients hang up; the exchange is for the one who stayed."""
    token = issuer.opaque()
    issuer.fail("introspection", delay=0.8)

    async def main() -> Any:
        leader = asyncio.create_task(ask.on_loop(server, token))
        await asyncio.sleep(0.2)
        followers = [asyncio.create_task(ask.on_loop(server, token)) for _ in range(20)]
        await asyncio.sleep(0.1)
        for follower in followers[1:]:
            follower.cancel()
        results = await asyncio.gather(leader, followers[0])
        await asyncio.gather(*followers, return_exceptions=True)
        await server.transport.aclose()
        return results

    assert asyncio.run(main()) == ["alice", "alice"]
    assert issuer.requests["introspection"] == 1


def test_a_storm_of_cancellations(issuer: Issuer, server: ResourceServer, ask: Any) -> None:
    """Whoever is cancelled and when: who stays is answered, and no flight is left."""
    import random

    luck = random.Random(7)
    tokens = [issuer.opaque() for _ in range(5)]
    issuer.fail("introspection", delay=0.05)

    async def main() -> None:
        for _ in range(15):
            tasks = [
                asyncio.create_task(ask.on_loop(server, luck.choice(tokens))) for _ in range(60)
            ]
            await asyncio.sleep(luck.random() * 0.1)
            lost = luck.sample(tasks, 40)
            for task in lost:
                task.cancel()
            stayed = [task for task in tasks if task not in lost]
            assert set(await asyncio.gather(*stayed)) == {"alice"}
            await asyncio.gather(*lost, return_exceptions=True)
            assert ask.flights_of(server) == 0
            server.memory.introspected.__init__(100)  # type: ignore[misc]
        await server.transport.aclose()

    asyncio.run(main())


@pytest.mark.parametrize("world", ["asyncio", "trio"])
def test_a_cancelled_caller_does_not_stop_the_renewal_of_keys(
    issuer: Issuer, ask: Any, world: str
) -> None:
    """Background work belongs to nobody's request."""
    now = [time.time()]
    server = ResourceServer(Settings(**issuer.settings(http_timeout=30)), clock=lambda: now[0])

    async def main() -> None:
        assert await ask.on_loop(server, issuer.jwt()) == "alice"
        issuer.fail("jwks", delay=0.3)
        now[0] += 301
        assert await ask.on_loop(server, issuer.jwt()) == "alice"  # starts it, and is gone
        issuer.rotate()
        for _ in range(200):
            if issuer.requests["jwks"] == 2 and not ask.flights_of(server):
                break
            await anyio.sleep(0.02)
        issuer.recover()
        assert issuer.requests["jwks"] == 2
        await server.transport.aclose()

    asyncio.run(main()) if world == "asyncio" else trio.run(main)
    assert ask.flights_of(server) == 0
