"""200 callers at once with one opaque token nobody has seen: how many calls, and how late the last.

The authorization server has a process of its own and answers after 20 ms. Wall time here:
it is waiting that is measured.
"""

from __future__ import annotations

import asyncio
import secrets
import statistics
import subprocess
import sys
import time
import urllib.request
from collections.abc import Awaitable, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import worlds
from harness import Ratio
from report import Row

from bearer_middleware import BearerMiddleware, ResourceServer, WSGIBearerMiddleware
from bearer_middleware.settings import Settings

_CALLERS = 200
_LONE = 5
Storm = Callable[[str, int], Awaitable[list[float]]]


@contextmanager
def _authority() -> Iterator[str]:
    program = Path(__file__).parents[1] / "authority.py"
    with subprocess.Popen([sys.executable, program], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        yield f"http://127.0.0.1:{process.stdout.readline().strip()}"
        process.terminate()


def _asked(url: str) -> int:
    with urllib.request.urlopen(f"{url}/count") as answer:
        return int(answer.read())


def _server(url: str) -> ResourceServer:
    return ResourceServer(
        Settings(
            issuer="https://auth.example.com/",
            audience="api",
            introspection_url=f"{url}/introspect",
            client_id="resource-server",
            client_secret=secrets.token_urlsafe(64),
            allow_insecure_http=True,
        )
    )


def _tasks(request: Callable[[bytes], Awaitable[Any]]) -> Storm:
    """So many tasks of this loop at once; how long each took, in seconds."""

    async def one(token: bytes, begun: float) -> float:
        await request(token)
        return time.perf_counter() - begun

    async def storm(token: str, callers: int) -> list[float]:
        begun = time.perf_counter()
        return await asyncio.gather(*(one(token.encode(), begun) for _ in range(callers)))

    return storm


@contextmanager
def _threads(request: Callable[[str], Any]) -> Iterator[Storm]:
    """So many requests at once for a pool of as many idle threads, as a WSGI server has it."""

    def one(token: str, begun: float) -> float:
        request(token)
        return time.perf_counter() - begun

    with ThreadPoolExecutor(_CALLERS) as pool:
        list(pool.map(time.sleep, [0.05] * _CALLERS))  # all of them exist now

        async def storm(token: str, callers: int) -> list[float]:
            begun = time.perf_counter()
            waiting = [pool.submit(one, token, begun) for _ in range(callers)]
            return [done.result() for done in waiting]

        yield storm


def _fastmcp(url: str, client: Any) -> Callable[[bytes], Awaitable[Any]]:
    """fastmcp's verifier with its cache on and one shared client, which is not its default."""
    from fastmcp.server.auth.providers.introspection import IntrospectionTokenVerifier

    verifier = IntrospectionTokenVerifier(
        introspection_url=f"{url}/introspect",
        client_id="resource-server",
        client_secret="a secret",
        cache_ttl_seconds=300,
        http_client=client,
    )

    async def request(token: bytes) -> None:
        if await verifier.verify_token(token.decode()) is None:
            raise RuntimeError("fastmcp refused a good token")

    return request


async def _weathered(storm: Storm, url: str, rounds: int) -> tuple[Ratio, Ratio]:
    """Calls a storm, and its p99 over one lone call, measured in turn."""
    calls, late = [], []
    await storm(secrets.token_urlsafe(32), 1)  # imports the client, opens the connection
    for _ in range(rounds):
        lone = [(await storm(secrets.token_urlsafe(32), 1))[0] for _ in range(_LONE)]
        _asked(url)
        took = await storm(secrets.token_urlsafe(32), _CALLERS)
        calls.append(_asked(url))
        late.append(statistics.quantiles(took, n=100)[98] / statistics.median(lone))
    return Ratio.of(calls), Ratio.of(late)


async def rows(rounds: int) -> list[Row]:
    import httpx2

    rounds = max(rounds // 4, 5)
    with _authority() as url:
        asgi = worlds.asgi(BearerMiddleware(worlds.bare_asgi, server=_server(url)))
        wsgi = worlds.wsgi(WSGIBearerMiddleware(worlds.bare_wsgi, server=_server(url)))
        in_tasks = await _weathered(_tasks(asgi), url, rounds)
        with _threads(wsgi) as storm:
            in_threads = await _weathered(storm, url, rounds)
        async with httpx2.AsyncClient() as client:
            peer = await _weathered(_tasks(_fastmcp(url, client)), url, max(rounds // 4, 3))
    calls, late = (f"{ratio} fastmcp, cache on, one client" for ratio in peer)
    return [
        Row(f"{_CALLERS} tasks, one opaque token: calls", in_tasks[0], "calls", 1, peer=calls),
        Row("  their p99", in_tasks[1], "lone calls", 1.5, peer=late),
        Row(f"{_CALLERS} threads, one opaque token: calls", in_threads[0], "calls", 1, peer=calls),
        Row("  their p99", in_threads[1], "lone calls", 1.5, peer=late),
    ]
