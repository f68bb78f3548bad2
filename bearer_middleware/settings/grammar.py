"""The grammars of single values: addresses, algorithms, scopes, exempt paths."""

from __future__ import annotations

import re
from ipaddress import IPv6Address, ip_address

from bearer_middleware.settings.parsing import Unreadable, is_list, listing, matching, text
from bearer_middleware.tokens.status import place_of

HMAC_ALGORITHMS = {"HS256": 32, "HS384": 48, "HS512": 64}
"""The algorithms of a shared secret, with the bytes it must have (RFC 7518 section 3.2)."""

SIGNATURE_ALGORITHMS = (
    *("RS256", "RS384", "RS512", "PS256", "PS384", "PS512"),
    *("ES256", "ES384", "ES512", "EdDSA", "Ed25519"),
)
"""The algorithms allowed where none are named."""

ALGORITHMS = (*SIGNATURE_ALGORITHMS, "Ed448", *HMAC_ALGORITHMS)

_URL = re.compile(
    r"(?P<scheme>https?)://"
    r"(?P<host>(?:[A-Za-z0-9_-]{1,63}\.)*[A-Za-z0-9_-]{1,63}\.?|\[(?P<ipv6>[0-9A-Fa-f:.]+)\])"
    r"(?::(?P<port>[0-9]{1,5}))?"
    r"(?P<path>/[A-Za-z0-9._~!$&'()*+,;=:@%/-]*)?"
    r"(?P<query>\?[A-Za-z0-9._~!$&'()*+,;=:@%/?-]*)?"
)
_PLAIN_PATH = re.compile(r"/[A-Za-z0-9._~/-]{1,255}")
_EXEMPT = re.compile(r"(?:([A-Z][A-Z0-9_-]*) +)?(/.*)")

#: RFC 6749 section 3.3.
scope = matching(r"[\x21\x23-\x5b\x5d-\x7e]+", "a scope of RFC 6749: no space, quote or backslash")
#: The characters a bearer token consists of (RFC 6750 section 2.1).
token_prefix = matching(r"[A-Za-z0-9._~+/-]{1,64}", "the first 1 to 64 characters of a token")
printable = matching(r"[\x20-\x7e]{1,1024}", "at most 1024 characters of printable ASCII")


def url(value: object) -> str:
    """The address of an endpoint. Whether http will do is a rule, not grammar."""
    address = text(value)
    match = _URL.fullmatch(address)
    if not match or not _port(match["port"]) or not _ipv6(match["ipv6"]):
        raise Unreadable(
            "must be an https URL with a host, and without user name, password or fragment"
        )
    return address


def issuer(value: object) -> str:
    """An issuer identifier: a URL without query and fragment (RFC 8414 section 2)."""
    address = url(value)
    if "?" in address:
        raise Unreadable("must be an https URL without a query")
    return address


def _list_prefix(value: object) -> str:
    address = url(value)
    if "?" in address or place_of(address) is None:
        raise Unreadable(
            "must be the https URL that status lists begin with, without a query, an empty, . or "
            ".. segment, or an encoded dot or slash; or ignore"
        )
    return address


_list_prefixes = listing(_list_prefix, least=1)


def status_lists(value: object) -> tuple[str, ...]:
    """URL prefixes of token status lists; ``ignore`` is the empty tuple."""
    items = value if is_list(value) else [value]
    if len(items) == 1 and isinstance(items[0], str) and items[0].strip().lower() == "ignore":
        return ()
    return _list_prefixes(value)


def is_plain(address: str) -> bool:
    """Does this URL go without TLS?"""
    return address.startswith("http:")


def is_loopback(address: str) -> bool:
    """Does this URL stay on this machine?"""
    match = _URL.fullmatch(address)
    host = (match["ipv6"] or match["host"]) if match else ""
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host.lower() == "localhost"


def algorithm(value: object) -> str:
    """The ``alg`` of a signature."""
    name = text(value)
    if name.lower() == "none":
        raise Unreadable("must not be none: a token without signature proves nothing")
    if name not in ALGORITHMS:
        raise Unreadable(f"must be one of {', '.join(ALGORITHMS)}")
    return name


def exempt(value: object) -> str:
    """``[METHOD ]/path`` or ``[METHOD ]/prefix/*``."""
    match = _EXEMPT.fullmatch(text(value))
    if not match:
        raise Unreadable("must be a path that starts with /, perhaps after a METHOD and a space")
    method, where = match.groups()
    segments = where[1:].split("/")
    if segments == ["*"]:
        raise Unreadable("would open everything; name what lies below a prefix, as /prefix/*")
    if segments[-1] == "*":
        segments.pop()
    if _is_unclear(segments) and where != "/":
        raise Unreadable(
            "must have no empty, . or .. segment, no query, no backslash, and * only at the end"
        )
    return f"{method} {where}" if method else where


def endpoint_path(value: object) -> str:
    """The path of an endpoint that is served by the middleware itself."""
    where = text(value)
    # What WSGI and ASGI spell in two ways must not be exempt in one and served in the other.
    if not _PLAIN_PATH.fullmatch(where) or _is_unclear(where[1:].split("/")):
        raise Unreadable(
            "must be a path of letters, digits and -._~/ such as /health, without an empty segment"
        )
    return where


def _is_unclear(segments: list[str]) -> bool:
    return any(part in ("", ".", "..") or set(part) & set("*?#\\") for part in segments)


def _port(digits: str | None) -> bool:
    return digits is None or 0 < int(digits) < 65_536


def _ipv6(written: str | None) -> bool:
    try:
        return written is None or bool(IPv6Address(written))
    except ValueError:
        return False
