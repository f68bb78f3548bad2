"""MCP, ERR-5: one challenge names all scopes that a request needs, wherever they are asked for."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any

import django.http
import pytest
from django.core.handlers.asgi import ASGIHandler
from django.core.handlers.wsgi import WSGIHandler
from django.urls import path
from fastapi import APIRouter, Depends, FastAPI, Request, Security
from flask import Flask
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse
from starlette.routing import Route

from bearer_middleware import BearerMiddleware, Identity, WSGIBearerMiddleware
from bearer_middleware.web import django as for_django
from bearer_middleware.web import flask as for_flask
from bearer_middleware.web import starlette as for_starlette
from bearer_middleware.web.dependants import route_in
from bearer_middleware.web.fastapi import authorize, current_identity, optional_identity
from tests.contract.wire import ISSUER, Reply, bearer, call, exchange, server_of
from tests.contract.worlds import set_django_up

Ask = Callable[[str, dict[str, str]], Reply]


def needs(*scopes: str) -> Any:
    """A dependency of FastAPI's."""
    return Security(current_identity, scopes=list(scopes))


# -- FastAPI -----------------------------------------------------------------------------------


def nested(identity: Annotated[Identity, needs("nested")]) -> Identity:
    """A dependency with one of its own."""
    return identity


def fastapi_app() -> FastAPI:
    """Scopes at every level: application, router, its inclusion, route, parameter, decorator."""
    inner = APIRouter(prefix="/inner", dependencies=[needs("inner")])
    outer = APIRouter(prefix="/outer", dependencies=[needs("outer")])

    @inner.get("/all", dependencies=[needs("route")])
    def everything(identity: Annotated[Identity, Security(nested, scopes=["param"])]) -> str:
        return "in"

    @inner.get("/decorated")
    @for_starlette.requires_scopes("decorated")
    def decorated(request: Request) -> str:
        return "in"

    @inner.get("/perhaps")
    def perhaps(who: Annotated[Any, Security(optional_identity, scopes=["perhaps"])]) -> str:
        return "in"

    outer.include_router(inner, dependencies=[needs("included")])
    app = FastAPI(dependencies=[needs("app")])
    app.include_router(outer)

    @app.get("/policy", dependencies=[Depends(authorize("read", "todo:1")), needs("late")])
    def policy() -> str:
        return "in"

    return app


def scopes_in(reply: Reply) -> list[str]:
    """Those of the challenge, in any order, each once."""
    assert reply.challenge is not None
    named = reply.challenge.partition('scope="')[2].partition('"')[0].split()
    assert len(named) == len(set(named))
    return sorted(named)


ROUTES = {
    "/outer/inner/all": ["app", "included", "inner", "nested", "outer", "param", "route"],
    "/outer/inner/decorated": ["app", "decorated", "included", "inner", "outer"],
    "/outer/inner/perhaps": ["app", "included", "inner", "outer", "perhaps"],
}


@pytest.mark.parametrize("route", ROUTES)
@pytest.mark.parametrize("has", [[], ["app"], ["app", "outer", "included", "inner"]])
def test_fastapi(route: str, has: list[str]) -> None:
    """Whichever dependency refuses, it speaks for all of the route."""
    app = BearerMiddleware(fastapi_app(), server=server_of(required_scopes="profile"))
    token = bearer(ISSUER.jwt(scope=" ".join(["profile", *has])))
    reply = exchange(app, route, token)
    assert reply.status == 403
    assert scopes_in(reply) == sorted([*ROUTES[route], "profile"])


@pytest.mark.parametrize("route", ROUTES)
def test_fastapi_lets_through(route: str) -> None:
    """What was named is enough."""
    app = BearerMiddleware(fastapi_app(), server=server_of())
    assert exchange(app, route, bearer(ISSUER.jwt(scope=" ".join(ROUTES[route])))).status == 200


def test_fastapi_anonymous() -> None:
    """Who shows no token learns the same, without an error code."""
    app = BearerMiddleware(fastapi_app(), server=server_of(optional=True))
    reply = exchange(app, "/outer/inner/all")
    assert (reply.status, "error" in str(reply.challenge)) == (401, False)
    assert scopes_in(reply) == ROUTES["/outer/inner/all"]


def test_with_the_table_of_routes() -> None:
    """The row's scopes are needed, too."""
    rows = [{"method": "GET", "path": "/outer/inner/decorated", "scopes": ["row"]}]
    app = BearerMiddleware(fastapi_app(), server=server_of(routes=rows))
    reply = exchange(app, "/outer/inner/decorated", bearer(ISSUER.jwt(scope="row")))
    assert scopes_in(reply) == [*ROUTES["/outer/inner/decorated"], "row"]


def test_route_of_another_application() -> None:
    """What an application around left in the scope is not taken for ours."""

    class Effective:
        original_route = object()

    route = object()
    scope = {"route": route, "fastapi": {"effective_route_context": Effective()}}
    assert route_in(scope) is route
    assert route_in({"route": route, "fastapi": 7}) is route
    assert route_in({}) is None


# -- decorators, one above the other -----------------------------------------------------------


def _plain(request: Any) -> Any:
    return django.http.HttpResponse("in")


async def _async(request: Any) -> Any:
    return django.http.HttpResponse("in")


def django_view(view: Any) -> Any:
    """A view with two guards."""
    return for_django.requires_scopes("outer")(for_django.requires_scopes("inner", "more")(view))


urlpatterns = [path("plain", django_view(_plain)), path("async", django_view(_async))]


def django_of(kind: str) -> Ask:
    """A Django application with these URLs."""
    set_django_up(*urlpatterns)
    if kind == "asgi":
        asgi = BearerMiddleware(ASGIHandler(), server=server_of())
        return lambda route, headers: exchange(asgi, route, headers)
    wsgi = WSGIBearerMiddleware(WSGIHandler(), server=server_of())
    return lambda route, headers: call(wsgi, route, headers)


def flask_app() -> Any:
    """The same in Flask."""
    app = Flask(__name__)

    @app.get("/plain")
    @for_flask.requires_scopes("outer")
    @for_flask.requires_scopes("inner", "more")
    def plain() -> str:
        return "in"

    app.wsgi_app = WSGIBearerMiddleware(app.wsgi_app, server=server_of())  # type: ignore[method-assign]
    return app


def starlette_app() -> Any:
    """The same in Starlette, plain and async."""
    outer, inner = (
        for_starlette.requires_scopes("outer"),
        for_starlette.requires_scopes("inner", "more"),
    )

    @outer
    @inner
    def plain(request: Any) -> Any:
        return PlainTextResponse("in")

    @outer
    @inner
    async def asynchronous(request: Any) -> Any:
        return PlainTextResponse("in")

    app = Starlette(routes=[Route("/plain", plain), Route("/async", asynchronous)])
    return BearerMiddleware(app, server=server_of())


def _asks(ask: Ask, route: str) -> None:
    """Whichever guard refuses names what both need."""
    for has in ("", "outer", "inner more", "outer inner"):
        reply = ask(route, bearer(ISSUER.jwt(scope=has)))
        assert reply.status == 403
        assert scopes_in(reply) == ["inner", "more", "outer"]
    assert ask(route, bearer(ISSUER.jwt(scope="outer inner more"))).status == 200


@pytest.mark.parametrize("route", ["/plain", "/async"])
def test_starlette(route: str) -> None:
    """Decorators one above the other, plain and async."""
    app = starlette_app()
    _asks(lambda route, headers: exchange(app, route, headers), route)


def test_flask() -> None:
    """The same in WSGI."""
    app = flask_app()
    _asks(lambda route, headers: call(app, route, headers), "/plain")


@pytest.mark.parametrize("kind", ["asgi", "wsgi"])
@pytest.mark.parametrize("route", ["/plain", "/async"])
def test_django(kind: str, route: str) -> None:
    """Both worlds, both kinds of view."""
    _asks(django_of(kind), route)


def test_one_guard_on_two_views() -> None:
    """What is above one view is not asked for at another."""
    guard = for_starlette.requires_scopes("inner")

    @guard
    def one(request: Any) -> Any:
        return PlainTextResponse("in")

    @for_starlette.requires_scopes("outer")
    @guard
    def other(request: Any) -> Any:
        return PlainTextResponse("in")

    app = Starlette(routes=[Route("/one", one), Route("/other", other)])
    asked = BearerMiddleware(app, server=server_of())
    assert scopes_in(exchange(asked, "/one", bearer(ISSUER.jwt(scope="x")))) == ["inner"]
    expected = ["inner", "outer"]
    assert scopes_in(exchange(asked, "/other", bearer(ISSUER.jwt(scope="outer")))) == expected
