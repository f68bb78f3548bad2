"""What is counted, in both worlds: read as Prometheus reads it."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable
from typing import Any

import pytest
from prometheus_client import CollectorRegistry

from bearer_middleware import Identity, ResourceServer
from bearer_middleware.errors import InvalidToken, Reason
from bearer_middleware.flow.instruments import APPLIED, FEED_AGE, INSTRUMENTS, LAG
from bearer_middleware.testing import Issuer

Ask = Callable[..., list[int]]
Make = Callable[..., ResourceServer]
Value = Callable[..., float]
REQUESTS = "bearer_auth_requests_total"
LOOKUPS = "bearer_cache_lookups_total"


def test_allowed_requests(ask: Ask, make: Make, value: Value, issuer: Issuer) -> None:
    """Each counts once, remembered or not, by kind and issuer."""
    server, jwt, opaque = make(), issuer.jwt(), issuer.opaque()
    assert ask(server, jwt, jwt, jwt, opaque, opaque) == [200] * 5
    assert value(REQUESTS, outcome="allowed", kind="jwt", issuer=issuer.url) == 3
    assert value(REQUESTS, outcome="allowed", kind="opaque", issuer=issuer.url) == 2
    assert value(REQUESTS) == 5


def test_a_jwt_verified_every_time(ask: Ask, make: Make, value: Value, issuer: Issuer) -> None:
    """Counts as allowed, and no cache was looked into."""
    jwt = issuer.jwt()
    ask(make({"jwt_cache_ttl": 0}), jwt, jwt, jwt)
    assert value(REQUESTS, outcome="allowed", kind="jwt") == 3
    assert value(LOOKUPS, cache="jwt") == 0


def test_cache_lookups(ask: Ask, make: Make, value: Value, issuer: Issuer) -> None:
    """A good token that was not remembered is a miss, and a remembered refusal a hit."""
    jwt, opaque = issuer.jwt(), issuer.opaque()
    ask(make(), jwt, jwt, jwt, opaque, opaque, "unknown", "unknown")
    assert value(LOOKUPS, cache="jwt", result="miss") == 1
    assert value(LOOKUPS, cache="jwt", result="hit") == 2
    assert value(LOOKUPS, cache="pos", result="miss") == 2
    assert value(LOOKUPS, cache="pos", result="hit") == 1
    assert value(LOOKUPS, cache="neg", result="miss") == 2
    assert value(LOOKUPS, cache="neg", result="hit") == 1


def test_jwts_that_are_introspected(ask: Ask, make: Make, value: Value, issuer: Issuer) -> None:
    """Are JWTs in the cache of answers."""
    jwt = issuer.jwt()
    ask(make({"jwt_validation": "introspect"}), jwt, jwt)
    assert value(REQUESTS, outcome="allowed", kind="jwt") == 2
    assert value(LOOKUPS, cache="pos", result="hit") == 1
    assert value(LOOKUPS, cache="jwt") == 0


@pytest.mark.parametrize(
    ("show", "reason", "kind"),
    [
        (lambda issuer: None, "missing", ""),
        (lambda issuer: "a b", "malformed_header", ""),
        (lambda issuer: issuer.jwt(exp=1), "expired", "jwt"),
        (lambda issuer: issuer.jwt(aud="others"), "wrong_audience", "jwt"),
        (lambda issuer: "unknown", "inactive", "opaque"),
    ],
)
def test_refusals(  # noqa: PLR0917
    ask: Ask, make: Make, value: Value, issuer: Issuer, show: Any, reason: str, kind: str
) -> None:
    """Are denied, by their reason and the kind of token, where that was seen."""
    assert max(ask(make(), show(issuer), show(issuer))) < 500
    assert value(REQUESTS, outcome="denied", reason=reason, kind=kind) == 2
    assert value(REQUESTS) == 2


def test_scopes_that_every_request_needs(
    ask: Ask, make: Make, value: Value, issuer: Issuer
) -> None:
    """Both ways out of a hit are counted, and each request once."""
    server = make({"required_scopes": "read"})
    good, bad = issuer.jwt(scope="read"), issuer.jwt(scope="write")
    assert ask(server, good, good, bad, bad) == [200, 200, 403, 403]
    assert value(REQUESTS, outcome="allowed") == 2
    assert value(REQUESTS, outcome="denied", reason="insufficient_scope", kind="jwt") == 2


def test_an_outage_is_no_denial(ask: Ask, make: Make, value: Value, issuer: Issuer) -> None:
    """503 has an outcome of its own."""
    issuer.fail("introspection", status=503)
    assert ask(make(), issuer.opaque()) == [503]
    outage = {"outcome": "unavailable", "reason": "introspection_unavailable", "kind": "opaque"}
    assert value(REQUESTS, **outage, issuer=issuer.url) == 1
    assert value("bearer_upstream_requests_total", target="introspection", result="5xx") == 1


def test_anonymous_callers(ask: Ask, make: Make, value: Value) -> None:
    """Are let in where the settings say so, and counted apart."""
    assert ask(make({"optional": True}), None, None) == [200, 200]
    assert value(REQUESTS, outcome="anonymous") == value(REQUESTS) == 2


def test_extensions_count_once(ask: Ask, make: Make, value: Value, issuer: Issuer) -> None:
    """Whoever recognised the token, and however it was spelt before."""

    def known(token: str) -> Identity | None:
        return (
            Identity(subject="root", issuer="https://a.b/c", kind="opaque")
            if token == "r"
            else None
        )

    server = make(validators=[known])
    jwt = issuer.jwt()
    assert ask(server, "r", jwt, jwt) == [200] * 3
    assert value(REQUESTS, outcome="allowed", kind="jwt", issuer=issuer.url) == 2
    assert value(REQUESTS, outcome="allowed", kind="opaque", issuer="") == 1
    assert value(REQUESTS) == 3


def test_an_unusual_spelling_counts_once(make: Make, value: Value, issuer: Issuer) -> None:
    """Two spaces go the whole way, which finds the token on the short one."""
    from bearer_middleware.flow.drivers import run

    server, jwt = make(), issuer.jwt()
    for _ in range(3):
        values = [f"bearer  {jwt}".encode()]
        run(server.authenticate(values), server.transport)
    assert value(REQUESTS, outcome="allowed") == value(REQUESTS) == 3


def test_labels_of_extensions_are_ours(make: Make, value: Value, ask: Ask, issuer: Issuer) -> None:
    """What an extension raises may have anybody's text in it: no label is made of that."""

    def refuses(token: str) -> None:
        refusal: Any = InvalidToken("token-" + token, issuer="https://user.example/" + token)  # type: ignore[arg-type]
        refusal.kind = token
        raise refusal

    ask(make(validators=[refuses]), "one", "two")
    assert value(REQUESTS, outcome="denied", reason="extension_failed", kind="", issuer="") == 2


def test_exchanges(ask: Ask, make: Make, value: Value, issuer: Issuer) -> None:
    """How many, how long, how many at once, to whom."""
    ask(make(), issuer.jwt(), issuer.opaque())
    for target in ("jwks", "introspection", "discovery"):
        asked = value("bearer_upstream_requests_total", target=target, result="ok")
        assert asked >= 1
        assert value("bearer_upstream_duration_seconds_count", target=target) == asked
        assert value("bearer_upstream_in_flight", target=target) == 0
        assert value("bearer_breaker_state", target=target) == 0


def test_failing_exchanges(ask: Ask, make: Make, value: Value, issuer: Issuer) -> None:
    """Each has a word for what went wrong; a breaker that opens is seen, and what it sheds."""
    server = make({"http_timeout": 3})
    issuer.fail("introspection", drop=True)
    ask(server, *[f"opaque-{number}" for number in range(8)])
    failed = value("bearer_upstream_requests_total", target="introspection")
    assert failed == value("bearer_upstream_duration_seconds_count", target="introspection") >= 5
    assert value("bearer_breaker_state", target="introspection") == 2
    assert value("bearer_shed_total", by="breaker") >= 1


def test_the_floods_are_counted(ask: Ask, make: Make, value: Value) -> None:
    """What no caller may ask about is shed globally."""
    assert 503 in ask(make(), *[f"opaque-{number}" for number in range(102)])
    assert value("bearer_shed_total", by="global") == 2
    assert value("bearer_auth_requests_total", reason="rate_limited", outcome="unavailable") == 2


def test_durations_of_work_only(ask: Ask, make: Make, value: Value, issuer: Issuer) -> None:
    """A hit is not timed; who had to work is, by where the answer was from."""
    jwt, opaque = issuer.jwt(), issuer.opaque()
    ask(make(), jwt, jwt, jwt, opaque, opaque, issuer.jwt(), "bad", "bad")
    name = "bearer_auth_duration_seconds_count"
    assert value(name, outcome="allowed", source="local") == 2
    assert value(name, outcome="allowed", source="upstream") == 1
    assert value(name, outcome="denied", source="upstream") == 1
    assert value(name, outcome="denied", source="l1") == 1
    assert value(name) == 5


def test_keys(ask: Ask, make: Make, value: Value, issuer: Issuer, clock: Any) -> None:
    """How many, since when, and tokens of unknown ones."""
    ask(make(), issuer.jwt(), issuer.jwt(headers={"kid": "nobody's"}))
    assert value("bearer_jwks_keys", issuer=issuer.url) >= 1
    assert value("bearer_jwks_last_success_timestamp_seconds", issuer=issuer.url) == clock()
    assert value("bearer_jwks_unknown_kid_total", issuer=issuer.url) == 1


def test_the_clock_of_the_server(ask: Ask, make: Make, value: Value, issuer: Issuer) -> None:
    """Is shown for its issuer, with the largest difference of all its endpoints."""
    server = make()
    ask(server, issuer.opaque())
    (authority,) = server.trusted.servers
    assert authority.introspection is not None
    authority.introspection.upstream._record.skew = -100.0
    assert value("bearer_clock_skew_seconds", issuer=issuer.url) == -100


def test_revocations(make: Make, value: Value, ask: Ask, issuer: Issuer) -> None:
    """What was taken in, from where; what is held; what was refused for it."""
    server, jwt = make(), issuer.jwt(sub="alice")
    assert ask(server, jwt) == [200]
    server.revoke(subject="alice")
    server.revoke(token="opaque")
    assert ask(server, jwt, jwt) == [401, 401]
    assert value("bearer_revocation_entries", kind="cutoff") == 1
    assert value("bearer_revocation_entries", kind="denied") == 1
    assert value("bearer_revocation_applied_total", source="call", kind="subject") == 1
    assert value("bearer_revocation_denied_total", kind="jwt") == 2


def test_where_revocations_are_from(make: Make, value: Value) -> None:
    """A logout is told from a call."""
    from bearer_middleware.flow.drivers import run

    server = make()
    run(server._revoking({"session": "s"}, "logout"))
    server.revoke(session="s")
    for source in ("logout", "call"):
        assert value("bearer_revocation_applied_total", source=source, kind="session") == 1


def test_requests_while_something_is_revoked(
    make: Make, value: Value, ask: Ask, issuer: Issuer
) -> None:
    """Are allowed, hits and counted once like any other."""
    server, jwt = make(), issuer.jwt()
    server.revoke(subject="somebody else")
    ask(server, jwt, jwt, jwt)
    assert value(REQUESTS, outcome="allowed") == value(REQUESTS) == 3
    assert value(LOOKUPS, cache="jwt", result="hit") == 2


def test_the_seam_for_a_feed(make: Make, value: Value) -> None:
    """Whoever feeds revocations has a counter, a histogram and a gauge."""
    tally = make().events.tally
    tally.add(APPLIED, "feed", "session")
    tally.took(LAG, 0.2, "feed")
    tally.watch(FEED_AGE, lambda: [(("feed",), 7.5)])
    assert value("bearer_revocation_applied_total", source="feed") == 1
    assert value("bearer_revocation_lag_seconds_sum", source="feed") == 0.2
    assert value("bearer_revocation_feed_age_seconds", source="feed") == 7.5


def test_sizes_and_evictions(ask: Ask, make: Make, value: Value, issuer: Issuer) -> None:
    """Of each cache; what made room in time is evicted."""
    server = make({"cache_size": 2, "jwt_cache_ttl": 60})
    ask(server, *[issuer.jwt() for _ in range(5)], *[issuer.opaque() for _ in range(4)])
    ask(server, *[f"bad-{number}" for number in range(3)])
    for cache, evicted in (("jwt", 3), ("pos", 2), ("neg", 1)):
        assert value("bearer_cache_size", cache=cache) == 2
        assert value("bearer_cache_evictions_total", cache=cache) == evicted


class SharedByMany:
    """A cache in the memory of the test, that may fail."""

    def __init__(self) -> None:
        self.kept: dict[str, bytes] = {}
        self.broken = False

    def get(self, key: str) -> bytes | None:
        if self.broken:
            raise ConnectionError
        return self.kept.get(key)

    def set(self, key: str, value: bytes, seconds: float) -> None:
        self.kept[key] = value


def test_the_shared_cache(ask: Ask, make: Make, value: Value, issuer: Issuer) -> None:
    """Hits, misses and errors, and requests that it answered."""
    cache, opaque = SharedByMany(), issuer.opaque()
    for _ in range(2):  # two processes, as it were
        server = make({"fleet_secret": "s" * 40}, cache=cache)
        ask(server, opaque)
    assert value(LOOKUPS, cache="l2", result="miss") == 1
    assert value(LOOKUPS, cache="l2", result="hit") == 1
    assert value("bearer_auth_duration_seconds_count", source="l2", outcome="allowed") == 1
    cache.broken = True
    ask(server, issuer.opaque())
    assert value(LOOKUPS, cache="l2", result="error") == 1


def test_followers(make: Make, value: Value, issuer: Issuer) -> None:
    """Who waits for the exchange of another caller is counted."""
    from bearer_middleware.flow.drivers import run

    issuer.fail("introspection", delay=0.3)
    server, token = make(clock=None), issuer.opaque()
    headers = [f"Bearer {token}".encode()]

    def one() -> None:
        with contextlib.suppress(Exception):
            run(server.authenticate(headers), server.transport)

    threads = [threading.Thread(target=one) for _ in range(5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert value("bearer_singleflight_followers_total", target="introspection") == 4


def test_several_servers_are_added_up(
    ask: Ask, make: Make, value: Value, issuer: Issuer, registry: CollectorRegistry
) -> None:
    """One registry, two servers, no duplicate: each series is there once."""
    one, other = make(), make()
    ask(one, issuer.jwt())
    ask(other, issuer.jwt())
    assert value(REQUESTS, outcome="allowed") == 2
    assert value("bearer_cache_size", cache="jwt") == 2
    series = [
        (sample.name, tuple(sorted(sample.labels.items())))
        for family in registry.collect()
        for sample in family.samples
    ]
    assert len(series) == len(set(series))


def test_a_forked_child_begins_at_nothing(
    make: Make, value: Value, issuer: Issuer, in_child: Any
) -> None:
    """What the parent counted is the parent's to tell."""
    from bearer_middleware.flow.drivers import run

    server = make()
    run(server.authenticate([f"Bearer {issuer.jwt()}".encode()]), server.transport)
    run(server.authenticate([f"Bearer {issuer.opaque()}".encode()]), server.transport)
    assert value(REQUESTS) == 2
    names = REQUESTS, "bearer_upstream_duration_seconds_count"
    assert in_child(lambda: [value(name) for name in names] == [0, 0]) == 0
    assert value(REQUESTS) == 2


def test_a_reading_that_breaks_hides_nothing(
    make: Make, value: Value, ask: Ask, issuer: Issuer, caplog: pytest.LogCaptureFixture
) -> None:
    """One line, and the rest is shown."""
    server = make()

    def broken() -> Any:
        raise LookupError("canary")

    server.events.tally.watch(FEED_AGE, broken)
    ask(server, issuer.jwt())
    for _ in range(3):
        assert value(REQUESTS, outcome="allowed") == 1
    lines = [line for line in caplog.messages if "feed_age" in line]
    assert len(lines) <= 1
    assert "canary" not in caplog.text


def test_nothing_is_measured_that_nobody_reads(ask: Ask, make: Make, issuer: Issuer) -> None:
    """No histogram is kept without an audience."""
    server = make(metrics=None)
    ask(server, issuer.jwt(), issuer.opaque())
    assert not server.events.tally.watched
    for instrument in INSTRUMENTS:
        assert list(server.events.tally.read_histogram(instrument)) == []


def test_labels_are_few(make: Make, ask: Ask) -> None:
    """Whatever is used as a label, memory stays bounded."""
    tally = make().events.tally
    for number in range(10_000):
        tally.add(APPLIED, "feed", str(number))
        tally.took(LAG, 0.1, str(number))
    assert len(list(tally.counted(APPLIED))) <= 5_000
    assert len(list(tally.read_histogram(LAG))) <= 5_000


def test_reasons_are_the_closed_list(make: Make, ask: Ask, registry: CollectorRegistry) -> None:
    """Every reason label is one of ours."""
    ask(make(), "a", "a b", None)
    reasons = {
        sample.labels["reason"]
        for family in registry.collect()
        for sample in family.samples
        if sample.name == REQUESTS
    }
    assert reasons <= {"", *(str(reason) for reason in Reason)}
