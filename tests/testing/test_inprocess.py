"""The issuer without a network: as an ASGI application and as an httpx transport."""

from __future__ import annotations

import time
from collections.abc import Callable
from types import ModuleType
from typing import Any

import anyio
import httpx
import httpx2
import pytest
from starlette.testclient import TestClient

from bearer_middleware.testing import Issuer

Run = Callable[..., Any]

pytestmark = pytest.mark.filterwarnings("default::DeprecationWarning:starlette.testclient")

LIBRARIES = pytest.mark.parametrize("library", [httpx, httpx2], ids=["httpx", "httpx2"])
LOOPS = pytest.mark.parametrize("loop", ["asyncio", "trio"])


def conversation(
    issuer: Issuer, loop: str, *messages: dict[str, Any], **scope: Any
) -> list[dict[str, Any]]:
    """Call the application with these messages, and return what it sends."""
    incoming, sent = list(messages), list[dict[str, Any]]()

    async def receive() -> dict[str, Any]:
        return incoming.pop(0)

    async def send(message: dict[str, Any]) -> None:
        sent.append(message)

    async def main() -> None:
        await issuer.app(scope, receive, send)

    anyio.run(main, backend=loop)
    return sent


def http(
    issuer: Issuer, loop: str, path: str, *bodies: bytes, **scope: Any
) -> list[dict[str, Any]]:
    """Send one request, its body in these parts and an empty last one."""
    parts = [{"type": "http.request", "body": body, "more_body": True} for body in bodies]
    request: dict[str, Any] = {
        "type": "http",
        "method": "GET",
        "path": path,
        "headers": [],
        **scope,
    }
    return conversation(issuer, loop, *parts, {"type": "http.request"}, **request)


@LOOPS
def test_the_application_answers(issuer: Issuer, loop: str, basic: str) -> None:
    """A body in two parts is one request, the answer is one body."""
    headers = [(b"authorization", basic.encode())]
    start, body = http(
        issuer, loop, "/introspect", b"tok", b"en=junk", method="POST", headers=headers
    )
    assert (start["type"], start["status"]) == ("http.response.start", 200)
    assert (b"content-type", b"application/json") in start["headers"]
    assert body == {"type": "http.response.body", "body": b'{"active": false}'}


@LOOPS
def test_the_application_is_slow_on_purpose(issuer: Issuer, loop: str) -> None:
    """Delay, dripping head and dripping body all take their time."""
    issuer.fail("jwks", body=b"abc", delay=0.1, drip=0.001, drip_headers=True)
    begin = time.monotonic()
    _, *bodies = http(issuer, loop, "/jwks")
    assert time.monotonic() - begin >= 0.2
    assert [part["body"] for part in bodies] == [b"a", b"b", b"c", b""]
    assert [part.get("more_body", False) for part in bodies] == [True, True, True, False]


def test_the_application_hangs_up(issuer: Issuer) -> None:
    """There is no answer; the exception ends the request."""
    issuer.fail("jwks", drop=True)
    with pytest.raises(ConnectionResetError):
        http(issuer, "asyncio", "/jwks")


def test_the_application_knows_lifespan_and_http(issuer: Issuer) -> None:
    """Nothing else is spoken."""
    phases = [{"type": "lifespan.startup"}, {"type": "lifespan.shutdown"}]
    sent = conversation(issuer, "asyncio", *phases, type="lifespan")
    assert [message["type"] for message in sent] == [
        "lifespan.startup.complete",
        "lifespan.shutdown.complete",
    ]
    with pytest.raises(ValueError, match="websocket"):
        conversation(issuer, "asyncio", type="websocket")


def test_servers_and_test_clients_may_take_it_for_asgi_2(issuer: Issuer) -> None:
    """It is no coroutine function, so some call it in two steps."""
    with TestClient(issuer.app) as client:
        assert client.get("/jwks").json() == issuer.jwks
    assert issuer.app is issuer.app


class Sync:
    """Ask through the blocking client."""

    def __init__(self, library: ModuleType) -> None:
        self.library = library

    def __call__(self, issuer: Issuer, method: str, path: str, **options: Any) -> Any:
        with self.library.Client(transport=issuer.transport()) as client:
            return client.request(method, f"https://any.test{path}", **options)


class Async:
    """Ask through the asynchronous client."""

    def __init__(self, library: ModuleType, loop: str) -> None:
        self.library = library
        self.loop = loop

    def __call__(self, issuer: Issuer, method: str, path: str, **options: Any) -> Any:
        async def main() -> Any:
            async with self.library.AsyncClient(transport=issuer.transport()) as client:
                return await client.request(method, f"https://any.test{path}", **options)

        return anyio.run(main, backend=self.loop)


@pytest.fixture(params=["blocking", "asyncio", "trio"])
def colour(request: pytest.FixtureRequest) -> str:
    """The worlds that one transport serves."""
    return str(request.param)


@pytest.fixture
def fetch(library: ModuleType, colour: str) -> Run:
    """A client of this library, in a world of this colour."""
    return Sync(library) if colour == "blocking" else Async(library, colour)


@LIBRARIES
def test_the_transport_answers_for_any_host(issuer: Issuer, fetch: Run) -> None:
    """Both libraries, blocking and in both kinds of loop."""
    assert fetch(issuer, "GET", "/jwks").json() == issuer.jwks
    auth = (issuer.client_id, issuer.client_secret)
    asked = fetch(issuer, "POST", "/introspect", data={"token": issuer.opaque()}, auth=auth)
    assert asked.json()["active"] is True
    assert fetch(issuer, "HEAD", "/jwks").content == b""
    assert issuer.requests == {"jwks": 2, "introspection": 1}


@LIBRARIES
def test_the_transport_fails_as_the_library_does(
    issuer: Issuer, fetch: Run, library: ModuleType
) -> None:
    """The errors are the library's own."""
    issuer.fail("all", drop=True)
    with pytest.raises(library.ConnectError):
        fetch(issuer, "GET", "/jwks")


@LIBRARIES
@pytest.mark.parametrize("slow", [{"delay": 5}, {"drip": 5}, {"drip": 5, "drip_headers": True}])
def test_the_transport_keeps_the_read_timeout(
    issuer: Issuer, fetch: Run, library: ModuleType, slow: dict[str, Any]
) -> None:
    """A slow issuer costs the client what it was willing to wait."""
    issuer.fail("jwks", **slow)
    begin = time.monotonic()
    with pytest.raises(library.ReadTimeout):
        fetch(issuer, "GET", "/jwks", timeout=0.05)
    assert 0.05 <= time.monotonic() - begin < 2


@LIBRARIES
def test_the_transport_is_slow_on_purpose(issuer: Issuer, fetch: Run) -> None:
    """Delay, dripping head and dripping body all take their time."""
    issuer.fail("jwks", body=b"abc", delay=0.1, drip=0.001, drip_headers=True)
    begin = time.monotonic()
    assert fetch(issuer, "GET", "/jwks", timeout=None).content == b"abc"
    assert time.monotonic() - begin >= 0.2


@LIBRARIES
def test_a_dripping_body_may_be_left_early(issuer: Issuer, library: ModuleType) -> None:
    """A client that has read enough closes the stream."""
    issuer.fail("jwks", body=b"abc", drip=0.001)
    with (
        library.Client(transport=issuer.transport()) as client,
        client.stream("GET", "https://any.test/jwks") as response,
    ):
        assert next(response.iter_raw()) == b"a"


def test_the_transport_is_a_context_manager_of_both_colours(issuer: Issuer) -> None:
    """Entering gives the transport itself."""
    with issuer.transport() as transport:
        assert transport is not None

    async def main() -> bool:
        transport = issuer.transport()
        async with transport as entered:
            return entered is transport

    assert anyio.run(main)


def test_an_asgi_transport_takes_the_application(issuer: Issuer) -> None:
    """The usual way to call an application in-process works too."""
    app: Any = issuer.app

    async def main() -> Any:
        transport = httpx.ASGITransport(app)
        async with httpx.AsyncClient(transport=transport, base_url=issuer.url) as client:
            return (await client.get("/jwks")).json()

    assert anyio.run(main) == issuer.jwks
