"""Whatever arrives: nothing but our own errors comes out, and the verdict is one."""

import base64
import json
import re
from collections.abc import Callable
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from bearer_middleware.access.identity import identity_of
from bearer_middleware.errors import InvalidRequest, InvalidToken, MissingToken, Reason, Refused
from bearer_middleware.settings.grammar import ALGORITHMS
from bearer_middleware.testing import Issuer
from bearer_middleware.testing.keys import SigningKey
from bearer_middleware.tokens import jws, text
from bearer_middleware.tokens.bearer import bearer_token
from bearer_middleware.tokens.claims import answer_rules, jwt_rules, validate_claims
from bearer_middleware.tokens.facts import facts_of, usual_facts
from bearer_middleware.tokens.jws import Jws
from bearer_middleware.tokens.keys import KeySet, read_jwks
from tests.tokens.forging import (
    ANSWER,
    AUDIENCE,
    CLAIMS,
    HEADER,
    ISSUER,
    NOW,
    Gate,
    SecretGate,
    forge,
    front,
    gate_of,
    segment,
)

with_orjson, with_pybase64 = pytest.mark.needs("orjson"), pytest.mark.needs("pybase64")

often = settings(max_examples=300, deadline=None, database=None)
seldom = settings(
    max_examples=60,
    deadline=None,
    database=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)

numbers = (
    st.integers()
    | st.floats()
    | st.sampled_from([10**400, -(10**400), 2**63, 2**64, 1e308, NOW, NOW + 600, True, -0.0])
)
scalars = st.none() | st.booleans() | numbers | st.text(max_size=20)
values = st.recursive(
    scalars,
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4)
    ),
    max_leaves=10,
)
#: Text that no JSON library would write, made of pieces that parsers trip over.
pieces = st.lists(
    st.sampled_from(
        [
            *(
                b"{",
                b"}",
                b"[",
                b"]",
                b'"',
                b"\\",
                b"\\u",
                b"d800",
                b":",
                b",",
                b"1",
                b"e",
                b"NaN",
                b"-",
            ),
            *(
                b"0",
                b".",
                b"null",
                b"true",
                b'"a"',
                b'"a":1',
                b" ",
                b"\0",
                b"\xff",
                b"\xef\xbb\xbf",
            ),
            *(
                b'{"alg":"HS256"}',
                b'"exp":1',
                b"\xed\xa0\x80",
                b'"\\ud800"',
                b'"\\u0061"',
                b"Infinity",
            ),
        ]
    ),
    max_size=12,
).map(b"".join)
documents = pieces | st.binary(max_size=60) | values.map(lambda value: json.dumps(value).encode())


def members(names: list[str]) -> st.SearchStrategy[dict[str, Any]]:
    """Objects of known names and hostile values."""
    return st.dictionaries(st.sampled_from(names) | st.text(max_size=4), values, max_size=6)


token68 = st.text("ABYZabyz0189-._~+/=", max_size=20).map(str.encode)


@often
@given(st.lists(st.binary(max_size=30) | token68.map(lambda token: b"Bearer " + token), max_size=3))
def test_the_header_parser_is_the_grammar(values: list[bytes]) -> None:
    """TOK-3: one value that a regular expression of RFC 6750 matches, and no other, is a token."""
    matches = [re.fullmatch(rb"(?i:bearer) +([A-Za-z0-9\-._~+/]+=*)", value) for value in values]
    expected = matches[0][1] if len(matches) == 1 and matches[0] else None
    try:
        assert bearer_token(values, 1000) == expected
    except (InvalidRequest, MissingToken):
        assert expected is None


def segments() -> st.SearchStrategy[bytes]:
    """What may stand between two dots."""
    names = ["alg", "typ", "kid", "crit", "b64", "zip", "cty", "enc", "jwk", "iss", "exp"]
    return (
        members(names).map(segment)
        | documents.map(segment)
        | st.binary(max_size=20)
        | st.just(segment(HEADER))
    )


@often
@given(st.lists(segments(), max_size=6).map(b".".join))
@example(b"")
@example(b".")
@example(b"..")
@example(b"=..")
def test_the_front_raises_invalid_token_alone(token: bytes) -> None:
    """JWS-27: any bytes are a JWT, opaque or refused."""
    result = parted(token)
    if not isinstance(result, Jws):
        assert result in {
            None,
            Reason.MALFORMED_TOKEN,
            Reason.ENCRYPTED_TOKEN,
            Reason.UNSUPPORTED_HEADER,
            Reason.WRONG_TYPE,
        }


def parted(token: bytes) -> Jws | Reason | None:
    """What the front makes of a token."""
    try:
        return front(token)
    except InvalidToken as refusal:
        return refusal.reason


CLAIM_NAMES = [
    *CLAIMS,
    "nbf",
    "azp",
    "username",
    "scp",
    "cnf",
    "nonce",
    "at_hash",
    "typ",
    "token_use",
]
RULES = [
    jwt_rules(ISSUER, frozenset({AUDIENCE}), 30.0, "compatible"),
    jwt_rules(ISSUER, None, 0.0, "rfc9068"),
    answer_rules(ISSUER, frozenset({AUDIENCE}), 30.0, audience_required=True),
    answer_rules(None, None, 30.0, audience_required=False),
]


NEAR = st.integers(int(NOW) - 100, int(NOW) + 100)
USUAL = {"iss": ISSUER, "exp": int(NOW) + 60, "iat": int(NOW), "aud": AUDIENCE, "sub": "alice"}


@often
@given(
    members(CLAIM_NAMES),
    st.fixed_dictionaries({}, optional={"exp": NEAR, "iat": NEAR, "nbf": NEAR}),
    st.sampled_from([rules for rules in RULES if not rules.answer]),
    st.floats(float(NOW) - 100, float(NOW) + 100),
)
def test_what_is_usual_is_good(
    changed: dict[str, Any], times: dict[str, int], rules: Any, now: float
) -> None:
    """What is seen to be good at once is good by every rule, and makes the same facts."""
    said = {**USUAL, "scope": "read", "client_id": "app", **times, **changed}
    facts = usual_facts(said, b"payload", rules, now)
    if facts is not None:
        validate_claims(said, rules, now)
        assert facts == facts_of(said, b"payload", rules.issuer, rules.answer)


@often
@given(members(CLAIM_NAMES), st.sampled_from(["good", "bare"]), st.sampled_from(RULES))
def test_the_rules_raise_invalid_token_alone(
    changed: dict[str, Any], start: str, rules: Any
) -> None:
    """JWS-27: claims of any shape are good or refused, and good ones make an identity."""
    said = {**(ANSWER if start == "good" else {}), **changed}
    try:
        validate_claims(said, rules, NOW)
    except InvalidToken:
        return
    try:
        payload = json.dumps(said).encode()
        text.parse_object(payload)
    except ValueError:  # NaN, say, which no parser of ours would have let through
        return
    facts = facts_of(said, payload, rules.issuer, rules.answer)
    identity = identity_of((b"digest", 0.0, 0.0, None, 0, *facts))
    assert identity.subject is None or isinstance(identity.subject, str)
    for name in ("scopes", "audience", "claims", "groups", "roles", "user_name", "display_name"):
        getattr(identity, name)
    assert hash(identity) == hash(identity.replace())
    repr(identity).encode("ascii")


@often
@given(members(CLAIM_NAMES), members(["alg", "typ", "kid", "crit", "x5c"]))
def test_a_signed_token_of_any_shape_is_let_in_or_refused(
    changed: dict[str, Any], head: dict[str, Any]
) -> None:
    """JWS-27: end to end, by the short and the long way, whoever signed it."""
    show(forge({**HEADER, **head}, {**CLAIMS, **changed}))


@often
@given(documents, documents)
def test_a_signed_token_of_any_text_is_let_in_or_refused(head: bytes, payload: bytes) -> None:
    """JWS-27: as is one whose parts are no JSON at all."""
    show(forge(head, payload))
    show(forge(payload=payload))


def show(token: str) -> None:
    """Show a token to a fresh gate, which must say yes or no."""
    result = shown(SecretGate(max_token_length=65_536), token)
    assert not isinstance(result, Refused) or result.status == 401


# -- documents of the issuer --------------------------------------------------------------

GOOD_JWK = SigningKey("k", "ES256", ec.generate_private_key(ec.SECP256R1())).jwk()
JWK_VALUES = st.sampled_from(
    [
        *("EC", "RSA", "OKP", "oct", "AKP", "P-256", "Ed25519", "sig", "enc", "RS256", "AQAB"),
        *("ES256", "A" * 43, "A" * 342, "_" * 342, "é", GOOD_JWK["x"], GOOD_JWK["x"] + "="),
    ]
)
jwk = st.dictionaries(
    st.sampled_from(["kty", "crv", "x", "y", "n", "e", "d", "k", "use", "key_ops", "alg", "kid"]),
    JWK_VALUES | values,
    max_size=8,
)


@often
@given(
    st.lists(jwk | jwk.map(lambda some: {**GOOD_JWK, **some}) | values, max_size=5),
    st.sampled_from([ALGORITHMS, ("ES256",), ()]),
)
def test_a_key_set_of_any_shape_is_read(jwks: list[Any], algorithms: tuple[str, ...]) -> None:
    """JWS-17, JWS-27: hostile members cost their own key and no other."""
    document = json.dumps({"keys": [*jwks, {**GOOD_JWK, "kid": "the good one"}]}).encode()
    try:
        keys = read_jwks(document, algorithms)
    except ValueError:
        assert not is_strict(document)
        return
    found = keys.find("the good one", "ES256")
    assert (found is not None) is ("ES256" in algorithms) or "several" in " ".join(keys.skipped)
    for key in keys.keys:
        assert key.verifies(b"x", b"y" * 64) is False


def is_strict(document: bytes) -> bool:
    """Can our parser read it?"""
    try:
        text.parse_object(document)
    except ValueError:
        return False
    return True


@often
@given(documents)
def test_a_key_set_of_any_text_is_read_or_a_value_error(document: bytes) -> None:
    """JWS-27: the only thing that comes out."""
    for body in (document, b'{"keys":' + document + b"}", b'{"keys":[' + document + b"]}"):
        try:
            assert isinstance(read_jwks(body, ALGORITHMS), KeySet)
        except ValueError:
            continue


DEEP = [
    opening * 100_000 + closing
    for opening, closing in [
        (b"[", b"]" * 100_000),
        (b'{"a":', b"1" + b"}" * 100_000),
        (b"[", b""),
        (b'[{"":', b""),
        (b'["', b""),
        (b'"\\"[', b""),
    ]
]


@pytest.mark.parametrize("deep", DEEP, ids=lambda deep: deep[:8])
@pytest.mark.parametrize("place", ["value", "member", "after a name"])
def test_no_depth_exhausts_the_stack(deep: bytes, place: str) -> None:
    """DET-6, JWS-27: a ``ValueError`` by either parser, at the recursion limit as it is."""
    form = {"value": b"%s", "member": b'{"active":true,"x":%s}', "after a name": b'{"x":1,%s}'}
    with pytest.raises(ValueError, match=r"."):
        text.parse_object(form[place] % deep)
    assert read_deep(form[place] % deep) is None


def read_deep(document: bytes) -> KeySet | None:
    """The key set of a document, ``None`` if it is none."""
    try:
        return read_jwks(document, ALGORITHMS)
    except ValueError:
        return None


@pytest.mark.parametrize("endpoint", ["introspection", "jwks", "metadata"])
@seldom
@given(
    body=documents | members([*ANSWER]).map(lambda said: json.dumps({**ANSWER, **said}).encode())
)
@example(body=b"[" * 60_000)
@example(body=b'{"keys":[]}')
@example(body=b'{"issuer":"https://issuer.test","jwks_uri":7,"introspection_endpoint":[]}')
@example(
    body=b'{"issuer":"https://issuer.test","jwks_uri":"https://[","introspection_endpoint":"x"}'
)
@example(
    body=b'{"issuer":"https://issuer.test","jwks_uri":"https://a:b/","introspection_endpoint":""}'
)
@example(body=b'{"issuer":"https://issuer.test","jwks_uri":"https://\\u0000/"}')
def test_a_server_that_answers_nonsense_is_no_accident(endpoint: str, body: bytes) -> None:
    """JWS-27: JWT and opaque tokens are judged, or it is said that we cannot know."""
    issuer = Issuer(ISSUER, audience=AUDIENCE, algorithm="ES256")
    issuer.fail(endpoint, body=body)
    gate = gate_of(issuer, clock=lambda: NOW)
    for token in (issuer.jwt(exp=NOW + 600, iat=NOW), "opaque", issuer.opaque()):
        result = shown(gate, token)
        assert not isinstance(result, Refused) or result.reason is not Reason.INTERNAL


def shown(gate: Gate, token: str) -> Any:
    """The identity, or the refusal."""
    try:
        return gate.show(b"Bearer " + token.encode())
    except Refused as refusal:
        return refusal


# -- one spelling -------------------------------------------------------------------------


class Signer:
    """An issuer with one token that is let in."""

    def __init__(self, algorithm: str) -> None:
        self.issuer = Issuer(algorithm=algorithm)
        self.gate = gate_of(self.issuer)
        self.token = self.issuer.jwt()
        self.gate.admit(self.token)


SIGNERS: dict[str, Signer] = {}


def signer(algorithm: str) -> Signer:
    """One for each algorithm."""
    if algorithm not in SIGNERS:
        SIGNERS[algorithm] = Signer(algorithm)
    return SIGNERS[algorithm]


ALPHABET = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_+/~=."
EDITS: dict[str, Callable[[str, int, str], str]] = {
    "replace": lambda token, at, new: token[:at] + new + token[at + 1 :],
    "insert": lambda token, at, new: token[:at] + new + token[at:],
    "delete": lambda token, at, new: token[:at] + token[at + 1 :],
    "swap case": lambda token, at, new: token[:at] + token[at].swapcase() + token[at + 1 :],
    "swap two": lambda token, at, new: token[:at] + token[at : at + 2][::-1] + token[at + 2 :],
    "cut": lambda token, at, new: token[:at],
    "repeat": lambda token, at, new: token + token[at:],
    "append": lambda token, at, new: token + new * (at % 4 + 1),
}


@settings(max_examples=150, deadline=None, database=None)
@given(
    algorithm=st.sampled_from(["ES256", "RS256", "PS256", "EdDSA"]),
    edit=st.sampled_from(sorted(EDITS)),
    at=st.integers(0, 2000),
    new=st.sampled_from(ALPHABET),
)
def test_a_token_has_one_spelling(algorithm: str, edit: str, at: int, new: str) -> None:
    """JWS-1, JWS-2: after any small change it is refused, and the original is still good."""
    known = signer(algorithm)
    other = EDITS[edit](known.token, at % len(known.token), new)
    if other == known.token:
        return
    result = shown(known.gate, other)
    assert isinstance(result, Refused)
    assert result.status in {400, 401}
    assert known.gate.admit(known.token)


# -- the fast libraries -------------------------------------------------------------------

CORPUS = [
    *(
        b"",
        b" ",
        b"{}",
        b" {}",
        b"{} ",
        b"\t{\r\n}",
        b"\x0b{}",
        b"\xa0{}",
        b"[]",
        b"null",
        b"0",
        b'""',
    ),
    *(b'{"a":1}', b'{"a":1,"a":1}', b'{"a":{"b":1,"b":2}}', b'{"a":1,"\\u0061":1}', b'{"a" : 1}'),
    *(
        b'{"a":NaN}',
        b'{"a":Infinity}',
        b'{"a":-Infinity}',
        b'{"a":nan}',
        b'{"a":1e400}',
        b'{"a":-1e400}',
    ),
    *(b'{"a":1e308}', b'{"a":1E5}', b'{"a":1e5}', b'{"a":100000.0}', b'{"a":-0}', b'{"a":-0.0}'),
    *(b'{"a":01}', b'{"a":1.}', b'{"a":.5}', b'{"a":+1}', b'{"a":0x1}', b'{"a":1_0}', b'{"a":- 1}'),
    *(b'{"a":%d}' % number for number in (2**53 + 1, 2**63, 2**64, 10**30, -(2**63) - 1, 10**400)),
    *(b'{"a":0.1}', b'{"a":0.10}', b'{"a":1e-400}', b'{"a":123456789012345678901234567890.5}'),
    *(b'{"a":"\xff"}', b'{"a":"\xed\xa0\x80"}', b'{"a":"\\ud800"}', b'{"a":"\\ud83d\\ude00"}'),
    *(b'{"a":"\\uD83D\\u0041"}', b'{"\\ud800":1}', b'{"a":"\\x41"}', b'{"a":"\\/"}', b'{"a":"\\"}'),
    *(b'{"a":"\xc3\xa9"}', b'{"a":"\\u00e9"}', b'{"a":"\x00"}', b'{"a":"\x1f"}', b'{"a":"\x7f"}'),
    *(
        b'{"a":"\n"}',
        b'{"a":"\xc0\x80"}',
        b'{"a":"\xf4\x90\x80\x80"}',
        b"\xef\xbb\xbf{}",
        b"{'a':1}",
    ),
    *(
        b'{"a":1,}',
        b'{,"a":1}',
        b'{"a":[1,]}',
        b'{"a"}',
        b'{"a":}',
        b'{"a":1',
        b'{"a":1}}',
        b'{"a":1}x',
    ),
    *(
        b'{"a":1}\0',
        b'{"a":tru}',
        b'{"a":True}',
        b'{"a":/**/1}',
        b'{"a":undefined}',
        b"{}{}",
        b"{1:2}",
    ),
    *(b'{"a":' + b"[" * depth + b"]" * depth + b"}" for depth in (31, 32, 120, 250, 300, 2000)),
    b'{"a":' * 200 + b"1" + b"}" * 200,
    *('{"a":1}'.encode(name) for name in ("utf-16", "utf-16-le", "utf-32", "utf-7")),
    json.dumps(CLAIMS).encode(),
    json.dumps(CLAIMS, separators=(",", ":")).encode(),
]


def read(parse: Callable[[bytes], Any], data: bytes) -> tuple[str, str]:
    """What a parser makes of data, told exactly: types and signs count."""
    try:
        return "value", repr(parse(data))
    except ValueError:
        return "refused", ""


@with_orjson
@pytest.mark.parametrize("data", CORPUS, ids=lambda data: data[:30])
def test_both_json_parsers_say_the_same(data: bytes) -> None:
    """JWS-4: with and without orjson a text is read alike, or not at all."""
    assert read(text._parse_with_json, data) == read(text._parse_with_orjson, data)


@with_orjson
@settings(max_examples=600, deadline=None, database=None)
@given(
    documents
    | st.binary(max_size=20)
    | values.map(lambda v: json.dumps(v, separators=(",", ":")).encode())
)
def test_both_json_parsers_say_the_same_of_anything(data: bytes) -> None:
    """JWS-4: of what nobody thought of, as well."""
    assert read(text._parse_with_json, data) == read(text._parse_with_orjson, data)


@pytest.mark.parametrize("with_speed", [False, pytest.param(True, marks=with_pybase64)])
@often
@given(st.binary(max_size=12) | st.text("AQgw-_+/=.!\n 9z", max_size=9).map(str.encode))
def test_base64url_has_one_spelling(with_speed: bool, data: bytes) -> None:
    """JWS-1, JWS-2: what is decoded is what would have been encoded, by either library."""
    decode = text._decode_with_pybase64 if with_speed else text._decode_with_binascii
    try:
        decoded = decode(data)
    except ValueError:
        assert segment(lax(data)) != data
    else:
        assert segment(decoded) == data


def lax(data: bytes) -> bytes:
    """Decoded by a decoder that forgives everything."""
    try:
        return base64.urlsafe_b64decode(data + b"==")
    except ValueError:
        return b""


@with_orjson
@with_pybase64
@pytest.mark.parametrize("parse", ["_parse_with_json", "_parse_with_orjson"])
@pytest.mark.parametrize("decode", ["_decode_with_binascii", "_decode_with_pybase64"])
def test_every_combination_judges_tokens_alike(
    monkeypatch: pytest.MonkeyPatch, parse: str, decode: str
) -> None:
    """JWS-4: with and without the extra, the same are let in."""
    monkeypatch.setattr(jws, "parse_object", getattr(text, parse))
    monkeypatch.setattr(jws, "decode_base64url", getattr(text, decode))
    gate, good = SecretGate(), forge()
    assert gate.admit(good).subject == "alice"
    for data in CORPUS:
        show(forge(data))
        show(forge(payload=data))
    for bad in (good + "=", good[:-1], good[:-1] + "+", good.replace(".", "=.", 1)):
        assert isinstance(shown(gate, bad), Refused)
