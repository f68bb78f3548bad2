"""Which rules concern which requests, where of a request only the template of its path is known."""

from __future__ import annotations

import re
from enum import Enum, auto

from bearer_middleware.web.exemptions import Exemptions, parts_of

_PARAMETER = re.compile(r"\{[^{}]*\}")
_REST = re.compile(r"\{[^{}:]*:path\}$|\*$")
#: What no rule names.
_ANYTHING = "0-anything-0"


class Match(Enum):
    """Of the requests that one template means, how many does another mean?"""

    NONE = auto()
    SOME = auto()
    ALL = auto()


def is_covered(rule: str, method: str, path: str) -> bool:
    """Does a rule of ``BEARER_EXEMPT`` cover all requests of this template? The method ``*`` is
    any.
    """
    return Exemptions([rule]).cover(method, _PARAMETER.sub(_ANYTHING, path))


def concerns(rule: str, path: str) -> bool:
    """Does it cover some of them?"""
    return match(parts_of(rule)[1], path) is not Match.NONE


def match(rule: str, path: str) -> Match:
    """Segment by segment; a parameter of the rule has one segment, ``*`` and ``:path`` the rest."""
    wanted, there = rule.split("/")[1:], path.split("/")[1:]
    if wanted == ["*"] and there == [""]:  # / is below itself, as the table has it
        return Match.ALL
    found = Match.ALL
    for place, segment in enumerate(there):
        if place >= len(wanted):
            return Match.SOME if _REST.search(segment) and place == len(there) - 1 else Match.NONE
        if _REST.search(wanted[place]):  # of at least one segment
            return found if segment else Match.NONE
        if _REST.search(segment):
            return Match.SOME
        one = _segment(wanted[place], segment)
        if one is Match.NONE:
            return one
        found = found if one is Match.ALL else one
    return found if len(wanted) == len(there) else Match.NONE


def _segment(wanted: str, there: str) -> Match:
    if wanted == there or (_PARAMETER.fullmatch(wanted) and there):
        return Match.ALL
    return Match.SOME if _PARAMETER.search(there) else Match.NONE
