"""REV-1: the published bound follows from the settings alone."""

from __future__ import annotations

from typing import Any

import pytest

from bearer_middleware.revocation.bound import bound_of
from bearer_middleware.settings import Settings

CLIENT = {"client_id": "orders", "client_secret": "s" * 32}
STORE = {"revocation_url": "redis://localhost", "fleet_secret": "f" * 64}
#: Settings, and the bound: told while live, told while silent, known to the server alone.
CASES: list[tuple[dict[str, Any], tuple[float | None, ...]]] = [
    ({}, (0, 0, 0, 0, None, 30)),
    ({"introspection_ttl": 9, "stale_if_error": 60}, (0, 0, 0, 0, None, 69)),
    ({"jwt_validation": "both"}, (0, 0, 0, 0, 30, 30)),
    (STORE, (1, 1, None, None, None, 30)),
    (STORE | {"on_stale_feed": "refuse"}, (1, 1, 10, 10, None, 30)),
    (STORE | {"on_stale_feed": "introspect"}, (1, 1, 15, 15, None, 30)),
    (
        STORE | {"on_stale_feed": "introspect", "stale_if_error": 60},
        (1, 1, 75, 75, None, 90),
    ),
    (
        STORE | {"on_stale_feed": "introspect", "introspection_ttl": 4},
        (1, 1, 15, 4, None, 4),
    ),
    ({"revocation_url": "/run/revoked"}, (2, 2, None, None, None, 30)),
    ({"revocation_url": "https://as.example/revoked"}, (5, 5, None, None, None, 30)),
]


@pytest.mark.parametrize(("said", "expected"), CASES, ids=str)
def test_bound(said: dict[str, Any], expected: tuple[float | None, ...]) -> None:
    """Seconds, or the token's own life."""
    settings = Settings(issuer="https://as.example", audience="orders", **CLIENT, **said)
    bound = bound_of(settings)
    assert tuple(getattr(bound, name) for name in bound.__slots__) == expected


def test_in_words() -> None:
    """Under ``serve`` it is said plainly."""
    settings = Settings(issuer="https://as.example", audience="orders", **CLIENT, **STORE)
    assert str(bound_of(settings)) == (
        "with the feed live: a JWT 1 s, an opaque token 1 s; with it silent: a JWT its own life, "
        "an opaque token its own life; if only the authorization server knows: a JWT its own "
        "life, an opaque token 30 s"
    )


def test_the_worst_issuer_counts() -> None:
    """Nobody is promised more than holds for all."""
    tables = [
        {"issuer": "https://a.example", "audience": "orders", "token_prefix": "a_", **CLIENT},
        {"issuer": "https://b.example", "audience": "orders", "introspection_ttl": 300, **CLIENT},
        {"issuer": "https://c.example", "audience": "orders"},
    ]
    bound = bound_of(Settings(issuers=tables, on_stale_feed="introspect", **STORE))
    assert bound.opaque_untold == 300
    assert bound.jwt_silent is None
