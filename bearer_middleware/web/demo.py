"""Two small applications that say who is calling: what ``bearer-middleware demo`` protects."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

from bearer_middleware.access.identity import Identity
from bearer_middleware.web.asgi import Receive, Scope, Send
from bearer_middleware.web.parts import IDENTITY
from bearer_middleware.web.wsgi import Environ, StartResponse


async def asgi_api(scope: Scope, receive: Receive, send: Send) -> None:
    """Say who is calling, over ASGI."""
    if scope["type"] == "lifespan":
        for stage in ("startup", "shutdown"):
            await receive()
            await send({"type": f"lifespan.{stage}.complete"})
        return
    body = describe(scope[IDENTITY])
    headers = [(name.lower().encode(), value.encode()) for name, value in _headers(body)]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": body})


def wsgi_api(environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
    """Say who is calling, over WSGI."""
    body = describe(environ[IDENTITY])
    start_response("200 OK", _headers(body))
    return [body]


def describe(identity: Identity) -> bytes:
    """What a handler finds in an identity, as JSON."""
    members: dict[str, Any] = {
        "subject": identity.subject,
        "issuer": identity.issuer,
        "client_id": identity.client_id,
        "scopes": sorted(identity.scopes),
        "kind": identity.kind,
        "expires_at": identity.expires_at,
    }
    return json.dumps(members).encode() + b"\n"


def _headers(body: bytes) -> list[tuple[str, str]]:
    return [("Content-Type", "application/json"), ("Content-Length", str(len(body)))]
