"""A status list: many small numbers, packed (draft-ietf-oauth-status-list sections 4 and 5).

Pure: from the claims of a Status List Token whose signature is good to the status of an index.
A few kilobytes may unpack to gigabytes, so no more is unpacked than a list may have.
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from bearer_middleware.tokens.text import decode_base64url

#: Of a list as it is fetched, and of what it unpacks to: 134 million tokens of one bit.
MAX_LIST_BYTES = 4 * 1024 * 1024
MAX_UNPACKED_BYTES = 16 * 1024 * 1024
#: For how many seconds a list serves, whatever its ``ttl`` is, and where it has none.
LEAST_TTL, USUAL_TTL, MOST_TTL = 5.0, 300.0, 3_600.0

VALID, INVALID, SUSPENDED = 0, 1, 2
_BITS = (1, 2, 4, 8)
_LATEST = 1e12


@dataclass(frozen=True, slots=True, repr=False, eq=False)
class StatusList:
    """The statuses of many tokens, as the issuer said at one moment."""

    bits: int
    statuses: bytes
    #: Seconds since the epoch; ``expires`` is infinite where nothing is said.
    issued: float
    expires: float
    #: For how many seconds it may serve before it is fetched anew.
    ttl: float

    def status(self, index: int) -> int | None:
        """The status of ``index``, or ``None`` where the list is shorter (section 8.3)."""
        byte, shift = divmod(index * self.bits, 8)
        if byte >= len(self.statuses):
            return None
        return self.statuses[byte] >> shift & ((1 << self.bits) - 1)


def read_status_list(claims: Mapping[str, Any], now: float, leeway: float) -> StatusList:
    """The list in the claims of its token (section 5.1), if it is in date at ``now``. Raises
    ``ValueError``, in words of ours.
    """
    issued, expires = _time(claims, "iat"), _time(claims, "exp", math.inf)
    if now < issued - leeway:
        raise ValueError("iat is in the future")
    if now >= expires + leeway:
        raise ValueError("exp is in the past")
    ttl = _time(claims, "ttl", USUAL_TTL)
    if ttl <= 0:
        raise ValueError("ttl is not positive")
    packed = claims.get("status_list")
    if not isinstance(packed, dict):
        raise ValueError("no status_list")
    bits, text = packed.get("bits"), packed.get("lst")
    if type(bits) is not int or bits not in _BITS or not isinstance(text, str):
        raise ValueError("bits or lst is not as it should be")
    clamped = min(max(ttl, LEAST_TTL), MOST_TTL)
    return StatusList(bits, _unpacked(text), issued, expires + leeway, clamped)


def _unpacked(text: str) -> bytes:
    stream = zlib.decompressobj()
    try:
        data = decode_base64url(text.encode("ascii"))
        unpacked = stream.decompress(data, MAX_UNPACKED_BYTES + 1)
    except (ValueError, zlib.error):
        raise ValueError("lst is not base64url of zlib") from None
    if len(unpacked) > MAX_UNPACKED_BYTES:
        raise ValueError("lst unpacks to too much")
    if not stream.eof or stream.unused_data:
        raise ValueError("lst is not one whole zlib stream")
    return unpacked


def _time(claims: Mapping[str, Any], name: str, default: float | None = None) -> float:
    value = claims.get(name, default)
    if type(value) in (int, float) and (value == default or -_LATEST < value < _LATEST):
        return float(value)
    raise ValueError(f"no {name}, or not a time")
