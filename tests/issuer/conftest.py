"""A resource server and its issuer in one process: time stands still unless a test says so."""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from bearer_middleware import Identity, ResourceServer, Settings
from bearer_middleware.errors import Reason, Refused
from bearer_middleware.flow.drivers import run
from bearer_middleware.flow.effects import Background
from bearer_middleware.testing import Issuer


class FakeClock:
    """Wall and monotonic time in one, moved by hand."""

    def __init__(self) -> None:
        self.time = float(int(time.time()))

    def __call__(self) -> float:
        return self.time

    def advance(self, seconds: float) -> None:
        self.time += seconds


@dataclass(frozen=True)
class Outcome:
    """What became of a request. Equal to its status."""

    status: int
    reason: Reason | None = None
    identity: Identity | None = None
    detail: str = ""
    retry_after: float = 0.0

    def __eq__(self, other: object) -> bool:
        return self.status == other if isinstance(other, int) else NotImplemented

    __hash__ = None  # type: ignore[assignment]


class World:
    """A resource server that trusts one issuer or several, driven by hand."""

    def __init__(self, *issuers: Issuer, clock: Any = None, **settings: Any) -> None:
        self.issuers = issuers
        self.issuer = issuers[0]
        self.clock = clock or FakeClock()
        self.later: list[Callable[[], Any]] = []
        self.settings = Settings(**settings)
        self.server = ResourceServer(self.settings, clock=self.clock, transport=self.transport())

    def transport(self) -> Any:
        return self.issuer.transport()

    def ask(self, token: str) -> Outcome:
        """As the middlewares do: the short way, then the whole way."""
        value = b"Bearer " + token.encode()
        try:
            identity = self.server.identify(value)
            if identity is None:
                identity = self.run(self.server.authenticate([value]))
        except Refused as refusal:
            after = getattr(refusal, "retry_after", 0.0)
            return Outcome(refusal.status, refusal.reason, None, refusal.detail, after)
        return Outcome(200, None, identity)

    def run(self, flow: Any) -> Any:
        return run(self.apart(flow), self.server.transport)

    def apart(self, flow: Any) -> Generator[Any, Any, Any]:
        """The flow, with its background work set aside."""
        try:
            effect = next(flow)
            while True:
                try:
                    if isinstance(effect, Background):
                        self.later.append(effect.start)
                        reply: Any = None
                    else:
                        reply = yield effect
                except BaseException as failure:  # noqa: BLE001 - as the drivers do
                    effect = flow.throw(failure)
                else:
                    effect = flow.send(reply)
        except StopIteration as done:
            return done.value
        finally:
            flow.close()

    def background(self) -> int:
        """Do what was set aside, and say how much it was."""
        work, self.later = self.later, []
        for start in work:
            self.run(start())
        return len(work)

    def asked(self, endpoint: str) -> int:
        """How often, over all issuers."""
        return sum(issuer.requests[endpoint] for issuer in self.issuers)


@pytest.fixture
def issuer() -> Issuer:
    """Fresh, not served."""
    return Issuer()


@pytest.fixture
def clock() -> FakeClock:
    """Stands still."""
    return FakeClock()


@pytest.fixture
def world(issuer: Issuer, clock: FakeClock) -> World:
    """An API that trusts the issuer for JWTs and opaque tokens, with every default."""
    return World(issuer, clock=clock, **issuer.settings())


@pytest.fixture
def make(issuer: Issuer, clock: FakeClock) -> Callable[..., World]:
    """The same with other settings; ``None`` takes one away."""

    def build(**settings: Any) -> World:
        return World(issuer, clock=clock, **issuer.settings(**settings))

    return build


@pytest.fixture
def build() -> type[World]:
    """A world of several issuers."""
    return World


@pytest.fixture(autouse=True)
def nothing_is_left(request: pytest.FixtureRequest) -> Iterator[None]:
    """However a test ends, no flight stays in the air."""
    yield
    world = request.node.funcargs.get("world")
    if not isinstance(world, World):
        return
    for server in world.server.trusted.servers:
        owners = [getattr(owner, "_flights", None) for owner in (server.keys, server.metadata)]
        assert not any(flights._flights for flights in owners if flights is not None)
    assert not world.server._answers._flights._flights
