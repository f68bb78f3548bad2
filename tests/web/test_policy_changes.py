"""``BEARER_POLICY_CHANGED_PATH``: who says that the policy changed, in both worlds."""

from __future__ import annotations

import asyncio
import io
import json
import logging
from collections.abc import Callable
from typing import Any

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

SECRET = "canary-0123456789abcdef"
JSON = "application/json; charset=utf-8"
Reply = tuple[int, dict[str, str], bytes]
Ask = Callable[..., Reply]


async def asgi(
    server: ResourceServer, body: bytes, values: list[str], kind: str, method: str
) -> Reply:
    """One request."""
    sent: list[Any] = []
    read: list[int] = []

    async def receive() -> Any:
        read.append(1)
        return {"type": "http.request", "body": body, "more_body": False}

    async def send(message: Any) -> None:
        sent.append(message)

    headers = [(b"content-type", kind.encode())]
    headers += [(b"authorization", value.encode("latin-1")) for value in values]
    scope = {"type": "http", "method": method, "path": "/changed", "headers": headers}
    await BearerMiddleware(None, server=server)(scope, receive, send)  # type: ignore[arg-type]
    assert bool(read) == (values == [f"Bearer {SECRET}"] and method == "POST")
    told = {name.decode(): value.decode() for name, value in sent[0]["headers"]}
    return sent[0]["status"], told, sent[1]["body"]


def wsgi(server: ResourceServer, body: bytes, values: list[str], kind: str, method: str) -> Reply:
    """The same, blocking."""
    started: list[Any] = []
    environ = {
        "REQUEST_METHOD": method,
        "PATH_INFO": "/changed",
        "CONTENT_TYPE": kind,
        "CONTENT_LENGTH": str(len(body)),
        "wsgi.input": io.BytesIO(body),
    }
    if values:
        environ["HTTP_AUTHORIZATION"] = ",".join(values)
    middleware = WSGIBearerMiddleware(None, server=server)  # type: ignore[arg-type]
    answer = b"".join(middleware(environ, lambda *words: started.append(words)))
    ((status, headers),) = started
    return int(status[:3]), {name.lower(): value for name, value in headers}, answer


class Server(ResourceServer):
    """One that is told."""

    def policy_changed(self, **change: str) -> None:
        self.told: list[dict[str, str]] = getattr(self, "told", [])
        if "fail" in change.values():
            raise RuntimeError("canary")
        self.told.append(change)


def settings(**changes: Any) -> Settings:
    """With a path, and the secret for it."""
    told = {"policy_changed_path": "/changed", "policy_changed_token": SECRET} | changes
    return Settings(**Issuer().settings(**told))


@pytest.fixture
def server() -> Server:
    """Told of nothing yet."""
    return Server(settings(), policy=lambda request: True)


@pytest.fixture(params=["asyncio", "trio", "wsgi"])
def ask(request: pytest.FixtureRequest, server: Server) -> Ask:
    """``ask(body)`` in each world."""

    def one(
        body: Any = b"{}",
        values: tuple[str, ...] = (f"Bearer {SECRET}",),
        kind: str = JSON,
        method: str = "POST",
    ) -> Reply:
        raw = body if isinstance(body, bytes) else json.dumps(body).encode()
        what = (server, raw, list(values), kind, method)
        if request.param == "wsgi":
            return wsgi(*what)
        return trio.run(asgi, *what) if request.param == "trio" else asyncio.run(asgi(*what))

    return one


@pytest.mark.parametrize(
    ("body", "change"),
    [
        ({}, {}),
        ({"subject": None}, {}),
        ({"subject": "alice"}, {"subject": "alice"}),
        ({"resource_type": "todo"}, {"resource_type": "todo"}),
        ({"subject": "a", "resource_type": "t"}, {"subject": "a", "resource_type": "t"}),
        # OPAL: a data update, and the report of one to a callback.
        ({"id": "1", "entries": [{"url": "", "topics": ["policy_data"]}], "reason": "x"}, {}),
        ({"update_id": "1", "reports": [{"entry": {}, "fetched": True}]}, {}),
        # Somebody else's subject is not ours.
        ({"specversion": "1.0", "subject": "policies/main", "id": "1"}, {}),
    ],
)
def test_what_changed(ask: Ask, server: Server, body: Any, change: dict[str, str]) -> None:
    """202, and the server is told; what is not in our words is everything."""
    status, headers, answer = ask(body)
    assert (status, answer) == (202, b"")
    assert headers["cache-control"] == "no-store"
    assert server.told == [change]


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"[]",
        b'"x"',
        b"[" * 60_000,
        b'{"subject": 7}',
        b'{"subject": ""}',
        b'{"resource_type": {}}',
        b'{"subject": "' + b"x" * 70_000 + b'"}',
    ],
)
def test_what_says_nothing(ask: Ask, server: Server, body: bytes) -> None:
    """Is 400, and changes nothing."""
    assert ask(body)[0] == 400
    assert not hasattr(server, "told")


def test_another_media_type(ask: Ask) -> None:
    """Is 400."""
    assert ask(kind="text/plain")[0] == 400


@pytest.mark.parametrize(
    ("values", "status"),
    [
        ((), 401),
        (("Basic YTpi",), 401),
        (("Bearer wrong",), 401),
        ((f"Bearer {SECRET}x",), 401),
        ((f"Bearer {SECRET[:-1]}",), 401),
        (("Bearer ",), 400),
        ((f"Bearer {SECRET}", f"Bearer {SECRET}"), 400),
    ],
)
def test_who_may_not(
    ask: Ask, server: Server, values: Any, status: int, caplog: pytest.LogCaptureFixture
) -> None:
    """Is told so before the body is read, with a challenge; the secret is in no log."""
    told = ask(values=values)
    assert told[0] == status
    assert told[1]["www-authenticate"].startswith('Bearer realm="api"')
    assert not hasattr(server, "told")
    assert "policy_change_rejected" in caplog.text
    assert "canary" not in caplog.text


def test_other_methods(ask: Ask) -> None:
    """405, with what is allowed."""
    status, headers, _ = ask(method="GET")
    assert (status, headers["allow"]) == (405, "POST")


def test_what_could_not_be_done(ask: Ask, caplog: pytest.LogCaptureFixture) -> None:
    """503: whoever tells may say it again."""
    with caplog.at_level(logging.DEBUG):
        status, headers, body = ask({"subject": "fail"})
    assert (status, headers["retry-after"]) == (503, "5")
    assert "canary" not in caplog.text + body.decode()


def test_nobody_could_be_told() -> None:
    """A path without effect is a mistake, when the middleware is built."""
    server = Server(settings())
    server.policy_changed = None  # type: ignore[assignment, method-assign]
    with pytest.raises(ConfigError, match="BEARER_POLICY_CHANGED_PATH"):
        WSGIBearerMiddleware(None, server=server)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("changes", "mistake"),
    [
        ({"policy_changed_token": None}, "BEARER_POLICY_CHANGED_TOKEN"),
        ({"policy_changed_path": None}, "BEARER_POLICY_CHANGED_PATH"),
        ({"policy_changed_token": "a b"}, "must be letters"),
        ({"health_path": "/changed"}, "is the same as"),
        ({"policy_changed_path": "changed"}, "must be a path"),
    ],
)
def test_settings(changes: dict[str, Any], mistake: str) -> None:
    """The path needs the secret, and the secret the path; the secret is not repeated."""
    with pytest.raises(ConfigError, match=mistake) as caught:
        settings(**changes)
    assert "canary" not in str(caught.value)
    assert "a b" not in str(caught.value)
