"""Rows of a table of routes that no request can ever reach, since one before them takes it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from bearer_middleware.settings.routes import Route


@dataclass(frozen=True, slots=True)
class Covered:
    """The row at ``place`` and the one ``by`` which it is covered, counted from 1."""

    place: int
    by: int


def covered_rows(routes: Sequence[Route]) -> Iterator[Covered]:
    """Every row of which an earlier one takes all that it describes. Several that do so only
    together are not found.
    """
    # What begins with another word covers nothing: there may be thousands.
    before: dict[str | None, list[tuple[int, _Shape]]] = {}
    for place, route in enumerate(routes, 1):
        shape = _Shape(route)
        earlier = [*before.get(shape.begins, ()), *before.get(None, ())]
        by = min((number for number, other in earlier if other.covers(shape)), default=None)
        if by is not None:
            yield Covered(place, by)
        before.setdefault(shape.begins, []).append((place, shape))


class _Shape:
    """What a row describes: ``None`` stands for a parameter."""

    __slots__ = ("begins", "is_open", "method", "segments", "takes_root")

    def __init__(self, route: Route) -> None:
        self.method = route.method
        written = route.path[1:].split("/")
        self.is_open = written[-1] == "*" or written[-1].endswith(":path}")
        self.takes_root = route.path == "/*"
        if self.is_open:
            written.pop()
        self.segments = [None if each.startswith("{") else each for each in written]
        self.begins = self.segments[0] if self.segments else None

    def covers(self, other: _Shape) -> bool:
        """Does this row take whatever ``other`` would?"""
        if self.method not in ("*", other.method) and (self.method, other.method) != _HEAD_AS_GET:
            return False
        mine, theirs = self.segments, other.segments
        if len(mine) > len(theirs) or not all(map(_takes, mine, theirs)):
            return False
        if not self.is_open:
            return not other.is_open and len(mine) == len(theirs)
        # What is below is something, and does not end with a slash; but / is below itself, where
        # no name needs something to stand for.
        if other.is_open:
            return self.takes_root or not other.takes_root
        return len(theirs) > len(mine) and (
            theirs[-1] != "" or (self.takes_root and len(theirs) == 1)
        )


_HEAD_AS_GET = ("GET", "HEAD")


def _takes(mine: str | None, theirs: str | None) -> bool:
    """A parameter takes every segment that is one; a word itself alone."""
    return theirs != "" if mine is None else mine == theirs
