"""The strict front of a JWT: what it is, and what its header says (RFC 7515, RFC 8725).

Nothing here is trusted: until the signature is verified, header and payload are *hints*
that may choose an issuer and a key, and may get a token refused, never accepted.
"""

from __future__ import annotations

import binascii
import json
from dataclasses import dataclass
from typing import Any, NamedTuple

from bearer_middleware.errors import InvalidToken, Reason
from bearer_middleware.tokens.text import decode_base64url, parse_object

_MAX_KID = 256


@dataclass(frozen=True, slots=True)
class Header:
    """The members of a JOSE header that matter here. ``typ`` is in lower case."""

    alg: str
    kid: str | None
    typ: str | None


class Jws(NamedTuple):
    """A JWT cut into its parts, nothing verified."""

    header: Header
    header_segment: bytes
    signing_input: bytes
    payload: bytes
    hints: dict[str, Any]
    signature: bytes

    def __repr__(self) -> str:
        return "<Jws>"


class HeaderMemory:
    """Headers of tokens whose signature was good: few, and the same again and again."""

    __slots__ = ("_headers",)
    _MOST = 64

    def __init__(self) -> None:
        self._headers: dict[bytes, Header] = {}

    def get(self, segment: bytes) -> Header | None:
        return self._headers.get(segment)

    def remember(self, segment: bytes, header: Header) -> None:
        if segment not in self._headers:
            if len(self._headers) >= self._MOST:
                self._headers = {}
            self._headers[segment] = header


def looks_like_jwt(token: bytes) -> bool:
    """Is this a JWT, or something that passes itself off as one? Dots alone decide nothing.

    Deliberately laxer than :func:`parse_jws`: what is meant as a JWT but badly spelled must
    be refused as one, and not reach the authorization server as an opaque token.
    Raises ``InvalidToken`` for an encrypted token (JWE, RFC 7516).
    """
    dots = token.count(b".")
    if dots not in (2, 4):
        return False
    header = _lax_header(token[: token.index(b".")])
    if header is None:
        return False
    if "enc" in header:
        raise InvalidToken(Reason.ENCRYPTED_TOKEN, "a JWE, and no key to decrypt it")
    return dots == 2 and isinstance(header.get("alg"), str)


def parse_jws(token: bytes, memory: HeaderMemory) -> Jws | None:
    """Cut a JWT into its parts; ``None`` for an opaque token. Raises ``InvalidToken``."""
    head, _, rest = token.partition(b".")
    header = memory.get(head)
    if header is None and not looks_like_jwt(token):
        return None
    try:
        if header is None:
            header = _read_header(parse_object(decode_base64url(head)))
        body, signature = rest.split(b".")
        payload = decode_base64url(body)
        signed = token[: len(head) + 1 + len(body)]
        hints = parse_object(payload)
        return Jws(header, head, signed, payload, hints, decode_base64url(signature))
    except ValueError:
        pass
    raise InvalidToken(Reason.MALFORMED_TOKEN, "not a canonical base64url JWT of JSON objects")


def _read_header(members: dict[str, Any]) -> Header:
    """Raises ``ValueError`` for a bad shape, ``InvalidToken`` for what RFC 8725 forbids.

    ``jwk``, ``jku``, ``x5u`` and ``x5c`` are ignored: keys come from the issuer only.
    """
    alg, kid, typ, cty = (members.get(name) for name in ("alg", "kid", "typ", "cty"))
    if not isinstance(alg, str):
        raise ValueError("alg is not a string")
    if "kid" in members and not (isinstance(kid, str) and len(kid) <= _MAX_KID):
        raise ValueError("kid is not a short string")
    for name in ("crit", "b64", "zip"):
        if name in members:
            raise InvalidToken(Reason.UNSUPPORTED_HEADER, f"{name} in the header")
    if "cty" in members and (not isinstance(cty, str) or _media_type(cty) == "jwt"):
        raise InvalidToken(Reason.UNSUPPORTED_HEADER, "a JWT nested in a JWT")
    if "typ" in members and not isinstance(typ, str):
        raise InvalidToken(Reason.WRONG_TYPE, "typ is not a string")
    return Header(alg, kid, None if typ is None else _media_type(typ))


def _media_type(name: str) -> str:
    """Lower case, without the ``application/`` that a name without ``/`` implies (RFC 8725)."""
    return name.lower().removeprefix("application/")


def _lax_header(segment: bytes) -> dict[str, Any] | None:
    try:
        text = binascii.a2b_base64(segment.translate(_URL_SAFE) + b"==")
        header = json.loads(text) if text.lstrip()[:1] == b"{" and len(text) < _MAX_HEADER else None
    except (ValueError, RecursionError):
        return None
    return header if isinstance(header, dict) else None


_URL_SAFE = bytes.maketrans(b"-_", b"+/")
_MAX_HEADER = 65_536
