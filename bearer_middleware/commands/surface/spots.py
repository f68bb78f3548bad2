"""What a request can reach, in words of no framework."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

from bearer_middleware.resource_server import ResourceServer
from bearer_middleware.web.guards import GUARD, Mark

Kind = Literal["http", "websocket", "everything below"]

_WRITTEN = re.compile(r"<(?:(?P<converter>[^<>:]+):)?(?P<name>[^<>:]+)>")
_STARLETTE = re.compile(r"\{(?P<name>[^{}:]+)(?::(?P<converter>[^{}]+))?\}")


@dataclass(frozen=True, slots=True)
class Around:
    """A middleware of ours, and the mount point below which it sees paths."""

    server: ResourceServer
    root: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Spot:
    """One route. Its path is a template, ``/todos/{id}`` or ``/files/{rest:path}``."""

    path: str
    #: None at all: any method.
    methods: tuple[str, ...] = ()
    kind: Kind = "http"
    #: From the outside in.
    around: tuple[Around, ...] = ()
    marks: tuple[Mark, ...] = ()
    #: What it is, where it is no plain route.
    what: str = ""


@dataclass(frozen=True, slots=True)
class Way:
    """How far the walk through an application has come."""

    prefix: str = ""
    around: tuple[Around, ...] = ()
    host: str = ""

    def below(self, path: str) -> Way:
        return Way(self.prefix + path.rstrip("/"), self.around, self.host)

    def inside(self, server: ResourceServer) -> Way:
        return Way(self.prefix, (*self.around, Around(server, self.prefix)), self.host)

    def spot(self, path: str, **members: Any) -> Spot:
        what = ", ".join(word for word in (members.pop("what", ""), self.host) if word)
        return Spot(path=self.prefix + path, around=self.around, what=what, **members)

    def opaque(self, what: str) -> Spot:
        return self.spot("/{rest:path}", kind="everything below", what=what)


def starlette_template(path: str) -> str:
    """``/{id:int}`` as ``/{id}``; only ``path`` matters, as it has slashes in it."""
    return _STARLETTE.sub(_parameter, path)


def angular_template(path: str) -> str:
    """``/<int:id>``, as Flask and Django write it."""
    return _WRITTEN.sub(_parameter, path)


def _parameter(match: re.Match[str]) -> str:
    rest = ":path" if (match["converter"] or "").partition("(")[0] == "path" else ""
    return f"{{{match['name']}{rest}}}"


def marks_of(view: Any) -> tuple[Mark, ...]:
    """What decorators left at a view, however it was wrapped since."""
    for wrapped in unwrapped(view):
        marks = getattr(wrapped, GUARD, None)
        if isinstance(marks, tuple):
            return tuple(mark for mark in marks if isinstance(mark, Mark))
    return ()


def unwrapped(view: Any) -> Iterator[Any]:
    """A function, and those inside of it that ``functools`` knows of."""
    for _ in range(100):
        yield view
        inner = getattr(view, "func", None) or getattr(view, "__wrapped__", None)
        if inner is None:
            return
        view = inner


def spots_of_view(way: Way, path: str, view: Any, methods: tuple[str, ...]) -> Iterator[Spot]:
    """A function is one spot; of a class each method is one, which may be decorated by itself."""
    kind, marks = getattr(view, "view_class", view), marks_of(view)
    if not isinstance(kind, type):
        yield way.spot(path, methods=methods, marks=marks)
        return
    names = methods or tuple(name for name in _METHODS if hasattr(kind, name.lower()))
    if not names:
        yield way.spot(path, marks=marks, what=f"unknown application {kind.__name__}")
    if "GET" in names and "HEAD" not in names and hasattr(kind, "head"):
        names = (*names, "HEAD")  # else its `get` answers that, decorated as it is
    for name in names:
        own = marks_of(getattr(kind, name.lower(), None))
        yield way.spot(path, methods=(name,), marks=(*marks, *own))


_METHODS = ("GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE")
