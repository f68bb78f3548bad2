"""Which client a request comes from, behind proxies that are trusted to say so.

The chain of addresses is read from the near end, the peer of our connection, to the far
one: a hop is believed as long as it was named by a proxy we trust. The first address that
is no trusted proxy's is the client's. What cannot be read ends the chain at the proxy that
passed it on, so nobody but a trusted proxy ever chooses an address.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterator, Mapping, Sequence
from ipaddress import IPv4Address, IPv6Address
from itertools import islice
from typing import Any

from bearer_middleware.settings import Settings
from bearer_middleware.settings.networks import Network

Address = IPv4Address | IPv6Address

_LONGEST = 4096
_MOST_HOPS = 32
# RFC 7239 section 6, and what X-Forwarded-For has in its place: a port is allowed by both.
_NODE = re.compile(
    r"(?P<ipv4>[0-9.]{7,15})(?::[0-9]{1,5})?"
    r"|\[(?P<bracketed>[0-9A-Fa-f:.]{2,45})\](?::[0-9]{1,5})?"
    r"|(?P<ipv6>[0-9A-Fa-f:.]{2,45})"
)
_TOKEN = r"[!#$%&'*+.^_`|~0-9A-Za-z-]+"
_PAIR = re.compile(rf'[ \t]*({_TOKEN})=({_TOKEN}|"(?:[^"\\]|\\.)*")[ \t]*(?:;|$)')


class ClientAddresses:
    """Finds the clients of requests, as keys: equal for those who share a bucket."""

    __slots__ = ("_proxies",)

    def __init__(self, proxies: Sequence[Network]) -> None:
        self._proxies = tuple(proxies)

    def of_scope(self, scope: Mapping[str, Any]) -> bytes | None:
        """The client of an ASGI request; ``None`` where there is no address."""
        return _key_of(self.in_scope(scope))

    def of_environ(self, environ: Mapping[str, Any]) -> bytes | None:
        """The client of a WSGI request; ``None`` where there is no address."""
        return _key_of(self.in_environ(environ))

    def key(self, peer: str | None, x_forwarded_for: str, forwarded: str) -> bytes | None:
        """Four bytes of IPv4, or the /64 network of IPv6: one customer has all of it."""
        return _key_of(self.address(peer, x_forwarded_for, forwarded))

    def in_scope(self, scope: Mapping[str, Any]) -> Address | None:
        """The address of an ASGI request's client, in full."""
        peer = scope.get("client")
        lines: dict[bytes, list[str]] = {b"x-forwarded-for": [], b"forwarded": []}
        if self._proxies:
            for name, value in scope["headers"]:
                found = lines.get(bytes(name).lower())
                if found is not None:
                    found.append(bytes(value).decode("latin-1"))
        joined = (",".join(found) for found in lines.values())
        return self.address(peer[0] if peer else None, *joined)

    def in_environ(self, environ: Mapping[str, Any]) -> Address | None:
        """The address of a WSGI request's client, in full."""
        names = ("REMOTE_ADDR", "HTTP_X_FORWARDED_FOR", "HTTP_FORWARDED")
        return self.address(*(environ.get(name) or "" for name in names))

    def address(self, peer: str | None, x_forwarded_for: str, forwarded: str) -> Address | None:
        """Of those three, who the client is."""
        nearest = _parse_peer(peer)
        if nearest is None:
            return None
        found = set()
        if x_forwarded_for:
            found.add(self._farthest(nearest, map(_parse_node, _elements(x_forwarded_for))))
        if forwarded:
            found.add(self._farthest(nearest, map(_parse_forwarded, _elements(forwarded))))
        # Of two headers that differ, one is not written by our proxies, and might be the client's.
        return found.pop() if len(found) == 1 else nearest

    def _farthest(self, nearest: Address, hops: Iterator[Address | None]) -> Address:
        for hop in islice(hops, _MOST_HOPS):
            if hop is None or not self._trusts(nearest):
                break
            nearest = hop
        return nearest

    def _trusts(self, address: Address) -> bool:
        return any(address in network for network in self._proxies)


def client_addresses(settings: Settings) -> ClientAddresses | None:
    """What finds the clients, if the settings say how that is to be done."""
    proxies = settings.trusted_proxies
    return None if proxies is None else ClientAddresses(proxies)


def _key_of(address: Address | None) -> bytes | None:
    if address is None:
        return None
    return address.packed if address.version == 4 else address.packed[:8]


def _elements(header: str) -> Iterator[str]:
    """The elements of a list, from its end, with commas in quoted strings left alone.

    Only from the end it is certain where a string begins: what stands there is a proxy's.
    """
    text, end, quoted = header[-_LONGEST:], min(len(header), _LONGEST), False
    for position in range(end - 1, -1, -1):
        character = text[position]
        if character == '"':
            before = text[:position]
            escaped = quoted and (len(before) - len(before.rstrip("\\"))) % 2 == 1
            quoted ^= not escaped
        elif character == "," and not quoted:
            yield text[position + 1 : end]
            end = position
    if len(header) <= _LONGEST:  # else it is only a part, which may look like another address
        yield text[:end]


def _parse_forwarded(element: str) -> Address | None:
    """The ``for`` of one element (RFC 7239 section 4)."""
    node, position = None, 0
    while position < len(element):
        pair = _PAIR.match(element, position)
        if pair is None:
            return None
        if pair[1].lower() == "for":
            if node is not None:
                return None  # each parameter MUST NOT occur more than once
            node = pair[2]
        position = pair.end()
    return None if node is None else _parse_node(node.strip('"'))


def _parse_node(written: str) -> Address | None:
    match = _NODE.fullmatch(written.strip(" \t"))
    if match is None:
        return None
    return _parse(match["ipv4"] or match["bracketed"] or match["ipv6"])


def _parse_peer(written: object) -> Address | None:
    """As the server gives it; a unix socket has a path, or nothing."""
    return _parse(written.partition("%")[0]) if isinstance(written, str) else None


def _parse(written: str) -> Address | None:
    try:
        address = ipaddress.ip_address(written)
    except ValueError:
        return None
    return (address.version == 6 and address.ipv4_mapped) or address
