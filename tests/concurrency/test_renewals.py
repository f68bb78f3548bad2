"""Answers that are renewed ahead while threads and tasks go on using them."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import anyio
import pytest
import trio

from bearer_middleware import ResourceServer, Settings
from bearer_middleware.testing import Issuer


class Now:
    """Wall and monotonic time in one, moved by hand."""

    def __init__(self) -> None:
        self.time = float(int(time.time()))

    def __call__(self) -> float:
        return self.time


@pytest.fixture
def now() -> Now:
    """Stands still."""
    return Now()


@pytest.fixture
def server(issuer: Issuer, now: Now) -> Iterator[ResourceServer]:
    """Trusts the issuer; only its memory goes by the clock of the test."""
    server = ResourceServer(Settings(**issuer.settings(http_timeout=30)), clock=now)
    yield server
    server.transport.close()


@pytest.fixture(autouse=True)
def no_thread_is_left() -> Iterator[None]:
    """A renewal ends with its exchange."""
    yield
    settled(lambda: not [one for one in threading.enumerate() if one.name == "bearer_middleware"])


def settled(true: Callable[[], bool]) -> None:
    """Wait until it is so."""
    deadline = time.monotonic() + 20
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.01)


async def settled_on_loop(true: Callable[[], bool]) -> None:
    """The same on a loop."""
    with anyio.fail_after(20):
        while not true():  # noqa: ASYNC110 - nobody tells
            await anyio.sleep(0.01)


def idle(server: ResourceServer, ask: Any) -> bool:
    """Is nothing in the air, and every place free?"""
    ahead = server._answers._ahead
    return not ask.flights_of(server) and not any(ahead._under_way.values())


class Gate:
    """The issuer in process, which answers only while the gate is open."""

    def __init__(self, issuer: Issuer) -> None:
        self.transport, self.open = issuer.transport(), threading.Event()
        self.open.set()

    def handle_request(self, request: Any) -> Any:
        assert self.open.wait(30)
        return self.transport.handle_request(request)

    async def handle_async_request(self, request: Any) -> Any:
        await settled_on_loop(self.open.is_set)
        return await self.transport.handle_async_request(request)

    def close(self) -> None: ...

    async def aclose(self) -> None: ...


@pytest.mark.parametrize("kind", ["opaque", "introspect", "both"])
@pytest.mark.parametrize("world", ["threads", "asyncio", "trio"])
def test_two_hundred_callers(
    ask: Any, now: Now, quick_switches: None, *, kind: str, world: str
) -> None:
    """At four fifths of its life: all are served before the server says anything."""
    issuer = Issuer()
    gate, results = Gate(issuer), []
    more = {} if kind == "opaque" else {"jwt_validation": kind}
    settings = Settings(**issuer.settings(http_timeout=30, **more))
    server = ResourceServer(settings, clock=now, transport=gate)
    token = issuer.opaque() if kind == "opaque" else issuer.jwt()

    async def one() -> None:
        results.append(await ask.on_loop(server, token))

    async def main() -> None:
        await one()
        now.time += 24
        gate.open.clear()
        async with anyio.create_task_group() as tasks:
            for _ in range(200):
                tasks.start_soon(one)
        assert (issuer.requests["introspection"], idle(server, ask)) == (1, False)
        gate.open.set()
        await settled_on_loop(lambda: idle(server, ask))
        await server.transport.aclose()

    if world == "threads":
        assert ask.sync(server, token) == "alice"
        now.time += 24
        gate.open.clear()
        results = ["alice", *ask.threads(200, lambda: ask.sync(server, token))]
        assert (issuer.requests["introspection"], idle(server, ask)) == (1, False)
        gate.open.set()
        settled(lambda: idle(server, ask))
    else:
        asyncio.run(main()) if world == "asyncio" else trio.run(main)
    assert results == ["alice"] * 201
    assert issuer.requests["introspection"] == 2
    settled(lambda: server.events.counts["answer_refreshed"] == 1)
    now.time += 22
    assert ask.sync(server, token) == "alice"
    assert issuer.requests["introspection"] == 2
    server.close()


@pytest.mark.parametrize("world", ["threads", "asyncio", "trio"])
def test_a_revoked_token_dies_with_its_renewal(
    issuer: Issuer, server: ResourceServer, ask: Any, now: Now, world: str
) -> None:
    """In every world the work is really done."""
    token = issuer.opaque()

    async def main() -> Any:
        try:
            assert await ask.on_loop(server, token) == "alice"
            issuer.revoke(token)
            now.time += 24
            assert await ask.on_loop(server, token) == "alice"
            await settled_on_loop(lambda: idle(server, ask))
            return await ask.on_loop(server, token)
        finally:
            await server.transport.aclose()

    if world == "threads":
        assert ask.sync(server, token) == "alice"
        issuer.revoke(token)
        now.time += 24
        assert ask.sync(server, token) == "alice"
        settled(lambda: idle(server, ask))
        assert ask.sync(server, token) == 401
    else:
        assert (asyncio.run(main()) if world == "asyncio" else trio.run(main)) == 401
    assert issuer.requests["introspection"] == 2


@pytest.mark.parametrize("world", ["asyncio", "trio"])
def test_a_loop_that_ends_hands_its_renewal_over(ask: Any, now: Now, world: str) -> None:
    """A cancelled leader: who waits for it in another thread asks for itself."""
    issuer = Issuer()
    settings = Settings(**issuer.settings(http_timeout=30))
    server = ResourceServer(settings, clock=now, transport=issuer.transport())
    token = issuer.opaque()
    assert ask.sync(server, token) == "alice"
    issuer.fail("introspection", delay=1.0)
    now.time += 24
    results: list[Any] = []
    follower = threading.Thread(target=lambda: results.append(ask.sync(server, token)))

    async def main() -> None:
        assert await ask.on_loop(server, token) == "alice"
        await settled_on_loop(lambda: issuer.requests["introspection"] == 2)
        now.time += 7  # the old answer is over
        follower.start()
        await anyio.sleep(0.2)
        issuer.recover()

    asyncio.run(main()) if world == "asyncio" else trio.run(main)
    follower.join(60)
    assert results == ["alice"]
    assert idle(server, ask)
    server.close()


def test_a_cancelled_caller_does_not_stop_its_renewal(
    issuer: Issuer, server: ResourceServer, ask: Any, now: Now
) -> None:
    """Its client hung up; the work goes on."""
    token = issuer.opaque()

    async def main() -> None:
        await ask.on_loop(server, token)
        issuer.fail("introspection", delay=0.3)
        now.time += 24

        async def serve() -> None:
            assert await ask.on_loop(server, token) == "alice"
            await asyncio.sleep(60)

        caller = asyncio.create_task(serve())
        await settled_on_loop(lambda: issuer.requests["introspection"] == 2)
        caller.cancel()
        await settled_on_loop(lambda: server.events.counts["answer_refreshed"] == 1)
        await server.transport.aclose()

    asyncio.run(main())
    assert issuer.requests["introspection"] == 2
    assert server.events.counts["answer_refreshed"] == 1


class Counting:
    """The issuer in process, which notes how many ask it at once."""

    def __init__(self, issuer: Issuer) -> None:
        self.transport, self.lock = issuer.transport(), threading.Lock()
        self.now, self.most, self.slow = 0, 0, False

    def handle_request(self, request: Any) -> Any:
        with self.lock:
            self.now += 1
            self.most = max(self.most, self.now)
        try:
            if self.slow:
                time.sleep(0.5)
            return self.transport.handle_request(request)
        finally:
            with self.lock:
                self.now -= 1

    def close(self) -> None: ...


def test_a_thousand_tokens_at_once(ask: Any, now: Now) -> None:
    """Ten threads at the most ask about them; their callers do not."""
    issuer = Issuer()
    counting = Counting(issuer)
    server = ResourceServer(Settings(**issuer.settings()), clock=now, transport=counting)
    tokens = [issuer.opaque() for _ in range(1_000)]
    for token in tokens:
        ask.sync(server, token)
    counting.most, counting.slow = 0, True
    now.time += 24
    left = list(tokens)
    results = ask.threads(50, lambda: [ask.sync(server, left.pop()) for _ in range(20)])
    assert results == [["alice"] * 20] * 50
    settled(lambda: idle(server, ask))
    assert 1 < counting.most <= 10
    counts = server.events.counts
    settled(lambda: counts["refresh_shed"] + counts["answer_refreshed"] == 1_000)
    server.close()
