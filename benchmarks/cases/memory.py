"""What remembering costs: bytes, pauses of the garbage collector, the worst single put.

Tokens are remembered through the whole street. They are HS256, since the signatures of
100,000 RSA tokens would take minutes to make; what is kept does not depend on that.
"""

from __future__ import annotations

import gc
import json
import os
import subprocess
import sys
import time
import tracemalloc
from collections.abc import Iterator
from itertools import repeat
from pathlib import Path
from typing import Any

from harness import Ratio
from report import Row

from bearer_middleware import ResourceServer
from bearer_middleware.flow.clock import Clock
from bearer_middleware.flow.drivers import run
from bearer_middleware.flow.ring import Ring
from bearer_middleware.memory.places import entry_of
from bearer_middleware.settings import Settings
from bearer_middleware.testing import Issuer
from bearer_middleware.tokens.facts import facts_of

_MANY = 100_000
_MILLION = 1_000_000
_SECRET = "a secret of the benchmark, which is longer than thirty-two bytes"
_AUDIENCE, _ISSUER = "api", "https://auth.example.com/"


async def rows(rounds: int) -> list[Row]:
    del rounds  # counts, not times
    traced, resident, revoking = (_apart(each) for each in ("traced", "resident", "revoking"))
    puts = [_apart("puts") for _ in range(3)]
    return [
        Row(
            f"bytes per remembered token of {traced['payload']} bytes of claims, at {_MANY:,}",
            Ratio.of([traced["bytes"]]),
            "bytes",
            800,
        ),
        Row("  the same by resident memory", Ratio.of([resident["bytes"]]), "bytes"),
        Row("  with revocation: each shown since", Ratio.of([revoking["bytes"]]), "bytes", 1024),
        Row(
            f"pause of a full collection, {_MANY:,} tokens remembered",
            Ratio.of([resident["pause"]]),
            "ms more than before",
            15,
        ),
        Row(f"worst put until {_MILLION:,}", _worst(puts, "growing"), "ms", 1),
        Row(f"worst put at {_MILLION:,}, full", _worst(puts, "full"), "ms", 1),
        Row(f"worst put at {_MILLION:,}, every one read", _worst(puts, "read"), "ms", 1),
        Row(f"worst put at {_MILLION:,}, all expired", _worst(puts, "expired"), "ms", 1),
        Row("  a put that evicts, on average", _worst(puts, "usual"), "us"),
        Row(f"  pause of a full collection at {_MILLION:,}", _worst(puts, "pause"), "ms", 80),
    ]


def _worst(runs: list[dict[str, float]], name: str) -> Ratio:
    return Ratio.of([run[name] for run in runs])


def _apart(what: str) -> dict[str, float]:
    """Measured in a fresh process, so that nothing is left of the last."""
    library = sys.path[1]
    program = (
        f"import sys, json; sys.path[:0] = {[str(Path(__file__).parents[1]), library]!r}; "
        f"from cases import memory; print(json.dumps(memory.{what}()))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], stdout=subprocess.PIPE, check=True, text=True
    )
    return json.loads(done.stdout)


def _tokens() -> Iterator[bytes]:
    issuer = Issuer(_ISSUER, audience=_AUDIENCE)
    for number in range(_MANY + 1):
        yield issuer.jwt(
            sub=f"auth0|5f7c8ec7c33c6c004{number:07d}",
            algorithm="HS256",
            key=_SECRET,
            client_id="web-frontend",
            scope="read:orders write:orders",
            groups=["staff", "orders-department", f"team-of-{number:07d}", "g" * 51],
            auth_time=1_700_000_000,
        ).encode()


def _server() -> ResourceServer:
    return ResourceServer(
        Settings(
            issuer=_ISSUER,
            audience=_AUDIENCE,
            hmac_secret=_SECRET,
            algorithms=["HS256"],
            cache_size=_MANY,
        )
    )


def _fill() -> tuple[ResourceServer, Iterator[bytes]]:
    """A server that is warm, and the tokens it has not seen yet."""
    server, tokens = _server(), _tokens()
    run(server.authenticate([b"Bearer " + next(tokens)]), server.transport)
    return server, tokens


def revoking() -> dict[str, float]:
    """The same where something is revoked, and each token was held against it: all a request
    leaves behind.
    """
    return traced(revoking=True)


def traced(*, revoking: bool = False) -> dict[str, float]:
    """Bytes by ``tracemalloc``: exactly what the entries and the ring around them take."""
    server, tokens = _fill()
    if revoking:
        server.revoke(subject="somebody")
    tracemalloc.start(1)
    server.memory.verified = Ring(_MANY, time.monotonic)  # its lists count too
    for token in tokens:
        run(server.authenticate([b"Bearer " + token]), server.transport)
    gc.collect()
    taken, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    payload = token.split(b".")[1]
    return {
        "bytes": taken / len(server.memory.verified),
        "payload": len(payload) * 3 // 4,
    }


def resident() -> dict[str, float]:
    """Bytes by resident memory, and how much longer a full collection takes."""
    server, tokens = _fill()
    waiting = list(tokens)
    gc.collect()
    pause, before = _pause(), _resident()
    for token in waiting:
        run(server.authenticate([b"Bearer " + token]), server.transport)
    gc.collect()
    return {
        "bytes": (_resident() - before) / len(server.memory.verified),
        "pause": _pause() - pause,
    }


def _resident() -> int:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * 4096


def _pause() -> float:
    """The shortest of a few, in milliseconds."""
    times = []
    for _ in range(5):
        begun = time.thread_time_ns()
        gc.collect()
        times.append(time.thread_time_ns() - begun)
    return min(times) / 1e6


def puts() -> dict[str, float]:
    """The worst single put in milliseconds of CPU, over the life of a ring of a million."""
    now = 1000.0
    ring = Ring(_MILLION, lambda: now)
    gc.collect()
    gc.freeze()
    gc.disable()
    growing, _ = _put(ring, _entries(_MILLION))
    full, usual = _put(ring, _entries(50_000))
    ring.touched[:] = [1] * _MILLION
    read, _ = _put(ring, _entries(50_000))
    now = 1e9  # every entry is out of date
    expired, _ = _put(ring, _entries(50_000))
    gc.enable()
    gc.unfreeze()
    gc.collect()
    return {
        "growing": growing / 1e6,
        "full": full / 1e6,
        "read": read / 1e6,
        "expired": expired / 1e6,
        "usual": usual / 1e3,
        "pause": _pause(),
    }


def _put(ring: Any, entries: Iterator[tuple[Any, ...]]) -> tuple[int, float]:
    """The worst put in nanoseconds, and the usual one."""
    clock, times = time.thread_time_ns, []
    for entry in entries:
        begun = clock()
        ring.put(entry)
        times.append(clock() - begun)
    return max(times), sum(times) / len(times)


def _entries(count: int) -> Iterator[tuple[Any, ...]]:
    """Entries as the street makes them. They share one payload, to spare the machine's memory."""
    payload = json.dumps({"note": "g" * 300}).encode()
    clock = Clock(repeat(1000.0).__next__, repeat(1000.0).__next__)
    for number in range(count):
        claims = {"sub": f"auth0|5f7c8ec7c33c6c{number:07d}", "scope": "read", "exp": 5000}
        facts = facts_of(claims, payload, _ISSUER, False)
        yield entry_of(
            os.urandom(32), facts, claims["exp"], 300.0, 1, 0, clock.now(), clock.monotonic()
        )
