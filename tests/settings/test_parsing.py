"""What may be written for a setting, and what value it becomes."""

from __future__ import annotations

import datetime
import math
import re
from ipaddress import ip_network
from pathlib import Path
from typing import Any

import pytest

from bearer_middleware.settings import Settings
from bearer_middleware.settings.grammar import is_loopback

from .conftest import Mistakes

GOOD: dict[str, Any] = {"issuer": "https://as.example", "audience": "orders"}


def networks(*written: str) -> tuple[Any, ...]:
    """As the setting has them."""
    return tuple(ip_network(one) for one in written)


def value(name: str, written: Any) -> Any:
    """What a setting becomes."""
    return getattr(Settings(**GOOD | {name: written}), name)


@pytest.mark.parametrize(
    ("name", "written", "meant"),
    [
        ("jwks_ttl", "30", 30.0),
        ("jwks_ttl", " 30s ", 30.0),
        ("jwks_ttl", "5m", 300.0),
        ("jwks_ttl", "24h", 86_400.0),
        ("jwks_ttl", "30d", 2_592_000.0),
        ("jwks_ttl", "1.5", 1.5),
        ("jwks_ttl", 7, 7.0),
        ("jwks_ttl", datetime.timedelta(minutes=2), 120.0),
        ("introspection_ttl", 0, 0.0),
        ("max_token_length", "4096", 4096),
        ("cache_size", 5, 5),
        ("optional", " TRUE ", True),
        ("optional", "0", False),
        ("optional", True, True),
        ("audience", "orders, https://api/,,orders", ("orders", "https://api/")),
        ("audience", ["a,b", "c"], ("a,b", "c")),
        ("audience", {"b", "a"}, ("a", "b")),
        ("required_scopes", "read, write  admin read", ("read", "write", "admin")),
        ("required_scopes", ["read"], ("read",)),
        ("required_scopes", [], ()),
        ("algorithms", "ES256,EdDSA", ("ES256", "EdDSA")),
        ("exempt", "GET  /health, /docs/*", ("GET /health", "/docs/*")),
        ("profile", "rfc9068", "rfc9068"),
        ("realm", 'the "api"', 'the "api"'),
        ("trusted_proxies", " None ", ()),
        ("trusted_proxies", [], ()),
        ("trusted_proxies", ["none"], ()),
        (
            "trusted_proxies",
            "10.0.0.0/8, 192.0.2.1,10.0.0.0/8",
            networks("10.0.0.0/8", "192.0.2.1"),
        ),
        ("trusted_proxies", "::1, 2001:db8::/32", networks("::1", "2001:db8::/32")),
        ("trusted_proxies", "::ffff:10.0.0.0/104", networks("10.0.0.0/8")),
        ("trusted_proxies", {ip_network("10.0.0.0/8")}, networks("10.0.0.0/8")),
        ("token_pattern", " gh[op]_[0-9A-Za-z]{36} ", re.compile("gh[op]_[0-9A-Za-z]{36}")),
        ("token_pattern", re.compile("x", re.IGNORECASE), re.compile("x", re.IGNORECASE)),
        ("issuer", "https://as.example/tenant/", "https://as.example/tenant/"),
        ("issuer", "https://[2001:db8::1]:8443", "https://[2001:db8::1]:8443"),
        (
            "jwks_url",
            "https://as_1:8443/keys?tenant=a&b=%20",
            "https://as_1:8443/keys?tenant=a&b=%20",
        ),
    ],
)
def test_values(name: str, written: Any, meant: Any) -> None:
    """Text as in a variable, or the natural type: the setting becomes the same value."""
    got = value(name, written)
    assert (got, type(got)) == (meant, type(meant))


UNREADABLE: dict[str, list[Any]] = {
    "leeway": [
        *("", "x", "-1", "121", "3m", "1e2", "30 s", "nan", "inf", "٣", "30\x00", b"30"),
        *(-1, 121, math.nan, math.inf, 10**400, True, object(), [], datetime.timedelta(days=9)),
    ],
    "max_token_length": ["63", "65537", "8_192", "8k", 8192.0, True],
    "cache_size": ["0", "10000001", "9" * 5000],
    # Whole units, said with the number: oathkeeper e06f6d3a made 5.8 days of 500 ms.
    "http_timeout": ["0", "61", "2m", "500ms", "500000000", "3 ms", "3s500"],
    "jwks_ttl": ["0", "0.5", "400d"],
    "optional": ["", "maybe", 1, object()],
    "audience": ["", " , ", [1], [""], [None], {1: 2}, 3, "a\nb", "a\x00b"],
    "required_scopes": ["", 'a"b', "a\\b", ["a b"], ["ä"], object()],
    "algorithms": ["", [], "none", "NoNe", "RS256,None", "rs256", "RS1"],
    "profile": ["", "RFC9068", "strict", object()],
    "realm": ["", "a\r\nb", "ä", "\x7f", "x" * 1025],
    "client_id": ["", "a\nb", "ä", 5],
    "token_prefix": ["", "a b", "ä", "x" * 65],
    "trusted_proxies": [
        *("", ",", "all", "none, 10.0.0.0/8", "10.0.0.1/8", "10.0.0.0/33", "0.0.0.0/0", "::/0"),
        *("::ffff:0:0/96", "10.0.0.0/8,", "localhost", "fe80::1%eth0/64", "٣", 10, b"none"),
        *([1], [None], ["10.0.0.0/8", "x"], {1: 2}, True, object()),
    ],
    "token_pattern": [
        *("", "(", "[a", "*", "a{2,1}", "a{99999999999999999}", "x\ny", "[[a]"),
        *(1, [], b"x", re.compile(b"x"), object()),
    ],
    "ca_file": ["", "a\x00b", b"x", object(), "\udc80"],
}


@pytest.mark.parametrize(
    ("name", "written"),
    [(name, written) for name, several in UNREADABLE.items() for written in several],
)
def test_unreadable(mistakes: Mistakes, name: str, written: Any) -> None:
    """A value of the wrong kind, range or grammar is a mistake that names its variable."""
    wrong = [
        one for one in mistakes(**{name: written}) if one.startswith(f"BEARER_{name.upper()}: ")
    ]
    assert len(wrong) == 1


@pytest.mark.parametrize(
    "written",
    [
        *(
            "as.example",
            "ftp://as.example",
            "https:",
            "https://",
            "https:///x",
            "HTTPS://as.example",
        ),
        *("https://user@as.example", "https://user:pw@as.example", "https://as.example#x"),
        *("https://as.example?x", "https://as.example/?", "https://as example", "https://as\\x"),
        *("https://as:0", "https://as:65536", "https://as:x", "https://[::1", "https://[1.2]"),
        *("https://ä.example", "https://as..example", "https://" + "a" * 64, "//as.example", 5),
    ],
)
def test_issuers_that_are_none(mistakes: Mistakes, written: Any) -> None:
    """An issuer is an https URL with a host, without user, query or fragment (RFC 8414 s2)."""
    (wrong,) = mistakes(issuer=written)
    assert wrong.startswith("BEARER_ISSUER: must be ")


@pytest.mark.parametrize(
    "written",
    [
        *("health", "get /health", "/*", "GET /*", "/a/", "/a//b", "/a/./b", "/a/../b", "/.."),
        *("/a\\b", "/a*", "/*/b", "/a/*/b", "/a/**", "/a?b", "/a#b", "//*", "GET", "GET health"),
    ],
)
def test_exempt_that_opens_too_much(mistakes: Mistakes, written: str) -> None:
    """A rule that would open everything, or never match what it seems to, is a mistake."""
    (wrong,) = mistakes(exempt=written)
    assert wrong.startswith("BEARER_EXEMPT: ")


def test_items_are_told_by_their_place(mistakes: Mistakes) -> None:
    """In a list every bad item is told, by its number."""
    (wrong,) = mistakes(exempt=["/good", "bad", "/*"])
    assert "item 2 must be a path" in wrong
    assert "item 3 would open everything" in wrong


def test_paths(tmp_path: Path, mistakes: Mistakes) -> None:
    """A path may be text or a path object."""
    secret = tmp_path / "secret"
    secret.write_text("s" * 40)
    assert mistakes(hmac_secret_file=secret) == mistakes(hmac_secret_file=str(secret)) == []


@pytest.mark.parametrize("answer", [3, None, b"secret"])
def test_path_object_that_is_none(mistakes: Mistakes, answer: object) -> None:
    """What calls itself a path and is no text is a mistake like any other."""
    path = type("Path", (), {"__fspath__": lambda _: answer})()
    assert mistakes(policy_file=path) == ["BEARER_POLICY_FILE: must be text"]


@pytest.mark.parametrize(
    ("address", "here"),
    [
        *(
            (f"http://{host}:8080/x", True)
            for host in ("127.0.0.1", "127.9.9.9", "localhost", "[::1]")
        ),
        *((f"http://{host}", False) for host in ("10.0.0.1", "localhost.example", "[2001:db8::1]")),
    ],
)
def test_loopback(address: str, here: bool) -> None:
    """Loopback is 127.0.0.0/8, ::1 and localhost, by name and nothing else."""
    assert is_loopback(address) is here


@pytest.mark.parametrize("path", ["/health", "/healthz/ready", "/-/health.json", "/~a_b"])
def test_path_of_an_endpoint(mistakes: Mistakes, path: str) -> None:
    """One path, plainly spelled."""
    assert mistakes(health_path=path) == []
    assert Settings(**GOOD, health_path=f" {path} ").health_path == path


@pytest.mark.parametrize(
    "path",
    [
        *("", "/", "health", "/health/", "//health", "/a//b", "/./a", "/a/..", "/a/*", "/*"),
        *(
            "/a b",
            "/a?b",
            "/a#b",
            "/a\\b",
            "/%61",
            "/ü",
            "GET /health",
            "/a;b",
            "/a\n/b",
        ),
        *("https://api.example/health", "/" + "a" * 300, 5, b"/health"),
    ],
)
def test_no_path_of_an_endpoint(mistakes: Mistakes, path: object) -> None:
    """What could be read in two ways, or would be the whole application."""
    (wrong,) = mistakes(health_path=path)
    assert wrong.startswith("BEARER_HEALTH_PATH: ")
