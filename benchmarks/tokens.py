"""What is measured on: tokens of the usual size, and a forged one that nobody may accept."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, padding
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature
from jwt.utils import base64url_decode

from bearer_middleware import ResourceServer
from bearer_middleware.settings import Settings
from bearer_middleware.testing import Issuer

DISTINCT = 64
KID = "bench-2026-signing-001"
PAYLOAD_BYTES = 342  # with RS256 a token of 882 characters
LARGE_PAYLOAD_BYTES = 5_820  # with RS256 one of 8 KiB, just within the limit


@dataclass(frozen=True)
class Material:
    """Tokens of one algorithm from one issuer."""

    issuer: Issuer
    algorithm: str
    tokens: list[bytes]
    forged: bytes

    @property
    def jwk(self) -> dict[str, Any]:
        return next(key for key in self.issuer.jwks["keys"] if key["alg"] == self.algorithm)

    @property
    def pem(self) -> bytes:
        return self.public_key.public_bytes(
            serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
        )

    @property
    def public_key(self) -> Any:
        from jwt import PyJWK

        return PyJWK(self.jwk).key

    def server(self, **overrides: Any) -> ResourceServer:
        """A resource server that trusts the issuer, with no network in the way."""
        keywords = self.issuer.settings(algorithms=[self.algorithm], **overrides)
        return ResourceServer(Settings(**keywords), transport=self.issuer.transport())


def material(algorithm: str = "RS256", payload_bytes: int = PAYLOAD_BYTES) -> Material:
    """Make 64 tokens that differ in subject and ``jti``."""
    issuer = Issuer("https://auth.example.com/", algorithm=algorithm)
    issuer.rotate(kid=KID)
    groups = _padding(payload_bytes, len(_payload(_token(issuer, 0, []))))
    tokens = [_token(issuer, number, groups) for number in range(DISTINCT)]
    stranger = Issuer("https://auth.example.com/", algorithm=algorithm)
    stranger.rotate(kid=KID)
    return Material(issuer, algorithm, tokens, _token(stranger, 0, groups))


def _token(issuer: Issuer, number: int, groups: list[str]) -> bytes:
    return issuer.jwt(
        sub=f"auth0|5f7c8ec7c33c6c004bbaf{number:03d}",
        scope="read:orders write:orders",
        client_id="web-frontend",
        auth_time=1_700_000_000,
        groups=groups,
    ).encode()


def _padding(wanted: int, have: int) -> list[str]:
    """Group names that fill the payload up to ``wanted`` bytes."""
    names: list[str] = []
    missing = wanted - have
    while missing > 60:
        names.append(f"group-{len(names):03d}-of-the-department")
        missing -= len(names[-1]) + 3
    return [*names, "g" * max(missing - 2, 1)]


def _payload(token: bytes) -> bytes:
    return base64url_decode(token.split(b".")[1])


def bare_check(material: Material) -> tuple[Callable[[Any], Any], list[Any]]:
    """The signature alone, as ``cryptography`` verifies it, and what to feed it with."""
    verify = material.public_key.verify
    parts = [token.rsplit(b".", 1) for token in material.tokens]
    inputs = [(base64url_decode(signature), signed) for signed, signature in parts]
    if material.algorithm == "RS256":
        pkcs, sha256 = padding.PKCS1v15(), hashes.SHA256()
        return (lambda pair: verify(pair[0], pair[1], pkcs, sha256)), inputs
    if material.algorithm == "ES256":  # in DER already, as a bare check would have it
        ecdsa = ec.ECDSA(hashes.SHA256())
        inputs = [(_der(signature), signed) for signature, signed in inputs]
        return (lambda pair: verify(pair[0], pair[1], ecdsa)), inputs
    return (lambda pair: verify(pair[0], pair[1])), inputs


def _der(signature: bytes) -> bytes:
    half = len(signature) // 2
    return encode_dss_signature(int.from_bytes(signature[:half]), int.from_bytes(signature[half:]))
