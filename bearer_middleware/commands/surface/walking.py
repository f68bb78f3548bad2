"""Through the layers of an application to its routes.

No framework is imported here: one that the application does not use has none of its objects in it.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from functools import partial
from typing import Any

from bearer_middleware.commands.surface import asgi_routes, django_routes, flask_routes
from bearer_middleware.commands.surface.asgi_routes import Deeper
from bearer_middleware.commands.surface.spots import Spot, Way
from bearer_middleware.web.asgi import BearerMiddleware
from bearer_middleware.web.wsgi import WSGIBearerMiddleware

OURS = (BearerMiddleware, WSGIBearerMiddleware)
#: Where layers of all kinds keep what they are around.
_INNER = ("app", "wsgi_app", "asgi_app", "application", "_app", "__wrapped__")


def spots(app: Any) -> list[Spot]:
    """All that requests can reach. Raises ``ConfigError`` where a middleware cannot be built."""
    return [*_walk(app, Way(), frozenset())]


def _walk(app: Any, way: Way, seen: frozenset[int]) -> Iterator[Spot]:
    if id(app) in seen:
        return
    deeper = partial(_walk, seen=seen | {id(app)})
    for module, name, known in _KNOWN:
        if _is(app, module, name):
            yield from known(app, way, deeper)
            return
    yield from _layer(app, way, deeper)


def _ours(app: Any, way: Way, deeper: Deeper) -> Iterator[Spot]:
    return deeper(app.app, way.inside(app.server))


def _starlette(app: Any, way: Way, deeper: Deeper) -> Iterator[Spot]:
    return deeper(app.router, _inside_layers(app.user_middleware, way))


def _flask(app: Any, way: Way, deeper: Deeper) -> Iterator[Spot]:
    return deeper(app.wsgi_app, way)


def _files(app: Any, way: Way, deeper: Deeper) -> Iterator[Spot]:
    yield way.opaque("static files")


def _django(app: Any, way: Way, deeper: Deeper) -> Iterator[Spot]:
    return django_routes.spots(way)


def _dispatcher(app: Any, way: Way, deeper: Deeper) -> Iterator[Spot]:
    for path, mounted in app.mounts.items():
        yield from deeper(mounted, way.below(path))
    yield from deeper(app.app, way)


def _router(router: Any, way: Way, deeper: Deeper) -> Iterator[Spot]:
    stack = getattr(router, "middleware_stack", None)
    for _ in range(100):  # a router may have layers of its own
        if isinstance(stack, OURS):
            way = way.inside(stack.server)
        if getattr(stack, "__self__", None) is router:
            break
        stack = getattr(stack, "app", None)
    yield from asgi_routes.spots(router, way, deeper)
    last = getattr(router, "default", None)  # for what no route is for
    if last is not None and getattr(last, "__self__", None) is not router:
        yield from deeper(last, way)


def _layer(app: Any, way: Way, deeper: Deeper) -> Iterator[Spot]:
    """What is around something else, or nothing that we know."""
    owner = getattr(app, "__self__", None)
    if _is(owner, "flask", "Flask"):
        yield from flask_routes.spots(owner, way)
        return
    found = [owner, *(getattr(app, name, None) for name in _INNER)]
    inner = next((one for one in found if callable(one) and not isinstance(one, type)), None)
    if inner is None:
        name = getattr(app, "__name__", type(app).__name__)
        yield way.opaque(f"unknown application {name}")
    else:
        yield from deeper(inner, way)


def _inside_layers(layers: Any, way: Way) -> Way:
    """What ``add_middleware`` was given is built only when the application starts."""
    for layer in layers:
        made: Any = layer.cls
        args, kwargs = getattr(layer, "args", ()), dict(layer.kwargs)
        if isinstance(made, partial):
            made, args, kwargs = made.func, (*made.args, *args), {**made.keywords, **kwargs}
        if isinstance(made, type) and issubclass(made, OURS):
            way = way.inside(made(_nothing, *args, **kwargs).server)
    return way


def _nothing(*_: Any) -> Any:
    raise AssertionError


def _is(thing: Any, module: str, name: str) -> bool:
    """Is it one of a class that may not be there?"""
    kind = getattr(sys.modules.get(module), name, None)
    return isinstance(kind, type) and isinstance(thing, kind)


_KNOWN = (
    ("bearer_middleware.web.asgi", "BearerMiddleware", _ours),
    ("bearer_middleware.web.wsgi", "WSGIBearerMiddleware", _ours),
    ("starlette.applications", "Starlette", _starlette),
    ("starlette.routing", "Router", _router),
    ("starlette.staticfiles", "StaticFiles", _files),
    ("flask", "Flask", _flask),
    ("django.core.handlers.base", "BaseHandler", _django),
    ("werkzeug.middleware.dispatcher", "DispatcherMiddleware", _dispatcher),
)
