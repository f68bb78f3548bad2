"""The same with the ``speed`` extra: orjson and pybase64."""

from __future__ import annotations

from report import Row
from tokens import LARGE_PAYLOAD_BYTES, material

from cases.afresh import compared


async def rows(rounds: int) -> list[Row]:
    goals = {"RS256": 1.3, "ES256": None, "EdDSA": None}
    table = []
    for algorithm, goal in goals.items():
        tokens = material(algorithm)
        what = f"{algorithm} verified afresh, speed extra"
        table.append(await compared(tokens, rounds, what, goal))
    large = material(payload_bytes=LARGE_PAYLOAD_BYTES)
    what = f"{len(large.tokens[0])} byte token verified afresh, speed extra"
    table.append(await compared(large, rounds, what, None, unit=material()))
    return table
