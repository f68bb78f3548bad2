"""JWT or opaque: what a token is, and where it therefore goes."""

import base64
from typing import Any

import pytest

from bearer_middleware.errors import InvalidToken, Reason
from bearer_middleware.testing import Issuer
from tests.tokens.forging import (
    CLAIMS,
    HEADER,
    Gate,
    claims,
    forge,
    front,
    gate_of,
    header,
    outcome,
    segment,
)

OPAQUE = [
    "mF_9.B5f-4.1JqM",
    "Kz~8mXK1EalYznwH-LC-1fBAo.4Ljp~zsPE_NeO.gxU",
    "2YotnFZFEjr1zCsicMWpAA",
    "23410913-abewfq.123483",
    "a.b.c",
    "..",
    "....",
    ".eyJhbGciOiJub25lIn0.",
    # The three parts of itsdangerous and of Django's signer, whose first is JSON without alg.
    "eyJ1c2VyIjoxfQ.Z2hpag.c2lnbmF0dXJl",
    # An object, but not with a string alg.
    *(f"{segment({'alg': alg}).decode()}.e30.c2ln" for alg in (None, 1, ["HS256"])),
    # No JSON object: null, a number, a list, a string.
    *(f"{segment(value).decode()}.e30.c2ln" for value in (None, 7, [HEADER], "alg")),
]


@pytest.mark.parametrize("token", OPAQUE)
def test_dots_decide_nothing(issuer: Issuer, asking: Gate, token: str) -> None:
    """DET-1: a token whose first part is no JOSE header is opaque, however many dots it has."""
    assert front(token.encode()) is None
    assert asking.admit(issuer.opaque(token=token)).kind == "opaque"


@pytest.mark.parametrize("rest", ["", "X", "XY", ".", ".X", "X.X", ".X.X.X", ".X.X.X.X"])
@pytest.mark.parametrize("named", ["https://issuer.test", "https://stranger.example"])
def test_a_header_seen_before_decides_nothing(
    issuer: Issuer, asking: Gate, named: str, rest: str
) -> None:
    """DET-1: an opaque token may begin as a JWT did that was here before."""
    jwt = issuer.jwt(iss=named)
    outcome(lambda: asking.show(b"Bearer " + jwt.encode()))
    token = issuer.opaque(token=jwt.partition(".")[0] + rest)
    assert asking.admit(token).kind == "opaque"


@pytest.mark.parametrize(
    "part", [HEADER, {"alg": "none"}, {"alg": ""}, {"alg": "what is this?"}, {"x": {}, "alg": "a"}]
)
@pytest.mark.parametrize("rest", [".W10.c2ln", "..", ".x.", ".!."])
def test_a_jose_header_makes_a_jwt(part: Any, rest: str) -> None:
    """DET-3: three parts, and the first is a JSON object with a string ``alg``."""
    with pytest.raises(InvalidToken) as refused:
        front(segment(part) + rest.encode())
    assert refused.value.reason is Reason.MALFORMED_TOKEN


@pytest.mark.parametrize(
    "text",
    ['{"payload":"e30","signatures":[]}', '{"protected":"e30"}', '"eyJ.eyJ.eyJ"', "eyJ{.e30.x"],
)
def test_json_serialisation_is_no_token(gate: Gate, text: str) -> None:
    """DET-2: braces and quotes never get as far as a verifier."""
    assert gate.refuse(text).status == 400
    assert front(text.encode()) is None


ENC = {"alg": "RSA-OAEP", "enc": "A256GCM"}


@pytest.mark.parametrize(
    "token",
    [
        segment(ENC) + b".a2V5.aXY.Y2lwaGVy.dGFn",
        segment(ENC) + b"....",
        segment({"alg": "dir", "enc": "A128CBC-HS256", "cty": "at+jwt"}) + b"..aXY.Y2lwaGVy.dGFn",
        segment({**HEADER, "enc": "A128GCM"}) + b".e30.c2ln",
        segment({"enc": None}) + b".e30.c2ln",
    ],
)
@pytest.mark.parametrize("known", [False, True])
def test_an_encrypted_token_is_refused(
    issuer: Issuer, asking: Gate, token: bytes, known: bool
) -> None:
    """DET-3, DET-5, JWS-26, CLM-12: nothing is decrypted here, and nobody is asked to."""
    if known:
        issuer.opaque(token=token.decode())
    assert asking.reject(token.decode()) is Reason.ENCRYPTED_TOKEN
    assert not issuer.requests


REFUSED_JWTS: list[dict[str, Any]] = [
    {"aud": "others"},
    {"exp": 1},
    {"exp": None},
    {"iss": "https://as.evil"},
    {"headers": {"crit": ["b64"]}},
    {"headers": {"alg": "none"}},
    {"headers": {"typ": "logout+jwt"}},
    {"algorithm": "HS256", "key": "k" * 32},
    {"cnf": {"jkt": "x"}},
]


@pytest.mark.parametrize("wrong", REFUSED_JWTS)
def test_a_refused_jwt_gets_no_second_opinion(
    issuer: Issuer, asking: Gate, wrong: dict[str, Any]
) -> None:
    """DET-4: introspection would say yes, and is not asked."""
    token = issuer.opaque(token=issuer.jwt(**wrong))
    assert isinstance(asking.refuse(token), InvalidToken)
    assert issuer.requests["introspection"] == 0


RESPELT = {
    "another alphabet at its end": lambda head: head + b"~",
    "space before the object": lambda head: segment(b" \n" + plain(head)),
    "UTF-16 without a mark": lambda head: segment(plain(head).decode().encode("utf-16-le")),
    "another alphabet": lambda head: b"~" + head,
    "a name twice": lambda head: segment(b'{"alg":"none",' + plain(head)[1:]),
    "NaN": lambda head: segment(b'{"x":NaN,' + plain(head)[1:]),
}


def plain(head: bytes) -> bytes:
    """The JSON text of a header."""
    return base64.urlsafe_b64decode(head + b"==")


@pytest.mark.parametrize("how", RESPELT)
def test_a_badly_spelt_jwt_is_not_opaque(issuer: Issuer, asking: Gate, how: str) -> None:
    """DET-4: what is meant as a JWT is refused as one and never shown to the issuer."""
    head, rest = issuer.jwt().split(".", 1)
    token = f"{RESPELT[how](head.encode()).decode()}.{rest}"
    assert asking.reject(issuer.opaque(token=token)) in {
        Reason.MALFORMED_TOKEN,
        Reason.BAD_SIGNATURE,
    }
    assert issuer.requests["introspection"] == 0


@pytest.mark.parametrize("suffix", [".", ".x", ".x.y", "..x"])
def test_a_jwt_with_a_tail_is_no_other_token(issuer: Issuer, asking: Gate, suffix: str) -> None:
    """DET-4: more than three parts are never let in locally, before and after the JWT itself."""
    token = issuer.jwt()
    for _ in range(2):
        assert asking.refuse(token + suffix).status == 401
        asking.admit(token)


def test_without_introspection_an_opaque_token_is_bad(gate: Gate) -> None:
    """DET-3: with only keys configured nobody can speak for an opaque token."""
    assert gate.reject("2YotnFZFEjr1zCsicMWpAA") is Reason.UNSUPPORTED_TOKEN


def test_with_introspection_alone_a_jwt_is_introspected(issuer: Issuer) -> None:
    """DET-3: the issuer speaks for all of its tokens, and the answer is the identity."""
    gate = gate_of(issuer, issuer=None, introspection_url=f"{issuer.url}/introspect")
    identity = gate.admit(issuer.jwt())
    assert (identity.kind, identity.issuer, issuer.requests["jwks"]) == ("jwt", issuer.url, 0)


# -- work is bounded ----------------------------------------------------------------------

DEEP = 100_000
HUGE = [
    "x" * 1_000_000,
    forge(header(kid="k" * 1_000_000)),
    forge(b'{"alg":"HS256","x":' + b"[" * DEEP + b"]" * DEEP + b"}"),
    forge(payload=b'{"iss":' + b'{"a":' * DEEP + b"1" + b"}" * DEEP + b"}"),
]


@pytest.mark.parametrize("token", HUGE)
def test_huge_tokens_are_a_bad_request(gate: Gate, token: str) -> None:
    """DET-6: a megabyte of anything is refused by its length."""
    assert gate.refuse(token).reason is Reason.TOO_LONG


@pytest.mark.parametrize(
    "text",
    [
        b'\xef\xbb\xbf{"alg":"HS256"}',
        '{"alg":"HS256"}'.encode("utf-16"),
        '{"alg":"HS256"}'.encode("utf-16-be"),
        '{"alg":"HS256"}'.encode("utf-32"),
        b'{"alg":"HS256"} and more',
        b'{"alg":"HS256","x":"\x01"}',
        b'{"alg":"HS256","x":"\xff"}',
        b'{"alg":"HS256","alg":7}',
    ],
)
def test_an_odd_spelling_is_not_opaque(text: bytes) -> None:
    """DET-4: what some server might read as a JWT never reaches it as an opaque token."""
    with pytest.raises(InvalidToken) as refused:
        front(forge(text, CLAIMS).encode())
    assert refused.value.reason is Reason.MALFORMED_TOKEN


@pytest.mark.parametrize("opening", [b"[", b'{"a":', b'[{"a":'])
@pytest.mark.parametrize("closed", [False, True])
@pytest.mark.parametrize("inside", ["header", "payload", "both"])
def test_deep_json_is_a_malformed_token(opening: bytes, closed: bool, inside: str) -> None:
    """DET-6: a hundred thousand levels exhaust no stack, whatever the length that is allowed."""
    closing = opening[::-1].translate(bytes.maketrans(b"[{", b"]}"), b'"a:') if closed else b""
    deep = b'{"alg":"HS256","x":' + opening * DEEP + b"1" + closing * DEEP + b"}"
    head = deep if inside != "payload" else HEADER
    body = deep if inside != "header" else CLAIMS
    token = forge(head, body).encode()
    with pytest.raises(InvalidToken) as refused:
        front(token)
    assert refused.value.reason is Reason.MALFORMED_TOKEN


def test_brackets_in_strings_are_not_depth(gate: Gate) -> None:
    """DET-6: only real nesting counts against a token."""
    assert gate.admit(forge(payload=claims(note='[{"\\' * 300, list=[[]] * 300)))


@pytest.mark.parametrize("levels", [1, 20])
def test_ordinary_nesting_is_let_in(gate: Gate, levels: int) -> None:
    """DET-6: claims of ordinary depth are not refused, in a token of any length."""
    nested: Any = "x" * 600
    for _ in range(levels):
        nested = {"a": [nested]} if levels == 1 else [nested]
    assert gate.admit(forge(payload=claims(nested=nested))).claims["nested"] == nested


@pytest.mark.parametrize(
    "number", ["1" * 5000, "-" + "9" * 5000, "1." + "0" * 5000, "1e9999999999"]
)
def test_long_numbers_break_nothing(gate: Gate, number: str) -> None:
    """DET-6: a number too long to be one is a bad token, not a crash."""
    payload = b'{"exp":%s,"iss":"https://as.example"}' % number.encode()
    assert gate.reject(forge(payload=payload)) in {
        Reason.MALFORMED_TOKEN,
        Reason.MALFORMED_CLAIM,
        Reason.EXPIRED,
    }
