"""JSON as it goes to a decision point: I-JSON (RFC 7493, AuthZEN section 11.5).

What a claim or a path may hold and I-JSON may not is either told in another way (a number that
few could read is a text) or refused: half a character, a NaN, an object of Python.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any

from bearer_middleware.policy.model import AccessRequest, information

_MOST = 2**53 - 1
_DEEPEST = 32
_ENCODE = json.JSONEncoder(allow_nan=False, check_circular=False).encode


class Unsendable(ValueError):
    """The question cannot be told in I-JSON."""


def encode(value: object) -> bytes:
    """The bytes of ``value``. Raises :class:`Unsendable`."""
    try:
        return _ENCODE(_plain(value, _DEEPEST)).encode()
    except (ValueError, TypeError):
        pass
    raise Unsendable("not I-JSON")


def in_list(texts: Iterable[bytes]) -> bytes:
    """What :func:`encode` makes of a list, from what it made of the items."""
    return b"[" + b", ".join(texts) + b"]"


def told(request: AccessRequest) -> dict[str, Any]:
    """The request in AuthZEN's information model. Raises :class:`Unsendable`."""
    try:
        return information(request)
    except (TypeError, ValueError, RecursionError):
        pass
    raise Unsendable("not I-JSON")


def _plain(value: Any, depth: int) -> Any:
    kind = type(value)
    if kind is str:
        return value if value.isascii() else value.encode() and value
    if value is None or kind is bool or kind is float:
        return value
    if kind is int:
        return value if -_MOST <= value <= _MOST else str(value)
    if depth == 0:
        raise Unsendable("nested too deep")
    if kind is dict or isinstance(value, Mapping):  # the class of a mapping is dear to ask for
        return {
            name if type(name) is str and name.isascii() else _name(name): _plain(item, depth - 1)
            for name, item in value.items()
        }
    if isinstance(value, list | tuple):
        return [_plain(item, depth - 1) for item in value]
    if isinstance(value, str | int | float):  # of an enum, say
        return _plain(json.loads(json.dumps(value)), depth)
    raise Unsendable("no JSON")


def _name(name: object) -> str:
    if not isinstance(name, str):
        raise Unsendable("a name that is no text")
    name.encode()  # refuses half a character
    return str(name)
