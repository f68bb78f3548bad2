"""The table of routes, compiled: which row speaks for a request.

A path is compared as the framework routes it: decoded, below the mount point, segment by
segment and to its end. What could be read in two ways is no route of ours, so it is denied.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from bearer_middleware.policy.model import NOTHING
from bearer_middleware.settings.routes import Route

#: Longer ones are no id of anybody's: they match nothing.
LONGEST_PARAMETER = 256
LONGEST_PATH = 2048
_LONGEST_METHOD = 32
#: Segments that are neither empty nor dots, without backslash, control character or lone
#: surrogate; a slash at the end belongs to the path.
_CLEAR = re.compile(
    r"/|(?:/(?!\.{1,2}(?:/|\Z))[^/\\\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]+)+/?"
)


@dataclass(frozen=True, slots=True)
class Match:
    """The row that speaks for a request, and what its path says for each parameter: data."""

    route: Route
    parameters: Mapping[str, str] = field(default_factory=lambda: NOTHING, repr=False)


class RouteTable:
    """Finds the first row, in the table's order, that matches method and path. The cost does
    not grow with the number of rows that begin differently.
    """

    __slots__ = ("_root", "has_public")

    def __init__(self, routes: Sequence[Route]) -> None:
        self._root = _Node()
        self.has_public = any(route.public for route in routes)
        for place, route in enumerate(routes):
            self._root.plant(_Row(place, route))

    def match(self, method: str, path: str) -> Match | None:
        """``None``: no row speaks for it."""
        if not is_clear(method, path):
            return None
        segments = path[1:].split("/")
        row = self._root.first(segments, 0, method, None)
        return None if row is None else row.match(segments)

    def is_public(self, method: str, path: str) -> bool:
        """Does the table say that this request needs no token?"""
        match = self.match(method, path) if self.has_public else None
        return match is not None and match.route.public


def is_clear(method: str, path: str) -> bool:
    """Can this request be read in one way only? Frameworks write methods in capitals before
    they look at them, so one in small letters might be another to them than to us.
    """
    return (
        len(path) <= LONGEST_PATH
        and _CLEAR.fullmatch(path) is not None
        and len(method) <= _LONGEST_METHOD
        and method.isascii()
        and method == method.upper()
    )


class _Row:
    """A route, and where in a path its parameters are."""

    __slots__ = ("_fixed", "names", "place", "rest", "route", "segments")

    def __init__(self, place: int, route: Route) -> None:
        self.place, self.route = place, route
        #: ``None`` for a parameter.
        self.segments: list[str | None] = []
        self.names: list[tuple[int, str]] = []
        #: The name of all that is below, empty where it has none; ``None``: it ends here.
        self.rest: str | None = None
        for index, segment in enumerate(route.path[1:].split("/")):
            if segment == "*":
                self.rest = ""
            elif segment.endswith(":path}"):
                self.rest = segment[1:-6]
            elif segment.startswith("{"):
                self.segments.append(None)
                self.names.append((index, segment[1:-1]))
            else:
                self.segments.append(segment)
        self._fixed = Match(route) if not self.names and not self.rest else None

    def takes(self, method: str) -> bool:
        own = self.route.method
        return own in (method, "*") or (method == "HEAD" and own == "GET")

    def match(self, segments: list[str]) -> Match | None:
        """``None`` where a value is too long to be one."""
        if self._fixed is not None:
            return self._fixed
        parameters = {name: segments[index] for index, name in self.names}
        if any(len(value) > LONGEST_PARAMETER for value in parameters.values()):
            return None
        if self.rest:
            parameters[self.rest] = "/".join(segments[len(self.segments) :])
        return Match(self.route, parameters)


class _Node:
    """A place in the tree of all templates; its depth is the number of segments before it."""

    __slots__ = ("_any", "_ends", "_literal", "_rests")

    def __init__(self) -> None:
        self._literal: dict[str, _Node] = {}
        self._any: _Node | None = None
        #: In the order of the table.
        self._ends: list[_Row] = []
        self._rests: list[_Row] = []

    def plant(self, row: _Row) -> None:
        """Add a row, at the end of the path that it describes."""
        node = self
        for segment in row.segments:
            if segment is not None:
                node = node._literal.setdefault(segment, _Node())
            else:
                node._any = node._any or _Node()
                node = node._any
        (node._ends if row.rest is None else node._rests).append(row)

    def first(self, segments: list[str], depth: int, method: str, best: _Row | None) -> _Row | None:
        """The first of this place and all below that match, if it comes before ``best``."""
        if depth == len(segments):
            return _earliest(self._ends, method, best)
        if self._rests and segments[-1]:
            best = _earliest(self._rests, method, best)
        elif len(segments) == 1:  # / is below itself, and has nothing for a name
            best = _earliest([row for row in self._rests if not row.rest], method, best)
        segment = segments[depth]
        below = self._literal.get(segment)
        if below is not None:
            best = below.first(segments, depth + 1, method, best)
        if self._any is not None and segment:
            best = self._any.first(segments, depth + 1, method, best)
        return best


def _earliest(rows: list[_Row], method: str, best: _Row | None) -> _Row | None:
    for row in rows:
        if best is not None and row.place > best.place:
            return best
        if row.takes(method):
            return row
    return best
