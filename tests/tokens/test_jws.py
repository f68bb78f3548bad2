"""The strict front of a JWT: one spelling, one header, one algorithm."""

import base64
import json
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.utils import (
    decode_dss_signature,
    encode_dss_signature,
)

from bearer_middleware.errors import InvalidToken, Reason
from bearer_middleware.testing import Issuer
from tests.tokens.forging import (
    AUDIENCE,
    CLAIMS,
    HEADER,
    ISSUER,
    Gate,
    claims,
    forge,
    front,
    gate_of,
    header,
    segment,
)

P256_ORDER = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551


def test_a_good_token_is_let_in(gate: Gate) -> None:
    """What all the refusals below differ from in one point alone."""
    identity = gate.admit(forge())
    assert (identity.subject, identity.kind, identity.issuer) == ("alice", "jwt", ISSUER)


def is_jws(token: bytes) -> bool:
    """Is this a JWT for our strict front, rather than opaque or malformed?"""
    try:
        return front(token) is not None
    except InvalidToken:
        return False


# -- spelling -----------------------------------------------------------------------------

GOOD = forge()
HEAD, BODY, SIGN = GOOD.split(".")


@pytest.mark.parametrize(
    "token",
    [
        *(GOOD + "=", GOOD + "==", GOOD + "A", GOOD + "AA", GOOD + ".", "." + GOOD, GOOD + "~"),
        *(f"{HEAD}.{BODY}", f"{HEAD}..{SIGN}", f".{BODY}.{SIGN}", f"{HEAD}.{BODY}."),
        *(f"{HEAD}.{BODY}.{SIGN}.{SIGN}", f"{HEAD}..{BODY}.{SIGN}", f"{HEAD}.{BODY}~.{SIGN}"),
        *(f"{HEAD}A.{BODY}.{SIGN}", f"{HEAD}.{BODY}A.{SIGN}", f"{HEAD}.{BODY}.A{SIGN}"),
        *(GOOD.swapcase(), f"{HEAD}.{BODY}.{SIGN.swapcase()}", GOOD.replace("-", "+", 1) + "+"),
    ],
)
def test_base64url_has_no_padding_and_no_other_characters(gate: Gate, token: str) -> None:
    """JWS-1: two periods and the base64url alphabet, nothing else."""
    assert gate.refuse(token).status == 401
    assert gate.admit(GOOD)


@pytest.mark.parametrize("character", "= \t\r\n?+/!%é")
@pytest.mark.parametrize("part", range(3))
def test_no_character_is_skipped_inside_a_segment(character: str, part: int) -> None:
    """JWS-1: a decoder that discards strange characters would read these."""
    segments = GOOD.encode().split(b".")
    segments[part] = segments[part][:8] + character.encode() + segments[part][8:]
    assert not is_jws(b".".join(segments))


@pytest.mark.parametrize("algorithm", ["ES256", "ES512", "RS256", "PS256", "EdDSA"])
def test_unused_bits_must_be_zero(algorithm: str) -> None:
    """JWS-2: the last character of a segment has one spelling."""
    issuer = Issuer(algorithm=algorithm)
    gate, token = gate_of(issuer), issuer.jwt()
    alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
    gate.admit(token)
    for last in alphabet.replace(token[-1], ""):
        assert gate.reject(token[:-1] + last) in {Reason.MALFORMED_TOKEN, Reason.BAD_SIGNATURE}


def respelt(token: str) -> str:
    """The other ECDSA signature that verifies as well: ``(r, n - s)``."""
    signing_input, _, signature = token.rpartition(".")
    raw = base64.urlsafe_b64decode(signature + "==")
    r, s = int.from_bytes(raw[:32]), int.from_bytes(raw[32:])
    other = r.to_bytes(32) + (P256_ORDER - s).to_bytes(32)
    return f"{signing_input}.{segment(other).decode()}"


def test_a_respelt_ecdsa_signature_revives_nothing(issuer: Issuer) -> None:
    """JWS-3: a revoked token stays revoked in its other spelling, also after it was remembered."""
    gate = gate_of(issuer, jwt_validation="both", introspection_ttl=0)
    token = issuer.jwt()
    assert gate.admit(token) == gate.admit(respelt(token))
    issuer.revoke(token)
    assert gate.reject(token) is gate.reject(respelt(token)) is Reason.INACTIVE


# -- header -------------------------------------------------------------------------------

TEXT = json.dumps(HEADER)


@pytest.mark.parametrize(
    "head",
    [
        b"\xef\xbb\xbf" + TEXT.encode(),
        *(
            TEXT.encode(name)
            for name in ("utf-16", "utf-16-le", "utf-16-be", "utf-32", "utf-32-le")
        ),
        b'{"alg":"HS256","x":NaN}',
        b'{"alg":"HS256","x":-Infinity}',
        b'{"alg":"HS256","x":"\xff"}',
        b'{"alg":"HS256","x":"\xed\xa0\x80"}',
        b'{"alg":"HS256","x":"\\ud800"}',
        b'{"alg":"HS256","x":"\x00"}',
        b'{"alg":"HS256",}',
        b"{'alg':'HS256'}",
        b'{"alg":"HS256"}{}',
        b'{"alg":"HS256"}\0',
        b'\x0b{"alg":"HS256"}',
        b'{"alg":"HS256"/**/}',
        b'["alg","HS256"]',
        b"",
        b"null",
    ],
)
def test_the_header_is_a_utf8_json_object(gate: Gate, head: bytes) -> None:
    """JWS-4: no other encoding, no mark, no extension of JSON; the signature is good each time."""
    assert gate.refuse(forge(head)).status == 401


@pytest.mark.parametrize(
    "head",
    [
        b'{"alg":"none","alg":"HS256"}',
        b'{"alg":"HS256","alg":"HS256"}',
        b'{"alg":"HS256","al\\u0067":"none"}',
        b'{"alg":"HS256","kid":"a","kid":"a"}',
        b'{"alg":"HS256","x":{"y":1,"y":1}}',
    ],
)
def test_a_header_name_stands_once(gate: Gate, head: bytes) -> None:
    """JWS-5: at any depth and in any spelling."""
    assert gate.reject(forge(head)) is Reason.MALFORMED_TOKEN


@pytest.mark.parametrize(
    "twice", [b'"sub":"a","sub":"b"', b'"sub":"a","s\\u0075b":"a"', b'"x":[{"y":1,"y":1}]']
)
def test_a_claim_name_stands_once(gate: Gate, twice: bytes) -> None:
    """JWS-6: a claim that stands twice could mean either."""
    payload = json.dumps(claims(sub=...)).encode()[:-1] + b"," + twice + b"}"
    assert gate.reject(forge(payload=payload)) is Reason.MALFORMED_TOKEN


@pytest.mark.parametrize(
    "crit", [[], ["alg"], ["exp"], ["b64"], ["x"], "alg", None, {}, [[]], 7, ["http://example/ext"]]
)
def test_no_extension_is_critical(gate: Gate, crit: Any) -> None:
    """JWS-7: we understand none, so no value of ``crit`` is acceptable."""
    token = forge(header(crit=crit, x=1, exp=1))
    assert gate.reject(token) is Reason.UNSUPPORTED_HEADER


@pytest.mark.parametrize("b64", [False, True, None, "false"])
@pytest.mark.parametrize("more", [{}, {"crit": ["b64"]}])
def test_b64_is_never_legal(gate: Gate, b64: Any, more: dict[str, Any]) -> None:
    """JWS-8: an unencoded payload is no JWT (RFC 7797 section 7)."""
    assert gate.reject(forge(header(b64=b64, **more))) is Reason.UNSUPPORTED_HEADER


def test_an_unencoded_payload_is_not_read(gate: Gate) -> None:
    """JWS-8: neither is one that merely stands there."""
    text = json.dumps(CLAIMS, separators=(",", ":")).replace('"', "~").encode()
    assert is_jws(GOOD.encode())
    assert not is_jws(HEAD.encode() + b"." + text + b"." + SIGN.encode())


@pytest.mark.parametrize("compressed", ["DEF", "", None])
def test_compression_is_refused(gate: Gate, compressed: Any) -> None:
    """JWS-26: nothing is inflated."""
    assert gate.reject(forge(header(zip=compressed))) is Reason.UNSUPPORTED_HEADER


# -- algorithm ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    "alg",
    [
        *("none", "nOnE", "NONE", "", "hs256", "Hs256", "HS256 ", " HS256", "HS256\0", "HS1"),
        *("RS256", "ES256", "EdDSA", "HS2\u1e956", "ＨＳ256", "HS256,HS256", "dir", "A256KW"),
        *(["HS256"], {"HS256": 1}, None, 7, True, ...),
    ],
)
@pytest.mark.parametrize("signed", [True, False])
def test_alg_is_an_exact_string_of_the_list(gate: Gate, alg: Any, signed: bool) -> None:
    """JWS-9, JWS-12: also with a good signature, nothing but the very name is that algorithm."""
    token = forge(header(alg=alg))
    assert gate.refuse(token if signed else token.rpartition(".")[0] + ".").status == 401


@pytest.mark.parametrize("alg", ["none", "nOnE", "NONE", "None"])
def test_unsigned_tokens_are_never_let_in(issuer: Issuer, asking: Gate, alg: str) -> None:
    """JWS-12: by no spelling, with no kid, and nothing is fetched for one."""
    for headers in ({"alg": alg}, {"alg": alg, "kid": issuer.kid}):
        token = issuer.jwt(algorithm="none", headers=headers)
        assert asking.reject(token) is Reason.UNSUPPORTED_ALG
    assert not issuer.requests


def test_the_public_key_is_no_shared_secret() -> None:
    """JWS-9, JWS-20: the key confusion of RFC 8725 section 2.1, with every text of the key."""
    from cryptography.hazmat.primitives.serialization import (
        Encoding,
        PublicFormat,
    )
    from jwt import PyJWK

    issuer = Issuer()
    gate, (jwk,) = gate_of(issuer), issuer.jwks["keys"]
    public = PyJWK(jwk).key
    texts = [
        public.public_bytes(encoding, form)
        for encoding in (Encoding.PEM, Encoding.DER)
        for form in (PublicFormat.SubjectPublicKeyInfo, PublicFormat.PKCS1)
    ]
    for text in (*texts, json.dumps(jwk).encode(), jwk["n"].encode()):
        for headers in ({}, {"kid": issuer.kid}):
            token = issuer.jwt(algorithm="HS256", key=text, headers=headers)
            assert gate.reject(token) is Reason.UNSUPPORTED_ALG


def test_the_list_of_algorithms_is_the_issuers_own() -> None:
    """JWS-11: another issuer's algorithm does not serve, nor another issuer's key."""
    first = Issuer("https://a.example", algorithm="ES256")
    second = Issuer("https://b.example", algorithm="RS256")
    gate = two_issuers(first, second)
    assert gate.admit(first.jwt()).issuer == first.url
    assert gate.admit(second.jwt()).issuer == second.url
    assert gate.reject(first.jwt(algorithm="RS256")) is Reason.UNSUPPORTED_ALG
    assert gate.reject(second.jwt(algorithm="ES256")) is Reason.UNSUPPORTED_ALG


def two_issuers(first: Issuer, second: Issuer, **settings: Any) -> Gate:
    """Trusts both, each with its own algorithm, and reaches both in-process."""
    import httpx2

    transports = {f"{one.url.split('/')[2]}": one.transport() for one in (first, second)}

    def route(request: Any) -> Any:
        return transports[request.url.host].handle_request(request)

    tables = [
        {"issuer": first.url, "audience": first.audience, "algorithms": "ES256"},
        {"issuer": second.url, "audience": second.audience, "algorithms": "RS256"},
    ]
    return Gate(transport=httpx2.MockTransport(route), issuers=tables, **settings)


def test_a_key_belongs_to_its_issuer() -> None:
    """CLM-4: the other issuer's key of the same kid signs for that issuer only."""
    first = Issuer("https://a.example", algorithm="ES256")
    second = Issuer("https://b.example", algorithm="RS256")
    second.rotate(kid=first.kid)
    gate = two_issuers(first, second)
    gate.admit(second.jwt())
    forged = second.jwt(iss=first.url, aud=first.audience)
    assert gate.reject(forged) is Reason.UNSUPPORTED_ALG
    third = Issuer("https://c.example", algorithm="ES256")
    third.rotate(kid=first.kid)
    gate.admit(first.jwt())
    assert gate.reject(third.jwt(iss=first.url, aud=first.audience)) is Reason.BAD_SIGNATURE


# -- the token's own keys -----------------------------------------------------------------


@pytest.mark.parametrize("with_kid", [True, False])
def test_keys_in_the_token_are_ignored(issuer: Issuer, asking: Gate, with_kid: bool) -> None:
    """JWS-13: ``jwk``, ``jku``, ``x5u`` and ``x5c`` verify nothing and are fetched by nobody."""
    evil = Issuer(algorithm="ES256")
    (jwk,) = evil.jwks["keys"]
    headers = {
        "jwk": jwk,
        "jku": "http://169.254.169.254/latest",
        "x5u": "https://issuer.test/x5u",
        "x5c": ["MIIB"],
        "x5t": "x",
        "kid": issuer.kid if with_kid else jwk["kid"],
    }
    key = evil._mint.signing_key().private
    refusal = asking.refuse(issuer.jwt(key=key, headers=headers))
    assert refusal.reason in {Reason.BAD_SIGNATURE, Reason.UNKNOWN_KID}
    assert {asked.path for asked in issuer.log} <= {
        "/jwks",
        "/.well-known/oauth-authorization-server",
    }
    assert asking.admit(issuer.jwt(headers=headers | {"kid": issuer.kid}))


@pytest.mark.parametrize("kid", [7, {}, [], None, True, 1.5, "k" * 257, "k" * 5000])
def test_kid_is_a_short_string(gate: Gate, issuer: Issuer, asking: Gate, kid: Any) -> None:
    """JWS-14: anything else is a malformed token, for a secret as well, and fetches nothing."""
    text = json.dumps(header(kid=kid)).encode()
    assert gate.reject(forge(text)) is Reason.MALFORMED_TOKEN
    es256 = segment(header(alg="ES256", kid=kid)).decode()
    assert asking.reject(f"{es256}.{BODY}.{SIGN}") is Reason.MALFORMED_TOKEN
    assert not issuer.requests


def test_random_kids_do_not_cause_random_fetches(issuer: Issuer) -> None:
    """JWS-14: a thousand unknown kids in one second fetch a handful of times at most."""
    gate = gate_of(issuer)
    gate.admit(issuer.jwt())
    for number in range(1000):
        refusal = gate.reject(issuer.jwt(headers={"kid": f"no-{number}"}))
        assert refusal is Reason.UNKNOWN_KID
    assert issuer.requests["jwks"] <= 5


@pytest.mark.parametrize(
    "kid", ["../../dev/null", "' OR 1=1 --", "\n\nforged log line", "\0", "|id", "${jndi:ldap://x}"]
)
def test_kid_is_only_compared(issuer: Issuer, asking: Gate, kid: str) -> None:
    """JWS-14: a kid is looked up and nothing else."""
    assert asking.reject(issuer.jwt(headers={"kid": kid})) is Reason.UNKNOWN_KID


# -- signatures ---------------------------------------------------------------------------


def test_ecdsa_signatures_are_raw_and_of_full_length(issuer: Issuer, asking: Gate) -> None:
    """JWS-21: DER, zero, short and long signatures are none."""
    signing_input, _, signature = issuer.jwt().rpartition(".")
    raw = base64.urlsafe_b64decode(signature + "==")
    r, s = int.from_bytes(raw[:32]), int.from_bytes(raw[32:])
    der = encode_dss_signature(r, s)
    assert decode_dss_signature(der) == (r, s)
    order = P256_ORDER.to_bytes(32)
    wrong = [
        *(b"", der, raw[:-1], raw + b"\0", b"\0" + raw, raw[:32] + b"\0" + raw[32:], raw * 2),
        *(bytes(64), order + order, raw[:32] + bytes(32), bytes(32) + raw[32:], b"\xff" * 64),
        *(raw[32:] + raw[:32], raw[:32] + order, b"\0" * 8 + raw[:32] + b"\0" * 8 + raw[32:]),
    ]
    for other in wrong:
        token = f"{signing_input}.{segment(other).decode()}"
        assert asking.reject(token) is Reason.BAD_SIGNATURE
    assert asking.admit(f"{signing_input}.{signature}")


@pytest.mark.parametrize("algorithm", ["RS256", "PS256", "EdDSA"])
def test_other_signatures_have_one_length_and_one_value(algorithm: str) -> None:
    """JWS-21: no leading zero, no multiple of the modulus or the order, no tail."""
    issuer = Issuer(algorithm=algorithm)
    gate, token = gate_of(issuer), issuer.jwt()
    signing_input, _, signature = token.rpartition(".")
    raw = base64.urlsafe_b64decode(signature + "==")
    wrong = [b"", b"\0", b"\0" + raw, raw + b"\0", raw[:-1], bytes(len(raw)), b"\xff" * len(raw)]
    if algorithm == "EdDSA":
        order = 2**252 + 27742317777372353535851937790883648493
        s = int.from_bytes(raw[32:], "little")
        wrong.append(raw[:32] + (s + order).to_bytes(32, "little"))
    else:
        n = int.from_bytes(base64.urlsafe_b64decode(issuer.jwks["keys"][0]["n"] + "=="))
        wrong.append((int.from_bytes(raw) + n).to_bytes(len(raw) + 1))
    for other in wrong:
        other_token = f"{signing_input}.{segment(other).decode()}"
        assert gate.reject(other_token) is Reason.BAD_SIGNATURE
    assert gate.admit(token)


@pytest.mark.parametrize("cty", ["JWT", "jwt", "application/jwt", "APPLICATION/JWT", 7, None, []])
def test_a_nested_jwt_is_refused(gate: Gate, cty: Any) -> None:
    """JWS-25: what is inside was signed by somebody else, if at all."""
    assert gate.reject(forge(header(cty=cty))) is Reason.UNSUPPORTED_HEADER


def test_a_jwt_as_payload_is_no_claims(gate: Gate) -> None:
    """JWS-25: also without ``cty``."""
    assert gate.reject(forge(payload=forge().encode())) is Reason.MALFORMED_TOKEN


@pytest.mark.parametrize("payload", [b"", b"null", b"[]", b'"x"', b"7", b"true", b"{", b"\xff"])
def test_claims_are_a_json_object(gate: Gate, payload: bytes) -> None:
    """JWS-27: a payload of any other kind is a malformed token."""
    assert gate.reject(forge(payload=payload)) is Reason.MALFORMED_TOKEN


def test_the_memory_of_headers_forges_nothing(gate: Gate) -> None:
    """JWS-10: a header seen on a good token lends nothing to a bad one."""
    gate.admit(forge())
    for bad in (
        forge(secret="k" * 64),
        f"{HEAD}.{BODY}.",
        f"{HEAD}.{segment(b'{').decode()}.{SIGN}",
    ):
        assert gate.refuse(bad).status == 401
    for number in range(200):
        gate.admit(forge(header(n=number)))
    assert gate.reject(forge(header(n=1), claims(aud=AUDIENCE + "x"))) is Reason.WRONG_AUDIENCE
