"""One application, written for every world: it says who is calling; ``/write`` needs a scope."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import partial
from typing import Annotated, Any

import django
import fastapi
import flask
import starlette.applications
from django.conf import settings as django_settings
from django.core.asgi import get_asgi_application
from django.core.wsgi import get_wsgi_application
from django.http import HttpRequest, JsonResponse
from django.urls import re_path
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

from bearer_middleware import BearerMiddleware, Identity, ResourceServer, WSGIBearerMiddleware
from bearer_middleware.web import django as for_django
from bearer_middleware.web import fastapi as for_fastapi
from bearer_middleware.web import flask as for_flask
from bearer_middleware.web import starlette as for_starlette
from bearer_middleware.web.asgi import refuse
from bearer_middleware.web.guards import Guard
from bearer_middleware.web.parts import IDENTITY
from tests.contract.wire import Reply, call, exchange

METHODS = ["GET", "HEAD", "POST", "OPTIONS"]
Ask = Callable[..., Reply]
_write = Guard("write")


def _about(identity: Identity | None) -> dict[str, Any]:
    if identity is None:
        return {"subject": None}
    return {
        "subject": identity.subject,
        "kind": identity.kind,
        "scopes": sorted(identity.scopes),
        "is_client": identity.is_client,
    }


# ASGI and WSGI without a framework.


async def _plain_asgi(scope: Any, receive: Any, send: Any) -> None:
    answer = _write.refusal(scope) if scope["path"] == "/write" else None
    if answer is not None:
        await refuse(answer, scope, receive, send)
        return
    await JSONResponse(_about(scope[IDENTITY]))(scope, receive, send)


def _plain_wsgi(environ: Any, start_response: Any) -> list[bytes]:
    answer = _write.refusal(environ) if environ["PATH_INFO"] == "/write" else None
    if answer is not None:
        start_response(f"{answer.status} {answer.reason}", [*answer.headers])
        return [] if environ["REQUEST_METHOD"] == "HEAD" else [answer.body]
    body = json.dumps(_about(environ[IDENTITY])).encode()
    start_response("200 OK", [("Content-Type", "application/json")])
    return [] if environ["REQUEST_METHOD"] == "HEAD" else [body]


def _asgi(server: ResourceServer, backend: str) -> Ask:
    return partial(exchange, BearerMiddleware(_plain_asgi, server=server), backend=backend)


def _wsgi(server: ResourceServer) -> Ask:
    return partial(call, WSGIBearerMiddleware(_plain_wsgi, server=server))


# Starlette and FastAPI, with the middleware among theirs or around all.


def _in_starlette(request: Request) -> JSONResponse:
    return JSONResponse(_about(for_starlette.current_identity(request)))


def _starlette(server: ResourceServer, backend: str = "asyncio", *, around: bool = False) -> Ask:
    guarded = for_starlette.requires_scopes("write")(_in_starlette)
    routes = [Route("/write", guarded), Route("/{path:path}", _in_starlette, methods=METHODS)]
    app = starlette.applications.Starlette(routes=routes)
    return partial(exchange, _with_middleware(app, server, around=around), backend=backend)


def _fastapi(server: ResourceServer, *, around: bool = False) -> Ask:
    app = fastapi.FastAPI()
    writer = Annotated[Identity, fastapi.Security(for_fastapi.current_identity, scopes=["write"])]
    anybody = Annotated[Identity | None, fastapi.Security(for_fastapi.optional_identity)]

    async def write(identity: writer) -> Any:  # type: ignore[valid-type]
        return _about(identity)

    async def whoami(identity: anybody) -> Any:  # type: ignore[valid-type]
        return _about(identity)

    # The annotations are local names, which FastAPI would look for in the module.
    write.__annotations__, whoami.__annotations__ = {"identity": writer}, {"identity": anybody}
    app.api_route("/write", methods=["GET", "HEAD"])(write)
    app.api_route("/{path:path}", methods=METHODS)(whoami)
    return partial(exchange, _with_middleware(app, server, around=around))


def _with_middleware(app: Any, server: ResourceServer, *, around: bool) -> Any:
    if around:
        return BearerMiddleware(app, server=server)
    app.add_middleware(BearerMiddleware, server=server)
    return app


# Django, both ways.


def _in_django(request: HttpRequest) -> JsonResponse:
    return JsonResponse(_about(for_django.current_identity(request)))


@for_django.requires_scopes("write")
async def _write_in_django(request: HttpRequest) -> JsonResponse:
    return _in_django(request)


def set_django_up(*patterns: Any) -> None:
    """Django has one configuration for a process; only who has no routes of his own is first."""
    if not django_settings.configured:
        django_settings.configure(ALLOWED_HOSTS=["*"], ROOT_URLCONF=(), LOGGING_CONFIG=None)
        django.setup()
    django_settings.ROOT_URLCONF = patterns


_patterns = [re_path("^write$", _write_in_django), re_path("", _in_django)]


def _django_asgi(server: ResourceServer) -> Ask:
    set_django_up(*_patterns)
    return partial(exchange, BearerMiddleware(get_asgi_application(), server=server))


def _django_wsgi(server: ResourceServer) -> Ask:
    set_django_up(*_patterns)
    return partial(call, WSGIBearerMiddleware(get_wsgi_application(), server=server))


# Flask.


def _flask(server: ResourceServer) -> Ask:
    app = flask.Flask("contract")

    @app.route("/", methods=METHODS)
    @app.route("/<path:path>", methods=METHODS)
    def whoami(path: str = "") -> dict[str, Any]:
        return _about(for_flask.current_identity())

    @app.route("/write")
    @for_flask.requires_scopes("write")
    async def write() -> dict[str, Any]:
        return _about(for_flask.current_identity())

    app.wsgi_app = WSGIBearerMiddleware(app.wsgi_app, server=server)
    return partial(call, app)


WORLDS: dict[str, Callable[[ResourceServer], Ask]] = {
    "asgi-asyncio": partial(_asgi, backend="asyncio"),
    "asgi-trio": partial(_asgi, backend="trio"),
    "wsgi": _wsgi,
    "starlette": _starlette,
    "starlette-trio": partial(_starlette, backend="trio"),
    "starlette-wrapped": partial(_starlette, around=True),
    "fastapi": _fastapi,
    "fastapi-wrapped": partial(_fastapi, around=True),
    "django-asgi": _django_asgi,
    "django-wsgi": _django_wsgi,
    "flask": _flask,
}
