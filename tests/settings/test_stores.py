"""The URL of the shared cache: what it may say, and that a mistake does not show it."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from bearer_middleware.settings import Settings

Mistakes = Callable[..., list[str]]
SECRET = "f" * 64

GOOD = [
    "redis://localhost",
    "redis://localhost:6379/0",
    "valkey://cache.example/15",
    "rediss://user:p%40ss@cache.example:6380/?ssl_ca_certs=/etc/ca.pem",
    "valkeys://:pass@[::1]:6379",
    "redis://cache?db=3&client_name=api",
    "unix:///run/valkey.sock?db=2&password=x",
]
BAD = [
    "canary",
    "http://canary",
    "redis://",
    "redis:///0",
    "redis://canary:port",
    "redis://canary:0",
    "redis://canary:99999",
    "redis://canary/zero",
    "redis://canary/0/1",
    "redis://:can/ary@host",
    "redis://canary#fragment",
    "redis://[::1",
    "unix://",
    "unix:///",
    "unix://canary/path",
    "redis://canary?socket_timeout=60",
    "redis://canary?retry_on_timeout=true",
    "redis://canary?db=many",
    "redis://canary?nonsense",
]


@pytest.mark.parametrize("url", GOOD)
def test_good(url: str) -> None:
    """It is kept as it was written, and hidden."""
    pytest.importorskip("redis")
    from bearer_middleware import ResourceServer

    settings = Settings(
        issuer="https://as.example", audience="orders", cache_url=url, fleet_secret=SECRET
    )
    assert settings.cache_url is not None
    assert settings.cache_url.reveal() == url
    assert url not in repr(settings)
    assert ResourceServer(settings).fleet_cache is not None


@pytest.mark.parametrize("url", BAD)
def test_bad(mistakes: Mistakes, url: str) -> None:
    """It is a mistake of the configuration, told without the URL."""
    (wrong,) = mistakes(cache_url=url, fleet_secret=SECRET)
    assert wrong.startswith("BEARER_CACHE_URL: ")
    assert "canary" not in wrong


def test_it_needs_the_secret_of_the_fleet(mistakes: Mistakes) -> None:
    """Both mistakes at once, where there are two."""
    (wrong,) = mistakes(cache_url="redis://localhost")
    assert wrong.startswith("BEARER_FLEET_SECRET: is required with BEARER_CACHE_URL")
    assert len(mistakes(cache_url="canary")) == 2


def test_in_a_file(mistakes: Mistakes, write: Callable[[str, str], str]) -> None:
    """A URL with a password belongs into one; it is read like any other."""
    good = write("good", "redis://:pass@localhost\n")
    assert mistakes(cache_url_file=good, fleet_secret=SECRET) == []
    (wrong,) = mistakes(cache_url_file=write("bad", "http://canary\n"), fleet_secret=SECRET)
    assert wrong.startswith("BEARER_CACHE_URL")
    assert "canary" not in wrong


def test_host_names_are_verified_unless_the_url_says_otherwise() -> None:
    """Also by clients that would not by default."""
    redis = pytest.importorskip("redis")
    from bearer_middleware.flow.store_client import pool_options

    assert pool_options(redis, "valkeys://cache", 0.1)["ssl_check_hostname"] is True
    own = pool_options(redis, "rediss://cache?ssl_cert_reqs=none", 0.1)
    assert "ssl_check_hostname" not in own
    assert "ssl_check_hostname" not in pool_options(redis, "redis://cache", 0.1)
