"""Five thousand bad tokens a second: what good ones notice of it, and what the issuer does."""

from __future__ import annotations

import base64
import json
import secrets
from collections import Counter
from itertools import count
from typing import Any

import pytest

from bearer_middleware.testing import Issuer
from bearer_middleware.web.client_address import ClientAddresses

Make = Any
PER_SECOND, SECONDS, STEP = 5000, 10, 0.02
ATTACKERS = tuple(f"198.51.100.{number}" for number in range(20))
#: What the limits allow: a burst, and so many a second.
BUDGET = 100 + 50 * SECONDS + 1


@pytest.mark.parametrize("addresses", ["unknown", "known"])
def test_a_flood_of_random_tokens(make: Make, issuer: Issuer, clock: Any, addresses: str) -> None:
    """Good tokens are served, remembered or due; the issuer is asked within the budget. Where
    addresses are known, new good tokens of others are served too.
    """
    known = addresses == "known"
    server, ask = make(trusted_proxies="none" if known else None, introspection_ttl=30)
    good = [issuer.opaque() for _ in range(200)]
    assert {ask(token) for token in good} == {200}
    clock.advance(30 - SECONDS / 2)  # they all have to be renewed in the middle of it
    asked, newcomers, junk = issuer.requests["introspection"], 0, Counter[int]()
    for step in range(int(SECONDS / STEP)):
        for number in range(int(PER_SECOND * STEP)):
            junk[ask(secrets.token_urlsafe(24), ATTACKERS[number % len(ATTACKERS)])] += 1
        assert {ask(token) for token in good[step % 20 :: 20]} == {200}
        if step % 5 == 0:
            assert ask(issuer.jwt()) == 200
            arrived = ask(issuer.opaque(), f"203.0.113.{step // 5}")
            assert arrived in ((200,) if known else (200, 503))
            newcomers += arrived == 200
        clock.advance(STEP)
    assert sum(junk.values()) == PER_SECOND * SECONDS
    assert set(junk) == {401, 503}
    assert junk[401] <= BUDGET
    assert issuer.requests["introspection"] - asked == junk[401] + len(good) + newcomers
    assert junk[401] > BUDGET / 3  # and the flood has met the limits, not a closed door
    assert server.events.counts["shedding"] == 1


def test_good_tokens_that_are_asked_about_every_time(
    make: Make, issuer: Issuer, clock: Any
) -> None:
    """With a TTL of 0 nothing is remembered but that they were good."""
    _, ask = make(introspection_ttl=0)
    good = [issuer.opaque() for _ in range(20)]
    assert {ask(token) for token in good} == {200}
    for _ in range(10):
        for _ in range(300):
            ask(secrets.token_urlsafe(24))
        assert {ask(token) for token in good} == {200}
        clock.advance(0.1)
    issuer.revoke(good[0])
    assert ask(good[0]) == 401


def test_many_good_tokens_are_no_flood(make: Make, issuer: Issuer) -> None:
    """A good token gives its place back, so that any number is let in at once."""
    server, ask = make(trusted_proxies="none")
    assert {ask(issuer.opaque()) for _ in range(400)} == {200}
    assert server.events.counts["rate_limited"] == 0


def test_a_repeated_bad_token_costs_one_place(make: Make, issuer: Issuer) -> None:
    """A client that is misconfigured harms neither itself nor others."""
    server, ask = make(trusted_proxies="none")
    assert {ask("never-issued") for _ in range(1000)} == {401}
    assert ask(issuer.opaque()) == 200
    assert issuer.requests["introspection"] == 2
    assert server.events.counts["rate_limited"] == 0


def test_one_address(make: Make, issuer: Issuer, clock: Any) -> None:
    """Twenty at once, then five a second; others, and what is known, do not feel it."""
    _, ask = make(trusted_proxies="none")
    seen = issuer.opaque()
    assert ask(seen, "198.51.100.1") == 200
    numbers = count()

    def junk() -> int:
        return ask(f"junk-{next(numbers)}", "198.51.100.1")

    assert [junk() for _ in range(30)] == [401] * 20 + [503] * 10
    assert ask(issuer.opaque(), "198.51.100.1") == 503  # nobody knows yet that it is good
    assert ask(seen, "198.51.100.1") == 200
    assert ask(issuer.jwt(), "198.51.100.1") == 200
    assert ask("junk-0", "198.51.100.1") == 401
    assert ask(issuer.opaque(), "198.51.100.2") == 200
    clock.advance(1)
    assert [junk() for _ in range(10)] == [401] * 5 + [503] * 5
    clock.advance(1)
    assert ask(issuer.opaque(), "198.51.100.1") == 200


def test_an_attacker_behind_a_proxy(make: Make, issuer: Issuer) -> None:
    """Is told from others by the proxy, whatever chain it sends itself."""
    _, ask = make(trusted_proxies="10.0.0.0/8")
    statuses = [
        ask(f"junk-{number}", "10.0.0.1", f"203.0.113.{number}, 198.51.100.1")
        for number in range(40)
    ]
    assert statuses == [401] * 20 + [503] * 20
    assert ask(issuer.opaque(), "10.0.0.1", "203.0.113.1") == 200
    assert ask(issuer.opaque(), "10.0.0.1", "203.0.113.1, 198.51.100.1") == 503


def test_without_addresses_there_is_no_limit_per_client(make: Make, issuer: Issuer) -> None:
    """Nobody said how to find them, or there is none: a proxy is not taken for an attacker."""
    for settings, peer in (({}, "10.0.0.1"), ({"trusted_proxies": "none"}, None)):
        _, ask = make(**settings)
        assert [ask(f"junk-{number}", peer) for number in range(100)] == [401] * 100
        assert ask(issuer.opaque(), peer) == 503


def test_addresses_are_looked_for_only_where_they_matter(
    make: Make, issuer: Issuer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not for what is remembered, verified locally, or refused without asking."""
    found: list[str] = []
    inner = ClientAddresses.address

    def noting(self: ClientAddresses, *said: Any) -> Any:
        address = inner(self, *said)
        found.append(str(address))
        return address

    monkeypatch.setattr(ClientAddresses, "address", noting)
    _, ask = make(trusted_proxies="none", token_pattern="[0-9A-Za-z_-]+")
    jwt, opaque = issuer.jwt(), issuer.opaque()
    for _ in range(3):
        assert [ask(token) for token in (jwt, issuer.jwt(), "x.y.z", opaque)] == [
            200,
            200,
            401,
            200,
        ]
        assert ask("junk") == 401
    assert found == ["192.0.2.1"] * 2


def test_an_outage_is_nobodys_fault(make: Make, issuer: Issuer, clock: Any) -> None:
    """What could not be asked does not count against the client."""
    _, ask = make(trusted_proxies="none")
    assert ask(issuer.opaque()) == 200
    issuer.fail("introspection", status=503)
    assert [ask(f"token-{number}") for number in range(60)] == [503] * 60
    issuer.recover()
    clock.advance(10)
    assert ask(issuer.opaque()) == 200
    assert ask("junk") == 401


def test_a_pattern_is_met_before_anybody_is_asked(make: Make, issuer: Issuer) -> None:
    """In full, and only by opaque tokens."""
    server, ask = make(token_pattern="[0-9]{8}")
    for token in ("1234567", "123456789", "a12345678", "12345678a", "12345678=", issuer.opaque()):
        assert ask(token) == 401
    assert server.events.counts["malformed_token"] == 6
    assert issuer.requests["introspection"] == 0
    assert ask("12345678") == 401
    assert issuer.requests["introspection"] == 1
    assert ask(issuer.jwt()) == 200
    for number in range(1000):
        assert ask(f"junk-{number}") == 401
    assert server.events.counts["rate_limited"] == 0


def test_jwts_that_are_sent_meet_the_limits(make: Make, issuer: Issuer) -> None:
    """Under ``introspect`` nobody looks at a signature before: random JWTs are a flood too."""
    _, ask = make(jwt_validation="introspect")
    statuses = Counter(ask(forged(issuer)) for _ in range(300))
    assert statuses == {401: 100, 503: 200}


def test_verified_jwts_meet_no_limit(make: Make, issuer: Issuer) -> None:
    """Under ``both`` the issuer's signature says that this is no flood."""
    _, ask = make(jwt_validation="both", trusted_proxies="none")
    revoked = [issuer.jwt() for _ in range(130)]
    for token in revoked:
        issuer.revoke(token)
    assert {ask(token) for token in revoked} == {401}
    assert issuer.requests["introspection"] == 130
    assert ask(issuer.jwt()) == 200


def test_a_flood_of_unknown_kids_does_not_delay_a_rotation(
    make: Make, issuer: Issuer, clock: Any
) -> None:
    """The new key is accepted within five seconds, and the issuer is asked seldom."""
    _, ask = make()
    good = issuer.jwt()
    assert ask(good) == 200
    template = forged(issuer).split(".")
    rotated, token = None, ""
    for step in range(int(SECONDS / STEP)):
        for _ in range(int(PER_SECOND * STEP)):
            header = {"alg": "RS256", "typ": "at+jwt", "kid": secrets.token_hex(8)}
            segment = base64.urlsafe_b64encode(json.dumps(header).encode()).decode().rstrip("=")
            assert ask(".".join((segment, *template[1:]))) == 401
        clock.advance(STEP)
        if rotated is None:
            assert ask(good) == 200
        if step == 100:
            issuer.rotate()
            rotated, token = clock(), issuer.jwt()
        if rotated is not None and ask(token) == 200:
            break
    assert rotated is not None
    assert clock() - rotated <= 5
    assert issuer.requests["jwks"] <= 2 + 2 + clock() - rotated


def forged(issuer: Issuer) -> str:
    """Claims that are right, and a signature of nobody."""
    header, payload, _ = issuer.jwt().split(".")
    return f"{header}.{payload}.{secrets.token_urlsafe(256)[:342]}"
