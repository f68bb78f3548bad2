"""What handlers and listeners see of an outage, in both worlds."""

from __future__ import annotations

import logging
import sys
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from bearer_middleware import ResourceServer
from bearer_middleware.flow.events import Event, Events
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


@pytest.fixture
def quick_switches() -> Iterator[None]:
    """Threads change places as often as the interpreter can."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(before)


def test_the_count_is_exact(quick_switches: None) -> None:
    """Threads that count at the same time, also for the first time, lose nothing."""
    for _ in range(100):
        events, barrier = Events(), threading.Barrier(8)

        def count(events: Events = events, barrier: threading.Barrier = barrier) -> None:
            barrier.wait(10)
            for _ in range(20):
                events.note(Event("stale_served", logging.DEBUG))

        threads = [threading.Thread(target=count) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(10)
        assert events.counts["stale_served"] == 160
