"""Whole requests in process: a remembered token, one verified afresh, and the peers."""

from __future__ import annotations

from typing import Any

import peers
import worlds
from harness import Case, Ratio, added, measure
from report import Row, best
from tokens import Material, bare_check, material

from bearer_middleware import BearerMiddleware, WSGIBearerMiddleware


def _starlette() -> Any:
    from starlette.applications import Starlette
    from starlette.requests import Request
    from starlette.responses import PlainTextResponse
    from starlette.routing import Route

    async def orders(request: Request) -> PlainTextResponse:
        return PlainTextResponse("ok")

    return Starlette(routes=[Route("/orders", orders)])


def _ours(tokens: Material) -> dict[str, Case]:
    """Remembered JWTs and opaque tokens in both worlds, and JWTs verified each time."""
    server = tokens.server()
    opaque = [tokens.issuer.opaque(sub=f"user-{number}") for number in range(64)]
    jwts = [token.decode() for token in tokens.tokens]
    asgi = worlds.asgi(BearerMiddleware(worlds.bare_asgi, server=server))
    wsgi = worlds.wsgi(WSGIBearerMiddleware(worlds.bare_wsgi, server=server))
    afresh = tokens.server(jwt_cache_ttl=0)
    return {
        "asgi jwt": Case("asgi jwt", asgi, tokens.tokens),
        "asgi opaque": Case("asgi opaque", asgi, [token.encode() for token in opaque]),
        "wsgi jwt": Case("wsgi jwt", wsgi, jwts),
        "wsgi opaque": Case("wsgi opaque", wsgi, opaque),
        **_revoking(tokens, jwts, opaque),
        "starlette jwt": Case(
            "starlette jwt",
            worlds.asgi(BearerMiddleware(_starlette(), server=server)),
            tokens.tokens,
        ),
        "asgi afresh": Case(
            "asgi afresh",
            worlds.asgi(BearerMiddleware(worlds.bare_asgi, server=afresh)),
            tokens.tokens,
        ),
        "wsgi afresh": Case(
            "wsgi afresh", worlds.wsgi(WSGIBearerMiddleware(worlds.bare_wsgi, server=afresh)), jwts
        ),
    }


def _revoking(tokens: Material, jwts: list[str], opaque: list[str]) -> dict[str, Case]:
    """Where things of every kind are revoked, and somebody reads all that is counted."""
    server = tokens.server()
    server.events.tally.attend()
    for number in range(500):
        server.revoke(token_id=f"revoked-{number}")
        server.revoke(session=f"session-{number}")
        server.revoke(subject=f"somebody-{number}")
        server.revoke(client=f"application-{number}")
    asgi = worlds.asgi(BearerMiddleware(worlds.bare_asgi, server=server))
    wsgi = worlds.wsgi(WSGIBearerMiddleware(worlds.bare_wsgi, server=server))
    return {
        "asgi revoking": Case("asgi revoking", asgi, tokens.tokens),
        "asgi opaque revoking": Case(
            "asgi opaque revoking", asgi, [token.encode() for token in opaque]
        ),
        "wsgi revoking": Case("wsgi revoking", wsgi, jwts),
        "wsgi opaque revoking": Case("wsgi opaque revoking", wsgi, opaque),
    }


def _peers(tokens: Material) -> dict[str, tuple[Case, str]]:
    """Each with the bare case it is added to."""
    jwts = [token.decode() for token in tokens.tokens]
    behind = "PyJWT behind AuthenticationMiddleware"
    return {
        behind: (
            Case(
                behind,
                worlds.asgi(peers.starlette_with_pyjwt(worlds.bare_asgi, tokens)),
                tokens.tokens,
            ),
            "bare asgi",
        ),
        "MCP SDK with fastmcp": (
            Case(
                "mcp",
                worlds.asgi(peers.mcp_with_fastmcp(worlds.bare_asgi, tokens)),
                tokens.tokens,
            ),
            "bare asgi",
        ),
        "flask-jwt-extended": (
            Case("flask-jwt", worlds.wsgi(peers.flask_with_jwt_extended(tokens)), jwts),
            "bare flask",
        ),
    }


async def _refuses(case: Case, forged: Any) -> bool:
    try:
        result = case.work(forged)
        if result is not None:
            await result
    except worlds.Refusal:
        return True
    return False


async def _reject_the_gullible(cases: list[Case], tokens: Material) -> None:
    for case in cases:
        forged = tokens.forged
        if not await _refuses(case, forged.decode() if isinstance(case.inputs[0], str) else forged):
            raise RuntimeError(f"{case.name} lets a forged token in")


async def rows(rounds: int) -> list[Row]:
    tokens = material()
    jwts = [token.decode() for token in tokens.tokens]
    ours, others = _ours(tokens), _peers(tokens)
    bare = {
        "bare asgi": Case("bare asgi", worlds.asgi(worlds.bare_asgi), tokens.tokens),
        "bare wsgi": Case("bare wsgi", worlds.wsgi(worlds.bare_wsgi), jwts),
        "bare flask": Case("bare flask", worlds.wsgi(peers.flask_app()), jwts),
        "bare starlette": Case("bare starlette", worlds.asgi(_starlette()), tokens.tokens),
    }
    raw = Case("raw", *bare_check(tokens))
    guards = [*ours.values(), *(case for case, _ in others.values())]
    await _reject_the_gullible(guards, tokens)
    await measure([raw, *bare.values(), *guards], rounds)
    theirs: dict[str, Ratio] = {
        name: added(case, bare[base], raw) for name, (case, base) in others.items()
    }

    def row(what: str, name: str, base: str, goal: float | None) -> Row:
        return Row(what, added(ours[name], bare[base], raw), "raw", goal, peer=best(theirs))

    return [
        row("remembered JWT, added to bare ASGI", "asgi jwt", "bare asgi", 0.13),
        row("remembered opaque token, added to bare ASGI", "asgi opaque", "bare asgi", 0.13),
        row("remembered JWT, added to bare WSGI", "wsgi jwt", "bare wsgi", 0.13),
        row("remembered opaque token, added to bare WSGI", "wsgi opaque", "bare wsgi", 0.13),
        row(
            "remembered JWT, 2,000 things revoked, counted, ASGI",
            "asgi revoking",
            "bare asgi",
            0.16,
        ),
        row("  opaque token, ASGI", "asgi opaque revoking", "bare asgi", 0.16),
        row("  JWT, WSGI", "wsgi revoking", "bare wsgi", 0.16),
        row("  opaque token, WSGI", "wsgi opaque revoking", "bare wsgi", 0.16),
        row("remembered JWT, added to Starlette", "starlette jwt", "bare starlette", None),
        row("whole ASGI request, JWT verified afresh, added", "asgi afresh", "bare asgi", 1.8),
        row("whole WSGI request, JWT verified afresh, added", "wsgi afresh", "bare wsgi", None),
        *(Row(f"  peer: {name}, added", ratio, "raw") for name, ratio in theirs.items()),
    ]
