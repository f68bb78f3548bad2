"""The ASGI middleware as servers and applications meet it: scopes, headers, streams, tasks."""

import copy
import logging

import anyio
import pytest
from starlette.applications import Starlette
from starlette.authentication import requires
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import Request
from starlette.responses import JSONResponse, StreamingResponse
from starlette.routing import Mount, Route

from bearer_middleware import BearerMiddleware, ConfigError, Identity, ResourceServer, Settings
from bearer_middleware.testing import Issuer
from tests.contract.wire import (
    ISSUER,
    Reply,
    bearer,
    converse,
    exchange,
    protected,
    reply_of,
    scope_of,
    server_of,
)


class Recorder:
    """An application that remembers its scope and answers 204."""

    def __init__(self):
        self.scope = None

    async def __call__(self, scope, receive, send):
        self.scope = scope
        await send({"type": "http.response.start", "status": 204, "headers": []})
        await send({"type": "http.response.body", "body": b""})


def test_what_the_application_reads():
    """ASGI-1: identity, user and auth of a token that was accepted."""
    app = Recorder()
    token = ISSUER.jwt(sub="alice", scope="write read")
    assert exchange(protected(app), "/", bearer(token)).status == 204
    identity = app.scope["bearer_middleware.identity"]
    assert isinstance(identity, Identity)
    assert (identity.subject, identity.issuer, identity.kind) == ("alice", ISSUER.url, "jwt")
    user, auth = app.scope["user"], app.scope["auth"]
    assert (user.is_authenticated, user.display_name, user.identity) == (True, "alice", "alice")
    assert auth.scopes == ["read", "write", "authenticated"]


@pytest.mark.parametrize("settings", [{"optional": True}, {"exempt": "/"}])
def test_what_the_application_reads_of_nobody(settings):
    """An anonymous caller is ``None``, and in Starlette's shape nobody with no scopes."""
    app = Recorder()
    assert exchange(protected(app, **settings)).status == 204
    assert app.scope["bearer_middleware.identity"] is None
    user, auth = app.scope["user"], app.scope["auth"]
    assert (user.is_authenticated, user.display_name, user.identity) == (False, "", "")
    assert auth.scopes == []


def test_an_exempt_request_with_a_token_is_nobodys():
    """Exempt is exempt: a good token changes nothing."""
    app = Recorder()
    exchange(protected(app, exempt="/"), "/", bearer(ISSUER.jwt()))
    assert app.scope["bearer_middleware.identity"] is None


@pytest.mark.parametrize("token", [None, "mF_9.B5f-4.1JqM", ISSUER.jwt()])
def test_the_callers_scope_is_not_changed(token):
    """ASGI-1: not the scope, not what is in it, whatever comes of the request."""
    scope = scope_of("/", bearer(token) if token else [])
    before = copy.deepcopy(scope)
    anyio.run(converse, protected(Recorder()), scope)
    assert scope == before


def test_what_a_server_left_in_the_scope_reaches_nobody():
    """An identity in the scope of the caller is not believed."""
    app = Recorder()
    scope = scope_of(user="root", auth="all", **{"bearer_middleware.identity": "root"})
    anyio.run(converse, protected(app, optional=True), scope)
    assert app.scope["bearer_middleware.identity"] is None
    assert not app.scope["user"].is_authenticated
    assert app.scope["auth"].scopes == []


def test_extra_keys_reach_the_application():
    """ASGI-4: what we do not know is passed on."""
    app = Recorder()
    scope = scope_of("/", bearer(ISSUER.jwt()), state={"a": 1}, **{"x.y": 2})
    anyio.run(converse, protected(app), scope)
    assert (app.scope["state"], app.scope["x.y"]) == ({"a": 1}, 2)


def test_headers_that_can_be_read_once():
    """TOK-5: a generator of lists works, and the application still sees every header."""
    app = Recorder()
    pairs = [[b"accept", b"*/*"], [b"authorization", b"Bearer " + ISSUER.jwt().encode()]]
    scope = scope_of()
    scope["headers"] = (pair for pair in pairs)
    assert reply_of(anyio.run(converse, protected(app), scope)).status == 204
    assert [list(pair) for pair in app.scope["headers"]] == pairs


def test_headers_in_a_tuple():
    """TOK-5: so does a tuple of tuples."""
    scope = scope_of()
    scope["headers"] = ((b"authorization", b"Bearer " + ISSUER.jwt().encode()),)
    assert reply_of(anyio.run(converse, protected(Recorder()), scope)).status == 204


@pytest.mark.parametrize("name", [b"Authorization", b"authorization", b"AUTHORIZATION"])
def test_the_header_name_in_any_case(name):
    """TOK-4: servers should send it in lower case but need not."""
    scope = scope_of()
    scope["headers"] = [(name, b"Bearer " + ISSUER.jwt().encode())]
    assert reply_of(anyio.run(converse, protected(Recorder()), scope)).status == 204


@pytest.mark.parametrize("names", [(b"authorization", b"Authorization"), (b"authorization",) * 2])
def test_two_headers(names):
    """TOK-5: two good tokens, even the same one, are malformed in whatever case."""
    scope = scope_of()
    scope["headers"] = [(name, b"Bearer " + ISSUER.jwt().encode()) for name in names]
    reply = reply_of(anyio.run(converse, protected(Recorder()), scope))
    assert (reply.status, reply.json["error"]) == (400, "invalid_request")


def test_a_preflight_in_any_case():
    """ERR-14: the names of a preflight's headers are looked at as any others."""
    scope = scope_of(method="OPTIONS")
    scope["headers"] = [(b"Origin", b"https://a"), (b"Access-Control-Request-Method", b"GET")]
    assert reply_of(anyio.run(converse, protected(Recorder()), scope)).status == 204


def test_the_headers_of_a_refusal():
    """ASGI-2: lower-case bytes, and nothing hop-by-hop."""
    start, body = anyio.run(converse, protected(Recorder()), scope_of())
    names = [name for name, _ in start["headers"]]
    assert all(type(name) is bytes and type(value) is bytes for name, value in start["headers"])
    assert names == [b"content-type", b"cache-control", b"www-authenticate", b"content-length"]
    assert body == {"type": "http.response.body", "body": body["body"]}


@pytest.mark.parametrize("path", ["/api/public/open", "/public/open"])
def test_exempt_below_the_mount_point(path):
    """ASGI-7: ``root_path`` is taken off, as the framework does it; some servers never add it."""
    app = protected(Recorder(), exempt="/public/*")
    assert exchange(app, path, root_path="/api").status == 204


def test_an_empty_path_is_the_root():
    """As in the other world: a mount point itself, called without a slash behind it."""
    assert exchange(protected(Recorder(), exempt="/"), "/api", root_path="/api").status == 204


@pytest.mark.parametrize("path", ["/apipublic/open", "/api/api/public/open", "/ap/public/open"])
def test_a_mount_point_is_a_whole_segment(path):
    """ASGI-7: what only begins like it is not below it."""
    app = protected(Recorder(), exempt="/public/*")
    assert exchange(app, path, root_path="/api").status == 401


def test_inside_a_mount():
    """ASGI-7: around a mounted application, rules are about its own paths."""
    inner = protected(Recorder(), exempt="/open")
    app = Starlette(routes=[Mount("/inner", inner)])
    assert exchange(app, "/inner/open").status == 204
    assert exchange(app, "/inner/shut").status == 401


def test_lifespan_passes():
    """ASGI-4: the very scope, and every message."""
    seen = []

    async def app(scope, receive, send):
        seen.append(scope)
        for phase in ("startup", "shutdown"):
            assert (await receive())["type"] == f"lifespan.{phase}"
            await send({"type": f"lifespan.{phase}.complete"})

    scope = {"type": "lifespan", "asgi": {"version": "3.0"}}
    incoming = [{"type": "lifespan.startup"}, {"type": "lifespan.shutdown"}]
    sent = anyio.run(converse, protected(app), scope, incoming)
    assert seen == [scope]
    assert [message["type"] for message in sent] == [
        "lifespan.startup.complete",
        "lifespan.shutdown.complete",
    ]


def test_an_application_without_lifespan():
    """Its refusal of the scope reaches the server, which knows what that means."""

    async def app(scope, receive, send):
        raise ValueError("no lifespan")

    with pytest.raises(ValueError, match="no lifespan"):
        anyio.run(converse, protected(app), {"type": "lifespan"})


def test_an_unknown_scope_type_is_refused():
    """ASGI-4: what we cannot protect does not get past us."""
    app = Recorder()
    with pytest.raises(ValueError, match="webtransport"):
        anyio.run(converse, protected(app), scope_of(type="webtransport"))
    assert app.scope is None


def test_a_stream_is_not_touched():
    """The application's messages pass one by one as they are sent."""

    async def chunks():
        for chunk in (b"a", b"b", b"c"):
            yield chunk

    async def app(scope, receive, send):
        await StreamingResponse(chunks())(scope, receive, send)

    start, *parts = anyio.run(converse, protected(app), scope_of("/", bearer(ISSUER.jwt())))
    assert start["type"] == "http.response.start"
    assert [part["body"] for part in parts] == [b"a", b"b", b"c", b""]
    assert [part["more_body"] for part in parts] == [True, True, True, False]


def test_receive_and_send_are_the_servers_own():
    """Nothing is wrapped around them."""
    seen = []

    async def app(scope, receive, send):
        seen.extend((receive, send))

    async def receive():
        raise AssertionError

    async def send(message):
        raise AssertionError

    anyio.run(protected(app), scope_of("/", bearer(ISSUER.jwt())), receive, send)
    assert seen == [receive, send]


def test_the_application_is_not_called_when_refused():
    """ERR-16 and all others: fail closed."""
    app = Recorder()
    assert exchange(protected(app)).status == 401
    assert app.scope is None


def test_what_the_application_raises_is_not_ours():
    """Its errors reach the server as they are, also those that look like ours."""

    async def app(scope, receive, send):
        raise ConfigError("of the application")

    with pytest.raises(ConfigError, match="of the application"):
        exchange(protected(app), "/", bearer(ISSUER.jwt()))


async def _restricted(request: Request) -> JSONResponse:
    return JSONResponse({"user": request.user.display_name})


@pytest.mark.parametrize(
    ("needed", "status"), [("read", 200), ("authenticated", 200), ("write", 403)]
)
def test_starlettes_own_requires(needed, status):
    """It works on what we attach, and refuses with a plain 403 of its own."""
    app = Starlette(routes=[Route("/", requires(needed)(_restricted))])
    app.add_middleware(BearerMiddleware, server=server_of())
    reply = exchange(app, "/", bearer(ISSUER.jwt(scope="read")))
    assert reply.status == status
    assert reply.challenge is None


def test_starlettes_own_requires_refuses_nobody_s_request():
    """An anonymous caller is not ``authenticated``."""
    app = Starlette(routes=[Route("/", requires("authenticated")(_restricted))])
    assert exchange(protected(app, optional=True)).status == 403


def test_cors_headers_are_on_refusals_where_cors_is_outside():
    """ERR-14: a preflight passes, and the browser may read the 401."""
    app = CORSMiddleware(protected(Recorder()), allow_origins=["*"])
    origin = [("Origin", "https://shop")]
    refused = exchange(app, "/", origin)
    assert (refused.status, refused.header("access-control-allow-origin")) == (401, "*")
    preflight = [*origin, ("Access-Control-Request-Method", "GET")]
    assert exchange(app, "/", preflight, method="OPTIONS").status == 200


def test_a_preflight_reaches_cors_inside():
    """ERR-14: the layer that knows the answer is below us."""
    app = protected(CORSMiddleware(Recorder(), allow_origins=["*"]))
    preflight = [("Origin", "https://shop"), ("Access-Control-Request-Method", "GET")]
    reply = exchange(app, "/", preflight, method="OPTIONS")
    assert (reply.status, reply.header("access-control-allow-origin")) == (200, "*")


class Gate:
    """The issuer's transport, which answers once it is opened."""

    def __init__(self, issuer):
        self._inner = issuer.transport()
        self.asked, self.opened = anyio.Event(), anyio.Event()

    async def handle_async_request(self, request):
        self.asked.set()
        await self.opened.wait()
        return await self._inner.handle_async_request(request)

    async def __aenter__(self):
        return self

    async def __aexit__(self, *_):
        pass

    async def aclose(self):
        pass


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_a_caller_who_hangs_up_leaves_the_others_waiting_for_nothing(backend):
    """ASGI-6: the first of ten with one new token is cancelled, the other nine are answered."""
    issuer = Issuer()
    headers = bearer(issuer.opaque())
    replies: list[Reply] = []

    async def ask(app):
        replies.append(reply_of(await converse(app, scope_of("/", headers))))

    async def main():
        gate = Gate(issuer)
        server = ResourceServer(Settings(**issuer.settings()), transport=gate)
        app = BearerMiddleware(Recorder(), server=server)
        async with anyio.create_task_group() as others:
            async with anyio.create_task_group() as first:
                first.start_soon(ask, app)
                await gate.asked.wait()
                for _ in range(9):
                    others.start_soon(ask, app)
                await anyio.wait_all_tasks_blocked()
                first.cancel_scope.cancel()
            gate.opened.set()

    anyio.run(main, backend=backend)
    assert [reply.status for reply in replies] == [204] * 9


def test_one_server_for_several_middlewares():
    """What one of them learnt, the other knows."""
    issuer = Issuer()
    server = server_of(issuer)
    headers = bearer(issuer.opaque())
    for _ in range(2):
        assert exchange(BearerMiddleware(Recorder(), server=server), "/", headers).status == 204
    assert issuer.requests["introspection"] == 1


def test_a_server_and_settings():
    """One or the other: which of them counts would be a guess."""
    with pytest.raises(ConfigError, match="realm"):
        BearerMiddleware(Recorder(), server=server_of(), realm="x")


def test_settings_from_the_environment(monkeypatch):
    """Without keywords the variables say everything; a keyword wins over its variable."""
    for name, value in ISSUER.settings(realm="shop").items():
        monkeypatch.setenv(f"BEARER_{name.upper()}", str(value))
    assert exchange(BearerMiddleware(Recorder())).challenge == 'Bearer realm="shop"'
    assert exchange(BearerMiddleware(Recorder(), realm="x")).challenge == 'Bearer realm="x"'


def test_nothing_of_the_token_is_logged(caplog):
    """A refused token is in no record, and neither is an accepted one."""
    caplog.set_level(logging.DEBUG)
    app = protected(Recorder())
    tokens = [ISSUER.jwt(), ISSUER.opaque(), ISSUER.jwt(aud="other"), "mF_9.B5f-4.1JqM"]
    for token in tokens:
        exchange(app, "/", bearer(token))
    assert not [token for token in tokens if token in caplog.text]
