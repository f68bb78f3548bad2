"""The middlewares over real sockets, in the servers that people run."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest

from bearer_middleware.testing import Issuer

HERE = Path(__file__).parent
ASGI = {
    "uvicorn-h11": "uvicorn apps:asgi --port {port} --http h11",
    "uvicorn-httptools": "uvicorn apps:asgi --port {port} --http httptools",
    "uvicorn-wsproto": "uvicorn apps:asgi --port {port} --ws wsproto",
    "hypercorn": "hypercorn apps:asgi --bind 127.0.0.1:{port}",
    "granian-asgi": "granian apps:asgi --port {port} --interface asgi",
    "gunicorn-asgi": "gunicorn apps:asgi --bind 127.0.0.1:{port} --worker-class asgi",
}
WSGI = {
    "gunicorn-sync": "gunicorn apps:wsgi --bind 127.0.0.1:{port}",
    "gunicorn-gthread": "gunicorn apps:wsgi --bind 127.0.0.1:{port} --threads 8",
    "gunicorn-gevent": "gunicorn apps:wsgi --bind 127.0.0.1:{port} --worker-class gevent",
    "gunicorn-preload": "gunicorn apps:wsgi --bind 127.0.0.1:{port} --threads 8 --preload",
    "granian-wsgi": "granian apps:wsgi --port {port} --interface wsgi --blocking-threads 8",
    "waitress": "waitress --listen 127.0.0.1:{port} --threads 8 apps:wsgi",
}
SERVERS = ASGI | WSGI

# Cannot send our answer in place of a websocket: our closing it becomes a plain 403.
CANNOT_DENY = "gunicorn-asgi"


def _param(name: str) -> Any:
    """A server with the modules that its command names."""
    words = SERVERS[name].split()
    modules = {words[0]} | {"gevent", "httptools", "wsproto"}.intersection(words)
    return pytest.param(name, marks=pytest.mark.needs(*modules))


@dataclass(frozen=True)
class Server:
    """One that is running, and the issuer that it trusts."""

    name: str
    port: int
    issuer: Issuer
    client: httpx.Client

    def get(self, *tokens: str | bytes, method: str = "GET") -> httpx.Response:
        """Ask with these tokens, each in a header of its own."""
        texts = (token.encode() if isinstance(token, str) else token for token in tokens)
        headers = [(b"Authorization", b"Bearer " + text) for text in texts]
        return self.client.request(method, f"http://127.0.0.1:{self.port}/", headers=headers)


@pytest.fixture(scope="module")
def issuer() -> Iterator[Issuer]:
    """The one authorization server of all the servers here."""
    issuer = Issuer()
    with issuer.serve():
        yield issuer


@pytest.fixture(scope="module", params=map(_param, SERVERS))
def server(
    request: pytest.FixtureRequest, issuer: Issuer, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Server]:
    """Each in turn, started once; whatever it was asked, its log shows no traceback."""
    log = tmp_path_factory.mktemp(request.param) / "log"
    no_keepalive = httpx.Limits(max_keepalive_connections=0)
    with (
        _running(SERVERS[request.param], issuer, log) as port,
        httpx.Client(limits=no_keepalive, timeout=30) as client,
    ):
        yield Server(request.param, port, issuer, client)
    assert "Traceback" not in log.read_text(), log.read_text()


@contextmanager
def _running(command: str, issuer: Issuer, log: Path) -> Iterator[int]:
    """A process group that is gone afterwards, children included."""
    port = _free_port()
    words = [sys.executable, "-m", *command.format(port=port).split()]
    variables = {f"BEARER_{name.upper()}": _text(v) for name, v in issuer.settings().items()}
    environ = {"PATH": os.environ["PATH"], "PYTHONPATH": str(HERE)} | variables
    with log.open("wb") as output:
        process = subprocess.Popen(
            words, env=environ, stdout=output, stderr=output, start_new_session=True
        )
        try:
            _until_it_listens(port, process, log)
            yield port
        finally:
            process.terminate()
            with suppress(subprocess.TimeoutExpired):
                process.wait(10)
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def _text(setting: object) -> str:
    """A setting as its variable has it."""
    return "true" if setting is True else str(setting)


def _free_port() -> int:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        return unused.getsockname()[1]


def _until_it_listens(port: int, process: subprocess.Popen[bytes], log: Path) -> None:
    while process.poll() is None:
        with suppress(OSError), socket.create_connection(("127.0.0.1", port)):
            return
        time.sleep(0.02)
    pytest.fail(f"{process.args} ended: {log.read_text()[:2000]}")


def test_a_jwt_reaches_the_handler_as_an_identity(server):
    """A good JWT is verified, and the handler knows who is calling."""
    answer = server.get(server.issuer.jwt(sub="alice"))
    assert (answer.status_code, answer.json()) == (200, {"subject": "alice", "kind": "jwt"})


def test_an_opaque_token_reaches_the_handler_as_an_identity(server):
    """A good opaque token is introspected, and the handler knows who is calling."""
    answer = server.get(server.issuer.opaque(sub="bob"))
    assert (answer.status_code, answer.json()) == (200, {"subject": "bob", "kind": "opaque"})


def test_no_token_is_challenged(server):
    """Who shows nothing is told what to show."""
    answer = server.get()
    assert (answer.status_code, answer.headers["www-authenticate"]) == (401, 'Bearer realm="api"')


@pytest.mark.parametrize("mint", ["jwt", "opaque"])
def test_a_bad_token_is_refused(server, mint):
    """A token that was never good is refused with its challenge and a problem document."""
    token = server.issuer.jwt(aud="other") if mint == "jwt" else "never-issued"
    answer = server.get(token)
    assert answer.status_code == 401
    assert 'error="invalid_token"' in answer.headers["www-authenticate"]
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.json()["error"] == "invalid_token"


def test_two_headers_are_refused(server):
    """Whether the server passes both or joins them, a good token in either is not let in."""
    answer = server.get(server.issuer.jwt(), server.issuer.jwt())
    assert answer.status_code == 400
    assert 'error="invalid_request"' in answer.headers["www-authenticate"]


def test_bytes_that_are_no_text_are_refused(server):
    """Some servers pass them on and one drops them: never a 500, never let in."""
    assert server.get(b"\xff\xfe\xe9").status_code in {400, 401}


def test_an_overlong_token_is_refused(server):
    """By us, or before us by a server whose own limit is lower."""
    assert server.get("a" * 9000).status_code in {400, 431}


def test_head_is_answered_without_a_body(server):
    """HEAD is protected as GET is, and nothing of a body is sent."""
    refused = server.get(method="HEAD")
    allowed = server.get(server.issuer.jwt(), method="HEAD")
    assert (refused.status_code, allowed.status_code) == (401, 200)
    assert refused.content == allowed.content == b""


def test_many_callers_ask_once(server):
    """Fifty at once with one new opaque token cost one introspection."""
    issuer = server.issuer
    token, before = issuer.opaque(), issuer.requests["introspection"]
    issuer.fail("introspection", delay=0.2)
    with ThreadPoolExecutor(50) as callers:
        answers = list(callers.map(server.get, [token] * 50))
    issuer.recover()
    assert {answer.status_code for answer in answers} == {200}
    assert issuer.requests["introspection"] - before == 1


@pytest.mark.needs("websockets")
@pytest.mark.parametrize("server", [*map(_param, ASGI)], indirect=True, scope="module")
def test_a_websocket_needs_a_token_too(server):
    """Accepted with an identity; refused by the same 401 where the server can send it."""
    from websockets.exceptions import InvalidStatus
    from websockets.sync.client import connect

    url = f"ws://127.0.0.1:{server.port}/"
    authorization = {"Authorization": f"Bearer {server.issuer.jwt(sub='alice')}"}
    with connect(url, additional_headers=authorization, proxy=None) as websocket:
        assert json.loads(websocket.recv())["subject"] == "alice"
    with pytest.raises(InvalidStatus) as refused:
        connect(url, proxy=None)
    response = refused.value.response
    challenge = response.headers.get("www-authenticate")
    if server.name == CANNOT_DENY:
        assert (response.status_code, challenge) == (403, None)
    else:
        assert (response.status_code, challenge) == (401, 'Bearer realm="api"')


def test_an_issuer_that_is_down_is_not_the_callers_fault(server):
    """A new opaque token is 503, a JWT goes on working; last, as an outage is remembered."""
    server.issuer.fail("introspection", drop=True)
    answer = server.get(server.issuer.opaque())
    assert (answer.status_code, "www-authenticate" in answer.headers) == (503, False)
    assert int(answer.headers["retry-after"]) >= 1
    assert server.get(server.issuer.jwt()).status_code == 200
    server.issuer.recover()
