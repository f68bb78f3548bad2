"""The FastAPI adapter: a typed dependency that enforces scopes and shows in OpenAPI."""

from typing import Annotated, Any

import pytest
from fastapi import APIRouter, BackgroundTasks, Depends, FastAPI, Request, Security, WebSocket
from fastapi.responses import JSONResponse, StreamingResponse
from pydantic import BaseModel
from starlette.exceptions import HTTPException

from bearer_middleware import BearerMiddleware, Identity
from bearer_middleware.web import starlette
from bearer_middleware.web.fastapi import current_identity, optional_identity
from tests.contract.wire import (
    ISSUER,
    bearer,
    exchange,
    handshake,
    protected,
    reply_of,
    server_of,
)

READER = bearer(ISSUER.jwt(scope="read"))
WRITER = bearer(ISSUER.jwt(scope="read write"))
DENIAL = "websocket.http.response"

Anybody = Annotated[Identity, Security(current_identity)]
Reader = Annotated[Identity, Security(current_identity, scopes=["read"])]
Writer = Annotated[Identity, Security(current_identity, scopes=["read", "write"])]
Perhaps = Annotated[Identity | None, Security(optional_identity)]
PerhapsWriter = Annotated[Identity | None, Security(optional_identity, scopes=["write"])]


def forbidden(scope):
    """The challenge where ``scope`` is needed."""
    return f'Bearer realm="api", error="insufficient_scope", scope="{scope}"'


class Order(BaseModel):
    amount: int


def _editor(identity: Reader) -> str:
    return f"editor {identity.subject}"


router = APIRouter()


@router.get("/anybody")
async def _anybody(identity: Anybody) -> Any:
    return identity.subject


@router.get("/plain")
def _plain(identity: Reader) -> Any:
    return identity.subject


@router.get("/writer")
async def _writer(identity: Writer) -> Any:
    return identity.subject


@router.post("/orders")
async def _order(order: Order, identity: Writer) -> Any:
    return order.amount


@router.get("/perhaps")
async def _perhaps(identity: Perhaps) -> Any:
    return identity and identity.subject


@router.get("/perhaps-writer")
async def _perhaps_writer(identity: PerhapsWriter) -> Any:
    return identity and identity.subject


@router.get("/nested")
async def _nested(who: Annotated[str, Security(_editor, scopes=["write"])]) -> Any:
    return who


@router.get("/unnamed", dependencies=[Security(current_identity, scopes=["write"])])
async def _unnamed() -> Any:
    return "in"


@router.get("/depends")
async def _depends(identity: Annotated[Identity, Depends(current_identity)]) -> Any:
    return identity.subject


@router.get("/decorated")
@starlette.requires_scopes("write")
async def _decorated(request: Request) -> Any:
    return {"in": "async"}


@router.get("/decorated-plain")
@starlette.requires_scopes("write")
def _decorated_plain(request: Request, page: int = 1) -> Any:
    return {"page": page}


@router.get("/stream")
async def _stream(identity: Writer) -> Any:
    return StreamingResponse(iter(["a", "b"]))


@router.get("/misspelt")
async def _misspelt(identity: Annotated[Any, Security(current_identity, scopes=["a b"])]) -> Any:
    raise AssertionError


@router.websocket("/feed")
async def _feed(websocket: WebSocket, identity: Writer) -> None:
    await websocket.accept()
    await websocket.send_text(identity.subject or "")
    await websocket.close()


def application(*, among_its_own=True, app=None, **settings):
    """The routes, with the middleware inside or around."""
    app = app or FastAPI()
    app.include_router(router)
    if not among_its_own:
        return protected(app, **settings)
    app.add_middleware(BearerMiddleware, server=server_of(**settings))
    return app


APPS = {
    "among": application(),
    "around": application(among_its_own=False),
}


@pytest.fixture(params=APPS.values(), ids=APPS)
def app(request):
    """The application, both ways."""
    return request.param


@pytest.mark.parametrize("path", ["/anybody", "/plain", "/depends"])
def test_the_identity(app, path):
    """A handler gets it by its type."""
    reply = exchange(app, path, READER)
    assert (reply.status, reply.json) == (200, "alice")


@pytest.mark.parametrize(
    ("path", "scope"),
    [
        ("/writer", "read write"),
        ("/nested", "write read"),
        ("/unnamed", "write"),
        ("/decorated", "write"),
        ("/decorated-plain", "write"),
        ("/stream", "read write"),
    ],
)
def test_scopes(app, path, scope):
    """ERR-5: all that are needed, the outer ones too, refused as the middleware does it."""
    assert exchange(app, path, WRITER).status == 200
    reply = exchange(app, path, READER)
    assert (reply.status, set(_scope(reply.challenge))) == (403, set(scope.split()))
    assert reply.json == {"status": 403, "title": "Forbidden", "error": "insufficient_scope"}
    assert reply.header("content-type") == "application/problem+json"
    assert reply.header("cache-control") == "no-store"
    assert reply.header("content-length") == str(len(reply.body))


def _scope(challenge):
    return challenge.rpartition('scope="')[2].removesuffix('"').split()


def test_scopes_of_a_router():
    """``dependencies`` of application and router come first, each for itself."""
    inner = APIRouter(dependencies=[Security(current_identity, scopes=["write"])])
    inner.get("/")(lambda: "in")
    app = FastAPI()
    app.include_router(inner)
    app = protected(app)
    assert exchange(app, "/", WRITER).status == 200
    assert exchange(app, "/", READER).challenge == forbidden("write")


def test_a_mounted_application(app):
    """Its own handlers are asked, and ours is among them."""
    outer = FastAPI()
    outer.mount("/inner", app)
    reply = exchange(outer, "/inner/writer", READER)
    assert (reply.status, reply.challenge) == (403, forbidden("read write"))
    assert reply.header("content-type") == "application/problem+json"


def test_who_shows_nothing_learns_nothing(app):
    """ERR-3: the body is not validated for a stranger: 401, not 422."""
    reply = exchange(app, "/orders", method="POST")
    assert (reply.status, reply.challenge) == (401, 'Bearer realm="api"')


def test_who_may_not_learns_nothing(app):
    """ERR-5: nor for who lacks a scope."""
    assert exchange(app, "/orders", READER, method="POST").status == 403
    assert exchange(app, "/orders", WRITER, method="POST").status == 422


def test_anonymous_on_a_protected_route():
    """ERR-3: where the API lets anonymous callers in, the route does not."""
    app = application(optional=True)
    for path in ("/anybody", "/writer", "/nested"):
        reply = exchange(app, path)
        assert reply.status == 401
        assert reply.challenge.startswith('Bearer realm="api"')
        assert ('scope="' in reply.challenge) is (path != "/anybody")
        assert "error" not in reply.challenge
        assert reply.json == {"status": 401, "title": "Unauthorized"}


def test_optional_identity():
    """``None`` for who shows nothing; scopes bind who shows a token."""
    app = application(optional=True)
    assert exchange(app, "/perhaps").json is None
    assert exchange(app, "/perhaps", READER).json == "alice"
    assert exchange(app, "/perhaps-writer").json is None
    assert exchange(app, "/perhaps-writer", WRITER).json == "alice"
    assert exchange(app, "/perhaps-writer", READER).challenge == forbidden("write")


def test_no_middleware_around(caplog):
    """ERR-16: fail closed, as 503 and with a word in the log."""
    app = FastAPI()
    app.include_router(router)
    reply = exchange(app, "/anybody", READER)
    assert (reply.status, reply.json["title"]) == (503, "Service Unavailable")
    assert "no BearerMiddleware is around" in caplog.text


def test_a_scope_that_is_none(app, caplog):
    """ERR-8: FastAPI shows it only when the route is called: nobody is let in, and it is logged."""
    assert exchange(app, "/misspelt", WRITER).status == 503
    assert "scope of RFC 6749" in caplog.text


def test_a_websocket(app):
    """ASGI-3: as over HTTP, or by a code before it is accepted."""
    messages = handshake(app, "/feed", WRITER)
    assert [message.get("text") for message in messages] == [None, "alice", None]
    reply = reply_of(handshake(app, "/feed", READER), DENIAL)
    assert (reply.status, reply.challenge) == (403, forbidden("read write"))
    [message] = handshake(app, "/feed", READER, can_deny=False)
    assert (message["type"], message["code"]) == ("websocket.close", 1008)


def test_a_handler_of_all_http_exceptions_is_not_asked():
    """It would lose the challenge."""

    async def handler(request, error):
        raise AssertionError

    app = application(app=FastAPI(exception_handlers={HTTPException: handler}))
    assert exchange(app, "/writer", READER).challenge == forbidden("read write")


def test_the_application_may_answer_by_itself():
    """Its handler for our class goes first."""

    async def handler(request, refusal):
        return JSONResponse("no", refusal.status_code, refusal.headers)

    app = application(app=FastAPI(exception_handlers={starlette.Refusal: handler}))
    reply = exchange(app, "/writer", READER)
    assert (reply.json, reply.challenge) == ("no", forbidden("read write"))


def test_dependencies_with_yield_see_the_refusal():
    """As any exception of a route: what they hold is given back."""
    seen = []

    async def session():
        try:
            yield
        except starlette.Refusal as refusal:
            seen.append(refusal.status_code)
            raise

    app = FastAPI()
    app.get("/", dependencies=[Depends(session), Security(current_identity, scopes=["write"])])(
        lambda: "in"
    )
    assert exchange(protected(app), "/", READER).status == 403
    assert seen == [403]


def test_background_tasks_of_a_refused_request_do_not_run():
    """Whoever is refused starts nothing."""
    app = FastAPI()
    ran = []

    async def before(tasks: BackgroundTasks):
        tasks.add_task(ran.append, 1)

    app.get("/", dependencies=[Depends(before), Security(current_identity, scopes=["write"])])(
        lambda: "in"
    )
    assert exchange(protected(app), "/", READER).status == 403
    assert exchange(protected(app), "/", WRITER).status == 200
    assert ran == [1]


def test_tests_may_put_somebody_in_its_place():
    """``dependency_overrides`` needs no token and no middleware."""
    app = FastAPI()
    app.include_router(router)
    app.dependency_overrides[current_identity] = lambda: Identity(subject="bob")
    assert exchange(app, "/writer").json == "bob"


def test_openapi():
    """One bearer scheme, the scopes on the operations, no parameter that a client could set."""
    app = FastAPI()
    app.include_router(router)
    document = app.openapi()
    [(name, scheme)] = document["components"]["securitySchemes"].items()
    assert (name, scheme["type"], scheme["scheme"]) == ("bearer", "http", "bearer")
    operations = {path: next(iter(item.values())) for path, item in document["paths"].items()}
    assert operations["/anybody"]["security"] == [{"bearer": []}]
    assert operations["/perhaps"]["security"] == [{"bearer": []}]
    assert operations["/unnamed"]["security"] == [{"bearer": ["write"]}]
    assert operations["/writer"]["security"] == [{"bearer": ["read", "write"]}]
    assert set(operations["/nested"]["security"][0]["bearer"]) == {"read", "write"}
    for path, operation in operations.items():
        parameters = [parameter["name"] for parameter in operation.get("parameters", ())]
        assert parameters == (["page"] if path == "/decorated-plain" else [])
    assert list(operations["/orders"]["requestBody"]["content"]) == ["application/json"]
    assert "requestBody" not in operations["/writer"]
