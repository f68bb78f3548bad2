"""Extension points: validator, claim mapper, listener, cache and clock, in both worlds."""

from __future__ import annotations

import functools
import logging
from collections.abc import Callable, Generator
from typing import Any

import pytest

from bearer_middleware import ConfigError, Identity, ResourceServer, WSGIBearerMiddleware
from bearer_middleware.errors import InvalidToken, Reason
from bearer_middleware.flow.effects import Call
from bearer_middleware.testing import Issuer

Make = Callable[..., ResourceServer]
Ask = Callable[..., Any]


def plain(function: Any) -> Any:
    """As it is."""
    return function


def asynchronous(function: Any) -> Any:
    """As a coroutine function."""

    async def call(*arguments: Any) -> Any:
        return function(*arguments)

    return call


def flow(function: Any) -> Any:
    """As a flow that asks for something."""

    def call(*arguments: Any) -> Generator[Any, Any, Any]:
        return (yield from Call(function, arguments))

    return call


def of_object(function: Any) -> Any:
    """As an object that counts as false."""

    class Extension:
        def __call__(self, *arguments: Any) -> Any:
            return function(*arguments)

        def __len__(self) -> int:
            return 0

    return Extension()


KINDS = [plain, asynchronous, flow]


@pytest.fixture(params=KINDS, ids=lambda kind: kind.__name__)
def kind(request: pytest.FixtureRequest, world: str) -> Any:
    """Each kind of extension that this world can call."""
    return request.param


def own_tokens(token: str) -> Identity | None:
    """A validator for tokens of another kind."""
    if token == "revoked":
        raise InvalidToken(Reason.INACTIVE, "on our list")
    return Identity(subject="by-validator", scopes=["read"]) if token == "own" else None


def test_a_validator_comes_first(ask: Ask, make: Make, kind: Any, issuer: Issuer) -> None:
    """It takes what is its own, refuses what it knows to be bad, and leaves the rest."""
    server = make(validators=[kind(own_tokens)])
    for _ in range(2):
        assert ask(server, "own").identity.subject == "by-validator"
        refused = ask(server, "revoked")
        assert (refused.status, refused.reached) == (401, False)
    assert sum(issuer.requests.values()) == 0
    assert ask(server, issuer.jwt()).identity.subject == "alice"
    assert ask(server, issuer.opaque()).identity.subject == "alice"
    assert ask(server, "unknown").status == 401


@pytest.mark.parametrize("token_kind", ["jwt", "opaque"])
def test_a_validator_is_asked_on_every_request(
    ask: Ask, make: Make, kind: Any, issuer: Issuer, token_kind: str
) -> None:
    """Also about a token that is remembered as good (lua-resty-openidc 569)."""
    denied: set[str] = set()

    def deny(token: str) -> None:
        if token in denied:
            raise InvalidToken(Reason.INACTIVE)

    server = make(validators=[kind(deny)])
    token = getattr(issuer, token_kind)()
    assert [ask(server, token).status for _ in range(3)] == [200] * 3
    denied.add(token)
    assert [ask(server, token).status for _ in range(3)] == [401] * 3


def test_validators_are_asked_in_order(ask: Ask, make: Make, issuer: Issuer) -> None:
    """The first that knows the token decides."""
    asked: list[str] = []

    def named(name: str, identity: Identity | None) -> Any:
        def validate(token: str) -> Identity | None:
            asked.append(name)
            return identity

        return validate

    one = Identity(subject="one")
    server = make(validators=[named("a", None), named("b", one), named("c", one)])
    assert ask(server, "x").identity.subject == "one"
    assert asked == ["a", "b"]


def test_scopes_bind_the_identity_of_a_validator(ask: Ask, make: Make) -> None:
    """Whoever made it: what every request needs, it needs."""
    server = make({"required_scopes": "write"}, validators=[own_tokens])
    assert ask(server, "own").status == 403


@pytest.mark.parametrize("token_kind", ["jwt", "opaque"])
def test_a_mapper_changes_the_identity(
    ask: Ask, make: Make, kind: Any, issuer: Issuer, token_kind: str
) -> None:
    """On every request, and the memory keeps what the token said."""
    count = [0]

    def number(identity: Identity) -> Identity:
        count[0] += 1
        return identity.replace(subject=f"{identity.subject}-{count[0]}", scopes=["mapped"])

    server = make({"required_scopes": "mapped"}, claim_mapper=kind(number))
    token = getattr(issuer, token_kind)()
    identities = [ask(server, token).identity for _ in range(3)]
    assert [identity.subject for identity in identities] == ["alice-1", "alice-2", "alice-3"]
    assert identities[0].claims["sub"] == "alice"


@pytest.mark.parametrize("token_kind", ["jwt", "opaque"])
def test_a_mapper_knows_which_scope_implies_another(
    ask: Ask, make: Make, kind: Any, issuer: Issuer, token_kind: str
) -> None:
    """ERR-11: whoever has a hierarchy of scopes writes it down there, for API and routes alike."""
    implied = {"files:write": {"files:read"}}

    def widen(identity: Identity) -> Identity:
        more = (implied.get(scope, set()) for scope in identity.scopes)
        return identity.replace(scopes=identity.scopes.union(*more))

    server = make({"required_scopes": "files:read"}, claim_mapper=kind(widen))
    token = getattr(issuer, token_kind)(scope="files:write")
    for _ in range(2):
        assert ask(server, token).identity.scopes == {"files:read", "files:write"}
    assert ask(server, getattr(issuer, token_kind)(scope="files:list")).status == 403


def test_a_listener_hears(ask: Ask, make: Make, kind: Any, issuer: Issuer) -> None:
    """What happened, the second time as the first, in words of ours."""
    heard: list[Any] = []
    server = make({"required_scopes": "write"}, listener=kind(heard.append))
    token = issuer.jwt(scope="read")
    for _ in range(3):
        assert ask(server, token).status == 403
    refusals = [event for event in heard if event.name == "refused"]
    assert [event.reason for event in refusals] == [Reason.INSUFFICIENT_SCOPE] * 3
    assert any(event.name == "keys_refreshed" for event in heard)


def test_a_clock_holds_everywhere(ask: Ask, make: Make, issuer: Issuer, clock: Any) -> None:
    """``exp`` of a token and the memory of an answer go by the clock that was given."""
    server = make()
    jwt, opaque = issuer.jwt(exp=clock() + 60), issuer.opaque()
    assert ask(server, jwt).status == ask(server, opaque).status == 200
    clock.advance(22)
    assert ask(server, opaque).status == 200
    assert issuer.requests["introspection"] == 1
    clock.advance(67)
    assert ask(server, jwt).status == 200  # the leeway
    clock.advance(2)
    assert ask(server, jwt).status == 401
    assert ask(server, opaque).status == 200
    assert issuer.requests["introspection"] == 2


class Broken:
    """A cache whose methods raise."""

    def get(self, key: str) -> bytes:
        raise ConnectionError(f"canary {key}")

    def set(self, key: str, value: bytes, seconds: float) -> None:
        raise ConnectionError(f"canary {key}")


def _raising(*_: Any) -> Any:
    raise LookupError("canary")


def _stopping(*_: Any) -> Any:
    raise StopIteration("canary")


@pytest.mark.parametrize("failure", [_raising, _stopping])
@pytest.mark.parametrize("point", ["validators", "claim_mapper"])
def test_an_extension_that_raises_lets_nobody_in(
    ask: Ask, make: Make, kind: Any, *, issuer: Issuer, point: str, failure: Any
) -> None:
    """503: it is not the token's fault, and not to be passed over."""
    extension = kind(failure)
    server = make(**{point: [extension] if point == "validators" else extension})
    reply = ask(server, issuer.jwt())
    assert (reply.status, reply.reached) == (503, False)
    assert "www-authenticate" not in reply.headers
    assert b"canary" not in reply.body
    assert server.events.counts[Reason.EXTENSION_FAILED] == 1


@pytest.mark.parametrize("result", [None, "alice", {"sub": "alice"}, True, 0])
def test_a_mapper_that_returns_no_identity_lets_nobody_in(
    ask: Ask, make: Make, issuer: Issuer, result: Any
) -> None:
    """``None`` too: a forgotten ``return`` must not make an anonymous caller of a user."""
    reply = ask(make(claim_mapper=lambda identity: result), issuer.jwt())
    assert (reply.status, reply.reached) == (503, False)


@pytest.mark.parametrize("result", ["alice", {"sub": "alice"}, True, 0, b""])
def test_a_validator_that_returns_no_identity_lets_nobody_in(
    ask: Ask, make: Make, issuer: Issuer, result: Any
) -> None:
    """Only ``None`` means: ask the next."""
    assert ask(make(validators=[lambda token: result]), issuer.jwt()).status == 503


def test_a_listener_that_raises_changes_nothing(
    ask: Ask, make: Make, kind: Any, issuer: Issuer, caplog: pytest.LogCaptureFixture
) -> None:
    """It is logged by its class, and decides over nobody."""
    server = make(listener=kind(_raising))
    assert ask(server, issuer.jwt()).status == 200
    assert ask(server, "unknown").status == 401
    assert "LookupError" in caplog.text
    assert "canary" not in caplog.text


def test_a_cache_that_raises_is_a_miss(
    ask: Ask, make: Make, issuer: Issuer, caplog: pytest.LogCaptureFixture
) -> None:
    """The server is asked, and the log has the class alone."""
    server = make({"fleet_secret": "f" * 64}, cache=Broken())
    with caplog.at_level(logging.DEBUG):
        assert ask(server, issuer.opaque()).status == 200
    assert server.events.counts["cache_failed"] == 2
    assert "ConnectionError" in caplog.text
    assert "canary" not in caplog.text


class AsyncCache:
    """A cache for loops only."""

    async def get(self, key: str) -> bytes | None:
        return None

    async def set(self, key: str, value: bytes, seconds: float) -> None: ...


class AsyncCall:
    """An object that has to be awaited."""

    async def __call__(self, *_: Any) -> Any: ...


@pytest.mark.parametrize(
    "extensions",
    [
        {"validators": [own_tokens, asynchronous(own_tokens)]},
        {"validators": [AsyncCall()]},
        {"validators": [functools.partial(asynchronous(own_tokens))]},
        {"claim_mapper": asynchronous(plain)},
        {"claim_mapper": AsyncCall()},
        {"listener": asynchronous(plain)},
        {"cache": AsyncCache(), "settings": {"fleet_secret": "f" * 64}},
    ],
    ids=str,
)
def test_wsgi_refuses_async_extensions_when_it_is_built(
    make: Make, extensions: dict[str, Any]
) -> None:
    """Not at the first request."""
    server = make(**extensions)
    with pytest.raises(ConfigError, match="async extension"):
        WSGIBearerMiddleware(lambda *_: [], server=server)


def test_an_async_extension_that_hides_lets_nobody_in(make: Make, issuer: Issuer) -> None:
    """A plain function that returns something to await: 503 over WSGI, and no warning of it."""
    from bearer_middleware.errors import Unavailable
    from bearer_middleware.flow.drivers import run

    hidden = asynchronous(own_tokens)

    def looks_plain(token: str) -> Any:
        return hidden(token)

    server = make(validators=[looks_plain])
    with pytest.raises(Unavailable) as refused:
        run(server.authenticate([b"Bearer own"]), server.transport)
    assert refused.value.reason is Reason.EXTENSION_FAILED


@pytest.mark.parametrize("token_kind", ["jwt", "opaque"])
def test_an_extension_may_count_as_false(
    ask: Ask, make: Make, issuer: Issuer, token_kind: str
) -> None:
    """An object with ``__len__`` is an extension, however empty it is."""
    mapper = of_object(lambda identity: identity.replace(subject="mapped"))
    server = make(claim_mapper=mapper)
    token = getattr(issuer, token_kind)()
    assert [ask(server, token).identity.subject for _ in range(3)] == ["mapped"] * 3
