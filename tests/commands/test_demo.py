"""The demo announces what it does, does what it announces, and leaves nothing behind."""

from __future__ import annotations

import io
import os
import re
import shlex
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from bearer_middleware.commands.demo import Case, Ports, demo
from bearer_middleware.commands.serving import loopback_without_proxy

COMMAND = [sys.executable, "-m", "bearer_middleware", "demo"]
ENVIRON = {
    **{name: value for name, value in os.environ.items() if not name.startswith("BEARER_")},
    "PYTHONPATH": str(Path(__file__).parents[2]),
}
STATUS = re.compile(r"^(?:ASGI|WSGI) API, .*: (\d{3})$", re.MULTILINE)
PLACE = re.compile(r"^[a-zA-Z ]+http://127\.0\.0\.1:(\d+)", re.MULTILINE)
CURL = re.compile(r"^curl .*$", re.MULTILINE)


@contextmanager
def running() -> Iterator[tuple[subprocess.Popen[str], str]]:
    """The demo as a process, and what it printed until it served."""
    process = subprocess.Popen(
        COMMAND, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=ENVIRON
    )
    assert process.stdout is not None
    try:
        lines = []
        for line in process.stdout:
            lines.append(line)
            if line.startswith("Serving"):
                break
        yield process, "".join(lines)
    finally:
        process.kill()
        process.communicate()


@pytest.mark.needs("uvicorn")
def test_once() -> None:
    """``--once`` makes every printed request; a JWT, an opaque, an expired, a revoked, no token."""
    done = subprocess.run(
        [*COMMAND, "--once"], capture_output=True, text=True, env=ENVIRON, timeout=60, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert STATUS.findall(done.stdout) == ["200", "200", "401", "401", "401"] * 2
    assert re.findall(r"^got (\d+)$", done.stdout, re.MULTILINE) == STATUS.findall(done.stdout)


@pytest.mark.needs("uvicorn")
@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM"])
def test_interrupted(name: str) -> None:
    """A signal ends it with status 0; no port stays open and no word of trouble is printed."""
    with running() as (process, text):
        ports = [int(port) for port in PLACE.findall(text)]
        assert len(ports) == 3
        process.send_signal(signal.Signals[name])
        _, err = process.communicate(timeout=20)
        assert (process.returncode, err) == (0, "")
    for port in ports:
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(("127.0.0.1", port), timeout=1).close()


@pytest.mark.needs("uvicorn", "curl")
def test_curl_lines() -> None:
    """The printed lines do what they announce when they are pasted."""
    with running() as (_, text):
        for line, status in zip(CURL.findall(text), STATUS.findall(text), strict=True):
            arguments = [*shlex.split(line), "--silent", "--noproxy", "*"]
            done = subprocess.run(arguments, capture_output=True, text=True, check=True, timeout=30)
            assert f" {status} " in done.stdout.splitlines()[0]


@pytest.mark.needs("uvicorn")
def test_check_against_the_demo() -> None:
    """The printed settings are those of an API that trusts the demo's server."""
    with running() as (_, text):
        exported = re.search(r"^export (.*)$", text, re.MULTILINE)
        assert exported is not None
        environ = dict(pair.split("=", 1) for pair in shlex.split(exported[1]))
        command = [sys.executable, "-m", "bearer_middleware", "check"]
        done = subprocess.run(
            command, env={**ENVIRON, **environ}, capture_output=True, timeout=60, check=False
        )
        assert done.returncode == 0


@pytest.mark.needs("uvicorn")
def test_proxies_do_not_matter(monkeypatch: pytest.MonkeyPatch) -> None:
    """A proxy of the machine does not stand between the parts of the demo."""
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:1")
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")
    monkeypatch.setenv("no_proxy", "example.com")
    before = threading.active_count()
    assert demo(Ports(), io.StringIO(), once=True) == 0
    assert os.environ["no_proxy"] == "example.com"
    assert "NO_PROXY" not in os.environ
    assert threading.active_count() == before


def test_proxy_exceptions_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    """Loopback is added to what the machine excepts already."""
    monkeypatch.setenv("NO_PROXY", "intern.example")
    with loopback_without_proxy():
        assert os.environ["no_proxy"] == "intern.example,127.0.0.1"
    assert os.environ["NO_PROXY"] == "intern.example"


def test_without_uvicorn(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where uvicorn is missing one line says how to install it, and nothing is started."""
    monkeypatch.setitem(sys.modules, "uvicorn", None)
    out = io.StringIO()
    assert demo(Ports(), out) == 1
    assert out.getvalue() == "demo needs uvicorn: pip install 'bearer-middleware[demo]'\n"


@pytest.mark.needs("uvicorn")
@pytest.mark.parametrize("which", Ports._fields)
def test_port_in_use(which: str) -> None:
    """A port that somebody has already is told in one line, and what was started is ended."""
    before = threading.active_count()
    with socket.create_server(("127.0.0.1", 0)) as taken:
        out = io.StringIO()
        ports = Ports()._replace(**{which: taken.getsockname()[1]})
        assert demo(ports, out, once=True) == 1
    assert out.getvalue().startswith("demo cannot listen: ")
    assert threading.active_count() == before


@pytest.mark.needs("uvicorn")
def test_not_as_announced(monkeypatch: pytest.MonkeyPatch) -> None:
    """Another status than the announced one is told, and makes the status 1."""
    monkeypatch.setattr(Case, "call", lambda case: 500)
    out = io.StringIO()
    assert demo(Ports(), out, once=True) == 1
    assert out.getvalue().endswith("not all as announced\n")


def test_nobody_there() -> None:
    """A request that nobody answers has no status."""
    assert Case("nobody", "http://127.0.0.1:1/", None, 200).call() == 0


@pytest.mark.needs("uvicorn")
def test_in_another_thread() -> None:
    """Signals are the main thread's; elsewhere the demo runs without them."""
    results: list[int] = []

    def run() -> None:
        results.append(demo(Ports(), io.StringIO(), once=True))

    thread = threading.Thread(target=run)
    thread.start()
    thread.join(60)
    assert results == [0]


@pytest.mark.needs("uvicorn")
def test_server_that_does_not_start(monkeypatch: pytest.MonkeyPatch) -> None:
    """A server that ends at once is told as trouble, not waited for."""
    monkeypatch.setattr("uvicorn.Server.run", lambda server, sockets=None: None)
    began = time.monotonic()
    out = io.StringIO()
    assert demo(Ports(), out, once=True) == 1
    assert "did not start" in out.getvalue()
    assert time.monotonic() - began < 5
