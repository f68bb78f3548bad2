"""How this API proves itself to the authorization server (RFC 6749 2.3.1, RFC 7523, RFC 8705).

A secret or private key that is in a file may be replaced there: see :meth:`refresh`.
"""

from __future__ import annotations

import base64
import secrets
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import quote_plus

from bearer_middleware.errors import TransportError
from bearer_middleware.flow.effects import Flow
from bearer_middleware.flow.events import Events
from bearer_middleware.flow.watched import Watched
from bearer_middleware.settings import IssuerSettings, Secret, files

_ASSERTION_SECONDS = 60
_HS256_BYTES = 32
_JWT_BEARER = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"

#: Header and form fields that go with a request to ``endpoint``.
Proof = tuple[dict[str, str], dict[str, str]]


class ClientCredentials:
    """The client authentication of one issuer's settings."""

    def __init__(
        self,
        settings: IssuerSettings,
        now: Callable[[], float] = time.time,
        *,
        monotonic: Callable[[], float] = time.monotonic,
        events: Events | None = None,
    ) -> None:
        self._settings, self._now = settings, now
        self._events = Events() if events is None else events
        self._id = settings.client_id or ""
        self._secret_file = _secret_file(settings, monotonic)
        self._key_file = _key_file(settings, monotonic)
        self._method: Callable[[str], Proof] = {
            "client_secret_basic": self._basic,
            "client_secret_post": self._post,
            "client_secret_jwt": self._secret_jwt,
            "private_key_jwt": self._private_key_jwt,
            "tls_client_auth": self._id_alone,
            "none": self._id_alone,
        }[settings.client_auth]

    def prove(self, endpoint: str) -> Proof:
        """Fresh proof for one request to ``endpoint``. Raises ``TransportError`` where the
        private key has never been readable.
        """
        return self._method(endpoint)

    def refresh(self, *, refused: bool = False) -> Flow[int]:
        """Look for new content of the files, at once where the server ``refused`` the old.

        The version of what serves: it grows with every new content.
        """
        version = 0
        for file in (self._secret_file, self._key_file):
            if file is not None:
                event = file.look(at_once=refused)
                version += file.version
                if event is not None:
                    yield from self._events.happened(event)
        return version

    @property
    def troubled(self) -> bool:
        """Is a file unusable, and its old content serving?"""
        files_of_ours = (self._secret_file, self._key_file)
        return any(file is not None and file.troubled for file in files_of_ours)

    def __repr__(self) -> str:
        return f"<ClientCredentials {self._settings.client_auth}>"

    def _secret(self) -> str:
        file = self._secret_file
        secret = self._settings.client_secret if file is None else file.value
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
        file = self._key_file
        if file is None or file.value is None:
            raise TransportError("our private key cannot be read")
        return self._assertion(endpoint, *file.value)

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


def _secret_file(
    settings: IssuerSettings, monotonic: Callable[[], float]
) -> Watched[Secret] | None:
    path = settings.client_secret_file
    if path is None:
        return None

    def read() -> Secret:
        secret = files.kept_secret(path)
        short = len(secret.reveal().encode()) < _HS256_BYTES
        if settings.client_auth == "client_secret_jwt" and short:
            raise ValueError("names a secret of less than 32 bytes")
        return secret

    return Watched(
        "BEARER_CLIENT_SECRET_FILE",
        (path,),
        read,
        first=settings.client_secret,
        issuer=settings.issuer,
        monotonic=monotonic,
    )


def _key_file(
    settings: IssuerSettings, monotonic: Callable[[], float]
) -> Watched[tuple[Any, str]] | None:
    path = settings.client_key_file
    if path is None or settings.client_auth != "private_key_jwt":
        return None  # the key of a certificate is read together with it

    def read() -> tuple[Any, str]:
        files.private_key(path)  # in words of ours
        return read_private_key(path)

    return Watched(
        "BEARER_CLIENT_KEY_FILE", (path,), read, issuer=settings.issuer, monotonic=monotonic
    )


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
