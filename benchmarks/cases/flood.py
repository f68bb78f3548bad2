"""Five thousand random tokens a second for ten seconds, in time that is moved by hand.

Twenty attackers with an address each, two hundred good tokens that fall due in the midst of
it, and ten users a second whose tokens nobody has seen. Counted is who is served and how often the
authorization server is asked; measured is what shedding a token costs.
"""

from __future__ import annotations

import secrets
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass

from harness import Case, Ratio, measure, over
from report import Row
from tokens import bare_check, material

from bearer_middleware import ResourceServer
from bearer_middleware.errors import Refused
from bearer_middleware.flow.drivers import run
from bearer_middleware.settings import Settings
from bearer_middleware.testing import Issuer

_PER_SECOND, _SECONDS, _STEP, _ATTACKERS = 5_000, 10, 0.02, 20
#: A burst of a hundred, then fifty a second.
_BUDGET = 100 + 50 * _SECONDS
Ask = Callable[..., int]


@dataclass
class _Clock:
    time: float

    def __call__(self) -> float:
        return self.time


def _asking(issuer: Issuer, clock: _Clock, **settings: str) -> Ask:
    """``(header value, client) -> status``, as the middlewares find it."""
    server = ResourceServer(
        Settings(**issuer.settings(**settings)), transport=issuer.transport(), clock=clock
    )

    def ask(value: bytes, client: bytes = b"peer") -> int:
        key = (lambda: client) if settings else None
        try:
            if server.identify(value) is None:
                run(server.authenticate([value], client=key), server.transport)
        except Refused as refusal:
            return refusal.status
        return 200

    return ask


def _bearer(token: str) -> bytes:
    return b"Bearer " + token.encode()


def _junk() -> bytes:
    return _bearer(secrets.token_urlsafe(24))


def _flood(issuer: Issuer, clock: _Clock, ask: Ask) -> tuple[int, float, float]:
    """Calls that junk caused, and the shares of known and of new good tokens that are served."""
    good = [_bearer(issuer.opaque()) for _ in range(200)]
    for value in good:
        ask(value)
    clock.time += 30 - _SECONDS / 2
    known, new = Counter[bool](), Counter[bool]()
    before = issuer.requests["introspection"]
    for step in range(int(_SECONDS / _STEP)):
        for number in range(int(_PER_SECOND * _STEP)):
            ask(_junk(), b"attacker %d" % (number % _ATTACKERS))
        known.update(ask(value) == 200 for value in good[step % 20 :: 20])
        if step % 5 == 0:
            new[ask(_bearer(issuer.opaque()), b"user %d" % step) == 200] += 1
        clock.time += _STEP
    calls = issuer.requests["introspection"] - before - len(good) - new[True]
    return calls, known[True] / known.total(), new[True] / new.total()


async def rows(rounds: int) -> list[Row]:
    tokens = material()
    table = []
    for title, settings in (("", {}), (", addresses known", {"trusted_proxies": "none"})):
        issuer, clock = Issuer(), _Clock(time.time())
        calls, known, new = _flood(issuer, clock, _asking(issuer, clock, **settings))
        what = f"flood{title}"
        table.append(Row(f"{what}: calls for junk", Ratio.of([calls]), "calls", _BUDGET))
        share = Ratio.of([known])
        table.append(Row(f"{what}: known good tokens served", share, "of them", 1, at_least=True))
        goal = 1 if settings else None
        share = Ratio.of([new])
        table.append(Row(f"{what}: new good tokens served", share, "of them", goal, at_least=True))
    issuer = Issuer()
    ask = _asking(issuer, _Clock(time.time()))
    for _ in range(101):
        ask(_junk())
    raw = Case("raw", *bare_check(tokens))
    shed = Case("shed", ask, [_junk() for _ in range(64)])
    await measure([raw, shed], rounds)
    return [*table, Row("flood: shedding a token", over(shed, raw), "raw")]
