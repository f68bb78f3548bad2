"""Signed metadata of a decision point: a JWT whose claims count for more than what stands beside
it (AuthZEN, Authorization API 1.0, section 9.1.3).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from bearer_middleware.errors import ConfigError, InvalidToken, TransportError
from bearer_middleware.settings import files
from bearer_middleware.settings.grammar import SIGNATURE_ALGORITHMS
from bearer_middleware.settings.parsing import Unreadable
from bearer_middleware.tokens.jws import Jws, parse_jws, read_header
from bearer_middleware.tokens.keys import KeySet, read_jwks


class Signed:
    """Believes what was signed by one of the keys in ``file``, a JSON Web Key Set, and nothing
    else. ``now`` are seconds since the epoch. Raises ``ConfigError``.
    """

    def __init__(self, file: str, now: Callable[[], float]) -> None:
        self._keys, self._now = _keys_in(file), now

    def claims(self, document: Mapping[str, Any]) -> Mapping[str, Any]:
        """The metadata that was signed. Raises ``TransportError`` where it was not, or not by whom
        we trust, or too long ago.
        """
        jws = _parsed(document.get("signed_metadata"))
        key = self._keys.find(jws.header.kid, jws.header.alg)
        if key is None or not key.verifies(jws.signing_input, jws.signature):
            raise TransportError("unverified")
        claims, now = jws.hints, self._now()
        expires, begins = claims.get("exp", now + 1), claims.get("nbf", now)
        if not _is_time(expires) or not _is_time(begins) or not begins <= now < expires:
            raise TransportError("expired")
        if not isinstance(claims.get("iss"), str):
            raise TransportError("unverified")
        return claims


def _parsed(told: object) -> Jws:
    try:
        token = told.encode("ascii") if isinstance(told, str) else b""
        header = read_header(token)
        if header is not None:
            jws = parse_jws(token, header)
            if jws.signature:
                return jws
    except (InvalidToken, ValueError):
        pass
    raise TransportError("unverified")


def _is_time(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _keys_in(file: str) -> KeySet:
    name = "BEARER_POLICY_OPTIONS: signed_metadata"
    try:
        keys = read_jwks(
            files.contents(files.key_set(file), files.KEY_SET_LIMIT), SIGNATURE_ALGORITHMS
        )
    except (Unreadable, ValueError) as failure:
        raise ConfigError(f"{name} {failure}") from None
    if not keys.keys:
        raise ConfigError(f"{name} names a file without a usable key")
    return keys
