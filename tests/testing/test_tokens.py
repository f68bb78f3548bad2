"""The tokens that the issuer mints, and the keys it publishes for them."""

from __future__ import annotations

import base64
import gc
import time
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from bearer_middleware.testing import Issuer, keys
from bearer_middleware.testing.signing import Signed

ASYMMETRIC = [
    *("RS256", "RS384", "RS512", "PS256", "PS384", "PS512"),
    *("ES256", "ES384", "ES512", "EdDSA", "Ed25519", "Ed448"),
]

NESTED = f"e30.{base64.urlsafe_b64encode(b'[' * 100_000).decode()}."


def parsed(token: str) -> Signed:
    """The token in its parts."""
    signed = Signed.parse(token)
    assert signed is not None
    return signed


def verified(issuer: Issuer, token: str, **options: Any) -> Any:
    """The claims, as PyJWT sees them with the published key set."""
    kid = jwt.get_unverified_header(token)["kid"]
    key = jwt.PyJWKSet.from_dict(issuer.jwks)[kid]
    return jwt.decode(token, key, audience=issuer.audience, issuer=issuer.url, **options)


def test_a_jwt_is_an_access_token_of_rfc_9068(issuer: Issuer) -> None:
    """Header and claims are those of RFC 9068 section 2, and PyJWT verifies it."""
    token = issuer.jwt()
    claims = verified(issuer, token, algorithms=["RS256"])
    assert jwt.get_unverified_header(token) == {"alg": "RS256", "typ": "at+jwt", "kid": issuer.kid}
    assert set(claims) == {"iss", "aud", "sub", "client_id", "iat", "exp", "jti", "scope"}
    assert (claims["sub"], claims["scope"]) == ("alice", "read")
    assert claims["exp"] - claims["iat"] == 3600


def test_any_claim_may_be_overridden_added_or_left_out(issuer: Issuer) -> None:
    """Later values win, and ``None`` leaves a claim out."""
    claims = parsed(issuer.jwt("bob", None, exp=1, jti=None, iss=5, roles=["a"])).claims
    assert (claims["sub"], claims["exp"], claims["iss"], claims["roles"]) == ("bob", 1, 5, ["a"])
    assert not {"scope", "jti"} & set(claims)


def test_any_header_may_be_overridden_added_or_left_out(issuer: Issuer) -> None:
    """Headers that PyJWT would not write are written."""
    token = issuer.jwt(headers={"typ": None, "kid": 7, "crit": ["b64"], "alg": "none"})
    assert parsed(token).header == {"alg": "none", "kid": 7, "crit": ["b64"]}


def test_two_tokens_are_never_the_same(issuer: Issuer) -> None:
    """Each token has a ``jti`` of its own."""
    assert issuer.jwt() != issuer.jwt()
    assert issuer.opaque() != issuer.opaque()


@pytest.mark.parametrize("algorithm", ASYMMETRIC)
def test_each_algorithm_has_a_published_key(issuer: Issuer, algorithm: str) -> None:
    """The key of an algorithm is published at the moment it signs."""
    token = issuer.jwt(algorithm=algorithm)
    header = parsed(token).header
    (published,) = (key for key in issuer.jwks["keys"] if key["kid"] == header["kid"])
    assert header["alg"] == published["alg"] == algorithm
    assert published["use"] == "sig"
    assert not {"d", "key_ops"} & set(published)
    assert issuer.introspect(token)["active"]


@pytest.mark.parametrize("algorithm", ["ES256", "EdDSA"])
def test_an_issuer_may_sign_with_another_algorithm_by_default(algorithm: str) -> None:
    """The key set holds the one key of that algorithm."""
    issuer = Issuer(algorithm=algorithm)
    assert verified(issuer, issuer.jwt(), algorithms=[algorithm])["sub"] == "alice"
    assert [key["alg"] for key in issuer.jwks["keys"]] == [algorithm]


@pytest.mark.parametrize("algorithm", ["HS256", "none", "RS1"])
def test_an_issuer_needs_an_algorithm_with_a_key_pair(algorithm: str) -> None:
    """Nothing else could be published."""
    with pytest.raises(ValueError, match=algorithm):
        Issuer(algorithm=algorithm)


def test_an_unknown_algorithm_is_a_mistake_of_the_test(issuer: Issuer) -> None:
    """A misspelt algorithm is told, not signed."""
    with pytest.raises(ValueError, match="RS257"):
        issuer.jwt(algorithm="RS257")


def test_a_shared_secret_signs_hs256(issuer: Issuer) -> None:
    """Text and bytes are taken as they are, and no ``kid`` is made up."""
    token = issuer.jwt(algorithm="HS256", key="s" * 32)
    assert jwt.decode(token, b"s" * 32, ["HS256"], audience="api")["sub"] == "alice"
    assert "kid" not in parsed(token).header
    with pytest.raises(ValueError, match="key="):
        issuer.jwt(algorithm="HS256")


def test_a_public_key_may_be_abused_as_a_secret(issuer: Issuer) -> None:
    """The algorithm confusion of RFC 8725 section 2.1 can be tried."""
    pem = ec.generate_private_key(ec.SECP256R1()).public_key()
    secret = pem.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    assert parsed(issuer.jwt(algorithm="HS256", key=secret)).verifies(secret)


def test_an_unsigned_token_is_inactive(issuer: Issuer) -> None:
    """``alg`` none makes a token with an empty signature that the issuer itself refuses."""
    token = issuer.jwt(algorithm="none")
    assert token.endswith(".")
    assert issuer.introspect(token) == {"active": False}


def test_a_strangers_key_signs_under_our_kid(issuer: Issuer) -> None:
    """Only the signature gives the forgery away."""
    token = issuer.jwt(key=rsa.generate_private_key(65537, 2048))
    assert parsed(token).header["kid"] == issuer.kid
    assert issuer.introspect(token) == {"active": False}


def test_introspection_knows_a_jwt_without_a_kid(issuer: Issuer) -> None:
    """Whose key it is can be seen by trying, as an authorization server does with its own."""
    token = issuer.jwt(headers={"kid": None})
    assert issuer.introspect(token)["active"] is True
    issuer.rotate()
    assert issuer.introspect(token) == {"active": False}


def test_introspection_knows_an_opaque_token(issuer: Issuer) -> None:
    """The answer has the members of RFC 7662 section 2.2; any may be overridden or left out."""
    answer = issuer.introspect(issuer.opaque("bob", "write", aud=None, exp=1, username="Bob"))
    assert answer["active"] is True
    assert (answer["sub"], answer["scope"], answer["username"]) == ("bob", "write", "Bob")
    assert (answer["iss"], answer["token_type"], answer["exp"]) == (issuer.url, "Bearer", 1)
    assert "aud" not in answer
    assert issuer.introspect(issuer.opaque(active=False))["active"] is False


def test_an_opaque_token_may_be_given(issuer: Issuer) -> None:
    """Some servers mark their tokens with a prefix."""
    assert issuer.opaque(token="acme_1") == "acme_1"
    assert issuer.introspect("acme_1")["active"] is True


@pytest.mark.parametrize("token", ["", "x", "a.b.c", "é.é.é", "W10.W10.", "e30.e30.", NESTED])
def test_junk_is_inactive(issuer: Issuer, token: str) -> None:
    """Whatever is asked about, the answer is an answer."""
    assert issuer.introspect(token) == {"active": False}


@pytest.mark.parametrize(
    "claims", [{"exp": 1}, {"exp": None}, {"exp": "soon"}, {"nbf": time.time() + 3600}]
)
def test_a_jwt_is_active_only_in_its_time(issuer: Issuer, claims: dict[str, Any]) -> None:
    """Expired, eternal, nonsensical and early tokens are inactive."""
    assert issuer.introspect(issuer.jwt(**claims)) == {"active": False}


@pytest.mark.parametrize("kind", ["jwt", "opaque"])
def test_a_revoked_token_is_inactive(issuer: Issuer, kind: str) -> None:
    """Only the token that was revoked is."""
    token, other = (getattr(issuer, kind)() for _ in range(2))
    issuer.revoke(token)
    assert issuer.introspect(token) == {"active": False}
    assert issuer.introspect(other)["active"] is True


def test_a_respelt_token_stays_revoked(issuer: Issuer) -> None:
    """The same ``jti`` under another ECDSA signature is the same token."""
    token = issuer.jwt(algorithm="ES256", jti="one")
    issuer.revoke(token)
    assert issuer.introspect(issuer.jwt(algorithm="ES256", jti="one")) == {"active": False}


def test_rotation_replaces_the_key(issuer: Issuer) -> None:
    """The old key is published no longer, nor are those of other algorithms."""
    token, other = issuer.jwt(), issuer.jwt(algorithm="ES256")
    kid = issuer.rotate()
    assert [key["kid"] for key in issuer.jwks["keys"]] == [kid] == [issuer.kid]
    assert issuer.introspect(token) == issuer.introspect(other) == {"active": False}
    assert issuer.introspect(issuer.jwt(algorithm="ES256"))["active"]


def test_rotation_may_keep_the_old_key(issuer: Issuer) -> None:
    """Then tokens of before stay good."""
    token = issuer.jwt()
    issuer.rotate(keep_old=True)
    assert len(issuer.jwks["keys"]) == 2
    assert issuer.introspect(token)["active"]


def test_rotation_may_reuse_a_kid(issuer: Issuer) -> None:
    """A new key under an old name: the signature of the old token is bad."""
    token, kid = issuer.jwt(), issuer.kid
    assert issuer.rotate(kid=kid) == kid
    assert issuer.introspect(token) == {"active": False}


def test_an_event_token_is_one_of_rfc_8417(issuer: Issuer) -> None:
    """Typed, without what access tokens have; claims and headers may be changed."""
    subject = {"format": "opaque", "id": "alice"}
    signed = parsed(issuer.event_token("urn:event", subject, aud="us", headers={"x": 1}))
    assert (signed.header["typ"], signed.header["x"]) == ("secevent+jwt", 1)
    assert signed.claims.keys() == {"iss", "aud", "iat", "jti", "sub_id", "events"}
    assert (signed.claims["events"], signed.claims["aud"]) == ({"urn:event": {}}, "us")
    events = {"urn:one": {"a": 1}, "urn:two": {}}
    signed = parsed(issuer.event_token(events, exp=5, jti=None))
    assert signed.claims.keys() == {"iss", "aud", "iat", "exp", "events"}
    assert signed.claims["events"] == events


def test_issuers_do_not_share_a_key() -> None:
    """Not even with an issuer that is gone, as long as the test goes on."""
    stranger = Issuer()
    modulus = stranger.jwks["keys"][0]["n"]
    del stranger
    gc.collect()
    assert Issuer().jwks["keys"][0]["n"] != modulus


def test_keys_of_past_tests_are_used_again_under_a_new_name(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """That is what keeps tests fast; an issuer that lives keeps its key."""
    for pool in ("_resting", "_spare"):
        monkeypatch.setattr(keys, pool, [])
    past, living = Issuer(algorithm="PS512"), Issuer(algorithm="PS512")
    (old,), (kept,) = past.jwks["keys"], living.jwks["keys"]
    del past
    gc.collect()
    keys.recycle()
    (new,) = Issuer(algorithm="RS384").jwks["keys"]
    assert new["n"] == old["n"] != kept["n"]
    assert new["kid"] != old["kid"]


def test_repr_shows_no_secret(issuer: Issuer) -> None:
    """Neither the secret nor a key stands in a traceback."""
    assert repr(issuer) == "Issuer('https://issuer.test', audience='api')"
    assert "private" not in repr(keys.KeyRing("ES256").signing())
