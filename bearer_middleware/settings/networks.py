"""What limits go by: the networks of proxies, and the pattern of opaque tokens."""

from __future__ import annotations

import ipaddress
import re
import warnings
from ipaddress import IPv4Network, IPv6Network
from typing import TypeAlias

from bearer_middleware.settings.parsing import Unreadable, is_list, text

Network: TypeAlias = IPv4Network | IPv6Network

_NOBODY = "none"
_MAPPED = IPv6Network("::ffff:0:0/96")


def trusted_proxies(value: object) -> tuple[Network, ...]:
    """Networks of proxies: text with commas, or a collection. ``none`` is the empty tuple."""
    items = text(value).split(",") if isinstance(value, str) else value
    if isinstance(items, set | frozenset):
        items = sorted(items, key=str)
    if not is_list(items):
        raise Unreadable("must be networks such as 10.0.0.0/8, or none")
    if len(items) == 1 and isinstance(items[0], str) and items[0].strip().lower() == _NOBODY:
        return ()
    return tuple(dict.fromkeys(_network(item) for item in items))


def _network(item: object) -> Network:
    written = item.strip() if isinstance(item, str) else item
    if not isinstance(written, str | IPv4Network | IPv6Network):
        raise Unreadable("must be networks such as 10.0.0.0/8, or none")
    try:
        network = ipaddress.ip_network(written)
    except ValueError:
        raise Unreadable(
            "must be networks such as 10.0.0.0/8 or 2001:db8::/32, with zeros behind; or none"
        ) from None
    if isinstance(network, IPv6Network) and network.subnet_of(_MAPPED):
        address = int(network.network_address) & 0xFFFF_FFFF
        network = IPv4Network((address, network.prefixlen - 96))
    if network.prefixlen == 0:
        raise Unreadable("must not be everybody: then every caller would choose an address")
    return network


def token_pattern(value: object) -> re.Pattern[str]:
    """A regular expression, compiled. That it is quick is its author's affair: one that
    backtracks is slow on the tokens of an attacker, whose length is bounded.
    """
    if isinstance(value, re.Pattern):
        if not isinstance(value.pattern, str):
            raise Unreadable("must be a regular expression of text, not of bytes")
        return value
    written = text(value)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")  # of what another Python would read differently
            return re.compile(written)
    except (re.error, OverflowError, RecursionError, ValueError, Warning):
        raise Unreadable("must be a regular expression as Python reads them") from None
