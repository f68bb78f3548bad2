"""What an attacker without a token can make us do: refusals, in raw, and no fetch for any."""

from __future__ import annotations

import time
from collections.abc import Callable
from itertools import repeat
from typing import Any

import peers
import worlds
from harness import Case, Ratio, added, measure, over
from report import Row, best
from tokens import KID, Material, bare_check, material

from bearer_middleware import BearerMiddleware, ResourceServer
from bearer_middleware.errors import Reason, Refused
from bearer_middleware.flow.drivers import run
from bearer_middleware.settings import Settings

_OVERSIZE = 60_000


def _hostile(tokens: Material) -> dict[str, tuple[Reason, float | None, list[bytes]]]:
    """By name: the reason it must get, the goal, and 64 tokens or more of the usual size."""
    issuer = tokens.issuer
    usual = {"scope": "read:orders write:orders", "auth_time": 1_700_000_000, "groups": ["g" * 60]}

    def made(**changes: Any) -> list[bytes]:
        return [
            issuer.jwt(sub=f"auth0|5f7c8ec7c33c6c004bbaf{n:03d}", **(usual | changes)).encode()
            for n in range(64)
        ]

    def unknown_kid(number: int) -> bytes:
        headers = {"kid": f"{KID[:-3]}{number:03d}x"}
        return issuer.jwt(headers=headers, **usual).encode()

    head, payload, signature = tokens.tokens[0].split(b".")
    longer = payload + b"A" * (_OVERSIZE // 4 * 4)
    return {
        "oversize token": (Reason.TOO_LONG, 0.1, [b".".join((head, longer, signature))]),
        "unknown kid, the limit reached": (
            Reason.UNKNOWN_KID,
            0.3,
            [unknown_kid(number) for number in range(64)],
        ),
        # The header of each has to be read, since it is another one every time.
        "unknown kid, never seen before": (
            Reason.UNKNOWN_KID,
            None,
            [unknown_kid(number) for number in range(1_000, 3_000)],
        ),
        "unknown issuer": (Reason.UNKNOWN_ISSUER, 0.3, made(iss="https://evil.example.com/")),
        "forbidden algorithm": (
            Reason.UNSUPPORTED_ALG,
            0.3,
            made(algorithm="HS256", key="a secret of an attacker, thirty-two bytes and more"),
        ),
        "alg none": (Reason.UNSUPPORTED_ALG, 0.3, made(algorithm="none")),
        "expired, signed by the issuer": (Reason.EXPIRED, None, made(exp=1_700_000_000)),
        "signed by a stranger": (Reason.BAD_SIGNATURE, None, [tokens.forged]),
        "no JWT, nobody to ask": (Reason.UNSUPPORTED_TOKEN, None, [b"a1-" * 300]),
    }


def _server(tokens: Material) -> ResourceServer:
    """One whose clock stands still, so the limit on fetches stays reached; it cannot introspect."""
    settings = Settings(
        issuer=tokens.issuer.url, audience=tokens.issuer.audience, algorithms=["RS256"]
    )
    now = repeat(time.time() + 1).__next__
    return ResourceServer(settings, transport=tokens.issuer.transport(), clock=now)


def _value(token: bytes) -> bytes:
    return b"Bearer " + token


def _refused(server: ResourceServer) -> Callable[[bytes], Reason | None]:
    """Whether and why ``server`` refuses a header value."""

    def refuse(value: bytes) -> Reason | None:
        try:
            identity = server.identify(value)
            if identity is None:
                run(server.authenticate([value]), server.transport)
        except Refused as refusal:
            return refusal.reason
        return None

    return refuse


def _peer_refusing(verify: peers.Verifier) -> Callable[[str], None]:
    def refuse(token: str) -> None:
        try:
            verify(token)
        except Exception:  # noqa: BLE001 - each has its own
            return

    return refuse


async def rows(rounds: int) -> list[Row]:
    tokens = material()
    server = _server(tokens)
    refuse = _refused(server)
    request = worlds.refused_asgi(BearerMiddleware(worlds.bare_asgi, server=server))
    refuse(_value(tokens.tokens[0]))
    hostile = _hostile(tokens)
    for _ in range(3):  # the burst of two, and one that is told of the limit
        refuse(_value(hostile["unknown kid, the limit reached"][2][0]))
    fetched = tokens.issuer.requests.total()

    raw = Case("raw", *bare_check(tokens))
    bare = Case("bare", worlds.asgi(worlds.bare_asgi), tokens.tokens)
    ours, whole = {}, {}
    theirs: dict[str, dict[str, Case]] = {}
    for name, (reason, _, bad) in hostile.items():
        given = refuse(_value(bad[0]))
        if given is not reason:
            raise RuntimeError(f"{name}: refused as {given}, not as {reason}")
        ours[name] = Case(name, refuse, [_value(token) for token in bad])
        whole[name] = Case(f"{name}, whole", request, bad)
        texts = [token.decode() for token in bad]
        theirs[name] = {
            peer: Case(f"{name}, {peer}", _peer_refusing(make(tokens)), texts)
            for peer, make in peers.VERIFIERS.items()
            if peer != "fastmcp"
        }
    others = [case for cases in theirs.values() for case in cases.values()]
    await measure([raw, bare, *ours.values(), *whole.values(), *others], rounds)
    table = []
    for name, (_, goal, _) in hostile.items():
        peer = best({peer: over(case, raw) for peer, case in theirs[name].items()})
        table.append(Row(f"refused: {name}", over(ours[name], raw), "raw", goal, peer=peer))
        table.append(Row("  as a whole ASGI request, added", added(whole[name], bare, raw), "raw"))
    fetches = tokens.issuer.requests.total() - fetched
    table.append(Row("fetches caused by all of these", Ratio.of([fetches]), "fetches", 0))
    return table
