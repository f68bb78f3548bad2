"""A feed of one's own, told by hand, and requests in every world."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import trio

from bearer_middleware import ResourceServer, Settings
from bearer_middleware.errors import Refused
from bearer_middleware.flow.drivers import arun, run
from bearer_middleware.revocation.marks import Mark
from bearer_middleware.testing import Issuer


class FakeClock:
    """Wall and monotonic time in one, moved by hand."""

    def __init__(self) -> None:
        self.time = float(int(time.time()))

    def __call__(self) -> float:
        return self.time

    def advance(self, seconds: float) -> None:
        self.time += seconds


class HandFeed:
    """Tells what it is given; may be silent, late, or have lost its place."""

    def __init__(self) -> None:
        self.marks: list[Mark] = []
        self.fails = self.is_lost = self.waiting = False
        self.snapshots = 0
        self.lets_go = threading.Event()
        self.lets_go.set()
        self._news: list[Mark] = []
        self._told = threading.Event()

    def snapshot(self) -> list[Mark]:
        self.waiting = True
        self.lets_go.wait(20)
        self.waiting = False
        self._fail()
        self.is_lost = False
        self.snapshots += 1
        return list(self.marks)

    def following(self) -> list[Mark] | None:
        self._told.wait(0.02)
        self._told.clear()
        self._fail()
        if self.is_lost:
            return None
        news, self._news = self._news, []
        return news

    def tell(self, *marks: Mark) -> None:
        """From now on there are these, too."""
        self.marks += marks
        self._news = [*self._news, *marks]
        self._told.set()

    def _fail(self) -> None:
        if self.fails:
            raise ConnectionError("c4n4ry text of a library")


class WritableHandFeed(HandFeed):
    """The same, and it can be told by whoever revokes."""

    def publish(self, marks: Any) -> None:
        self._fail()
        self.tell(*marks)


def eventually(is_so: Callable[[], bool]) -> None:
    """It is the work of another thread, so it may take a moment."""
    deadline = time.monotonic() + 20
    while not is_so():
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.005)


@pytest.fixture
def clock() -> FakeClock:
    """Stands still."""
    return FakeClock()


@pytest.fixture
def issuer() -> Issuer:
    """In process."""
    return Issuer()


@pytest.fixture
def feed() -> HandFeed:
    """Empty, and well; it cannot be written."""
    return HandFeed()


@pytest.fixture
def make(issuer: Issuer, clock: FakeClock, feed: HandFeed) -> Iterator[Callable[..., Any]]:
    """A server that reads the feed. Keywords change its settings, or are its extensions."""
    made: list[ResourceServer] = []
    extensions = {"listener", "feed", "claim_mapper", "validators"}

    def build(**said: Any) -> ResourceServer:
        given = {"feed": feed} | {name: said.pop(name) for name in extensions & said.keys()}
        settings = Settings(**issuer.settings(**said))
        made.append(ResourceServer(settings, clock=clock, transport=issuer.transport(), **given))
        return made[-1]

    yield build
    feed.lets_go.set()
    for server in made:
        server.close()


@pytest.fixture(params=["blocking", "asyncio", "trio"])
def world(request: pytest.FixtureRequest) -> str:
    """Each in turn."""
    return str(request.param)


def asked(server: ResourceServer, token: str, world: str = "blocking") -> Any:
    """The subject, or the reason of the refusal, as for a middleware."""
    value = b"Bearer " + token.encode()
    try:
        identity = server.identify(value)
        if identity is None:
            identity = _drive(world, server, value)
    except Refused as refusal:
        return str(refusal.reason)
    return identity.subject


@pytest.fixture
def ask(world: str) -> Callable[..., Any]:
    """``ask(server, token)`` in this world."""
    return lambda server, token: asked(server, token, world)


def _drive(world: str, server: ResourceServer, value: bytes) -> Any:
    if world == "blocking":
        return run(server.authenticate([value]), server.transport)

    async def main() -> Any:
        return await arun(server.authenticate([value]), server.transport)

    return trio.run(main) if world == "trio" else asyncio.run(main())
