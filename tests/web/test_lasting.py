"""``BEARER_CLOSE_ON_EXPIRY``: what is open ends with the identity it was opened with."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

import anyio
import pytest
import trio

from bearer_middleware import BearerMiddleware, ResourceServer, Settings, WSGIBearerMiddleware
from bearer_middleware.testing import Issuer
from bearer_middleware.web import lasting

Run = Callable[[Callable[[], Awaitable[None]]], None]


class Clock:
    """Moved by hand."""

    def __init__(self) -> None:
        self.now = float(int(time.time()))

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    """Of the server."""
    return Clock()


@pytest.fixture
def issuer() -> Issuer:
    """In process."""
    return Issuer()


@pytest.fixture
def server(issuer: Issuer, clock: Clock, monkeypatch: pytest.MonkeyPatch) -> ResourceServer:
    """One that looks again and again."""
    monkeypatch.setattr(lasting, "_LOOK_SECONDS", 0.005)
    settings = Settings(**issuer.settings(close_on_expiry=True))
    return ResourceServer(settings, transport=issuer.transport(), clock=clock)


@pytest.fixture(params=["asyncio", "trio"])
def run(request: pytest.FixtureRequest) -> Run:
    """In a loop of either kind, bounded in time."""

    async def bounded(main: Callable[[], Awaitable[None]]) -> None:
        with anyio.fail_after(10):
            await main()

    if request.param == "trio":
        return lambda main: trio.run(bounded, main)
    return lambda main: asyncio.run(bounded(main))


ENDS: dict[str, Callable[[ResourceServer, Clock, str], object]] = {
    "expired": lambda server, clock, token: setattr(clock, "now", clock.now + 400),
    "revoked": lambda server, clock, token: server.revoke(token=token),
    "subject revoked": lambda server, clock, token: server.revoke(subject="alice", before=4e9),
}


def connect(
    server: ResourceServer, app: Any, token: str, sent: list[Any], kind: str = "websocket"
) -> Callable[[], Awaitable[None]]:
    """One connection to ``app``; nothing comes from the client."""

    async def receive() -> Any:
        await anyio.sleep_forever()

    async def send(message: Any) -> None:
        sent.append(message)

    scope = {
        "type": kind,
        "method": "GET",
        "path": "/",
        "headers": [(b"authorization", f"Bearer {token}".encode())],
    }

    async def main() -> None:
        try:
            await BearerMiddleware(app, server=server)(scope, receive, send)
        finally:
            await server.aclose()

    return main


@pytest.mark.parametrize("end", ENDS)
def test_a_websocket_is_closed(
    server: ResourceServer, clock: Clock, issuer: Issuer, run: Run, end: str
) -> None:
    """ASGI-5: with 1008, though neither side says a word."""
    token, sent = issuer.opaque(exp=int(clock.now) + 300), []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "websocket.accept"})
        ENDS[end](server, clock, token)
        await receive()

    run(connect(server, app, token, sent))
    assert [message["type"] for message in sent] == ["websocket.accept", "websocket.close"]
    assert sent[1]["code"] == 1008


@pytest.mark.parametrize("end", ENDS)
def test_a_stream_is_cut_off(
    server: ResourceServer, clock: Clock, issuer: Issuer, run: Run, end: str
) -> None:
    """And not ended as if that were all."""
    token, sent = issuer.jwt(exp=int(clock.now) + 300), []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"a", "more_body": True})
        ENDS[end](server, clock, token)
        await anyio.sleep_forever()

    run(connect(server, app, token, sent, "http"))
    assert [message.get("more_body") for message in sent] == [None, True]


def test_what_has_not_begun_goes_on(
    server: ResourceServer, clock: Clock, issuer: Issuer, run: Run
) -> None:
    """A request that was let in gets its answer, however long that took."""
    token, sent = issuer.jwt(exp=int(clock.now) + 300), []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        clock.now += 400
        await anyio.sleep(0.05)
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"all"})
        await anyio.sleep(0.05)  # work that goes on behind the answer is not stopped
        sent.append("done")

    run(connect(server, app, token, sent, "http"))
    assert sent[-1] == "done"


def test_what_ends_before_it_begins_is_looked_at_in_turn(
    *,
    server: ResourceServer,
    clock: Clock,
    issuer: Issuer,
    run: Run,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A slow answer, or work behind one, must not make the loop turn all the time."""
    token, sent, looks = issuer.jwt(exp=int(clock.now) + 300), [], [0]
    look = lasting.Term.is_over.fget

    def counted(term: lasting.Term) -> bool:
        looks[0] += 1
        return bool(look and look(term))

    monkeypatch.setattr(lasting, "_LOOK_SECONDS", 0.02)
    monkeypatch.setattr(lasting.Term, "is_over", property(counted))

    async def app(scope: Any, receive: Any, send: Any) -> None:
        clock.now += 400
        await anyio.sleep(0.2)
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"all"})

    run(connect(server, app, token, sent, "http"))
    assert 1 <= looks[0] <= 50  # without pause there would be thousands


def test_other_revocations_disturb_nobody(server: ResourceServer, issuer: Issuer, run: Run) -> None:
    """Held against the new state, and left open."""
    token, sent = issuer.jwt(), []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "websocket.accept"})
        server.revoke(subject="mallory")
        await anyio.sleep(0.05)
        await send({"type": "websocket.close", "code": 1000})

    run(connect(server, app, token, sent))
    assert sent[-1]["code"] == 1000


def test_failures_of_the_application_are_its_own(
    server: ResourceServer, issuer: Issuer, run: Run
) -> None:
    """They come out as they would without us, and not in a group."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        raise LookupError("mine")

    with pytest.raises(LookupError, match="mine"):
        run(connect(server, app, issuer.jwt(), []))


def test_an_anonymous_caller_is_left_alone(issuer: Issuer, run: Run) -> None:
    """There is no identity that could end."""
    settings = Settings(**issuer.settings(close_on_expiry=True, optional=True))
    server = ResourceServer(settings, transport=issuer.transport())
    sent: list[Any] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "websocket.accept"})

    async def main() -> None:
        scope = {"type": "websocket", "path": "/", "headers": []}

        async def send(message: Any) -> None:
            sent.append(message)

        await BearerMiddleware(app, server=server)(scope, anyio.sleep_forever, send)

    run(main)
    assert sent == [{"type": "websocket.accept"}]


class Body:
    """A stream of three parts that knows whether it was closed."""

    def __init__(self, between: Callable[[], object]) -> None:
        self.between, self.closed = between, False

    def __iter__(self) -> Iterator[bytes]:
        yield b"one"
        self.between()
        yield b"two"
        yield b"three"

    def close(self) -> None:
        self.closed = True


@pytest.mark.parametrize("end", ENDS)
def test_a_wsgi_stream_is_cut_off(
    server: ResourceServer, clock: Clock, issuer: Issuer, end: str
) -> None:
    """What comes next is not sent any more, and the application is told."""
    token = issuer.jwt(exp=int(clock.now) + 300)
    body = Body(lambda: ENDS[end](server, clock, token))
    got: list[bytes] = []

    def app(environ: Any, start_response: Any) -> Any:
        start_response("200 OK", [])
        return body

    stream: Any = WSGIBearerMiddleware(app, server=server)(
        {"REQUEST_METHOD": "GET", "PATH_INFO": "/", "HTTP_AUTHORIZATION": f"Bearer {token}"},
        lambda *words: None,
    )
    with pytest.raises(lasting.IdentityEnded):
        got.extend(stream)
    stream.close()
    assert got == [b"one"]
    assert body.closed


@pytest.mark.parametrize("end", ENDS)
def test_what_ends_before_a_wsgi_stream_begins(
    server: ResourceServer, clock: Clock, issuer: Issuer, end: str
) -> None:
    """The application may take long until there is a stream. Its first part may be all of it,
    which whoever was let in gets.
    """
    token, got = issuer.jwt(exp=int(clock.now) + 300), []

    def app(environ: Any, start_response: Any) -> Any:
        ENDS[end](server, clock, token)
        start_response("200 OK", [])
        return Body(lambda: None)

    stream: Any = WSGIBearerMiddleware(app, server=server)(
        {"REQUEST_METHOD": "GET", "PATH_INFO": "/", "HTTP_AUTHORIZATION": f"Bearer {token}"},
        lambda *words: None,
    )
    with pytest.raises(lasting.IdentityEnded):
        got.extend(stream)
    assert got == [b"one"]


@pytest.mark.parametrize("end", ENDS)
def test_what_a_mapper_made_of_it_ends_with_the_token(
    *, server: ResourceServer, clock: Clock, issuer: Issuer, run: Run, end: str
) -> None:
    """It may have another name, and none of the claims."""
    mapped = ResourceServer(
        server.settings,
        claim_mapper=lambda identity: identity.replace(subject="user-7", claims={}),
        transport=issuer.transport(),
        clock=clock,
    )
    token, sent = issuer.jwt(exp=int(clock.now) + 300), []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        assert scope["user"].subject == "user-7"
        await send({"type": "websocket.accept"})
        ENDS[end](mapped, clock, token)
        await anyio.sleep_forever()

    run(connect(mapped, app, token, sent))
    assert sent[-1]["code"] == 1008


def test_a_wsgi_answer_that_is_there_is_untouched(server: ResourceServer, issuer: Issuer) -> None:
    """The same list, and a stream without end of identity comes whole."""
    parts, body = [b"a", b"b"], Body(lambda: None)
    environ = {
        "REQUEST_METHOD": "GET",
        "PATH_INFO": "/",
        "HTTP_AUTHORIZATION": f"Bearer {issuer.jwt()}",
    }
    whole = WSGIBearerMiddleware(lambda *_: parts, server=server)
    assert whole(environ, lambda *words: None) is parts
    streamed = WSGIBearerMiddleware(lambda *_: body, server=server)
    assert list(streamed(environ, lambda *words: None)) == [b"one", b"two", b"three"]


def test_without_the_setting_nothing_is_wrapped(issuer: Issuer) -> None:
    """The application is called as it is."""
    server = ResourceServer(Settings(**issuer.settings()), transport=issuer.transport())

    async def app(scope: Any, receive: Any, send: Any) -> None: ...

    assert BearerMiddleware(app, server=server).app is app
