"""HTTP exchanges over real sockets: bounded, plain, and alone with themselves."""

from __future__ import annotations

import asyncio
import gc
import gzip
import os
import subprocess
import sys
import threading
import time
import warnings
from collections.abc import Callable, Generator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import trio

from bearer_middleware.errors import TransportError
from bearer_middleware.flow.drivers import arun, run
from bearer_middleware.flow.effects import HttpRequest, HttpResponse, Tls
from bearer_middleware.flow.transport import HttpTransport
from bearer_middleware.testing import Issuer

Send = Callable[[HttpRequest], HttpResponse]
ROOT = Path(__file__).parents[2]

#: No exchange may take this long, whatever its limit: these machines are slow, not that slow.
GENEROUS = 8.0


def _asking(request: HttpRequest) -> Generator[Any, Any, HttpResponse]:
    return (yield from request)


@pytest.fixture(params=["httpx", "httpx2"])
def library(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Either client library; without httpx2, httpx serves."""
    pytest.importorskip(request.param)
    if request.param == "httpx":
        monkeypatch.setitem(sys.modules, "httpx2", None)
    return str(request.param)


def test_an_exchange(send: Send, recorder: Any, answer: Any, library: str) -> None:
    """Method, path, headers and body go out; status, headers and body come back."""
    recorder.answers = [answer(b"made", "201 Created", X_Colour="blue")]
    response = send(HttpRequest("POST", f"{recorder.url}/a?b=c", {"X-One": "1"}, b"body"))
    assert (response.status, response.body, response.headers["x-colour"]) == (201, b"made", "blue")
    (seen,) = recorder.seen
    assert (seen.method, seen.target, seen.body) == ("POST", "/a?b=c", b"body")
    assert seen.headers["x-one"] == "1"


def test_who_is_asking(send: Send, recorder: Any, library: str) -> None:
    """Our own name, and no encoding but the identity."""
    send(HttpRequest("GET", recorder.url))
    (seen,) = recorder.seen
    assert seen.headers["user-agent"].startswith("bearer-middleware")
    assert "httpx" not in seen.headers["user-agent"]
    assert seen.headers["accept-encoding"] == "identity"


@pytest.mark.parametrize("part", ["body", "header"])
def test_the_time_limit_holds_against_a_drip(
    send: Send, recorder: Any, answer: Any, part: str, library: str
) -> None:
    """A byte now and then keeps a socket alive, but not an exchange (DSC-9)."""
    padding = {"X-Padding": "x" * 400} if part == "header" else {}
    recorder.answers = [answer(b"x" * (400 if part == "body" else 1), **padding)]
    recorder.pause = 0.05
    began = time.monotonic()
    with pytest.raises(TransportError, match="timeout"):
        send(HttpRequest("GET", recorder.url, timeout=0.4))
    assert time.monotonic() - began < GENEROUS


def test_the_time_limit_holds_against_silence(send: Send, recorder: Any) -> None:
    """A server that accepts and says nothing."""
    recorder.pause = 60
    with pytest.raises(TransportError, match="timeout"):
        send(HttpRequest("GET", recorder.url, timeout=0.3))


@pytest.mark.parametrize("timeout", [0.0, -1.0])
def test_no_time_left_is_a_timeout(send: Send, recorder: Any, timeout: float) -> None:
    """Earlier exchanges of the same request may have used it up."""
    with pytest.raises(TransportError, match="timeout"):
        send(HttpRequest("GET", recorder.url, timeout=timeout))


# httpcore leaves its own generator of chunks to the collector, of which trio warns.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("over", [1, 5_000_000])
def test_a_body_is_cut_at_the_limit(
    send: Send,
    recorder: Any,
    answer: Any,
    over: int,
    library: str,
) -> None:
    """No more than the limit is believed, and not much more is read (DSC-9)."""
    recorder.answers = [answer(b"x" * (1000 + over))]
    with pytest.raises(TransportError, match="too_large"):
        send(HttpRequest("GET", recorder.url, limit=1000))


def test_a_body_of_the_limit_is_whole(send: Send, recorder: Any, answer: Any) -> None:
    """The limit is the last size that passes."""
    recorder.answers = [answer(b"x" * 1000)]
    assert len(send(HttpRequest("GET", recorder.url, limit=1000)).body) == 1000


def test_nothing_is_decompressed(send: Send, recorder: Any, answer: Any, library: str) -> None:
    """A bomb stays packed: the raw bytes are counted and handed on."""
    bomb = gzip.compress(b" " * 30_000_000)
    recorder.answers = [answer(bomb, Content_Encoding="gzip")]
    response = send(HttpRequest("GET", recorder.url, limit=65_536))
    assert response.body == bomb
    assert response.headers["content-encoding"] == "gzip"


@pytest.mark.parametrize("status", ["301 Moved", "302 Found", "307 Again", "308 For Ever"])
def test_redirects_are_not_followed_dsc_8(
    send: Send, recorder: Any, answer: Any, status: str
) -> None:
    """DSC-8: nobody tells us where to send a token or what to fetch."""
    recorder.answers = [answer(b"", status, Location=f"{recorder.url}/elsewhere"), answer()]
    assert send(HttpRequest("GET", recorder.url)).status == int(status[:3])
    assert len(recorder.seen) == 1


def test_cookies_are_not_kept(
    world: str, transport: HttpTransport, recorder: Any, answer: Any, library: str
) -> None:
    """What one answer sets is not sent with the next request."""
    recorder.answers = [answer(Set_Cookie="session=1; Path=/")]
    request = HttpRequest("GET", recorder.url)

    async def twice() -> None:
        await transport.asend(request)
        await transport.asend(request)
        await transport.aclose()

    if world == "sync":
        transport.send(request)
        transport.send(request)
    else:
        asyncio.run(twice()) if world == "asyncio" else trio.run(twice)
    assert [seen.headers.get("cookie") for seen in recorder.seen] == [None, None]
    assert recorder.connections == 1  # yet the connection is


def test_a_refused_connection(send: Send, recorder: Any, library: str) -> None:
    """Nobody listens on a port that was just given back."""
    import socket

    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        port = unused.getsockname()[1]
    with pytest.raises(TransportError, match="connect"):
        send(HttpRequest("GET", f"http://127.0.0.1:{port}/", timeout=5))


@pytest.mark.parametrize(
    "answer",
    [b"", b"no http at all\r\n\r\n", b"HTTP/1.1 200 OK\r\ncontent-length: 50\r\n\r\nshort"],
    ids=["nothing", "noise", "half"],
)
def test_half_an_answer_is_none(send: Send, answer: bytes, library: str) -> None:
    """A connection that ends too soon, or speaks something else."""
    import socket

    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve() -> None:
            connection, _ = server.accept()
            with connection:
                connection.recv(65_536)
                connection.sendall(answer)

        thread = threading.Thread(target=serve)
        thread.start()
        with pytest.raises(TransportError) as failure:
            send(HttpRequest("GET", f"http://127.0.0.1:{server.getsockname()[1]}/", timeout=5))
        thread.join()
    assert failure.value.detail in ("protocol", "failed")


@pytest.mark.parametrize(
    "url", ["http://", "nonsense", "http://[::1", "ftp://as.test/", "http://\x00/"]
)
def test_an_impossible_url_is_a_failure_of_transport(send: Send, url: str) -> None:
    """Metadata may name anything."""
    with pytest.raises(TransportError):
        send(HttpRequest("GET", url, timeout=5))


def test_the_usual_proxy_is_used(
    send: Send, recorder: Any, monkeypatch: pytest.MonkeyPatch, library: str
) -> None:
    """``HTTP_PROXY`` leads even to a host that does not exist."""
    monkeypatch.setenv("HTTP_PROXY", recorder.url)
    assert send(HttpRequest("GET", "http://as.invalid/keys")).status == 200
    assert [seen.target for seen in recorder.seen] == ["http://as.invalid/keys"]


def test_the_usual_exception_from_the_proxy(
    send: Send, recorder: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """``NO_PROXY`` is honoured as well."""
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    assert send(HttpRequest("GET", recorder.url)).status == 200


def test_netrc_is_not_read(
    send: Send, recorder: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, library: str
) -> None:
    """Credentials of other programs are not ours to send."""
    netrc = tmp_path / ".netrc"
    netrc.write_text("machine 127.0.0.1 login canary password canary\n")
    netrc.chmod(0o600)
    monkeypatch.setenv("NETRC", str(netrc))
    monkeypatch.setenv("HOME", str(tmp_path))
    send(HttpRequest("GET", recorder.url))
    assert "authorization" not in recorder.seen[0].headers


def test_blocking_code_keeps_its_connection(transport: HttpTransport, recorder: Any) -> None:
    """One client for the process, not one for each exchange."""
    for _ in range(5):
        transport.send(HttpRequest("GET", recorder.url))
    assert recorder.connections == 1


def test_every_loop_has_its_own_client(transport: HttpTransport, recorder: Any) -> None:
    """Loops come and go, on asyncio and trio, with blocking code between them."""

    async def visit() -> int:
        response = await transport.asend(HttpRequest("GET", recorder.url))
        await transport.aclose()
        return response.status

    for _ in range(3):
        assert asyncio.run(visit()) == 200
        assert trio.run(visit) == 200
        assert transport.send(HttpRequest("GET", recorder.url)).status == 200


def test_equal_certificates_share_a_client(transport: HttpTransport, recorder: Any) -> None:
    """Whoever asks writes its own ``Tls``, some for each exchange: it is a value, and a key."""
    asked = [HttpRequest("GET", recorder.url, tls=Tls(authorities="ca.pem")) for _ in range(3)]

    async def visit() -> int:
        for request in asked:
            await transport.asend(request)
        clients = len(*transport._loops.values())
        await transport.aclose()
        return clients

    for request in asked:
        transport.send(request)
    assert len(transport._clients) == asyncio.run(visit()) == 1


def test_a_client_that_is_made_while_others_are_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    """A renewal in the background, say, at the end of the lifespan: it is closed as well."""
    httpx = pytest.importorskip("httpx2")
    goes_on, later, closed = threading.Event(), [], []

    class Inner(httpx.MockTransport):
        async def aclose(self) -> None:
            closed.append(self)
            goes_on.set()
            assert (await later[0]).status == 200

    transport = HttpTransport(Inner(lambda request: httpx.Response(200)))
    options = transport._client_options

    def slowly(key: Any) -> dict[str, Any]:
        if key[0] != Tls():
            goes_on.wait(20)
        return options(key)

    async def visit() -> None:
        await transport.asend(HttpRequest("GET", "http://as.test/", timeout=20))
        request = HttpRequest("GET", "http://as.test/", timeout=20, tls=Tls("ca.pem"))
        later.append(asyncio.create_task(transport.asend(request)))
        await asyncio.sleep(0)  # it has begun
        await transport.aclose()

    monkeypatch.setattr(transport, "_client_options", slowly)
    asyncio.run(visit())
    assert len(closed) == 2


def test_loops_that_begin_and_end_beside_each_other(quick_switches: None) -> None:
    """In threads: no exchange is lost to another one's loop."""
    httpx = pytest.importorskip("httpx2")
    transport = HttpTransport(httpx.MockTransport(lambda request: httpx.Response(200)))

    async def visit() -> int:
        try:
            return (await transport.asend(HttpRequest("GET", "http://as.test/"))).status
        finally:
            await transport.aclose()

    def visits() -> list[int]:
        return [asyncio.run(visit()) for _ in range(60)]

    with ThreadPoolExecutor(8) as pool:
        seen = [pool.submit(visits) for _ in range(8)]
    assert [each.result() for each in seen] == [[200] * 60] * 8


@pytest.mark.filterwarnings("ignore::ResourceWarning")
@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="counts descriptors by /proc")
def test_loops_that_ended_leave_nothing_behind(transport: HttpTransport, recorder: Any) -> None:
    """Nobody sees the end of a loop without lifespan: its client must go with it."""

    async def visit() -> None:
        await transport.asend(HttpRequest("GET", recorder.url))

    asyncio.run(visit())
    gc.collect()
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(20):
        asyncio.run(visit())
    gc.collect()
    grown = len(os.listdir("/proc/self/fd")) - before
    for loop in list(transport._loops):  # so that this failure costs no descriptors
        for client in transport._loops.pop(loop).values():
            del client
    gc.collect()
    assert grown < 10


def test_a_slow_exchange_takes_no_other_with_it() -> None:
    """One dripping answer must not fail the good ones that happen to be under way."""
    transport = HttpTransport()
    outcomes: dict[str, Any] = {}

    def ask(name: str, url: str, timeout: float) -> None:
        try:
            outcomes[name] = run(
                _asking(HttpRequest("GET", url, timeout=timeout)), transport
            ).status
        except TransportError as failure:
            outcomes[name] = failure.detail

    with Issuer().serve() as issuer:
        issuer.fail("metadata", delay=20)
        issuer.fail("jwks", delay=1.0)
        well_known = f"{issuer.url}/.well-known/openid-configuration"
        slow = threading.Thread(target=ask, args=("slow", well_known, 0.5))
        good = threading.Thread(target=ask, args=("good", f"{issuer.url}/jwks", 20))
        slow.start()
        good.start()
        slow.join()
        good.join()
    transport.close()
    assert outcomes == {"slow": "timeout", "good": 200}


def test_a_dripping_server_costs_little(transport: HttpTransport, recorder: Any) -> None:
    """Twenty callers whose time is up at once retire the one client they shared, not twenty."""
    recorder.pause = 0.05
    start, before = threading.Barrier(20), set(threading.enumerate())

    def ask() -> None:
        start.wait()
        for _ in range(3):
            with pytest.raises(TransportError):
                transport.send(HttpRequest("GET", recorder.url, timeout=0.2))

    threads = [threading.Thread(target=ask) for _ in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    started = set(threading.enumerate()) - before
    timers = [thread for thread in started if isinstance(thread, threading.Timer)]
    clients = len(transport._clients)
    for timer in timers:
        timer.cancel()
    assert clients <= 12
    assert len(timers) <= 12


def test_a_slow_exchange_takes_no_other_with_it_on_a_loop() -> None:
    """The same on a loop, where a cancel scope ends the slow one."""
    transport = HttpTransport()

    async def main() -> Any:
        try:
            return await asyncio.gather(
                arun(_asking(HttpRequest("GET", well_known, timeout=0.5)), transport),
                arun(_asking(HttpRequest("GET", f"{issuer.url}/jwks", timeout=20)), transport),
                return_exceptions=True,
            )
        finally:
            await transport.aclose()

    with Issuer().serve() as issuer:
        issuer.fail("metadata", delay=20)
        issuer.fail("jwks", delay=1.0)
        well_known = f"{issuer.url}/.well-known/openid-configuration"
        slow, good = asyncio.run(main())
    assert slow.detail == "timeout"
    assert good.status == 200


def test_closing_is_no_end(transport: HttpTransport, recorder: Any) -> None:
    """The next exchange opens what it needs, and closing twice is fine."""
    for _ in range(2):
        assert transport.send(HttpRequest("GET", recorder.url)).status == 200
        transport.close()
        transport.close()
    assert recorder.connections == 2

    async def visits() -> None:
        for _ in range(2):
            await transport.asend(HttpRequest("GET", recorder.url))
            await transport.aclose()
            await transport.aclose()

    asyncio.run(visits())
    assert recorder.connections == 4


def test_connections_are_closed_with_the_transport(recorder: Any) -> None:
    """Whoever drops a server need not close it: warnings of open sockets would be errors."""
    transport = HttpTransport()
    transport.send(HttpRequest("GET", recorder.url))
    (client,) = transport._clients.values()
    with warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always")
        del transport
        gc.collect()
    assert client.is_closed
    assert [each.category for each in warned] == []


def test_connections_are_closed_at_exit(recorder: Any) -> None:
    """A process ends in silence, also where every warning is shown."""
    program = f"""
from bearer_middleware.flow.effects import HttpRequest
from bearer_middleware.flow.transport import HttpTransport
transport = HttpTransport()
print(transport.send(HttpRequest("GET", {recorder.url!r})).status)
"""
    ended = subprocess.run(
        [sys.executable, "-X", "dev", "-W", "error", "-c", program],
        capture_output=True,
        text=True,
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        timeout=60,
        check=False,
    )
    assert (ended.stdout.strip(), ended.stderr) == ("200", "")


def test_an_injected_transport_is_asked_instead_of_the_network(drive: Any) -> None:
    """And no trust store is read for it."""
    issuer = Issuer()
    transport = HttpTransport(issuer.transport())
    response = drive(_asking(HttpRequest("GET", "https://issuer.test/jwks")), transport)
    assert response.status == 200
    assert issuer.requests == {"jwks": 1}


def test_uwsgi_without_threads_exchanges_in_this_thread(
    transport: HttpTransport, recorder: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its other threads never run, so waiting for one would be waiting for ever."""
    import types

    monkeypatch.setitem(sys.modules, "uwsgi", types.SimpleNamespace(opt={}))

    plain = threading.Thread

    def forbidden(*arguments: Any, **named: Any) -> threading.Thread:
        assert not str(named.get("name", "")).startswith("bearer_middleware")
        return plain(*arguments, **named)  # the recorder's

    monkeypatch.setattr(threading, "Thread", forbidden)
    assert transport.send(HttpRequest("GET", recorder.url)).status == 200


@pytest.mark.parametrize("body", [b"", b"{}", b"x" * 100])
def test_a_transport_that_has_read_the_body(library: str, body: bytes) -> None:
    """As mock transports do; its length is limited all the same."""
    client = pytest.importorskip(library)
    inner = client.MockTransport(lambda request: client.Response(200, content=body))
    request = HttpRequest("GET", "https://as.test", limit=50)

    async def on_loop() -> HttpResponse:
        transport = HttpTransport(inner)
        try:
            return await arun(_asking(request), transport)
        finally:
            await transport.aclose()

    for ask in (
        lambda: run(_asking(request), HttpTransport(inner)),
        lambda: asyncio.run(on_loop()),
    ):
        if len(body) > 50:
            with pytest.raises(TransportError, match="too_large"):
                ask()
        else:
            assert ask().body == body
