"""The ``status`` claim: where the issuer publishes whether a token still holds.

Token Status List, draft-ietf-oauth-status-list section 6. The claim is a reference, an index
into a list at a URI. The token that holds it is signed, and yet a URI in it is one that somebody
else makes us fetch: so only what lies below a configured prefix is a reference at all. Other
mechanisms are not known here, and what cannot be looked at is refused.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from bearer_middleware.errors import InvalidToken, Reason

_MAX_URI = 2_048
_MAX_INDEX = 1 << 53
# No user name, backslash or fragment, and nothing in the path that a server might decode into a
# dot, a slash, a backslash, a percent sign or a control character.
_URL = re.compile(
    r"(https?)://"
    r"([A-Za-z0-9_-]+(?:\.[A-Za-z0-9_-]+)*\.?|\[[0-9A-Fa-f:.]+\])"
    r"(?::([0-9]{1,5}))?"
    r"((?:/(?:[A-Za-z0-9._~!$&'()*+,;=:@-]|%(?!2[5EFef]|5[Cc]|7[Ff]|[01])[0-9A-Fa-f]{2})*)*)"
    r"(?:\?[A-Za-z0-9._~!$&'()*+,;=:@%/?-]*)?"
)
_PORTS = {"http": 80, "https": 443}
_UNCLEAR = frozenset({"", ".", ".."})


class Place(NamedTuple):
    """What a URL names: the server, and the segments of the path there."""

    scheme: str
    host: str
    port: int
    path: tuple[str, ...]

    @property
    def origin(self) -> tuple[str, str, int]:
        """The server: RFC 6454 section 4."""
        return self.scheme, self.host, self.port

    def covers(self, other: Place) -> bool:
        """Is ``other`` this place, or below it?"""
        return self.origin == other.origin and other.path[: len(self.path)] == self.path


def place_of(url: str) -> Place | None:
    """The place of a URL, or ``None`` where it is not plain which one that is."""
    match = _URL.fullmatch(url) if len(url) <= _MAX_URI else None
    if match is None:
        return None
    scheme, host, digits, path = match.groups()
    port = _PORTS[scheme] if digits is None else int(digits)
    segments = path.removesuffix("/").split("/")[1:]
    if not 0 < port < 65_536 or not _UNCLEAR.isdisjoint(segments):
        return None
    return Place(scheme, host.lower(), port, tuple(segments))


class Reference(NamedTuple):
    """Where the status of a token stands."""

    uri: str
    idx: int
    #: The server that has the list.
    origin: tuple[str, str, int]


@dataclass(frozen=True, slots=True, eq=False)
class StatusRule:
    """What is made of ``status``: lists below these places are looked at, all else is refused."""

    places: tuple[Place, ...] = ()
    #: Nobody looks at the claim, whatever it says.
    ignored: bool = False

    def concerns(self, claims: Mapping[str, Any]) -> bool:
        """Has the status of a token with these claims, which are good, to be looked up?"""
        return claims.get("status") is not None and not self.ignored

    def reference(self, status: object) -> Reference | None:
        """What the claim refers to; ``None`` where that is ignored. Raises ``InvalidToken``."""
        if self.ignored:
            return None
        if not self.places:
            raise _refused("BEARER_STATUS_LISTS says of no list that it may be fetched")
        if not isinstance(status, dict) or status.keys() != {"status_list"}:
            raise _refused("status has not one status_list, and nothing else")
        entry = status["status_list"]
        index, uri = (entry.get("idx"), entry.get("uri")) if isinstance(entry, dict) else (0, 0)
        if type(index) is not int or not 0 <= index <= _MAX_INDEX or not isinstance(uri, str):
            raise _refused("status_list has not idx, a whole number, and uri")
        place = place_of(uri)
        if place is None or not any(allowed.covers(place) for allowed in self.places):
            raise _refused("the uri of status_list is not below BEARER_STATUS_LISTS")
        return Reference(uri, index, place.origin)


REFUSE_STATUS = StatusRule()


def status_rule(prefixes: tuple[str, ...] | None) -> StatusRule:
    """The rule of a setting: ``None`` refuses every status, and none at all ignores it."""
    if prefixes is None:
        return REFUSE_STATUS
    places = (place_of(prefix) for prefix in prefixes)
    return StatusRule(tuple(place for place in places if place is not None), not prefixes)


def require_same(status: object, other: object) -> None:
    """What an answer says beside a JWT must not be another status. Raises ``InvalidToken``."""
    if status is not None and status != other:
        raise _refused("the answer refers to another status")


def _refused(detail: str) -> InvalidToken:
    return InvalidToken(Reason.UNSUPPORTED_STATUS, detail)
