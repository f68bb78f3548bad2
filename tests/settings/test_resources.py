"""``BEARER_RESOURCE`` and what goes with it."""

from __future__ import annotations

import json
import pickle
import warnings
from pathlib import Path
from typing import Any

import pytest

from bearer_middleware import ConfigError, Settings
from bearer_middleware.settings.resources import metadata_path, metadata_url

GOOD: dict[str, Any] = {"issuer": "https://as.example", "audience": "https://api.example/mcp"}


@pytest.mark.parametrize(
    ("identifier", "url", "path"),
    [
        ("https://h", "https://h/.well-known/oauth-protected-resource", ""),
        ("https://h/", "https://h/.well-known/oauth-protected-resource", ""),
        ("https://h:8443", "https://h:8443/.well-known/oauth-protected-resource", ""),
        ("https://h/a/b", "https://h/.well-known/oauth-protected-resource/a/b", "/a/b"),
        ("https://h/a/", "https://h/.well-known/oauth-protected-resource/a/", "/a/"),
        ("https://h/a?k=v", "https://h/.well-known/oauth-protected-resource/a?k=v", "/a"),
        ("https://h?k=v", "https://h/.well-known/oauth-protected-resource?k=v", ""),
        ("https://h/?k=v", "https://h/.well-known/oauth-protected-resource?k=v", ""),
        ("https://[::1]/x", "https://[::1]/.well-known/oauth-protected-resource/x", "/x"),
    ],
)
def test_where_the_document_is(identifier: str, url: str, path: str) -> None:
    """PRM-1: inserted between host and path, and a slash alone is no path."""
    assert Settings(**GOOD, resource=identifier).resource == identifier
    assert metadata_url(identifier) == url
    assert metadata_path(identifier) == f"/.well-known/oauth-protected-resource{path}"


@pytest.mark.parametrize(
    "identifier",
    [
        *("h/a", "https:///a", "ftp://h/a", "https://h/a#f", "https://u@h/a", "https://h/a b"),
        *("https://h//a", "https://h/a/../b", "https://h/./a", "https://h/a//", "https://h/%61"),
        *("https://h/*", 'https://h/"', "https://h/a\\b", "", 7, "https://h:0/a"),
    ],
)
def test_what_is_no_resource(identifier: Any) -> None:
    """PRM-1: an https URL without fragment, in a spelling that both worlds route alike."""
    with pytest.raises(ConfigError, match="BEARER_RESOURCE") as caught:
        Settings(**GOOD, resource=identifier)
    assert len(caught.value.mistakes) == 1


def test_over_http() -> None:
    """Only where that is allowed, and elsewhere than on this machine with a warning."""
    with pytest.raises(ConfigError, match="BEARER_RESOURCE: goes over http"):
        Settings(**GOOD, resource="http://127.0.0.1/a")
    Settings(**GOOD, resource="http://127.0.0.1/a", allow_insecure_http=True)
    with pytest.warns(UserWarning, match="BEARER_RESOURCE"):
        Settings(**GOOD, resource="http://h/a", allow_insecure_http=True)


def test_without_an_authorization_server() -> None:
    """PRM-3: clients would not know where tokens come from."""
    settings = {"audience": "a", "introspection_url": "https://as.example/i", "client_id": "c"}
    settings |= {"client_secret": "s"}
    Settings(**settings)
    with pytest.raises(ConfigError, match="BEARER_ISSUER: is required with BEARER_RESOURCE"):
        Settings(**settings, resource="https://h")


@pytest.mark.parametrize("name", ["resource_scopes", "resource_name"])
def test_nothing_to_describe(name: str) -> None:
    """What is told of a resource has no use without one."""
    with pytest.raises(ConfigError, match="no use without BEARER_RESOURCE"):
        Settings(**GOOD, **{name: "orders"})


def test_a_place_of_its_own() -> None:
    """The document cannot be where the health answer is."""
    path = "/.well-known/oauth-protected-resource"
    with pytest.raises(ConfigError, match="BEARER_HEALTH_PATH: is where"):
        Settings(**GOOD, resource="https://h", health_path=path)


@pytest.mark.parametrize(
    "settings",
    [
        {"required_scopes": "read offline_access"},
        {"resource_scopes": "read offline_access"},
        {"routes": [{"method": "GET", "path": "/", "scopes": ["offline_access"]}]},
    ],
)
def test_offline_access(settings: dict[str, Any]) -> None:
    """ERR-12: nobody needs a refresh token here."""
    with pytest.warns(UserWarning, match="offline_access"):
        Settings(**GOOD, resource="https://h", **settings)


IMPLIED = {"admin": ("read", "write"), "write": ("read",)}


def test_implications_are_read_from_anywhere(tmp_path: Path) -> None:
    """A table of the file, a mapping, or JSON in a variable; frozen, and fit to travel."""
    file = tmp_path / "bearer.toml"
    file.write_text('[scope_implications]\nadmin = "read write"\nwrite = ["read"]\n')
    lists = {name: list(implied) for name, implied in IMPLIED.items()}
    settings = Settings(**GOOD, scope_implications=lists)
    environ = {"BEARER_SCOPE_IMPLICATIONS": json.dumps(lists)}
    for other in (Settings.from_env(environ, **GOOD), Settings(**GOOD, config_file=file)):
        assert dict(other.scope_implications) == IMPLIED
    assert pickle.loads(pickle.dumps(settings)) == settings
    assert hash(settings) == hash(Settings(**GOOD, scope_implications=IMPLIED))


@pytest.mark.parametrize(
    "table", ["admin", "[]", '{"a b": "c"}', {"a": 'b"'}, {"a": 7}, {7: "a"}, {"a": {"b": "c"}}]
)
def test_what_is_no_table_of_scopes(table: Any) -> None:
    """It is said with all the rest."""
    with pytest.raises(ConfigError, match="BEARER_SCOPE_IMPLICATIONS"), warnings.catch_warnings():
        Settings(**GOOD, scope_implications=table)
