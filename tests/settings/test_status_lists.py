"""``BEARER_STATUS_LISTS``: prefixes of URLs, or ``ignore``."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from bearer_middleware.settings import Settings

Mistakes = Callable[..., list[str]]


def kept(value: Any, **keywords: Any) -> tuple[str, ...] | None:
    """What becomes of a value."""
    usual = {"issuer": "https://as.example", "audience": "orders"}
    settings = Settings(**{**usual, **keywords}, status_lists=value)
    assert settings.issuers[0].status_lists == settings.status_lists
    return settings.status_lists


def test_good() -> None:
    """Texts, each once; ``ignore`` is none at all, and absent is another matter."""
    one, two = "https://as.example/lists", "https://cdn.example:8443/"
    assert kept(f"{one}, {two}, {one}") == (one, two)
    assert kept([one]) == (one,)
    assert kept("ignore") == kept(["Ignore"]) == ()
    assert kept(None) is None
    settings = Settings.from_env(
        {"BEARER_ISSUER": "https://as.example", "BEARER_AUDIENCE": "a", "BEARER_STATUS_LISTS": one}
    )
    assert settings.status_lists == (one,)


@pytest.mark.parametrize(
    "value",
    [
        *("", "canary", "https://", "ftp://h/canary", "https://u:canary@h/", "https://h/a#canary"),
        *("https://h/a?canary=1", "https://h/../canary", "https://h//canary", "https://h\\canary"),
        *("https://h/%2e%2e/canary", "https://h/%2fcanary", "https://h/,ignore", "ignore,ignore"),
        *([], [""], 7, ["ignore", "https://h/"], [7]),
    ],
    ids=str,
)
def test_bad(value: Any, mistakes: Mistakes) -> None:
    """The mistake names the variable and not what was written."""
    (mistake,) = mistakes(status_lists=value, issuer="https://as.example", audience="orders")
    assert mistake.startswith("BEARER_STATUS_LISTS: ")
    assert "canary" not in mistake


def test_http_is_for_development(mistakes: Mistakes) -> None:
    """As everywhere."""
    place = "http://127.0.0.1:8000/lists"
    (mistake,) = mistakes(status_lists=place, issuer="https://as.example", audience="orders")
    assert "goes over http" in mistake
    assert kept(place, allow_insecure_http=True) == (place,)
    with pytest.warns(UserWarning, match="BEARER_STATUS_LISTS: goes over http to another machine"):
        kept("http://lists.example", allow_insecure_http=True)


def test_lists_need_the_keys_of_an_issuer(mistakes: Mistakes) -> None:
    """Whom nobody names signs nothing; to ignore a status needs no key."""
    asked = {
        "introspection_url": "https://as.example/introspect",
        "client_auth": "none",
        "audience": "orders",
    }
    (mistake,) = mistakes(status_lists="https://as.example", issuer=None, **asked)
    assert mistake.startswith("BEARER_ISSUER: is required with BEARER_STATUS_LISTS")
    assert Settings(status_lists="ignore", **asked).status_lists == ()


def test_each_issuer_may_have_its_own() -> None:
    """Who says nothing has those of the top level."""
    one, two, three = (f"https://{name}.example" for name in ("one", "two", "three"))
    settings = Settings(
        audience="orders",
        status_lists=one,
        issuers=[
            {"issuer": one},
            {"issuer": two, "status_lists": two},
            {"issuer": three, "status_lists": "ignore"},
        ],
    )
    assert [each.status_lists for each in settings.issuers] == [(one,), (two,), ()]
