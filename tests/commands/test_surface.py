"""``surface``: one application per framework, with routes of every kind."""

from __future__ import annotations

import io
import json
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Annotated, Any, ClassVar

import fastapi
import flask
import pytest
from django.core.asgi import get_asgi_application
from django.core.wsgi import get_wsgi_application
from django.urls import include, path, re_path
from django.utils.decorators import method_decorator
from django.views import View
from fastapi.security import HTTPBasic
from flask.views import MethodView
from starlette.applications import Starlette
from starlette.authentication import requires
from starlette.endpoints import HTTPEndpoint
from starlette.middleware import Middleware
from starlette.middleware.gzip import GZipMiddleware
from starlette.responses import Response
from starlette.routing import Host, Mount, Route, Router, WebSocketRoute
from starlette.staticfiles import StaticFiles
from werkzeug.middleware.dispatcher import DispatcherMiddleware
from werkzeug.middleware.proxy_fix import ProxyFix

from bearer_middleware import (
    BearerMiddleware,
    Identity,
    ResourceServer,
    Settings,
    WSGIBearerMiddleware,
)
from bearer_middleware.commands.surface.command import surface
from bearer_middleware.commands.surface.templates import Match, match
from bearer_middleware.commands.surface.verdicts import rows
from bearer_middleware.commands.surface.walking import spots
from bearer_middleware.policy.model import Action, Resource
from bearer_middleware.web import django as for_django
from bearer_middleware.web import fastapi as for_fastapi
from bearer_middleware.web import flask as for_flask
from bearer_middleware.web import starlette as for_starlette
from bearer_middleware.web.guards import GUARD, Mark, mark
from tests.contract.wire import ISSUER, exchange, server_of
from tests.contract.worlds import set_django_up

Server = ResourceServer


def listed(app: Any) -> dict[str, tuple[str, str]]:
    """By method and path, the state and the words."""
    return {
        f"{','.join(row.methods)} {row.spot.path}": (
            row.verdict.state,
            "; ".join((*row.verdict.why, row.spot.what)).rstrip("; "),
        )
        for row in rows(spots(app))
    }


def states(app: Any) -> dict[str, str]:
    """By method and path, the state."""
    return {name: state for name, (state, _) in listed(app).items()}


def view(request: Any = None, **_: Any) -> Any:
    """Of no decorator."""


# One application for each framework: /, /open, /write (decorated), /todos/{id}.


def starlette_app(server: Server | None) -> Any:
    """With the middleware among its own."""
    guarded = for_starlette.requires_scopes("write")(view)
    routes = [Route("/", view), Route("/open", view), Route("/write", guarded, methods=["POST"])]
    app = Starlette(routes=[*routes, Route("/todos/{id:int}", view)])
    if server is not None:
        app.add_middleware(BearerMiddleware, server=server)
    return app


def fastapi_app(server: Server | None) -> Any:
    """With a layer of FastAPI's own around, too."""
    app = fastapi.FastAPI(openapi_url=None)
    for where in ("/", "/open", "/todos/{id}"):
        app.get(where)(lambda: None)
    writer = fastapi.Security(for_fastapi.current_identity, scopes=["write"])
    app.post("/write", dependencies=[writer])(lambda: None)
    app.add_middleware(GZipMiddleware)
    return app if server is None else GZipMiddleware(BearerMiddleware(app, server=server))


def flask_app(server: Server | None) -> Any:
    """With what a proxy needs in between."""
    app = flask.Flask("surface", static_folder=None)
    for where in ("/", "/open", "/todos/<int:id>"):
        app.add_url_rule(where, where.strip("/<>:") or "root", view)
    guarded = for_flask.requires_scopes("write")(view)
    app.add_url_rule("/write", "write", guarded, methods=["POST"])
    if server is not None:
        app.wsgi_app = ProxyFix(WSGIBearerMiddleware(app.wsgi_app, server=server))
    return app


def django_app(server: Server | None, *, over_asgi: bool = False) -> Any:
    """Both ways."""

    class Write(View):
        @method_decorator(for_django.requires_scopes("write"))
        def post(self, request: Any) -> Any: ...

    class Get(View):
        def get(self, request: Any, **_: Any) -> Any: ...

    routes = [path("", Get.as_view()), path("open", Get.as_view())]
    set_django_up(*routes, path("write", Write.as_view()), path("todos/<int:id>", Get.as_view()))
    if over_asgi:
        app = get_asgi_application()
        return app if server is None else BearerMiddleware(app, server=server)
    wsgi = get_wsgi_application()
    return wsgi if server is None else WSGIBearerMiddleware(wsgi, server=server)


APPS: dict[str, Callable[[Server | None], Any]] = {
    "starlette": starlette_app,
    "fastapi": fastapi_app,
    "flask": flask_app,
    "django-wsgi": django_app,
    "django-asgi": partial(django_app, over_asgi=True),
}
each = pytest.mark.parametrize("make", APPS.values(), ids=APPS)


@each
def test_behind_the_middleware(make: Any) -> None:
    """Everything needs a token but what is exempt; a decorator's scopes are told."""
    found = listed(make(server_of(required_scopes="read", exempt="/open, GET /todos/stats")))
    assert found == {
        "GET /": ("protected", "token; scopes read"),
        "GET /open": ("public", "BEARER_EXEMPT /open"),
        "POST /write": ("protected", "token; scopes read; requires scopes write"),
        "GET /todos/{id}": ("protected", "token; scopes read; but BEARER_EXEMPT GET /todos/stats"),
    }


@each
def test_without_the_middleware(make: Any) -> None:
    """What nothing protects is open; what is decorated lets nobody in."""
    found = states(make(None))
    assert found.pop("POST /write") == "broken"
    assert set(found.values()) == {"open"}
    assert len(found) == 3


@each
def test_optional(make: Any) -> None:
    """Anonymous callers are let in where no decorator asks for more: a setting says so."""
    found = states(make(server_of(optional=True)))
    assert found.pop("POST /write") == "protected"
    assert set(found.values()) == {"optional"}


@each
def test_a_table_of_routes(make: Any) -> None:
    """What each row asks for; what no row is for is denied, and what is public is meant to be."""
    table = [
        {"method": "GET", "path": "/open", "public": True},
        {"method": "*", "path": "/write", "scopes": "write", "acr": "loa2 loa3", "max_age": 60},
        {"method": "GET", "path": "/todos/{todo}", "action": "read", "resource": "todo:{todo}"},
        {"method": "GET", "path": "/todos/mine"},
    ]
    found = listed(make(server_of(routes=table)))
    assert found["GET /open"] == ("public", "public: [[routes]] /open")
    assert found["GET /todos/{id}"] == ("protected", "token; read todo:{todo}")
    asked = "token; scopes write; acr loa2 or loa3; authenticated within 60 s"
    assert found["POST /write"] == ("protected", f"{asked}; requires scopes write")
    assert found["GET /"] == ("denied", "no [[routes]] matches")


def may(request: Any) -> bool:
    """A decision point."""
    return True


def deciding(**settings: Any) -> Server:
    """A server with a decision point."""
    return ResourceServer(Settings(**ISSUER.settings(**settings)), policy=may)


@each
def test_a_policy_without_a_table(make: Any) -> None:
    """Every request is asked about, and nobody is anonymous."""
    found = listed(make(deciding(optional=True, exempt="/open")))
    assert found["GET /"] == ("protected", "token; policy may")
    assert found["GET /open"][0] == "public"


def in_starlette() -> Any:
    """Plain and asynchronous."""

    async def asynchronous(request: Any) -> None: ...

    requires_todo = for_starlette.requires("read", "todo:{id}")
    routes = [Route("/a/{id}", requires_todo(view)), Route("/b/{id}", requires_todo(asynchronous))]
    return Starlette(routes=routes)


def in_fastapi() -> Any:
    """A dependency."""
    app = fastapi.FastAPI(openapi_url=None)
    asked = fastapi.Depends(for_fastapi.authorize("read", "todo:{id}"))
    for where in ("/a/{id}", "/b/{id}"):
        app.get(where, dependencies=[asked])(lambda: None)
    return app


def in_flask() -> Any:
    """A view."""
    app = flask.Flask("policy", static_folder=None)
    asked = for_flask.requires("read", "todo:{id}")(view)
    for where in "ab":
        app.add_url_rule(f"/{where}/<id>", where, asked)
    return app.wsgi_app


def in_django() -> Any:
    """A method, plain and asynchronous."""
    asked = method_decorator(for_django.requires("read", "todo:{id}"))

    class Plain(View):
        @asked
        def get(self, request: Any, **_: Any) -> Any: ...

    class Asynchronous(View):
        @asked
        async def get(self, request: Any, **_: Any) -> Any: ...

    set_django_up(path("a/<id>", Plain.as_view()), path("b/<id>", Asynchronous.as_view()))
    return get_wsgi_application()


@pytest.mark.parametrize("make", [in_starlette, in_fastapi, in_flask, in_django])
def test_a_policy_of_single_routes(make: Any) -> None:
    """What a decorator asks is told; where nobody could answer, nobody gets in."""
    app = make()
    around = WSGIBearerMiddleware if make in (in_flask, in_django) else BearerMiddleware
    for where in ("GET /a/{id}", "GET /b/{id}"):
        found = listed(around(app, server=deciding()))[where]
        assert found == ("protected", "token; policy may; requires read todo:{id}")
        state, words = listed(around(app, server=server_of()))[where]
        assert (state, "no policy is configured" in words) == ("broken", True)


def test_a_policy_of_other_resources() -> None:
    """One that is given whole, and one that is found later."""
    whole = for_starlette.requires(Action("read"), Resource("todo", "1"))(view)
    later = for_starlette.requires("read", lambda request: "todo:1")(view)
    app = Starlette(routes=[Route("/a", whole), Route("/b", later)])
    found = listed(BearerMiddleware(app, server=deciding()))
    assert found["GET /a"][1].endswith("requires read todo:1")
    assert found["GET /b"][1].endswith("requires read what a function finds")


def test_a_row_for_some_requests_only() -> None:
    """A parameter of the application's may be what a row names."""
    table = [{"method": "GET", "path": "/todos/stats", "public": True}]
    state, words = listed(starlette_app(server_of(routes=table)))["GET /todos/{id}"]
    assert (state, words) == ("denied", "no [[routes]] matches; but GET /todos/stats: public")


def test_a_row_for_everything() -> None:
    """The root is below itself, and as open as the rest."""
    server = server_of(routes=[{"method": "*", "path": "/*", "public": True}])
    app = BearerMiddleware(Response(status_code=204), server=server)
    assert exchange(app, "/").status == 204
    assert states(starlette_app(server))["GET /"] == "public"


def test_what_the_middleware_answers_itself() -> None:
    """It is listed, at its place."""
    server = server_of(health_path="/healthz", resource="https://h/a")
    found = listed(
        Starlette(routes=[Mount("/sub", BearerMiddleware(starlette_app(None), server=server))])
    )
    itself = ("public", "answered by the middleware itself")
    assert found["GET /sub/healthz"] == itself
    assert found["GET,OPTIONS /sub/.well-known/oauth-protected-resource/a"] == itself
    assert found["GET /sub/"] == ("protected", "token")


# Starlette.


async def raw(scope: Any, receive: Any, send: Any) -> None:
    """An application of no framework."""


class Endpoint(HTTPEndpoint):
    """Of two methods, one of which is decorated."""

    async def get(self, request: Any) -> None: ...

    @for_starlette.requires_scopes("del")
    async def delete(self, request: Any) -> None: ...


@for_starlette.requires_scopes("listen")
async def listen(websocket: Any) -> None:
    """To be decorated."""


@requires(["authenticated", "admin"])
async def own_way(request: Any) -> None:
    """Starlette's decorator."""


def nested(server: Server) -> Any:
    """All kinds of routes."""
    inner = [Middleware(BearerMiddleware, server=server)]
    routes = [
        Mount("/raw", raw),
        Mount("/static", StaticFiles(directory=".")),
        Mount("/v1/{tenant}", routes=[Route("/open", view)], middleware=inner),
        Mount("/v2", Router([Route("/open", view)], middleware=inner)),
        Route("/v3", view, middleware=inner),
        Mount("/v4", Starlette(routes=[Route("/open", view)], middleware=inner)),
        Host("x.example", Router([Route("/h", own_way)])),
        WebSocketRoute("/ws", listen),
        Route("/class", Endpoint),
        Route("/files/{rest:path}", view, methods=["GET", "POST"]),
    ]
    return Starlette(routes=routes)


def test_starlette_in_depth() -> None:
    """Mounts, hosts, classes, websockets, and the middleware in each place where it may be."""
    server = server_of(exempt="/open")
    found = listed(nested(server))
    assert found["* /raw/{rest:path}"] == ("open", "unknown application raw")
    assert found["* /static/{rest:path}"] == ("open", "static files")
    for version in ("/v1/{tenant}", "/v2", "/v4"):
        assert found[f"GET {version}/open"] == ("public", "BEARER_EXEMPT /open")
    assert found["GET /v3"] == ("protected", "token")
    assert found["GET /h"] == ("protected", "Starlette's requires scopes admin; host x.example")
    assert found["GET /ws"][0] == found["DELETE /class"][0] == "broken"
    assert found["GET /class"] == found["GET,POST /files/{rest:path}"] == ("open", "")
    assert len(found) == 11


def test_starlette_in_depth_behind_the_middleware() -> None:
    """It protects what is below, whatever that is."""
    server = server_of(exempt="GET /files/*, /raw/open, /ws")
    found = listed(BearerMiddleware(nested(server), server=server))
    assert not [name for name, (state, _) in found.items() if state in ("open", "broken")]
    assert found["* /raw/{rest:path}"] == (
        "protected",
        "token; but BEARER_EXEMPT /raw/open; unknown application raw",
    )
    assert found["GET /files/{rest:path}"] == ("public", "BEARER_EXEMPT GET /files/*")
    assert found["POST /files/{rest:path}"] == ("protected", "token")
    state, words = found["GET /ws"]
    assert state == "protected"
    assert "everybody is refused" in words


def test_exempt_with_a_space_in_its_path() -> None:
    """The method ends at the path, and not at the last space."""
    app = Starlette(routes=[Route("/my/{rest:path}", lambda request: None)])
    server = server_of(exempt="GET /my/own files")
    found = listed(BearerMiddleware(app, server=server))
    assert found["GET /my/{rest:path}"] == (
        "protected",
        "token; but BEARER_EXEMPT GET /my/own files",
    )


def test_open_for_one_method_of_any() -> None:
    """A rule for a method opens nothing but that."""
    found = states(BearerMiddleware(nested(server_of()), server=server_of(exempt="GET /raw/*")))
    assert found["GET /raw/{rest:path}"] == "public"
    assert found["* /raw/{rest:path}"] == "protected"


def test_two_middlewares_around() -> None:
    """The stricter one counts."""
    inner = BearerMiddleware(starlette_app(None), server=server_of(optional=True))
    assert states(inner)["GET /"] == "optional"
    assert states(BearerMiddleware(inner, server=server_of()))["GET /"] == "protected"


def test_a_middleware_that_was_built_by_a_partial() -> None:
    """``add_middleware`` takes any callable."""
    app = starlette_app(None)
    app.add_middleware(partial(BearerMiddleware, server=server_of()))
    assert states(app)["GET /"] == "protected"


def test_what_a_router_falls_back_to() -> None:
    """An application for all that no route is for."""
    router = Router([Route("/a", view)], default=starlette_app(None))
    found = states(Starlette(routes=[Mount("/m", router)]))
    assert {"GET /m/a", "GET /m/open"} <= found.keys()


def test_the_document_at_the_root_of_the_host() -> None:
    """PRM-1: a middleware may be an endpoint, to serve what does not lie below a mounted API."""
    server = server_of(resource="https://h/mcp")
    inner = BearerMiddleware(starlette_app(None), server=server)
    where = "/.well-known/oauth-protected-resource/mcp"
    app = Starlette(routes=[Route(where, inner), Mount("/mcp", inner)])
    found = listed(app)
    assert found[f"* {where}"][0] == "public"
    assert found["GET /mcp/open"] == ("protected", "token")
    refused = exchange(app, "/mcp/open")
    assert f'resource_metadata="https://h{where}"' in (refused.challenge or "")
    assert exchange(app, where).json["resource"] == "https://h/mcp"


def test_behind_what_ends_connections() -> None:
    """A layer of our own in between."""
    found = states(BearerMiddleware(starlette_app(None), server=server_of(close_on_expiry=True)))
    assert found["GET /todos/{id}"] == "protected"


# FastAPI.


def deep_fastapi() -> Any:
    """Routers in routers, and identities at each level."""
    reader = fastapi.Security(for_fastapi.current_identity, scopes=["read"])
    app = fastapi.FastAPI(openapi_url=None)
    outer = fastapi.APIRouter(prefix="/outer", dependencies=[reader])
    inner = fastapi.APIRouter()

    def nested_dependency(identity: Annotated[Identity, reader]) -> None: ...

    nested_dependency.__annotations__ = {"identity": Annotated[Identity, reader]}
    inner.get("/a/{b:path}")(lambda: None)
    inner.websocket("/ws")(listen)
    outer.include_router(inner, prefix="/inner")
    outer.mount("/raw", raw)
    app.include_router(outer, prefix="/api")
    app.get("/deep", dependencies=[fastapi.Depends(nested_dependency)])(lambda: None)
    anybody = fastapi.Security(for_fastapi.optional_identity)
    app.get("/anybody", dependencies=[anybody])(lambda: None)
    return app


def test_fastapi_in_depth() -> None:
    """A dependency of a router is one of all its routes; of what is mounted there it is none."""
    found = listed(BearerMiddleware(deep_fastapi(), server=server_of(optional=True)))
    token = "token, if there is one (BEARER_OPTIONAL)"
    read = ("protected", f"{token}; requires scopes read")
    assert found["GET /api/outer/inner/a/{b:path}"] == found["GET /deep"] == read
    assert found["GET /anybody"] == ("optional", f"{token}; identity, if there is one")
    state, words = found["GET /api/outer/inner/ws"]
    assert (state, "listen" in words, "read" in words) == ("protected", True, True)
    assert found["* /api/raw/{rest:path}"][0] == "optional"


def test_fastapi_security_of_others() -> None:
    """It is named, and not believed: it may let anybody in."""
    app = fastapi.FastAPI(openapi_url=None)
    app.get("/", dependencies=[fastapi.Security(HTTPBasic())])(lambda: None)
    assert listed(app)["GET /"] == ("open", "HTTPBasic, not looked into")


def test_fastapi_frontends(tmp_path: Path) -> None:
    """Files that are served where there is no route."""
    app, router = fastapi.FastAPI(openapi_url=None), fastapi.APIRouter()
    if not hasattr(app, "frontend"):
        pytest.skip("an older FastAPI")
    app.frontend("/app", directory=tmp_path)
    router.frontend("/inner", directory=tmp_path)
    identity = fastapi.Security(for_fastapi.current_identity)
    app.include_router(router, prefix="/x", dependencies=[identity])
    found = listed(app)
    assert found["* /app/{rest:path}"] == ("open", "static files")
    assert found["* /x/inner/{rest:path}"][0] == "broken"
    server = server_of()
    assert set(states(BearerMiddleware(app, server=server)).values()) == {"protected"}


def test_fastapi_without_the_middleware() -> None:
    """An optional identity is nobody's there."""
    found = states(deep_fastapi())
    assert found["GET /anybody"] == "open"
    assert found["GET /deep"] == "broken"


# Django and Flask.


@method_decorator(for_django.requires_scopes("all"), name="dispatch")
class Every(View):
    """Decorated as a whole."""

    def get(self, request: Any) -> Any: ...


def test_django_in_depth() -> None:
    """Includes, converters, regular expressions, functions of any method."""
    below = [
        path("a/<path:rest>", view),
        re_path(r"^(?P<year>[0-9]{4})/$", view),
        re_path(r"^x(y|z)$", for_django.requires_scopes("x")(view)),
        path("every", Every.as_view()),
    ]
    set_django_up(path("inc/", include(below)))
    server = server_of(exempt="/inc/a/*")
    found = listed(WSGIBearerMiddleware(get_wsgi_application(), server=server))
    assert found == {
        "* /inc/a/{rest:path}": ("public", "BEARER_EXEMPT /inc/a/*"),
        "* /inc/{year}/": ("protected", "token"),
        "* /inc/{rest:path}": (
            "protected",
            "token; but BEARER_EXEMPT /inc/a/*; requires scopes x; pattern ^x(y|z)$",
        ),
        "GET /inc/every": ("protected", "token; requires scopes all"),
    }


def test_flask_in_depth() -> None:
    """Classes, and several applications in one."""

    class Methods(MethodView):
        def get(self) -> Any: ...

        @for_flask.requires_scopes("put")
        def put(self) -> Any: ...

    class Decorated(MethodView):
        decorators: ClassVar[list[Any]] = [for_flask.requires_scopes("all")]

        def get(self) -> Any: ...

    app = flask.Flask("deep", static_folder=None)
    app.add_url_rule("/m", view_func=Methods.as_view("m"))
    app.add_url_rule("/d/<path:rest>", view_func=Decorated.as_view("d"))
    inner = WSGIBearerMiddleware(app.wsgi_app, server=server_of(exempt="/m"))
    found = listed(DispatcherMiddleware(app, {"/v1": inner}))
    assert found["GET /v1/m"] == ("public", "BEARER_EXEMPT /m")
    assert found["GET /v1/d/{rest:path}"] == ("protected", "token; requires scopes all")
    assert found["GET /m"] == ("open", "")
    assert {found["PUT /m"][0], found["GET /d/{rest:path}"][0]} == {"broken"}
    assert found["PUT /v1/m"][0] == "protected"


def test_methods_that_a_class_answers_apart() -> None:
    """HEAD and OPTIONS, where they are not left to ``get`` and the framework."""

    class InStarlette(HTTPEndpoint):
        get = for_starlette.requires_scopes("read")(view)
        head = view

    class InFlask(MethodView):
        get = for_flask.requires_scopes("read")(view)
        head = options = view

    class InDjango(View):
        get = method_decorator(for_django.requires_scopes("read"))(view)
        head: Any = view
        options: Any = view

    found = states(Starlette(routes=[Route("/", InStarlette)]))
    assert found == {"GET /": "broken", "HEAD /": "open"}
    app = flask.Flask("apart", static_folder=None)
    app.add_url_rule("/", view_func=InFlask.as_view("root"))
    three = {"GET /": "broken", "HEAD /": "open", "OPTIONS /": "open"}
    assert states(app) == three
    set_django_up(path("", InDjango.as_view()))
    assert states(get_wsgi_application()) == three


# Templates and marks.


@pytest.mark.parametrize(
    ("rule", "template", "expected"),
    [
        ("/", "/", Match.ALL),
        ("/a", "/a", Match.ALL),
        ("/a", "/b", Match.NONE),
        ("/a", "/a/", Match.NONE),
        ("/a/b", "/a", Match.NONE),
        ("/{x}", "/a", Match.ALL),
        ("/{x}", "/{y}", Match.ALL),
        ("/{x}", "/", Match.NONE),
        ("/a", "/{y}", Match.SOME),
        ("/a/{x}", "/{y}/b", Match.SOME),
        ("/a/b", "/{y}/c", Match.NONE),
        ("/*", "/a/b", Match.ALL),
        ("/*", "/", Match.ALL),
        ("/{r:path}", "/", Match.NONE),
        ("/a/{r:path}", "/a/{s:path}", Match.ALL),
        ("/a/*", "/a/", Match.NONE),
        ("/a/b", "/a/{s:path}", Match.SOME),
        ("/a", "/a/{s:path}", Match.SOME),
        ("/b", "/a/{s:path}", Match.NONE),
    ],
)
def test_templates(rule: str, template: str, expected: Match) -> None:
    """All, some or none of the requests of a template."""
    assert match(rule, template) is expected


def test_marks_add_up() -> None:
    """Each decorator leaves its own, and those of what it is around stay."""
    inner = mark(lambda: None, ["a"])
    inner = mark(inner, action="read", resource="todo:{id}")
    assert getattr(inner, GUARD) == (Mark(("a",)), Mark((), "read", "todo:{id}"))
    app = Starlette(routes=[Route("/", for_starlette.requires_scopes("b")(mark(own, ["a"])))])
    found = listed(BearerMiddleware(app, server=server_of()))
    assert found["GET /"][1] == "token; requires scopes a; requires scopes b"


def own(request: Any) -> None:
    """To be decorated twice."""


# The command.

SAMPLE = """
from starlette.applications import Starlette
from starlette.routing import Route
from bearer_middleware import BearerMiddleware

print("imported")

def view(request): ...

def make(**settings):
    app = Starlette(routes=[Route("/", view), Route("/open", view)])
    app.add_middleware(BearerMiddleware, **settings)
    return app

bare = Starlette(routes=[Route("/", view)])
app = make(issuer="https://as.example", audience="orders", exempt="/open")
class holder:
    app = app
number = 7
"""


LATE = """
class Late:
    @property
    def app(self):
        import surface_nowhere
    def __call__(self): ...
app = Late()
"""


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A directory with a module in it."""
    (tmp_path / "surface_sample.py").write_text(SAMPLE)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    return tmp_path


def told(target: str, **options: Any) -> tuple[int, str, str]:
    """What the command says."""
    out, err = io.StringIO(), io.StringIO()
    status = surface(target, out, err, **options)
    return status, out.getvalue(), err.getvalue()


def test_the_command(here: Path) -> None:
    """0 where nothing is open but by a setting, 1 where something is."""
    status, out, err = told("surface_sample:app")
    assert (status, err) == (0, "")
    assert out.splitlines() == [
        "protected  GET  /      token",
        "public     GET  /open  BEARER_EXEMPT /open",
        "2 routes, and none is open but by a setting",
    ]
    assert told("surface_sample:holder.app")[0] == 0
    status, out, _ = told("surface_sample:bare")
    assert status == 1
    assert "1 routes, and 1 open without a word" in out


def test_json(here: Path) -> None:
    """For programs."""
    status, out, _ = told("surface_sample:app", as_json=True)
    assert status == 0
    assert json.loads(out) == {
        "routes": [
            {
                "state": "protected",
                "methods": ["GET"],
                "path": "/",
                "kind": "http",
                "protection": ["token"],
                "what": "",
            },
            {
                "state": "public",
                "methods": ["GET"],
                "path": "/open",
                "kind": "http",
                "protection": ["BEARER_EXEMPT /open"],
                "what": "",
            },
        ],
        "unused": [],
        "open": 0,
    }


def test_rows_for_no_route(here: Path) -> None:
    """A slip in the table, most likely."""
    (here / "surface_slip.py").write_text(
        "from surface_sample import make\n"
        "table = [{'method': 'GET', 'path': path} for path in ('/', '/opne', '/{x}')]\n"
        "app = make(issuer='https://as.example', audience='a', routes=table)"
    )
    assert "[[routes]] GET /opne is for no route" in told("surface_slip:app")[1].splitlines()
    assert json.loads(told("surface_slip:app", as_json=True)[1])["unused"] == ["GET /opne"]


@pytest.mark.parametrize(
    ("target", "said"),
    [
        ("surface_sample", "module:attribute"),
        ("surface_sample:", "module:attribute"),
        (":app", "module:attribute"),
        ("surface_sample:nothing", "has no nothing"),
        ("surface_sample:number", "no application"),
        ("surface_nowhere:app", "ModuleNotFoundError"),
        ("surface_exits:app", "SystemExit"),
        ("surface_sample:make()", "BEARER_ISSUER"),
        ("surface_wrong:app", "BEARER_LEEWAY"),
        ("surface_late:app", "routes cannot be read: ModuleNotFoundError"),
    ],
)
def test_usage(here: Path, target: str, said: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """2 where there is no application, or its settings are not there."""
    monkeypatch.delenv("BEARER_ISSUER", raising=False)
    (here / "surface_exits.py").write_text("raise SystemExit(3)")
    (here / "surface_wrong.py").write_text(
        "from bearer_middleware import *\napp = BearerMiddleware(print, leeway='soon')"
    )
    (here / "surface_late.py").write_text(LATE)
    status, out, err = told(target)
    assert (status, out) == (2, "")
    assert said in err


def test_the_program(here: Path) -> None:
    """As it is typed: the working directory comes first, and what is printed is not ours."""
    words = [sys.executable, "-m", "bearer_middleware", "surface", "surface_sample:app", "--json"]
    ended = subprocess.run(words, cwd=here, capture_output=True, text=True, check=False, timeout=60)
    assert ended.returncode == 0, ended.stderr
    assert json.loads(ended.stdout)["open"] == 0
    assert ended.stderr == "imported\n"
