"""The Starlette adapter: every kind of endpoint, refused to the byte as the middleware does it."""

import functools

import anyio
import pytest
from starlette.applications import Starlette
from starlette.endpoints import HTTPEndpoint, WebSocketEndpoint
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse
from starlette.routing import Mount, Route, WebSocketRoute
from starlette.websockets import WebSocket

from bearer_middleware import BearerMiddleware, ConfigError
from bearer_middleware.web.starlette import Refusal, current_identity, requires_scopes
from tests.contract.wire import (
    ISSUER,
    bearer,
    converse,
    exchange,
    handshake,
    protected,
    reply_of,
    server_of,
)

READER = bearer(ISSUER.jwt(scope="read"))
WRITER = bearer(ISSUER.jwt(scope="read write"))
FORBIDDEN = 'Bearer realm="api", error="insufficient_scope", scope="read write"'
DENIAL = "websocket.http.response"


def subject(connection):
    """Who is calling."""
    identity = current_identity(connection)
    return None if identity is None else identity.subject


@requires_scopes("read", "write")
async def _asynchronous(request: Request):
    return JSONResponse(subject(request))


@requires_scopes("read", "write")
def _plain(request: Request):
    return JSONResponse(subject(request))


async def _with_more(prefix: str, request: Request):
    return JSONResponse(subject(request))


class Endpoint(HTTPEndpoint):
    @requires_scopes("read", "write")
    async def get(self, request):
        return JSONResponse(subject(request))

    @requires_scopes("read", "write")
    def post(self, request):
        return JSONResponse(subject(request))


ROUTES = [
    Route("/async", _asynchronous),
    Route("/plain", _plain),
    Route("/partial", requires_scopes("read", "write")(functools.partial(_with_more, "x"))),
    Route("/class", Endpoint),
    Mount("/inner", Starlette(routes=[Route("/async", _asynchronous), Route("/class", Endpoint)])),
]
PATHS = ["/async", "/plain", "/partial", "/class", "/inner/async", "/inner/class"]


def among(app, **settings):
    """Added as the application's own middleware."""
    app.add_middleware(BearerMiddleware, server=server_of(**settings))
    return app


def application(*routes, among_its_own, **settings):
    """These routes, with the middleware inside or around."""
    app = Starlette(routes=[*routes])
    return among(app, **settings) if among_its_own else protected(app, **settings)


@pytest.mark.parametrize("among_its_own", [True, False])
@pytest.mark.parametrize("path", PATHS)
def test_endpoints(path, among_its_own):
    """ERR-5: functions, methods, plain and async, mounted or not."""
    app = application(*ROUTES, among_its_own=among_its_own)
    allowed = exchange(app, path, WRITER)
    assert (allowed.status, allowed.json) == (200, "alice")
    refused = exchange(app, path, READER)
    assert (refused.status, refused.challenge) == (403, FORBIDDEN)
    assert refused.json == {"status": 403, "title": "Forbidden", "error": "insufficient_scope"}
    assert refused.header("content-type") == "application/problem+json"
    assert refused.header("cache-control") == "no-store"
    assert refused.header("content-length") == str(len(refused.body))


def test_a_refusal_is_the_middlewares():
    """Whether API or route needs the scope, nobody can tell from the answer."""
    route = Route("/", requires_scopes("write")(_with_request))
    by_the_route = exchange(application(route, among_its_own=True), "/", READER)
    by_the_api = exchange(protected(None, required_scopes="write"), "/", READER)
    assert by_the_route == by_the_api


async def _with_request(request):
    return JSONResponse(subject(request))


def test_a_method_of_a_class():
    """Each method has its own decorator."""
    app = application(*ROUTES, among_its_own=True)
    assert exchange(app, "/class", WRITER, method="POST").json == "alice"
    assert exchange(app, "/class", READER, method="POST").challenge == FORBIDDEN


def test_no_scopes_means_any_identity():
    """ERR-3: anonymous callers are challenged, without an error code."""
    route = Route("/", requires_scopes()(_with_request))
    app = application(route, among_its_own=True, optional=True)
    assert exchange(app, "/", READER).status == 200
    refused = exchange(app)
    assert (refused.status, refused.challenge) == (401, 'Bearer realm="api"')


def test_nobody_is_none():
    """``current_identity`` refuses nobody."""
    app = application(Route("/", _with_request), among_its_own=True, optional=True)
    assert exchange(app).json is None


def test_head_has_no_body():
    """The headers are those of GET."""
    app = application(*ROUTES, among_its_own=True)
    get, head = exchange(app, "/async", READER), exchange(app, "/async", READER, method="HEAD")
    assert (head.status, head.headers, head.body) == (get.status, get.headers, b"")


def test_no_middleware_around(caplog):
    """ERR-16: fail closed, as 503 and with a word in the log."""
    reply = exchange(Starlette(routes=ROUTES), "/async", WRITER)
    assert (reply.status, reply.challenge) == (503, None)
    assert "no BearerMiddleware is around" in caplog.text


def test_mistakes_come_out_when_the_server_starts():
    """Starlette builds what it was given at its first call, which is the lifespan."""
    app = Starlette(routes=ROUTES)
    app.add_middleware(BearerMiddleware)
    with pytest.raises(ConfigError, match="BEARER_AUDIENCE"):
        anyio.run(converse, app, {"type": "lifespan"}, [{"type": "lifespan.startup"}])


def test_an_endpoint_without_a_connection():
    """It is said when the decorator is applied."""
    with pytest.raises(ConfigError, match="request or websocket"):

        @requires_scopes("read")
        def endpoint(order_id):
            """Never called."""


def test_the_endpoint_keeps_its_name():
    """Routes are named after it."""
    assert (_asynchronous.__name__, _plain.__name__) == ("_asynchronous", "_plain")


def test_the_application_may_answer_by_itself():
    """Its handler for our class goes first, and gets the answer that would have been sent."""

    async def handler(request, refusal):
        return PlainTextResponse("no", refusal.answer.status)

    app = Starlette(routes=ROUTES, exception_handlers={Refusal: handler})
    reply = exchange(among(app), "/async", READER)
    assert (reply.status, reply.body) == (403, b"no")


def test_a_handler_of_all_http_exceptions_is_not_asked():
    """It would lose the challenge."""

    async def handler(request, error):
        raise AssertionError

    app = Starlette(routes=ROUTES, exception_handlers={HTTPException: handler})
    assert exchange(among(app), "/async", READER).challenge == FORBIDDEN


def test_a_handler_of_the_status_is_asked():
    """Who handles 403 handles ours, and finds status and challenge on the exception."""

    async def handler(request, error):
        return PlainTextResponse("sorry", error.status_code, error.headers)

    app = Starlette(routes=ROUTES, exception_handlers={403: handler})
    reply = exchange(among(app), "/async", READER)
    assert (reply.body, reply.challenge) == (b"sorry", FORBIDDEN)
    assert reply.header("content-length") == "5"


# Websockets.


@requires_scopes("read", "write")
async def _feed(websocket: WebSocket):
    await websocket.accept()
    await websocket.send_text(subject(websocket))
    await websocket.close()


class Feed(WebSocketEndpoint):
    encoding = "text"

    @requires_scopes("read", "write")
    async def on_connect(self, websocket):
        await websocket.accept()

    async def on_receive(self, websocket, data):
        await websocket.send_text(subject(websocket))
        await websocket.close()


class LateFeed(WebSocketEndpoint):
    encoding = "text"

    @requires_scopes("read", "write")
    async def on_receive(self, websocket, data):
        await websocket.send_text(subject(websocket))
        await websocket.close()


@requires_scopes("read", "write")
async def _patient(websocket: WebSocket):
    await _feed(websocket)


async def _impatient(websocket: WebSocket):
    await websocket.receive()
    await _patient(websocket)


async def _too_late(websocket: WebSocket):
    await websocket.accept()
    await _patient(websocket)


SOCKETS = [
    WebSocketRoute("/function", _feed),
    WebSocketRoute("/class", Feed),
    WebSocketRoute("/late-class", LateFeed),
    WebSocketRoute("/impatient", _impatient),
    WebSocketRoute("/too-late", _too_late),
]
INCOMING = [
    {"type": "websocket.receive", "text": "hello"},
    {"type": "websocket.disconnect", "code": 1000},
]


@pytest.mark.parametrize("among_its_own", [True, False])
@pytest.mark.parametrize("path", ["/function", "/class"])
def test_websockets(path, among_its_own):
    """ASGI-3: let in, refused by an answer, or by a code before it is accepted."""
    app = application(*SOCKETS, among_its_own=among_its_own)
    messages = handshake(app, path, WRITER, incoming=INCOMING)
    assert [message.get("text") for message in messages] == [None, "alice", None]
    reply = reply_of(handshake(app, path, READER), DENIAL)
    assert (reply.status, reply.challenge) == (403, FORBIDDEN)
    assert reply.json["error"] == "insufficient_scope"
    [message] = handshake(app, path, READER, can_deny=False)
    assert (message["type"], message["code"]) == ("websocket.close", 1008)


def test_a_websocket_whose_handshake_was_read():
    """It is not waited for a second one."""
    app = application(*SOCKETS, among_its_own=True)
    assert reply_of(handshake(app, "/impatient", READER), DENIAL).status == 403


@pytest.mark.parametrize("path", ["/too-late", "/late-class"])
def test_a_websocket_that_was_accepted(path):
    """There is no answer any more, only the code that it is closed with."""
    app = application(*SOCKETS, among_its_own=True)
    accept, close = handshake(app, path, READER, incoming=INCOMING)
    assert accept["type"] == "websocket.accept"
    assert (close["type"], close["code"]) == ("websocket.close", 1008)


def test_a_websocket_without_middleware(caplog):
    """ERR-16: the code for trying again later."""
    [message] = handshake(Starlette(routes=SOCKETS), "/function", WRITER, can_deny=False)
    assert (message["type"], message["code"]) == ("websocket.close", 1013)
