"""Scopes that grant others, wherever scopes are compared (ERR-11)."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import pytest
from starlette.applications import Starlette
from starlette.authentication import requires
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

from bearer_middleware import BearerMiddleware, ConfigError, ResourceServer, Settings
from bearer_middleware.access.hierarchy import Hierarchy, hierarchy_of
from bearer_middleware.errors import Unavailable
from tests.contract.wire import ISSUER, Reply, bearer, exchange
from tests.contract.worlds import WORLDS

TABLE = {"admin": ["write"], "write": "read list", "loop": "loop"}


def server_of(implies: Any = None, **settings: Any) -> ResourceServer:
    """A server with implications."""
    read = Settings(**ISSUER.settings(**settings))
    return ResourceServer(read, transport=ISSUER.transport(), implies=implies)


def everything(granted: frozenset[str]) -> Iterable[str]:
    """The scope ``root`` grants what anybody needs."""
    return ["read", "write"] if "root" in granted else []


@pytest.mark.parametrize("world", WORLDS)
@pytest.mark.parametrize("mint", [ISSUER.jwt, ISSUER.opaque], ids=["jwt", "opaque"])
def test_in_every_world(world: str, mint: Any) -> None:
    """ERR-11: files:write grants files:read, for all requests and for single routes; the identity
    has the token's own scopes.
    """
    ask = WORLDS[world](server_of(scope_implications=TABLE, required_scopes="read"))
    admin = bearer(mint(scope="admin"))
    for _ in range(2):  # the second time it is remembered
        answer = ask("/", admin)
        assert (answer.status, answer.json["scopes"]) == (200, ["admin"])
        assert ask("/write", admin).status == 200
    reader = bearer(mint(scope="read"))
    assert ask("/", reader).status == 200
    refused = ask("/write", reader)
    assert (refused.status, 'scope="read write"' in (refused.challenge or "")) == (403, True)
    assert ask("/", bearer(mint(scope="list"))).status == 403


@pytest.mark.parametrize("world", ["asgi-asyncio", "wsgi"])
def test_by_a_function(world: str) -> None:
    """The extension point: a plain function of the granted scopes."""
    ask = WORLDS[world](server_of(everything, required_scopes="read"))
    assert ask("/write", bearer(ISSUER.jwt(scope="root"))).status == 200
    assert ask("/write", bearer(ISSUER.jwt(scope="read"))).status == 403
    assert ask("/", bearer(ISSUER.jwt(scope="roo"))).status == 403


@pytest.mark.parametrize("world", ["asgi-asyncio", "wsgi", "starlette", "django-asgi", "flask"])
@pytest.mark.parametrize("broken", [lambda granted: 1 / 0, lambda granted: "read", lambda g: None])
def test_by_a_broken_function(world: str, broken: Any) -> None:
    """We cannot know: 503, never 500, and nobody gets in; it is not asked where it need not be."""
    ask = WORLDS[world](server_of(broken))
    refused = ask("/write", bearer(ISSUER.jwt(scope="read")))
    assert (refused.status, refused.challenge) == (503, None)
    assert refused.header("retry-after") is not None
    assert ask("/write", bearer(ISSUER.jwt(scope="write"))).status == 200
    ask = WORLDS[world](server_of(broken, required_scopes="read"))
    assert ask("/", bearer(ISSUER.jwt(scope="other"))).status == 503
    assert ask("/", bearer(ISSUER.opaque(scope="other"))).status == 503


def starlette_app(implies: Any) -> Any:
    """An endpoint of Starlette's own way."""

    @requires("read")
    async def read(request: Request) -> JSONResponse:
        return JSONResponse(request.auth.scopes)

    app = Starlette(routes=[Route("/", read)])
    return BearerMiddleware(app, server=server_of(implies))


def starlette_answer(implies: Any, scope: str) -> Reply:
    """What it answers."""
    return exchange(starlette_app(implies), "/", bearer(ISSUER.jwt(scope=scope)))


def test_in_request_auth() -> None:
    """Starlette's ``@requires`` sees what is implied; where that is unknown, nothing is."""
    answer = starlette_answer(TABLE, "write")
    assert answer.json == ["list", "read", "write", "authenticated"]
    assert starlette_answer(TABLE, "list").status == 403
    assert starlette_answer(lambda granted: 1 / 0, "write").status == 403


def test_a_table_is_followed_to_its_end() -> None:
    """Through any number of steps, and in circles."""
    table = {**TABLE, "read": "admin"}
    grants = hierarchy_of(Settings(**ISSUER.settings(scope_implications=table)))
    assert grants.expand(frozenset({"read"})) == {"admin", "write", "read", "list"}
    assert grants.expand(frozenset({"other"})) == {"other"}
    assert grants
    assert not Hierarchy()


def test_what_is_not_scopes_grants_nothing() -> None:
    """A text would be taken for its characters."""
    with pytest.raises(Unavailable):
        Hierarchy(lambda granted: "r").expand(frozenset({"a"}))
    assert Hierarchy(lambda granted: [1, None]).expand(frozenset({"a"})) == {"a", 1, None}  # type: ignore[list-item]


async def asynchronous(granted: frozenset[str]) -> list[str]:
    """Not what is wanted."""
    return [*granted]


@pytest.mark.parametrize("implies", [asynchronous, "admin", 7, {"a b": []}, {"a": 7}])
def test_what_is_no_implication(implies: Any) -> None:
    """It is said when the server is made."""
    with pytest.raises(ConfigError, match="implies"):
        server_of(implies)


def test_only_one_of_them() -> None:
    """A table in the settings and a function contradict each other."""
    with pytest.raises(ConfigError, match="BEARER_SCOPE_IMPLICATIONS"):
        server_of(everything, scope_implications=TABLE)
