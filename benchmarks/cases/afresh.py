"""A JWT verified afresh, all rules included, over the bare signature check of its algorithm."""

from __future__ import annotations

from typing import Any

import peers
from harness import Case, measure, over
from report import Row, best
from tokens import LARGE_PAYLOAD_BYTES, Material, bare_check, material

from bearer_middleware import ResourceServer
from bearer_middleware.errors import Refused
from bearer_middleware.flow.drivers import run


def street(server: ResourceServer, value: bytes) -> Any:
    """From the header value to the identity, as the middlewares go: the short way first."""
    return server.identify(value) or run(server.authenticate([value]), server.transport)


def _ours(tokens: Material) -> Case:
    server = tokens.server(jwt_cache_ttl=0)
    values = [b"Bearer " + token for token in tokens.tokens]
    for value in values:
        street(server, value)  # the first of them fetches the keys
    try:
        street(server, b"Bearer " + tokens.forged)
    except Refused:
        return Case("ours", server.identify, values)
    raise RuntimeError("a forged token was accepted")


async def compared(
    tokens: Material, rounds: int, what: str, goal: float | None, *, unit: Material | None = None
) -> Row:
    """One line, in checks of the tokens' own algorithm or of those of ``unit``."""
    raw = Case("raw", *bare_check(unit or tokens))
    ours = _ours(tokens)
    texts = [token.decode() for token in tokens.tokens]
    others = {
        name: Case(name, verify, texts) for name, verify in (await peers.verifiers(tokens)).items()
    }
    await measure([raw, ours, *others.values()], rounds)
    theirs = {name: over(case, raw) for name, case in others.items()}
    name = "raw" if unit else f"{tokens.algorithm} checks"
    return Row(what, over(ours, raw), name, goal, peer=best(theirs))


async def rows(rounds: int) -> list[Row]:
    goals = {"RS256": 1.6, "ES256": 1.3, "EdDSA": 1.2}
    table = []
    for algorithm, goal in goals.items():
        tokens = material(algorithm)
        what = f"{algorithm} verified afresh"
        table.append(await compared(tokens, rounds, what, goal))
    large = material(payload_bytes=LARGE_PAYLOAD_BYTES)
    what = f"{len(large.tokens[0])} byte token verified afresh"
    table.append(await compared(large, rounds, what, 5.0, unit=material()))
    return table
