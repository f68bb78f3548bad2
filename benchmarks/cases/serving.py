"""Starlette under uvicorn, one worker: requests per second and server CPU, over the bare one.

All servers are up at once and idle but for the one under load; the order changes each round.
The client, ``load.py``, has one CPU and the servers have another: else the scheduler puts both on
the same one now and then.
"""

from __future__ import annotations

import os
import random
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from harness import Ratio
from report import Row

_HERE = Path(__file__).parents[1]
_SECONDS, _CONNECTIONS = 2, 16
_TICK = os.sysconf("SC_CLK_TCK")
_CPUS = sorted(os.sched_getaffinity(0))


@dataclass
class Server:
    """One that is up, and what was measured of it."""

    process: subprocess.Popen[str]
    port: str
    token: str
    rates: list[float] = field(default_factory=list)
    cpu: list[float] = field(default_factory=list)

    def load(self) -> None:
        before = self._ticks()
        answered, seconds = _load(self.port, self.token)
        self.rates.append(answered / seconds)
        self.cpu.append((self._ticks() - before) / _TICK / answered)

    def _ticks(self) -> int:
        stat = Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()
        return int(stat[11]) + int(stat[12])


def _load(port: str, token: str) -> tuple[int, float]:
    command = [sys.executable, str(_HERE / "load.py"), port, str(_SECONDS), str(_CONNECTIONS)]
    environ = {**os.environ, "TOKEN": token}
    done = subprocess.run(command, stdout=subprocess.PIPE, check=True, text=True, env=environ)
    answered, seconds = done.stdout.split()
    return int(answered), float(seconds)


@contextmanager
def _served(app: str) -> Iterator[Server]:
    environ = {**os.environ, "APP": app, "LIBRARY": sys.path[1], "PYTHONWARNINGS": "ignore"}
    command = [sys.executable, str(_HERE / "served.py")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environ) as process:
        if process.stdout is None:
            raise RuntimeError("no pipe")
        try:
            port, token = process.stdout.readline().split()
            os.sched_setaffinity(process.pid, _CPUS[:1])
            yield Server(process, port, token)
        finally:
            process.terminate()


async def rows(rounds: int) -> list[Row]:
    os.sched_setaffinity(0, _CPUS[-1:])  # the client inherits this
    with ExitStack() as stack:
        servers = {
            name: stack.enter_context(_served(name)) for name in ("bare", "ours", "afresh", "PyJWT")
        }
        for _ in range(max(rounds // 5, 5)):
            for server in random.sample(list(servers.values()), len(servers)):
                server.load()

    def over(name: str, what: str) -> Ratio:
        pairs = zip(getattr(servers[name], what), getattr(servers["bare"], what), strict=True)
        return Ratio.of(one / bare for one, bare in pairs)

    def row(what: str, name: str, goal: float | None) -> Row:
        peer = f"{over('PyJWT', 'rates')} PyJWT behind AuthenticationMiddleware"
        return Row(what, over(name, "rates"), "of unprotected", goal, at_least=True, peer=peer)

    return [
        row("requests per second of Starlette, remembered JWT", "ours", 0.88),
        Row("  server CPU per request", over("ours", "cpu"), "times", None),
        row("requests per second of Starlette, JWT verified afresh", "afresh", None),
        Row("  server CPU per request", over("afresh", "cpu"), "times", None),
    ]
