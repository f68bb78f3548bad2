"""``BEARER_LOGOUT_PATH``: the receiver of back-channel logout, in both worlds."""

from __future__ import annotations

import asyncio
import io
import time
from collections.abc import Callable
from typing import Any
from urllib.parse import urlencode

import pytest
import trio

from bearer_middleware import (
    BearerMiddleware,
    ConfigError,
    ResourceServer,
    Settings,
    WSGIBearerMiddleware,
)
from bearer_middleware.testing import Issuer

EVENT = "http://schemas.openid.net/event/backchannel-logout"
FORM = "application/x-www-form-urlencoded"
Reply = tuple[int, dict[str, str], bytes]


@pytest.fixture
def issuer() -> Issuer:
    """In process."""
    return Issuer()


@pytest.fixture
def server(issuer: Issuer) -> ResourceServer:
    """One that takes logouts."""
    settings = Settings(**issuer.settings(logout_path="/logout"))
    return ResourceServer(settings, transport=issuer.transport())


def token(issuer: Issuer, server: ResourceServer, **changes: Any) -> str:
    """A logout token."""
    now = int(time.time())
    claims = {
        "aud": server.settings.issuers[0].client_id,
        "iat": now,
        "exp": now + 120,
        "jti": f"logout-{time.monotonic_ns()}",
        "events": {EVENT: {}},
        "sid": "s-1",
        **changes,
    }
    return issuer.jwt(headers={"typ": "logout+jwt"}, **claims)


async def asgi(  # noqa: PLR0917 - all that makes a request
    server: ResourceServer, method: str, body: bytes, media_type: str, path: str, bearer: str | None
) -> Reply:
    """One request, its body in small parts."""
    parts = [body[at : at + 100] for at in range(0, len(body), 100)] or [b""]
    sent: list[Any] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"application"})

    async def receive() -> Any:
        part = parts.pop(0)
        return {"type": "http.request", "body": part, "more_body": bool(parts)}

    async def send(message: Any) -> None:
        sent.append(message)

    headers = [(b"content-type", media_type.encode())]
    if bearer is not None:
        headers.append((b"authorization", f"Bearer {bearer}".encode()))
    scope = {"type": "http", "method": method, "path": path, "headers": headers}
    await BearerMiddleware(app, server=server)(scope, receive, send)
    await server.aclose()
    told = {name.decode(): value.decode() for name, value in sent[0]["headers"]}
    return sent[0]["status"], told, sent[1]["body"]


def wsgi(  # noqa: PLR0917 - all that makes a request
    server: ResourceServer, method: str, body: bytes, media_type: str, path: str, bearer: str | None
) -> Reply:
    """The same, blocking."""
    started: list[Any] = []

    def app(environ: Any, start_response: Any) -> list[bytes]:
        start_response("200 OK", [])
        return [b"application"]

    environ = {
        "REQUEST_METHOD": method,
        "PATH_INFO": path,
        "CONTENT_TYPE": media_type,
        "CONTENT_LENGTH": str(len(body)),
        "wsgi.input": io.BytesIO(body),
    }
    if bearer is not None:
        environ["HTTP_AUTHORIZATION"] = f"Bearer {bearer}"
    middleware = WSGIBearerMiddleware(app, server=server)
    answer = b"".join(middleware(environ, lambda *words: started.append(words)))
    ((status, headers),) = started
    return int(status[:3]), {name.lower(): value for name, value in headers}, answer


WORLDS: dict[str, Callable[..., Reply]] = {
    "asyncio": lambda *what: asyncio.run(asgi(*what)),
    "trio": lambda *what: trio.run(asgi, *what),
    "wsgi": wsgi,
}


@pytest.fixture(params=WORLDS)
def ask(request: pytest.FixtureRequest, server: ResourceServer) -> Callable[..., Reply]:
    """``ask(body)`` in each world."""

    def send(
        body: bytes = b"",
        method: str = "POST",
        media_type: str = FORM,
        path: str = "/logout",
        bearer: str | None = None,
    ) -> Reply:
        return WORLDS[request.param](server, method, body, media_type, path, bearer)

    return send


def form(text: str) -> bytes:
    """A token as it is posted."""
    return urlencode({"logout_token": text}).encode()


def test_a_session_ends(ask: Any, issuer: Issuer, server: ResourceServer) -> None:
    """BCL-1: 200, not to be stored, and its tokens are refused from then on."""
    mine, other = issuer.jwt(sid="s-1"), issuer.opaque(sid="s-2")
    assert ask(method="GET", path="/", bearer=mine)[2] == b"application"
    status, headers, body = ask(form(token(issuer, server)))
    assert (status, body) == (200, b"")
    assert headers["cache-control"] == "no-store"
    assert ask(method="GET", path="/", bearer=mine)[0] == 401
    assert ask(method="GET", path="/", bearer=other)[0] == 200
    again = ask(form(token(issuer, server)), media_type=f"{FORM}; charset=utf-8")
    assert again[0] == 200  # to be logged out already is no mistake


def test_what_is_no_logout(ask: Any, issuer: Issuer, server: ResourceServer) -> None:
    """BCL-1: 400, and why is for the log alone."""
    good = token(issuer, server)
    for body, media_type in (
        (form(token(issuer, server, nonce="n")), FORM),
        (form(good), "application/json"),
        (b"", FORM),
        (form("c4n4ry"), FORM),
        (form("a" * 70_000), FORM),
        (b"x" * 10_000_000, FORM),
    ):
        status, headers, answer = ask(body, media_type=media_type)
        assert (status, headers["cache-control"]) == (400, "no-store")
        assert b"c4n4ry" not in answer
    assert len(server.revocations) == 0
    assert server.events.counts["logout_rejected"] == 6
    assert ask(form(good))[0] == 200
    assert ask(form(good))[0] == 400  # a replay


def test_it_may_be_tried_again(ask: Any, issuer: Issuer, server: ResourceServer) -> None:
    """503 with a time where the keys cannot be had, and where others serve beside us."""
    text = token(issuer, server)
    issuer.fail("jwks", status=500)
    status, headers, _ = ask(form(text))
    assert status == 503
    assert int(headers["retry-after"]) >= 1
    assert len(server.revocations) == 0


def test_several_workers(issuer: Issuer, server: ResourceServer) -> None:
    """A logout in one of them would be none."""
    server.alone.told = True
    assert wsgi(server, "POST", form(token(issuer, server)), FORM, "/logout", None)[0] == 503
    server.alone.told = False
    assert wsgi(server, "POST", form(token(issuer, server)), FORM, "/logout", None)[0] == 200


def test_other_methods_and_paths(ask: Any, issuer: Issuer, server: ResourceServer) -> None:
    """The application has nothing there, and everything elsewhere."""
    for method in ("GET", "HEAD", "PUT", "OPTIONS"):
        status, headers, _ = ask(method=method)
        assert (status, headers["allow"]) == (405, "POST")
    for path in ("/logout/", "/Logout", "/logout/x"):
        assert ask(form(token(issuer, server)), path=path)[0] == 401


def test_a_flood(ask: Any, server: ResourceServer) -> None:
    """Some are looked at, the others get a time."""
    statuses = [ask(b"logout_token=x")[0] for _ in range(40)]
    assert set(statuses) <= {400, 503}
    assert statuses[0] == 400


def test_a_body_that_does_not_come(issuer: Issuer) -> None:
    """Nobody is waited for longer than the time limit."""
    settings = Settings(**issuer.settings(logout_path="/logout", http_timeout=0.05))
    server = ResourceServer(settings, transport=issuer.transport())
    sent: list[Any] = []

    async def receive() -> Any:
        await asyncio.sleep(0.02)
        return {"type": "http.request", "body": b"l", "more_body": True}

    async def send(message: Any) -> None:
        sent.append(message)

    async def app(scope: Any, receive: Any, send: Any) -> None: ...

    scope = {
        "type": "http",
        "method": "POST",
        "path": "/logout",
        "headers": [(b"content-type", FORM.encode())],
    }
    asyncio.run(BearerMiddleware(app, server=server)(scope, receive, send))
    assert sent[0]["status"] == 400


@pytest.mark.parametrize(
    ("changes", "wrong"),
    [
        ({"client_id": None, "client_secret": None}, "BEARER_CLIENT_ID"),
        ({"health_path": "/logout"}, "BEARER_HEALTH_PATH"),
        ({"logout_path": "logout"}, "BEARER_LOGOUT_PATH"),
        ({"logout_path": "/"}, "BEARER_LOGOUT_PATH"),
    ],
)
def test_settings(issuer: Issuer, changes: dict[str, Any], wrong: str) -> None:
    """What it needs is said when it is built."""
    with pytest.raises(ConfigError, match=wrong):
        Settings(**issuer.settings(**{"logout_path": "/logout", **changes}))


def test_absent_it_is_not_served(issuer: Issuer) -> None:
    """The path is the application's."""
    server = ResourceServer(Settings(**issuer.settings()), transport=issuer.transport())
    assert wsgi(server, "POST", b"", FORM, "/logout", None)[0] == 401


@pytest.mark.parametrize(("ends", "status"), [(True, 200), (False, 400)])
def test_in_chunks(*, issuer: Issuer, server: ResourceServer, ends: bool, status: int) -> None:
    """Without a length a body is read where the server marks its end, and nowhere else."""
    started: list[Any] = []
    body = form(token(issuer, server))
    environ = {
        "REQUEST_METHOD": "POST",
        "PATH_INFO": "/logout",
        "CONTENT_TYPE": FORM,
        "wsgi.input": io.BytesIO(body),
        "wsgi.input_terminated": ends,
    }
    middleware = WSGIBearerMiddleware(lambda *words: [], server=server)
    middleware(environ, lambda *words: started.append(words))
    assert int(started[0][0][:3]) == status
