"""Forks, greenlets, loops that come and go, and what building a middleware must not do."""

from __future__ import annotations

import asyncio
import importlib
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import trio

from bearer_middleware import BearerMiddleware, ResourceServer, Settings, WSGIBearerMiddleware
from bearer_middleware.testing import Issuer

ROOT = Path(__file__).parents[2]
FORKS = [
    pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here"),
    pytest.mark.filterwarnings("ignore:This process:DeprecationWarning"),
]
InChild = Callable[[Callable[[], bool]], int]


class TestFork:
    """A warm server in a forked child, as under gunicorn's ``--preload``."""

    pytestmark = FORKS

    def test_children_know_and_ask(
        self, issuer: Issuer, server: ResourceServer, ask: Any, in_child: InChild
    ) -> None:
        """What was cached is there, and what was not is asked over connections of their own."""
        cached, jwt = issuer.opaque(), issuer.jwt()
        assert ask.sync(server, cached) == ask.sync(server, jwt) == "alice"
        fresh = [issuer.opaque() for _ in range(3)]
        asked = issuer.requests["introspection"]

        def child() -> bool:
            known = ask.sync(server, cached) == ask.sync(server, jwt) == "alice"
            return known and all(ask.sync(server, token) == "alice" for token in fresh)

        assert [in_child(child) for _ in range(4)] == [0] * 4
        assert issuer.requests["introspection"] == asked + 12
        assert ask.sync(server, fresh[0]) == "alice"  # and the parent's connection is intact

    def test_children_with_loops(
        self, issuer: Issuer, server: ResourceServer, ask: Any, in_child: InChild
    ) -> None:
        """A parent that used a loop, and children that use theirs."""
        token, fresh = issuer.opaque(), issuer.opaque()

        async def visit(token: str) -> Any:
            try:
                return await ask.on_loop(server, token)
            finally:
                await server.transport.aclose()

        assert asyncio.run(visit(token)) == "alice"
        assert in_child(lambda: asyncio.run(visit(fresh)) == "alice") == 0
        assert in_child(lambda: trio.run(visit, fresh) == "alice") == 0
        assert in_child(lambda: ask.sync(server, fresh) == "alice") == 0

    @pytest.mark.parametrize("where", ["answers", "keys", "ring", "verified", "refusals"])
    def test_a_lock_that_was_held_at_the_fork(
        self, issuer: Issuer, server: ResourceServer, ask: Any, in_child: InChild, where: str
    ) -> None:
        """The thread that held it is not in the child, which would wait for ever."""
        keys: Any = server.trusted.servers[0].keys
        lock = {
            "answers": server._answers._flights._lock,
            "keys": keys._flights._lock,
            "ring": server.memory.introspected._lock,
            "verified": server.memory.verified._lock,
            "refusals": server.memory.refusals._lock,
        }[where]
        assert ask.sync(server, issuer.opaque()) == ask.sync(server, issuer.jwt()) == "alice"
        assert ask.sync(server, "unknown") == 401
        held, let_go = threading.Event(), threading.Event()

        def hold() -> None:
            with lock:
                held.set()
                let_go.wait(60)

        thread = threading.Thread(target=hold)
        thread.start()
        held.wait(10)
        issuer.rotate()
        tokens = issuer.opaque(), issuer.jwt()

        def child() -> bool:
            return [ask.sync(server, token) for token in (*tokens, "bad")] == ["alice"] * 2 + [401]

        try:
            assert in_child(child) == 0
        finally:
            let_go.set()
            thread.join()

    def test_a_flight_that_was_in_the_air_at_the_fork(
        self, issuer: Issuer, server: ResourceServer, ask: Any, in_child: InChild
    ) -> None:
        """Its leader is not in the child, which asks for itself."""
        token = issuer.opaque()
        issuer.fail("introspection", delay=1.5, times=1)
        results: list[Any] = []
        leader = threading.Thread(target=lambda: results.append(ask.sync(server, token)))
        leader.start()
        while not issuer.requests["introspection"]:
            time.sleep(0.01)
        # The threads of the issuer live in this process too: fork while they and the leader
        # wait, since what they hold in the midst of their own work is no business of ours.
        time.sleep(0.3)
        assert results == []
        assert in_child(lambda: ask.sync(server, token) == "alice") == 0
        leader.join()
        assert results == ["alice"]
        assert issuer.requests["introspection"] == 2

    def test_a_child_of_a_child(
        self, issuer: Issuer, server: ResourceServer, ask: Any, in_child: InChild
    ) -> None:
        """As deep as anybody forks."""
        assert ask.sync(server, issuer.jwt()) == "alice"
        token = issuer.opaque()

        def child() -> bool:
            return ask.sync(server, token) == "alice" and in_child(grandchild) == 0

        def grandchild() -> bool:
            return bool(ask.sync(server, issuer.jwt()) == "alice")

        assert in_child(child) == 0


@pytest.mark.parametrize("world", ["asyncio", "trio"])
def test_loops_come_and_go(issuer: Issuer, server: ResourceServer, ask: Any, world: str) -> None:
    """One server, a new loop for every request, closed as at lifespan's end."""

    async def visit() -> Any:
        try:
            opaque = await ask.on_loop(server, issuer.opaque())
            return opaque, await ask.on_loop(server, issuer.jwt())
        finally:
            await server.aclose()

    for _ in range(10):
        answers = asyncio.run(visit()) if world == "asyncio" else trio.run(visit)
        assert answers == ("alice", "alice")
    assert not server.transport._loops


def test_many_loops_in_many_threads(issuer: Issuer, server: ResourceServer, ask: Any) -> None:
    """Loops that start and end beside each other do not get each other's connections."""

    async def visit() -> Any:
        try:
            return await ask.on_loop(server, issuer.opaque())
        finally:
            await server.aclose()

    def thread() -> list[Any]:
        return [asyncio.run(visit()) for _ in range(5)]

    assert ask.threads(8, thread) == [["alice"] * 5] * 8


FORBIDDEN = [
    (threading, "Lock"),
    (threading, "RLock"),
    (threading, "Condition"),
    (threading, "Event"),
    (threading, "Thread"),
    (threading, "local"),
    (socket, "socket"),
    (socket, "create_connection"),
    (socket, "getaddrinfo"),
    (asyncio, "Lock"),
    (asyncio, "Event"),
    (asyncio, "new_event_loop"),
    (asyncio, "get_event_loop"),
]


@pytest.mark.parametrize("middleware", [BearerMiddleware, WSGIBearerMiddleware])
@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"client_auth": "client_secret_jwt", "jwt_validation": "both"},
        {"jwt_validation": "introspect", "introspection_signed": True},
        {"hmac_secret": "s" * 64},
        pytest.param(
            {"cache_url": "redis://cache.test", "fleet_secret": "f" * 64},
            marks=pytest.mark.needs("redis"),
        ),
    ],
)
def test_building_creates_nothing(
    monkeypatch: pytest.MonkeyPatch, middleware: Any, changes: dict[str, Any]
) -> None:
    """No lock, thread, client or loop-bound object, and no network: it survives fork and gevent."""
    issuer = Issuer()
    keywords = issuer.settings(**changes)
    if "cache_url" in changes:
        importlib.import_module("redis")  # what a client makes while it is imported is its own

    def forbidden(*_: Any, **__: Any) -> Any:
        raise AssertionError("building a middleware must not need this")

    with monkeypatch.context() as patch:
        for module, name in FORBIDDEN:
            patch.setattr(module, name, forbidden)
        built = middleware(lambda *_: None, **keywords)
        ResourceServer(Settings(**keywords), transport=issuer.transport())
    assert built.server.transport._clients == {}
    assert len(built.server.transport._loops) == 0
    assert sum(issuer.requests.values()) == 0


GEVENT = """
from gevent import monkey; {early}
import gevent, sys, time
from bearer_middleware import ResourceServer, Settings
from bearer_middleware.errors import Refused
from bearer_middleware.flow.drivers import run
from bearer_middleware.testing import Issuer
{late}

def ask(token):
    try:
        return run(server.authenticate([b"Bearer " + token.encode()]), server.transport).subject
    except Refused as refusal:
        return refusal.status

with Issuer().serve() as issuer:
    server = ResourceServer(Settings(**issuer.settings(http_timeout=30)))
    token = issuer.opaque()
    issuer.fail("introspection", delay=0.5)
    greenlets = [gevent.spawn(ask, token) for _ in range(200)]
    gevent.joinall(greenlets, timeout=60)
    assert [one.value for one in greenlets] == ["alice"] * 200, "all are let in"
    assert issuer.requests["introspection"] == 1, issuer.requests

    tokens = [issuer.jwt() for _ in range(100)]
    greenlets = [gevent.spawn(ask, token) for token in tokens]
    gevent.joinall(greenlets, timeout=60)
    assert [one.value for one in greenlets] == ["alice"] * 100
    assert (issuer.requests["metadata"], issuer.requests["jwks"]) <= (2, 1), issuer.requests

    token = issuer.opaque()
    issuer.fail("introspection", delay=1.0)
    leader = gevent.spawn(ask, token)
    gevent.sleep(0.3)
    followers = [gevent.spawn(ask, token) for _ in range(20)]
    gevent.sleep(0.1)
    issuer.recover()
    leader.kill()
    gevent.joinall(followers, timeout=60)
    assert [one.value for one in followers] == ["alice"] * 20, [one.value for one in followers]
    assert issuer.requests["introspection"] == 3, issuer.requests
    assert not server._answers._flights._flights

    token = issuer.opaque()
    issuer.fail("introspection", delay=0.5)
    with gevent.Timeout(0.1, False):
        ask(token)
    assert not server._answers._flights._flights
    issuer.recover()
    assert ask(token) == "alice"
    server.transport.close()
print("fine")
"""


@pytest.mark.needs("gevent")
@pytest.mark.parametrize("when", ["early", "late"])
def test_greenlets(when: str) -> None:
    """Two hundred greenlets, one exchange; killed leaders hand over; patched before or after."""
    patch = "monkey.patch_all()"
    program = GEVENT.format(**{"early": "", "late": "", when: patch})
    ended = subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        timeout=110,
        check=False,
    )
    assert ended.stdout.strip() == "fine", ended.stderr[-3000:]
