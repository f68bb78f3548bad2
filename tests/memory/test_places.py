"""What is remembered of tokens: in three places, bounded, for as long as it is good."""

from __future__ import annotations

import gc
from collections.abc import Callable
from typing import Any

import pytest

from bearer_middleware import ResourceServer
from bearer_middleware.errors import InvalidToken, Reason
from bearer_middleware.flow.clock import Clock
from bearer_middleware.memory.places import Refusals
from bearer_middleware.testing import Issuer

Make = Callable[..., ResourceServer]
Ask = Callable[..., Any]


def test_refusals_are_copies() -> None:
    """An exception that was raised would keep the frames of its request alive."""
    refusals = Refusals(10, Clock(lambda: 0.0, lambda: 0.0))
    error = InvalidToken(Reason.INACTIVE, "d", issuer="i")
    refusals.remember(b"d", error, 5)
    kept = refusals.get(b"d")
    assert kept is not None
    assert kept.error is not error
    assert kept.error.__traceback__ is None


@pytest.mark.parametrize("seconds", [0, -1])
def test_no_time_is_no_memory(seconds: float) -> None:
    """What may not be kept is not."""
    refusals = Refusals(10, Clock(lambda: 0.0, lambda: 0.0))
    refusals.remember(b"d", InvalidToken(Reason.INACTIVE), seconds)
    assert refusals.get(b"d") is None


@pytest.mark.parametrize("token_kind", ["jwt", "opaque"])
def test_every_place_is_bounded(ask: Ask, make: Make, issuer: Issuer, token_kind: str) -> None:
    """``BEARER_CACHE_SIZE`` each."""
    server = make({"cache_size": 5})
    for _ in range(20):
        assert ask(server, getattr(issuer, token_kind)()).status == 200
    assert max(len(server.memory.verified), len(server.memory.introspected)) == 5


def test_a_verified_jwt_is_remembered_for_its_time(
    ask: Ask, make: Make, issuer: Issuer, clock: Any
) -> None:
    """And never past ``exp``."""
    server = make({"jwt_cache_ttl": 60})
    long, short = issuer.jwt(), issuer.jwt(exp=clock() + 10)
    ask(server, long), ask(server, short)
    entries = [entry for entry in server.memory.verified._entries if entry is not None]
    assert sorted(entry[2] - clock() for entry in entries) == [10, 60]


def test_no_memory_of_jwts(ask: Ask, make: Make, issuer: Issuer) -> None:
    """``BEARER_JWT_CACHE_TTL=0``: each is verified every time."""
    server = make({"jwt_cache_ttl": 0})
    token = issuer.jwt()
    assert [ask(server, token).status for _ in range(3)] == [200] * 3
    assert len(server.memory.verified) == 0


def test_what_a_handler_does_to_claims_stays_there(ask: Ask, make: Make, issuer: Issuer) -> None:
    """Each request has claims of its own, all the way down."""
    server = make()
    token = issuer.jwt(groups=["a"], nested={"x": [1]})
    first = ask(server, token).identity.claims
    first["groups"].append("admin")
    first["nested"]["x"].append(2)
    with pytest.raises(TypeError):
        first["sub"] = "admin"
    second = ask(server, token).identity
    assert second.claims["groups"] == ["a"]
    assert second.claims["nested"] == {"x": [1]}
    assert second.groups == {"a"}


@pytest.mark.parametrize("shape", ["{0}", "{0}.x", "{0}.a.b.c", "{0}.a.b.c.d"])
def test_what_a_token_is_does_not_depend_on_what_was_seen(
    ask: Ask, make: Make, issuer: Issuer, shape: str
) -> None:
    """The headers of good tokens are remembered; that makes no JWT of an opaque token."""
    jwt = issuer.jwt()
    opaque = issuer.opaque(token=shape.format(jwt.partition(".")[0]))
    fresh, warm = make(), make()
    assert ask(warm, jwt).status == 200
    assert ask(fresh, opaque).status == ask(warm, opaque).status


def test_a_cache_belongs_to_one_configuration(ask: Ask, make: Make, issuer: Issuer) -> None:
    """Two servers in one process share nothing."""
    token = issuer.jwt()
    assert ask(make(), token).status == 200
    assert ask(make({"audience": "other"}), token).status == 401


def test_remembering_costs_the_collector_nothing(ask: Ask, make: Make, issuer: Issuer) -> None:
    """Entries are tuples of atoms, which it stops looking at."""
    server = make()
    for token_kind in ("jwt", "opaque"):
        ask(server, getattr(issuer, token_kind)())
    gc.collect()
    for ring in (server.memory.verified, server.memory.introspected):
        entries = [entry for entry in ring._entries if entry is not None]
        assert entries
        assert not any(gc.is_tracked(entry) for entry in entries)


def test_a_representation_shows_counts_alone(ask: Ask, make: Make, issuer: Issuer) -> None:
    """Neither digests nor claims."""
    server = make()
    ask(server, issuer.jwt(sub="canary"))
    assert repr(server.memory) == "<Memory of 1 JWTs and 0 answers>"
