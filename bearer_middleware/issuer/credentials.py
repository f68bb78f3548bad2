"""How this API proves itself to the authorization server (RFC 6749 2.3.1, RFC 7523, RFC 8705)."""

from __future__ import annotations

import base64
import secrets
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import quote_plus

from bearer_middleware.settings import IssuerSettings

_ASSERTION_SECONDS = 60
_JWT_BEARER = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"

#: Header and form fields that go with a request to ``endpoint``.
Proof = tuple[dict[str, str], dict[str, str]]


class ClientCredentials:
    """The client authentication of one issuer's settings."""

    def __init__(self, settings: IssuerSettings, now: Callable[[], float] = time.time) -> None:
        self._settings, self._now = settings, now
        self._id = settings.client_id or ""
        self._private_key: tuple[Any, str] | None = None
        self._method: Callable[[str], Proof] = {
            "client_secret_basic": self._basic,
            "client_secret_post": self._post,
            "client_secret_jwt": self._secret_jwt,
            "private_key_jwt": self._private_key_jwt,
            "tls_client_auth": self._id_alone,
            "none": self._id_alone,
        }[settings.client_auth]

    def prove(self, endpoint: str) -> Proof:
        """Fresh proof for one request to ``endpoint``."""
        return self._method(endpoint)

    def __repr__(self) -> str:
        return f"<ClientCredentials {self._settings.client_auth}>"

    def _secret(self) -> str:
        secret = self._settings.client_secret
        return "" if secret is None else secret.reveal()

    def _basic(self, endpoint: str) -> Proof:
        # RFC 6749 section 2.3.1: form-encoded first, or a colon in the id would be lost.
        pair = f"{quote_plus(self._id)}:{quote_plus(self._secret())}"
        return {"Authorization": "Basic " + base64.b64encode(pair.encode()).decode()}, {}

    def _post(self, endpoint: str) -> Proof:
        return {}, {"client_id": self._id, "client_secret": self._secret()}

    def _id_alone(self, endpoint: str) -> Proof:
        return {}, {"client_id": self._id} if self._id else {}

    def _secret_jwt(self, endpoint: str) -> Proof:
        return self._assertion(endpoint, self._secret(), "HS256")

    def _private_key_jwt(self, endpoint: str) -> Proof:
        if self._private_key is None:
            self._private_key = read_private_key(self._settings.client_key_file or "")
        return self._assertion(endpoint, *self._private_key)

    def _assertion(self, endpoint: str, key: Any, algorithm: str) -> Proof:
        import jwt

        now = int(self._now())
        claims = {
            "iss": self._id,
            "sub": self._id,
            "aud": self._settings.issuer or endpoint,
            "jti": secrets.token_urlsafe(16),
            "iat": now,
            "exp": now + _ASSERTION_SECONDS,
        }
        kid = self._settings.client_key_id
        headers = {"kid": kid} if kid else None
        assertion = jwt.encode(claims, key, algorithm=algorithm, headers=headers)
        return {}, {
            "client_id": self._id,
            "client_assertion_type": _JWT_BEARER,
            "client_assertion": assertion,
        }


def read_private_key(path: str) -> tuple[Any, str]:
    """A PEM private key and the algorithm it signs with. Raises ``OSError`` or ``ValueError``."""
    from cryptography.hazmat.primitives.asymmetric import ec, ed448, ed25519, rsa
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    key = load_pem_private_key(Path(path).read_bytes(), password=None)
    match key:
        case rsa.RSAPrivateKey():
            return key, "RS256"
        case ec.EllipticCurvePrivateKey():
            algorithms = {"secp256r1": "ES256", "secp384r1": "ES384", "secp521r1": "ES512"}
            return key, algorithms[key.curve.name]
        case ed25519.Ed25519PrivateKey() | ed448.Ed448PrivateKey():
            return key, "EdDSA"
    raise ValueError("not a key that can sign")
