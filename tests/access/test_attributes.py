"""What claims say of a caller besides who it is."""

from __future__ import annotations

import pickle
from typing import Any

import pytest

from bearer_middleware import Identity
from bearer_middleware.tokens.preset import Preset, named


def test_nothing_said() -> None:
    """Of a token that says nothing everything is empty."""
    identity = Identity()
    assert (identity.tenant, identity.acr, identity.auth_time) == (None, None, None)
    empty: frozenset[str] = frozenset()
    assert identity.roles == identity.permissions == identity.amr == identity.groups == empty


def test_what_is_usual() -> None:
    """Without a provider: the claims that have these names in RFC 9068 and RFC 9470."""
    claims = {"acr": "urn:gold", "amr": ["pwd", "otp"], "auth_time": 1_700_000_000}
    claims |= {"roles": ["a"], "permissions": ["b"], "tid": "t"}
    identity = Identity(claims=claims)
    assert (identity.acr, identity.auth_time) == ("urn:gold", 1_700_000_000)
    assert identity.amr == {"pwd", "otp"}
    assert (identity.roles, identity.permissions, identity.tenant) == ({"a"}, {"b"}, "t")


@pytest.mark.parametrize("value", [None, 1, True, "", [], {}, [1], {"a": "b"}, float("nan")])
def test_another_shape_is_not_said(value: Any) -> None:
    """Nothing is made of what is not as it should be."""
    identity = Identity(claims=dict.fromkeys(("acr", "tid", "roles", "permissions"), value))
    assert (identity.acr, identity.tenant) == (None, None)
    assert identity.roles == identity.permissions == frozenset()
    odd = Identity(claims={"auth_time": value})
    assert odd.auth_time == (1 if value == 1 and value is not True else None)


def test_the_name_of_an_issuer_tells_how() -> None:
    """It is text like any other, and goes where the identity goes."""
    preset = Preset(title="Some", roles=(("a", "b"),), roles_are_names=True)
    issuer = named("https://as.example", preset)
    assert issuer == "https://as.example"
    assert {issuer: 1}["https://as.example"] == 1
    identity = Identity(issuer=issuer, claims={"a": {"b": {"editor": {"1": ""}}}})
    for copy in (identity, identity.replace(subject="x"), pickle.loads(pickle.dumps(identity))):
        assert copy.roles == {"editor"}
    assert identity.replace(issuer="https://other.example").roles == frozenset()
