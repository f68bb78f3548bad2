"""One good token for each row of the table of providers, and what an attacker would make of it."""

from __future__ import annotations

import pickle
from typing import Any

import pytest

from bearer_middleware import Settings
from bearer_middleware.errors import Reason
from bearer_middleware.policy.phrasing import Phrasing
from tests.providers.conftest import Make
from tests.providers.golden import GOLDEN, HOSTILE


def read_of(identity: Any, expected: dict[str, Any]) -> dict[str, Any]:
    """The same attributes of an identity, sets being equal to frozen ones."""
    return {name: getattr(identity, name) for name in expected}


@pytest.mark.parametrize("name", GOLDEN)
def test_a_good_token(name: str, make: Make) -> None:
    """It is accepted, and says who is calling; the second time it is remembered."""
    golden = GOLDEN[name]
    provider = make(golden.settings)
    token = provider.jwt(golden.claims)
    first, again = provider.identity(token), provider.identity(token)
    assert read_of(first, golden.identity) == golden.identity
    assert first.issuer == golden.identity.get("issuer", golden.claims["iss"])
    assert first.claims["iss"] == golden.claims["iss"]
    assert again == first
    assert provider.network.asked == [("GET", provider.first.jwks_url)]
    short = provider.server.identify(b"Bearer " + token.encode())
    assert short == first


@pytest.mark.parametrize("name", GOLDEN)
def test_policy_is_told_what_the_product_says(name: str, make: Make) -> None:
    """Roles, permissions and tenant are the policy's, wherever a product puts them."""
    golden = GOLDEN[name]
    provider = make(golden.settings)
    identity = provider.identity(provider.jwt(golden.claims))
    subject = Phrasing(Settings(issuer="https://as.test", audience="api")).subject(identity)
    assert subject is not None
    for told in ("roles", "permissions", "tenant"):
        wanted = getattr(identity, told)
        if isinstance(wanted, frozenset):
            wanted = sorted(wanted) or None
        assert subject.properties.get(told) == wanted
    assert subject.type == ("client" if identity.is_client else "user")


@pytest.mark.parametrize(
    ("name", "spoiled", "change", "reason"), HOSTILE, ids=[f"{n}: {s}" for n, s, *_ in HOSTILE]
)
def test_a_hostile_token(
    name: str, spoiled: str, change: dict[str, Any], reason: str, make: Make
) -> None:
    """The same token with one thing wrong is refused for that, though its signature is good; and
    where a good one was seen before, too.
    """
    golden = GOLDEN[name]
    provider = make(golden.settings)
    token = provider.jwt(golden.claims, **change)
    assert provider.refusal(token).reason == reason
    assert provider.refusal(token).status == 401
    provider.identity(provider.jwt(golden.claims))
    assert provider.refusal(token).reason == reason


@pytest.mark.parametrize("name", GOLDEN)
def test_where_nothing_is_remembered(name: str, make: Make) -> None:
    """The same verdicts where every token is verified anew."""
    golden = GOLDEN[name]
    provider = make({**golden.settings, "jwt_cache_ttl": 0})
    token = provider.jwt(golden.claims)
    for _ in range(3):
        assert read_of(provider.identity(token), golden.identity) == golden.identity
    for change, reason in golden.hostile.values():
        assert provider.refusal(provider.jwt(golden.claims, **change)).reason == reason


@pytest.mark.parametrize("name", GOLDEN)
def test_five_ways_at_least(name: str) -> None:
    """Nobody's list of hostile variants is short."""
    variants = [spoiled for known, spoiled, *_ in HOSTILE if known == name]
    assert len(variants) >= 4  # and a forged signature, below


@pytest.mark.parametrize("name", GOLDEN)
def test_a_forged_signature(name: str, make: Make) -> None:
    """Good claims of somebody else's key."""
    golden = GOLDEN[name]
    provider = make(golden.settings)
    head, _, signature = provider.jwt(golden.claims).rpartition(".")
    forged = provider.jwt(golden.claims, jti="another").rpartition(".")[2]
    assert forged != signature
    assert provider.refusal(f"{head}.{forged}").reason is Reason.BAD_SIGNATURE


@pytest.mark.parametrize("name", GOLDEN)
def test_an_identity_keeps_its_reading(name: str, make: Make) -> None:
    """Roles, tenant and the like survive a copy and a journey to another process."""
    golden = GOLDEN[name]
    provider = make(golden.settings)
    identity = provider.identity(provider.jwt(golden.claims))
    for copy in (identity.replace(), pickle.loads(pickle.dumps(identity))):
        assert read_of(copy, golden.identity) == golden.identity
        assert copy == identity
    assert identity.user_name == (None if identity.is_client else identity.subject)
    assert identity.replace().user_name == identity.user_name


@pytest.mark.parametrize("name", ["okta", "entra, version 2", "entra, version 1", "google"])
@pytest.mark.parametrize("by", ["subject", "sub"])
def test_revoked_by_either_name(name: str, by: str, make: Make) -> None:
    """Whoever revokes may know the user by what the identity says, or by ``sub``."""
    golden = GOLDEN[name]
    provider = make(golden.settings)
    token = provider.jwt(golden.claims)
    identity = provider.identity(token)
    subject = identity.subject if by == "subject" else golden.claims["sub"]
    provider.server.revoke(issuer=provider.first.issuer, subject=subject)
    assert provider.refusal(token).reason is Reason.REVOKED


@pytest.mark.parametrize("name", GOLDEN)
def test_policy_is_told_roles_and_tenant(make: Make, name: str) -> None:
    """AZ-1. Under the same names, wherever the product has them."""
    golden = GOLDEN[name]
    provider = make(golden.settings)
    subject = Phrasing(provider.settings).subject(provider.identity(provider.jwt(golden.claims)))
    assert subject is not None
    told = subject.properties
    assert set(told.get("roles", ())) == golden.identity.get("roles", set())
    assert told.get("tenant") == golden.identity.get("tenant")
