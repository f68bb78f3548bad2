"""prometheus_client, where it is asked for."""

from __future__ import annotations

import gc
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import pytest
from prometheus_client import CollectorRegistry, Counter, generate_latest
from prometheus_client.parser import text_string_to_metric_families

from bearer_middleware import ConfigError, ResourceServer
from bearer_middleware.flow.instruments import INSTRUMENTS
from bearer_middleware.testing import Issuer

Ask = Callable[..., list[int]]
Make = Callable[..., ResourceServer]

#: As the exporters of OpenTelemetry would call them.
NAMES = [
    "bearer_auth_requests_total",
    "bearer_auth_duration_seconds",
    "bearer_cache_lookups_total",
    "bearer_cache_size",
    "bearer_cache_evictions_total",
    "bearer_upstream_requests_total",
    "bearer_upstream_duration_seconds",
    "bearer_upstream_in_flight",
    "bearer_singleflight_followers_total",
    "bearer_shed_total",
    "bearer_breaker_state",
    "bearer_jwks_keys",
    "bearer_jwks_last_success_timestamp_seconds",
    "bearer_jwks_unknown_kid_total",
    "bearer_revocation_entries",
    "bearer_revocation_feed_age_seconds",
    "bearer_revocation_lag_seconds",
    "bearer_revocation_applied_total",
    "bearer_revocation_denied_total",
    "bearer_policy_decisions_total",
    "bearer_policy_duration_seconds",
    "bearer_clock_skew_seconds",
    "bearer_audit_events_total",
]


def test_the_names() -> None:
    """Are fixed: dashboards and alerts are made of them."""
    ours = [
        instrument.prometheus_name + ("_total" if instrument.kind == "counter" else "")
        for instrument in INSTRUMENTS
    ]
    assert ours == NAMES
    # By OpenTelemetry's rules a gauge of unit 1 is a ratio, whose name ends with that word.
    assert [each.name for each in INSTRUMENTS if (each.kind, each.unit) == ("gauge", "1")] == []


def test_what_is_scraped(ask: Ask, make: Make, issuer: Issuer, registry: CollectorRegistry) -> None:
    """Is the text format, with a help and a type for each."""
    ask(make(), issuer.jwt(), issuer.opaque(), None)
    families = {
        family.name: family
        for family in text_string_to_metric_families(generate_latest(registry).decode())
    }
    assert set(families) == {name.removesuffix("_total") for name in NAMES}
    assert all(family.documentation for family in families.values())
    buckets = [
        sample
        for sample in families["bearer_upstream_duration_seconds"].samples
        if sample.name.endswith("_bucket") and sample.labels["target"] == "introspection"
    ]
    values = [sample.value for sample in buckets]
    assert values == sorted(values)
    assert (buckets[-1].labels["le"], values[-1]) == ("+Inf", 1)


def test_a_server_that_is_gone(make: Make, issuer: Issuer) -> None:
    """Is not kept alive by what shows it."""
    import weakref

    from bearer_middleware import Settings

    registry = CollectorRegistry()
    server = ResourceServer(Settings(**issuer.settings()), metrics=registry)
    gone = weakref.ref(server.events.tally)
    del server
    gc.collect()
    assert gone() is None
    assert generate_latest(registry)


def test_a_name_that_is_taken(make: Make) -> None:
    """Is a mistake in the configuration, and said when the server is built."""
    registry = CollectorRegistry()
    Counter("bearer_shed", "somebody else's", registry=registry)
    with pytest.raises(ConfigError, match="metrics"):
        make(metrics=registry)


@pytest.mark.parametrize("metrics", ["statsd", 5, object()])
def test_what_is_no_registry(make: Make, metrics: Any) -> None:
    """So is anything that is neither the name nor a registry."""
    with pytest.raises(ConfigError, match="metrics"):
        make(metrics=metrics)


def test_it_is_not_installed(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    """The extra is named."""
    monkeypatch.setitem(sys.modules, "prometheus_client", None)
    with pytest.raises(ConfigError, match=r"bearer-middleware\[prometheus\]"):
        make(metrics="prometheus")


def test_the_default_registry() -> None:
    """Asked for by name, by two servers of one process."""
    program = """
from bearer_middleware import ResourceServer, Settings
from prometheus_client import generate_latest
settings = Settings(issuer="https://as.test", audience="api")
servers = [ResourceServer(settings, metrics="prometheus") for _ in range(2)]
print(generate_latest().decode())
"""
    ended = subprocess.run(
        [sys.executable, "-W", "error", "-c", program],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert ended.stdout.count("# TYPE bearer_auth_requests_total counter") == 1
    assert 'bearer_cache_size{cache="jwt"} 0.0' in ended.stdout
