"""A server that asks for patience, seen from outside: the same answer in every world."""

from __future__ import annotations

from typing import Any

import pytest

from bearer_middleware import ResourceServer, Settings
from bearer_middleware.testing import Issuer
from tests.contract.wire import bearer
from tests.contract.worlds import WORLDS


class Outage:
    """An issuer that fails, an API that trusts it, and a clock that stands still."""

    def __init__(self, world: str) -> None:
        self.issuer, self.time = Issuer(), 1_800_000_000.0
        self.server = ResourceServer(
            Settings(**self.issuer.settings()),
            transport=self.issuer.transport(),
            clock=lambda: self.time,
        )
        self._ask = WORLDS[world](self.server)

    def opaque(self) -> str:
        return self.issuer.opaque(exp=int(self.time) + 600)

    def jwt(self) -> str:
        return self.issuer.jwt(iat=int(self.time), exp=int(self.time) + 600)

    def ask(self, token: str) -> tuple[int, str | None]:
        """The status, and when to come again."""
        reply = self._ask("/", bearer(token))
        if reply.status == 503:
            assert reply.challenge is None
            assert reply.header("content-type") == "application/problem+json"
            assert reply.header("cache-control") == "no-store"
        return reply.status, reply.header("retry-after")


@pytest.fixture(params=WORLDS)
def outage(request: pytest.FixtureRequest) -> Outage:
    """In each world."""
    return Outage(request.param)


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [({"retry-after": "17"}, 17), ({"retry-after": "-5"}, 1), ({"retry-after": "9" * 21}, 60)],
)
@pytest.mark.parametrize("status", [429, 503])
def test_introspection_asks_for_patience(
    outage: Outage, status: int, headers: dict[str, str], seconds: int
) -> None:
    """Callers are told what is left of it, and known tokens pass; then all is well again. A
    throttled server made no bad tokens (go-authkit 49).
    """
    known = outage.opaque()
    assert outage.ask(known) == (200, None)
    outage.issuer.fail("introspection", status=status, headers=headers)
    assert outage.ask(outage.opaque()) == (503, str(seconds))
    outage.time += 0.5
    assert outage.ask(outage.opaque()) == (503, str(seconds))
    assert outage.ask(known) == (200, None)
    assert outage.ask(outage.jwt()) == (200, None)
    assert outage.issuer.requests["introspection"] == 2
    outage.issuer.recover()
    outage.time += seconds
    assert outage.ask(outage.opaque()) == (200, None)


@pytest.mark.parametrize("endpoint", ["jwks", "metadata"])
def test_documents_ask_for_patience(outage: Outage, endpoint: str) -> None:
    """The same for keys, which are then there again."""
    outage.issuer.fail(endpoint, status=429, headers={"retry-after": "40"})
    token = outage.jwt()
    assert outage.ask(token) == (503, "40")
    outage.time += 10
    assert outage.ask(token) == (503, "30")
    assert outage.issuer.requests[endpoint] == 1
    outage.issuer.recover()
    outage.time += 31
    assert outage.ask(token) == (200, None)


@pytest.mark.parametrize("fault", [{"status": 500}, {"drop": True}], ids=["500", "dropped"])
def test_a_server_that_fails(outage: Outage, fault: dict[str, Any]) -> None:
    """After five attempts nobody is sent, and callers are told of the seconds that are left."""
    outage.issuer.fail("introspection", **fault)
    for _ in range(12):
        status, after = outage.ask(outage.opaque())
        assert status == 503
    assert outage.issuer.requests["introspection"] == 5
    assert 4 <= int(after or 0) <= 6
