"""The proxy itself: it does what its words say."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator

import pytest

from tests.proxy import Proxy


@pytest.fixture
def proxy() -> Iterator[Proxy]:
    """Before a server that answers every line with a hundred bytes."""

    def converse(connection: socket.socket) -> None:
        with connection:
            try:
                while connection.recv(1000):
                    connection.sendall(b"x" * 100)
            except OSError:
                return

    def serve() -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            threading.Thread(target=converse, args=(connection,), daemon=True).start()

    with socket.create_server(("127.0.0.1", 0)) as listener:
        threading.Thread(target=serve, daemon=True).start()
        with Proxy(listener.getsockname()[1]) as proxy:
            yield proxy
        listener.shutdown(socket.SHUT_RDWR)


def connect(proxy: Proxy) -> socket.socket:
    """To it, with a second of patience."""
    return socket.create_connection(("127.0.0.1", proxy.port), timeout=1)


def say(connection: socket.socket, size: int = 100) -> bytes:
    """What comes back, up to so many bytes."""
    connection.sendall(b"hello")
    got = b""
    while len(got) < size and (piece := connection.recv(1000)):
        got += piece
    return got


def test_fair_weather(proxy: Proxy) -> None:
    """All passes."""
    with connect(proxy) as connection:
        assert say(connection) == say(connection) == b"x" * 100
    assert proxy.connections == 1


def test_refused(proxy: Proxy) -> None:
    """Whoever is there is put out, whoever comes is not let in, until it is over."""
    with connect(proxy) as connection:
        say(connection)
        proxy.refuse()
        with pytest.raises(ConnectionRefusedError):
            connect(proxy)
        assert connection.recv(1) == b""
    proxy.heal()
    with connect(proxy) as connection:
        assert say(connection) == b"x" * 100


def test_not_accepted(proxy: Proxy) -> None:
    """Connecting takes for ever."""
    proxy.deafen()
    with pytest.raises(TimeoutError):
        connect(proxy)
    proxy.heal()
    with connect(proxy) as connection:
        assert say(connection) == b"x" * 100


def test_half_open(proxy: Proxy) -> None:
    """A connection that was good falls silent."""
    with connect(proxy) as connection:
        say(connection)
        proxy.set(blackhole=True)
        with pytest.raises(TimeoutError):
            say(connection)


def test_resets(proxy: Proxy) -> None:
    """At once, in the middle of an answer, and out of the blue."""
    proxy.set(reset_after=0)
    with connect(proxy) as connection, pytest.raises(ConnectionResetError):
        say(connection)
    proxy.set(reset_after=20)
    with connect(proxy) as connection:
        assert len(say(connection, 20)) == 20
        with pytest.raises(ConnectionResetError):
            connection.recv(1)
    proxy.heal()
    with connect(proxy) as connection:
        say(connection)
        proxy.reset()
        with pytest.raises(ConnectionResetError):
            connection.recv(1)


def test_an_early_end(proxy: Proxy) -> None:
    """In good order, after some bytes."""
    proxy.set(close_after=20)
    with connect(proxy) as connection:
        assert say(connection) == b"x" * 20


@pytest.mark.parametrize("weather", [{"latency": 0.3}, {"slice": 10, "latency": 0.03}])
def test_slow(proxy: Proxy, weather: dict[str, float]) -> None:
    """As a whole, or piece by piece."""
    proxy.set(**weather)
    with connect(proxy) as connection:
        began = time.monotonic()
        assert say(connection) == b"x" * 100
        assert time.monotonic() - began >= 0.29


def test_bandwidth(proxy: Proxy) -> None:
    """So many bytes in a second."""
    proxy.set(bandwidth=400, slice=10)
    with connect(proxy) as connection:
        began = time.monotonic()
        assert say(connection) == b"x" * 100
        assert time.monotonic() - began >= 0.24
