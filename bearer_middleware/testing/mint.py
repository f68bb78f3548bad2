"""What an issuer knows of its tokens: it mints them, remembers them, takes them back."""

from __future__ import annotations

import secrets
import threading
import time
from collections.abc import Mapping
from typing import Any

from bearer_middleware.testing.keys import KeyRing, SigningKey
from bearer_middleware.testing.signing import ALGORITHMS, Signed, sign

LIFETIME = 3600


class Mint:
    """Tokens of one issuer. ``url`` changes while the issuer is served."""

    def __init__(self, url: str, audience: str, algorithm: str) -> None:
        self.url = url
        self.audience = audience
        self._ring = KeyRing(algorithm)
        self._opaque: dict[str, dict[str, Any]] = {}
        self._revoked: set[Any] = set()
        self._lock = threading.RLock()

    def jwt(
        self,
        claims: Mapping[str, Any],
        headers: Mapping[str, Any],
        algorithm: str | None,
        key: Any,
    ) -> str:
        """Sign an access token of RFC 9068, unless claims and headers say otherwise."""
        algorithm = algorithm or self.signing_key().algorithm
        if algorithm not in ALGORITHMS:
            raise ValueError(f"unknown algorithm: {algorithm!r}")
        header: dict[str, Any] = {"alg": algorithm, "typ": "at+jwt"}
        if not algorithm.startswith("HS") and algorithm != "none":
            own = self.signing_key(algorithm)
            header["kid"] = own.kid
            key = own.private if key is None else key
        elif key is None and algorithm != "none":
            raise ValueError(f"{algorithm} needs key=, the secret to sign with")
        return sign(_merged(header, headers), self._claims(claims), algorithm, key)

    def opaque(self, members: Mapping[str, Any], token: str | None) -> str:
        """Remember what introspection will answer for a token that says nothing itself."""
        token = token or secrets.token_urlsafe(32)
        known = {"active": True, "token_type": "Bearer"}
        self._opaque[token] = _merged(known, self._claims(members))
        return token

    def introspect(self, token: str) -> dict[str, Any]:
        """The answer of RFC 7662 for an opaque token or a JWT of this mint."""
        if not self._revoked.isdisjoint(_names(token)):
            return {"active": False}
        if token in self._opaque:
            return dict(self._opaque[token])
        signed = Signed.parse(token)
        with self._lock:
            good = signed is not None and self._ring.signed(signed) and _is_live(signed.claims)
        if signed is None or not good:
            return {"active": False}
        return {"active": True, "token_type": "Bearer", **signed.claims}

    def revoke(self, token: str) -> None:
        """From now on the token is inactive, whoever asks."""
        self._revoked.update(_names(token))

    def rotate(self, *, keep_old: bool, kid: str | None) -> str:
        """Sign with a new key from now on."""
        with self._lock:
            return self._ring.rotate(keep_old=keep_old, kid=kid).kid

    def signing_key(self, algorithm: str | None = None) -> SigningKey:
        """The key that signs at the moment."""
        with self._lock:
            return self._ring.signing(algorithm)

    def jwks(self) -> dict[str, Any]:
        """The published keys, a JWK Set of RFC 7517."""
        with self._lock:
            return {"keys": [key.jwk() for key in self._ring.published()]}

    def _claims(self, overrides: Mapping[str, Any]) -> dict[str, Any]:
        now = int(time.time())
        usual = {
            "iss": self.url,
            "aud": self.audience,
            "sub": "alice",
            "client_id": "test-client",
            "iat": now,
            "exp": now + LIFETIME,
            "jti": secrets.token_hex(8),
            "scope": "read",
        }
        return _merged(usual, overrides)


def _merged(usual: Mapping[str, Any], overrides: Mapping[str, Any]) -> dict[str, Any]:
    """Later values win, and ``None`` leaves a member out."""
    return {name: value for name, value in {**usual, **overrides}.items() if value is not None}


def _is_live(claims: Mapping[str, Any]) -> bool:
    begin, end = claims.get("nbf", 0), claims.get("exp", 0)
    if not isinstance(begin, int | float) or not isinstance(end, int | float):
        return False
    return begin <= time.time() < end


def _names(token: str) -> set[tuple[str, str]]:
    """A token is revoked by its text and, since ECDSA signatures can be respelled, its ``jti``."""
    signed = Signed.parse(token)
    names = {("text", token)}
    if signed is not None and "jti" in signed.claims:
        names.add(("jti", str(signed.claims["jti"])))
    return names
