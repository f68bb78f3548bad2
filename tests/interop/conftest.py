"""Decision points nobody here wrote, started for the tests that want one."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

HERE = Path(__file__).parent
CERBOS = HERE / "node_modules/@cerbos/cerbos-linux-x64/cerbos-linux-x64"
POLICIES = HERE / "cerbos/policies"
_ATTEMPTS = 3


@pytest.fixture(scope="session")
def cerbos(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The base URL, and so the AuthZEN identifier, of a Cerbos with the policies beside this file:
    those of AuthZEN's Todo scenario and of its API-gateway scenario.
    """
    with _running(tmp_path_factory.mktemp("cerbos") / "log", POLICIES) as url:
        yield url


@pytest.fixture
def changing_cerbos(tmp_path: Path) -> Iterator[tuple[str, Path]]:
    """Another one, and the folder of its policies: it reads anew what a test writes there."""
    policies = tmp_path / "policies"
    shutil.copytree(POLICIES, policies)
    with _running(tmp_path / "log", policies, "--set=storage.disk.watchForChanges=true") as url:
        yield url, policies


@contextmanager
def _running(log: Path, policies: Path, *more: str) -> Iterator[str]:
    if not CERBOS.exists():
        give_up = pytest.fail if os.environ.get("CI") else pytest.skip
        give_up("missing: npm's @cerbos/cerbos-linux-x64, which is for Linux on x64")
    for _ in range(_ATTEMPTS):  # a free port may be taken by the time it is used
        with _served(log, policies, *more) as url:
            if url is not None:
                yield url
                return
    pytest.fail(f"Cerbos does not start: {log.read_text()[-2000:]}")


@contextmanager
def _served(log: Path, policies: Path, *more: str) -> Iterator[str | None]:
    ports = _free_ports(2)
    said = {
        "server.httpListenAddr": f"127.0.0.1:{ports[0]}",
        "server.grpcListenAddr": f"127.0.0.1:{ports[1]}",
        "storage.driver": "disk",
        "storage.disk.directory": str(policies),
        "telemetry.disabled": "true",
    }
    options = [f"--set={name}={value}" for name, value in said.items()] + [*more]
    with log.open("wb") as file:
        process = subprocess.Popen(
            [CERBOS, "server", "--debug-listen-addr=", *options], stdout=file, stderr=file
        )
    url = f"http://127.0.0.1:{ports[0]}"
    try:
        yield url if _is_up(url, process) else None
    finally:
        process.terminate()
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait(10)


def _free_ports(count: int) -> list[int]:
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [each.getsockname()[1] for each in sockets]
    for each in sockets:
        each.close()
    return ports


def _is_up(url: str, process: subprocess.Popen[bytes]) -> bool:
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline and process.poll() is None:
        try:
            if httpx.get(f"{url}/_cerbos/health", timeout=1).status_code == 200:
                return True
        except httpx.HTTPError:
            time.sleep(0.05)
    return False
