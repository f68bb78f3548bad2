"""Many callers at once: what they start together, and that nothing of it stays."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from bearer_middleware import ResourceServer, Settings
from bearer_middleware.errors import Refused
from bearer_middleware.flow.drivers import arun, run
from bearer_middleware.testing import Issuer


@pytest.fixture
def issuer() -> Iterator[Issuer]:
    """On a loopback port."""
    with Issuer().serve() as issuer:
        yield issuer


@pytest.fixture
def server(issuer: Issuer) -> Iterator[ResourceServer]:
    """Trusts it, and is patient: these tests are about counting, not about time."""
    server = ResourceServer(Settings(**issuer.settings(http_timeout=30)))
    yield server
    server.transport.close()
    assert flights_of(server) == 0


def flights_of(server: ResourceServer) -> int:
    """How many are in the air."""
    count = len(server._answers._flights._flights)
    for each in server.trusted.servers:
        for owner in (each.keys, each.metadata):
            flights = getattr(owner, "_flights", None)
            count += len(flights._flights) if flights is not None else 0
    return count


class Asking:
    """How the middlewares of both worlds ask a server; a refusal is its status."""

    flights_of = staticmethod(flights_of)

    @staticmethod
    def sync(server: ResourceServer, token: str) -> Any:
        value = b"Bearer " + token.encode()
        try:
            identity = server.identify(value)
            if identity is None:
                identity = run(server.authenticate([value]), server.transport)
        except Refused as refusal:
            return refusal.status
        return identity and identity.subject

    @staticmethod
    async def on_loop(server: ResourceServer, token: str) -> Any:
        value = b"Bearer " + token.encode()
        try:
            identity = server.identify(value)
            if identity is None:
                identity = await arun(server.authenticate([value]), server.transport)
        except Refused as refusal:
            return refusal.status
        return identity and identity.subject

    @staticmethod
    def threads(count: int, work: Callable[[], Any]) -> list[Any]:
        """What so many threads get that start together."""
        barrier, results = threading.Barrier(count), []

        def one() -> None:
            barrier.wait(30)
            try:
                results.append(work())
            except BaseException as error:  # noqa: BLE001 - it is shown by the test
                results.append(error)

        threads = [threading.Thread(target=one) for _ in range(count)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
        assert not any(thread.is_alive() for thread in threads)
        return results


@pytest.fixture
def ask() -> type[Asking]:
    """Ask as the middlewares do."""
    return Asking


@pytest.fixture
def quick_switches() -> Iterator[None]:
    """Threads change places as often as the interpreter can."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(before)
