"""What policy and audit are told of a caller, wherever the product says it."""

from __future__ import annotations

import json
from typing import Any

import pytest

from bearer_middleware import BearerMiddleware, WSGIBearerMiddleware
from bearer_middleware.policy.phrasing import Phrasing
from tests.contract.wire import bearer, call, exchange
from tests.providers.conftest import Make, Provider
from tests.providers.golden import GOLDEN

POLICY = """
roles_from = ["subject.properties.roles"]
[[rules]]
name = "editors"
roles = ["editor"]
actions = ["*"]
resources = ["*"]
"""


@pytest.mark.parametrize("name", GOLDEN)
def test_policy_is_told_what_the_identity_says(name: str, make: Make) -> None:
    """Roles, permissions and tenant reach the decision point by the reading of the preset."""
    golden = GOLDEN[name]
    provider = make(golden.settings)
    identity = provider.identity(provider.jwt(golden.claims, tenant="another"))
    subject = Phrasing(provider.settings).subject(identity)
    assert subject is not None
    told = subject.properties
    assert (subject.type, subject.id) == (
        "client" if identity.is_client else "user",
        identity.subject,
    )
    assert told.get("roles", []) == sorted(identity.roles)
    assert told.get("permissions", []) == sorted(identity.permissions)
    assert told.get("tenant") == identity.tenant == golden.identity.get("tenant")
    assert json.dumps(dict(told))


@pytest.mark.parametrize("name", ["auth0", "keycloak", "zitadel", "hydra", "firebase"])
def test_a_local_policy_by_roles(name: str, tmp_path: Any) -> None:
    """The role of the token decides, through both middlewares."""
    golden, file = GOLDEN[name], tmp_path / "policy.toml"
    file.write_text(POLICY)
    route = {"method": "GET", "path": "/todos", "action": "read", "resource": "todo"}
    more = {"policy": "local", "policy_file": str(file), "routes": [route]}
    provider = Provider("sync", {**golden.settings, **more})

    async def asgi(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b""})

    def wsgi(environ: Any, start_response: Any) -> list[bytes]:
        start_response("200 OK", [("Content-Type", "text/plain")])
        return []

    claims = json.loads(json.dumps(golden.claims).replace('"editor"', '"reader"'))
    for token, status in ((provider.jwt(golden.claims), 200), (provider.jwt(claims), 403)):
        for reply in (
            exchange(BearerMiddleware(asgi, server=provider.server), "/todos", bearer(token)),
            call(WSGIBearerMiddleware(wsgi, server=provider.server), "/todos", bearer(token)),
        ):
            assert reply.status == status
