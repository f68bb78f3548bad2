"""What ``check`` and ``explain`` say of a provider: what the operator is told, and nobody else."""

from __future__ import annotations

import io
import time
from typing import Any

import pytest

from bearer_middleware.commands.check import check
from bearer_middleware.commands.explain import explain
from bearer_middleware.testing import Issuer
from tests.providers.conftest import Network
from tests.providers.golden import GOLDEN

ISSUERS = {name: Issuer(golden.claims["iss"], audience="x") for name, golden in GOLDEN.items()}


def environ(name: str, **more: str) -> dict[str, str]:
    """The variables of a golden token's API."""
    settings = GOLDEN[name].settings | more
    return {f"BEARER_{keyword.upper()}": value for keyword, value in settings.items()}


def network(name: str, jwks_url: str) -> Network:
    """Where its keys are."""
    made = Network()
    made.publish(jwks_url, ISSUERS[name].jwks)
    return made


def token(name: str, headers: dict[str, Any] | None = None, **changes: Any) -> bytes:
    """An Authorization header."""
    now = int(time.time())
    usual = dict.fromkeys(("aud", "sub", "client_id", "jti", "scope"))
    claims = {**usual, "iat": now, "exp": now + 600, **GOLDEN[name].claims, **changes}
    text = ISSUERS[name].jwt(headers={"typ": "JWT", **(headers or {})}, **claims)
    return b"Bearer " + text.encode()


KEYS = {
    "auth0": "https://dev.eu.auth0.com/.well-known/jwks.json",
    "keycloak": "https://sso.example.com/realms/shop/protocol/openid-connect/certs",
    "entra, version 2": "https://login.microsoftonline.com/1111abcd-2222-3333-4444-555555555555"
    "/discovery/v2.0/keys",
    "firebase": "https://www.googleapis.com/service_accounts/v1/jwk/"
    "securetoken@system.gserviceaccount.com",
    "cognito": "https://cognito-idp.eu-west-1.amazonaws.com/eu-west-1_AbC123xyz"
    "/.well-known/jwks.json",
}


def explained(name: str, authorization: bytes, **more: str) -> tuple[int, str]:
    """Exit status and text."""
    out = io.StringIO()
    asked = network(name, KEYS[name])
    status = explain(environ(name, **more), authorization, out, transport=asked)
    return status, out.getvalue()


@pytest.mark.parametrize("name", KEYS)
def test_a_good_token_is_explained(name: str) -> None:
    """The walk through the rules comes to the same verdict as the middleware."""
    status, text = explained(name, token(name))
    assert status == 0, text
    assert f"provider: as {GOLDEN[name].settings['provider'].title()} has it" in text


@pytest.mark.parametrize(
    ("name", "changes", "words"),
    [
        ("auth0", {"aud": "https://dev.eu.auth0.com/userinfo"}, "did the client forget audience?"),
        ("keycloak", {"aud": "account"}, "audience mapper"),
        ("keycloak", {"azp": "another"}, "BEARER_PROVIDER_CLIENTS"),
        ("keycloak", {"typ": "Offline"}, "another kind of token"),
        (
            "entra, version 2",
            {"aud": "00000003-0000-0000-c000-000000000000"},
            "Microsoft Graph: the client must ask for a scope of this API",
        ),
        ("entra, version 2", {"tid": "another"}, "tid is not the directory"),
        ("firebase", {"headers": {"kid": None}}, "no kid"),
        ("firebase", {"headers": {"kid": None}, "exp": 1}, "expired"),
        ("firebase", {"sub": None}, "no sub"),
        ("cognito", {"client_id": "another"}, "client_id is not one of the audience"),
    ],
)
def test_why_it_is_refused(name: str, changes: dict[str, Any], words: str) -> None:
    """In words that help; both verdicts are the same."""
    status, text = explained(name, token(name, **changes))
    assert status == 1
    assert words in text
    assert "the two verdicts differ" not in text


@pytest.mark.parametrize(
    "shown", [b"Bearer 0paque", b"Bearer eyJhbGciOiJkaXIiLCJlbmMiOiJBMjU2R0NNIn0..a.b.c"]
)
def test_an_opaque_token_of_auth0(shown: bytes) -> None:
    """Opaque, or encrypted: either is what a client gets that names no audience."""
    status, text = explained("auth0", shown)
    assert status == 1
    assert "did the client forget audience?" in text


def checked(name: str, asked: Network, **more: str) -> tuple[int, str]:
    """Exit status and text."""
    out = io.StringIO()
    status = check(environ(name, **more), out, transport=asked)
    return status, out.getvalue()


def test_check_asks_where_the_product_is() -> None:
    """Its keys, and nothing that it does not have."""
    asked = network("auth0", KEYS["auth0"])
    status, text = checked("auth0", asked)
    assert status == 0, text
    assert "Auth0; opaque tokens are refused" in text
    assert {url for _, url in asked.asked} == {KEYS["auth0"]}


def test_check_looks_at_every_pool() -> None:
    """Several pools are said in one variable, and that is how they are named."""
    asked = network("cognito", KEYS["cognito"])
    other = "https://cognito-idp.us-east-1.amazonaws.com/us-east-1_B/.well-known/jwks.json"
    status, text = checked("cognito", asked, provider_tenant="eu-west-1_AbC123xyz,us-east-1_B")
    assert status == 1
    assert {url for _, url in asked.asked} == {KEYS["cognito"], other}
    assert "BEARER_JWKS_URL: the key set" in text
    assert "[[issuers]]" not in text


def test_check_warns_of_userinfo() -> None:
    """It proves no audience, which nobody should forget."""
    asked = network("auth0", KEYS["auth0"])
    asked.at["https://dev.eu.auth0.com/userinfo"] = lambda form, authorization: (401, {})
    status, text = checked("auth0", asked, provider_opaque="true")
    assert status == 0, text
    assert "not for whom a token is" in text
    assert "the introspection endpoint answers us" in text
