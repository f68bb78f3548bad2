"""Which client a request comes from: nobody but a trusted proxy chooses an address."""

from __future__ import annotations

from ipaddress import ip_address
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bearer_middleware.settings.networks import trusted_proxies
from bearer_middleware.web.client_address import ClientAddresses

PROXIES = "10.0.0.0/8, 2001:db8:ffff::/48"
CLIENT, PROXY, INNER = "203.0.113.9", "10.0.0.1", "10.0.0.2"


def key(address: str | None) -> bytes | None:
    """What it amounts to, said once more and in other words."""
    if address is None:
        return None
    parsed = ip_address(address)
    return parsed.packed if parsed.version == 4 else (int(parsed) >> 64).to_bytes(8, "big")


def found(
    peer: str | None,
    *,
    xff: str | None = None,
    forwarded: str | None = None,
    proxies: str = PROXIES,
) -> bytes | None:
    """The client in ASGI, which is the same in WSGI."""
    addresses = ClientAddresses(trusted_proxies(proxies))
    headers = [(b"host", b"api"), (b"authorization", b"Bearer x")]
    environ: dict[str, Any] = {"REMOTE_ADDR": "" if peer is None else peer}
    for name, value in (("X-Forwarded-For", xff), ("Forwarded", forwarded)):
        if value is not None:
            headers.append((name.encode(), value.encode("latin-1")))
            environ[f"HTTP_{name.upper().replace('-', '_')}"] = value
    scope = {"type": "http", "headers": headers, "client": None if peer is None else (peer, 4711)}
    client = addresses.of_scope(scope)
    assert addresses.of_environ(environ) == client
    return client


@pytest.mark.parametrize("header", ["192.0.2.1", "for=192.0.2.1", ""])
def test_without_proxies_the_peer_is_the_client(header: str) -> None:
    """``none``: no header is believed."""
    assert found(CLIENT, xff=header, forwarded=header, proxies="none") == key(CLIENT)
    assert found(CLIENT, xff=header, forwarded=header) == key(CLIENT)


@pytest.mark.parametrize(
    ("chain", "client"),
    [
        ("203.0.113.9", CLIENT),
        (" 203.0.113.9 ", CLIENT),
        ("203.0.113.9:51000", CLIENT),
        ("192.0.2.1, 203.0.113.9", CLIENT),
        ("192.0.2.1, 203.0.113.9, 10.0.0.2", CLIENT),
        ("192.0.2.1,203.0.113.9,10.0.0.2,10.9.9.9", CLIENT),
        ("203.0.113.9, [2001:db8:ffff::1]:8080", CLIENT),
        ("203.0.113.9, ::ffff:10.0.0.2", CLIENT),
        ("::ffff:203.0.113.9", CLIENT),
        ("2001:db8::7", "2001:db8::7"),
        ("[2001:db8::7]:443", "2001:db8::7"),
        ("10.0.0.3, 10.0.0.2", "10.0.0.3"),
    ],
)
def test_x_forwarded_for(chain: str, client: str) -> None:
    """From right to left, over trusted hops only."""
    assert found(PROXY, xff=chain) == key(client)


@pytest.mark.parametrize(
    ("chain", "client"),
    [
        ("for=203.0.113.9", CLIENT),
        ("For=203.0.113.9;proto=https;by=10.0.0.1", CLIENT),
        ('proto=https;for="203.0.113.9:51000"', CLIENT),
        ('for=192.0.2.1, for="203.0.113.9" , for=10.0.0.2', CLIENT),
        ('for="[2001:db8::7]:443"', "2001:db8::7"),
        ('for=203.0.113.9;host="a, for=192.0.2.1"', CLIENT),
        (r'for=203.0.113.9;host="a\", for=192.0.2.1, \""', CLIENT),
        # A string that a client opened does not swallow what our proxy wrote.
        ('for=", for=203.0.113.9', CLIENT),
        ("for=unknown", PROXY),
        ("for=_hidden, for=10.0.0.2", INNER),
        ("for=2001:db8::7", PROXY),
        ("for=203.0.113.9;for=192.0.2.1", PROXY),
        ("proto=https", PROXY),
        ("203.0.113.9", PROXY),
    ],
)
def test_forwarded(chain: str, client: str) -> None:
    """RFC 7239: quoted strings, ports, and identifiers that are no addresses."""
    assert found(PROXY, forwarded=chain) == key(client)


@pytest.mark.parametrize(
    ("chain", "client"),
    [
        ("", PROXY),
        ("unknown", PROXY),
        ("203.0.113.9,", PROXY),
        ("203.0.113.9, junk", PROXY),
        ("203.0.113.9, junk, 10.0.0.2", INNER),
        ("203.0.113.9 10.0.0.2", PROXY),
        ("203.0.113.009", PROXY),
        ("203.0.113.9%eth0", PROXY),
        ("999.0.113.9", PROXY),
        ("fe80::1%1", PROXY),
        ("203.0.113.9:", PROXY),
        ('"203.0.113.9"', PROXY),
        ("203.0.113.9;x", PROXY),
        ("\u0662.0.113.9".encode().decode("latin-1"), PROXY),
        ("192.0.2.1, " + "10.0.0.2, " * 40 + "10.0.0.7", INNER),
        ("9" * 9000 + ".0.113.9", PROXY),
        ("1" + "92.0.2.1," + "x" * 4087, PROXY),
    ],
)
def test_a_malformed_chain_ends_at_the_nearest_proxy(chain: str, client: str) -> None:
    """What cannot be read, and what stands behind it, is nobody's address."""
    assert found(PROXY, xff=chain) == key(client)


def test_a_part_of_a_long_chain_is_no_address() -> None:
    """Where only the end is read, its first element may be the rest of another address."""
    tail = "10.0.0.2,".rjust(9) * 3 + "10.0.0.3"
    chain = "1" + "92.0.2.1," + " " * (4096 - len(tail) - 9) + tail
    assert found(PROXY, xff=chain) == key(INNER)


def test_two_headers_that_differ() -> None:
    """Our proxies write one of them, and the client may have written the other."""
    assert found(PROXY, xff=CLIENT, forwarded="for=192.0.2.1") == key(PROXY)
    assert found(PROXY, xff=CLIENT, forwarded="junk") == key(PROXY)
    assert found(PROXY, xff=CLIENT, forwarded=f"for={CLIENT}") == key(CLIENT)


def test_several_header_lines_are_one_list() -> None:
    """RFC 9110 section 5.3."""
    addresses = ClientAddresses(trusted_proxies(PROXIES))
    headers = [(b"x-forwarded-for", b"192.0.2.1"), (b"X-Forwarded-For", CLIENT.encode())]
    scope = {"type": "http", "headers": headers, "client": [PROXY, 80]}
    assert addresses.of_scope(scope) == key(CLIENT)


def test_what_shares_a_bucket() -> None:
    """A /64 is one customer's; an IPv4 address is the same however it is written."""
    assert found("2001:db8::1") == found("2001:db8::ffff:2") != found("2001:db8:0:1::1")
    assert found("::ffff:203.0.113.9") == found(CLIENT) == key(CLIENT)
    assert found("fe80::1%eth0") == found("fe80::2%eth1")
    assert found("::ffff:10.0.0.1", xff=CLIENT) == key(CLIENT)


@pytest.mark.parametrize("peer", [None, "", "/run/api.sock", "testclient", "localhost"])
def test_what_has_no_address(peer: str | None) -> None:
    """A unix socket: whatever its headers say."""
    assert found(peer, xff=CLIENT, forwarded=f"for={CLIENT}") is None


@given(
    st.text(st.characters(max_codepoint=255), max_size=80)
    | st.lists(
        st.sampled_from(['"', ",", "\\", "for=", ";", " ", "10.0.0.2", "192.0.2.1", "[::1]"])
    ).map("".join)
)
def test_no_client_chooses_an_address(junk: str) -> None:
    """Whatever a client sends: what our proxy appends is what counts."""
    assert found(PROXY, xff=f"{junk}, {CLIENT}") == key(CLIENT)
    assert found(PROXY, forwarded=f"{junk}, for={CLIENT};proto=https") == key(CLIENT)
    found(PROXY, xff=junk, forwarded=junk)
