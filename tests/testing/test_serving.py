"""The issuer on a loopback port, asked over real sockets."""

from __future__ import annotations

import http.client
import json
import socket
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from urllib.parse import urlsplit

import httpx
import pytest

from bearer_middleware.testing import Issuer


@pytest.fixture
def served(issuer: Issuer) -> Iterator[Issuer]:
    """The issuer, reachable for the length of the test."""
    with issuer.serve():
        yield issuer


@pytest.fixture
def client(served: Issuer) -> Iterator[httpx.Client]:
    """A client that keeps its connection."""
    with httpx.Client(base_url=served.url) as client:
        yield client


def port_of(issuer: Issuer) -> int:
    """Where it is to be found."""
    return urlsplit(issuer.url).port or 0


def raw(issuer: Issuer, request: str) -> bytes:
    """Everything that comes back until the issuer hangs up."""
    with socket.create_connection(("127.0.0.1", port_of(issuer)), timeout=5) as connection:
        connection.sendall(request.encode())
        with connection.makefile("rb") as stream:
            return stream.read()


def test_the_url_is_reachable_inside_the_block(issuer: Issuer) -> None:
    """Tokens minted there carry it, and afterwards all is as before."""
    with issuer.serve() as served:
        assert served is issuer
        assert issuer.url.startswith("http://127.0.0.1:")
        assert issuer.settings()["allow_insecure_http"] is True
        document = httpx.get(f"{issuer.url}/.well-known/openid-configuration").json()
        assert document["issuer"] == issuer.url == issuer.introspect(issuer.jwt())["iss"]
    assert issuer.url == "https://issuer.test"


@pytest.mark.parametrize("path", ["/", "/tenant"])
def test_a_path_stays_in_the_url(path: str) -> None:
    """Only scheme and host change."""
    with Issuer(f"https://issuer.test{path}").serve() as issuer:
        assert urlsplit(issuer.url).path == path
        assert httpx.get(f"{issuer.url.rstrip('/')}/jwks").status_code == 200


def test_a_whole_life(served: Issuer, client: httpx.Client) -> None:
    """A client gets a token, asks about it, revokes it and asks again."""
    client.auth = (served.client_id, served.client_secret or "")
    granted = client.post("/token", data={"grant_type": "client_credentials"}).json()
    about = {"token": granted["access_token"]}
    assert client.post("/introspect", data=about).json()["active"] is True
    assert client.post("/revoke", data=about).status_code == 200
    assert client.post("/introspect", data=about).json() == {"active": False}
    assert served.requests == {"token": 1, "introspection": 2, "revocation": 1}


def test_connections_are_kept_alive(served: Issuer) -> None:
    """One connection serves GET, HEAD, a query and a refusal, one after another."""
    connection = http.client.HTTPConnection("127.0.0.1", port_of(served), timeout=5)
    connection.connect()
    used = connection.sock
    for method, path, status in [
        ("GET", "/jwks?a=b", 200),
        ("HEAD", "/jwks", 200),
        ("PUT", "/%6Awks", 405),
    ]:
        connection.request(method, path)
        response = connection.getresponse()
        body = response.read()
        assert response.status == status
        assert bool(body) == (method != "HEAD")
    assert connection.sock is used
    connection.close()


def test_serving_twice_at_once_is_a_mistake(served: Issuer) -> None:
    """One issuer has one URL; afterwards it may be served again."""
    with pytest.raises(RuntimeError, match="already"), served.serve():
        pass
    assert httpx.get(f"{served.url}/jwks").status_code == 200


def test_a_port_may_be_asked_for(issuer: Issuer) -> None:
    """The port of a block that is over is free again."""
    with issuer.serve():
        port = port_of(issuer)
    with issuer.serve(port):
        assert port_of(issuer) == port


def test_two_hundred_clients_at_once(served: Issuer) -> None:
    """None is refused, and every one is counted."""
    count = 200
    barrier = threading.Barrier(count)

    def fetch(_: int) -> int:
        barrier.wait()
        connection = http.client.HTTPConnection("127.0.0.1", port_of(served), timeout=30)
        connection.request("GET", "/jwks")
        response = connection.getresponse()
        keys = json.loads(response.read())["keys"]
        connection.close()
        return len(keys)

    with ThreadPoolExecutor(count) as pool:
        assert sum(pool.map(fetch, range(count))) == count
    assert served.requests["jwks"] == count


def test_nothing_outlives_the_block(issuer: Issuer) -> None:
    """Neither threads, nor idle connections, nor an answer that is still to come."""
    issuer.fail("jwks", delay=60)
    issuer.fail("metadata", drip=60)
    before = set(threading.enumerate())
    with issuer.serve():
        idle, slow, dripping = (
            socket.create_connection(("127.0.0.1", port_of(issuer)), timeout=5) for _ in range(3)
        )
        slow.sendall(b"GET /jwks HTTP/1.1\r\n\r\n")
        dripping.sendall(b"GET /.well-known/openid-configuration HTTP/1.1\r\n\r\n")
        assert dripping.recv(1000).endswith(b"\r\n\r\n")
        while not issuer.requests["jwks"]:
            time.sleep(0.001)
        begin = time.monotonic()
    assert time.monotonic() - begin < 2
    assert not set(threading.enumerate()) - before
    for connection in (idle, slow, dripping):
        assert connection.recv(1) == b""
        connection.close()


def test_the_block_ends_when_it_fails(issuer: Issuer) -> None:
    """An exception in it leaves no server behind."""
    urls = list[str]()

    def fail() -> None:
        with issuer.serve():
            urls.append(issuer.url)
            raise KeyError

    with pytest.raises(KeyError):
        fail()
    with pytest.raises(httpx.ConnectError):
        httpx.get(urls[0])


def test_a_delay(served: Issuer, client: httpx.Client) -> None:
    """The answer comes late, and whole."""
    served.fail("jwks", delay=0.2)
    begin = time.monotonic()
    assert client.get("/jwks").json() == served.jwks
    assert time.monotonic() - begin >= 0.2


def test_a_dropped_connection(served: Issuer, client: httpx.Client) -> None:
    """The client sees the end of the connection instead of an answer."""
    served.fail("all", drop=True)
    with pytest.raises(httpx.RemoteProtocolError):
        client.get("/jwks")


def test_a_dripping_body(served: Issuer) -> None:
    """The head comes at once, then byte after byte."""
    served.fail("jwks", body=b"abcde", drip=0.03)
    begin = time.monotonic()
    with httpx.stream("GET", f"{served.url}/jwks") as response:
        head = time.monotonic() - begin
        pieces = list(response.iter_raw())
    assert pieces == [b"a", b"b", b"c", b"d", b"e"]
    assert time.monotonic() - begin >= 0.15 > head


def test_a_dripping_head(served: Issuer, client: httpx.Client) -> None:
    """Not even the status comes at once."""
    served.fail("jwks", body=b"", drip=0.001, drip_headers=True)
    begin = time.monotonic()
    assert client.get("/jwks").status_code == 200
    assert time.monotonic() - begin >= 0.1


@pytest.mark.parametrize("length", [None, "99999"])
def test_a_wrong_length_ends_the_connection(served: Issuer, length: str | None) -> None:
    """The client would otherwise wait for ever."""
    served.fail("jwks", body=b"abc", headers={"Content-Length": length})
    assert raw(served, "GET /jwks HTTP/1.1\r\n\r\n").endswith(b"\r\n\r\nabc")


def test_a_client_that_hangs_up_makes_no_noise(
    served: Issuer, capfd: pytest.CaptureFixture[str]
) -> None:
    """Neither requests nor broken pipes are written to the terminal."""
    served.fail("jwks", huge=20_000_000)
    with socket.create_connection(("127.0.0.1", port_of(served))) as connection:
        connection.sendall(b"GET /jwks HTTP/1.1\r\n\r\n")
        connection.recv(10)
    served.recover()
    assert httpx.get(f"{served.url}/jwks").status_code == 200
    assert capfd.readouterr() == ("", "")


def test_a_bug_is_shown(served: Issuer, capfd: pytest.CaptureFixture[str]) -> None:
    """What is no broken connection is printed with its traceback."""
    assert raw(served, "GET /jwks HTTP/1.1\r\nContent-Length: x\r\n\r\n") == b""
    assert "ValueError" in capfd.readouterr().err
