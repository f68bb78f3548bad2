"""Whole requests and a decision point on loopback: many callers, long lists, and all that a
decision point may do wrong, of which nothing reaches the caller or the log.
"""

from __future__ import annotations

import json
import logging
import socket
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import anyio
import pytest

from bearer_middleware import BearerMiddleware, ResourceServer, Settings, WSGIBearerMiddleware
from bearer_middleware.policy.cached import CachedPoint
from bearer_middleware.policy.model import Resource
from bearer_middleware.web.authorizing import AUTHORIZER
from tests.contract.wire import ISSUER, Reply, bearer, call, converse, reply_of, scope_of

CALLERS = 200
CANARY = "canary-3f9c rule data.internal.secret_rule"
#: The middleware asks about the first, the handler about what is below the others.
ROUTES = [
    {"method": "GET", "path": "/todos/{id}", "action": "read", "resource": "todo:{id}"},
    {"method": "GET", "path": "/handler/*", "policy": False},
]
ASKED_BY = ["/todos/1", "/handler/require", "/handler/permitted", "/handler/filter"]
_WAIT = 60.0


def todo(number: int) -> Resource:
    """One of a list."""
    return Resource("todo", str(number), {"even": number % 2 == 0})


async def asgi_app(scope: Any, receive: Any, send: Any) -> None:
    """Asks as its path says, and answers with what it was told."""
    authorizer, told = scope[AUTHORIZER], None
    if scope["path"] == "/handler/require":
        await authorizer.require("read", "todo:1")
    elif scope["path"] == "/handler/permitted":
        told = await authorizer.permitted("read", "todo:1")
    elif scope["path"] == "/handler/filter":
        told = await authorizer.filter("read", range(100), todo)
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": json.dumps(told).encode()})


def wsgi_app(environ: Any, start_response: Any) -> list[bytes]:
    """The same."""
    authorizer, told = environ[AUTHORIZER], None
    if environ["PATH_INFO"] == "/handler/require":
        authorizer.require("read", "todo:1")
    elif environ["PATH_INFO"] == "/handler/permitted":
        told = authorizer.permitted("read", "todo:1")
    elif environ["PATH_INFO"] == "/handler/filter":
        told = authorizer.filter("read", range(100), todo)
    start_response("200 OK", [("Content-Type", "application/json")])
    return [json.dumps(told).encode()]


class World:
    """Asks one server, in one world."""

    def __init__(self, name: str) -> None:
        self.name = name

    def many(self, server: ResourceServer, path: str, count: int) -> list[Reply]:
        """So many requests with the same token, all at once."""
        headers = bearer(ISSUER.jwt())
        if self.name == "wsgi":
            wsgi = WSGIBearerMiddleware(wsgi_app, server=server)
            with ThreadPoolExecutor(count) as pool:
                replies = list(pool.map(lambda _: call(wsgi, path, headers), range(count)))
            server.close()
            return replies
        asgi = BearerMiddleware(asgi_app, server=server)

        async def one(into: list[Reply]) -> None:
            request = {"type": "http.request", "body": b"", "more_body": False}
            into.append(reply_of(await converse(asgi, scope_of(path, headers), [request])))

        async def everybody() -> list[Reply]:
            replies: list[Reply] = []
            async with anyio.create_task_group() as tasks:
                for _ in range(count):
                    tasks.start_soon(one, replies)
            await server.aclose()
            return replies

        return anyio.run(everybody, backend=self.name)

    def one(self, server: ResourceServer, path: str) -> Reply:
        """One request."""
        return self.many(server, path, 1)[0]


@pytest.fixture(params=["asyncio", "trio", "wsgi"])
def world(request: pytest.FixtureRequest) -> World:
    """Each in turn."""
    return World(request.param)


Serve = Callable[..., ResourceServer]


@pytest.fixture
def serve(tmp_path: Path) -> Serve:
    """A server whose keys are in a file, so that it asks nobody but the decision point."""
    keys = tmp_path / "keys.json"
    keys.write_text(json.dumps(ISSUER.jwks))

    def make(url: str, *, audit: Any = None, **more: Any) -> ResourceServer:
        options = {"discovery": False, **more.pop("policy_options", {})}
        said: dict[str, Any] = {"policy": "authzen", "policy_timeout": 30, "routes": ROUTES, **more}
        settings = Settings(
            issuer=ISSUER.url,
            audience=ISSUER.audience,
            jwks_file=str(keys),
            policy_url=url,
            policy_options=options,
            **said,
        )
        return ResourceServer(settings, audit=audit)

    return make


def _even(seen: Any) -> Any:
    asked = [item["resource"]["properties"]["even"] for item in seen.json["evaluations"]]
    return {"evaluations": [{"decision": even} for even in asked]}


# -- many callers ------------------------------------------------------------------------------


@pytest.mark.parametrize("path", ["/todos/1", "/handler/require"])
def test_two_hundred_callers_ask_once(pdp: Any, world: World, serve: Serve, path: str) -> None:
    """AZ-1: the same question at the same time is one exchange, asked by whomever."""
    server, followers = serve(pdp.url), list[int]()
    assert server.authorizer is not None
    point = server.authorizer.point
    assert isinstance(point, CachedPoint)
    point._one._note = lambda: followers.append(1)

    def slowly(_: Any) -> Any:
        """As late as it takes for everybody to have asked."""
        deadline = time.monotonic() + _WAIT / 3
        while len(followers) < CALLERS - 1 and time.monotonic() < deadline:
            time.sleep(0.005)
        return {"decision": True}

    pdp.answers["/access/v1/evaluation"] = slowly
    replies = world.many(server, path, CALLERS)
    assert {reply.status for reply in replies} == {200}
    assert (len(replies), len(pdp.seen), len(followers)) == (CALLERS, 1, CALLERS - 1)


@pytest.mark.parametrize(("size", "exchanges"), [(None, 2), (50, 2), (100, 1), (99, 2)])
def test_a_filter_is_a_batch(
    pdp: Any, world: World, serve: Serve, size: int | None, exchanges: int
) -> None:
    """AZ-5: a hundred resources are one exchange, or as many as the size of a batch makes."""
    pdp.answers["/access/v1/evaluations"] = _even
    pdp.answers["/access/v1/evaluation"] = lambda seen: {
        "decision": seen.json["resource"]["properties"]["even"]
    }
    options = {} if size is None else {"batch_size": size}
    reply = world.one(serve(pdp.url, policy_options=options), "/handler/filter")
    assert (reply.status, reply.json) == (200, list(range(0, 100, 2)))
    assert len(pdp.seen) == exchanges


# -- what may go wrong -------------------------------------------------------------------------


def _json(body: Any, status: int = 200, **headers: str) -> Callable[[Any], Any]:
    return lambda pdp: pdp.wire(body, status, **headers)


PERMIT = {"decision": True, "context": {"id": CANARY, "reason_admin": {"en": CANARY}}}
WRONG: dict[str, Callable[[Any], Any]] = {
    "500": _json(PERMIT, 500, x_debug=CANARY),
    "401": _json(PERMIT, 401, www_authenticate=CANARY),
    "403": _json({"error": CANARY}, 403),
    "404": _json(CANARY.encode(), 404),
    "429": _json(PERMIT, 429, retry_after="7", x_debug=CANARY),
    "redirect": _json(PERMIT, 307, location=f"/{CANARY}"),
    "huge": _json({**PERMIT, "more": CANARY * 100_000}),
    "text": _json({"decision": "true", "context": {"reason": CANARY}}),
    "longer": _json({"evaluations": [PERMIT] * 500}),
    "debug": _json(f"Traceback (most recent call last): {CANARY}".encode()),
    "silent": lambda pdp: b"",
    "half": lambda pdp: pdp.wire(PERMIT)[:-1],
}


def _assert_unknown(reply: Reply, told: list[str]) -> None:
    """AZ-4: 503 and when to come back, and nothing of what the decision point said."""
    assert reply.status == 503
    assert int(reply.header("retry-after") or 0) >= 1
    assert reply.challenge is None
    assert reply.json == {"status": 503, "title": "Service Unavailable"}
    for text in (repr(reply), *told):
        assert "canary" not in text
        assert "secret_rule" not in text


def _listen(caplog: pytest.LogCaptureFixture) -> None:
    # The HTTP client underneath traces whole headers at DEBUG, for who asks for that.
    caplog.set_level(logging.INFO)
    caplog.set_level(logging.DEBUG, "bearer_middleware")


def _logged(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [f"{record.getMessage()} {record.__dict__}" for record in caplog.records]


# Of httpcore, below trio, where a body is not read to its end.
@pytest.mark.filterwarnings("ignore:.*PoolByteStream:pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("path", ASKED_BY)
@pytest.mark.parametrize("wrong", WRONG.values(), ids=WRONG)
def test_no_fault_lets_anybody_pass(  # noqa: PLR0917 - fixtures, and what varies
    pdp: Any, world: World, serve: Serve, caplog: pytest.LogCaptureFixture, wrong: Any, path: str
) -> None:
    """AZ-2, AZ-4: bounded by the timeout of the policy, whatever the decision point does."""
    audited: list[Any] = []
    _listen(caplog)
    pdp.otherwise = wrong(pdp)
    patience = 0.2 if wrong in (WRONG["silent"], WRONG["half"]) else 30
    server = serve(pdp.url, policy_timeout=patience, audit=[audited.append])
    reply = world.one(server, path)
    _assert_unknown(reply, [*_logged(caplog), *map(repr, audited)])
    assert audited
    assert {event["outcome"] for event in audited} == {"indeterminate"}


@pytest.fixture
def nowhere() -> Iterator[str]:
    """A port where nobody listens, and nobody else can."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        yield f"http://127.0.0.1:{taken.getsockname()[1]}"


@pytest.mark.parametrize("path", ASKED_BY)
def test_nobody_there(
    nowhere: str, world: World, serve: Serve, caplog: pytest.LogCaptureFixture, path: str
) -> None:
    """AZ-4: the first caller hears it from the network, a later one from the breaker."""
    _listen(caplog)
    server = serve(nowhere)
    for _ in range(8):
        _assert_unknown(world.one(server, path), _logged(caplog))


def test_two_hundred_callers_share_a_failure(pdp: Any, world: World, serve: Serve) -> None:
    """AZ-4: nobody passes, and the decision point that fails is not asked by each of them."""
    pdp.otherwise = pdp.wire(PERMIT, 500)
    replies = world.many(serve(pdp.url), "/todos/1", CALLERS)
    for reply in replies:
        _assert_unknown(reply, [])
    assert len(pdp.seen) < CALLERS / 2
