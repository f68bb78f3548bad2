"""A soak: random tokens and good ones, for as long as it takes to see memory grow, if it does.

    python -m pytest tests/floods/test_soak.py -q                  some twenty seconds
    SOAK_RANDOM=1000000 SOAK_GOOD=100000 python -m pytest tests/floods/test_soak.py -q -s

Looked at are the blocks that Python has allocated, which costs nothing and tells of a single
object too many for each request, and resident memory. Each world is asked through its own
middleware; the authorization server answers in process and forgets.
"""

from __future__ import annotations

import gc
import os
import random
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from bearer_middleware import ResourceServer, Settings
from bearer_middleware.testing import Issuer

pytestmark = pytest.mark.alone

RANDOM = int(os.environ.get("SOAK_RANDOM", "16000"))
GOOD = int(os.environ.get("SOAK_GOOD", "1600"))
#: In so many parts; the first ones fill the memories up, and later ones must add nothing.
PARTS, FILLING = 10, 4
CACHE = 200
#: What may be added from the filled memory to the end: blocks and bytes, however long it takes.
SLACK, RESIDENT_SLACK = 2_000, 16_000_000
FULL = RANDOM >= 1_000_000
#: More clients than are remembered would take as long to show that.
NETWORKS = 256 if FULL else 2
LIMIT = pytest.mark.timeout(7200 if FULL else 240)


class Forgetful:
    """A transport of an authorization server that knows good tokens by their look."""

    def __init__(self, issuer: Issuer, clock: Any) -> None:
        self._issuer, self._clock, self.asked = issuer.transport(), clock, 0

    def handle_request(self, request: Any) -> Any:
        if not request.url.path.endswith("/introspect"):
            return self._issuer.handle_request(request)
        self.asked += 1
        httpx = sys.modules[type(request).__module__.partition(".")[0]]
        return httpx.Response(200, stream=httpx.ByteStream(self._answer(request.read())))

    async def handle_async_request(self, request: Any) -> Any:
        if not request.url.path.endswith("/introspect"):
            return await self._issuer.handle_async_request(request)
        self.asked += 1
        httpx = sys.modules[type(request).__module__.partition(".")[0]]
        return httpx.Response(200, stream=httpx.ByteStream(self._answer(await request.aread())))

    def _answer(self, form: bytes) -> bytes:
        if not form.startswith(b"token=good-"):
            return b'{"active": false}'
        name = form[6:].partition(b"&")[0]
        until = int(self._clock()) + 3600
        return b'{"active": true, "aud": "api", "sub": "%s", "exp": %d}' % (name, until)

    def close(self) -> None:
        """Nothing is held open."""

    async def aclose(self) -> None:
        """Nothing is held open."""

    __enter__ = __aenter__ = lambda self: self
    __exit__ = __aexit__ = lambda self, *_: None


@LIMIT
def test_soak(make_world: Any, clock: Any, capsys: pytest.CaptureFixture[str]) -> None:
    """Memory is flat: it is filled in the first parts, and stays as it is in the others."""
    issuer = Issuer(algorithm="ES256")
    transport = Forgetful(issuer, clock)
    settings = issuer.settings(cache_size=CACHE, trusted_proxies="none")
    server = ResourceServer(Settings(**settings), transport=transport, clock=clock)
    ask = make_world(server)
    chance = random.Random(7)
    head, body, signature = issuer.jwt().split(".")
    figures: list[tuple[int, int]] = []
    began = time.monotonic()
    for _part in range(PARTS):
        for number in range(RANDOM // PARTS):
            clock.advance(0.03)  # within the budget: all are asked about
            peer = f"198.{chance.randrange(NETWORKS)}.{chance.randrange(256)}.7"
            text = f"{chance.getrandbits(200):050x}"
            forged = f"{head}.{body}.{text[:43]}{signature[43:]}"
            assert ask(text if number % 2 else forged, peer) == 401
            if number % (RANDOM // GOOD) == 0:
                _show_good(ask, issuer, clock, number)
        gc.collect()
        figures.append((sys.getallocatedblocks(), _resident()))
    with capsys.disabled():
        _report(figures, time.monotonic() - began, transport.asked)
    grown = [last - first for first, last in zip(figures[FILLING], figures[-1], strict=True)]
    assert grown[0] < SLACK, figures
    assert grown[1] < RESIDENT_SLACK, figures
    assert len(server.memory.verified) <= CACHE
    assert len(server.memory.introspected) <= CACHE


def _show_good(ask: Any, issuer: Issuer, clock: Any, number: int) -> None:
    if number % 3 == 0:
        token = issuer.jwt(iat=int(clock()), exp=int(clock()) + 3600)
    else:
        token = f"good-{number}-{clock()}"
    assert ask(token, "192.0.2.9") == 200
    assert ask(token, "192.0.2.9") == 200


def _resident() -> int:
    statm = Path("/proc/self/statm")
    if not statm.exists():
        return 0
    return int(statm.read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def _report(figures: list[tuple[int, int]], seconds: float, asked: int) -> None:
    resident = " ".join(f"{each / 1e6:.1f}" for _, each in figures)
    blocks = " ".join(f"{each:,}" for each, _ in figures)
    sys.stdout.write(
        f"\n{RANDOM:,} random and {GOOD:,} good tokens in {seconds:.0f} s, asked {asked:,} times;"
        f" resident MB after each tenth: {resident}; blocks: {blocks}\n"
    )
