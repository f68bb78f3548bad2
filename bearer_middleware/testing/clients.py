"""Client authentication at the token, introspection and revocation endpoints."""

from __future__ import annotations

import base64
import time
from collections.abc import Collection, Mapping
from typing import Any
from urllib.parse import unquote_plus

from cryptography.hazmat.primitives.serialization import load_pem_public_key

from bearer_middleware.testing.signing import Signed

JWT_BEARER = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"


class OAuthError(Exception):
    """The request is answered with this status and this ``error`` of RFC 6749 section 5.2."""

    def __init__(self, status: int, error: str) -> None:
        self.status = status
        self.error = error
        super().__init__(error)


class Clients:
    """The one client that is registered, with its secret and its keys."""

    def __init__(self, client_id: str, client_secret: str | None) -> None:
        self.client_id = client_id
        self.client_secret = client_secret
        self._keys: list[Any] = []
        self._used: set[str] = set()

    @property
    def methods(self) -> list[str]:
        """The names of RFC 8414 for what is accepted."""
        if self.client_secret is None:
            return ["none", "private_key_jwt"]
        return ["client_secret_basic", "client_secret_post", "client_secret_jwt", "private_key_jwt"]

    def trust(self, key: Any) -> None:
        """Accept assertions signed with the private half of this public key, object or PEM."""
        if isinstance(key, str | bytes):
            key = load_pem_public_key(key.encode() if isinstance(key, str) else key)
        self._keys.append(key)

    def authenticate(
        self, headers: Mapping[str, str], form: Mapping[str, str], audience: Collection[str]
    ) -> str:
        """The id of the client that asks, or :class:`OAuthError`."""
        shown = {
            "header": "authorization" in headers,
            "assertion": "client_assertion" in form,
            "secret": "client_secret" in form,
        }
        if sum(shown.values()) > 1:  # RFC 6749 section 2.3: one method in each request
            raise OAuthError(400, "invalid_request")
        if shown["header"]:
            good = self._basic(headers["authorization"])
        elif shown["assertion"]:
            good = self._assertion(form, audience)
        else:
            good = self._named(form.get("client_id"), form.get("client_secret"))
        if not good:
            raise OAuthError(401, "invalid_client")
        return self.client_id

    def _basic(self, header: str) -> bool:
        scheme, _, credentials = header.partition(" ")
        try:
            pair = base64.b64decode(credentials, validate=True).decode()
        except ValueError:
            return False
        # Both halves are form-encoded before they are joined (RFC 6749 section 2.3.1).
        name, colon, secret = (unquote_plus(part) for part in pair.partition(":"))
        return scheme.lower() == "basic" and bool(colon) and self._named(name, secret)

    def _named(self, name: str | None, secret: str | None) -> bool:
        if self.client_secret is None:
            return name in (self.client_id, None) and not secret
        return (name, secret) == (self.client_id, self.client_secret)

    def _assertion(self, form: Mapping[str, str], audience: Collection[str]) -> bool:
        """Validate as RFC 7523 section 3 says; an assertion is good once."""
        signed = Signed.parse(form["client_assertion"])
        if form.get("client_assertion_type") != JWT_BEARER or signed is None:
            return False
        if not any(signed.verifies(key) for key in self._keys_for(signed)):
            return False
        claims = signed.claims
        meant = claims.get("aud")
        named = {meant} if isinstance(meant, str) else set(meant or ())
        return (
            claims.get("iss") == claims.get("sub") == self.client_id
            and not named.isdisjoint(audience)
            and claims.get("exp", 0) > time.time()
            and self._is_new(str(claims.get("jti")))
        )

    def _keys_for(self, signed: Signed) -> list[Any]:
        if not signed.is_symmetric():
            return self._keys
        return [self.client_secret] if self.client_secret else []

    def _is_new(self, jti: str) -> bool:
        if jti in self._used:
            return False
        self._used.add(jti)
        return True
