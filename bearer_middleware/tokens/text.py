"""Strict base64url and strict JSON, the two spellings tokens are made of.

Each accepts one spelling of a value and no other: RFC 7515 section 2 has no padding, no
line breaks and no other characters; unused bits must be zero (RFC 4648 section 3.5), or
one token would have many spellings. JSON is UTF-8 without duplicate member names
(RFC 7515 section 4, RFC 7519 section 4) and without ``NaN``.

With the ``speed`` extra, orjson and pybase64 do the same work faster. Their verdicts are
the same by construction: what orjson read is believed only if writing it down again gives
the very same text, so no duplicate name and no odd spelling can have been swallowed;
everything else goes the strict way.
"""

from __future__ import annotations

import json
import re
from binascii import a2b_base64
from collections.abc import Callable
from typing import Any

orjson: Any
pybase64: Any
try:
    import orjson
    import pybase64
except ImportError:
    orjson = pybase64 = None
else:  # an attribute of a module would be looked up anew each time
    _loads, _dumps, _b64decode = orjson.loads, orjson.dumps, pybase64.b64decode

#: How deep JSON of others may be nested.
MAX_DEPTH = 32
# Half of this many brackets fit into a text, and a parser has room for all of them.
_TOO_SHORT_TO_HURT = 512

_ALPHABET = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
# base64url to base64; everything that base64url does not have becomes "!", which the
# decoder refuses.
_TO_BASE64 = bytes(
    ord("!") if byte not in _ALPHABET else {ord("-"): ord("+"), ord("_"): ord("/")}.get(byte, byte)
    for byte in range(256)
)
# The last character of a segment carries 2 or 4 unused bits; canonical ones are zero. No
# segment is one character longer than whole groups of four.
_CANONICAL_ENDS = (b"", b"", frozenset(_ALPHABET[::16]), frozenset(_ALPHABET[::4]))
_PADDING = (b"", b"", b"==", b"=")
_PLUS, _SLASH, _EQUALS = b"+/="


def is_base64url(segment: bytes) -> bool:
    """Nothing in it but characters of base64url?"""
    return not segment.translate(None, _ALPHABET)


def _decode_with_binascii(segment: bytes) -> bytes:
    remainder = len(segment) & 3
    if remainder and segment[-1] not in _CANONICAL_ENDS[remainder]:
        raise ValueError("of impossible length, or unused bits are set")
    return a2b_base64(segment.translate(_TO_BASE64) + _PADDING[remainder], strict_mode=True)


def _decode_with_pybase64(segment: bytes) -> bytes:
    remainder = len(segment) & 3
    if remainder and segment[-1] not in _CANONICAL_ENDS[remainder]:
        raise ValueError("of impossible length, or unused bits are set")
    # It takes both alphabets at once, and padding of its own. A number is looked for ten times
    # as fast as a byte string.
    if _PLUS in segment or _SLASH in segment or _EQUALS in segment:
        raise ValueError("not base64url")
    decoded: bytes = _b64decode(segment + _PADDING[remainder], b"-_", True)
    return decoded


def _parse_with_json(data: bytes) -> dict[str, Any]:
    if len(data) > _TOO_SHORT_TO_HURT and not _depth_is_bounded(data):
        raise ValueError("nested too deep")
    text = data.decode().strip(" \t\r\n")  # one way in: UTF-8, and a BOM is no JSON
    try:
        value, end = _scan(text, 0)
        if "\\u" in text:  # an escape may spell half a character, which no log or header can take
            json.dumps(value, ensure_ascii=False).encode()
    except (StopIteration, RecursionError):
        raise ValueError("not JSON") from None
    if end != len(text):
        raise ValueError("text after the JSON value")
    if type(value) is not dict:
        raise ValueError("not a JSON object")
    return value


def _parse_with_orjson(data: bytes) -> dict[str, Any]:
    if len(data) > _TOO_SHORT_TO_HURT and not _depth_is_bounded(data):
        raise ValueError("nested too deep")
    try:
        value = _loads(data)
        if type(value) is dict and _dumps(value) == data:
            return value
    except (ValueError, TypeError, RecursionError):
        pass  # the strict way says what is wrong, if anything is
    return _parse_with_json(data)


def _unique(members: list[tuple[str, Any]]) -> dict[str, Any]:
    value = dict(members)
    if len(value) != len(members):
        raise ValueError("a name stands twice")
    return value


def _no_constant(name: str) -> Any:
    raise ValueError(f"{name} is no JSON")


# Takes an unfinished string for one as well: else every quote in it would be tried as a start.
_STRING = re.compile(rb'"(?:[^"\\]|\\.?)*+"?', re.DOTALL)
_BRACKET = re.compile(rb"[\[\]{}]")


def _depth_is_bounded(data: bytes) -> bool:
    """Known before parsing, so that nobody can exhaust the stack."""
    if data.count(b"[") + data.count(b"{") <= MAX_DEPTH:
        return True
    depth = 0
    for bracket in _BRACKET.findall(_STRING.sub(b"", data)):
        depth += 1 if bracket in b"[{" else -1
        if depth > MAX_DEPTH:
            return False
    return True


_scan: Callable[[str, int], tuple[Any, int]] = json.JSONDecoder(
    object_pairs_hook=_unique, parse_constant=_no_constant
).scan_once  # type: ignore[attr-defined]
#: Parse one strict JSON object. Raises ``ValueError``.
parse_object: Callable[[bytes], dict[str, Any]] = (
    _parse_with_json if orjson is None else _parse_with_orjson
)
#: Decode one canonical base64url segment. Raises ``ValueError``.
decode_base64url: Callable[[bytes], bytes] = (
    _decode_with_binascii if pybase64 is None else _decode_with_pybase64
)
