"""A stage for failures: an issuer behind a proxy, an API in either world, and time moved by hand.

The issuer is the real one on a loopback port; all that the API says to it passes the proxy.
"""

from __future__ import annotations

import asyncio
import contextlib
import io
import json
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from bearer_middleware import BearerMiddleware, ResourceServer, Settings, WSGIBearerMiddleware
from bearer_middleware.errors import Refused
from bearer_middleware.testing import Issuer
from bearer_middleware.testing.serving import served
from tests.contract.wire import Headers, Reply, bearer, call, converse, reply_of, scope_of
from tests.proxy import Proxy

#: Seconds of a request, by the wall of this room: short, since most of these tests wait for it.
PATIENCE = 0.4
IDENTITY = "bearer_middleware.identity"


async def _asgi_application(scope: Any, receive: Any, send: Any) -> None:
    body = json.dumps(_subject(scope[IDENTITY])).encode()
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": body})


def _wsgi_application(environ: Any, start_response: Any) -> list[bytes]:
    start_response("200 OK", [("Content-Type", "application/json")])
    return [json.dumps(_subject(environ[IDENTITY])).encode()]


def _subject(identity: Any) -> Any:
    return None if identity is None else identity.subject


class Clock:
    """Wall and monotonic time in one, moved by hand."""

    def __init__(self) -> None:
        self.time = float(int(time.time()))

    def __call__(self) -> float:
        return self.time

    def advance(self, seconds: float) -> None:
        self.time += seconds


class Stage:
    """What a test of this folder plays on. Every answer is looked at, whatever it is about."""

    def __init__(self, world: str, issuer: Issuer, proxy: Proxy) -> None:
        self.world, self.issuer, self.proxy = world, issuer, proxy
        self.clock = Clock()
        self._loop = asyncio.new_event_loop()
        self._servers: list[ResourceServer] = []

    def serve(self, *, clock: Any = None, **settings: Any) -> ResourceServer:
        """An API that trusts the issuer; asked from now on. Settings change its usual ones."""
        said = self.issuer.settings(**{"http_timeout": PATIENCE, **settings})
        given = {name: value for name, value in said.items() if value is not None}
        self.server = ResourceServer(Settings(**given), clock=clock or self.clock)
        self._servers.append(self.server)
        if self.world == "asgi":
            self.app: Any = BearerMiddleware(_asgi_application, server=self.server)
        else:
            self.app = WSGIBearerMiddleware(_wsgi_application, server=self.server)
        return self.server

    def jwt(self, seconds: float = 86_400, **claims: Any) -> str:
        """A JWT that ends so many seconds from now."""
        now = int(self.clock())
        return self.issuer.jwt(**{"iat": now, "exp": now + int(seconds), **claims})

    def opaque(self, **members: Any) -> str:
        """An opaque token that ends tomorrow."""
        return self.issuer.opaque(**{"exp": int(self.clock()) + 86_400, **members})

    def asked(self, endpoint: str = "introspection") -> int:
        """How often the issuer was asked, as far as it knows."""
        return self.issuer.requests[endpoint]

    def ask(self, token: str | bytes) -> int:
        """The status of a request with this token."""
        return self.request(bearer(token)).status

    def form(self, body: bytes) -> Reply:
        """The answer to a form that is posted."""
        kind = "application/x-www-form-urlencoded"
        if self.world == "wsgi":
            said = {"CONTENT_TYPE": kind, "CONTENT_LENGTH": str(len(body))}
            return self.request(method="POST", **{"wsgi.input": io.BytesIO(body), **said})
        return self.request([("Content-Type", kind)], method="POST", body=body)

    def request(self, headers: Headers = (), path: str = "/", **members: Any) -> Reply:
        """The answer to a request."""
        if self.world == "wsgi":
            alone = {"wsgi.multiprocess": False, **members}
            return judged(call(self.app, path, headers, **alone))
        return self._loop.run_until_complete(self._exchange(path, headers, **members))

    def together(self, tokens: list[str]) -> list[int]:
        """The statuses of requests that are made at once."""
        if self.world == "wsgi":
            with ThreadPoolExecutor(len(tokens)) as pool:
                return list(pool.map(self.ask, tokens))

        async def all_of_them() -> list[Reply]:
            asked = (self._exchange("/", bearer(token)) for token in tokens)
            return await asyncio.gather(*asked)

        return [reply.status for reply in self._loop.run_until_complete(all_of_them())]

    def meanwhile(self, token: str, others: list[str]) -> tuple[int, list[int]]:
        """What becomes of a request that waits, and of others that begin and end before it does."""
        if self.world == "wsgi":
            with ThreadPoolExecutor(1) as pool:
                waiting = pool.submit(self.ask, token)
                time.sleep(0.2)
                statuses = [self.ask(other) for other in others]
                assert not waiting.done()
                return waiting.result(), statuses

        async def both() -> tuple[int, list[int]]:
            waiting = asyncio.create_task(self._exchange("/", bearer(token)))
            await asyncio.sleep(0.2)
            statuses = [(await self._exchange("/", bearer(other))).status for other in others]
            assert not waiting.done()
            return (await waiting).status, statuses

        return self._loop.run_until_complete(both())

    def apart(self, token: str) -> Reply:
        """The answer to a request in the thread of the caller, where a loop is a new one."""
        if self.world == "wsgi":
            return self.request(bearer(token))

        async def visit() -> Reply:
            try:
                return await self._exchange("/", bearer(token))
            finally:
                await self.server.aclose()

        return asyncio.run(visit())

    def start(self, token: str) -> None:
        """Begin a request on the loop, and do not wait for it."""
        self._begun = self._loop.create_task(self._exchange("/", bearer(token)))

    def run(self, work: Any) -> Any:
        """Do something on the loop."""
        return self._loop.run_until_complete(work)

    def identify(self, token: str) -> None:
        """Only what a request does before anybody is asked."""
        with contextlib.suppress(Refused):
            self.server.identify(b"Bearer " + token.encode())

    def mend(self) -> None:
        """All is well again, what was begun before has ended, and so has the longest wait."""
        self.proxy.heal()
        self.issuer.recover()
        self.settle(lambda: not any(self._under_way()))
        self.clock.advance(61)

    def _under_way(self) -> Iterator[Any]:
        parts: list[Any] = [self.server._answers]
        for server in self.server.trusted.servers:
            parts += [server.metadata, server.keys]
        for part in parts:
            if hasattr(part, "_flights"):
                yield part._flights._flights

    def settle(self, done: Callable[[], bool]) -> None:
        """Let what goes on in the background go on, until this is so."""
        deadline = time.monotonic() + 20
        while not done():
            assert time.monotonic() < deadline, "it never came to pass"
            self.breathe()

    def breathe(self, seconds: float = 0.01) -> None:
        """Let the loop run, or the threads."""
        if self.world == "wsgi":
            time.sleep(seconds)
        else:
            self._loop.run_until_complete(asyncio.sleep(seconds))

    def new_loop(self) -> None:
        """Whatever the loop had under way ends with it, without a word."""
        self._end_loop()
        self._loop = asyncio.new_event_loop()

    def abandon_loop(self) -> None:
        """In a child: the loop is the parent's."""
        self._loop = asyncio.new_event_loop()

    def close(self) -> None:
        for server in self._servers:
            self._loop.run_until_complete(server.aclose())
            server.close()
        self._end_loop()

    async def _exchange(
        self, path: str, headers: Headers, body: bytes = b"", **members: Any
    ) -> Reply:
        request = {"type": "http.request", "body": body, "more_body": False}
        sent = await converse(self.app, scope_of(path, headers, **members), [request])
        return judged(reply_of(sent))

    def _end_loop(self) -> None:
        tasks = asyncio.all_tasks(self._loop)
        for task in tasks:
            task.cancel()
        if tasks:
            self._loop.run_until_complete(asyncio.gather(*tasks, return_exceptions=True))
        self._loop.run_until_complete(self._loop.shutdown_asyncgens())
        self._loop.run_until_complete(self._loop.shutdown_default_executor())
        self._loop.close()


def judged(reply: Reply) -> Reply:
    """What holds for every answer: never 500, no challenge in an outage, a time to come again."""
    assert reply.status in (200, 400, 401, 403, 503), reply
    assert (reply.challenge is not None) is (reply.status in (400, 401, 403)), reply
    retry = reply.header("retry-after")
    assert (retry is not None) is (reply.status == 503), reply
    if retry is not None:
        assert 1 <= int(retry) <= 75
    if reply.status != 200:
        assert reply.header("content-type") == "application/problem+json"
        assert reply.header("cache-control") == "no-store"
        assert set(reply.json) <= {"status", "title", "error"}
    return reply


@pytest.fixture(params=["asgi", "wsgi"])
def world(request: pytest.FixtureRequest) -> str:
    """Each in turn."""
    return str(request.param)


@pytest.fixture
def stage(world: str) -> Iterator[Stage]:
    """An issuer whose name is the address of the proxy; everything ends with the test."""
    with Proxy() as proxy:
        issuer = Issuer(proxy.url)
        with served(issuer.respond, 0) as port:
            proxy.to = port
            stage = Stage(world, issuer, proxy)
            stage.serve()
            try:
                yield stage
            finally:
                stage.close()
                proxy.refuse()
