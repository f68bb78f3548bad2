"""``revoke``: writes one revocation into the feed, and says so only once that is acknowledged."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, TextIO

from bearer_middleware.commands.configuration import configured
from bearer_middleware.commands.findings import Finding, tell
from bearer_middleware.errors import Refused, RevocationError
from bearer_middleware.resource_server import ResourceServer
from bearer_middleware.revocation.request import Revocation
from bearer_middleware.tokens.bearer import bearer_token

_NAME = "BEARER_REVOCATION_URL"
_NO_FEED = (
    "there is no feed that can be written; set it to the Redis or Valkey server that all "
    "processes read, and BEARER_FLEET_SECRET to theirs"
)


def revoke(
    environ: Mapping[str, str],
    said: Revocation,
    out: TextIO,
    *,
    authorization: bytes | None = None,
    config_file: str | None = None,
    transport: Any = None,
) -> int:
    """Revoke what is ``said``, or the token of an ``authorization`` header; 0 once the feed has
    acknowledged it, 1 where it did not. The token is not printed.
    """
    server, found = configured(environ, config_file, transport)
    tell(found, out)
    if server is None:
        return 1
    try:
        failure = _failure(server, said, authorization)
    finally:
        server.close()
    if failure is not None:
        tell([failure], out)
        return 1
    until = datetime.fromtimestamp(server.now() + server.settings.revocation_keep, UTC)
    lag = "" if server.feed is None else f" within {server.feed.bound.jwt_live:g} s"
    tell([f"revoked: in force in all processes{lag}, until {until:%Y-%m-%d %H:%M} UTC"], out)
    return 0


def _failure(
    server: ResourceServer, said: Revocation, authorization: bytes | None
) -> Finding | None:
    if server.feed is None or not server.feed.is_writable:
        return Finding("fail", _NAME, _NO_FEED)
    try:
        if authorization is not None:
            token = bearer_token((authorization,), server.settings.max_token_length)
            said = {**said, "token": token.decode("ascii")}
        server.revoke(**said)
    except Refused as refusal:
        return Finding("fail", "token", refusal.detail or "no bearer token")
    except RevocationError as error:
        return Finding("fail", _NAME, str(error))
    except ValueError as error:
        name, _, wrong = str(error).partition(": ")
        return Finding("fail", name, wrong)
    return None
