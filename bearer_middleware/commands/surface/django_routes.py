"""The routes of Django, over ASGI and WSGI."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from bearer_middleware.commands.surface.spots import Spot, Way, angular_template, spots_of_view

_GROUP = re.compile(r"\(\?P<([^<>]+)>(?:[^()\\]|\\.)*\)")
_ENDS = re.compile(r"^\^|(?:\$|\\[zZ])$")
_SPECIAL = re.compile(r"[\\^$*+?()\[\]|]|\.(?!\w)")


def spots(way: Way) -> Iterator[Spot]:
    """All of ``ROOT_URLCONF``; there is one in a process."""
    resolver = sys.modules["django.urls"].get_resolver()
    yield from _below(resolver, way, "/")


def _below(resolver: Any, way: Way, prefix: str) -> Iterator[Spot]:
    for pattern in resolver.url_patterns:
        path = _joined(prefix, pattern.pattern)
        if hasattr(pattern, "url_patterns"):
            yield from _below(pattern, way, path)
        else:
            view = pattern.callback
            is_vague = _is_regular(pattern.pattern) and path.endswith(_REST)
            for spot in spots_of_view(way, path, view, _methods(view)):
                yield replace(spot, what=f"pattern {pattern.pattern}") if is_vague else spot


_REST = "{rest:path}"


def _joined(prefix: str, pattern: Any) -> str:
    """A template; a regular expression that is none may match anything below."""
    if prefix.endswith(_REST):
        return prefix
    if not _is_regular(pattern):
        return prefix + angular_template(str(pattern))
    plain = _ENDS.sub("", _GROUP.sub(r"{\1}", _ENDS.sub("", str(pattern))))
    return prefix + (_REST if _SPECIAL.search(plain) else plain)


def _is_regular(pattern: Any) -> bool:
    return hasattr(pattern, "_regex") and not hasattr(pattern, "_route")


def _methods(view: Any) -> tuple[str, ...]:
    """Of a class those it has, where OPTIONS is its own and not Django's; a function takes any."""
    kind = getattr(view, "view_class", None)
    names = getattr(kind, "http_method_names", ()) if kind is not None else ()
    usual = sys.modules["django.views"].View.options if kind is not None else None
    own = (name for name in names if getattr(kind, name, usual) is not usual)
    return tuple(name.upper() for name in own)
