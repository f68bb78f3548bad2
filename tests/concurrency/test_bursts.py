"""Two hundred requests at once, each with a token of its own, through the middlewares."""

from __future__ import annotations

import asyncio
import threading
import time
from collections import Counter
from collections.abc import Callable
from typing import Any

import anyio
import pytest
import trio

from bearer_middleware import BearerMiddleware, ResourceServer, Settings, WSGIBearerMiddleware
from bearer_middleware.errors import Reason
from bearer_middleware.flow.effects import HttpRequest
from bearer_middleware.issuer.upstream import Upstream
from bearer_middleware.testing import Issuer

pytestmark = pytest.mark.alone

PLACES = 20
#: What so many requests get that come at once, in the order in which they get it; also in a
#: list that is given.
Together = Callable[..., list[int]]
PEER = "192.0.2.1"


def over_wsgi(
    server: ResourceServer, tokens: list[str], statuses: list[int] | None = None
) -> list[int]:
    """A thread for each."""
    seen = [] if statuses is None else statuses

    def application(environ: Any, start_response: Any) -> list[bytes]:
        start_response("200 OK", [])
        return []

    middleware = WSGIBearerMiddleware(application, server=server)
    barrier = threading.Barrier(len(tokens))

    def one(token: str) -> None:
        environ = {
            "REQUEST_METHOD": "GET",
            "PATH_INFO": "/",
            "REMOTE_ADDR": PEER,
            "HTTP_AUTHORIZATION": f"Bearer {token}",
        }
        barrier.wait(30)
        list(middleware(environ, lambda status, headers: seen.append(int(status[:3]))))

    threads = [threading.Thread(target=one, args=(token,)) for token in tokens]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    return seen


class OverAsgi:
    """A task for each."""

    def __init__(self, server: ResourceServer, statuses: list[int] | None = None) -> None:
        self.middleware, self.server = BearerMiddleware(self.application, server=server), server
        self.statuses = [] if statuses is None else statuses

    async def application(self, scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b""})

    async def one(self, token: str) -> None:
        async def receive() -> Any:
            return {"type": "http.request", "body": b""}

        async def send(message: Any) -> None:
            if message["type"] == "http.response.start":
                self.statuses.append(message["status"])

        headers = [(b"authorization", f"Bearer {token}".encode())]
        scope = {"type": "http", "method": "GET", "path": "/", "headers": headers}
        await self.middleware({**scope, "client": (PEER, 4711)}, receive, send)

    async def warm(self) -> None:
        """The client of this loop is there: to build it takes long on a busy machine."""
        issuer = self.server.trusted.servers[0].issuer
        await self.server.transport.asend(HttpRequest("GET", f"{issuer}/"))

    async def on_asyncio(self, tokens: list[str]) -> list[int]:
        await self.warm()
        await asyncio.gather(*(self.one(token) for token in tokens))
        await self.server.transport.aclose()
        return self.statuses

    async def on_trio(self, tokens: list[str]) -> list[int]:
        await self.warm()
        async with trio.open_nursery() as nursery:
            for token in tokens:
                nursery.start_soon(self.one, token)
        await self.server.transport.aclose()
        return self.statuses


@pytest.fixture(params=["wsgi", "asyncio", "trio"])
def together(request: pytest.FixtureRequest) -> Together:
    """Each world in turn."""
    return {
        "wsgi": over_wsgi,
        "asyncio": lambda server, tokens, *seen: asyncio.run(
            OverAsgi(server, *seen).on_asyncio(tokens)
        ),
        "trio": lambda server, tokens, *seen: trio.run(OverAsgi(server, *seen).on_trio, tokens),
    }[request.param]


class Gauge:
    """Counts how many exchanges with the introspection endpoint there are at once."""

    def __init__(self, server: ResourceServer) -> None:
        self.now, self.most, self._lock = 0, 0, threading.Lock()
        transport: Any = server.transport
        send, asend = transport.send, transport.asend

        def counted(request: Any) -> Any:
            self.count(1)
            try:
                return send(request)
            finally:
                self.count(-1)

        async def acounted(request: Any) -> Any:
            self.count(1)
            try:
                return await asend(request)
            finally:
                self.count(-1)

        transport.send, transport.asend = counted, acounted

    def count(self, change: int) -> None:
        with self._lock:
            self.now += change
            self.most = max(self.most, self.now)


def made(issuer: Issuer, **settings: Any) -> ResourceServer:
    """A server that has seen one token, trusts this issuer, and is patient."""
    settings = issuer.settings(http_timeout=30, **settings)
    server = ResourceServer(Settings(**settings), transport=issuer.transport())
    assert over_wsgi(server, [issuer.opaque()]) == [200]
    return server


def upstream_of(server: ResourceServer) -> Upstream:
    """Its introspection endpoint."""
    asked = server.trusted.servers[0].introspection
    assert asked is not None
    return asked.upstream


@pytest.mark.parametrize("addresses", ["unknown", "known"])
@pytest.mark.parametrize("delay", [0, 0.02, 0.1])
def test_good_tokens_are_all_served(together: Together, delay: float, addresses: str) -> None:
    """However many come at once, of one client too: twenty are asked about at a time.

    A machine so busy that no exchange ends in a quarter of a second may try again.
    """
    issuer = Issuer()
    for _ in range(4):
        server = made(issuer, trusted_proxies="none" if addresses == "known" else None)
        issuer.fail("introspection", delay=delay)
        gauge, tokens = Gauge(server), [issuer.opaque() for _ in range(200)]
        asked = issuer.requests["introspection"]
        statuses = together(server, tokens)
        assert gauge.most <= PLACES
        assert upstream_of(server).in_flight == 0
        if 503 not in statuses:
            break
    assert statuses == [200] * 200
    assert issuer.requests["introspection"] == asked + 200
    assert server.events.counts[Reason.RATE_LIMITED] == server.events.counts["shed"] == 0
    assert over_wsgi(server, [f"junk{number}" for number in range(20)]) == [401] * 20


def test_good_tokens_of_threads_that_change_places_quickly(quick_switches: None) -> None:
    """Between an answer and its verdict nobody is let in who would find its place still taken."""
    issuer = Issuer()
    server = made(issuer, trusted_proxies="none")
    assert over_wsgi(server, [issuer.opaque() for _ in range(200)]) == [200] * 200


def test_good_tokens_that_a_store_shall_keep() -> None:
    """When an answer is put there, which may take a while, its places are free for others."""
    issuer, taken = Issuer(), list[int]()

    class Store:
        """As slow as it likes."""

        def get(self, key: str) -> None:
            """Nothing is there."""

        def set(self, key: str, value: bytes, seconds: float) -> None:
            """Look what is taken meanwhile."""
            taken.append(upstream_of(server).in_flight + len(server.limits._under_way))

    server = ResourceServer(
        Settings(**issuer.settings(fleet_secret="f" * 64)),
        transport=issuer.transport(),
        cache=Store(),
    )
    assert over_wsgi(server, [issuer.opaque()]) == [200]
    assert taken == [0]


@pytest.mark.parametrize(("addresses", "asked"), [("unknown", 100), ("known", 20)])
@pytest.mark.parametrize("delay", [0, 0.02])
def test_bad_tokens_are_asked_about_within_the_budget(
    together: Together, addresses: str, asked: int, delay: float
) -> None:
    """The others are refused when it would be their turn; no server is blamed for that."""
    issuer, now = Issuer(), time.time()
    settings = issuer.settings(trusted_proxies="none" if addresses == "known" else None)
    server = ResourceServer(Settings(**settings), transport=issuer.transport(), clock=lambda: now)
    good = issuer.opaque()
    assert over_wsgi(server, [good]) == [200]
    issuer.fail("introspection", delay=delay)
    gauge = Gauge(server)
    statuses = Counter(together(server, [*(f"junk{number}" for number in range(300)), good]))
    assert statuses.keys() == {200, 401, 503}
    assert (statuses[200], statuses[401] + statuses[503]) == (1, 300)
    assert asked / 2 < statuses[401] <= asked  # all, unless the machine stands still for a while
    assert issuer.requests["introspection"] == 1 + statuses[401]
    assert gauge.most <= PLACES
    assert server.events.counts["introspection_failed"] == 0
    assert server.events.counts["shedding"] == 1
    upstream = upstream_of(server)
    assert (upstream.state, upstream.in_flight) == ("closed", 0)
    introspection = server.trusted.servers[0].introspection
    assert introspection is not None
    assert introspection.standing == "ok"


def test_a_hung_server_is_given_up_by_all_others(together: Together) -> None:
    """No place becomes free, so they are refused while the twenty are still under way."""
    issuer, statuses = Issuer(), list[int]()
    server = made(issuer)
    transport: Any = server.transport
    send, asend = transport.send, transport.asend
    patience = time.monotonic() + 25

    def hangs() -> bool:
        return len(statuses) < 200 - PLACES and time.monotonic() < patience

    def hanging(request: Any) -> Any:
        while hangs():
            time.sleep(0.01)
        return send(request)

    async def ahanging(request: Any) -> Any:
        while request.method == "POST" and hangs():  # noqa: ASYNC110 - the same for both worlds
            await anyio.sleep(0.01)
        return await asend(request)

    transport.send, transport.asend = hanging, ahanging
    together(server, [issuer.opaque() for _ in range(200)], statuses)
    assert statuses == [503] * (200 - PLACES) + [200] * PLACES
    assert server.events.counts[Reason.RATE_LIMITED] == 0
    assert upstream_of(server).in_flight == 0
