"""Engines in process behind both middlewares: real tokens, real policies, real answers."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from bearer_middleware import ResourceServer, Settings
from bearer_middleware.errors import ConfigError
from bearer_middleware.policy.combined import AllOf
from bearer_middleware.policy.function import FunctionPoint
from bearer_middleware.policy.local import LocalPolicy
from bearer_middleware.policy.model import AccessRequest
from tests.contract.wire import ISSUER, bearer
from tests.policy.conftest import ROUTES, over_wsgi, policed
from tests.policy.test_policy_files import MODEL, POLICIES

Around = Callable[[Any], Callable[..., Any]]

LOCAL = """
[roles.reader]
permits = ["todo:read", "todo:list"]

[[rules]]
name = "careful"
actions = ["update"]
roles = ["reader"]
acr = ["loa2"]
user_reason = "Show who you are."
"""


def test_roles_of_tokens(around: Around) -> None:
    """JWT and opaque token alike: permitted, forbidden, and asked to step up (STEP-1)."""
    ask = around(policed(LocalPolicy(LOCAL), routes=ROUTES))
    for mint in (ISSUER.jwt, ISSUER.opaque):
        reader, strong = mint(roles=["reader"]), mint(roles=["reader"], acr="loa2")
        assert ask("/todos/1", bearer(reader)).status == 204
        assert ask("/todos/1", bearer(mint(roles=["other"]))).status == 403
        assert ask("/todos/1", bearer(mint())).status == 403
        refused = ask("/todos/1", bearer(reader), method="PUT")
        assert refused.status == 401
        assert 'acr_values="loa2"' in refused.challenge
        assert ask("/todos/1", bearer(strong), method="PUT").status == 204


@pytest.mark.parametrize("engine", ["local", "cedar", "casbin", "rego"])
def test_the_policy_changes_while_the_token_lives(
    around: Around, engine: str, tmp_path: Path
) -> None:
    """The next request that looks is decided anew; no token has to be issued again."""
    path, model, ahead = tmp_path / "policy", tmp_path / "model", [0.0]
    first, second, broken = POLICIES[engine]

    def write(text: str) -> None:
        path.write_text(text)
        ahead[0] += 2
        os.utime(path, (1_700_000_000 + ahead[0],) * 2)

    write(first)
    model.write_text(MODEL)
    options = {"policy_options": {"model": str(model)}} if engine == "casbin" else {}
    said = {"policy": engine, "policy_file": str(path), "routes": ROUTES, **options}
    settings, transport = Settings(**ISSUER.settings(**said)), ISSUER.transport()

    def clock() -> float:
        return time.time() + ahead[0]

    ask = around(ResourceServer(settings, transport=transport, clock=clock))
    alice, bob = (bearer(ISSUER.jwt(sub=name)) for name in ("alice", "bob"))

    def statuses() -> list[int]:
        return [ask("/todos/1", headers, method="PUT").status for headers in (alice, bob)]

    assert statuses() == [204, 403]
    write(second)
    assert statuses() == [403, 204]
    write(broken)
    assert statuses() == [403, 204]


def test_an_engine_that_fails_is_no_permit(around: Around) -> None:
    """503, and nothing of what was raised."""

    def fails(request: AccessRequest) -> bool:
        raise ValueError("SECRET")

    server = policed(AllOf(LocalPolicy(LOCAL), FunctionPoint(fails)), routes=ROUTES)
    reply = around(server)("/todos/1", bearer(ISSUER.jwt(roles=["reader"])))
    assert reply.status == 503
    assert "SECRET" not in str(reply)


def test_async_parts_are_refused_by_wsgi() -> None:
    """When the middleware is built."""

    async def may(request: AccessRequest) -> bool:
        return True

    with pytest.raises(ConfigError, match="async"):
        over_wsgi(policed(AllOf(LocalPolicy(LOCAL), FunctionPoint(may)), routes=ROUTES))
