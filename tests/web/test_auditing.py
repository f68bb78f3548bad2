"""Refused authentications in the audit trail, in both worlds."""

from __future__ import annotations

import asyncio
import io
import json
import logging
import secrets
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import trio
from django.core.handlers.wsgi import WSGIHandler
from django.urls import path as django_path
from flask import Flask
from starlette.applications import Starlette
from starlette.endpoints import HTTPEndpoint
from starlette.requests import Request
from starlette.routing import Mount, Route, WebSocketRoute

from bearer_middleware import (
    BearerMiddleware,
    ConfigError,
    ResourceServer,
    Settings,
    WSGIBearerMiddleware,
)
from bearer_middleware.audit.auditor import Auditor
from bearer_middleware.audit.opening import Audit
from bearer_middleware.audit.sinks import Function, JsonLines
from bearer_middleware.flow.effects import Flow, HttpRequest
from bearer_middleware.testing import Issuer
from bearer_middleware.web import django as for_django
from bearer_middleware.web import flask as for_flask
from bearer_middleware.web import starlette as for_starlette
from tests.contract.wire import bearer, call, converse, exchange, scope_of
from tests.contract.worlds import set_django_up

Told = list[dict[str, Any]]
Ask = Callable[..., tuple[int, dict[str, str]]]
HEADERS = {
    "Host": "api.test",
    "X-Request-ID": "r-1",
    "User-Agent": "curl/8",
    "Traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
    "Cookie": "session=canary-cookie",
}


async def asgi(server: ResourceServer, token: str | None) -> tuple[int, dict[str, str]]:
    """One request."""
    sent: list[Any] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b""})

    async def send(message: Any) -> None:
        sent.append(message)

    headers = HEADERS | ({} if token is None else {"Authorization": f"Bearer {token}"})
    scope = {
        "type": "http",
        "method": "GET",
        "path": "/todos/42",
        "query_string": b"q=canary-query",
        "client": ("203.0.113.7", 1),
        "headers": [(name.lower().encode(), value.encode()) for name, value in headers.items()],
    }
    await BearerMiddleware(app, server=server)(scope, None, send)  # type: ignore[arg-type]
    await server.aclose()
    told = {name.decode(): value.decode() for name, value in sent[0]["headers"]}
    return sent[0]["status"], told


def wsgi(server: ResourceServer, token: str | None) -> tuple[int, dict[str, str]]:
    """The same, blocking."""
    started: list[Any] = []

    def app(environ: Any, start_response: Any) -> list[bytes]:
        start_response("200 OK", [])
        return []

    headers = HEADERS | ({} if token is None else {"Authorization": f"Bearer {token}"})
    environ = {
        "REQUEST_METHOD": "GET",
        "PATH_INFO": "/todos/42",
        "QUERY_STRING": "q=canary-query",
        "REMOTE_ADDR": "203.0.113.7",
        "wsgi.input": io.BytesIO(b"canary-body"),
        **{f"HTTP_{name.upper().replace('-', '_')}": value for name, value in headers.items()},
    }
    middleware = WSGIBearerMiddleware(app, server=server)
    list(middleware(environ, lambda *words: started.append(words)))
    server.close()
    ((status, told),) = started
    return int(status[:3]), {name.lower(): value for name, value in told}


@pytest.fixture(params=["asyncio", "trio", "wsgi"])
def ask(request: pytest.FixtureRequest) -> Ask:
    """``ask(server, token)`` in each world."""
    if request.param == "wsgi":
        return wsgi
    if request.param == "trio":
        return lambda *what: trio.run(asgi, *what)
    return lambda *what: asyncio.run(asgi(*what))


@pytest.fixture
def issuer() -> Issuer:
    """In process."""
    return Issuer()


@pytest.fixture
def make(issuer: Issuer) -> Callable[..., ResourceServer]:
    """A server with an audit trail."""

    def build(audit: Audit | None = None, **changes: Any) -> ResourceServer:
        settings = Settings(**issuer.settings(**changes))
        return ResourceServer(settings, transport=issuer.transport(), audit=audit)

    return build


Make = Callable[..., ResourceServer]


def test_who_is_refused(ask: Ask, make: Make, issuer: Issuer) -> None:
    """One event for each, with the facts of the request; none for who is let in here."""
    told: Told = []
    server = make([told.append])
    expired = issuer.jwt(exp=1)
    assert ask(server, None)[0] == 401
    assert ask(server, expired)[0] == 401
    assert ask(server, expired)[0] == 401
    assert ask(server, issuer.jwt())[0] == 200
    assert [event["decision"]["reasons"] for event in told] == [
        ["missing"],
        ["expired"],
        ["expired"],
    ]
    for event in told:
        assert event["kind"] == "authentication"
        assert (event["outcome"], event["status"]) == ("deny", 401)
        assert event["request"] == {
            "id": "r-1",
            "method": "GET",
            "route": "/todos/42",
            "host": "api.test",
            "ip": "203.0.113.7",
            "user_agent": "curl/8",
        }
        assert event["trace"]["trace_id"] == "0af7651916cd43dd8448eb211c80319c"


def test_on_the_short_way(ask: Ask, make: Make, issuer: Issuer) -> None:
    """A token that is remembered, and lacks a scope, is refused with an event as well."""
    told: Told = []
    server = make([told.append], required_scopes="admin")
    token = issuer.jwt(scope="read")
    for _ in range(3):
        assert ask(server, token)[0] == 403
    assert [event["status"] for event in told] == [403] * 3
    assert {event["decision"]["reasons"][0] for event in told} == {"insufficient_scope"}


def test_who_cannot_be_known(ask: Ask, make: Make, issuer: Issuer) -> None:
    """Is indeterminate."""
    told: Told = []
    issuer.fail("introspection", status=503)
    assert ask(make([told.append]), issuer.opaque())[0] == 503
    assert (told[0]["outcome"], told[0]["status"]) == ("indeterminate", 503)


def test_a_required_sink_that_fails(ask: Ask, make: Make) -> None:
    """Makes of every refusal a 503: nobody is answered without a trace."""

    def fail(_: Any) -> None:
        raise RuntimeError("canary")

    status, headers = ask(make([Function(fail, required=True)]), None)
    assert status == 503
    assert int(headers["retry-after"]) >= 1
    assert "www-authenticate" not in headers


@pytest.mark.needs("/dev/full")
def test_a_sink_that_fails(
    ask: Ask, make: Make, issuer: Issuer, caplog: pytest.LogCaptureFixture
) -> None:
    """Changes nothing for the caller; health tells, and the log says what is wrong."""
    server = make([JsonLines("/dev/full")])
    assert ask(server, issuer.jwt())[0] == 200
    assert ask(server, None)[0] == 401
    assert "audit_failed: JsonLines raised OSError ENOSPC" in caplog.text
    audit = server.health().parts["audit"]
    assert (audit["status"], audit["failed"]) == ("degraded", 1)
    assert server.health().ready


def test_a_file(ask: Ask, issuer: Issuer, tmp_path: Path) -> None:
    """``BEARER_AUDIT`` names it; it is complete once the server is closed."""
    path = tmp_path / "audit.jsonl"
    settings = Settings(**issuer.settings(audit=path))
    server = ResourceServer(settings, transport=issuer.transport())
    assert not path.exists()
    assert ask(server, None)[0] == 401
    assert json.loads(path.read_text())["schema"] == "bearer_middleware.access/1"


def test_the_log(ask: Ask, issuer: Issuer, caplog: pytest.LogCaptureFixture) -> None:
    """``BEARER_AUDIT=log`` is the logger ``bearer_middleware.audit``."""
    server = ResourceServer(Settings(**issuer.settings(audit="log")), transport=issuer.transport())
    assert ask(server, None)[0] == 401
    (line,) = (one for one in caplog.records if one.name == "bearer_middleware.audit")
    assert line.getMessage().startswith("deny 401 (nobody) authentication (missing) GET /todos/42")


def test_no_audit(issuer: Issuer) -> None:
    """Is the default, and costs nothing; two of them are a mistake, as is what is none."""
    server = ResourceServer(Settings(**issuer.settings()))
    assert server.audit is None
    assert "audit" not in server.health().parts
    with pytest.raises(ConfigError, match="keep one"):
        ResourceServer(Settings(**issuer.settings(audit="log")), audit=[print])
    for wrong in (7, [7], print):
        with pytest.raises(ConfigError, match="audit: must be"):
            ResourceServer(Settings(**issuer.settings()), audit=wrong)  # type: ignore[arg-type]


def test_a_refusal_leaves_no_token(
    ask: Ask, make: Make, issuer: Issuer, caplog: pytest.LogCaptureFixture
) -> None:
    """Nor a cookie, a query or a body: not in an event, not in a log."""
    told: Told = []
    server = make([told.append])
    tokens = [f"canary_{secrets.token_hex(16)}", issuer.jwt(exp=1), issuer.jwt(aud="canary-aud")]
    with caplog.at_level(logging.DEBUG):
        for token in tokens:
            assert ask(server, token)[0] == 401
    assert len(told) == 3
    text = json.dumps(told) + caplog.text
    assert "canary" not in text
    assert not any(token.rpartition(".")[2] in text for token in tokens)


def test_an_async_sink_and_wsgi(make: Make) -> None:
    """It is refused when the middleware is built."""

    async def take(event: Any) -> None: ...

    server = make([take])
    BearerMiddleware(None, server=server)  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="take: an async extension cannot serve WSGI"):
        WSGIBearerMiddleware(None, server=server)  # type: ignore[arg-type]


def test_one_auditor_for_several_servers(ask: Ask, make: Make) -> None:
    """Has one file for all."""
    told: Told = []
    auditor = Auditor([told.append])
    for server in (make(auditor), make(auditor)):
        assert ask(server, None)[0] == 401
    assert len(told) == 2


def test_a_sink_that_asks(ask: Ask, make: Make, issuer: Issuer) -> None:
    """A flow may send its events elsewhere, over the connections of the server."""
    told: list[int] = []

    def send(event: dict[str, Any]) -> Flow[None]:
        url = f"{issuer.url}/.well-known/openid-configuration"
        response = yield from HttpRequest("GET", url)
        told.append(response.status)

    assert ask(make([send]), None)[0] == 401
    assert told == [200]


# What decorators refuse.


def starlette_app() -> Any:
    """Endpoints of all kinds."""

    @for_starlette.requires_scopes("admin")
    def plain(request: Any) -> Any: ...

    @for_starlette.requires_scopes("admin")
    async def asynchronous(request: Any) -> Any: ...

    @for_starlette.requires_scopes("admin")
    async def listen(websocket: Any) -> None: ...

    class Late(HTTPEndpoint):
        get = asynchronous

    routes = [Route("/plain", plain), Route("/async", asynchronous), Route("/class", Late)]
    return Starlette(routes=[*routes, WebSocketRoute("/ws", listen)])


def nothing(request: Any = None) -> Any:
    """Is never reached."""


def flask_app() -> Any:
    """A view."""
    app = Flask("audited")
    app.add_url_rule("/plain", "plain", for_flask.requires_scopes("admin")(nothing))
    return app.wsgi_app


def django_app() -> Any:
    """A view."""
    set_django_up(django_path("plain", for_django.requires_scopes("admin")(nothing)))
    return WSGIHandler()


def refused_by(make_app: Any, server: ResourceServer, where: str, headers: Any) -> int:
    """The status of a request to an application of this framework."""
    if make_app is starlette_app:
        status = exchange(BearerMiddleware(make_app(), server=server), where, headers).status
    else:
        status = call(WSGIBearerMiddleware(make_app(), server=server), where, headers).status
    server.close()
    return status


GUARDED = [
    (starlette_app, "/plain"),
    (starlette_app, "/async"),
    (starlette_app, "/class"),
    (flask_app, "/plain"),
    (django_app, "/plain"),
]


@pytest.mark.parametrize(("make_app", "where"), GUARDED)
def test_what_decorators_refuse(make_app: Any, where: str, make: Make, issuer: Issuer) -> None:
    """One event, with who asked; of an anonymous caller a refused authentication."""
    told: Told = []
    good = bearer(issuer.jwt(sub="alice", scope="read"))
    assert refused_by(make_app, make([told.append]), f"{where}?q=canary", good) == 403
    assert refused_by(make_app, make([told.append], optional=True), where, []) == 401
    wanted, missing = told
    assert (wanted["kind"], wanted["outcome"], wanted["status"]) == ("authorization", "deny", 403)
    assert (wanted["subject"]["id"], wanted["request"]["route"]) == ("alice", where)
    assert wanted["decision"]["reasons"] == ["insufficient_scope"]
    assert (missing["kind"], missing["status"]) == ("authentication", 401)
    assert "canary" not in json.dumps(told)


@pytest.mark.parametrize(("make_app", "where"), GUARDED)
def test_what_decorators_refuse_without_a_trace(
    make_app: Any, where: str, make: Make, issuer: Issuer
) -> None:
    """Is 503 where the sink is required, as everything else is."""

    def fail(_: Any) -> None:
        raise RuntimeError("canary")

    server = make([Function(fail, required=True)])
    assert refused_by(make_app, server, where, bearer(issuer.jwt(scope="read"))) == 503


def test_a_generator_around_a_decorator(make: Make, issuer: Issuer) -> None:
    """Begins to answer when its body is under way: what it refuses stays refused."""

    def fail(_: Any) -> None:
        raise RuntimeError("canary")

    def lazy() -> Any:
        inner = flask_app()

        def app(environ: Any, start_response: Any) -> Any:
            yield from inner(environ, start_response)

        return app

    server = make([Function(fail, required=True)])
    assert refused_by(lazy, server, "/plain", bearer(issuer.jwt(scope="read"))) == 403
    assert server.audit.failed == 1


def test_an_application_that_writes(make: Make, issuer: Issuer) -> None:
    """PEP 3333: what it writes of a refusal that left no trace goes nowhere."""

    def fail(_: Any) -> None:
        raise RuntimeError("canary")

    def writing() -> Any:
        inner = flask_app()

        def app(environ: Any, start_response: Any) -> list[bytes]:
            begun: list[Any] = []
            body = b"".join(inner(environ, lambda *words: begun.append(words)))
            start_response(*begun[0])(body)
            return []

        return app

    server = make([Function(fail, required=True)])
    assert refused_by(writing, server, "/plain", bearer(issuer.jwt(scope="read"))) == 503


def test_the_route_of_a_decorator(make: Make, issuer: Issuer) -> None:
    """Is the template, where there is a table of routes."""
    told: Told = []
    server = make([told.append], routes=[{"method": "GET", "path": "/{what}"}])
    assert refused_by(flask_app, server, "/plain", bearer(issuer.jwt(scope="read"))) == 403
    assert [event["request"]["route"] for event in told] == ["/{what}"]


@pytest.mark.parametrize("broken", [False, True])
def test_a_websocket_that_a_decorator_refuses(broken: bool, make: Make, issuer: Issuer) -> None:
    """It is closed before it is accepted, with an event."""
    told: Told = []

    def sink(event: dict[str, Any]) -> None:
        told.append(event)
        if broken:
            raise RuntimeError("canary")

    app = BearerMiddleware(starlette_app(), server=make([Function(sink, required=True)]))
    scope = {**scope_of("/ws", bearer(issuer.jwt(scope="read"))), "type": "websocket"}
    sent = asyncio.run(converse(app, scope, [{"type": "websocket.connect"}]))
    assert [message.get("code") for message in sent] == [1013 if broken else 1008]
    assert [event["status"] for event in told] == [403]


def test_a_refusal_that_is_answered_further_out(make: Make, issuer: Issuer) -> None:
    """By whoever is around the middleware, which is told of it as well."""
    told: Told = []
    server = make([told.append])
    guarded = for_starlette.requires_scopes("admin")(nothing)

    async def endpoint(scope: Any, receive: Any, send: Any) -> None:
        guarded(Request(scope))

    app = Starlette(routes=[Mount("/", BearerMiddleware(endpoint, server=server))])
    assert exchange(app, "/", bearer(issuer.jwt(scope="read"))).status == 403
    server.close()
    assert [event["status"] for event in told] == [403]
