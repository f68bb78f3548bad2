"""``[[routes]]``: which requests are which action on which resource, and what else they need."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from bearer_middleware.settings import grammar, parsing
from bearer_middleware.settings.options import NO_OPTIONS, Options
from bearer_middleware.settings.parsing import (
    Unreadable,
    duration,
    is_list,
    is_table,
    listing,
    switch,
    text,
)

_MOST_ROUTES = 10_000
_METHOD = re.compile(r"[A-Z][A-Z0-9_-]{0,31}|\*")
_PARAMETER = re.compile(r"\{([A-Za-z_][A-Za-z0-9_]{0,63})(:path)?\}")
#: What may be filled in: a parameter of the path, or ``$token.claim`` and ``$path.parameter``.
_TYPE = re.compile(r"[^\s:{}]{1,256}")

#: What stands in no path, once it is decoded: such a row would speak for nothing.
_NEVER = re.compile(r"[{}*?#\\]|%[0-9A-Fa-f]{2}")

_HEADER = re.compile(r"[ \t]*\[\[[ \t]*[\"']?routes[\"']?[ \t]*\]\]")

OnError = Literal["deny", "allow"]


@dataclass(frozen=True, slots=True, kw_only=True)
class ResourceTemplate:
    """The resource of a route: ``id`` is the text of a template with ``{parameter}`` in it."""

    type: str
    id: str = "*"
    properties: Options = NO_OPTIONS


@dataclass(frozen=True, slots=True, kw_only=True)
class Route:
    """One row of the table. Without ``action`` and ``resource`` the decision point is asked in the
    shape of AuthZEN's API gateways: the method, and the template of the path.
    """

    #: ``*`` is any; ``GET`` covers ``HEAD``.
    method: str
    #: Segments, ``{parameter}``, and at the end ``{rest:path}`` or ``*`` for all that is below.
    #: With ``/`` at its end only for paths that end so.
    path: str
    action: str | None = None
    resource: ResourceTemplate | None = None
    scopes: tuple[str, ...] = ()
    #: Any of these will do, in order of preference.
    acr: tuple[str, ...] = ()
    #: Seconds since the user authenticated.
    max_age: int | None = None
    #: No token is needed, and none is looked at.
    public: bool = False
    #: Ask past every cache of decisions.
    fresh: bool = False
    #: ``False``: a good token is enough for the middleware, the handler asks for itself.
    policy: bool = True
    #: ``allow``: let requests through while nobody can decide. Logged and audited each time.
    on_error: OnError = "deny"
    #: 404 in place of 403; ``None`` is as the server's setting says.
    hide: bool | None = None


def routes(value: object) -> tuple[Route, ...]:
    """The table: a list of tables, or of ``Route``, or the text of such a list in JSON."""
    if isinstance(value, str):
        value = parsing.json_value(value)
    if not is_list(value) or len(value) > _MOST_ROUTES:
        raise Unreadable(f"must be a list of at most {_MOST_ROUTES} tables")
    read: list[Route] = []
    wrong: list[str] = []
    for number, row in enumerate(value, 1):
        try:
            read.append(_route(row))
        except Unreadable as error:
            where = f" (line {row.line})" if isinstance(row, Placed) else ""
            wrong.append(f"[[routes]] #{number}{where} {error}")
    if wrong:
        raise Unreadable("; ".join(wrong))
    return tuple(read)


class Placed(dict[str, object]):
    """A row of a file, which knows in which line of it it begins."""

    def __init__(self, row: Mapping[str, object], line: int) -> None:
        super().__init__(row)
        self.line = line


def placed(rows: object, written: str) -> object:
    """The rows as they were read of a TOML text, with their lines where each has its header."""
    if not is_list(rows) or not all(is_table(row) for row in rows):
        return rows
    lines = [number for number, line in enumerate(written.split("\n"), 1) if _HEADER.match(line)]
    if len(lines) != len(rows):  # they are written in another way
        return rows
    return [Placed(row, line) for row, line in zip(rows, lines, strict=True) if is_table(row)]


def parameters_of(template: str) -> frozenset[str]:
    """The names in braces."""
    return frozenset(name for name, _ in _PARAMETER.findall(template))


def _route(row: object) -> Route:
    if isinstance(row, Route):
        row = {name: getattr(row, name) for name in Route.__slots__}
    if not is_table(row):
        raise Unreadable("must be a table")
    unknown = sorted(str(name)[:64] for name in row.keys() - _MEMBERS.keys())
    if unknown:
        raise Unreadable(f"has an unknown member; the known ones are {', '.join(_MEMBERS)}")
    members: dict[str, Any] = {}
    for name, said in row.items():
        if said is not None:
            members[name] = _member(name, said)
    for name in ("method", "path"):
        if name not in members:
            raise Unreadable(f"needs a {name}")
    route = Route(**members)
    _validate(route)
    return route


def _member(name: str, value: object) -> Any:
    try:
        return _MEMBERS[name](value)
    except Unreadable as error:
        raise Unreadable(f"{name} {error}") from None


def _validate(route: Route) -> None:
    known = parameters_of(route.path)
    if route.resource is not None and parameters_of(route.resource.id) - known:
        raise Unreadable("resource names a parameter that is not in its path")
    if route.resource is not None:
        _validate_properties(route.resource.properties, known)
    if (route.action is None) != (route.resource is None):
        raise Unreadable("needs both action and resource, or neither")
    asked = route.action or route.scopes or route.acr or route.max_age is not None
    if route.public and asked:
        raise Unreadable("is public, so nothing is asked of anybody: leave out all the others")


def _validate_properties(properties: Mapping[str, object], known: frozenset[str]) -> None:
    for value in properties.values():
        if not isinstance(value, str) or not value.startswith("$"):
            continue
        kind, _, name = value.partition(".")
        if not name or kind not in ("$token", "$path"):
            raise Unreadable("resource properties with $ are $token.claim or $path.parameter")
        if kind == "$path" and name not in known:
            raise Unreadable("resource properties name a parameter that is not in its path")


def _method(value: object) -> str:
    written = text(value)
    if not _METHOD.fullmatch(written):
        raise Unreadable("must be a method in capital letters, or *")
    return written


def _path(value: object) -> str:
    written = text(value)
    segments = written[1:].split("/")
    names = [name for name, _ in _PARAMETER.findall(written)]
    if not written.startswith("/") or len(names) != len(set(names)):
        raise Unreadable("must begin with / and name each parameter once")
    for place, segment in enumerate(segments):
        last = place == len(segments) - 1
        if last and place and not segment and not _is_open(segments[place - 1]):
            continue  # only a path that ends so is meant
        if not _is_segment(segment, last=last) and written != "/":
            raise Unreadable(
                "must be segments such as /todos/{id}: none empty, . or .., a parameter alone in "
                "its segment, {rest:path} or * only at the end, no query, and characters as they "
                "are once decoded; with / at the end only where requests have it"
            )
    return written


def _is_open(segment: str) -> bool:
    return segment in ("", "*") or segment.endswith(":path}")


def _is_segment(segment: str, *, last: bool) -> bool:
    if segment == "*":
        return last
    match = _PARAMETER.fullmatch(segment)
    if match:
        return last or not match[2]
    return segment not in ("", ".", "..") and not _NEVER.search(segment)


def _resource(value: object) -> ResourceTemplate:
    if isinstance(value, ResourceTemplate):
        value = {"type": value.type, "id": value.id, "properties": value.properties}
    elif isinstance(value, str):
        named, colon, rest = text(value).partition(":")
        value = {"type": named, "id": rest if colon else "*"}
    if not is_table(value) or not value.keys() <= {"type", "id", "properties"}:
        raise Unreadable("must be type:id, or a table of type, id and properties")
    kind, template = value.get("type"), value.get("id", "*")
    if not isinstance(kind, str) or not _TYPE.fullmatch(kind):
        raise Unreadable("needs a type, without space, colon or brace")
    if not isinstance(template, str) or not template or _braces_are_odd(template):
        raise Unreadable("needs an id, such as {id}, 42 or *")
    return ResourceTemplate(
        type=kind, id=template, properties=parsing.table(value.get("properties", {}))
    )


def _braces_are_odd(template: str) -> bool:
    return bool(set(_PARAMETER.sub("", template)) & set("{}"))


def _whole_seconds(value: object) -> int:
    return int(duration(0)(value))


_MEMBERS: dict[str, Callable[[object], Any]] = {
    "method": _method,
    "path": _path,
    "action": grammar.printable,
    "resource": _resource,
    "scopes": listing(grammar.scope, r",\s"),
    "acr": listing(grammar.scope, r",\s"),
    "max_age": _whole_seconds,
    "public": switch,
    "fresh": switch,
    "policy": switch,
    "on_error": parsing.choice("deny", "allow"),
    "hide": switch,
}
