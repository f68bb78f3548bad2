"""``bearer_middleware.authorizer``: what handlers ask, and how they are refused."""

from __future__ import annotations

import asyncio
import gc
import io
import json
import logging
import weakref
from typing import Any
from wsgiref.handlers import SimpleHandler

import anyio
import anyio.lowlevel
import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

from bearer_middleware import BearerMiddleware, WSGIBearerMiddleware
from bearer_middleware.errors import Unavailable
from bearer_middleware.policy.model import Action, Obligation, Resource, indeterminate
from tests.contract.wire import call, converse, environ_of, exchange, handshake, scope_of
from tests.policy.conftest import (
    ROUTES,
    NearPoint,
    Point,
    asgi_app,
    decision,
    over_asgi,
    over_wsgi,
    policed,
    token,
    wsgi_app,
)

KEY = "bearer_middleware.authorizer"
Handler = Any


def _even(request: Any) -> Any:
    """Todos with an even number are for everybody."""
    return decision("permit" if request.resource.id[-1:] in "02468" else "deny")


class World:
    """Runs a handler, a generator that yields questions, as each world would."""

    def __init__(self, kind: str) -> None:
        self.kind = kind

    def ask(self, point: Any, handler: Handler, *, headers: Any = None, **said: Any) -> Any:
        said.setdefault("routes", [{"method": "*", "path": "/{id}", "policy": False}])
        server = policed(point, **said)
        headers = token() if headers is None else headers
        if self.kind == "wsgi":
            return call(WSGIBearerMiddleware(self._wsgi(handler), server=server), "/7", headers)
        return exchange(BearerMiddleware(self._asgi(handler), server=server), "/7", headers)

    def _wsgi(self, handler: Handler) -> Any:
        def app(environ: Any, start_response: Any) -> list[bytes]:
            conversation, reply = handler(environ[KEY]), None
            try:
                while True:
                    reply = conversation.send(reply)
            except StopIteration as done:
                start_response("200 OK", [("Content-Type", "application/json")])
                return [json.dumps(done.value).encode()]

        return app

    def _asgi(self, handler: Handler) -> Any:
        async def app(scope: Any, receive: Any, send: Any) -> None:
            conversation, reply = handler(scope[KEY]), None
            try:
                while True:
                    reply = await conversation.send(reply)
            except StopIteration as done:
                await JSONResponse(done.value)(scope, receive, send)

        async def blocking(scope: Any, receive: Any, send: Any) -> None:
            def work() -> Any:
                conversation, reply = handler(scope[KEY].blocking), None
                try:
                    while True:
                        reply = conversation.send(reply)
                except StopIteration as done:
                    return done.value

            await JSONResponse(await anyio.to_thread.run_sync(work))(scope, receive, send)

        return blocking if self.kind == "blocking" else app


@pytest.fixture(params=["asgi", "blocking", "wsgi"])
def world(request: pytest.FixtureRequest) -> World:
    """Of each kind."""
    return World(request.param)


@pytest.mark.parametrize("kind", [Point, NearPoint])
def test_permitted(world: World, kind: Any) -> None:
    """For a resource as people write it; text is divided at the first colon only."""
    point = kind(_even)

    def handler(authorizer: Any) -> Any:
        return [
            (yield authorizer.permitted("read", "todo:{id}")),
            (yield authorizer.permitted("read", "todo:a:b:2")),
            (yield authorizer.permitted(Action("read"), Resource("todo", "{id}"), ip="::1")),
            (yield authorizer.permitted("read", "todo:{other}4")),
            (yield authorizer.permitted("read", "todo")),
        ]

    assert world.ask(point, handler).json == [False, True, False, True, False]
    asked = [(request.resource.type, request.resource.id) for request in point.asked]
    assert asked == [("todo", i) for i in ("7", "a:b:2", "{id}", "{other}4", "*")]
    assert point.asked[2].context["ip"] == "::1"


@pytest.mark.parametrize("kind", [Point, NearPoint])
def test_the_same_question_is_put_once(world: World, kind: Any) -> None:
    """Whoever asks: the middleware, or a handler, however often; other circumstances are
    another question.
    """
    point = kind()

    def handler(authorizer: Any) -> Any:
        for _ in range(3):
            yield authorizer.permitted("read", "todo:{id}")
            yield authorizer.require("read", Resource("todo", "7"))
            yield authorizer.filter("read", ["7", "7", "8"], key=lambda name: f"todo:{name}")
        yield authorizer.permitted("read", "todo:7", at="night")
        yield authorizer.permitted("read", Resource("todo", "7", {"owner": "bob"}))

    row = {"method": "GET", "path": "/{id}", "action": "read", "resource": "todo:{id}"}
    assert world.ask(point, handler, routes=[row]).status == 200
    assert [request.resource.id for request in point.asked] == ["7", "8", "7", "7"]


@pytest.mark.parametrize("late", [False, True])
def test_wsgi_applications_that_ask_when_they_have_begun(*, late: bool) -> None:
    """What was not sent yet is replaced, as PEP 3333 has it: with the failure."""

    def app(environ: Any, start_response: Any) -> Any:
        start_response("200 OK", [("Content-Type", "text/plain")])
        environ[KEY].require("read", "todo:1")
        return [b"secret"]

    def app_that_yields(environ: Any, start_response: Any) -> Any:
        yield from app(environ, start_response)

    table = [{"method": "*", "path": "/", "policy": False}]
    server = policed(_even, routes=table)
    around = WSGIBearerMiddleware(app_that_yields if late else app, server=server)
    sent = io.BytesIO()
    environ = environ_of("/", token())
    handler = SimpleHandler(io.BytesIO(), sent, io.StringIO(), environ)
    handler.os_environ = environ
    handler.run(around)
    assert sent.getvalue().startswith(b"HTTP/1.0 403 Forbidden")
    assert b"secret" not in sent.getvalue()


def test_items_are_no_templates(world: World) -> None:
    """Their names are data, whatever stands in them."""
    point = Point(_even)

    def handler(authorizer: Any) -> Any:
        return (yield authorizer.filter("read", ["{id}", "2"], key=lambda name: f"todo:{name}"))

    assert world.ask(point, handler).json == ["2"]
    assert [request.resource.id for request in point.asked] == ["{id}", "2"]


def test_filter_is_one_batch(world: World) -> None:
    """AZ-5: in their order; what a short answer leaves out is denied."""
    point = Point(_even)

    def handler(authorizer: Any) -> Any:
        items = [{"id": number} for number in range(100)]
        kept = yield authorizer.filter("read", items, key=lambda item: f"todo:{item['id']}")
        return [item["id"] for item in kept]

    assert world.ask(point, handler).json == list(range(0, 100, 2))
    assert point.batches == [100]


class Odd(Point):
    """Answers batches in its own way."""

    def decide_many(self, requests: Any, deadline: float, *, fresh: bool = False) -> Any:
        yield from ()
        return self.answer(requests)


PERMIT = decision("permit")


@pytest.mark.parametrize(
    ("answer", "status", "kept"),
    [
        (lambda requests: [PERMIT], 200, [1]),
        (lambda requests: [], 200, []),
        (lambda requests: [PERMIT] * 4, 503, None),
        (lambda requests: [PERMIT, True, PERMIT], 503, None),
        (lambda requests: None, 503, None),
        (lambda requests: 1 / 0, 503, None),
        (lambda requests: [PERMIT, indeterminate("timeout"), PERMIT], 503, None),
    ],
)
def test_odd_batches(world: World, answer: Any, status: int, kept: Any) -> None:
    """AZ-5: a shorter one denies the rest, any other is no answer."""

    def handler(authorizer: Any) -> Any:
        return (yield authorizer.filter("read", [1, 2, 3], key=lambda number: f"todo:{number}"))

    reply = world.ask(Odd(answer), handler)
    assert reply.status == status
    if kept is not None:
        assert reply.json == kept


@pytest.mark.parametrize(
    ("said", "status"),
    [
        (decision("permit"), 200),
        (decision("deny"), 403),
        (decision("deny", acr_values=("loa3",)), 401),
        (indeterminate("timeout"), 503),
    ],
)
def test_require(world: World, said: Any, status: int) -> None:
    """The request is refused as the middleware refuses it, also where no framework helps."""

    def handler(authorizer: Any) -> Any:
        yield authorizer.require("update", "todo:{id}")
        return "done"

    reply = world.ask(Point(said), handler)
    assert reply.status == status
    if status == 401:
        assert 'acr_values="loa3"' in (reply.challenge or "")
    if status != 200:
        assert reply.header("content-type") == "application/problem+json"


def test_decide(world: World) -> None:
    """The decision itself, which is never a truth value."""

    def handler(authorizer: Any) -> Any:
        said = yield authorizer.decide("read", "todo:{id}")
        with pytest.raises(TypeError):
            bool(said)
        return [said.effect, *said.reasons]

    said = decision("deny", reasons=("rule-7",))
    assert world.ask(Point(said), handler).json == ["deny", "rule-7"]
    obliged = decision("permit", obligations=(Obligation("unheard-of"),))
    assert world.ask(Point(obliged), handler).json == ["deny"]


@pytest.mark.parametrize("ask", ["permitted", "require"])
def test_where_nobody_can_decide(world: World, ask: str) -> None:
    """503, from either; and where there is only a table."""

    def handler(authorizer: Any) -> Any:
        return (yield getattr(authorizer, ask)("read", "todo:1"))

    assert world.ask(Point(indeterminate("timeout")), handler).status == 503
    assert world.ask(None, handler).status == 503


def test_anonymous_callers_may_nothing(world: World) -> None:
    """And nobody is asked about them."""
    point = Point()

    def handler(authorizer: Any) -> Any:
        said = yield authorizer.decide("read", "todo:1")
        return [
            (yield authorizer.permitted("read", "todo:1")),
            (yield authorizer.filter("read", [1], key=lambda number: f"todo:{number}")),
            said.effect,
        ]

    def required(authorizer: Any) -> Any:
        yield authorizer.require("read", "todo:1")

    public = [{"method": "GET", "path": "/{id}", "public": True}]
    assert world.ask(point, handler, headers=[], routes=public).json == [False, [], "deny"]
    reply = world.ask(point, required, headers=[], routes=public)
    assert (reply.status, reply.challenge) == (401, 'Bearer realm="api"')
    assert point.asked == []
    assert world.ask(None, required, headers=[], routes=public).status == 401


@pytest.mark.parametrize("resource", ["todo:", "", ":1", "todo:" + "x" * 5000])
def test_no_resources(world: World, resource: str) -> None:
    """What comes of a value that was not there, or far too long, is denied, not asked."""
    point = Point()

    def handler(authorizer: Any) -> Any:
        return (yield authorizer.permitted("read", resource))

    assert world.ask(point, handler).json is False
    assert point.asked == []


def test_a_forgotten_await() -> None:
    """Is no permit: a question has no truth value, and can not be gone through."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        authorizer = scope[KEY]
        for question in (
            authorizer.permitted("read", "todo:1"),
            authorizer.decide("read", "todo:1"),
            authorizer.filter("read", [1], key=str),
        ):
            with pytest.raises(TypeError, match="await it"):
                bool(question)
        with pytest.raises(TypeError):
            list(authorizer.filter("read", [1], key=str))
        await JSONResponse("came through")(scope, receive, send)

    assert exchange(BearerMiddleware(app, server=policed(Point())), "/", token()).status == 200


@pytest.mark.parametrize("kind", ["plain", "starlette"])
def test_a_requirement_that_is_not_awaited(kind: str, caplog: Any) -> None:
    """Withholds the answer: the application did not wait to hear whether the caller may."""

    async def endpoint(request: Request) -> JSONResponse:
        request.scope[KEY].require("read", "todo:1")
        return JSONResponse("secret")

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await (await endpoint(Request(scope)))(scope, receive, send)

    inner: Any = app if kind == "plain" else Starlette(routes=[Route("/", endpoint)])
    reply = exchange(BearerMiddleware(inner, server=policed(Point())), "/", token())
    assert reply.status == 503
    assert b"secret" not in reply.body
    assert "never awaited" in caplog.text


def test_a_requirement_that_is_not_awaited_by_a_websocket() -> None:
    """It is not accepted."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        scope[KEY].require("read", "todo:1")
        await send({"type": "websocket.accept"})
        await send({"type": "websocket.send", "text": "secret"})

    wrapped = BearerMiddleware(app, server=policed(Point()))
    sent = handshake(wrapped, "/", token(), can_deny=False)
    assert sent == [{"type": "websocket.close", "code": 1013, "reason": ""}]


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_a_requirement_that_is_not_awaited_later(backend: str) -> None:
    """Once something was sent: a response is cut, and a websocket is closed."""

    async def stream(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"free", "more_body": True})
        scope[KEY].require("read", "todo:1")
        await send({"type": "http.response.body", "body": b"secret"})

    async def socket(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        await send({"type": "websocket.accept"})
        await send({"type": "websocket.send", "text": "free"})
        scope[KEY].require("read", "todo:1")
        await send({"type": "websocket.send", "text": "secret"})
        await send({"type": "websocket.close", "code": 1000})

    server, sent = policed(Point()), list[Any]()

    async def broken() -> None:
        async def send(message: Any) -> None:
            sent.append(message)

        scope = scope_of("/", token())
        await BearerMiddleware(stream, server=server)(scope, anyio.sleep_forever, send)

    with pytest.raises(Unavailable):
        anyio.run(broken, backend=backend)
    assert [message.get("body") for message in sent] == [None, b"free"]
    told = handshake(BearerMiddleware(socket, server=server), "/", token(), backend=backend)
    assert [message.get("text") for message in told] == [None, "free", None]
    assert told[-1] == {"type": "websocket.close", "code": 1013, "reason": ""}


@pytest.mark.parametrize("caught", [False, True])
@pytest.mark.parametrize("resource", ["todo:1", "todo:2"])
def test_wsgi_applications_that_begin_late(resource: str, *, caught: bool) -> None:
    """A generator begins only when it is read: it is refused as any other, and closed."""
    ended: list[bool] = []

    def app(environ: Any, start_response: Any) -> Any:
        try:
            environ[KEY].require("read", resource)
            start_response("200 OK", [("Content-Type", "text/plain")])
            yield b"let "
            yield b"through"
        except Exception:
            if not caught:
                raise
            start_response("500 Internal Server Error", [("Content-Type", "text/plain")])
            yield b"my own"
        finally:
            ended.append(True)

    server = policed(_even, routes=[{"method": "*", "path": "/", "policy": False}])
    reply = call(WSGIBearerMiddleware(app, server=server), "/", token())
    assert ended == [True]
    if resource == "todo:2":
        assert (reply.status, reply.body) == (200, b"let through")
    else:
        assert (reply.status, reply.json) == (403, {"status": 403, "title": "Forbidden"})


@pytest.mark.parametrize("wrapped", [False, True])
def test_requirements_of_a_task_group(*, wrapped: bool) -> None:
    """What they raise together is a refusal; beside another failure it is none."""

    async def several(authorizer: Any, *work: Any) -> None:
        async def ask(name: str) -> None:
            await authorizer.require("read", f"todo:{name}")

        async with asyncio.TaskGroup() as tasks:
            for name in ("1", "2", "3"):
                tasks.create_task(ask(name))
            for more in work:
                tasks.create_task(more())

    async def fail() -> None:
        raise ZeroDivisionError

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await several(scope[KEY], *([fail] if scope["path"] == "/fail" else []))

    async def endpoint(request: Request) -> JSONResponse:
        await several(request.scope[KEY], *([fail] if request.url.path == "/fail" else []))
        return JSONResponse("never")

    inner = Starlette(routes=[Route("/{name}", endpoint)]).router if wrapped else app
    table = [{"method": "*", "path": "/*", "policy": False}]
    around = BearerMiddleware(inner, server=policed(_even, routes=table))
    assert exchange(around, "/all", token()).status == 403
    with pytest.raises(ExceptionGroup):
        exchange(around, "/fail", token())


def test_requirements_of_other_tasks() -> None:
    """What one task sends is not held up by what another is just about to await."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        await send({"type": "websocket.accept"})
        first, second = scope[KEY].require("read", "todo:1"), scope[KEY].require("read", "todo:2")
        said = send({"type": "websocket.send", "text": "both"})
        await asyncio.gather(said, first, second)
        await send({"type": "websocket.close", "code": 1000})

    told = handshake(BearerMiddleware(app, server=policed(Point())), "/", token())
    assert [message.get("text") for message in told] == [None, "both", None]
    assert told[-1]["code"] == 1000


@pytest.mark.parametrize("forgotten", [False, True])
def test_a_requirement_that_is_awaited_twice(*, forgotten: bool) -> None:
    """It is one requirement, and makes up for no other."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        required = scope[KEY].require("read", "todo:1")
        await required
        await required
        if forgotten:
            scope[KEY].require("read", "todo:2")
        await asgi_app(scope, receive, send)

    reply = exchange(BearerMiddleware(app, server=policed(Point())), "/", token())
    assert reply.status == (503 if forgotten else 204)


def test_what_lasts_asks_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """A websocket that is open for long is not let go on by what was said at its beginning."""
    point, now = Point(), [1000.0]
    heard: list[bool] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        for _ in range(2):
            heard.append(await scope[KEY].permitted("read", "todo:1"))
            now[0] += 10
            point.answer = decision("deny")
        await send({"type": "websocket.close", "code": 1000})

    server = policed(point, given={"clock": lambda: now[0]}, leeway=120)
    wrapped = BearerMiddleware(app, server=server)
    handshake(wrapped, "/", token(iat=900, exp=2000))
    assert heard == [True, False]


async def _at_once(app: Any, number: int) -> list[Any]:
    replies: list[Any] = []

    async def one() -> None:
        replies.append(
            await converse(app, scope_of("/todos/1", token()), [{"type": "http.request"}])
        )

    async with anyio.create_task_group() as tasks:
        for _ in range(number):
            tasks.start_soon(one)
    return replies


def test_many_at_once() -> None:
    """Each gets its own answer, also where the decision point is slow."""

    async def policy(request: Any) -> bool:
        await anyio.lowlevel.checkpoint()
        return request.subject.id == "alice"

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await JSONResponse(await scope[KEY].permitted("read", "todo:1"))(scope, receive, send)

    wrapped = BearerMiddleware(app, server=policed(policy, routes=ROUTES))
    replies = anyio.run(_at_once, wrapped, 200)
    assert [reply[0]["status"] for reply in replies] == [200] * 200


def test_nothing_secret_is_logged(world: World, caplog: Any) -> None:
    """Neither the token nor what the decision point said."""
    caplog.set_level(logging.DEBUG)

    def policy(request: Any) -> Any:
        raise RuntimeError("canary")

    def handler(authorizer: Any) -> Any:
        yield authorizer.require("read", "todo:1")

    headers = token(sub="canary-subject")
    reply = world.ask(policy, handler, headers=headers)
    assert reply.status == 503
    assert "canary" not in f"{caplog.text}{reply}"
    assert headers[0][1].split()[1].decode() not in caplog.text  # type: ignore[union-attr]


class _Noticed(dict[str, Any]):
    """A part of a request that can be watched."""


@pytest.mark.parametrize("kind", ["asgi", "wsgi"])
def test_nothing_of_a_request_stays(kind: str) -> None:
    """Scope and environ, with the token in them, are gone without waiting to be collected."""
    kept: list[Any] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        scope["noticed"] = noticed = _Noticed()
        kept.append(weakref.ref(noticed))
        await scope[KEY].permitted("read", "todo:1")
        await asgi_app(scope, receive, send)

    def wsgi(environ: Any, start_response: Any) -> list[bytes]:
        environ["test.noticed"] = noticed = _Noticed()
        kept.append(weakref.ref(noticed))
        environ[KEY].permitted("read", "todo:1")
        return wsgi_app(environ, start_response)

    server = policed(Point())
    ask = over_asgi(server, app) if kind == "asgi" else over_wsgi(server, wsgi)
    ask("/", token())
    gc.collect()
    gc.disable()
    try:
        ask("/", token())
        assert kept[1]() is None
    finally:
        gc.enable()
