"""The URL of a Redis or Valkey server: what it may say, before any client reads it."""

from __future__ import annotations

import re
from urllib.parse import parse_qsl, urlsplit

_SCHEMES = ("redis", "rediss", "valkey", "valkeys")
_DATABASE = re.compile(r"/?|/[0-9]{1,5}")
#: Time limits and retries are ours, so the URL has no say in them.
_OPTIONS = frozenset(
    {
        *("db", "username", "password", "client_name"),
        *("ssl_ca_certs", "ssl_ca_path", "ssl_certfile", "ssl_keyfile", "ssl_password"),
        *("ssl_cert_reqs", "ssl_check_hostname"),
    }
)
_WANTED = (
    "must be redis://, rediss://, valkey:// or valkeys:// with a host, and perhaps a port and "
    "/number, or unix:///path; special characters of a password are percent-encoded"
)


def wrong_with(url: str) -> str | None:
    """What is wrong with the URL of a store, in words that do not repeat it."""
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
        options = dict(
            parse_qsl(parts.query, keep_blank_values=True, strict_parsing=bool(parts.query))
        )
    except ValueError:
        return _WANTED
    if parts.scheme == "unix":
        reachable = parts.path.startswith("/") and len(parts.path) > 1 and not host
    else:
        named = parts.scheme in _SCHEMES and bool(host)
        reachable = named and port != 0 and bool(_DATABASE.fullmatch(parts.path))
    if not reachable or parts.fragment:
        return _WANTED
    if not options.keys() <= _OPTIONS or not options.get("db", "0").isdecimal():
        return f"has an option it cannot have; there are {', '.join(sorted(_OPTIONS))}"
    return None
