"""``BEARER_RESOURCE`` and what goes with it: who we are to clients that never saw us (RFC 9728)."""

from __future__ import annotations

from urllib.parse import urlsplit, urlunsplit

from bearer_middleware.settings import grammar, parsing
from bearer_middleware.settings.options import Options
from bearer_middleware.settings.parsing import Unreadable, listing

_WELL_KNOWN = "/.well-known/oauth-protected-resource"
#: Asks for a refresh token, which is no business of a resource server.
OFFLINE = "offline_access"
_MOST_IMPLICATIONS = 1000
_scopes = listing(grammar.scope, r",\s")


def resource(value: object) -> str:
    """A resource identifier: a URL without fragment, perhaps with a query (section 1.2)."""
    address = grammar.url(value)
    *inner, _ = urlsplit(address).path[1:].split("/")
    # It stands in the path of a document, which both worlds must spell in the same way.
    if set(inner) & {"", ".", ".."} or set(urlsplit(address).path) & set("%*"):
        raise Unreadable(
            "must be an https URL whose path has no empty, . or .. segment, no % and no *"
        )
    return address


def metadata_url(identifier: str) -> str:
    """Where the metadata of a resource are: the well-known part stands between host and path,
    and a slash alone is no path (RFC 9728 section 3.1).
    """
    parts = urlsplit(identifier)
    return urlunsplit(parts._replace(path=metadata_path(identifier)))


def metadata_path(identifier: str) -> str:
    """The path of that address."""
    path = urlsplit(identifier).path
    return _WELL_KNOWN if path == "/" else _WELL_KNOWN + path


def scope_implications(value: object) -> Options:
    """A table: by scope, those that are granted along with it."""
    table = parsing.table(value)
    if len(table) > _MOST_IMPLICATIONS:
        raise Unreadable(f"must have at most {_MOST_IMPLICATIONS} members")
    try:
        return Options({grammar.scope(name): _scopes(implied) for name, implied in table.items()})
    except Unreadable as error:
        raise Unreadable(f"must be a table of scopes to lists of scopes: {error}") from None
