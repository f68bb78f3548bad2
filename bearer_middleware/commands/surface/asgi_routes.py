"""The routes of Starlette and FastAPI."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import chain
from typing import Any

from bearer_middleware.commands.surface.spots import (
    Spot,
    Way,
    marks_of,
    spots_of_view,
    starlette_template,
    unwrapped,
)
from bearer_middleware.web.asgi import BearerMiddleware
from bearer_middleware.web.dependants import everywhere, scopes_of
from bearer_middleware.web.guards import Mark

#: FastAPI keeps apart what is looked at last.
_LAST, _LAST_OF_INCLUDED = "_low_priority_routes", "effective_low_priority_routes"
Deeper = Callable[[Any, Way], Iterator[Spot]]


def spots(router: Any, way: Way, deeper: Deeper) -> Iterator[Spot]:
    """All of a router, in its order, which is that of matching."""
    for route in (*router.routes, *getattr(router, _LAST, ())):
        yield from _of_route(route, way, deeper)


def _of_route(route: Any, way: Way, deeper: Deeper) -> Iterator[Spot]:
    if hasattr(route, "effective_route_contexts"):
        yield from _of_included(route, way, deeper)
        return
    host, path = getattr(route, "host", None), getattr(route, "path", None)
    if isinstance(host, str) and hasattr(route, "app"):
        yield from deeper(route.app, Way(way.prefix, way.around, f"host {host}"))
    elif hasattr(getattr(route, "original_route", route), "add_frontend_route"):
        yield from _of_frontends(route, way)
    elif not isinstance(path, str):
        yield way.opaque(f"unknown route {type(route).__name__}")
    elif hasattr(route, "endpoint"):
        yield from _of_endpoint(route, starlette_template(path), way)
    elif hasattr(route, "app"):  # a Mount
        yield from deeper(route.app, way.below(starlette_template(path)))
    else:
        yield way.below(path).opaque(f"unknown route {type(route).__name__}")


def _of_included(router: Any, way: Way, deeper: Deeper) -> Iterator[Spot]:
    """What FastAPI's ``include_router`` makes of the routes of another router."""
    found: tuple[Any, Any] = (
        router.effective_route_contexts(),
        getattr(router, _LAST_OF_INCLUDED, list)(),
    )
    for context in chain(*found):
        yield from _of_route(getattr(context, "starlette_route", None) or context, way, deeper)


def _of_endpoint(route: Any, path: str, way: Way) -> Iterator[Spot]:
    way, endpoint = _inside_own_layers(route, way), route.endpoint
    methods = tuple(sorted(getattr(route, "methods", None) or ()))
    if "GET" in methods:
        methods = tuple(name for name in methods if name != "HEAD")
    dependant = getattr(route, "dependant", None)
    marks = (*_of_requires(endpoint), *_of_dependencies(dependant))
    kind = type(getattr(route, "original_route", route)).__name__
    if "WebSocket" in kind:
        handler = getattr(endpoint, "on_connect", None) if isinstance(endpoint, type) else None
        found = marks_of(endpoint if handler is None else handler)
        yield way.spot(path, kind="websocket", marks=(*found, *marks))
    elif not methods and not isinstance(endpoint, type) and not _is_function(endpoint):
        yield way.spot(path, what="unknown application", marks=(*marks_of(endpoint), *marks))
    else:
        for spot in spots_of_view(way, path, endpoint, methods):
            yield way.spot(path, methods=spot.methods, marks=(*spot.marks, *marks))


def _of_frontends(route: Any, way: Way) -> Iterator[Spot]:
    """FastAPI's ``frontend``: files that are looked for where no route is."""
    way = way.below(getattr(route, "frontend_prefix", ""))
    marks = (*_of_dependencies(getattr(route, "dependant", None)),)
    for files in getattr(route, "original_route", route).routes:
        here = way.below(str(getattr(files, "path", "")))
        yield replace(here.opaque("static files"), marks=marks)


def _inside_own_layers(route: Any, way: Way) -> Way:
    """A route may have middlewares of its own."""
    layer = getattr(route, "app", None)
    for _ in range(100):
        if isinstance(layer, BearerMiddleware):
            way = way.inside(layer.server)
        layer = getattr(layer, "app", None)
        if layer is None:
            return way
    return way


def _is_function(endpoint: Any) -> bool:
    return any(hasattr(one, "__code__") for one in unwrapped(endpoint))


def _of_requires(endpoint: Any) -> Iterator[Mark]:
    """Starlette's own ``@requires`` leaves nothing but itself."""
    for function in unwrapped(endpoint):
        home = getattr(function, "__globals__", {}).get("__name__")
        if home != "starlette.authentication" or not function.__closure__:
            continue
        cells = zip(function.__code__.co_freevars, function.__closure__, strict=True)
        for name, cell in cells:
            if name == "scopes_list":
                scopes = tuple(scope for scope in cell.cell_contents if scope != "authenticated")
                yield Mark(scopes=scopes, by="Starlette's requires")


def _of_dependencies(dependant: Any) -> Iterator[Mark]:
    """What FastAPI asks before it calls the endpoint, at whatever level that was said."""
    for dependency in everywhere(getattr(dependant, "dependencies", ())):
        scopes, marks = scopes_of(dependency), marks_of(dependency.call)
        if not marks and hasattr(dependency.call, "scheme_name"):  # of FastAPI's own kind
            yield Mark(optional=True, by=type(dependency.call).__name__)
        for mark in marks:
            yield mark._replace(scopes=tuple(dict.fromkeys((*mark.scopes, *scopes))))
