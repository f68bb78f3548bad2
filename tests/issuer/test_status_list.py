"""Status lists over time: renewed ahead of their end, apart, once, and never taken back."""

from __future__ import annotations

import base64
import os
import zlib
from collections.abc import Callable
from typing import Any

import pytest

from bearer_middleware.errors import Reason
from bearer_middleware.revocation import status_lists
from bearer_middleware.testing import Issuer

Make = Callable[..., Any]
FETCHES = "status_list"


@pytest.fixture
def world(make: Make, issuer: Issuer) -> Any:
    """An API that looks at the lists of its issuer."""
    return make(status_lists=issuer.url)


def test_a_list_in_use_is_renewed_ahead(world: Any, issuer: Issuer) -> None:
    """From three quarters of its life on, by one caller, while the old one serves."""
    statuses = issuer.status_list(bits=2, ttl=60)
    token = issuer.jwt(status=statuses.claim())
    assert world.ask(token) == 200
    statuses[0] = 2
    world.clock.advance(44)
    assert [world.ask(token) == 200, world.background()] == [True, 0]
    world.clock.advance(5)
    for _ in range(3):
        assert world.ask(token) == 200
    assert issuer.requests[FETCHES] == 1
    assert world.background() == 1
    assert issuer.requests[FETCHES] == 2
    assert world.ask(token).reason is Reason.INVALID_STATUS
    statuses[0] = 0
    world.clock.advance(59)  # the new life counts from its own fetch
    assert world.ask(token) == 401
    world.background()
    assert world.ask(token) == 200


def test_a_renewal_that_fails_is_tried_again_later(world: Any, issuer: Issuer) -> None:
    """With growing pauses, and the old list serves to its end and no longer."""
    statuses = issuer.status_list(ttl=600)
    token = issuer.jwt(status=statuses.claim())
    assert world.ask(token) == 200
    issuer.fail(FETCHES, status=404)
    world.clock.advance(485)
    fetches = 0
    for _ in range(114):
        assert world.ask(token) == 200
        fetches += world.background()
        world.clock.advance(1)
    assert 5 <= fetches <= 12
    world.clock.advance(1)
    assert world.ask(token).reason is Reason.STATUS_UNAVAILABLE
    issuer.recover()
    world.clock.advance(31)
    assert world.ask(token) == 200


def test_a_renewal_that_gets_lost_is_begun_again(world: Any, issuer: Issuer) -> None:
    """With its loop, say: after the time that it may take."""
    token = issuer.jwt(status=issuer.status_list(ttl=60).claim())
    assert world.ask(token) == 200
    world.clock.advance(50)
    assert world.ask(token) == 200
    assert len(world.later) == 1
    world.later.clear()
    world.clock.advance(3)
    assert world.ask(token) == 200
    assert world.background() == 1


def test_exp_ends_a_list_before_its_ttl(world: Any, issuer: Issuer) -> None:
    """TSL-4: whichever is earlier; with the leeway, as for tokens."""
    statuses = issuer.status_list(ttl=3_000)
    statuses.claims["exp"] = int(world.clock()) + 100
    token = issuer.jwt(status=statuses.claim())
    assert world.ask(token) == 200
    world.clock.advance(129)
    assert world.ask(token) == 200
    world.clock.advance(1)
    assert world.ask(token).reason is Reason.STATUS_UNAVAILABLE
    assert issuer.requests[FETCHES] == 2
    world.clock.advance(2)
    statuses.claims["exp"] = int(world.clock()) + 100
    assert world.ask(token) == 200


def test_an_older_list_is_none(world: Any, issuer: Issuer) -> None:
    """TSL-2: whoever can replay one must not bring a revoked token back."""
    statuses = issuer.status_list(ttl=60)
    now = int(world.clock())
    statuses.claims["iat"] = now
    statuses[0] = 1
    token = issuer.jwt(status=statuses.claim())
    assert world.ask(token) == 401
    statuses[0] = 0
    statuses.claims["iat"] = now - 1
    world.clock.advance(60)
    refused = world.ask(token)
    assert refused.reason is Reason.STATUS_UNAVAILABLE
    assert refused.detail == "older than the list before"
    statuses.claims["iat"] = now
    world.clock.advance(2)
    assert world.ask(token) == 200


def test_a_rotated_key_signs_the_next_list(world: Any, issuer: Issuer) -> None:
    """Found as for tokens, in the same request."""
    statuses = issuer.status_list(ttl=60)
    token = issuer.opaque(status=statuses.claim())
    assert world.ask(token) == 200
    issuer.rotate()
    world.clock.advance(60)
    assert world.ask(token) == 200


def test_failures_of_one_list_leave_the_others_alone(world: Any, issuer: Issuer) -> None:
    """One that is not there opens no breaker, and is asked for at growing intervals."""
    good, bad = issuer.status_list(ttl=3_600), issuer.status_list()
    token = issuer.jwt(status=good.claim())
    assert world.ask(token) == 200
    missing = {"status_list": {"idx": 0, "uri": bad.uri + "0"}}
    lost = issuer.jwt(status=missing)
    for _ in range(100):
        assert world.ask(lost) == 503
        assert world.ask(token) == 200
        world.clock.advance(1)
    assert 5 <= issuer.requests[FETCHES] - 1 <= 12
    assert world.ask(issuer.jwt(status=bad.claim())) == 200


def test_the_breaker_spares_a_server_that_fails(world: Any, issuer: Issuer) -> None:
    """Of all its lists together, and says how long."""
    claims = [issuer.status_list().claim() for _ in range(20)]
    issuer.fail(FETCHES, status=500)
    outcomes = [world.ask(issuer.jwt(status=claim)) for claim in claims]
    assert all(outcome == 503 for outcome in outcomes)
    assert issuer.requests[FETCHES] == 5
    assert outcomes[-1].retry_after > 1
    assert world.ask(issuer.jwt()) == 200
    assert world.server.health().ready


def test_memory_is_bounded_by_bytes_and_number(
    world: Any, issuer: Issuer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The lists that were used longest ago make room."""
    lists = world.server.trusted.statuses
    monkeypatch.setattr(lists._kept, "_Cache__maxsize", 2 * 1024 * 1024)
    packed = base64.urlsafe_b64encode(zlib.compress(bytes(900_000), 9)).decode().rstrip("=")
    tokens = []
    for _ in range(4):
        statuses = issuer.status_list(ttl=3_600)
        statuses.claims["status_list"] = {"bits": 1, "lst": packed}
        tokens.append(issuer.jwt(status=statuses.claim()))
    assert {world.ask(token).status for token in tokens} == {200}
    assert len(lists._kept) == 2
    for _ in range(40):
        assert world.ask(issuer.jwt(status=issuer.status_list().claim())) == 200
    assert len(lists._kept) <= 2 * 1024 * 1024 // status_lists._LEAST_BYTES
    assert world.ask(tokens[0]) == 200
    assert repr(lists).startswith("<StatusLists: ")


@pytest.mark.parametrize("settings", [{"stale_if_error": 600}, {"introspection_ttl": 0}], ids=str)
def test_answers_that_are_stale_or_not_kept(
    make: Make, issuer: Issuer, settings: dict[str, Any]
) -> None:
    """An old answer that serves in an outage is held against its list as any other."""
    world = make(status_lists=issuer.url, **settings)
    statuses = issuer.status_list(ttl=60)
    token = issuer.opaque(status=statuses.claim())
    assert world.ask(token) == 200
    if "stale_if_error" in settings:
        issuer.fail("introspection", status=500)
    world.clock.advance(70)
    assert world.ask(token) == 200
    statuses[0] = 1
    world.clock.advance(70)
    assert world.ask(token).reason is Reason.INVALID_STATUS


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
def test_a_child_holds_its_parents_lists(world: Any, issuer: Issuer, in_child: Any) -> None:
    """And none of its flights."""
    token = issuer.jwt(status=issuer.status_list().claim())
    assert world.ask(token) == 200
    assert in_child(lambda: world.ask(token) == 200 and issuer.requests[FETCHES] == 1) == 0


def test_a_leader_that_is_cancelled_leaves_it_to_others(world: Any, issuer: Issuer) -> None:
    """The flight lands abandoned, and nothing is remembered as a failure."""
    statuses = issuer.status_list()
    value = b"Bearer " + issuer.jwt(status=statuses.claim()).encode()
    assert world.ask(issuer.jwt()) == 200
    flow = world.server.authenticate([value])
    effect = next(flow)
    assert effect.url == statuses.uri
    flow.close()
    assert world.ask(issuer.jwt(status=statuses.claim())) == 200


def test_who_comes_a_moment_too_late_fetches_nothing(world: Any, issuer: Issuer) -> None:
    """Another thread's flight landed, or its renewal began, since this one looked."""
    statuses = issuer.status_list(ttl=60)
    assert world.ask(issuer.jwt(status=statuses.claim())) == 200
    lists, (server,) = world.server.trusted.statuses, world.server.trusted.servers
    reference = server.jwt_rules.status.reference(statuses.claim(0))
    kept = world.run(lists._fetched(server, reference, None, world.clock() + 3))
    assert issuer.requests[FETCHES] == 1
    world.clock.advance(50)
    for _ in range(2):
        world.run(lists._renew_apart(server, reference, kept))
    assert world.background() == 1
