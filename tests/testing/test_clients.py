"""Client authentication: every method that is offered, and every way to get it wrong."""

from __future__ import annotations

import base64
import json
import time
from collections.abc import Callable
from typing import Any
from urllib.parse import urlencode

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from bearer_middleware.testing import Issuer
from bearer_middleware.testing.clients import JWT_BEARER
from bearer_middleware.testing.endpoints import Request

Post = Callable[..., tuple[int, Any]]


def status_of(issuer: Issuer, form: dict[str, str], **headers: str) -> int:
    """Ask about a token, and see whether the client is let in."""
    body = urlencode({"token": "t", **form}).encode()
    return issuer.respond(Request("POST", "/introspect", headers, body))[0].status


def basic(pair: str) -> str:
    """An Authorization header of this pair."""
    return "Basic " + base64.b64encode(pair.encode()).decode()


def claims_of(issuer: Issuer, **claims: Any) -> dict[str, Any]:
    """A good assertion of the registered client, with these differences."""
    return {
        "iss": issuer.client_id,
        "sub": issuer.client_id,
        "aud": issuer.url,
        "exp": time.time() + 60,
        "jti": "1",
        **claims,
    }


def secret_of(issuer: Issuer) -> str:
    """The secret that every issuer has unless told otherwise."""
    assert issuer.client_secret is not None
    return issuer.client_secret


def shown(assertion: str) -> dict[str, str]:
    """The form that shows an assertion."""
    return {"client_assertion_type": JWT_BEARER, "client_assertion": assertion}


def test_basic_credentials_are_form_encoded() -> None:
    """RFC 6749 section 2.3.1: only the encoded spelling of odd characters is right."""
    issuer = Issuer(client_id="a:b", client_secret="50% +é")
    assert status_of(issuer, {}, authorization=basic("a%3Ab:50%25+%2B%C3%A9")) == 200
    assert status_of(issuer, {}, authorization=basic("a:b:50% +é")) == 401


@pytest.mark.parametrize(
    "header",
    [
        basic("resource-server:wrong"),
        basic("other:s"),
        basic("s"),
        "Basic ?",
        "Basic /w==",
        "Bearer s",
    ],
)
def test_bad_basic_credentials(header: str) -> None:
    """Wrong, incomplete and malformed credentials are refused alike."""
    assert status_of(Issuer(client_secret="s"), {}, authorization=header) == 401


def test_post_credentials() -> None:
    """Id and secret may stand in the form."""
    issuer, form = Issuer(client_secret="s"), {"client_id": "resource-server"}
    assert status_of(issuer, {**form, "client_secret": "s"}) == 200
    assert status_of(issuer, {**form, "client_secret": "wrong"}) == 401
    assert status_of(issuer, form) == 401
    assert status_of(issuer, {}) == 401


def test_a_refused_client_is_told_so(issuer: Issuer, post: Post) -> None:
    """The answer is 401 with ``invalid_client`` and a challenge."""
    assert post("/introspect", {"token": "t"}) == (401, {"error": "invalid_client"})
    answer, _ = issuer.respond(Request("POST", "/revoke"))
    assert answer.headers["www-authenticate"].startswith("Basic ")


def test_only_one_method_at_a_time() -> None:
    """RFC 6749 section 2.3: more than one is a malformed request."""
    issuer = Issuer(client_secret="s")
    right = basic("resource-server:s")
    assert status_of(issuer, {"client_secret": "s"}, authorization=right) == 400


def test_no_authentication_where_there_is_no_secret() -> None:
    """A client without a secret names itself, or not even that."""
    issuer = Issuer(client_secret=None)
    assert status_of(issuer, {}) == status_of(issuer, {"client_id": "resource-server"}) == 200
    assert "none" in issuer.metadata["introspection_endpoint_auth_methods_supported"]
    assert status_of(issuer, {"client_id": "other"}) == 401
    assert status_of(issuer, {"client_secret": "s"}) == 401
    secretly = jwt.encode(claims_of(issuer), "s" * 32, "HS256")
    assert status_of(issuer, shown(secretly)) == 401


@pytest.mark.parametrize("audience", ["", "/token", "/introspect"])
def test_client_secret_jwt(issuer: Issuer, audience: str) -> None:
    """The assertion may be meant for the issuer, its token endpoint or the endpoint asked."""
    claims = claims_of(issuer, aud=[issuer.url + audience, "other"])
    assert status_of(issuer, shown(jwt.encode(claims, secret_of(issuer), "HS512"))) == 200


@pytest.mark.parametrize(
    "claims",
    [
        {"iss": "other"},
        {"sub": "other"},
        {"aud": "https://other.test"},
        {"aud": None},
        {"exp": 1},
    ],
)
def test_bad_assertions(issuer: Issuer, claims: dict[str, Any]) -> None:
    """Every rule of RFC 7523 section 3 is kept."""
    token = jwt.PyJWS().encode(
        json.dumps(claims_of(issuer, **claims)).encode(), secret_of(issuer), "HS256"
    )
    assert status_of(issuer, shown(token)) == 401


def test_an_assertion_is_good_once(issuer: Issuer) -> None:
    """A client that sends one again is found out."""
    form = shown(jwt.encode(claims_of(issuer), secret_of(issuer), "HS256"))
    assert [status_of(issuer, form) for _ in range(2)] == [200, 401]


def test_an_assertion_needs_its_type_and_a_known_shape(issuer: Issuer) -> None:
    """Junk, and a type that is not there, are refused."""
    good = jwt.encode(claims_of(issuer), secret_of(issuer), "HS256")
    assert status_of(issuer, {"client_assertion": good}) == 401
    assert status_of(issuer, shown("junk")) == 401
    assert status_of(issuer, shown(jwt.encode(claims_of(issuer), "", "none"))) == 401


def test_private_key_jwt(issuer: Issuer) -> None:
    """Only a registered key is trusted; keys of another kind do no harm."""
    key = ec.generate_private_key(ec.SECP256R1())
    issuer.trust_client_key(ed25519.Ed25519PrivateKey.generate().public_key())
    assert status_of(issuer, shown(jwt.encode(claims_of(issuer), key, "ES256"))) == 401
    pem = key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    issuer.trust_client_key(pem.decode())
    assert status_of(issuer, shown(jwt.encode(claims_of(issuer), key, "ES256"))) == 200


def test_an_unknown_algorithm_is_no_signature(issuer: Issuer) -> None:
    """An ``alg`` that nobody knows is refused, not a crash."""
    issuer.trust_client_key(ed25519.Ed25519PrivateKey.generate().public_key())
    assert status_of(issuer, shown(issuer.jwt(headers={"alg": "RS1"}))) == 401
