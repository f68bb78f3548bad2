"""The Authorization header: exactly one, ``Bearer 1*SP b64token`` (RFC 6750 section 2.1)."""

from __future__ import annotations

import re
from collections.abc import Sequence

from bearer_middleware.errors import InvalidRequest, MissingToken, Reason

_CREDENTIALS = re.compile(rb"[Bb][Ee][Aa][Rr][Ee][Rr] +([A-Za-z0-9\-._~+/]+=*)")
_TOKEN68 = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~+/"
# WSGI servers join two header lines with a comma (RFC 9110 section 5.3), so a second
# scheme behind a comma is a second Authorization header.
_JOINED = re.compile(rb",[ \t]*bearer(?:[ \t,]|$)", re.IGNORECASE)
# The scheme in any case; ``Bearerish`` is another one, ``Bearer`` alone is not.
_IS_BEARER = re.compile(rb"bearer(?![\w!#$%&'*+.^`|~-])", re.IGNORECASE)
_PREFIX = len(b"Bearer ")


def bearer_token(values: Sequence[bytes], max_length: int) -> bytes:
    """The token of a request whose Authorization headers are ``values``.

    Raises ``MissingToken`` when there is none or another scheme is used, ``InvalidRequest``
    when the header is not what RFC 6750 allows or longer than ``max_length`` bytes.
    """
    if len(values) > 1:
        raise InvalidRequest(Reason.MULTIPLE_CREDENTIALS, "more than one Authorization header")
    if not values or not values[0]:
        raise MissingToken
    value = values[0]
    if value.startswith(b"Bearer "):
        if len(value) > _PREFIX + max_length:
            raise too_long()
        # Deleting what a token may hold and looking at the rest is cheaper than any regex.
        if value.translate(None, _TOKEN68) == b" " and len(value) > _PREFIX:
            return value[_PREFIX:]
    return _unusual_token(value, max_length)


def _unusual_token(value: bytes, max_length: int) -> bytes:
    """The token where it stands behind several spaces or ends in ``=``; or what is wrong."""
    if _IS_BEARER.match(value) is None:
        if _JOINED.search(value):
            raise InvalidRequest(Reason.MULTIPLE_CREDENTIALS, "two schemes in one header")
        raise MissingToken(Reason.MISSING, "another scheme")
    if len(value) - _PREFIX > max_length:
        raise too_long()
    credentials = _CREDENTIALS.fullmatch(value)
    if credentials is not None:
        return credentials[1]
    if b"," in value:
        raise InvalidRequest(Reason.MULTIPLE_CREDENTIALS, "a comma is no part of a token")
    raise InvalidRequest(Reason.MALFORMED_HEADER, "not 'Bearer' and one token")


def too_long() -> InvalidRequest:
    """The refusal of what is longer than any token may be."""
    return InvalidRequest(Reason.TOO_LONG, "longer than BEARER_MAX_TOKEN_LENGTH")
