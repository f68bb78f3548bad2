"""Two hundred callers, each with a token of its own, while the server fails or hangs."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import trio

from bearer_middleware import ResourceServer, Settings
from bearer_middleware.errors import Reason
from bearer_middleware.issuer.upstream import Upstream
from bearer_middleware.testing import Issuer

PLACES, IN_A_ROW = 20, 5
#: Whoever is under way when the breaker opens has been sent already.
MOST = IN_A_ROW - 1 + PLACES
Together = Callable[[ResourceServer, list[str]], list[Any]]


@pytest.fixture(params=["threads", "asyncio", "trio"])
def together(request: pytest.FixtureRequest, ask: Any) -> Together:
    """What so many callers get who ask at once, in each world."""

    def threads(server: ResourceServer, tokens: list[str]) -> list[Any]:
        left = list(tokens)
        return ask.threads(len(tokens), lambda: ask.sync(server, left.pop()))

    async def on_asyncio(server: ResourceServer, tokens: list[str]) -> list[Any]:
        try:
            return await asyncio.gather(*(ask.on_loop(server, token) for token in tokens))
        finally:
            await server.transport.aclose()

    async def on_trio(server: ResourceServer, tokens: list[str]) -> list[Any]:
        results: list[Any] = []

        async def one(token: str) -> None:
            results.append(await ask.on_loop(server, token))

        async with trio.open_nursery() as nursery:
            for token in tokens:
                nursery.start_soon(one, token)
        await server.transport.aclose()
        return results

    return {
        "threads": threads,
        "asyncio": lambda *given: asyncio.run(on_asyncio(*given)),
        "trio": lambda *given: trio.run(on_trio, *given),
    }[request.param]


@pytest.fixture
def upstream(server: ResourceServer, issuer: Issuer, ask: Any) -> Iterator[Upstream]:
    """The introspection endpoint, found already; no place is left taken."""
    ask.sync(server, issuer.opaque())
    asked = server.trusted.servers[0].introspection
    assert asked is not None
    yield asked.upstream
    assert asked.upstream.in_flight == 0
    assert not asked.upstream._bulkhead._queue


FAULTS = {
    "500": {"status": 500},
    "500, slowly": {"status": 500, "delay": 0.05},
    "dropped": {"drop": True},
    "429": {"status": 429, "headers": {"retry-after": "30"}},
    "503, slowly": {"status": 503, "headers": {"retry-after": "soon"}, "delay": 0.05},
}


@pytest.mark.parametrize("fault", FAULTS.values(), ids=FAULTS.keys())
def test_a_server_that_fails_is_spared(
    issuer: Issuer,
    server: ResourceServer,
    upstream: Upstream,
    together: Together,
    fault: dict[str, Any],
) -> None:
    """No more than were under way when that was known; remembered tokens are served."""
    good = [issuer.opaque() for _ in range(5)]
    assert together(server, good) == ["alice"] * 5
    issuer.fail("introspection", **fault)
    before = issuer.requests["introspection"]
    tokens = [issuer.opaque() for _ in range(200)]
    results = together(server, tokens + good)
    assert sorted(map(str, results)) == ["503"] * 200 + ["alice"] * 5
    assert issuer.requests["introspection"] - before <= MOST
    assert upstream.state == "open"


def test_a_server_that_cannot_be_reached(ask: Any, together: Together) -> None:
    """Connections are tried once more, and these tries count as well."""
    with Issuer().serve() as issuer:
        server = ResourceServer(Settings(**issuer.settings()))
        ask.sync(server, issuer.opaque())
        token = issuer.opaque()
        ask.sync(server, token)
        tokens = [issuer.opaque() for _ in range(200)]
    sent: list[str] = []
    transport = server.transport
    send, asend = transport.send, transport.asend
    transport.send = lambda request: (sent.append(request.url), send(request))[1]  # type: ignore[method-assign]
    transport.asend = lambda request: (sent.append(request.url), asend(request))[1]  # type: ignore[method-assign]
    results = together(server, [*tokens, token])
    assert sorted(map(str, results)) == ["503"] * 200 + ["alice"]
    assert IN_A_ROW <= len(sent) <= MOST
    transport.close()


def test_one_probe_of_two_hundred(issuer: Issuer, together: Together) -> None:
    """They all come when the time is over: one is sent, and what it learns is for all."""
    now = [time.time()]
    server = ResourceServer(Settings(**issuer.settings(http_timeout=30)), clock=lambda: now[0])
    asked = server.trusted.servers[0].introspection
    assert asked is not None
    issuer.fail("introspection", status=429, headers={"retry-after": "30"})
    assert together(server, [issuer.opaque()]) == [503]
    now[0] += 30
    assert asked.upstream.state == "half-open"
    issuer.fail("introspection", status=500, delay=0.2)
    assert together(server, [issuer.opaque() for _ in range(200)]) == [503] * 200
    assert issuer.requests["introspection"] == 2
    assert asked.upstream.state == "open"
    issuer.recover()
    now[0] += 12
    assert together(server, [issuer.opaque()]) == ["alice"]
    assert together(server, [issuer.opaque() for _ in range(20)]) == ["alice"] * 20
    assert asked.upstream.in_flight == 0
    server.transport.close()


def test_a_server_that_hangs_takes_twenty_callers(
    issuer: Issuer, server: ResourceServer, upstream: Upstream, ask: Any
) -> None:
    """The others are refused while those still wait, and remembered tokens pass."""
    known = issuer.opaque()
    ask.sync(server, known)
    issuer.fail("introspection", delay=60)
    before = issuer.requests["introspection"]

    async def main() -> None:
        tasks = [asyncio.create_task(ask.on_loop(server, issuer.opaque())) for _ in range(200)]
        for _ in range(1000):
            await asyncio.sleep(0.01)
            if sum(task.done() for task in tasks) >= 200 - PLACES:
                break
        assert upstream.in_flight == PLACES
        assert {task.result() for task in tasks if task.done()} == {503}
        assert await ask.on_loop(server, known) == "alice"
        for task in tasks:
            task.cancel()  # their clients hang up
        await asyncio.gather(*tasks, return_exceptions=True)
        assert upstream.in_flight == 0
        issuer.recover()
        assert await ask.on_loop(server, issuer.opaque()) == "alice"
        await server.transport.aclose()

    asyncio.run(main())
    assert issuer.requests["introspection"] == before + PLACES + 1
    assert upstream.state == "closed"  # who hung up says nothing of the server
    assert server.events.counts["shed"] == 200 - PLACES
    assert server.events.counts[Reason.RATE_LIMITED] == 0  # none of the tokens was bad


def test_a_server_that_hangs_takes_twenty_threads(
    issuer: Issuer, server: ResourceServer, upstream: Upstream, ask: Any
) -> None:
    """The same for WSGI."""
    issuer.fail("introspection", delay=3)
    results: list[Any] = []
    tokens = [issuer.opaque() for _ in range(80)]
    threads = [
        threading.Thread(target=lambda token=token: results.append(ask.sync(server, token)))
        for token in tokens
    ]
    for thread in threads:
        thread.start()
    began = time.monotonic()
    while len(results) < 80 - PLACES and time.monotonic() < began + 30:
        time.sleep(0.01)
    assert (results, upstream.in_flight) == ([503] * (80 - PLACES), PLACES)
    for thread in threads:
        thread.join(60)
    assert results[80 - PLACES :] == ["alice"] * PLACES


def test_time_outs_open_it(issuer: Issuer, together: Together) -> None:
    """Twenty wait in vain, the others hardly at all, and those who come later not."""
    server = ResourceServer(Settings(**issuer.settings(http_timeout=1.5)))
    assert together(server, [issuer.opaque()]) == ["alice"]
    issuer.fail("introspection", delay=60)
    assert together(server, [issuer.opaque() for _ in range(60)]) == [503] * 60
    asked = server.trusted.servers[0].introspection
    assert asked is not None
    assert (asked.upstream.state, asked.upstream.in_flight) == ("open", 0)
    sent = issuer.requests["introspection"]
    assert sent <= 1 + MOST
    assert together(server, [issuer.opaque() for _ in range(60)]) == [503] * 60
    assert issuer.requests["introspection"] == sent
    server.transport.close()


def test_those_who_wait_are_served_in_turn(
    issuer: Issuer, server: ResourceServer, upstream: Upstream, together: Together
) -> None:
    """More than there are places, and a server that is quick: all are answered.

    A machine so busy that no exchange ends in a quarter of a second may try again.
    """
    assert together(server, [issuer.opaque()]) == ["alice"]  # what is made once takes a while
    for _ in range(4):
        answers = together(server, [issuer.opaque() for _ in range(30)])
        if 503 not in answers:
            break
    assert answers == ["alice"] * 30


def test_a_loop_that_dies_leaves_its_places(
    issuer: Issuer, server: ResourceServer, upstream: Upstream, ask: Any
) -> None:
    """Twenty exchanges under way in a loop that ends: they are free for others."""
    issuer.fail("introspection", delay=60)
    before = issuer.requests["introspection"]

    async def main() -> None:
        tasks = [asyncio.create_task(ask.on_loop(server, issuer.opaque())) for _ in range(40)]
        for _ in range(1000):
            await asyncio.sleep(0.01)
            # All have arrived: AnyIO warns where a loop dies between two steps of a connect.
            if issuer.requests["introspection"] == before + PLACES:
                break
        assert upstream.in_flight == PLACES
        assert not all(task.done() for task in tasks)

    asyncio.run(main())
    issuer.recover()
    assert ask.sync(server, issuer.opaque()) == "alice"
