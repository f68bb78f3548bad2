"""What protects a route, as far as the settings and the decorators say."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from bearer_middleware.commands.surface.spots import Around, Spot
from bearer_middleware.commands.surface.templates import Match, concerns, is_covered, match
from bearer_middleware.settings.routes import Route
from bearer_middleware.web.endpoints import endpoints_for
from bearer_middleware.web.exemptions import below, parts_of
from bearer_middleware.web.guards import Mark

#: ``public`` and ``optional`` are open because a setting says so, ``open`` because nothing does.
State = Literal["protected", "denied", "public", "optional", "open", "broken"]
#: What many layers make of it together: the strictest counts.
_STRICTEST: tuple[State, ...] = ("denied", "protected", "optional", "public", "open")
ANY = "*"
_NOBODY = "no BearerMiddleware is around, so everybody gets a 503"
_NO_POLICY = "no policy is configured, so everybody gets a 503"


@dataclass(frozen=True, slots=True)
class Verdict:
    """``why`` are words for people."""

    state: State
    why: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Row:
    """A route, or those of its methods that are protected in the same way."""

    spot: Spot
    methods: tuple[str, ...]
    verdict: Verdict


def rows(spots: list[Spot]) -> list[Row]:
    """All routes, and what the middlewares around them answer themselves."""
    found = [row for spot in spots for row in _rows_of(spot)]
    layers = dict.fromkeys(layer for spot in spots for layer in spot.around)
    return [*(row for layer in layers for row in _own(layer)), *found]


def unused(spots: list[Spot]) -> list[str]:
    """The rows of ``[[routes]]`` that are for no route: a slip, perhaps."""
    found: dict[str, None] = {}
    for layer in dict.fromkeys(layer for spot in spots for layer in spot.around):
        paths = {_seen(layer, spot) for spot in spots if layer in spot.around}
        for row in layer.server.settings.routes or ():
            if all(match(row.path, path) is Match.NONE for path in paths):
                found[f"{row.method} {row.path}"] = None
    return [*found]


def _own(layer: Around) -> Iterator[Row]:
    for path, endpoint in endpoints_for(layer.server).items():
        methods = tuple(name for name in endpoint.methods if name != "HEAD")
        spot = Spot(path=layer.root + path, methods=methods)
        yield Row(spot, methods, Verdict("public", ("answered by the middleware itself",)))


def _rows_of(spot: Spot) -> Iterator[Row]:
    grouped: dict[Verdict, list[str]] = {}
    for method in spot.methods or _named_methods(spot):
        grouped.setdefault(_verdict(spot, method), []).append(method)
    for verdict, methods in grouped.items():
        yield Row(spot, tuple(methods), verdict)


def _named_methods(spot: Spot) -> list[str]:
    """Where the route takes any method: those that a rule is made for, and all the others."""
    if spot.kind == "websocket":
        return ["GET"]
    named: set[str] = set()
    for layer in spot.around:
        settings, path = layer.server.settings, _seen(layer, spot)
        rules = (rule for rule in settings.exempt if " " in rule and concerns(rule, path))
        named |= {rule.partition(" ")[0] for rule in rules}
        table = settings.routes or ()
        named |= {row.method for row in table if match(row.path, path) is Match.ALL}
    return [*sorted(named - {ANY}), ANY]


def _seen(layer: Around, spot: Spot) -> str:
    """The path as that middleware sees it."""
    return below(layer.root, spot.path)


def _verdict(spot: Spot, method: str) -> Verdict:
    layers = [_of_layer(layer, method, _seen(layer, spot)) for layer in spot.around]
    found = {one.state for one in layers}
    states: list[State] = [one for one in _STRICTEST if one in found]
    state: State = states[0] if states else "open"
    asked = [mark for mark in spot.marks if not mark.optional]
    why = [word for one in layers if one.state == state for word in one.why]
    why += [_told(mark) for mark in spot.marks]
    if asked and state != "denied":
        foreign = any(mark.by for mark in asked)
        if not layers and not foreign:
            return Verdict("broken", (*why, _NOBODY))
        if any(mark.action for mark in asked) and not _decide(spot):
            return Verdict("broken", (*why, _NO_POLICY))
        if state == "public" and not foreign:
            why.append("everybody is refused, as no token is looked at here")
        state = "protected"
    return Verdict(state, tuple(dict.fromkeys(why)))


def _decide(spot: Spot) -> bool:
    """Is there anybody to ask for a decorator?"""
    return any(layer.server.authorizer is not None for layer in spot.around)


def _told(mark: Mark) -> str:
    if mark.optional:
        return f"{mark.by}, not looked into" if mark.by else "identity, if there is one"
    what = [f"scopes {' '.join(mark.scopes)}"] if mark.scopes else []
    if mark.action is not None:
        what.append(f"{mark.action} {mark.resource or ''}".rstrip())
    return f"{mark.by or 'requires'} {', '.join(what) or 'a token'}"


# -- one middleware --------------------------------------------------------------------------


def _of_layer(layer: Around, method: str, path: str) -> Verdict:
    settings = layer.server.settings
    if path in endpoints_for(layer.server):
        return Verdict("public", ("answered by the middleware itself",))
    for rule in settings.exempt:
        if is_covered(rule, method, path):
            return Verdict("public", (f"BEARER_EXEMPT {rule}",))
    exceptions = tuple(
        f"but BEARER_EXEMPT {rule}"
        for rule in settings.exempt
        if concerns(rule, path) and _is_of(parts_of(rule)[0], method)
    )
    verdict = _of_table(layer, method, path)
    return Verdict(verdict.state, (*verdict.why, *exceptions))


def _of_table(layer: Around, method: str, path: str) -> Verdict:
    settings = layer.server.settings
    # Where somebody decides, it is about somebody: nobody is anonymous there.
    is_optional = settings.optional and layer.server.authorizer is None
    state: State = "optional" if is_optional else "protected"
    why = ["token, if there is one (BEARER_OPTIONAL)" if is_optional else "token"]
    if settings.required_scopes:
        why.append(f"scopes {' '.join(settings.required_scopes)}")
    if settings.routes is None:
        return Verdict(state, (*why, *_policy(layer)))
    exceptions: list[str] = []
    for row in settings.routes:
        fits = match(row.path, path) if _is_of(row.method, method) else Match.NONE
        if fits is Match.SOME:
            asked = ", ".join(_asked(row, layer)) or "token"
            exceptions.append(f"but {row.method} {row.path}: {asked}")
        elif fits is Match.ALL and row.public:
            return Verdict("public", (f"public: [[routes]] {row.path}", *exceptions))
        elif fits is Match.ALL:
            return Verdict(state, (*why, *_asked(row, layer), *exceptions))
    return Verdict("denied", ("no [[routes]] matches", *exceptions))


def _is_of(wanted: str, method: str) -> bool:
    return wanted in (ANY, method) or (wanted == "GET" and method == "HEAD")


def _asked(row: Route, layer: Around) -> Iterator[str]:
    """What one row of the table asks of a caller with a good token."""
    if row.public:
        yield "public"
    if row.scopes:
        yield f"scopes {' '.join(row.scopes)}"
    if row.acr:
        yield f"acr {' or '.join(row.acr)}"
    if row.max_age is not None:
        yield f"authenticated within {row.max_age} s"
    if row.action is not None and row.resource is not None:
        yield f"{row.action} {row.resource.type}:{row.resource.id}"
    if row.policy and not row.public:
        yield from _policy(layer)


def _policy(layer: Around) -> Iterator[str]:
    """Who decides, if anybody does."""
    authorizer = layer.server.authorizer
    if authorizer is not None and authorizer.point is not None:
        yield f"policy {authorizer.point.name}"
