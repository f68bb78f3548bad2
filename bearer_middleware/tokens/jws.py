"""The strict front of a JWT: what it is, and what its header says (RFC 7515, RFC 8725).

Nothing here is trusted: until the signature is verified, header and payload are *hints*
that may choose an issuer and a key, and may get a token refused, never accepted.
"""

from __future__ import annotations

import binascii
from typing import Any, NamedTuple

from bearer_middleware.errors import InvalidToken, Reason
from bearer_middleware.tokens.text import decode_base64url, parse_object

_JWT_DOTS = (2, 4)
_MAX_KID = 256
_USUAL_TYPES = {"JWT": "jwt", "at+jwt": "at+jwt"}
_UNSUPPORTED = frozenset({"crit", "b64", "zip", "cty"})


class Header(NamedTuple):
    """The members of a JOSE header that matter here. ``typ`` is in lower case."""

    alg: str
    kid: str | None
    typ: str | None


class Jws(NamedTuple):
    """A JWT cut into its parts, nothing verified."""

    header: Header
    #: Empty where the header was known already.
    header_segment: bytes
    signing_input: bytes
    payload: bytes
    hints: dict[str, Any]
    signature_segment: bytes

    def __repr__(self) -> str:
        return "<Jws>"

    @property
    def signature(self) -> bytes:
        """Decoded when it is needed: most of what is refused is refused without.

        Raises ``InvalidToken``.
        """
        try:
            return decode_base64url(self.signature_segment)
        except ValueError:
            pass
        raise _malformed()


_new = tuple.__new__  # a third of what calling a NamedTuple costs


def read_header(token: bytes) -> Header | None:
    """The header of a JWT, or ``None`` for an opaque token: dots alone decide nothing.

    What is meant as a JWT but badly spelled is refused as one, and does not reach the
    authorization server as an opaque token. Raises ``InvalidToken``, also for an encrypted
    token (JWE, RFC 7516).
    """
    first = token.find(b".")
    second = token.find(b".", first + 1)
    dots = 2 if second == token.rfind(b".") else token.count(b".")
    if second < 0 or dots not in _JWT_DOTS:
        return None
    segment = token[:first]
    try:
        members = parse_object(decode_base64url(segment))
        if dots == 2 and "enc" not in members:
            return _read_header(members) if type(members.get("alg")) is str else None
    except ValueError:
        pass  # a stranger's spelling, or no JWT at all
    _refuse_odd_jwt(segment, dots)
    return None


def _refuse_odd_jwt(segment: bytes, dots: int) -> None:
    """Whatever its spelling: an object with ``alg`` before two dots is meant as a JWT."""
    try:
        text = binascii.a2b_base64(segment.translate(_URL_SAFE) + b"==")
    except ValueError:
        return
    # UTF-16, UTF-32 and byte order marks are no JSON, but some read them.
    text = text.replace(b"\0", b"").lstrip(b"\xef\xbb\xbf\xff\xfe \t\r\n")
    if text[:1] != b"{":
        return
    if b'"enc"' in text:
        raise InvalidToken(Reason.ENCRYPTED_TOKEN, "a JWE, and no key to decrypt it")
    if dots == 2 and b'"alg"' in text:
        raise _malformed()


def is_jwt(token: bytes) -> bool:
    """Does it say itself what it is? What is encrypted, or no JWT of ours, does not."""
    try:
        return read_header(token) is not None
    except InvalidToken:
        return False


def parse_jws(token: bytes, header: Header) -> Jws:
    """Cut a JWT with this header into its parts. Raises ``InvalidToken``."""
    try:
        head, body, signature = token.split(b".")
        payload = decode_base64url(body)
        signed = token[: -len(signature) - 1]
        return Jws(header, head, signed, payload, parse_object(payload), signature)
    except ValueError:
        pass
    raise _malformed()


def _malformed() -> InvalidToken:
    detail = "not a canonical base64url JWT of JSON objects"
    return InvalidToken(Reason.MALFORMED_TOKEN, detail)


def _read_header(members: dict[str, Any]) -> Header:
    """Raises ``ValueError`` for a bad shape, ``InvalidToken`` for what RFC 8725 forbids.

    ``jwk``, ``jku``, ``x5u`` and ``x5c`` are ignored: keys come from the issuer only.
    """
    alg, kid, typ = members["alg"], members.get("kid"), members.get("typ")
    if (type(kid) is not str or len(kid) > _MAX_KID) and "kid" in members:
        raise ValueError("kid is not a short string")
    if not _UNSUPPORTED.isdisjoint(members):
        _refuse_unsupported(members)
    if type(typ) is str:
        typ = _USUAL_TYPES.get(typ) or _media_type(typ)
    elif "typ" in members:
        raise InvalidToken(Reason.WRONG_TYPE, "typ is not a string")
    return _new(Header, (alg, kid, typ))


def _refuse_unsupported(members: dict[str, Any]) -> None:
    for name in ("crit", "b64", "zip"):
        if name in members:
            raise InvalidToken(Reason.UNSUPPORTED_HEADER, f"{name} in the header")
    cty = members.get("cty")
    if not isinstance(cty, str) or _media_type(cty) == "jwt":
        raise InvalidToken(Reason.UNSUPPORTED_HEADER, "a JWT nested in a JWT")


def _media_type(name: str) -> str:
    """Lower case, without the ``application/`` that a name without ``/`` implies (RFC 8725)."""
    return name.lower().removeprefix("application/")


_URL_SAFE = bytes.maketrans(b"-_", b"+/")
