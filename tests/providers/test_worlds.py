"""The same through both middlewares; and tokens that stand in no log, whoever saw them."""

from __future__ import annotations

import json
import logging
import traceback
from collections.abc import Callable
from typing import Any

import pytest

from bearer_middleware import BearerMiddleware, WSGIBearerMiddleware
from tests.contract.wire import Reply, bearer, call, exchange
from tests.providers.conftest import Provider
from tests.providers.golden import GOLDEN

_CANARY = "c4n4ry-0paque-token"


def _told(identity: Any) -> bytes:
    names = ("subject", "client_id", "tenant", "is_client", "issuer")
    said = {name: getattr(identity, name) for name in names}
    return json.dumps(said | {"roles": sorted(identity.roles)}).encode()


async def _asgi(scope: Any, receive: Any, send: Any) -> None:
    body = _told(scope["bearer_middleware.identity"])
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": body})


def _wsgi(environ: Any, start_response: Any) -> list[bytes]:
    identity = environ["bearer_middleware.identity"]
    user = environ.get("REMOTE_USER")
    assert user == (None if identity.is_client else identity.subject)
    start_response("200 OK", [("Content-Type", "application/json")])
    return [_told(identity)]


Ask = Callable[[Provider, str], Reply]


def _by_asgi(provider: Provider, token: str) -> Reply:
    return exchange(BearerMiddleware(_asgi, server=provider.server), "/", bearer(token))


def _by_wsgi(provider: Provider, token: str) -> Reply:
    return call(WSGIBearerMiddleware(_wsgi, server=provider.server), "/", bearer(token))


@pytest.mark.parametrize("ask", [_by_asgi, _by_wsgi])
@pytest.mark.parametrize("name", GOLDEN)
def test_accepted_and_refused(name: str, ask: Ask) -> None:
    """200 with the identity as the provider's claims make it, twice; 401 without any detail."""
    golden = GOLDEN[name]
    provider = Provider("sync", golden.settings)
    token = provider.jwt(golden.claims)
    for _ in range(2):
        told = ask(provider, token).json
        for member in ("subject", "client_id", "tenant", "is_client"):
            assert told[member] == golden.identity[member]
        assert set(told["roles"]) == golden.identity["roles"]
    refused = ask(provider, provider.jwt(golden.claims, iss="https://evil.example/"))
    assert refused.status == 401
    assert refused.challenge == 'Bearer realm="api", error="invalid_token"'
    opaque = ask(provider, "opaque")
    assert (opaque.status, opaque.challenge) == (401, refused.challenge)
    assert opaque.json.keys() <= {"status", "title", "error", "type"}
    assert provider.settings.issuers[0].preset.title.encode() not in opaque.body


@pytest.mark.parametrize("status", [200, 400, 401, 403, 500])
@pytest.mark.parametrize(
    ("settings", "url", "token"),
    [
        (
            {"provider": "auth0", "provider_domain": "a.auth0.com", "audience": "x"},
            "https://a.auth0.com/userinfo",
            _CANARY,
        ),
        (
            {"provider": "google", "audience": "x"},
            "https://oauth2.googleapis.com/tokeninfo",
            f"ya29.{_CANARY}",
        ),
    ],
)
def test_a_token_stands_in_no_log(
    settings: dict[str, Any], url: str, token: str, status: int, caplog: pytest.LogCaptureFixture
) -> None:
    """Neither in the address that is asked, nor in what is told of it, nor in a traceback."""
    caplog.set_level(logging.DEBUG)
    provider = Provider("sync", {**settings, "provider_opaque": True})
    provider.network.at[url] = lambda form, authorization: (status, {"error": token, "aud": token})
    refusal = provider.refusal(token)
    told = caplog.text + "".join(traceback.format_exception(refusal)) + repr(refusal)
    told += repr(provider.network.asked) + repr(provider.server) + repr(provider.settings)
    assert _CANARY not in told
