"""What handlers and listeners see of an outage, in both worlds."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from bearer_middleware import ResourceServer
from bearer_middleware.testing import Issuer

Make = Callable[..., ResourceServer]
Ask = Callable[..., Any]


@pytest.mark.parametrize("mode", ["local", "introspect", "both"])
def test_a_handler_sees_that_an_answer_is_stale(
    ask: Ask, make: Make, *, issuer: Issuer, clock: Any, mode: str
) -> None:
    """And a listener hears of each; a claim mapper changes nothing about it."""
    heard: list[Any] = []
    server = make(
        {"stale_if_error": 60, "jwt_validation": mode},
        claim_mapper=lambda identity: identity.replace(scopes={"mapped"}),
        listener=heard.append,
    )
    token = issuer.opaque() if mode == "local" else issuer.jwt()
    assert ask(server, token).identity.stale is False
    clock.advance(31)
    issuer.fail("introspection", drop=True)
    replies = [ask(server, token) for _ in range(3)]
    assert [(reply.status, reply.identity.stale) for reply in replies] == [(200, True)] * 3
    told = [event for event in heard if event.name == "stale_served"]
    assert [event.issuer for event in told] == [issuer.url] * 3
    clock.advance(60)
    assert ask(server, token).status == 503
    issuer.recover()
    clock.advance(1)
    assert ask(server, token).identity.stale is False


def test_nothing_stale_serves_by_default(ask: Ask, make: Make, issuer: Issuer, clock: Any) -> None:
    """It is an exception that has to be asked for."""
    server, token = make(), issuer.opaque()
    ask(server, token)
    clock.advance(30)
    issuer.fail("introspection", status=503)
    reply = ask(server, token)
    assert (reply.status, reply.reached) == (503, False)
    assert int(reply.headers["retry-after"]) >= 1
    assert "stale_served" not in server.events.counts
