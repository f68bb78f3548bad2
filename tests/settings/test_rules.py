"""What must hold between settings; every mistake names its variable and says how to mend."""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

import pytest

from bearer_middleware.settings import IssuerSettings, Settings
from bearer_middleware.settings.keywords import IssuerKeywords

from .conftest import Mistakes

ISSUER, OTHER = "https://as.example", "https://other.example"
URL = "https://as.example/introspect"
CLIENT = {"client_id": "api", "client_secret": "secret"}
SECRET = "s" * 32


def one(**keywords: Any) -> IssuerSettings:
    """The only issuer of these settings."""
    (issuer,) = Settings(**{"issuer": ISSUER, "audience": "orders"} | keywords).issuers
    return issuer


def broken(found: list[str]) -> list[str]:
    """The names of the settings that a list of mistakes is about."""
    return [mistake.partition(":")[0].removeprefix("BEARER_").lower() for mistake in found]


@pytest.mark.parametrize(
    ("keywords", "about"),
    [
        # Audience.
        ({"audience": None}, ["audience"]),
        ({"audience": []}, ["audience"]),
        ({"audience": None, "allow_any_audience": "false"}, ["audience"]),
        ({"audience": None, "allow_any_audience": "true"}, []),
        ({"allow_any_audience": True}, ["audience"]),
        (
            {"audience": None, "allow_any_audience": True, "introspection_audience": "required"},
            ["introspection_audience"],
        ),
        # Whose tokens are believed.
        ({"issuer": None}, ["issuer"]),
        ({"issuer": None, "hmac_secret": SECRET}, ["issuer"]),
        ({"issuer": None, "jwks_url": "https://as.example/keys"}, ["issuer"]),
        ({"issuer": None, **CLIENT}, ["issuer"]),
        ({"issuer": None, "introspection_url": URL, **CLIENT}, []),
        ({"hmac_secret": SECRET, "jwks_url": "https://as.example/keys"}, ["hmac_secret"]),
        # Algorithms.
        ({"hmac_secret": SECRET[1:]}, ["hmac_secret"]),
        ({"algorithms": "RS256,HS256"}, ["algorithms"]),
        ({"hmac_secret": SECRET, "algorithms": "RS256"}, ["algorithms"]),
        ({"hmac_secret": SECRET, "algorithms": "HS512"}, ["algorithms"]),
        ({"algorithms": "Ed448"}, []),
        # Freshness.
        ({"jwks_ttl": "2h", "jwks_max_stale": "1h"}, ["jwks_max_stale"]),
        ({"jwks_ttl": "1h", "jwks_max_stale": "1h"}, []),
        # Introspection.
        ({"jwt_validation": "introspect"}, ["jwt_validation"]),
        ({"jwt_validation": "both"}, ["jwt_validation"]),
        ({"jwt_validation": "both", **CLIENT}, []),
        ({"introspection_signed": True}, ["introspection_signed"]),
        ({"introspection_signed": True, **CLIENT}, []),
        (
            {
                "introspection_signed": True,
                "introspection_url": URL,
                "client_auth": "none",
                "audience": None,
                "allow_any_audience": True,
            },
            ["client_id"],
        ),
        ({"token_prefix": "as_"}, ["token_prefix"]),
        (
            {"issuer": None, "introspection_url": URL, "introspection_signed": True, **CLIENT},
            ["issuer"],
        ),
        (
            {"issuer": None, "introspection_url": URL, "jwt_validation": "both", **CLIENT},
            ["issuer"],
        ),
        # Addresses.
        ({"issuer": "http://localhost:9000"}, ["issuer"]),
        ({"issuer": "http://localhost:9000", "allow_insecure_http": True}, []),
        ({"introspection_url": "http://127.0.0.1/i", "client_auth": "none"}, ["introspection_url"]),
        ({"jwks_url": "http://127.0.0.1/keys"}, ["jwks_url"]),
    ],
)
def test_rules(mistakes: Mistakes, keywords: dict[str, Any], about: list[str]) -> None:
    """A combination that would open something, or do nothing, is a mistake; others are not."""
    assert broken(mistakes(**keywords)) == about


@pytest.mark.parametrize(
    ("keywords", "about"),
    [
        ({"introspection_url": URL}, ["client_id", "client_secret"]),
        ({"introspection_url": URL, "client_auth": "none"}, []),
        ({"client_auth": "none", "client_id": "api"}, []),
        ({"client_id": "api"}, ["client_secret"]),
        ({"client_secret": "secret"}, ["client_id"]),
        ({"client_auth": "client_secret_post"}, ["client_id", "client_secret"]),
        ({"client_auth": "client_secret_post", **CLIENT}, []),
        ({"client_auth": "none", **CLIENT}, ["client_secret"]),
        ({"client_auth": "client_secret_jwt", **CLIENT}, ["client_secret"]),
        ({"client_auth": "client_secret_jwt", "client_id": "api", "client_secret": SECRET}, []),
        ({"client_key_id": "k1", **CLIENT}, ["client_key_id"]),
        ({"client_auth": "private_key_jwt", "client_id": "api"}, ["client_key_file"]),
        ({"client_auth": "private_key_jwt", **CLIENT}, ["client_key_file", "client_secret"]),
        ({"client_auth": "tls_client_auth", "client_id": "api"}, ["client_cert_file"]),
    ],
)
def test_credentials(mistakes: Mistakes, keywords: dict[str, Any], about: list[str]) -> None:
    """Credentials are what their method needs, no less and nothing that it would ignore."""
    assert broken(mistakes(**keywords)) == about


def test_the_way_out_is_told(mistakes: Mistakes) -> None:
    """A mistake names the variables that mend it."""
    assert "BEARER_ALLOW_ANY_AUDIENCE=true" in mistakes(audience=None)[0]
    assert "BEARER_INTROSPECTION_URL" in mistakes(issuer=None)[0]
    assert "BEARER_CLIENT_AUTH=none" in mistakes(introspection_url=URL)[0]
    assert "BEARER_ALLOW_INSECURE_HTTP=true" in mistakes(issuer="http://127.0.0.1")[0]


@pytest.mark.parametrize(
    ("keywords", "about"),
    [
        ({}, []),
        ({"jwks_url": "https://as.example/keys"}, []),
        ({"hmac_secret": SECRET}, ["jwks_bootstrap_file"]),
        ({"issuer": None, "introspection_url": URL, **CLIENT}, ["issuer"]),
    ],
)
def test_a_bootstrap_set(
    mistakes: Mistakes, tmp_path: Path, keywords: dict[str, Any], about: list[str]
) -> None:
    """It is of use where keys of an issuer are fetched."""
    file = tmp_path / "keys.json"
    file.write_text('{"keys": [{}]}')
    assert broken(mistakes(jwks_bootstrap_file=file, **keywords)) == about
    beside = mistakes(jwks_bootstrap_file=file, jwks_file=file)
    assert broken(beside) == ["jwks_bootstrap_file"]


def test_a_bootstrap_set_belongs_to_its_issuer(mistakes: Mistakes, tmp_path: Path) -> None:
    """Keys of one are not keys of another: never inherited."""
    file = tmp_path / "keys.json"
    file.write_text('{"keys": [{}]}')
    table = {"issuer": ISSUER, "jwks_bootstrap_file": file}
    assert mistakes(issuer=None, issuers=[table, {"issuer": OTHER}]) == []
    above = mistakes(issuer=None, jwks_bootstrap_file=file, issuers=[{"issuer": OTHER}])
    assert broken(above) == ["jwks_bootstrap_file"]


@pytest.mark.parametrize(
    ("length", "algorithms", "effective"),
    [
        (32, None, ("HS256",)),
        (48, None, ("HS256", "HS384")),
        (64, None, ("HS256", "HS384", "HS512")),
        (64, "HS512,HS256", ("HS256", "HS512")),
        (64, "RS256,HS384", ("HS384",)),
    ],
)
def test_a_secret_has_its_own_algorithms(
    length: int, algorithms: str | None, effective: tuple[str, ...]
) -> None:
    """Beside a shared secret only the HS algorithms it is long enough for are allowed."""
    issuer = one(hmac_secret="s" * length, algorithms=algorithms)
    assert issuer.algorithms == effective


def test_length_is_in_bytes() -> None:
    """The length of a secret is counted as the MAC sees it, not in characters."""
    assert one(hmac_secret="ä" * 16).algorithms == ("HS256",)


@pytest.mark.parametrize(
    ("given", "ttl", "max_stale"),
    [
        ({}, 300, 3600),
        ({"jwks_ttl": "2h"}, 7200, 7200),
        ({"jwks_max_stale": "60"}, 60, 60),
        ({"jwks_max_stale": "2h"}, 300, 7200),
    ],
)
def test_freshness_follows(given: dict[str, str], ttl: float, max_stale: float) -> None:
    """Of the two times of keys, the one that was not said gives way."""
    issuer = one(**given)
    assert (issuer.jwks_ttl, issuer.jwks_max_stale) == (ttl, max_stale)


@pytest.mark.parametrize(
    ("keywords", "local", "introspection"),
    [
        ({}, True, False),
        ({"hmac_secret": SECRET}, True, False),
        (CLIENT, True, True),
        ({"client_id": "api", "client_auth": "none"}, True, True),
        ({"client_auth": "none"}, True, False),
        ({"introspection_url": URL, "client_auth": "none"}, True, True),
        ({"issuer": None, "introspection_url": URL, **CLIENT}, False, True),
    ],
)
def test_what_is_switched_on(keywords: dict[str, Any], local: bool, introspection: bool) -> None:
    """An issuer, keys or a secret mean local validation; a URL or credentials introspection."""
    issuer = one(**keywords)
    assert (issuer.local_validation, issuer.introspection) == (local, introspection)


def test_any_audience_is_any() -> None:
    """Who accepts tokens for anybody accepts answers that name nobody."""
    issuer = one(audience=None, allow_any_audience=True)
    assert issuer.introspection_audience == "any"


def test_everything_at_once(mistakes: Mistakes) -> None:
    """One error lists all mistakes, of values and of rules alike, in the variables' names."""
    found = mistakes(
        audience=None, leeway="x", realm="", jwt_validation="both", wibble=1, provider="x"
    )
    expected = ["leeway", "realm", "wibble", "provider", "audience", "jwt_validation"]
    assert broken(found) == expected


def test_no_mistake_follows_from_another(mistakes: Mistakes) -> None:
    """What cannot be read is told once; rules keep silent about what depends on it."""
    assert broken(mistakes(issuer="nonsense", audience="", allow_any_audience="x")) == [
        *("issuer", "audience", "allow_any_audience"),
    ]


@pytest.mark.parametrize(
    ("keywords", "told"),
    [
        ({"issuer": "http://as.example"}, "BEARER_ISSUER: goes over http"),
        ({"jwks_url": "http://10.0.0.1/k"}, "BEARER_JWKS_URL: goes over http"),
        ({"required_scopes": "offline_access"}, "BEARER_REQUIRED_SCOPES: offline_access"),
    ],
)
def test_warnings(keywords: dict[str, Any], told: str) -> None:
    """What is allowed but hardly meant is a warning (ERR-12: ``offline_access``)."""
    with pytest.warns(UserWarning, match=told):
        one(allow_insecure_http=True, **keywords)


def table(issuer: str | None = ISSUER, **more: Any) -> IssuerKeywords:
    """One ``[[issuers]]`` table."""
    return cast("IssuerKeywords", {"issuer": issuer} | more)


@pytest.mark.parametrize(
    ("tables", "wrong"),
    [
        ([table(), table(OTHER)], []),
        ([table(), table()], ["[[issuers]] #2 issuer"]),
        ([table(**CLIENT), table(OTHER)], []),
        ([table(**CLIENT), table(OTHER, **CLIENT)], ["[[issuers]] #2 token_prefix"]),
        ([table(**CLIENT), table(OTHER, token_prefix="b_", **CLIENT)], []),
        (
            [table(token_prefix="b_", **CLIENT), table(OTHER, token_prefix="b_1", **CLIENT)],
            ["[[issuers]] #2 token_prefix"],
        ),
        (
            [table(token_prefix=" x y", **CLIENT), table(OTHER, **CLIENT)],
            ["[[issuers]] #1 token_prefix"],
        ),
        ([table(token_prefix="b_")], ["[[issuers]] #1 token_prefix"]),
        ([table(None)], ["[[issuers]] #1 issuer"]),
        ([table(realm="x")], ["[[issuers]] #1 realm"]),
        ([table(audiense="x")], ["[[issuers]] #1 audiense"]),
        ([table(policy="opa")], ["[[issuers]] #1 policy"]),
        ([{1: 2, "issuer": ISSUER}], ["[[issuers]] #1 1"]),
        ([table(), 5], ["[[issuers]] #2"]),
        ([], ["[[issuers]]"]),
        ("text", ["[[issuers]]"]),
        ({"issuer": ISSUER}, ["[[issuers]]"]),
    ],
)
def test_tables(mistakes: Mistakes, tables: Any, wrong: list[str]) -> None:
    """Several issuers are told apart, and their mistakes by table and setting."""
    found = mistakes(issuer=None, issuers=tables)
    assert [mistake.partition(":")[0] for mistake in found] == wrong


@pytest.mark.parametrize(
    "own",
    [
        {"issuer": ISSUER},
        {"jwks_url": URL},
        {"hmac_secret": SECRET},
        {"introspection_url": URL},
        {"client_id": "api"},
        {"client_auth": "none"},
        {"token_prefix": "x"},
    ],
)
def test_what_would_apply_to_nobody(mistakes: Mistakes, own: dict[str, str]) -> None:
    """Beside tables, what belongs to one issuer is a mistake at the top level."""
    found = mistakes(**{"issuer": None, "issuers": [table(OTHER)]} | own)
    assert broken(found) == list(own)
    assert "[[issuers]]" in found[0]


def test_inheritance() -> None:
    """A table has the top level's value of what it does not say itself."""
    tables = [
        table(leeway=5, audience="first"),
        table(OTHER, allow_any_audience=True, algorithms="ES256"),
        table("https://third.example", hmac_secret="s" * 48),
    ]
    settings = Settings(audience="orders", leeway="10", jwks_ttl=60, issuers=tables)
    first, second, third = settings.issuers
    assert [one.leeway for one in settings.issuers] == [5, 10, 10]
    assert [one.jwks_ttl for one in settings.issuers] == [60, 60, 60]
    assert (first.audience, second.audience, third.audience) == (("first",), (), ("orders",))
    assert (first.introspection_audience, second.introspection_audience) == ("required", "any")
    assert (second.algorithms, third.algorithms) == (("ES256",), ("HS256", "HS384"))
    assert (settings.audience, settings.leeway, settings.issuer) == (("orders",), 10, None)


def test_a_table_may_take_an_audience_back() -> None:
    """A table with an audience of its own is not opened by the top level."""
    settings = Settings(allow_any_audience=True, issuers=[{"issuer": ISSUER, "audience": "orders"}])
    (issuer,) = settings.issuers
    assert (issuer.audience, issuer.allow_any_audience) == (("orders",), False)
    assert issuer.introspection_audience == "required"
