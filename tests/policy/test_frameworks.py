"""Decorators and the dependency, in each framework; and paths that might be read in two ways."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Annotated, Any

import anyio
import anyio.lowlevel
import fastapi
import flask
import pytest
from django.conf import settings as django_settings
from django.core.asgi import get_asgi_application
from django.core.wsgi import get_wsgi_application
from django.http import HttpRequest, JsonResponse
from django.urls import path as django_path
from django.utils.decorators import method_decorator
from django.views import View
from starlette.applications import Starlette
from starlette.endpoints import HTTPEndpoint
from starlette.middleware.gzip import GZipMiddleware
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Mount, Route, WebSocketRoute
from starlette.websockets import WebSocket

from bearer_middleware import BearerMiddleware, ConfigError, ResourceServer, WSGIBearerMiddleware
from bearer_middleware.policy.model import Resource
from bearer_middleware.web import django as for_django
from bearer_middleware.web import fastapi as for_fastapi
from bearer_middleware.web import flask as for_flask
from bearer_middleware.web import starlette as for_starlette
from tests.contract.wire import call, converse, exchange, handshake, scope_of
from tests.contract.worlds import set_django_up
from tests.policy.conftest import Ask, Point, decision, policed, token


def owned(request: Any) -> Resource:
    """A resource that is looked up."""
    return Resource("doc", "9", {"path": str(getattr(request, "path", request.url.path))})


async def owned_later(request: Any) -> Resource:
    """The same, asynchronously."""
    return owned(request)


# Each application has /todos/{id} (async where it can be), /plain/{id} (plain), /looked and
# /wrong, which names a parameter that its path has not; /asked asks in the handler.


def _starlette(server: ResourceServer, *, around: bool = False) -> Ask:
    @for_starlette.requires("read", "todo:{id}")
    async def todo(request: Request) -> JSONResponse:
        return JSONResponse(request.path_params["id"])

    @for_starlette.requires("read", "todo:{id}")
    def plain(request: Request) -> JSONResponse:
        return JSONResponse(request.path_params["id"])

    @for_starlette.requires("read", owned_later)
    async def looked(request: Request) -> JSONResponse:
        return JSONResponse("9")

    @for_starlette.requires("read", "todo:{nothing}")
    async def wrong(request: Request) -> JSONResponse:
        return JSONResponse("never")

    async def asked(request: Request) -> JSONResponse:
        await for_starlette.current_authorizer(request).require("read", "todo:1")
        return JSONResponse("1")

    class Endpoint(HTTPEndpoint):
        @for_starlette.requires("read", "todo:{id}")
        async def get(self, request: Request) -> JSONResponse:
            return JSONResponse(request.path_params["id"])

    routes = [
        Route("/todos/{id}", todo),
        Route("/plain/{id}", plain),
        Route("/looked", looked),
        Route("/wrong", wrong),
        Route("/asked", asked),
        Mount("/v1", routes=[Route("/todos/{id}", Endpoint)]),
    ]
    app = Starlette(routes=routes)
    if around:
        return partial(exchange, BearerMiddleware(app, server=server))
    app.add_middleware(BearerMiddleware, server=server)
    return partial(exchange, app)


def _fastapi(server: ResourceServer, *, around: bool = False) -> Ask:
    app, router = fastapi.FastAPI(), fastapi.APIRouter()
    may = Annotated[Any, fastapi.Depends(for_fastapi.authorize("read", "todo:{id}"))]
    sees = Annotated[Any, fastapi.Security(for_fastapi.authorize("read", owned_later), scopes=[])]
    asker = Annotated[Any, fastapi.Depends(for_fastapi.current_authorizer)]
    errs = Annotated[Any, fastapi.Depends(for_fastapi.authorize("read", "todo:{nothing}"))]

    async def todo(id: str, identity: may) -> Any:  # type: ignore[valid-type]  # noqa: A002
        return id

    async def looked(identity: sees) -> Any:  # type: ignore[valid-type]
        return "9"

    async def wrong(identity: errs) -> Any:  # type: ignore[valid-type]
        return "never"

    def asked(may: asker) -> Any:  # type: ignore[valid-type]
        may.blocking.require("read", "todo:1")  # type: ignore[attr-defined]
        return "1"

    todo.__annotations__ = {"id": str, "identity": may}
    looked.__annotations__, wrong.__annotations__ = {"identity": sees}, {"identity": errs}
    asked.__annotations__ = {"may": asker}
    router.get("/todos/{id}")(todo)
    app.get("/todos/{id}")(todo)
    app.get("/plain/{id}")(todo)
    app.get("/looked")(looked)
    app.get("/wrong")(wrong)
    app.get("/asked")(asked)
    app.include_router(router, prefix="/v1")
    if around:
        return partial(exchange, BearerMiddleware(app, server=server))
    app.add_middleware(BearerMiddleware, server=server)
    return partial(exchange, app)


@for_django.requires("read", "todo:{id}")
async def _django_todo(request: HttpRequest, id: str) -> JsonResponse:  # noqa: A002
    return JsonResponse(id, safe=False)


@for_django.requires("read", "todo:{id}")
def _django_plain(request: HttpRequest, id: str) -> JsonResponse:  # noqa: A002
    return JsonResponse(id, safe=False)


@for_django.requires("read", lambda request: Resource("doc", "9", {"path": request.path}))
def _django_looked(request: HttpRequest) -> JsonResponse:
    return JsonResponse("9", safe=False)


@for_django.requires("read", "todo:{nothing}")
def _django_wrong(request: HttpRequest) -> JsonResponse:
    return JsonResponse("never", safe=False)


def _django_asked(request: HttpRequest) -> JsonResponse:
    for_django.current_authorizer(request).require("read", "todo:1")
    return JsonResponse("1", safe=False)


async def _django_awaited(request: HttpRequest) -> JsonResponse:
    await for_django.current_async_authorizer(request).require("read", "todo:1")
    return JsonResponse("1", safe=False)


_PATTERNS = [
    django_path("todos/<str:id>", _django_todo),
    django_path("plain/<str:id>", _django_plain),
    django_path("v1/todos/<str:id>", _django_plain),
    django_path("looked", _django_looked),
    django_path("wrong", _django_wrong),
    django_path("asked", _django_asked),
    django_path("awaited", _django_awaited),
]


def _django_asgi(server: ResourceServer) -> Ask:
    set_django_up(*_PATTERNS)
    return partial(exchange, BearerMiddleware(get_asgi_application(), server=server))


def _django_wsgi(server: ResourceServer) -> Ask:
    set_django_up(*_PATTERNS)
    return partial(call, WSGIBearerMiddleware(get_wsgi_application(), server=server))


def _flask(server: ResourceServer) -> Ask:
    app = flask.Flask("policy")

    @app.route("/todos/<id>")
    @app.route("/v1/todos/<id>")
    @for_flask.requires("read", "todo:{id}")
    async def todo(id: str) -> Any:  # noqa: A002
        return flask.jsonify(id)

    @app.route("/plain/<id>")
    @for_flask.requires("read", "todo:{id}")
    def plain(id: str) -> Any:  # noqa: A002
        return flask.jsonify(id)

    @app.route("/looked")
    @for_flask.requires("read", lambda request: Resource("doc", "9", {"path": request.path}))
    def looked() -> Any:
        return flask.jsonify("9")

    @app.route("/wrong")
    @for_flask.requires("read", "todo:{nothing}")
    def wrong() -> Any:
        return flask.jsonify("never")

    @app.route("/asked")
    def asked() -> Any:
        for_flask.current_authorizer().require("read", "todo:1")
        return flask.jsonify("1")

    app.wsgi_app = WSGIBearerMiddleware(app.wsgi_app, server=server)  # type: ignore[method-assign]
    return partial(call, app)


WORLDS: dict[str, Callable[[ResourceServer], Ask]] = {
    "starlette": _starlette,
    "starlette-wrapped": partial(_starlette, around=True),
    "fastapi": _fastapi,
    "fastapi-wrapped": partial(_fastapi, around=True),
    "django-asgi": _django_asgi,
    "django-wsgi": _django_wsgi,
    "flask": _flask,
}


@pytest.fixture(params=WORLDS)
def world(request: pytest.FixtureRequest) -> Callable[[ResourceServer], Ask]:
    """A framework's application, in which handlers ask for policy."""
    return WORLDS[request.param]


def _first(request: Any) -> Any:
    """Number 1, and the document, are for everybody."""
    return decision("permit" if request.resource.id in ("1", "9", "/todos/{id}") else "deny")


OPEN_TABLE = [{"method": "*", "path": "/*", "policy": False}]


@pytest.mark.parametrize("path", ["/todos", "/plain", "/v1/todos"])
def test_decorators(world: Any, path: str) -> None:
    """Only those pass whom policy permits; anybody without a token gets a challenge."""
    point = Point(_first)
    ask = world(policed(point, routes=OPEN_TABLE))
    reply = ask(f"{path}/1", token())
    assert (reply.status, reply.json) == (200, "1")
    reply = ask(f"{path}/2", token())
    assert (reply.status, reply.json) == (403, {"status": 403, "title": "Forbidden"})
    assert reply.header("content-type") == "application/problem+json"
    assert [(request.resource.type, request.resource.id) for request in point.asked] == [
        ("todo", "1"),
        ("todo", "2"),
    ]
    public = world(policed(point, routes=[{"method": "*", "path": "/*", "public": True}]))
    reply = public(f"{path}/1")
    assert (reply.status, reply.challenge) == (401, 'Bearer realm="api"')
    assert len(point.asked) == 2


@method_decorator(for_django.requires("read", "todo:{id}"), name="dispatch")
class _DjangoView(View):
    async def get(self, request: HttpRequest, id: str) -> JsonResponse:  # noqa: A002
        return JsonResponse(id, safe=False)


def test_dispatch_of_async_views_of_django() -> None:
    """Holds up nobody: others are served while one waits for a decision."""
    set_django_up(django_path("todos/<str:id>", _DjangoView.as_view()))
    around = WSGIBearerMiddleware(
        get_wsgi_application(), server=policed(Point(_first), routes=OPEN_TABLE)
    )
    assert [call(around, f"/todos/{number}", token()).status for number in (1, 2)] == [200, 403]
    waiting, most = 0, 0

    async def policy(request: Any) -> bool:
        nonlocal waiting, most
        waiting += 1
        most = max(most, waiting)
        await anyio.sleep(0.02)
        waiting -= 1
        return str(request.resource.id) == "1"

    server = policed(policy, routes=OPEN_TABLE)
    app, statuses = BearerMiddleware(get_asgi_application(), server=server), list[int]()

    async def one(number: int) -> None:
        request = {"type": "http.request", "body": b"", "more_body": False}
        sent = await converse(app, scope_of(f"/todos/{number}", token()), [request])
        statuses.append(sent[0]["status"])

    async def all_of_them() -> None:
        async with anyio.create_task_group() as tasks:
            for number in (1, 2, 1, 2):
                tasks.start_soon(one, number)

    anyio.run(all_of_them)
    assert (sorted(statuses), most) == ([200, 200, 403, 403], 2)  # the same is asked once


def test_what_was_found_is_no_template() -> None:
    """The text that a function makes of the request holds data, not names of parameters."""

    @for_starlette.requires("read", lambda request: f"todo:{request.path_params['id']}")
    async def todo(request: Request) -> JSONResponse:
        return JSONResponse(request.path_params["id"])

    point = Point(_first)
    app = Starlette(routes=[Route("/{list}/{id}", todo)])
    ask = partial(exchange, BearerMiddleware(app, server=policed(point, routes=OPEN_TABLE)))
    assert ask("/1/{list}", token()).status == 403
    assert [request.resource.id for request in point.asked] == ["{list}"]


@pytest.mark.parametrize("path", ["/plain/{}", "/asked", "/todos/{}"])
@pytest.mark.parametrize("name", ["starlette", "fastapi", "django-asgi"])
def test_plain_endpoints_and_an_async_policy(name: str, path: str) -> None:
    """They run in threads, and wait for the loop that the function needs."""

    async def policy(request: Any) -> bool:
        await anyio.lowlevel.checkpoint()
        return str(request.resource.id) in permitted

    permitted = {"1"}
    ask = WORLDS[name](policed(policy, routes=OPEN_TABLE))
    assert ask(path.format("1"), token()).status == 200
    permitted.clear()
    assert ask(path.format("1"), token()).status == 403


def test_plain_endpoints_and_an_async_policy_in_trio() -> None:
    """The same there."""

    async def policy(request: Any) -> bool:
        await anyio.lowlevel.checkpoint()
        return bool(request.resource.id == "1")

    ask = _starlette(policed(policy, routes=OPEN_TABLE))
    assert ask("/plain/1", token(), backend="trio").status == 200
    assert ask("/plain/2", token(), backend="trio").status == 403


def test_resources_that_are_looked_up(world: Any) -> None:
    """By a function of the request, async where the endpoint is."""
    point = Point(_first)
    reply = world(policed(point, routes=OPEN_TABLE))("/looked", token())
    assert (reply.status, reply.json) == (200, "9")
    assert point.asked[0].resource == Resource("doc", "9", {"path": "/looked"})


@pytest.mark.parametrize(
    ("said", "status"),
    [("permit", 200), ("deny", 403), ("indeterminate", 503)],
)
def test_requirements_in_handlers(world: Any, said: str, status: int) -> None:
    """Are refused in the framework's own way, whatever is around it."""
    ask = world(policed(Point(decision(said)), routes=OPEN_TABLE))
    reply = ask("/asked", token())
    assert reply.status == status
    if status != 200:
        assert reply.header("content-type") == "application/problem+json"


@pytest.mark.parametrize(("said", "status"), [("permit", 200), ("deny", 403)])
def test_async_views_of_django(said: str, status: int) -> None:
    """Await, over ASGI."""
    ask = _django_asgi(policed(Point(decision(said)), routes=OPEN_TABLE))
    assert ask("/awaited", token()).status == status


def test_wrong_templates(world: Any) -> None:
    """A parameter that is not there is a mistake of ours: nobody gets in."""
    point = Point()
    assert world(policed(point, routes=OPEN_TABLE))("/wrong", token()).status == 503
    assert point.asked == []


def test_without_policy(world: Any) -> None:
    """A decorator that cannot ask lets nobody in."""
    assert world(policed())("/todos/1", token()).status == 503
    assert world(policed(routes=OPEN_TABLE))("/todos/1", token()).status == 503


def test_the_same_question_once(world: Any) -> None:
    """For the table and the decorator together."""
    point = Point()
    row = {"method": "GET", "path": "/todos/{id}", "action": "read", "resource": "todo:{id}"}
    assert world(policed(point, routes=[row]))("/todos/1", token()).status == 200
    assert len(point.asked) == 1


TRICKS = [
    "/todos/1/", "//todos/1", "/todos//1", "/todos/./1", "/todos/../todos/1", "/x/../todos/1",
    "/TODOS/1", "/Todos/1", "/\\todos\\1", "/todos\\1", "/todos;x/1", "/todos/1/..", "/./todos/1",
    "/todos/a/1", "/todos/1\x00", "/todos/1\n", "/todos/" + "1" * 3000, "/todos/", "/todos",
    "/v1/TODOS/1", "/v1//todos/1", "/v1/todos/1/", "/v1/../todos/1", "/ｔodos/1", "/todos\u2044１",
]  # fmt: skip


@pytest.mark.parametrize("path", TRICKS, ids=lambda path: ascii(path)[:24])
@pytest.mark.parametrize("method", ["GET", "HEAD", "POST", "OPTIONS"])
def test_paths_that_are_no_route(world: Any, method: str, path: str) -> None:
    """Authorization section 4.3: denied by the table, whatever the framework makes of them."""
    point = Point()
    routes = [
        {"method": "GET", "path": "/todos/{id}", "action": "read", "resource": "todo:{id}"},
        {"method": "GET", "path": "/v1/todos/{id}", "action": "read", "resource": "todo:{id}"},
    ]
    reply = world(policed(point, routes=routes))(path, token(), method=method)
    assert reply.status == 403
    assert point.asked == []


@pytest.mark.parametrize(
    ("path", "known"),
    [
        ("/todos/1", "1"), ("/v1/todos/1", "1"), ("/todos/1;v=2", "1;v=2"), ("/todos/a:b", "a:b"),
        ("/todos/%2e%2e", "%2e%2e"), ("/todos/é", "é"), ("/todos/e\u0301", "e\u0301"),
        ("/todos/{id}", "{id}"), ("/todos/*", "*"), ("/todos/a b", "a b"),
    ],
)  # fmt: skip
def test_ids_are_those_of_the_router(world: Any, path: str, known: str) -> None:
    """What policy is asked about is what the handler gets; HEAD is asked as GET is."""
    point = Point()
    routes = [
        {"method": "GET", "path": "/todos/{id}", "action": "read", "resource": "todo:{id}"},
        {"method": "GET", "path": "/v1/todos/{id}", "action": "read", "resource": "todo:{id}"},
    ]
    reply = world(policed(point, routes=routes))(path, token())
    assert (reply.status, reply.json) == (200, known)
    assert [request.resource.id for request in point.asked] == [known]


@pytest.mark.filterwarnings("ignore:Unknown REQUEST_METHOD")
@pytest.mark.parametrize("method", ["get", "Get", "DELETE", "PROPFIND", "delete"])
def test_methods_in_other_words(world: Any, method: str) -> None:
    """Frameworks write them in capitals: a row for any method does not speak for those."""
    point = Point()
    routes = [
        {"method": "GET", "path": "/todos/{id}", "action": "read", "resource": "todo:{id}"},
        {"method": "PUT", "path": "/todos/{id}", "action": "update", "resource": "todo:{id}"},
    ]
    assert world(policed(point, routes=routes))("/todos/1", token(), method=method).status == 403
    anything = [{"method": "*", "path": "/todos/{id}", "policy": False}]
    if method != method.upper():
        ask = world(policed(point, routes=anything))
        assert ask("/todos/1", token(), method=method).status == 403


@pytest.mark.parametrize(("name", "kind"), [("1", "accept"), ("2", "http.response.start")])
def test_websockets_of_starlette(name: str, kind: str) -> None:
    """Are refused before they are accepted."""

    @for_starlette.requires("read", "todo:{id}")
    async def chat(websocket: WebSocket) -> None:
        await websocket.accept()
        await websocket.close()

    app = Starlette(routes=[WebSocketRoute("/chat/{id}", chat)])
    app.add_middleware(BearerMiddleware, server=policed(Point(_first), routes=OPEN_TABLE))
    [first, *_] = handshake(app, f"/chat/{name}", token())
    assert first["type"] == f"websocket.{kind}"


def test_fastapi_below_a_root_path() -> None:
    """A path is looked up below it, whether the proxy left it there or took it away."""
    app = fastapi.FastAPI()

    @app.get("/todos/{id}")
    async def todo(id: str) -> Any:  # noqa: A002
        return id

    point = Point()
    row = {"method": "GET", "path": "/todos/{id}", "action": "read", "resource": "todo:{id}"}
    app.add_middleware(BearerMiddleware, server=policed(point, routes=[row]))
    for path, status in (("/todos/1", 200), ("/proxy/todos/1", 200), ("/proxyx/todos/1", 403)):
        assert exchange(app, path, token(), root_path="/proxy").status == status


def fastapi_in_api() -> Any:
    """FastAPI, which takes ``/api`` off its paths; in a layer of somebody else's."""
    app = fastapi.FastAPI()
    app.root_path = "/api"
    app.get("/admin/{id}")(lambda id: id)  # noqa: A006
    return GZipMiddleware(app)


def django_in_api() -> Any:
    """Django with ``FORCE_SCRIPT_NAME``."""
    set_django_up(django_path("admin/<id>", lambda request, id: JsonResponse(id, safe=False)))  # noqa: A006
    return get_asgi_application()


@pytest.mark.parametrize("make", [fastapi_in_api, django_in_api])
def test_a_root_path_of_the_application(make: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """What it takes off a path is no way past the row of the rest."""
    rows = [{"method": "GET", "path": "/admin/*", "scopes": "admin"}, {"method": "*", "path": "/*"}]
    app = make()
    if make is django_in_api:
        monkeypatch.setattr(django_settings, "FORCE_SCRIPT_NAME", "/api")
    ask = partial(exchange, BearerMiddleware(app, server=policed(routes=rows)))
    for path in ("/admin/1", "/api/admin/1"):
        assert ask(path, token(scope="read")).status == 403
        assert ask(path, token(scope="admin")).json == "1"


def test_fastapi_in_a_mount() -> None:
    """Its root path counts below the mount alone."""
    routes = [Mount("/sub", fastapi_in_api()), Route("/top", lambda request: JSONResponse(1))]
    table = [{"method": "GET", "path": "/top"}]
    app = BearerMiddleware(Starlette(routes=routes), server=policed(routes=table))
    assert exchange(app, "/top", token()).status == 200
    mount = BearerMiddleware(routes[0], server=policed(routes=table))
    assert exchange(mount, "/api/top", token()).status == 403


def test_fastapi_shows_no_parameter() -> None:
    """A client can set nothing of the dependency, and sees that a token is needed."""
    app = fastapi.FastAPI()
    may = Annotated[Any, fastapi.Depends(for_fastapi.authorize("read", "todo:{id}"))]

    def todo(id: str, identity: may) -> Any:  # type: ignore[valid-type]  # noqa: A002
        return id

    todo.__annotations__ = {"id": str, "identity": may}
    app.get("/todos/{id}")(todo)
    shown = app.openapi()["paths"]["/todos/{id}"]["get"]
    assert [parameter["name"] for parameter in shown["parameters"]] == ["id"]
    assert shown["security"] == [{"bearer": []}]


@pytest.mark.parametrize(
    ("action", "resource"),
    [
        ("", "todo:1"),
        ("read", ""),
        ("read", ":1"),
        ("read", "to do:1"),
        ("read", "todo:"),
        ("read", 5),
    ],
)
def test_what_cannot_be_meant(action: Any, resource: Any) -> None:
    """Is told when the application is put together."""
    for module in (for_starlette, for_flask, for_django):
        with pytest.raises(ConfigError):
            module.requires(action, resource)
    with pytest.raises(ConfigError):
        for_fastapi.authorize(action, resource)


def test_async_functions_need_async_endpoints() -> None:
    """A plain one cannot wait for them."""
    with pytest.raises(ConfigError):
        for_flask.requires("read", owned_later)
    with pytest.raises(ConfigError):
        for_starlette.requires("read", owned_later)(lambda request: None)
    with pytest.raises(ConfigError):
        for_django.requires("read", owned_later)(lambda request: None)
