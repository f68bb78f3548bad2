"""JSON Web Signatures as an authorization server makes them, and as an attacker does.

PyJWT's own ``encode`` refuses the malformed tokens that tests are about, and its HMAC the
public key that an algorithm confusion signs with, so only its algorithms are used here.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

from jwt import PyJWTError
from jwt.algorithms import HMACAlgorithm, NoneAlgorithm, OKPAlgorithm, get_default_algorithms
from jwt.utils import base64url_decode, base64url_encode

ALGORITHMS = {
    **get_default_algorithms(),
    # RFC 9864 names the curves; PyJWT knows both under their old common name alone.
    "Ed25519": OKPAlgorithm(),
    "Ed448": OKPAlgorithm(),
}
ASSERTION_ALGORITHMS = tuple(name for name in ALGORITHMS if name != "none")


def sign(header: Mapping[str, Any], claims: Mapping[str, Any], algorithm: str, key: Any) -> str:
    """Sign with this algorithm and key, whatever the header says."""
    signing_input = f"{_segment(header)}.{_segment(claims)}"
    signature = ALGORITHMS[algorithm].sign(signing_input.encode(), _prepared(algorithm, key))
    return f"{signing_input}.{base64url_encode(signature).decode()}"


@dataclass(frozen=True, slots=True)
class Signed:
    """A JWS in its parts, its signature not yet verified."""

    header: Mapping[str, Any]
    claims: Mapping[str, Any]
    signing_input: bytes
    signature: bytes

    @classmethod
    def parse(cls, token: str) -> Self | None:
        """Take a token apart; ``None`` for one that is not a JWT."""
        try:
            signing_input, _, signature = token.encode().rpartition(b".")
            header, claims = (
                json.loads(base64url_decode(part)) for part in signing_input.split(b".")
            )
            parsed = cls(header, claims, signing_input, base64url_decode(signature))
        except (ValueError, RecursionError):
            return None
        return parsed if isinstance(header, dict) and isinstance(claims, dict) else None

    @property
    def algorithm(self) -> str:
        return str(self.header.get("alg"))

    def is_symmetric(self) -> bool:
        return isinstance(ALGORITHMS.get(self.algorithm), HMACAlgorithm)

    def verifies(self, key: Any) -> bool:
        """Did the owner of this key sign it, by the algorithm of the header?"""
        algorithm = ALGORITHMS.get(self.algorithm)
        if algorithm is None:
            return False
        try:
            return algorithm.verify(
                self.signing_input, _prepared(self.algorithm, key), self.signature
            )
        except (PyJWTError, TypeError, ValueError):
            return False  # a key of another kind than the algorithm wants


def _segment(part: Mapping[str, Any]) -> str:
    return base64url_encode(json.dumps(part, separators=(",", ":")).encode()).decode()


def _prepared(algorithm: str, key: Any) -> Any:
    if isinstance(ALGORITHMS[algorithm], NoneAlgorithm):
        return None
    if isinstance(ALGORITHMS[algorithm], HMACAlgorithm):
        return key.encode() if isinstance(key, str) else bytes(key)
    return ALGORITHMS[algorithm].prepare_key(key)
