"""The shared cache: who can read it learns nothing, who can write it gains nothing."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import anyio
import pytest

from bearer_middleware import ConfigError, ResourceServer
from bearer_middleware.errors import Refused
from bearer_middleware.flow.drivers import arun, run
from bearer_middleware.flow.effects import Background
from bearer_middleware.testing import Issuer

Make = Callable[..., ResourceServer]
Ask = Callable[..., Any]
SECRET = {"fleet_secret": "f" * 64}


class Store:
    """A dictionary, as a cache of several processes; ``kind`` is how its methods answer."""

    def __init__(self) -> None:
        self.data: dict[str, bytes] = {}
        self.seconds: list[float] = []

    def get(self, key: str) -> bytes | None:
        return self.data.get(key)

    def set(self, key: str, value: bytes, seconds: float) -> None:
        self.data[key] = value
        self.seconds.append(seconds)


class LoopStore(Store):
    """The same for loops."""

    async def get(self, key: str) -> bytes | None:  # type: ignore[override]
        return self.data.get(key)

    async def set(self, key: str, value: bytes, seconds: float) -> None:  # type: ignore[override]
        self.data[key] = value
        self.seconds.append(seconds)


@pytest.fixture
def store(world: str, request: pytest.FixtureRequest) -> Store:
    """Asynchronous on a loop."""
    return LoopStore() if world == "asgi" else Store()


def asked(issuer: Issuer) -> int:
    """How often the introspection endpoint was."""
    return issuer.requests["introspection"]


def test_it_needs_a_fleet_secret(make: Make, store: Store) -> None:
    """Without one anybody who can write the store could mint identities."""
    with pytest.raises(ConfigError, match="BEARER_FLEET_SECRET"):
        make(cache=store)


def test_another_process_uses_the_answer(
    ask: Ask, make: Make, store: Store, issuer: Issuer
) -> None:
    """With the same secret and settings: one exchange for the fleet."""
    token = issuer.opaque(sub="bob", scope="a b")
    identities = [ask(make(SECRET, cache=store), token).identity for _ in range(4)]
    assert asked(issuer) == 1
    assert {identity.subject for identity in identities} == {"bob"}
    assert identities[0] == identities[3]
    assert store.seconds == [30.0]


@pytest.mark.parametrize(
    "other",
    [
        {"fleet_secret": "g" * 64},
        {"audience": "api, other"},
        {"introspection_audience": "any"},
        {"introspection_ttl": 5},
        {"client_id": "somebody-else", "introspection_audience": "any"},
        {"issuer": None, "introspection_url": "https://issuer.test/introspect"},
    ],
    ids=str,
)
def test_another_configuration_does_not(
    ask: Ask, make: Make, store: Store, issuer: Issuer, other: dict[str, Any]
) -> None:
    """INT-7: everything that decides what an answer means is in the key (heimdall 3445,
    oathkeeper 198a2bc8, quarkus 56319, lua-resty-openidc 399).
    """
    token = issuer.opaque()
    assert ask(make(SECRET, cache=store), token).status == 200
    ask(make({**SECRET, **other}, cache=store), token)
    assert asked(issuer) == 2


def _flipped(value: bytes, position: int) -> bytes:
    return value[:position] + bytes([value[position] ^ 1]) + value[position + 1 :]


TAMPERINGS: dict[str, Callable[[bytes], Any]] = {
    "first bit": lambda value: _flipped(value, 0),
    "last bit": lambda value: _flipped(value, len(value) - 1),
    "deadline": lambda value: _flipped(value, 32),
    "another subject": lambda value: value.replace(b"alice", b"admin"),
    "longer": lambda value: value + b" ",
    "shorter": lambda value: value[:-1],
    "without the mac": lambda value: value[32:],
    "the mac alone": lambda value: value[:32],
    "nothing": lambda value: b"",
    "huge": lambda value: value + b" " * 1_000_000,
    "text": lambda value: value.decode("latin-1"),
    "a number": lambda value: 7,
    "a list": lambda value: [value],
    "plain JSON": lambda value: json.dumps({"active": True, "sub": "admin"}).encode(),
}


@pytest.mark.parametrize("tamper", TAMPERINGS.values(), ids=TAMPERINGS.keys())
def test_a_tampered_value_is_a_miss(
    ask: Ask, make: Make, store: Store, issuer: Issuer, tamper: Callable[[bytes], Any]
) -> None:
    """The authorization server is asked, and its answer put right."""
    token = issuer.opaque()
    ask(make(SECRET, cache=store), token)
    ((key, value),) = store.data.items()
    store.data[key] = tamper(value)
    assert ask(make(SECRET, cache=store), token).identity.subject == "alice"
    assert asked(issuer) == 2
    assert ask(make(SECRET, cache=store), token).status == 200
    assert asked(issuer) == 2


def test_a_value_moved_to_another_key_is_a_miss(
    ask: Ask, make: Make, store: Store, issuer: Issuer
) -> None:
    """One token's answer is no other's."""
    victim, attacker = issuer.opaque(sub="admin"), issuer.opaque(sub="mallory")
    server = make(SECRET, cache=store)
    ask(server, victim)
    ((victims_key, value),) = store.data.items()
    ask(server, attacker)
    (attackers_key,) = store.data.keys() - {victims_key}
    store.data[attackers_key] = value
    assert ask(make(SECRET, cache=store), attacker).identity.subject == "mallory"
    assert asked(issuer) == 3


def test_an_old_value_is_a_miss(
    ask: Ask, make: Make, store: Store, issuer: Issuer, clock: Any
) -> None:
    """Also where the store forgot to forget it, or somebody put it back."""
    token = issuer.opaque()
    ask(make(SECRET, cache=store), token)
    issuer.revoke(token)
    clock.advance(29)
    assert ask(make(SECRET, cache=store), token).status == 200
    clock.advance(2)
    assert ask(make(SECRET, cache=store), token).status == 401


class HangingStore(LoopStore):
    """One that has lost its server, and waits for it for ever."""

    async def get(self, key: str) -> bytes | None:  # type: ignore[override]
        await anyio.sleep_forever()

    async def set(self, key: str, value: bytes, seconds: float) -> None:  # type: ignore[override]
        await anyio.sleep_forever()


@pytest.mark.parametrize("http_timeout", [0.4, 1.4])
@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_a_cache_that_hangs_is_a_miss(
    make: Make, issuer: Issuer, backend: str, http_timeout: float
) -> None:
    """There is time left to ask the server, whether the answer is shared apart or not."""
    server = make({**SECRET, "http_timeout": http_timeout}, cache=HangingStore())
    header = b"Bearer " + issuer.opaque(sub="bob").encode()

    async def ask_once() -> Any:
        with anyio.fail_after(30):
            return await arun(server.authenticate([header]), server.transport)

    assert anyio.run(ask_once, backend=backend).subject == "bob"
    assert asked(issuer) == 1


def test_an_answer_serves_no_longer_for_being_shared(
    ask: Ask, make: Make, store: Store, issuer: Issuer, clock: Any
) -> None:
    """Its time runs from the exchange, not from when it was found (oathkeeper 968)."""
    token = issuer.opaque()
    ask(make(SECRET, cache=store), token)
    clock.advance(20)
    second = make(SECRET, cache=store)
    assert ask(second, token).status == 200
    issuer.revoke(token)
    clock.advance(11)
    assert ask(second, token).status == 401


@pytest.mark.parametrize("leeway", [0.001, 30, 120])
def test_never_past_exp_int_5(
    ask: Ask, make: Make, store: Store, *, issuer: Issuer, clock: Any, leeway: float
) -> None:
    """INT-5: the leeway is for clocks, not for what was remembered."""
    settings = {**SECRET, "introspection_ttl": 300, "leeway": leeway}
    token = issuer.opaque(exp=clock() + 5)
    assert ask(make(settings, cache=store), token).status == 200
    clock.advance(4)
    assert ask(make(settings, cache=store), token).status == 200
    assert asked(issuer) == 1
    clock.advance(1)
    ask(make(settings, cache=store), token)
    assert asked(issuer) == 2


def test_refusals_are_not_shared(ask: Ask, make: Make, store: Store, issuer: Issuer) -> None:
    """Anybody could fill the store with them."""
    server = make(SECRET, cache=store)
    for number in range(20):
        assert ask(server, f"unknown-{number}").status == 401
    ask(server, issuer.opaque(aud="other"))
    assert store.data == {}


def test_nothing_is_shared_without_a_ttl(
    ask: Ask, make: Make, store: Store, issuer: Issuer
) -> None:
    """INT-6: asking every time means every time."""
    server = make({**SECRET, "introspection_ttl": 0}, cache=store)
    token = issuer.opaque()
    assert [ask(server, token).status for _ in range(3)] == [200] * 3
    assert asked(issuer) == 3
    assert store.data == {}


def test_what_is_shared_is_judged_again(ask: Ask, make: Make, store: Store, issuer: Issuer) -> None:
    """INT-8: by the rules of the process that uses it."""
    token = issuer.opaque(scope="read")
    assert ask(make(SECRET, cache=store), token).status == 200
    assert ask(make({**SECRET, "required_scopes": "write"}, cache=store), token).status == 403
    assert asked(issuer) == 1


def test_keys_and_values_without_the_token(
    ask: Ask, make: Make, store: Store, issuer: Issuer
) -> None:
    """A hash of the token alone would let a thief of the store test guesses of short ones."""
    import hashlib

    token = issuer.opaque(token="canary-token")
    ask(make(SECRET, cache=store), token)
    ((key, value),) = store.data.items()
    text = key + value.decode("latin-1")
    for guess in (b"canary-token", b"Bearer canary-token"):
        assert hashlib.sha256(guess).hexdigest() not in text
    assert "canary-token" not in text
    assert len(bytes.fromhex(key)) == 32


@pytest.mark.parametrize("mode", ["introspect", "both"])
def test_jwts_are_shared_too(ask: Ask, make: Make, store: Store, issuer: Issuer, mode: str) -> None:
    """Where their authorization server is asked; under ``both`` each process verifies first."""
    token = issuer.jwt()
    for _ in range(3):
        assert ask(make({**SECRET, "jwt_validation": mode}, cache=store), token).status == 200
    assert asked(issuer) == 1
    forged = token[:-8] + "AAAAAAAA"
    if mode == "both":
        assert ask(make({**SECRET, "jwt_validation": mode}, cache=store), forged).status == 401


class Processes:
    """Two servers over one store, whose renewals are done when the test says so."""

    def __init__(self, make: Make) -> None:
        self.store = Store()
        self.later: list[Callable[[], Any]] = []
        self.first, self.second = (make(SECRET, cache=self.store) for _ in range(2))

    def ask(self, server: ResourceServer, token: str) -> int:
        """As the WSGI middleware does, with background work set aside."""
        value = b"Bearer " + token.encode()
        try:
            if server.identify(value) is None:
                run(self._apart(server.authenticate([value])), server.transport)
        except Refused as refusal:
            return refusal.status
        return 200

    def _apart(self, flow: Any) -> Any:
        effect = next(flow)
        while True:
            try:
                if isinstance(effect, Background):
                    self.later.append(effect.start)
                    effect = flow.send(None)
                else:
                    effect = flow.send((yield effect))
            except StopIteration as done:
                return done.value

    def renew(self, server: ResourceServer) -> None:
        """Do the one renewal that was started."""
        (start,) = self.later
        self.later.clear()
        run(start(), server.transport)


@pytest.fixture
def processes(make: Make) -> Processes:
    """With one configuration."""
    return Processes(make)


def test_one_process_renews_for_all(processes: Processes, issuer: Issuer, clock: Any) -> None:
    """An answer is renewed by what another process was told meanwhile; its life is that one's."""
    token, first, second = issuer.opaque(), processes.first, processes.second
    assert processes.ask(first, token) == processes.ask(second, token) == 200
    assert asked(issuer) == 1
    clock.advance(24)
    for server in (first, second):
        assert processes.ask(server, token) == 200
        processes.renew(server)
        clock.advance(1)
    assert asked(issuer) == 2
    issuer.revoke(token)
    clock.advance(27.9)  # since the exchange
    assert processes.ask(second, token) == 200
    clock.advance(0.2)
    assert processes.ask(second, token) == 401


def test_a_renewal_does_not_believe_the_answer_it_has(
    processes: Processes, issuer: Issuer, clock: Any
) -> None:
    """What is shared still is what was known before: the server is asked."""
    token, first = issuer.opaque(), processes.first
    processes.ask(first, token)
    issuer.revoke(token)
    clock.advance(24)
    assert processes.ask(first, token) == 200
    processes.renew(first)
    assert asked(issuer) == 2
    assert processes.ask(first, token) == 401


def test_what_is_shared_does_not_bring_back_the_revoked(
    make: Make, issuer: Issuer, clock: Any
) -> None:
    """The refusal is remembered for as long as the old answer may be shared."""
    processes = Processes(lambda settings, **more: make({**settings, "negative_ttl": 1}, **more))
    token, first = issuer.opaque(), processes.first
    processes.ask(first, token)
    issuer.revoke(token)
    clock.advance(24)
    processes.ask(first, token)
    processes.renew(first)
    for _ in range(10):
        assert processes.ask(first, token) == 401
        clock.advance(1)
