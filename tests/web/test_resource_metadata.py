"""``BEARER_RESOURCE``: the document of RFC 9728 and the way to it, in both worlds."""

from __future__ import annotations

import json
import re
import warnings
from typing import Any
from urllib.parse import urlsplit

import pytest
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse
from starlette.routing import Mount, Route

from bearer_middleware import BearerMiddleware, ResourceServer, Settings, WSGIBearerMiddleware
from tests.contract.wire import ISSUER, Reply, bearer, call, exchange, handshake, server_of
from tests.contract.worlds import WORLDS

RESOURCE = "https://api.example/a/b"
PATH = "/.well-known/oauth-protected-resource/a/b"
URL = f"https://api.example{PATH}"


async def never(scope: Any, receive: Any, send: Any) -> None:
    """No request for the document gets so far."""
    raise AssertionError(scope)


def asgi(server: ResourceServer, path: str = PATH, headers: Any = (), **members: Any) -> Reply:
    """One request over ASGI."""
    return exchange(BearerMiddleware(never, server=server), path, headers, **members)


def wsgi(server: ResourceServer, path: str = PATH, headers: Any = (), **members: Any) -> Reply:
    """The same over WSGI."""
    return call(WSGIBearerMiddleware(never, server=server), path, headers, **members)  # type: ignore[arg-type]


both = pytest.mark.parametrize("ask", [asgi, wsgi])


def server(**settings: Any) -> ResourceServer:
    """A server that describes itself."""
    return server_of(**{"resource": RESOURCE, **settings})


@both
@pytest.mark.parametrize("headers", [(), bearer("junk"), [("Authorization", "Basic eA==")]])
def test_the_document(ask: Any, headers: Any) -> None:
    """PRM-1 PRM-2 PRM-6 PRM-7: served to anybody, of the settings alone, and may be kept."""
    answer = ask(server(), headers=headers)
    assert answer.status == 200
    assert answer.header("content-type") == "application/json"
    assert re.fullmatch(r"public, max-age=[1-9]\d*", answer.header("cache-control") or "")
    assert answer.header("access-control-allow-origin") == "*"
    assert answer.challenge is None
    assert answer.json == {
        "resource": RESOURCE,
        "authorization_servers": [ISSUER.url],
        "bearer_methods_supported": ["header"],
    }


@both
def test_head(ask: Any) -> None:
    """PRM-1: the same without its body."""
    answer = ask(server(), method="HEAD")
    assert (answer.status, answer.body) == (200, b"")
    assert answer.header("content-length") == str(len(ask(server()).body))


@both
def test_a_page_in_a_browser_may_read_it(ask: Any) -> None:
    """MCP: clients there send a header of their own, and ask for leave first."""
    asked = [("Origin", "https://client.example"), ("Access-Control-Request-Method", "GET")]
    asked.append(("Access-Control-Request-Headers", "mcp-protocol-version"))
    answer = ask(server(), headers=asked, method="OPTIONS")
    assert answer.status == 200
    assert answer.header("access-control-allow-headers") == "*"


@both
@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE"])
def test_nobody_writes_it(ask: Any, method: str) -> None:
    """PRM-1: GET."""
    answer = ask(server(), method=method)
    assert (answer.status, answer.header("allow")) == (405, "GET, HEAD, OPTIONS")


@both
def test_all_that_can_be_told(ask: Any) -> None:
    """PRM-2: scopes of all requests, of routes and of the settings, each once; names for people."""
    routes = [
        {"method": "GET", "path": "/x", "scopes": "read list"},
        {"method": "GET", "path": "/open", "public": True},
    ]
    told = ask(
        server(
            required_scopes="read",
            resource_scopes="write",
            resource_name="Orders",
            resource_documentation="https://docs.example/orders",
            routes=routes,
        )
    ).json
    assert told["scopes_supported"] == ["read", "write", "list"]
    assert told["resource_name"] == "Orders"
    assert told["resource_documentation"] == "https://docs.example/orders"


@both
def test_offline_access_is_not_told(ask: Any) -> None:
    """ERR-12: neither in the document nor in a challenge, whatever the settings say."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        careless = server(required_scopes="offline_access", resource_scopes="offline_access")
    assert "scopes_supported" not in ask(careless).json
    for headers in ((), bearer(ISSUER.jwt())):
        answer = ask(careless, "/", headers=headers)
        assert answer.status in (401, 403)
        assert "offline_access" not in answer.challenge


@both
def test_several_authorization_servers(ask: Any) -> None:
    """PRM-3: all that are trusted; one that is only asked has no name to tell."""
    tables: list[Any] = [
        {"issuer": "https://one.example"},
        {"issuer": "https://two.example"},
        {
            "introspection_url": "https://three.example/i",
            "client_id": "c",
            "client_secret": "s",
        },
    ]
    settings = Settings(audience="orders", resource=RESOURCE, issuers=tables)
    told = ask(ResourceServer(settings)).json
    assert told["authorization_servers"] == ["https://one.example", "https://two.example"]


@both
def test_a_host_header_changes_nothing(ask: Any) -> None:
    """PRM-4: neither the document nor the challenge follows what a request says of itself."""
    lies = [("Host", "evil.example"), ("X-Forwarded-Host", "evil.example"), ("Forwarded", "host=e")]
    answer = ask(server(), headers=lies)
    assert answer.body == ask(server()).body
    assert b"evil" not in answer.body
    assert f'resource_metadata="{URL}"' in ask(server(), "/", headers=lies).challenge


@both
@pytest.mark.parametrize(
    ("resource", "path"),
    [
        ("https://h", "/.well-known/oauth-protected-resource"),
        ("https://h/", "/.well-known/oauth-protected-resource"),
        ("https://h/a/", "/.well-known/oauth-protected-resource/a/"),
        ("https://h/a?k=v", "/.well-known/oauth-protected-resource/a?k=v"),
        ("https://h/a?k=v", "/.well-known/oauth-protected-resource/a"),
    ],
)
def test_it_is_where_the_identifier_says(ask: Any, resource: str, path: str) -> None:
    """PRM-1 PRM-4: and the identifier in it is exact, trailing slash and all."""
    answer = ask(server(resource=resource), path)
    assert (answer.status, answer.json["resource"]) == (200, resource)


@both
@pytest.mark.parametrize(
    "path",
    [
        "/.well-known/oauth-protected-resource",
        "/.well-known/oauth-protected-resource/a",
        "/.well-known/oauth-protected-resource/a/b/",
        "/.well-known/oauth-protected-resource/a/b/c",
        "/.well-known/oauth-protected-resource//a/b",
        "/.well-known/oauth-protected-resource/a/../a/b",
        "/a/b/.well-known/oauth-protected-resource",
        "/.well-known/oauth-protected-resource/A/b",
    ],
)
def test_nothing_else_is_opened_by_it(ask: Any, path: str) -> None:
    """PRM-1: only that path is exempt."""
    assert ask(server(), path).status == 401


@both
def test_not_without_the_setting(ask: Any) -> None:
    """It is a path of the application's then, and no challenge names it."""
    answer = ask(server_of(), PATH)
    assert (answer.status, "resource_metadata" in answer.challenge) == (401, False)


def test_below_a_mount_point() -> None:
    """PRM-1: where a server puts the mount point before the path, and where it does not."""
    assert asgi(server(), f"/a/b{PATH}", root_path="/a/b").status == 200
    assert asgi(server(), PATH, root_path="/a/b").status == 200
    assert wsgi(server(), PATH, SCRIPT_NAME="/a/b").status == 200


def test_around_a_mounted_application() -> None:
    """PRM-5: the middleware around all serves the document that a mounted API's challenge names."""
    inner = Starlette(routes=[Route("/b", lambda _: PlainTextResponse("served"))])
    app = BearerMiddleware(Starlette(routes=[Mount("/a", inner)]), server=server())
    refused = exchange(app, "/a/b")
    found = re.search(r'resource_metadata="([^"]*)"', refused.challenge or "")
    assert (refused.status, found and urlsplit(found[1]).path) == (401, PATH)
    assert exchange(app, PATH).json["resource"] == RESOURCE
    assert exchange(app, "/a/b", bearer(ISSUER.jwt())).body == b"served"


def test_a_websocket_there() -> None:
    """It is refused, as no websocket is served there."""
    app = BearerMiddleware(never, server=server())
    (start, *_) = handshake(app, PATH)
    assert start["status"] == 405


CHALLENGED = {
    "missing": ("/", (), 401, None),
    "basic": ("/", [("Authorization", "Basic eA==")], 401, None),
    "malformed": ("/", [("Authorization", "Bearer")], 400, "invalid_request"),
    "bad": ("/", bearer("junk.junk.junk"), 401, "invalid_token"),
    "expired": ("/", bearer(ISSUER.jwt(exp=1)), 401, "invalid_token"),
    "scope": ("/", bearer(ISSUER.jwt(scope="other")), 403, "insufficient_scope"),
    "decorated": ("/write", bearer(ISSUER.jwt(scope="read")), 403, "insufficient_scope"),
}


@pytest.mark.parametrize("world", WORLDS)
@pytest.mark.parametrize("case", CHALLENGED)
def test_every_challenge_names_it(world: str, case: str) -> None:
    """PRM-5 ERR-5: of the middleware and of decorators alike, beside all the scopes needed."""
    path, headers, status, error = CHALLENGED[case]
    answer = WORLDS[world](server(required_scopes="read"))(path, headers)
    assert (answer.status, json.loads(answer.body).get("error")) == (status, error)
    assert (answer.challenge or "").count(f'resource_metadata="{URL}"') == 1
    scopes = {"decorated": "read write", "scope": "read", "missing": "read"}.get(case)
    if scopes is not None:
        assert f'scope="{scopes}"' in (answer.challenge or "")


@both
def test_an_outage_has_no_challenge(ask: Any) -> None:
    """ERR-13: nothing that a client could do about it."""
    unreachable = ResourceServer(
        Settings(**ISSUER.settings(resource=RESOURCE)), transport=broken_transport()
    )
    answer = ask(unreachable, "/", headers=bearer(ISSUER.opaque()))
    assert (answer.status, answer.challenge) == (503, None)


def broken_transport() -> Any:
    """Nobody answers."""
    import httpx

    def fail(request: httpx.Request) -> httpx.Response:
        raise httpx.ConnectError("nobody")

    return httpx.MockTransport(fail)
