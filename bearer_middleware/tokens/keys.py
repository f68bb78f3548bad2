"""The keys of an issuer: which JWKs may verify what (RFC 7517, RFC 7518, RFC 8725 section 3.1).

One key, one algorithm. A key that is unusable is skipped, with the reason kept for the
operator; the rest of the set serves.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from bearer_middleware.tokens.checks import Verifies, public_check, secret_check
from bearer_middleware.tokens.rsa import reject_weak_rsa
from bearer_middleware.tokens.text import parse_object

MAX_KEYS = 100
MAX_JWKS_BYTES = 262_144

_CURVES = {
    ("EC", "P-256"): "ES256",
    ("EC", "P-384"): "ES384",
    ("EC", "P-521"): "ES512",
    ("OKP", "Ed25519"): "Ed25519",
    ("OKP", "Ed448"): "Ed448",
}
# RFC 9864 gave EdDSA's two curves names of their own; the old name may mean either.
_EDWARDS = frozenset({"EdDSA", "Ed25519", "Ed448"})
_RSA = frozenset({"RS256", "RS384", "RS512", "PS256", "PS384", "PS512"})
HMAC_BYTES = {"HS256": 32, "HS384": 48, "HS512": 64}
_PRIVATE = frozenset({"d", "p", "q", "dp", "dq", "qi", "oth", "k"})
_MATERIAL = ("kty", "crv", "n", "e", "x", "y")
# The serial of a secret must not be a hash by which it could be guessed.
_SALT = os.urandom(16)


@dataclass(frozen=True, slots=True, repr=False, eq=False)
class VerificationKey:
    """A key that may verify signatures of one algorithm."""

    kid: str | None
    #: The names of its algorithm: one, or two where RFC 9864 renamed it.
    algorithms: frozenset[str]
    #: The same for the same JWK in every version of the set, so results remember it.
    serial: int
    #: Is this a signature of it? Never raises.
    verifies: Verifies


@dataclass(frozen=True, slots=True, repr=False, eq=False)
class KeySet:
    """The usable keys of one issuer at one time. ``skipped`` says why others are not."""

    keys: tuple[VerificationKey, ...]
    skipped: tuple[str, ...] = ()
    #: A shared secret has no kid, whatever the token says.
    ignores_kid: bool = False
    serials: frozenset[int] = field(init=False)
    #: By kid and algorithm, and without a kid where that is no guess.
    index: Mapping[tuple[str | None, str], VerificationKey | None] = field(init=False)
    _kids: frozenset[str | None] = field(init=False)

    def __post_init__(self) -> None:
        put = object.__setattr__
        put(self, "serials", frozenset(key.serial for key in self.keys))
        put(self, "_kids", frozenset(key.kid for key in self.keys))
        put(self, "index", _indexed(self.keys))

    def find(self, kid: str | None, algorithm: str) -> VerificationKey | None:
        """The one key meant; without a ``kid`` only where one key alone fits."""
        return self.index.get((None if self.ignores_kid else kid, algorithm))

    def knows(self, kid: str | None) -> bool:
        """Is there a key of this ``kid``, whatever its algorithm?"""
        return self.ignores_kid or (kid is not None and kid in self._kids)


def _indexed(
    keys: Iterable[VerificationKey],
) -> dict[tuple[str | None, str], VerificationKey | None]:
    """By (kid, algorithm), and by algorithm without a kid, where that is no guess."""
    index: dict[tuple[str | None, str], VerificationKey | None] = {}
    for key in keys:
        for algorithm in key.algorithms:
            for kid in {key.kid, None}:
                index[kid, algorithm] = None if (kid, algorithm) in index else key
    return index


def read_jwks(
    document: bytes, algorithms: Sequence[str], issuers: frozenset[str] = frozenset()
) -> KeySet:
    """The keys of a JWK Set document that ``algorithms`` allows. Where some servers share a set,
    its keys say in ``issuer`` whose they are: one of ``issuers``. Raises ``ValueError``.
    """
    if len(document) > MAX_JWKS_BYTES:
        raise ValueError(f"more than {MAX_JWKS_BYTES} bytes")
    jwks = parse_object(document).get("keys")
    if not isinstance(jwks, list):
        raise ValueError("no list of keys")
    if len(jwks) > MAX_KEYS:
        raise ValueError(f"more than {MAX_KEYS} keys")
    # RFC 8414 section 2: where encryption keys are in the set, every key must say its use.
    mixed = any(isinstance(jwk, dict) and jwk.get("use") == "enc" for jwk in jwks)
    keys: list[VerificationKey] = []
    skipped: list[str] = []
    for number, jwk in enumerate(jwks, 1):
        try:
            key = _read_jwk(jwk, algorithms, use_required=mixed)
            _reject_other_issuers(jwk.get("issuer"), issuers)
            keys.append(key)
        except ValueError as unusable:
            skipped.append(f"key {number}: {unusable}")
    return _without_ambiguity(keys, skipped)


def _without_ambiguity(keys: list[VerificationKey], skipped: list[str]) -> KeySet:
    """Two different keys under one kid and algorithm would make every choice a guess."""
    distinct = {key.serial: key for key in keys}.values()
    count: dict[tuple[str | None, frozenset[str]], int] = {}
    for key in distinct:
        count[key.kid, key.algorithms] = count.get((key.kid, key.algorithms), 0) + 1
    clear = [k for k in distinct if k.kid is None or count[k.kid, k.algorithms] == 1]
    if len(clear) < len(distinct):
        skipped.append("one kid stands for several keys")
    return KeySet(tuple(clear), tuple(skipped))


def secret_keys(secret: bytes, algorithms: Iterable[str]) -> KeySet:
    """A shared secret as keys of every HMAC algorithm it is long enough for (RFC 7518 3.2)."""
    from jwt.algorithms import HMACAlgorithm

    hashes = {
        "HS256": HMACAlgorithm.SHA256,
        "HS384": HMACAlgorithm.SHA384,
        "HS512": HMACAlgorithm.SHA512,
    }
    return KeySet(
        tuple(
            VerificationKey(
                None,
                frozenset({name}),
                _secret_serial(secret, name),
                secret_check(HMACAlgorithm(hashes[name]), secret),
            )
            for name in algorithms
            if len(secret) >= HMAC_BYTES[name]
        ),
        ignores_kid=True,
    )


def _secret_serial(secret: bytes, name: str) -> int:
    digest = hashlib.blake2b(name.encode() + b"\0" + secret, key=_SALT, digest_size=8)
    return int.from_bytes(digest.digest())


def _read_jwk(jwk: Any, algorithms: Sequence[str], *, use_required: bool) -> VerificationKey:
    if not isinstance(jwk, dict):
        raise ValueError("not a JSON object")
    _reject_other_purposes(jwk, use_required=use_required)
    kid = jwk.get("kid")
    if kid is not None and not isinstance(kid, str):
        raise ValueError("kid is not a string")
    name = _algorithm(jwk, algorithms)
    if jwk.get("kty") == "RSA":
        reject_weak_rsa(jwk.get("n"), jwk.get("e"))
    return VerificationKey(kid, _names(jwk, name), _serial(jwk, name), _load(jwk, name))


def _reject_other_purposes(jwk: dict[str, Any], *, use_required: bool) -> None:
    if _PRIVATE & jwk.keys():
        raise ValueError("a private or symmetric key in a public set")
    use, operations = jwk.get("use"), jwk.get("key_ops")
    if use != "sig" and (use_required or use is not None):
        raise ValueError("not for signatures")
    if "key_ops" in jwk and not (isinstance(operations, list) and "verify" in operations):
        raise ValueError("key_ops without verify")


def _reject_other_issuers(issuer: Any, issuers: frozenset[str]) -> None:
    if issuers and issuer is not None and not (isinstance(issuer, str) and issuer in issuers):
        raise ValueError("bound to another issuer")


def _algorithm(jwk: dict[str, Any], algorithms: Sequence[str]) -> str:
    """The one algorithm of a key: its ``alg``; else its curve's, or the first RSA one allowed."""
    kty, curve, named = jwk.get("kty"), jwk.get("crv"), jwk.get("alg")
    if any(not isinstance(member, str | None) for member in (kty, curve, named)):
        raise ValueError("kty, crv or alg is not a string")
    candidates = _RSA if kty == "RSA" else _curve_algorithms(kty, curve)
    fitting = [name for name in algorithms if name in candidates]
    if not fitting or (named is not None and named not in candidates):
        raise ValueError("no allowed algorithm fits")
    if kty != "RSA" or named is None:
        return fitting[0]
    if named not in fitting:
        raise ValueError("its alg is not allowed")
    return str(named)


def _curve_algorithms(kty: Any, curve: Any) -> frozenset[str]:
    own = _CURVES.get((kty, curve))
    if own is None:
        raise ValueError("unknown kty or crv")
    return frozenset({own, "EdDSA"}) if kty == "OKP" else frozenset({own})


def accepted_names(algorithms: Iterable[str]) -> frozenset[str]:
    """What tokens may say in ``alg``: EdDSA and Ed25519 are two names of one algorithm."""
    names = frozenset(algorithms)
    return names | {"EdDSA", "Ed25519"} if names & {"EdDSA", "Ed25519"} else names


def _names(jwk: dict[str, Any], name: str) -> frozenset[str]:
    if jwk.get("kty") == "OKP":
        return frozenset({"EdDSA", str(jwk["crv"])})
    return frozenset({name})


def _load(jwk: dict[str, Any], name: str) -> Verifies:
    from jwt import PyJWK

    members = {member: jwk[member] for member in _MATERIAL if member in jwk}
    try:
        loaded = PyJWK(members, algorithm="EdDSA" if name in _EDWARDS else name)
    except Exception:  # noqa: BLE001 - a point off the curve, a member missing, not base64 ...
        raise ValueError("its members do not make a key") from None
    return public_check(loaded.key, loaded.Algorithm)


def _serial(jwk: dict[str, Any], name: str) -> int:
    text = json.dumps([name, *(jwk.get(member) for member in ("kid", *_MATERIAL))]).encode()
    return int.from_bytes(hashlib.sha256(text).digest()[:8])
