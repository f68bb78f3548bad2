"""What the endpoints answer, without a wire."""

from __future__ import annotations

import json
from collections.abc import Callable
from email.utils import parsedate_to_datetime
from typing import Any

import jwt
import pytest

from bearer_middleware.testing import Issuer
from bearer_middleware.testing.endpoints import Answer, Request

Ask = Callable[..., Answer]
Post = Callable[..., tuple[int, Any]]

WELL_KNOWN = [
    "/.well-known/oauth-authorization-server",
    "/.well-known/openid-configuration",
    "/.well-known/ssf-configuration",
]


@pytest.mark.parametrize("path", WELL_KNOWN)
def test_metadata_names_the_issuer_and_its_endpoints(issuer: Issuer, ask: Ask, path: str) -> None:
    """All well-known documents are the same."""
    document = json.loads(ask("GET", path).body)
    assert document == issuer.metadata
    assert document["issuer"] == issuer.url
    assert document["jwks_uri"] == "https://issuer.test/jwks"
    assert document["introspection_endpoint"] == "https://issuer.test/introspect"
    assert "client_secret_basic" in document["introspection_endpoint_auth_methods_supported"]


@pytest.mark.parametrize(
    "path",
    [
        "/.well-known/oauth-authorization-server/tenant",
        "/.well-known/openid-configuration/tenant",
        "/tenant/.well-known/openid-configuration",
        "/.well-known/ssf-configuration/tenant",
    ],
)
@pytest.mark.parametrize("url", ["https://issuer.test/tenant", "https://issuer.test/tenant/"])
def test_an_issuer_may_have_a_path(url: str, path: str) -> None:
    """RFC 8414 and SSF insert the well-known part before it, OpenID Connect appends it."""
    answer, _ = Issuer(url).respond(Request("GET", path))
    document = json.loads(answer.body)
    assert document["issuer"] == url
    assert document["token_endpoint"] == "https://issuer.test/tenant/token"


def test_the_key_set_is_published(issuer: Issuer, ask: Ask) -> None:
    """It holds public keys only."""
    document = json.loads(ask("GET", "/jwks").body)
    assert document == issuer.jwks
    assert set(document["keys"][0]) == {"kty", "n", "e", "kid", "use", "alg"}


@pytest.mark.parametrize("path", ["/jwks", "/nowhere", "/introspect"])
def test_every_answer_has_a_date_and_says_it_is_json(ask: Ask, path: str) -> None:
    """Also the refusals."""
    headers = ask("GET", path).headers
    assert parsedate_to_datetime(headers["date"]).tzinfo is not None
    assert headers["content-type"] == "application/json"


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/nowhere", 404),
        ("GET", "/jwks/", 404),
        ("HEAD", "/jwks", 200),
        ("POST", "/jwks", 405),
        ("GET", "/introspect", 405),
    ],
)
def test_paths_and_methods(ask: Ask, method: str, path: str, status: int) -> None:
    """What is not there is 404, what is asked in the wrong way 405."""
    assert ask(method, path).status == status


def test_introspection_over_the_endpoint(issuer: Issuer, post: Post, basic: str) -> None:
    """The answer is what the issuer knows."""
    for token in (issuer.opaque(scope="read write"), issuer.jwt(), "junk"):
        status, document = post("/introspect", {"token": token}, authorization=basic)
        assert (status, document) == (200, issuer.introspect(token))


def test_introspection_signs_its_answer_when_asked(issuer: Issuer, ask: Ask, basic: str) -> None:
    """The JWT of RFC 9701 section 5, for the client that asks."""
    token = issuer.opaque()
    accept = "application/token-introspection+jwt"
    body = f"token={token}".encode()
    answer = ask("POST", "/introspect", body, authorization=basic, accept=accept)
    assert answer.headers["content-type"] == accept
    key = jwt.PyJWKSet.from_dict(issuer.jwks)[issuer.kid]
    claims = jwt.decode(answer.body, key, audience=issuer.client_id, issuer=issuer.url)
    assert claims["token_introspection"] == issuer.introspect(token)
    assert jwt.get_unverified_header(answer.body)["typ"] == "token-introspection+jwt"


def test_the_token_endpoint_grants_client_credentials(
    issuer: Issuer, post: Post, basic: str
) -> None:
    """The token is for the client itself, with the scope it asked for."""
    form = {"grant_type": "client_credentials", "scope": "write"}
    status, document = post("/token", form, authorization=basic)
    facts = issuer.introspect(document["access_token"])
    assert (status, document["token_type"], document["expires_in"]) == (200, "Bearer", 3600)
    assert facts["sub"] == facts["client_id"] == issuer.client_id
    assert facts["scope"] == document["scope"] == "write"


def test_revocation_over_the_endpoint(issuer: Issuer, post: Post, basic: str) -> None:
    """A token is inactive after it; an unknown one is no error (RFC 7009 section 2.2)."""
    token = issuer.opaque()
    for revoked in (token, "unknown"):
        assert post("/revoke", {"token": revoked}, authorization=basic)[0] == 200
    assert issuer.introspect(token) == {"active": False}


@pytest.mark.parametrize(
    ("path", "body", "error"),
    [
        ("/introspect", b"", "invalid_request"),
        ("/introspect", b"token=a&token=b", "invalid_request"),
        ("/introspect", "token=\xe9".encode("latin-1"), "invalid_request"),
        ("/revoke", b"token_type_hint=access_token", "invalid_request"),
        ("/token", b"grant_type=password", "unsupported_grant_type"),
    ],
)
def test_malformed_requests(ask: Ask, basic: str, path: str, body: bytes, error: str) -> None:
    """They are answered with 400 and the code of RFC 6749 section 5.2."""
    answer = ask("POST", path, body, authorization=basic)
    assert (answer.status, json.loads(answer.body)) == (400, {"error": error})


def test_requests_are_counted_and_logged(issuer: Issuer, ask: Ask, post: Post) -> None:
    """By endpoint, answered or refused; unknown paths stand in the log alone."""
    for path in (*WELL_KNOWN, "/jwks", "/nowhere"):
        ask("GET", path)
    post("/introspect", {"token": "t"})
    assert issuer.requests == {"metadata": 3, "jwks": 1, "introspection": 1}
    assert issuer.requests["revocation"] == 0
    assert [asked.endpoint for asked in issuer.log][-3:] == ["jwks", "unknown", "introspection"]
    assert issuer.last_request.body == b"token=t"
    issuer.requests.clear()
    assert issuer.requests["jwks"] == 0


def test_the_log_shows_no_secret_by_itself(issuer: Issuer, post: Post, basic: str) -> None:
    """Headers and bodies are there to be read, but not in a repr."""
    post("/introspect", {"token": "canary"}, authorization=basic)
    assert issuer.last_request.headers["authorization"] == basic
    assert "canary" not in repr(issuer.log)
    assert basic not in repr(issuer.log)


@pytest.mark.parametrize(
    ("issuer", "more"),
    [
        (Issuer(client_secret="s"), {"client_secret": "s"}),
        (Issuer(client_secret=None), {"client_auth": "none"}),
        (Issuer("http://issuer.test", client_secret="s"), {"allow_insecure_http": True}),
    ],
)
def test_settings_are_those_of_an_api_that_trusts_it(issuer: Issuer, more: dict[str, Any]) -> None:
    """They follow from the issuer, and keywords given win."""
    settings = issuer.settings(leeway=0, audience="orders")
    known = {"issuer": issuer.url, "client_id": "resource-server"}
    assert settings.items() >= {**known, **more, "leeway": 0, "audience": "orders"}.items()
    assert ("allow_insecure_http" in settings) == issuer.url.startswith("http:")
