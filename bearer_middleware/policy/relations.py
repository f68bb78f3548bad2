"""Relations between things (ReBAC): who is related to a resource, directly or through others.

A relation is written ``todo:1#owner@user:alice``: alice is the owner of todo 1. In place of a
user may stand a set, ``team:eng#member``, all that are so related to it, or ``user:*``, every
user. What else makes a relation is told for each type: ``viewer = ["owner", "viewer of parent"]``
says that owners are viewers, and so are the viewers of what the resource has for a parent.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable

Entity = tuple[str, str]
#: Type and id of a thing, and a relation to it.
_Place = tuple[str, str, str]

_WRITTEN = re.compile(
    r"(?P<type>[^\s:#@]+):(?P<id>[^#]+)#(?P<relation>[^\s:#@]+)@"
    r"(?P<who>[^\s:#@]+):(?P<which>[^#]+)(?:#(?P<set>[^\s:#@]+))?"
)
_NAME = re.compile(r"[^\s:#@]+")
_THROUGH = re.compile(r"([^\s:#@]+) of ([^\s:#@]+)")
#: So many places are looked at for one question.
_MOST_PLACES = 10_000


class TooManyPlaces(Exception):
    """The relations lead on and on."""


class Relations:
    """All relations of a policy. Raises ``ValueError`` for one that is not written like one."""

    def __init__(self) -> None:
        self._direct: defaultdict[_Place, set[Entity]] = defaultdict(set)
        self._sets: defaultdict[_Place, list[_Place]] = defaultdict(list)
        #: By type and relation: other relations to the same thing.
        self._also: dict[tuple[str, str], list[str]] = {}
        #: By type and relation: a relation to what the thing is related to.
        self._through: dict[tuple[str, str], list[tuple[str, str]]] = {}

    def add(self, written: object) -> None:
        """Add what ``written`` says."""
        match = _WRITTEN.fullmatch(written) if isinstance(written, str) else None
        if match is None:
            raise ValueError("must be a relation such as todo:1#owner@user:alice")
        place = (match["type"], match["id"], match["relation"])
        if match["set"]:
            self._sets[place].append((match["who"], match["which"], match["set"]))
        else:
            self._direct[place].add((match["who"], match["which"]))

    def derive(self, kind: str, relation: str, sources: Iterable[object]) -> None:
        """Say what else makes ``relation`` to things of type ``kind``."""
        also, through = [], []
        for source in sources:
            if isinstance(source, str) and _NAME.fullmatch(source):
                also.append(source)
            elif isinstance(source, str) and (match := _THROUGH.fullmatch(source)):
                through.append((match[1], match[2]))
            else:
                raise ValueError('must be relations such as "owner" or "viewer of parent"')
        self._also[kind, relation], self._through[kind, relation] = also, through

    def names(self) -> frozenset[str]:
        """All relations that there are."""
        written = {place[2] for place in (*self._direct, *self._sets)}
        return frozenset(written | {relation for _, relation in self._also})

    def holds(self, resource: Entity, relation: str, subject: Entity) -> bool:
        """Is ``subject`` so related to ``resource``? Raises ``TooManyPlaces``."""
        everybody = (subject[0], "*")
        seen: set[_Place] = set()
        ahead: list[_Place] = [(*resource, relation)]
        while ahead:
            place = ahead.pop()
            if place in seen:
                continue
            seen.add(place)
            if len(seen) > _MOST_PLACES:
                raise TooManyPlaces
            direct = self._direct.get(place)
            if direct is not None and (subject in direct or everybody in direct):
                return True
            ahead += self._sets.get(place, ())
            ahead += self._onward(place)
        return False

    def _onward(self, place: _Place) -> Iterable[_Place]:
        kind, identifier, relation = place
        for other in self._also.get((kind, relation), ()):
            yield kind, identifier, other
        for other, link in self._through.get((kind, relation), ()):
            for parent in self._direct.get((kind, identifier, link), ()):
                yield *parent, other
