"""Which keys of a set may verify what, and which must not be used at all."""

import base64
import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed448, ed25519, padding, rsa
from jwt.algorithms import ECAlgorithm, OKPAlgorithm, RSAAlgorithm

from bearer_middleware import ConfigError, Settings
from bearer_middleware.errors import Reason
from bearer_middleware.settings.grammar import SIGNATURE_ALGORITHMS
from bearer_middleware.testing import Issuer
from bearer_middleware.testing.signing import sign
from bearer_middleware.tokens.keys import MAX_JWKS_BYTES, MAX_KEYS, KeySet, read_jwks, secret_keys
from bearer_middleware.tokens.rsa import _ROCA_PRIMES, is_roca
from tests.tokens.forging import AUDIENCE, CLAIMS, ISSUER, NOW, Gate, gate_of, segment

Jwk = dict[str, Any]
RSA_ALGORITHMS = ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512")


def public_jwk(private: Any, **members: Any) -> Jwk:
    """The public half as a JWK of required members, and these."""
    family: Any = {rsa.RSAPrivateKey: RSAAlgorithm, ec.EllipticCurvePrivateKey: ECAlgorithm}.get(
        next(kind for kind in _KINDS if isinstance(private, kind)), OKPAlgorithm
    )
    jwk: Jwk = family.to_jwk(private.public_key(), as_dict=True)
    jwk.pop("key_ops", None)
    return {**jwk, **members}


_KINDS = (
    rsa.RSAPrivateKey,
    ec.EllipticCurvePrivateKey,
    ed25519.Ed25519PrivateKey,
    ed448.Ed448PrivateKey,
)


@pytest.fixture(scope="module")
def rsa_key() -> rsa.RSAPrivateKey:
    """2048 bits, made once."""
    return rsa.generate_private_key(65537, 2048)


@pytest.fixture(scope="module")
def ec_key() -> ec.EllipticCurvePrivateKey:
    """On P-256."""
    return ec.generate_private_key(ec.SECP256R1())


def read(*jwks: Any, algorithms: tuple[str, ...] = SIGNATURE_ALGORITHMS, **members: Any) -> KeySet:
    """The usable keys of a set."""
    return read_jwks(json.dumps({"keys": list(jwks), **members}).encode(), algorithms)


def names(keys: KeySet) -> list[tuple[str | None, set[str]]]:
    """What is usable: kid and algorithms of each key."""
    return [(key.kid, set(key.algorithms)) for key in keys.keys]


@pytest.fixture
def gate_for(tmp_path: Path) -> Callable[..., Gate]:
    """A gate that trusts the keys of a set, and shows what a signature by them is worth."""

    def make(*jwks: Jwk, **settings: Any) -> Gate:
        file = tmp_path / "jwks.json"
        file.write_text(json.dumps({"keys": jwks}))
        said = {"issuer": ISSUER, "audience": AUDIENCE, "jwks_file": str(file), **settings}
        return Gate(clock=lambda: NOW, **said)

    return make


# -- one key, one algorithm ---------------------------------------------------------------


@pytest.mark.parametrize("algorithm", RSA_ALGORITHMS)
def test_an_rsa_key_signs_by_its_own_alg_alone(
    rsa_key: rsa.RSAPrivateKey, gate_for: Callable[..., Gate], algorithm: str
) -> None:
    """JWS-10: the same key under every other allowed algorithm is refused."""
    gate = gate_for(public_jwk(rsa_key, kid="k", alg=algorithm))
    for used in RSA_ALGORITHMS:
        for headers in ({"kid": "k"}, {}):
            token = sign({"alg": used, **headers}, CLAIMS, used, rsa_key)
            if used == algorithm:
                assert gate.admit(token).subject == "alice"
            else:
                assert gate.reject(token) in {Reason.UNSUPPORTED_ALG, Reason.UNKNOWN_KID}


@pytest.mark.parametrize("bits", [2050, 2052, 2054, 2056])
def test_an_rsa_key_may_have_any_number_of_bits(gate_for: Callable[..., Gate], bits: int) -> None:
    """JWS-19: a signature has whole octets (RFC 8017 section 8.2.2), a modulus need not."""
    key = rsa.generate_private_key(65537, bits)
    assert key.key_size == bits
    for algorithm in RSA_ALGORITHMS:
        gate = gate_for(public_jwk(key, kid="k", alg=algorithm))
        token = sign({"alg": algorithm, "kid": "k"}, CLAIMS, algorithm, key)
        assert gate.admit(token).subject == "alice"
        assert gate.reject(token[:-8] + "AAAAAAAA") is Reason.BAD_SIGNATURE


@pytest.mark.parametrize(
    ("allowed", "pinned"),
    [
        (SIGNATURE_ALGORITHMS, "RS256"),
        (("ES256", "PS384", "RS256"), "PS384"),
        (("RS512", "RS256"), "RS512"),
    ],
)
def test_an_rsa_key_without_alg_is_pinned_to_the_first_allowed(
    rsa_key: rsa.RSAPrivateKey,
    gate_for: Callable[..., Gate],
    allowed: tuple[str, ...],
    pinned: str,
) -> None:
    """JWS-10: it is one algorithm's, by the order of the operator's list."""
    gate = gate_for(public_jwk(rsa_key, kid="k"), algorithms=allowed)
    for used in RSA_ALGORITHMS:
        token = sign({"alg": used, "kid": "k"}, CLAIMS, used, rsa_key)
        if used == pinned:
            gate.admit(token)
        else:
            assert gate.reject(token) is Reason.UNSUPPORTED_ALG


@pytest.mark.parametrize(
    "members",
    [
        {"alg": "RS256"},
        {"alg": "ES384"},
        {"alg": "HS256"},
        {"alg": "none"},
        {"alg": "ECDH-ES"},
        {"alg": "es256"},
        {"alg": ["ES256"]},
        {"alg": 7},
        {"alg": ""},
    ],
)
def test_an_alg_that_contradicts_the_key_makes_it_unusable(
    ec_key: ec.EllipticCurvePrivateKey, members: Jwk
) -> None:
    """JWS-10, JWS-21: an EC key is its curve's, whatever stands beside it."""
    assert not read(public_jwk(ec_key, kid="k", **members)).keys


@pytest.mark.parametrize("alg", ["RSA-OAEP", "RS1", "ES256", "EdDSA", "HS256", "none"])
def test_an_alg_that_is_no_rsa_signature_makes_an_rsa_key_unusable(
    rsa_key: rsa.RSAPrivateKey, alg: str
) -> None:
    """JWS-10: nor is a key of an algorithm that is not allowed used for another."""
    assert not read(public_jwk(rsa_key, alg=alg)).keys
    assert not read(public_jwk(rsa_key, alg="RS256"), algorithms=("PS256",)).keys


@pytest.mark.parametrize(
    ("algorithm", "curve"), [("ES256", ec.SECP256R1()), ("ES384", ec.SECP384R1())]
)
def test_the_curve_decides_the_algorithm(
    gate_for: Callable[..., Gate], algorithm: str, curve: ec.EllipticCurve
) -> None:
    """JWS-21: ES256 is P-256 and nothing else."""
    key = ec.generate_private_key(curve)
    gate = gate_for(public_jwk(key, kid="k"))
    gate.admit(sign({"alg": algorithm, "kid": "k"}, CLAIMS, algorithm, key))
    other = {"ES256": "ES384", "ES384": "ES256"}[algorithm]
    token = sign({"alg": other, "kid": "k"}, CLAIMS, algorithm, key)
    assert gate.reject(token) is Reason.UNSUPPORTED_ALG


@pytest.mark.parametrize("member", [{}, {"alg": "EdDSA"}, {"alg": "Ed25519"}])
@pytest.mark.parametrize("used", ["EdDSA", "Ed25519"])
def test_both_names_of_ed25519_are_one_algorithm(
    gate_for: Callable[..., Gate], member: Jwk, used: str
) -> None:
    """JWS-24: RFC 9864 renamed what an Ed25519 key does."""
    key = ed25519.Ed25519PrivateKey.generate()
    gate = gate_for(public_jwk(key, kid="k", **member))
    for headers in ({"kid": "k"}, {}):
        assert gate.admit(sign({"alg": used, **headers}, CLAIMS, "EdDSA", key))


def test_ed448_serves_only_where_it_is_allowed(gate_for: Callable[..., Gate]) -> None:
    """JWS-24: it is not on the list by default."""
    key = ed448.Ed448PrivateKey.generate()
    token = sign({"alg": "Ed448", "kid": "k"}, CLAIMS, "Ed448", key)
    assert gate_for(public_jwk(key, kid="k")).reject(token) is Reason.UNSUPPORTED_ALG
    assert gate_for(public_jwk(key, kid="k"), algorithms="Ed448").admit(token)
    assert gate_for(public_jwk(key, kid="k", alg="Ed448"), algorithms="Ed448").admit(token)


@pytest.mark.parametrize("alg", ["Ed25519", "Ed448", "EdDSA"])
def test_the_two_edwards_curves_are_not_mixed_up(gate_for: Callable[..., Gate], alg: str) -> None:
    """JWS-24: a signature by one curve's key never counts under the other's name."""
    short, long = ed25519.Ed25519PrivateKey.generate(), ed448.Ed448PrivateKey.generate()
    algorithms = ("EdDSA", "Ed25519", "Ed448")
    gate = gate_for(public_jwk(short, kid="a"), public_jwk(long, kid="b"), algorithms=algorithms)
    for kid, key, own in (("a", short, "Ed25519"), ("b", long, "Ed448")):
        token = sign({"alg": alg, "kid": kid}, CLAIMS, "EdDSA", key)
        if alg in {own, "EdDSA"}:
            gate.admit(token)
        else:
            assert gate.reject(token) is Reason.UNSUPPORTED_ALG


# -- which key ----------------------------------------------------------------------------


def test_without_kid_only_a_single_candidate_serves(
    rsa_key: rsa.RSAPrivateKey, ec_key: ec.EllipticCurvePrivateKey, gate_for: Callable[..., Gate]
) -> None:
    """JWS-14: one key of the algorithm is no guess, two are, and so are three."""
    token = sign({"alg": "ES256"}, CLAIMS, "ES256", ec_key)
    mine, rsa_jwk = public_jwk(ec_key, kid="a"), public_jwk(rsa_key, kid="r")
    others = [public_jwk(ec.generate_private_key(ec.SECP256R1()), kid=kid) for kid in ("b", "c")]
    assert gate_for(mine, rsa_jwk).admit(token)
    for number in (1, 2):
        assert gate_for(mine, rsa_jwk, *others[:number]).reject(token) is Reason.UNKNOWN_KID
        assert gate_for(*others[:number], mine).reject(token) is Reason.UNKNOWN_KID


def test_a_kid_that_stands_for_two_keys_stands_for_none(
    ec_key: ec.EllipticCurvePrivateKey, gate_for: Callable[..., Gate]
) -> None:
    """JWS-15: every choice would be a guess; the same key written twice is one."""
    other = ec.generate_private_key(ec.SECP256R1())
    mine, spare = public_jwk(ec_key, kid="k"), public_jwk(other, kid="s")
    token = sign({"alg": "ES256", "kid": "k"}, CLAIMS, "ES256", ec_key)
    for order in ([mine, public_jwk(other, kid="k")], [public_jwk(other, kid="k"), mine]):
        assert names(read(*order, spare)) == [("s", {"ES256"})]
        assert gate_for(*order, spare).refuse(token).status == 401
    assert gate_for(mine, mine, spare).admit(token)


def test_a_kid_may_stand_for_keys_of_two_algorithms(
    rsa_key: rsa.RSAPrivateKey, ec_key: ec.EllipticCurvePrivateKey, gate_for: Callable[..., Gate]
) -> None:
    """JWS-15: the algorithm tells them apart (RFC 7517 section 4.5)."""
    gate = gate_for(public_jwk(rsa_key, kid="k"), public_jwk(ec_key, kid="k"))
    for algorithm, key in (("RS256", rsa_key), ("ES256", ec_key)):
        assert gate.admit(sign({"alg": algorithm, "kid": "k"}, CLAIMS, algorithm, key))


@pytest.mark.parametrize("kid", [7, {}, [], True])
def test_a_kid_that_is_no_string_makes_a_key_unusable(
    ec_key: ec.EllipticCurvePrivateKey, kid: Any
) -> None:
    """JWS-17: no token could name it."""
    assert not read(public_jwk(ec_key, kid=kid)).keys


# -- keys for something else --------------------------------------------------------------


@pytest.mark.parametrize(
    "members",
    [
        {"use": "enc"},
        {"use": "SIG"},
        {"use": ""},
        {"use": ["sig"]},
        {"use": 1},
        {"key_ops": []},
        {"key_ops": ["encrypt"]},
        {"key_ops": ["sign"]},
        {"key_ops": ["VERIFY"]},
        {"key_ops": "verify"},
        {"key_ops": {"verify": 1}},
        {"key_ops": None},
        {"key_ops": [["verify"]]},
        {"use": "sig", "key_ops": ["wrapKey"]},
        {"use": "enc", "key_ops": ["verify"]},
    ],
)
def test_a_key_for_something_else_verifies_nothing(
    ec_key: ec.EllipticCurvePrivateKey, gate_for: Callable[..., Gate], members: Jwk
) -> None:
    """JWS-16: ``use`` is absent or sig, ``key_ops`` absent or with verify."""
    spare = public_jwk(ec.generate_private_key(ec.SECP256R1()), kid="s", use="sig")
    gate = gate_for(public_jwk(ec_key, kid="k", **members), spare)
    token = sign({"alg": "ES256", "kid": "k"}, CLAIMS, "ES256", ec_key)
    assert gate.reject(token) is Reason.UNKNOWN_KID


@pytest.mark.parametrize(
    "members",
    [{}, {"use": "sig"}, {"use": None}, {"key_ops": ["verify"]}, {"note": {}, "x5c": ["M"]}],
)
def test_a_key_for_signatures_verifies(ec_key: ec.EllipticCurvePrivateKey, members: Jwk) -> None:
    """JWS-16, JWS-18: and members that nobody knows are ignored."""
    assert names(read(public_jwk(ec_key, kid="k", **members))) == [("k", {"ES256"})]


def test_beside_encryption_keys_every_key_must_say_its_use(
    ec_key: ec.EllipticCurvePrivateKey, rsa_key: rsa.RSAPrivateKey
) -> None:
    """DSC-7: RFC 8414 section 2 requires it, so an unlabelled key of a mixed set is skipped."""
    mixed = read(
        public_jwk(ec_key, kid="unlabelled"),
        public_jwk(rsa_key, kid="enc", use="enc", alg="RSA-OAEP"),
        public_jwk(rsa_key, kid="sig", use="sig"),
    )
    assert names(mixed) == [("sig", {"RS256"})]
    assert len(mixed.skipped) == 2


def test_private_and_symmetric_members_make_a_key_unusable(
    ec_key: ec.EllipticCurvePrivateKey, rsa_key: rsa.RSAPrivateKey
) -> None:
    """JWS-15: what was published by accident is known to everybody."""
    private: list[Any] = [
        json.loads(ECAlgorithm.to_jwk(ec_key)),
        json.loads(RSAAlgorithm.to_jwk(rsa_key)),
        json.loads(OKPAlgorithm.to_jwk(ed25519.Ed25519PrivateKey.generate())),
        {"kty": "oct", "k": segment(b"k" * 32).decode(), "alg": "HS256"},
        {"kty": "oct", "k": segment(b"k" * 32).decode()},
        {"kty": "oct", "alg": "HS256"},
        public_jwk(ec_key, k="AAAA"),
        *(public_jwk(rsa_key, **{name: "AQAB"}) for name in ("p", "q", "dp", "dq", "qi", "oth")),
        public_jwk(rsa_key, d=None),
    ]
    for jwk in private:
        jwk.pop("key_ops", None)
        assert names(read(jwk, public_jwk(ec_key, kid="good"))) == [("good", {"ES256"})]


def test_a_published_secret_signs_nothing(issuer: Issuer) -> None:
    """JWS-15, JWS-20: HS256 with an ``oct`` key of the remote set is off the list, too."""
    key = b"k" * 32
    jwk = {"kty": "oct", "k": segment(key).decode(), "alg": "HS256", "kid": "shared"}
    issuer.fail("jwks", body=json.dumps({"keys": [jwk, *issuer.jwks["keys"]]}).encode())
    gate = gate_of(issuer)
    gate.admit(issuer.jwt())
    token = issuer.jwt(algorithm="HS256", key=key, headers={"kid": "shared"})
    assert gate.reject(token) is Reason.UNSUPPORTED_ALG


# -- the set ------------------------------------------------------------------------------

P256 = {"kty": "EC", "crv": "P-256"}
UNUSABLE: list[Any] = [
    *(None, 7, "key", [], {}, True),
    {"kty": "EC", "crv": "P-999", "x": "AQ", "y": "AQ"},
    {"kty": "EC", "crv": "secp256k1", "x": "AQ", "y": "AQ"},
    {"kty": "EC", "crv": "P-256"},
    {"kty": "EC", "x": "AQ", "y": "AQ"},
    {"kty": "EC", "crv": ["P-256"], "x": "AQ", "y": "AQ"},
    {**P256, "x": "AQ", "y": "AQ"},
    {**P256, "x": segment(bytes(32)).decode(), "y": segment(bytes(32)).decode()},
    {**P256, "x": segment(b"\xff" * 32).decode(), "y": segment(b"\xff" * 32).decode()},
    {**P256, "x": 7, "y": None},
    {**P256, "x": "é", "y": "!!!!"},
    {"kty": "RSA", "e": "AQAB"},
    {"kty": "RSA", "n": "AQAB"},
    {"kty": "RSA", "n": 7, "e": [1]},
    {"kty": "RSA", "n": "é" * 400, "e": "AQAB"},
    {"kty": "OKP", "crv": "X25519", "x": segment(bytes(32)).decode()},
    {"kty": "OKP", "crv": "Ed25519", "x": "AQ"},
    {"kty": "OKP", "crv": "Ed25519"},
    {"kty": "AKP", "alg": "ML-DSA-44", "pub": "AQAB"},
    {"kty": "ec"},
    {"kty": 7},
    {"kty": {"EC": 1}},
    {"kty": None, "crv": None},
]


@pytest.mark.parametrize("jwk", UNUSABLE, ids=repr)
def test_an_unusable_key_is_skipped_and_the_rest_serves(
    ec_key: ec.EllipticCurvePrivateKey, jwk: Any
) -> None:
    """JWS-17: unknown kinds and curves, missing members and members out of range."""
    keys = read(jwk, public_jwk(ec_key, kid="good"), jwk)
    assert names(keys) == [("good", {"ES256"})]
    assert len(keys.skipped) == 2


def test_a_point_off_the_curve_is_no_key(ec_key: ec.EllipticCurvePrivateKey) -> None:
    """JWS-22: an invalid-curve point is skipped, not a crash."""
    jwk = public_jwk(ec_key, kid="k")
    y = base64.urlsafe_b64decode(jwk["y"] + "==")
    off = {**jwk, "y": segment(y[:-1] + bytes([y[-1] ^ 1])).decode()}
    assert not read(off).keys
    assert names(read(off, jwk)) == [("k", {"ES256"})]


@pytest.mark.parametrize(
    "document",
    [
        *(b"", b"[]", b"null", b"{}", b"<html>", b'{"keys":{}}', b'{"keys":null}', b'{"keys":"x"}'),
        *(b'{"keys":[],"keys":[]}', b'\xef\xbb\xbf{"keys":[]}', '{"keys":[]}'.encode("utf-16")),
        *(b'{"keys":[]}x', b'{"keys":[NaN]}', b'{"keys":[{"kty":"a","kty":"a"}]}'),
        *(b'{"keys":' + b"[" * 100_000, b'{"keys":[' + b'{"a":' * 100_000 + b"1" + b"}" * 100_000),
        b'{"keys":[' + b",".join([b"{}"] * (MAX_KEYS + 1)) + b"]}",
        b'{"keys":[]}' + b" " * MAX_JWKS_BYTES,
    ],
    ids=lambda document: document[:24],
)
def test_a_document_that_is_no_key_set_is_told_from_one(document: bytes) -> None:
    """JWS-18, JWS-27: a set is strict JSON of bounded size; nothing but ``ValueError`` comes."""
    with pytest.raises(ValueError, match=r".") as refused:
        read_jwks(document, SIGNATURE_ALGORITHMS)
    assert not isinstance(refused.value, RecursionError)


def test_a_hundred_keys_are_read(ec_key: ec.EllipticCurvePrivateKey) -> None:
    """JWS-18: and one more key is one too many."""
    jwks = [public_jwk(ec_key, kid=str(number)) for number in range(MAX_KEYS)]
    assert len(read(*jwks).keys) == MAX_KEYS
    with pytest.raises(ValueError, match="more than 100"):
        read(*jwks, {})


# -- weak keys ----------------------------------------------------------------------------


def test_short_rsa_keys_are_not_used(gate_for: Callable[..., Gate]) -> None:
    """JWS-19: 1024 bits are refused although the signature is good; so are 2047."""
    key = rsa.generate_private_key(65537, 1024)
    spare = public_jwk(ec.generate_private_key(ec.SECP256R1()), kid="s")
    token = sign({"alg": "RS256", "kid": "k"}, CLAIMS, "RS256", key)
    assert gate_for(public_jwk(key, kid="k"), spare).reject(token) is Reason.UNKNOWN_KID
    for bits in (512, 2047):
        assert not read(rsa_jwk((1 << (bits - 1)) | 1, 65537)).keys


def rsa_jwk(modulus: int, exponent: int) -> Jwk:
    """A JWK of these numbers, whatever they are."""
    n, e = (
        segment(number.to_bytes(max((number.bit_length() + 7) // 8, 1))).decode()
        for number in (modulus, exponent)
    )
    return {"kty": "RSA", "n": n, "e": e, "kid": "k"}


@pytest.mark.parametrize(
    ("exponent", "usable"),
    [
        *((0, False), (1, False), (2, False), (4, False), (65536, False), (65538, False)),
        *((3, True), (5, True), (17, True), (65537, True), (2**33 + 1, True)),
        *((2**65 + 1, False), (2**2047 + 1, False)),
    ],
)
def test_rsa_exponents_are_odd_and_at_least_three(
    rsa_key: rsa.RSAPrivateKey, exponent: int, usable: bool
) -> None:
    """JWS-19: with e = 1 anybody signs; even ones are no RSA, huge ones cost their verifier."""
    keys = read(rsa_jwk(rsa_key.public_key().public_numbers().n, exponent))
    assert bool(keys.keys) is usable
    assert [why for why in keys.skipped if "exponent" in why] == list(keys.skipped)


def test_huge_rsa_keys_are_not_used() -> None:
    """JWS-19: 8192 bits are enough for anybody; 16384 would be work for an attacker to cause."""
    for bits, usable in ((8192, True), (8193, False), (16384, False)):
        modulus = (1 << (bits - 1)) | (1 << (bits // 2)) | 1
        assert bool(read(rsa_jwk(modulus, 65537)).keys) is usable


def test_roca_keys_are_not_used(rsa_key: rsa.RSAPrivateKey) -> None:
    """JWS-23: a modulus with the fingerprint of CVE-2017-15361 is told from a good one."""
    for one, other in ((5, 9), (1, 2), (1234, 77)):
        modulus = chip_prime(one) * chip_prime(other)
        assert modulus.bit_length() == 2048
        assert is_roca(modulus)
        (why,) = read(rsa_jwk(modulus, 65537)).skipped
        assert "ROCA" in why
        assert not is_roca(modulus + 2)
    assert not is_roca(rsa_key.public_key().public_numbers().n)


def chip_prime(exponent: int) -> int:
    """An odd number of 1024 bits as the broken chips made their primes: k * M + 65537^a mod M."""
    product = math.prod(_ROCA_PRIMES)
    number = (3 << 1022) // product * product + product + pow(65537, exponent, product)
    return number if number % 2 else number + product


@pytest.mark.parametrize(("name", "needed"), [("HS256", 32), ("HS384", 48), ("HS512", 64)])
def test_a_short_secret_serves_no_hash_longer_than_itself(name: str, needed: int) -> None:
    """JWS-20: a secret has at least as many bytes as the hash."""
    every = ("HS256", "HS384", "HS512")
    assert secret_keys(b"k" * needed, every).find(None, name)
    assert not secret_keys(b"k" * (needed - 1), every).find(None, name)
    assert not secret_keys(b"", every).keys


@pytest.mark.parametrize("secret", ["secret", "x" * 31, "password" * 3])
def test_a_password_is_no_secret(secret: str) -> None:
    """JWS-20: it is a mistake of the configuration, and not repeated."""
    with pytest.raises(ConfigError, match="too short") as refused:
        Settings(issuer=ISSUER, audience=AUDIENCE, hmac_secret=secret)
    assert secret not in str(refused.value)


@pytest.mark.parametrize("algorithm", ["HS256", "HS384", "HS512"])
def test_hmac_is_off_without_a_secret(algorithm: str) -> None:
    """JWS-20: naming it is a mistake, and a secret switches everything else off."""
    with pytest.raises(ConfigError, match="HS algorithms need"):
        Settings(issuer=ISSUER, audience=AUDIENCE, algorithms=algorithm)
    issuer = Issuer(ISSUER, audience=AUDIENCE, algorithm="ES256")
    secret = "k" * 64
    gate = Gate(transport=issuer.transport(), **hmac_only(secret))
    token = issuer.jwt(algorithm=algorithm, key=secret, headers={"kid": "any"})
    assert gate.admit(token).subject == "alice"
    assert gate.reject(issuer.jwt()) is Reason.UNSUPPORTED_ALG
    assert not issuer.requests


def hmac_only(secret: str) -> dict[str, Any]:
    """The settings of a shared secret."""
    return {"issuer": ISSUER, "audience": AUDIENCE, "hmac_secret": secret}


def test_a_key_never_raises(ec_key: ec.EllipticCurvePrivateKey) -> None:
    """JWS-27: whatever is offered as a signature, the answer is no."""
    (key,) = read(public_jwk(ec_key)).keys
    for signature in (b"", b"\0", b"x" * 64, b"x" * 100_000):
        assert key.verifies(b"", signature) is False
    assert key.verifies(None, None) is False  # type: ignore[arg-type]


HASHES = {"RS256": hashes.SHA256(), "RS384": hashes.SHA384(), "RS512": hashes.SHA512()}


@pytest.mark.parametrize("name", HASHES)
def test_a_recovered_signature_is_judged_as_openssl_judges_it(
    rsa_key: rsa.RSAPrivateKey, name: str
) -> None:
    """JWS-27: RFC 8017 section 8.2.2; whoever forges the padding of RSA (Bleichenbacher 2006)."""
    (key,) = read({**public_jwk(rsa_key), "alg": name}).keys
    numbers = rsa_key.private_numbers()
    modulus, length = numbers.public_numbers.n, rsa_key.key_size // 8
    algorithm, message = HASHES[name], b"header.payload"
    good = rsa_key.sign(message, padding.PKCS1v15(), algorithm)
    encoded = pow(int.from_bytes(good), numbers.public_numbers.e, modulus).to_bytes(length)
    end = encoded.index(b"\0", 2)
    info = encoded[end + 1 :]

    def signed(text: bytes) -> bytes:
        return pow(int.from_bytes(text), numbers.d, modulus).to_bytes(length)

    def padded(data: bytes, *, kind: bytes = b"\1", fill: bytes = b"\xff") -> bytes:
        return signed(b"\0" + kind + fill * (length - 3 - len(data)) + b"\0" + data)

    assert padded(info) == good
    forged = [
        padded(info + b"\0"),
        padded(info[:-1]),
        padded(info[-algorithm.digest_size :]),
        padded(info.replace(b"\x05\0", b"", 1)),  # NULL left out
        padded(info, kind=b"\2"),
        padded(info, kind=b"\0", fill=b"\0"),
        padded(info, fill=b"\xfe"),
        signed(b"\0\1" + b"\xff" * 8 + b"\0" + info + b"\xaa" * (length - 11 - len(info))),
        signed(b"\0\1" + b"\xff" * 7 + b"\0" + info + b"\xaa" * (length - 10 - len(info))),
        *(
            good[:place] + bytes([good[place] ^ 1]) + good[place + 1 :]
            for place in (0, 9, -1 % length)
        ),
        good[1:],
        b"\0" + good,
        good + b"\0",
        good[:-1],
        bytes(length),
        b"\xff" * length,
        modulus.to_bytes(length),
        b"",
    ]
    for signature, verdict in [(good, True), *((bad, False) for bad in forged)]:
        assert key.verifies(message, signature) is verdict
        assert _openssl_takes(rsa_key.public_key(), signature, message, algorithm) is verdict


def _openssl_takes(key: Any, signature: bytes, message: bytes, algorithm: Any) -> bool:
    try:
        key.verify(signature, message, padding.PKCS1v15(), algorithm)
    except InvalidSignature:
        return False
    return True


def test_a_signature_with_leading_zeros_is_as_long_as_the_key(
    rsa_key: rsa.RSAPrivateKey,
) -> None:
    """JWS-27: the same number in fewer bytes is another spelling, and none of a signature."""
    (key,) = read({**public_jwk(rsa_key), "alg": "RS256"}).keys
    for number in range(20_000):
        message = b"%d" % number
        signature = rsa_key.sign(message, padding.PKCS1v15(), hashes.SHA256())
        if signature[0] == 0:
            break
    assert key.verifies(message, signature)
    assert not key.verifies(message, signature.lstrip(b"\0"))
