"""Bugs of other libraries that must not happen here, each named after where it happened."""

import json
import logging
import threading
import time
from typing import Any

import pytest
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from bearer_middleware import Identity
from bearer_middleware.errors import InvalidToken, Reason, Refused, Unavailable
from bearer_middleware.testing import Issuer
from tests.tokens.forging import (
    CLAIMS,
    HEADER,
    ISSUER,
    NOW,
    Gate,
    SecretGate,
    claims,
    forge,
    gate_of,
    header,
    segment,
)


def test_litellm_cache_key_is_the_whole_token(issuer: Issuer, asking: Gate) -> None:
    """CVE-2026-35030: an identity was remembered under the first twenty characters."""
    alice, bob = issuer.jwt("alice"), issuer.jwt("bob")
    assert alice[:60] == bob[:60]
    assert [asking.admit(token).subject for token in (alice, bob, alice)] == [
        "alice",
        "bob",
        "alice",
    ]
    one = issuer.opaque("alice", token="a" * 200 + "1")
    two = issuer.opaque("bob", token="a" * 200 + "2")
    assert [asking.admit(token).subject for token in (one, two, one)] == ["alice", "bob", "alice"]
    assert asking.reject("a" * 200) is Reason.INACTIVE
    assert asking.reject("a" * 200 + "1=") is Reason.INACTIVE


def test_fast_jwt_cache_tells_every_part_apart() -> None:
    """GHSA-rp9m-7r4c-75qg: two tokens met in one entry."""
    gate = SecretGate()
    shown = [forge(header(n=1)), forge(header(n=2)), forge(payload=claims(sub="bob")), forge()]
    subjects = [gate.admit(token).subject for token in [*shown, *shown]]
    assert subjects == ["alice", "alice", "bob", "alice"] * 2
    head, body, _ = shown[0].split(".")
    assert gate.reject(f"{head}.{body}.{shown[2].split('.')[2]}") is Reason.BAD_SIGNATURE


@pytest.mark.parametrize("kind", ["jwt", "opaque"])
@pytest.mark.parametrize("scope", ["read", "write", "readwrite", "read,write", "READ WRITE", ""])
def test_scopes_are_all_needed_and_not_any(issuer: Issuer, kind: str, scope: str) -> None:
    """oathkeeper and others: one of the scopes was enough."""
    gate = gate_of(issuer, required_scopes="read write")
    refusal = gate.refuse(getattr(issuer, kind)(scope=scope))
    assert (refusal.status, refusal.reason) == (403, Reason.INSUFFICIENT_SCOPE)
    assert gate.admit(getattr(issuer, kind)(scope="more write read")).scopes >= {"read", "write"}


@pytest.mark.parametrize("kind", ["jwt", "opaque"])
def test_oathkeeper_743_a_hit_is_judged_by_the_scopes_of_the_route(
    issuer: Issuer, kind: str
) -> None:
    """CVE-2021-32701, heimdall#3452: what is remembered are facts, not decisions."""
    gate = gate_of(issuer, required_scopes="write")
    token = getattr(issuer, kind)(scope="read")
    for _ in range(3):
        assert gate.refuse(token).status == 403


def test_backblaze_b2_mcp_172_two_policies_share_nothing(issuer: Issuer) -> None:
    """heimdall#3444, opencloud#3466: what one verifier let in is nothing to the next."""
    ours, theirs = gate_of(issuer), gate_of(issuer, audience="others")
    for token in (issuer.jwt(), issuer.opaque()):
        ours.admit(token)
        assert theirs.reject(token) is Reason.WRONG_AUDIENCE


def test_fastmcp_an_audience_is_mandatory(issuer: Issuer) -> None:
    """CVE-2025-69196, micronaut CVE-2023-36820, keycloak CVE-2026-37979: of either kind."""
    gate = gate_of(issuer)
    for audience in (None, "another-api", [], ["another-api"]):
        assert gate.reject(issuer.jwt(aud=audience)) is Reason.WRONG_AUDIENCE
        assert gate.reject(issuer.opaque(aud=audience)) is Reason.WRONG_AUDIENCE


def test_fastmcp_exp_and_nbf_are_looked_at(gate: Gate) -> None:
    """fastmcp up to 4.1: no ``nbf``, and tokens without ``exp`` for ever."""
    assert gate.reject(forge(payload=claims(exp=...))) is Reason.MISSING_CLAIM
    assert gate.reject(forge(payload=claims(nbf=NOW + 3600))) is Reason.NOT_YET_VALID


def test_authlib_27962_the_key_of_the_token_verifies_nothing(issuer: Issuer) -> None:
    """CVE-2026-27962: without a key of ours, the ``jwk`` of the header was believed."""
    evil = Issuer(issuer.url, audience=issuer.audience, algorithm="ES256")
    (jwk,) = evil.jwks["keys"]
    issuer.fail("jwks", body=b'{"keys":[]}')
    gate = gate_of(issuer)
    for headers in ({"jwk": jwk}, {"jwk": jwk, "kid": None}, {"jwk": jwk, "kid": ""}):
        refusal = gate.refuse(evil.jwt(headers=headers))
        assert isinstance(refusal, Unavailable | InvalidToken)
    issuer.recover()
    assert isinstance(gate_of(issuer).refuse(evil.jwt(headers={"jwk": jwk})), InvalidToken)


@pytest.mark.parametrize("crit", [["unknown"], ["exp"], []])
def test_pyjwt_32597_and_authlib_59420_crit_is_read(gate: Gate, crit: list[str]) -> None:
    """CVE-2026-32597, CVE-2025-59420, python-jose#413: extensions nobody understands."""
    assert gate.reject(forge(header(crit=crit))) is Reason.UNSUPPORTED_HEADER


def test_pyjwt_48523_the_list_holds_for_keys_that_name_an_algorithm(issuer: Issuer) -> None:
    """CVE-2026-48523: the ``alg`` of a key went past the list."""
    gate = gate_of(issuer, algorithms="RS256")
    for algorithm in ("ES256", "ES384", "PS256", "EdDSA"):
        assert gate.reject(issuer.jwt(algorithm=algorithm)) is Reason.UNSUPPORTED_ALG


def test_pyjwt_48524_a_failed_fetch_empties_nothing(issuer: Issuer) -> None:
    """CVE-2026-48524, istio#58101: unknown kids made fetches, and one failure lost the keys."""
    gate = gate_of(issuer, jwt_cache_ttl=0)
    token = issuer.jwt()
    gate.admit(token)
    for body in (b"", b"{}", b'{"keys":[]}', b'{"keys":[{"kty":"EC"}]}', b"<html>"):
        issuer.fail("jwks", body=body)
        assert gate.reject(issuer.jwt(headers={"kid": "unknown"})) is Reason.UNKNOWN_KID
        gate.admit(token)
    assert issuer.requests["jwks"] <= 5


def test_pyjwt_48525_a_payload_is_not_worked_on_for_b64_false(gate: Gate) -> None:
    """CVE-2026-48525: ``b64: false`` multiplied the work of a long payload."""
    token = segment(header(b64=False, crit=["b64"])).decode() + "." + "A" * 5000 + ".AAAA"
    assert gate.reject(token) is Reason.UNSUPPORTED_HEADER


def test_pyjwt_75c5_a_part_of_the_issuer_is_not_the_issuer(gate: Gate) -> None:
    """GHSA-75c5-xw7c-p5pm: ``iss`` was looked for inside a string."""
    for part in ("https", "as.example", "s", "", ISSUER[:-1], ISSUER + "x", [ISSUER], {ISSUER: 1}):
        assert gate.reject(forge(payload=claims(iss=part))) is Reason.UNKNOWN_ISSUER


@pytest.mark.parametrize("name", ["exp", "nbf", "iat"])
@pytest.mark.parametrize(
    "value", ["9999999999", "0", "٩٩٩٩٩٩٩٩٩٩", "９９９９９９９９９９", "1_000_000_000_0", " 9"]
)
def test_pyjwt_takes_text_for_a_time(gate: Gate, name: str, value: str) -> None:
    """PyJWT calls ``int()`` on claims, which reads text, Arabic digits and underscores."""
    assert gate.reject(forge(payload=claims(**{name: value}))) is Reason.MALFORMED_CLAIM


def test_pyjwt_2_15_1_takes_padding(gate: Gate) -> None:
    """Another spelling of a token is another key in every cache and list."""
    for padding in ("=", "==", "==="):
        assert gate.refuse(forge() + padding).status == 401


@pytest.mark.parametrize("encoding", [Encoding.PEM, Encoding.DER])
def test_python_jose_33663_no_confusion_of_algorithms(encoding: Encoding) -> None:
    """CVE-2024-33663, CVE-2022-29217: an EC public key is no secret, in whatever format."""
    issuer = Issuer(algorithm="ES256")
    public = issuer._mint.signing_key().public
    text = public.public_bytes(encoding, PublicFormat.SubjectPublicKeyInfo)
    token = issuer.jwt(algorithm="HS256", key=text, headers={"kid": issuer.kid})
    assert gate_of(issuer).reject(token) is Reason.UNSUPPORTED_ALG


@pytest.mark.parametrize("zipped", [{"zip": "DEF"}, {"enc": "A256GCM", "zip": "DEF"}])
def test_jwcrypto_39373_nothing_is_inflated(gate: Gate, zipped: dict[str, str]) -> None:
    """CVE-2026-39373, CVE-2024-28102: zip bombs."""
    assert gate.reject(forge({**HEADER, **zipped})) in {
        Reason.UNSUPPORTED_HEADER,
        Reason.ENCRYPTED_TOKEN,
    }


@pytest.mark.parametrize("active", ["true", "false", 1, "True", [False]])
def test_swarmauri_the_word_false_is_not_true(issuer: Issuer, active: Any) -> None:
    """memforge#34: ``bool("false")`` is true."""
    gate = gate_of(issuer)
    assert isinstance(gate.refuse(issuer.opaque(active=active)), Unavailable)


def test_guardhouse_a_hit_is_the_whole_identity(issuer: Issuer, asking: Gate) -> None:
    """guardhouse: the cache held a yes, so the second request had an empty user."""
    for token in (issuer.jwt(), issuer.opaque()):
        first, second = asking.admit(token), asking.admit(token)
        assert first == second
        assert second.subject == "alice"
        assert second.claims == first.claims != {}


def test_django_pyoidc_bad_credentials_are_never_anonymous(issuer: Issuer) -> None:
    """django-pyoidc, django-oauth-toolkit#367: optional means without a token."""
    gate = gate_of(issuer, optional=True)
    assert gate.show() is None
    assert gate.show(b"Basic Zm9v") is None
    bad = [b"Bearer", b"Bearer bad", b"Bearer a.b.c", b"Bearer " + issuer.jwt(exp=1).encode()]
    for value in bad:
        with pytest.raises(Refused):
            gate.show(value)


def test_mcp_53366_nothing_but_refusals_comes_out(gate: Gate) -> None:
    """CVE-2025-53366: an uncaught validation error took the server down."""
    strange = [7, "x", None, [], {}, [[]], -1, 1e300, "\0", 10**4000]
    for name in CLAIMS:
        for value in strange:
            try:
                gate.admit(forge(payload=claims(**{name: value})))
            except Refused as refusal:
                assert refusal.reason is not Reason.INTERNAL, (name, value)  # noqa: PT017


@pytest.mark.parametrize(
    "injected", ["\r\nERROR forged", "\x1b[31mred", "\u2028line", "%s%n{0}", "\0"]
)
def test_azure_no_text_of_a_token_reaches_a_log(
    issuer: Issuer, caplog: pytest.LogCaptureFixture, injected: str
) -> None:
    """azure, zitadel, armasec: logs held tokens and headers; a kid must not write a line."""
    caplog.set_level(logging.DEBUG, "bearer_middleware")
    gate, marked = gate_of(issuer), "canary" + injected
    tokens = [
        issuer.jwt(headers={"kid": marked}),
        issuer.jwt(headers={"typ": marked}),
        issuer.jwt(headers={"alg": marked}),
        *(issuer.jwt(**{name: marked}) for name in ("iss", "aud", "exp", "scope", "token_use")),
        issuer.jwt(sub=marked, cnf={marked: marked}),
        issuer.opaque(aud=marked),
        issuer.opaque(token_type=marked),
    ]
    for token in tokens:
        outcome = None
        try:
            outcome = gate.admit(token)
        except Refused as refusal:
            outcome = refusal
        assert "canary" not in f"{outcome} {outcome!r}"
    assert "canary" not in caplog.text
    assert all("canary" not in repr(vars(record)) for record in caplog.records)


def test_a_key_of_the_issuer_writes_no_log_line(
    issuer: Issuer, caplog: pytest.LogCaptureFixture
) -> None:
    """A server that is not ours names its keys; its words stay out of our log."""
    caplog.set_level(logging.DEBUG, "bearer_middleware")
    bad = {"kty": "canary\r\n", "kid": "canary\r\n", "alg": "canary", "use": "canary"}
    issuer.fail("jwks", body=json.dumps({"keys": [bad, *issuer.jwks["keys"]]}).encode())
    gate_of(issuer).admit(issuer.jwt())
    assert "keys_skipped" in caplog.text
    assert "canary" not in caplog.text


def test_duende_128_nothing_of_a_request_reaches_another(issuer: Issuer, asking: Gate) -> None:
    """OAuth2Introspection#128: the shared result mixed the state of two requests."""
    for token in (issuer.jwt(team={"roles": ["a"]}), issuer.opaque(team={"roles": ["a"]})):
        first = asking.admit(token)
        first.claims["team"]["roles"].append("admin")
        first.claims["team"]["evil"] = True
        second = asking.admit(token)
        assert second.claims["team"] == {"roles": ["a"]}
        assert second is not first


@pytest.mark.parametrize("sent", [7, 7.5, "7"])
def test_mod_oauth2_14_no_entry_outlives_exp(issuer: Issuer, sent: Any) -> None:
    """CWE-613, quarkus#43994: what is remembered ends with the token, not with its own time."""
    now = [float(NOW)]
    gate = gate_of(issuer, clock=lambda: now[0], introspection_ttl=3600, jwt_cache_ttl=3600)
    if isinstance(sent, str):
        assert gate.reject(issuer.opaque(exp=str(NOW + 7))) is Reason.MALFORMED_CLAIM
        return
    tokens = [issuer.jwt(exp=NOW + sent, iat=NOW), issuer.opaque(exp=NOW + sent, iat=NOW)]
    for token in tokens:
        gate.admit(token)
    now[0] += sent + 30
    for token in tokens:
        assert gate.reject(token) is Reason.EXPIRED


def test_oathkeeper_968_a_hit_does_not_lengthen_a_life(issuer: Issuer) -> None:
    """Every hit stored the entry anew, so that it never ended."""
    now = [float(NOW)]
    gate = gate_of(issuer, clock=lambda: now[0], introspection_ttl=10)
    token = issuer.opaque(exp=NOW + 3600, iat=NOW)
    for _ in range(7):  # until then it is not due to be asked about anew
        gate.admit(token)
        now[0] += 1
    assert issuer.requests["introspection"] == 1
    issuer.revoke(token)
    now[0] += 3
    assert gate.reject(token) is Reason.INACTIVE


def test_quarkus_34104_a_hit_asks_nobody(issuer: Issuer, asking: Gate) -> None:
    """The answer was remembered, and the question was asked all the same."""
    token = issuer.opaque()
    for _ in range(5):
        asking.admit(token)
    assert issuer.requests["introspection"] == 1


def test_lua_resty_openidc_523_dead_tokens_ask_once(issuer: Issuer, asking: Gate) -> None:
    """A dead token hammered the server; it has a short memory of its own."""
    for _ in range(5):
        assert asking.reject("dead") is Reason.INACTIVE
    assert issuer.requests["introspection"] == 1


def test_spring_5853_a_key_that_is_gone_is_not_trusted(issuer: Issuer) -> None:
    """A removed key stayed good for as long as no new one appeared."""
    now = [float(NOW)]
    gate = gate_of(issuer, clock=lambda: now[0], jwt_cache_ttl=3600)
    old = issuer.jwt(exp=NOW + 7200, iat=NOW)
    gate.admit(old)
    issuer.rotate()
    gate.admit(issuer.jwt(exp=NOW + 7200, iat=NOW))  # its kid is unknown, so the set is fetched
    now[0] += 4  # the limit allows another fetch for the kid that is now unknown
    assert gate.reject(old) is Reason.UNKNOWN_KID


def test_entur_361_another_alg_of_a_key_ends_what_it_vouched_for() -> None:
    """A remembered token must not survive a change of its key's JWK, not of the material alone."""
    now = [float(NOW)]
    issuer = Issuer(algorithm="RS256")
    gate = gate_of(issuer, clock=lambda: now[0], jwt_cache_ttl=3600)
    token = issuer.jwt(exp=NOW + 7200, iat=NOW)
    gate.admit(token)
    (jwk,) = issuer.jwks["keys"]
    issuer.fail("jwks", body=json.dumps({"keys": [{**jwk, "alg": "PS256"}]}).encode())
    unknown = issuer.jwt(headers={"kid": "another"}, exp=NOW + 7200, iat=NOW)
    assert gate.reject(unknown) is Reason.UNKNOWN_KID
    assert gate.reject(token) is Reason.UNSUPPORTED_ALG


def test_ory_hydra_and_salesforce_tokens_with_dots_are_opaque(issuer: Issuer, asking: Gate) -> None:
    """IdentityServer4#123, open-liberty#9332, wso2#3533: a dot made a JWT of them."""
    for token in ("ory_at_abc.def", "00D50000000IZ3Z!AQ0".replace("!", "."), "x.y.z", "a..b"):
        assert asking.admit(issuer.opaque(token=token)).kind == "opaque"


def test_apisix_13916_an_opaque_token_has_the_same_issuer_rule(
    issuer: Issuer, asking: Gate
) -> None:
    """The list of issuers was not applied to introspected tokens."""
    assert asking.reject(issuer.opaque(iss="https://evil.example")) is Reason.UNKNOWN_ISSUER
    assert asking.admit(issuer.opaque(iss=None)).issuer == issuer.url


def test_apisix_13916_a_server_without_a_name_speaks_for_no_other(issuer: Issuer) -> None:
    """Of two servers, the one known by its endpoint alone must not name the users of the other."""
    evil = Issuer("https://evil.example", audience=issuer.audience, algorithm="ES256")
    asked = {"introspection_url": f"{evil.url}/introspect", "client_auth": "none"}
    tables = [{"issuer": issuer.url}, asked]
    gate = Gate(transport=evil.transport(), issuers=tables, audience=issuer.audience)
    said = {"active": True, "sub": "root", "aud": issuer.audience}
    evil.fail("introspection", body=json.dumps(said).encode())
    assert gate.admit("good").issuer is None
    evil.fail("introspection", body=json.dumps({**said, "iss": issuer.url}).encode())
    assert gate.reject("forged") is Reason.UNKNOWN_ISSUER


def test_heimdall_2217_iss_is_optional_in_an_answer(issuer: Issuer, asking: Gate) -> None:
    """RFC 7662 does not promise it; then it is the configured one."""
    assert asking.admit(issuer.opaque(iss=None)).issuer == issuer.url


@pytest.mark.parametrize(
    "more", [{"token_type": "refresh_token"}, {"aud": None}, {"aud": None, "token_type": None}]
)
def test_panva_refresh_tokens_are_active_and_refused(
    issuer: Issuer, asking: Gate, more: dict[str, Any]
) -> None:
    """Two of two introspecting rivals let a refresh token in, for it is active."""
    assert isinstance(asking.refuse(issuer.opaque(**more)), InvalidToken)


@pytest.mark.parametrize(
    ("said", "subject", "is_client"),
    [
        ({"sub": None, "client_id": "shop"}, "shop", True),
        ({"sub": None, "client_id": None, "username": "bob"}, "bob", False),
        ({"sub": None, "client_id": "shop", "username": "bob"}, "shop", False),
        ({"sub": None, "client_id": None}, None, False),
        ({"sub": "", "client_id": "shop"}, "shop", True),
        ({"sub": None, "client_id": "shop", "username": 7}, "shop", True),
        ({"sub": None, "client_id": "shop", "username": None}, "shop", True),
    ],
)
def test_real_servers_leave_sub_out(
    issuer: Issuer, asking: Gate, said: dict[str, Any], subject: str | None, is_client: bool
) -> None:
    """panva, glewlwyd, Canaille and django-oauth-toolkit: who it is comes from what is there."""
    identity = asking.admit(issuer.opaque(**said))
    assert (identity.subject, identity.is_client) == (subject, is_client)


def test_canaille_times_are_floats(issuer: Issuer, asking: Gate) -> None:
    """Fractions of a second are numbers, too."""
    now = time.time()
    identity = asking.admit(issuer.opaque(exp=now + 60.5, iat=now - 0.5))
    assert isinstance(identity.expires_at, float)


def test_a_key_set_like_that_of_real_servers_serves(issuer: Issuer) -> None:
    """Unknown kty among the keys, no ``alg``, members nobody knows, pretty-printed."""
    (jwk,) = issuer.jwks["keys"]
    plain = {name: value for name, value in jwk.items() if name not in {"alg", "use"}}
    akp = {"kty": "AKP", "alg": "ML-DSA-65", "pub": "AA", "kid": "pq"}
    text = json.dumps({"keys": [akp, {**plain, "issuer": "x", "x5t": "y"}]}, indent=2)
    issuer.fail("jwks", body=text.encode(), content_type="application/jwk-set+json")
    assert gate_of(issuer).admit(issuer.jwt()).subject == "alice"


def test_rotation_may_reuse_a_kid(issuer: Issuer) -> None:
    """The same kid, another key: the old token is refused, and nothing is fetched for it twice."""
    gate = gate_of(issuer, jwt_cache_ttl=0)
    old = issuer.jwt()
    gate.admit(old)
    issuer.rotate(kid=issuer.kid)
    fresh = gate_of(issuer, jwt_cache_ttl=0)
    assert fresh.reject(old) is Reason.BAD_SIGNATURE
    assert fresh.admit(issuer.jwt())


def test_threads_share_one_server(issuer: Issuer, asking: Gate) -> None:
    """Many tokens at once, and each request has the identity of its own."""
    tokens = {name: issuer.jwt(name) for name in map(str, range(40))}
    seen: dict[str, Identity] = {}

    def show(name: str, token: str) -> None:
        seen[name] = asking.admit(token)

    threads = [threading.Thread(target=show, args=pair) for pair in tokens.items()]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert {name: identity.subject for name, identity in seen.items()} == {n: n for n in tokens}
