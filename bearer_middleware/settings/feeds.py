"""Where a revocation feed is: what its address may say, and what else it needs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal
from urllib.parse import unquote, urlsplit

from bearer_middleware.settings import grammar
from bearer_middleware.settings.grammar import is_loopback, is_plain
from bearer_middleware.settings.parsing import Unreadable
from bearer_middleware.settings.report import Report
from bearer_middleware.settings.rules import Place
from bearer_middleware.settings.stores import wrong_with


def validate_feed(values: Mapping[str, Any], places: Sequence[Place], report: Report) -> None:
    """What the settings of a feed need, beside each other and from the issuers."""
    if values["revocation_url"] is not None:  # else it may be one of the user's own
        _address(values, report)
    asked = any(issuer.introspection for issuer, _ in places)
    if values["on_stale_feed"] == "introspect" and not asked:
        wrong = "needs introspection: an endpoint, or an issuer and client credentials"
        report.mistake("on_stale_feed", wrong, "issuer", "introspection_url", "client_id")


def _address(values: Mapping[str, Any], report: Report) -> None:
    url = values["revocation_url"].reveal()
    wrong = wrong_with_feed(url)
    if wrong is not None:
        report.mistake("revocation_url", wrong)
    elif is_plain(url):
        if not values["allow_insecure_http"]:
            allowed = f"{report.name('allow_insecure_http')}=true for development"
            wrong = f"goes over http; use https, or {allowed}"
            report.mistake("revocation_url", wrong, "allow_insecure_http")
        elif not is_loopback(url):
            wrong = "goes over http to another machine, so anybody on the way can hide revocations"
            report.warning("revocation_url", wrong)
    elif kind_of_feed(url) == "store" and values["fleet_secret"] is None:
        needs = f"is required with {report.name('revocation_url')}: who can write there could "
        report.mistake("fleet_secret", f"{needs}lock out anybody without it", "revocation_url")
    for name in ("logout_path", "signals_path"):
        if values[name] is not None and kind_of_feed(url) != "store":
            wrong = f"revokes, and the feed at {report.name('revocation_url')} can only be read"
            report.mistake(name, wrong, "revocation_url")


def kind_of_feed(url: str) -> Literal["store", "http", "file"]:
    """Where a revocation feed is, by how its address begins."""
    scheme, separator, _ = url.partition("://")
    if not separator or scheme.lower() == "file":
        return "file"
    return "http" if scheme.lower() in {"http", "https"} else "store"


def path_of_feed(url: str) -> str:
    """Of a file: ``url`` may be the path itself, or ``file://`` and the path."""
    return unquote(urlsplit(url).path) if "://" in url else url


def wrong_with_feed(url: str) -> str | None:
    """What is wrong with the address of a feed, in words that do not repeat it."""
    kind = kind_of_feed(url)
    if kind == "store":
        wrong = wrong_with(url)
        return wrong and f"{wrong}; or it is the path of a file, or an https URL"
    if kind == "http":
        try:
            grammar.url(url)
        except Unreadable as error:
            return str(error)
    elif "://" in url and not url.lower().startswith("file:///"):
        return "must be file:///path, of a file of this machine"
    elif url != url.strip():
        return "must be a path without spaces around it"
    return None
