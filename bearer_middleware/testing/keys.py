"""The signing keys of an issuer: made when first needed, published, rotated."""

from __future__ import annotations

import secrets
import weakref
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from cryptography.hazmat.primitives.asymmetric import ec, ed448, ed25519, rsa

from bearer_middleware.testing.signing import ALGORITHMS, Signed

# Making an RSA key takes 40 ms and more. Keys of issuers that are gone rest here until the
# test that made them is over: until then another issuer must not have them, or a token
# "of a stranger" would verify.
_resting: list[rsa.RSAPrivateKey] = []
_spare: list[rsa.RSAPrivateKey] = []


def recycle() -> None:
    """Let new issuers have the RSA keys of issuers that no longer exist."""
    while _resting:
        _spare.append(_resting.pop())


def _rsa_key() -> rsa.RSAPrivateKey:
    try:
        return _spare.pop()
    except IndexError:
        return rsa.generate_private_key(public_exponent=65537, key_size=2048)


_MAKERS: Mapping[str, Callable[[], Any]] = {
    **dict.fromkeys(("RS256", "RS384", "RS512", "PS256", "PS384", "PS512"), _rsa_key),
    "ES256": lambda: ec.generate_private_key(ec.SECP256R1()),
    "ES384": lambda: ec.generate_private_key(ec.SECP384R1()),
    "ES512": lambda: ec.generate_private_key(ec.SECP521R1()),
    "EdDSA": ed25519.Ed25519PrivateKey.generate,
    "Ed25519": ed25519.Ed25519PrivateKey.generate,
    "Ed448": ed448.Ed448PrivateKey.generate,
}


def require_supported(algorithm: str) -> None:
    """Raise ``ValueError`` for an algorithm that an issuer cannot have a key of."""
    if algorithm not in _MAKERS:
        raise ValueError(f"no key pair for {algorithm!r}; known are {', '.join(_MAKERS)}")


@dataclass(frozen=True, slots=True)
class SigningKey:
    """One private key, for one algorithm."""

    kid: str
    algorithm: str
    private: Any = field(repr=False)

    @property
    def public(self) -> Any:
        return self.private.public_key()

    def jwk(self) -> dict[str, Any]:
        """The public half, as it stands in the key set."""
        # The static type of `to_jwk` differs for each family of keys.
        family: Any = ALGORITHMS[self.algorithm]
        members: dict[str, Any] = family.to_jwk(self.public, as_dict=True)
        # PyJWT adds `key_ops`, which beside `use` SHOULD NOT be there (RFC 7517 section 4.3).
        members.pop("key_ops", None)
        return {**members, "kid": self.kid, "use": "sig", "alg": self.algorithm}


class KeyRing:
    """The keys that sign now, and those that are published. Its owner does the locking."""

    def __init__(self, algorithm: str) -> None:
        require_supported(algorithm)
        self._algorithm = algorithm
        self._signing: dict[str, SigningKey] = {}
        self._published: list[SigningKey] = []
        self._borrowed: list[rsa.RSAPrivateKey] = []
        weakref.finalize(self, _resting.extend, self._borrowed).atexit = False

    def signing(self, algorithm: str | None = None) -> SigningKey:
        """The key that signs with this algorithm, published from the moment it is made."""
        algorithm = algorithm or self._algorithm
        if algorithm not in self._signing:
            require_supported(algorithm)
            self._add(algorithm, kid=None)
        return self._signing[algorithm]

    def published(self) -> list[SigningKey]:
        """All keys of the key set, the one that signs by default among them."""
        self.signing()
        return list(self._published)

    def rotate(self, *, keep_old: bool, kid: str | None) -> SigningKey:
        """Make a new key; those of other algorithms are made when they are next needed."""
        self._signing.clear()
        if not keep_old:
            self._published.clear()
        self._add(self._algorithm, kid)
        return self.signing()

    def signed(self, token: Signed) -> bool:
        """Is this token signed by a key that is still published?"""
        return any(
            token.verifies(key.public)
            for key in self._published
            if key.algorithm == token.algorithm and token.header.get("kid") in (None, key.kid)
        )

    def _add(self, algorithm: str, kid: str | None) -> None:
        private = _MAKERS[algorithm]()
        if isinstance(private, rsa.RSAPrivateKey):
            self._borrowed.append(private)
        # A recycled key gets a new name, so a token of an earlier test names no key of this one.
        key = SigningKey(kid or f"key-{secrets.token_hex(4)}", algorithm, private)
        self._signing[algorithm] = key
        self._published.append(key)
