"""Opaque tokens: introspection as each provider has it, userinfo, tokeninfo, and nobody to ask."""

from __future__ import annotations

import base64
import json
import time
from typing import Any

import pytest

from bearer_middleware import Identity
from bearer_middleware.errors import Reason
from tests.providers.conftest import Make, Provider

AUTH0 = {
    "provider": "auth0",
    "provider_domain": "dev.eu.auth0.com",
    "audience": "orders",
    "provider_opaque": True,
}
USERINFO = "https://dev.eu.auth0.com/userinfo"
GOOGLE = {"provider": "google", "audience": "web-client", "provider_opaque": "true"}
TOKENINFO = "https://oauth2.googleapis.com/tokeninfo"
ASKED = {"client_id": "orders", "client_secret": "s3cret"}
#: Later than the last of the tests that run with these.
SOON = int(time.time()) + 6 * 3600

#: Settings, where is asked, a good answer, and what the identity says.
INTROSPECTED: dict[str, tuple[dict[str, Any], str, dict[str, Any], dict[str, Any]]] = {
    "okta": (
        {"provider": "okta", "provider_domain": "dev.okta.com", **ASKED},
        "https://dev.okta.com/oauth2/default/v1/introspect",
        {
            "iss": "https://dev.okta.com/oauth2/default",
            "aud": "api://default",
            "sub": "alice@example.com",
            "uid": "00u1",
            "client_id": "spa",
            "scope": "read write",
        },
        {"subject": "00u1", "client_id": "spa", "scopes": {"read", "write"}},
    ),
    "okta, the organization's server": (
        {"provider": "okta", "issuer": "https://dev.okta.com", "jwt_validation": "introspect"}
        | {"audience": "https://dev.okta.com", **ASKED},
        "https://dev.okta.com/oauth2/v1/introspect",
        {"aud": "https://dev.okta.com", "sub": "alice", "uid": "00u1", "client_id": "spa"},
        {"subject": "00u1", "client_id": "spa", "scopes": set()},
    ),
    "keycloak": (
        {"provider": "keycloak", "provider_domain": "sso.example.com/auth"}
        | {"provider_tenant": "shop", "audience": "orders", **ASKED},
        "https://sso.example.com/auth/realms/shop/protocol/openid-connect/token/introspect",
        {
            "iss": "https://sso.example.com/auth/realms/shop",
            "aud": ["orders", "account"],
            "sub": "u1",
            "azp": "spa",
            "client_id": "spa",
            "typ": "Bearer",
            "realm_access": {"roles": ["editor"]},
        },
        {"subject": "u1", "client_id": "spa", "roles": {"editor"}},
    ),
    "zitadel": (
        {"provider": "zitadel", "provider_domain": "acme.zitadel.cloud"}
        | {"provider_tenant": "312", **ASKED},
        "https://acme.zitadel.cloud/oauth/v2/introspect",
        {
            "iss": "https://acme.zitadel.cloud",
            "aud": ["spa", "312"],
            "sub": "16",
            "client_id": "spa",
            "urn:zitadel:iam:org:project:312:roles": {"editor": {"20": "acme.example"}},
            "urn:zitadel:iam:user:resourceowner:id": "20",
        },
        {"subject": "16", "client_id": "spa", "roles": {"editor"}, "tenant": "20"},
    ),
    "hydra": (
        {"provider": "hydra", "provider_domain": "hydra.example.com", "audience": "orders"}
        | {"introspection_url": "https://hydra-admin.internal:4445/admin/oauth2/introspect"},
        "https://hydra-admin.internal:4445/admin/oauth2/introspect",
        {
            "iss": "https://hydra.example.com",
            "aud": ["orders"],
            "sub": "alice",
            "client_id": "spa",
            "scope": "read",
            "token_use": "access_token",
            "ext": {"roles": ["editor"]},
        },
        {"subject": "alice", "client_id": "spa", "scopes": {"read"}, "roles": {"editor"}},
    ),
}


def answering(provider: Provider, url: str, answer: Any, status: int = 200) -> None:
    """Let whoever is asked say this of every token."""
    provider.network.at[url] = lambda form, authorization: (status, answer)


@pytest.mark.parametrize("name", INTROSPECTED)
def test_introspected(name: str, make: Make) -> None:
    """RFC 7662 at the provider's own address; the identity is read as that of a JWT, and kept."""
    settings, url, answer, expected = INTROSPECTED[name]
    provider = make(settings)
    answering(provider, url, {"active": True, "exp": SOON, **answer})
    first, again = provider.identity("opaque"), provider.identity("opaque")
    assert {name: getattr(first, name) for name in expected} == expected
    assert (first.kind, first.issuer) == ("opaque", provider.first.issuer)
    assert again == first
    assert provider.network.asked == [("POST", url)]


@pytest.mark.parametrize("name", INTROSPECTED)
@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"active": False}, Reason.INACTIVE),
        ({"aud": "others"}, Reason.WRONG_AUDIENCE),
        ({"aud": None}, Reason.WRONG_AUDIENCE),
        ({"iss": "https://evil.example"}, Reason.UNKNOWN_ISSUER),
        ({"exp": 1_000_000_000}, Reason.EXPIRED),
        ({"token_use": "refresh_token"}, Reason.NOT_ACCESS_TOKEN),
    ],
)
def test_introspected_and_refused(
    name: str, change: dict[str, Any], reason: Reason, make: Make
) -> None:
    """What the answer says against it."""
    settings, url, answer, _ = INTROSPECTED[name]
    provider = make(settings)
    answering(provider, url, {"active": True, "exp": SOON, **answer, **change})
    assert provider.refusal("opaque").reason is reason


@pytest.mark.parametrize("use", ["refresh_token", "id_token", None])
def test_hydra_says_what_it_is_about(use: str | None, make: Make) -> None:
    """An answer of Hydra about anything but an access token, or that does not say, is refused."""
    settings, url, answer, _ = INTROSPECTED["hydra"]
    provider = make(settings)
    answering(provider, url, {"active": True, **answer, "token_use": use})
    assert provider.refusal("opaque").reason is Reason.NOT_ACCESS_TOKEN


def test_hydra_is_asked_without_proof(make: Make) -> None:
    """Its admin port wants none."""
    settings, url, answer, _ = INTROSPECTED["hydra"]
    provider = make(settings)
    seen: list[tuple[dict[str, str], str]] = []

    def respond(form: dict[str, str], authorization: str) -> tuple[int, Any]:
        seen.append((form, authorization))
        return 200, {"active": True, **answer}

    provider.network.at[url] = respond
    provider.identity("ory_at_1")
    assert seen == [({"token": "ory_at_1", "token_type_hint": "access_token"}, "")]


def test_okta_both(make: Make) -> None:
    """A JWT and an answer about it name one user, each in both ways; another one is refused."""
    settings, url, answer, _ = INTROSPECTED["okta"]
    provider = make({**settings, "jwt_validation": "both"})
    claims = {**answer, "cid": "spa", "scope": None, "client_id": None}
    answering(provider, url, {"active": True, "exp": SOON, **answer})
    token = provider.jwt(claims)
    assert provider.identity(token).subject == "00u1"
    answering(provider, url, {"active": True, "exp": SOON, **answer, "sub": "mallory"})
    assert provider.refusal(provider.jwt(claims, jti="2")).reason is Reason.SUBJECT_MISMATCH


# -- userinfo ----------------------------------------------------------------------------


def test_userinfo(make: Make) -> None:
    """The token is shown as any API would get it; the answer says who, is kept, and no scope."""
    provider = make(AUTH0)
    seen: list[str] = []

    def respond(form: dict[str, str], authorization: str) -> tuple[int, Any]:
        seen.append(authorization)
        return 200, {"sub": "auth0|alice", "org_id": "org_1", "active": False, "email": "a@b"}

    provider.network.at[USERINFO] = respond
    first, again = provider.identity("0paque"), provider.identity("0paque")
    assert (first.subject, first.tenant, first.scopes) == ("auth0|alice", "org_1", frozenset())
    assert (first.kind, first.is_client) == ("opaque", False)
    assert again == first
    assert seen == ["Bearer 0paque"]
    assert provider.network.asked == [("GET", USERINFO)]


@pytest.mark.parametrize(
    ("status", "answer", "refused"),
    [
        (401, {"error": "invalid_token"}, (401, Reason.INACTIVE)),
        (403, {}, (503, Reason.INTROSPECTION_UNAVAILABLE)),
        (404, {}, (503, Reason.INTROSPECTION_UNAVAILABLE)),
        (429, {}, (503, Reason.INTROSPECTION_UNAVAILABLE)),
        (500, {}, (503, Reason.INTROSPECTION_UNAVAILABLE)),
        (302, {"sub": "auth0|alice"}, (503, Reason.INTROSPECTION_UNAVAILABLE)),
        (200, {}, (503, Reason.INTROSPECTION_UNAVAILABLE)),
        (200, {"sub": ""}, (503, Reason.INTROSPECTION_UNAVAILABLE)),
        (200, {"sub": 1}, (503, Reason.INTROSPECTION_UNAVAILABLE)),
        (200, ["auth0|alice"], (503, Reason.INTROSPECTION_UNAVAILABLE)),
        (200, {"sub": "auth0|alice", "exp": 1_000_000_000}, (401, Reason.EXPIRED)),
        (200, {"sub": "a", "iss": "https://evil.example/"}, (401, Reason.UNKNOWN_ISSUER)),
    ],
)
def test_userinfo_that_lets_nobody_in(
    status: int, answer: Any, refused: tuple[int, Reason], make: Make
) -> None:
    """401 is a bad token; what says nothing of the token is 503."""
    provider = make(AUTH0)
    answering(provider, USERINFO, answer, status)
    refusal = provider.refusal("0paque")
    assert (refusal.status, refusal.reason) == refused


def test_userinfo_is_never_asked_about_a_jwt(make: Make) -> None:
    """A JWT that is refused here is refused."""
    provider = make(AUTH0)
    answering(provider, USERINFO, {"sub": "auth0|alice"})
    token = provider.jwt({"iss": "https://dev.eu.auth0.com/", "sub": "auth0|a", "aud": "others"})
    assert provider.refusal(token).reason is Reason.WRONG_AUDIENCE
    assert ("GET", USERINFO) not in provider.network.asked


def encrypted(**members: str) -> str:
    """What Auth0 gives to clients that name no audience."""
    head = json.dumps(
        {"alg": "dir", "enc": "A256GCM", "iss": "https://dev.eu.auth0.com/"} | members
    )
    return base64.urlsafe_b64encode(head.encode()).rstrip(b"=").decode() + "..aXY.dGV4dA.dGFn"


def test_encrypted_is_opaque_where_userinfo_is_asked(make: Make) -> None:
    """Nobody but Auth0 reads its encrypted tokens; each is kept, and revoked, by its whole text."""
    provider = make(AUTH0)
    answering(provider, USERINFO, {"sub": "auth0|alice"})
    first, again = provider.identity(encrypted()), provider.identity(encrypted())
    assert (first.subject, first.kind, again) == ("auth0|alice", "opaque", first)
    assert provider.network.asked == [("GET", USERINFO)]
    provider.server.revoke(token=encrypted())
    assert provider.refusal(encrypted()).reason is Reason.REVOKED
    assert provider.identity(encrypted(kid="2")).subject == "auth0|alice"


def test_encrypted_is_refused_everywhere_else(make: Make) -> None:
    """Without that choice, at other products, and where another issuer has the opaque tokens."""
    keycloak = INTROSPECTED["keycloak"][0]
    tables = {"issuers": [{**AUTH0, "token_prefix": "a0-"}, keycloak]}
    for settings in ({**AUTH0, "provider_opaque": False}, keycloak, GOOGLE, tables):
        provider = make(settings)
        for _ in range(2):
            refusal = provider.refusal(encrypted())
            assert refusal.reason is Reason.ENCRYPTED_TOKEN
            assert provider.server.trusted.servers[0].preset.opaque_advice in refusal.detail
        assert provider.network.asked == []


def test_what_a_validator_decrypts_is_not_refused_for_another_revocation(make: Make) -> None:
    """It is held against what was revoked like any other."""
    provider = make(AUTH0, validators=[lambda token: Identity(subject="bob", issued_at=1)])
    provider.server.revoke(token="another")
    assert provider.identity(encrypted()).subject == "bob"
    provider.server.revoke(token=encrypted())
    assert provider.refusal(encrypted()).reason is Reason.REVOKED


# -- tokeninfo ---------------------------------------------------------------------------

TOLD = {
    "azp": "web-client",
    "aud": "web-client",
    "sub": "1102",
    "scope": "openid https://www.googleapis.com/auth/userinfo.email",
    "exp": str(SOON),
    "expires_in": "600",
    "email": "alice@example.com",
    "email_verified": "true",
    "access_type": "online",
}


def test_tokeninfo(make: Make) -> None:
    """Numbers are written as text there, and the token stands in no address."""
    provider = make(GOOGLE)
    seen: list[dict[str, str]] = []

    def respond(form: dict[str, str], authorization: str) -> tuple[int, Any]:
        seen.append(form)
        return 200, TOLD

    provider.network.at[TOKENINFO] = respond
    token = "ya29.a0_b-c/d+e="
    first, again = provider.identity(token), provider.identity(token)
    assert (first.subject, first.client_id, first.kind) == ("1102", "web-client", "opaque")
    assert first.expires_at == SOON
    assert "openid" in first.scopes
    assert again == first
    assert seen == [{"access_token": token}]
    assert provider.network.asked == [("POST", TOKENINFO)]


@pytest.mark.parametrize(
    ("status", "answer", "refused"),
    [
        (400, {"error": "invalid_token", "error_description": "Invalid Value"}, 401),
        (400, {"error_description": "Invalid Value"}, 401),
        (400, {"error": "invalid_request"}, 503),
        (401, {}, 503),
        (429, {}, 503),
        (500, {}, 503),
        (200, {**TOLD, "aud": "evil-client"}, 401),
        (200, {name: value for name, value in TOLD.items() if name != "aud"}, 401),
        (200, {name: value for name, value in TOLD.items() if name != "exp"}, 503),
        (200, {name: value for name, value in TOLD.items() if name != "sub"}, 401),
        (200, {**TOLD, "exp": "1000000000"}, 401),
        (200, {**TOLD, "exp": "soon"}, 401),
        (200, {**TOLD, "exp": "9" * 400}, 401),
        (200, [], 503),
    ],
)
def test_tokeninfo_that_lets_nobody_in(status: int, answer: Any, refused: int, make: Make) -> None:
    """A token of another application, one that ended, and what says nothing."""
    provider = make(GOOGLE)
    answering(provider, TOKENINFO, answer, status)
    assert provider.refusal("ya29.token").status == refused


def test_what_is_none_of_googles_is_not_sent_there(make: Make) -> None:
    """Their tokens begin with ``ya29.``."""
    provider = make(GOOGLE)
    assert provider.refusal("opaque").reason is Reason.UNSUPPORTED_TOKEN
    assert provider.network.asked == []


# -- nobody to ask -----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("settings", "word"),
    [
        ({"provider": "auth0", "provider_domain": "a.auth0.com", "audience": "x"}, "audience?"),
        ({"provider": "okta", "provider_domain": "dev.okta.com"}, "BEARER_CLIENT_ID"),
        ({"provider": "firebase", "provider_tenant": "my-project"}, "ID token"),
        ({"provider": "cognito", "provider_tenant": "eu-west-1_A", "audience": "x"}, "Cognito"),
        (
            {
                "provider": "entra",
                "provider_tenant": "11111111-2222-3333-4444-555555555555",
                "audience": "x",
            },
            "personal account",
        ),
        ({"provider": "google", "audience": "x"}, "BEARER_PROVIDER_OPAQUE"),
        ({"provider": "zitadel", "provider_domain": "a.b", "provider_tenant": "1"}, "JWTs"),
        ({"provider": "hydra", "provider_domain": "a.b", "audience": "x"}, "admin port"),
    ],
)
def test_opaque_and_nobody_to_ask(settings: dict[str, Any], word: str, make: Make) -> None:
    """The operator is told what the product has to do with it; nothing is asked."""
    provider = make(settings)
    refusal = provider.refusal("opaque")
    assert refusal.reason is Reason.UNSUPPORTED_TOKEN
    assert word in refusal.detail
    assert provider.network.asked == []
