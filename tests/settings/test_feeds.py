"""The address of a revocation feed, and what it needs beside it."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from bearer_middleware.settings import Settings
from bearer_middleware.settings.feeds import kind_of_feed, path_of_feed

Mistakes = Callable[..., list[str]]
SECRET = "f" * 64
HTTP = "http://127.0.0.1:8080/revoked"


@pytest.mark.parametrize(
    ("url", "kind"),
    [
        ("rediss://user:p%40ss@cache.example:6380/0", "store"),
        ("valkey://cache.example", "store"),
        ("unix:///run/valkey.sock", "store"),
        ("https://as.example/revoked.jsonl?key=x", "http"),
        ("/run/revoked.jsonl", "file"),
        ("revoked.jsonl", "file"),
        ("file:///run/revoked.jsonl", "file"),
    ],
)
def test_good(url: str, kind: str) -> None:
    """It is kept as it was written, and hidden; its beginning says what it is."""
    said = {"issuer": "https://as.example", "audience": "orders", "fleet_secret": SECRET}
    settings = Settings(**said, revocation_url=url)
    assert settings.revocation_url is not None
    assert settings.revocation_url.reveal() == url
    assert url not in repr(settings)
    assert kind_of_feed(url) == kind
    assert settings.on_stale_feed == "serve"


@pytest.mark.parametrize(
    ("url", "path"),
    [("/run/re%20voked", "/run/re%20voked"), ("file:///run/re%20voked", "/run/re voked")],
)
def test_a_file_has_a_url_too(url: str, path: str) -> None:
    """In which special characters are percent-encoded (RFC 8089)."""
    assert path_of_feed(url) == path


@pytest.mark.parametrize(
    "url",
    [
        "ftp://canary",
        "file://canary",
        "file://canary/revoked",
        "redis://",
        "redis://canary/zero",
        "redis://canary?socket_timeout=60",
        "https://user:canary@as.example/revoked",
        "https://",
    ],
)
def test_bad(mistakes: Mistakes, url: str) -> None:
    """A mistake of the configuration, told without the address."""
    (wrong,) = mistakes(revocation_url=url, fleet_secret=SECRET)
    assert wrong.startswith("BEARER_REVOCATION_URL: ")
    assert "canary" not in wrong


def test_a_store_needs_the_secret_of_the_fleet(mistakes: Mistakes) -> None:
    """Others are trusted as they are: a file by its permissions, a document by its TLS."""
    (wrong,) = mistakes(revocation_url="redis://localhost")
    assert wrong.startswith("BEARER_FLEET_SECRET: is required with BEARER_REVOCATION_URL")
    assert mistakes(revocation_url="/run/revoked") == []
    assert mistakes(revocation_url="https://as.example/revoked") == []


def test_http_is_for_development(mistakes: Mistakes) -> None:
    """As for any other address."""
    (wrong,) = mistakes(revocation_url=HTTP)
    assert wrong.startswith("BEARER_REVOCATION_URL: goes over http")
    assert mistakes(revocation_url=HTTP, allow_insecure_http=True) == []
    with pytest.warns(UserWarning, match="BEARER_REVOCATION_URL: goes over http to another"):
        mistakes(revocation_url="http://as.example/revoked", allow_insecure_http=True)


def test_in_a_file(mistakes: Mistakes, write: Callable[[str, str], str]) -> None:
    """A URL with a password belongs into one."""
    good = write("good", "redis://:pass@localhost\n")
    assert mistakes(revocation_url_file=good, fleet_secret=SECRET) == []


def test_what_happens_when_it_is_silent(mistakes: Mistakes) -> None:
    """One of three; asking again needs somebody to ask."""
    feed = {"revocation_url": "redis://localhost", "fleet_secret": SECRET}
    for good in ("serve", "refuse"):
        assert mistakes(**feed, on_stale_feed=good) == []
    (wrong,) = mistakes(**feed, on_stale_feed="pass")
    assert wrong == "BEARER_ON_STALE_FEED: must be one of serve, introspect, refuse"
    (wrong,) = mistakes(**feed, on_stale_feed="introspect")
    assert wrong.startswith("BEARER_ON_STALE_FEED: needs introspection")
    client = {"client_id": "orders", "client_secret": "s3cret"}
    assert mistakes(**feed, **client, on_stale_feed="introspect") == []


def test_logouts_need_a_feed_that_can_be_written(mistakes: Mistakes) -> None:
    """What they revoke has to go somewhere."""
    said = {"logout_path": "/logout", "client_id": "orders", "client_secret": "s3cret"}
    (wrong,) = mistakes(**said, revocation_url="/run/revoked")
    assert wrong.startswith("BEARER_LOGOUT_PATH: revokes")
    assert mistakes(**said, revocation_url="redis://localhost", fleet_secret=SECRET) == []
    signals = {"signals_path": "/signals", "signals_audience": "orders"}
    signals["signals_issuer"] = "https://as.example"
    (wrong,) = mistakes(**signals, revocation_url="/run/revoked")
    assert wrong.startswith("BEARER_SIGNALS_PATH: revokes")
