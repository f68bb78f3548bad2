"""Who comes through, and what is asked about them: tokens, tables, public routes, step-up."""

from __future__ import annotations

import time
from typing import Any

import pytest

from bearer_middleware import BearerMiddleware, Identity
from tests.contract.wire import ISSUER, bearer, exchange, handshake
from tests.policy.conftest import (
    ROUTES,
    NearPoint,
    Point,
    asgi_app,
    decision,
    over_asgi,
    policed,
    token,
)

PREFLIGHT = [("Origin", "https://x"), ("Access-Control-Request-Method", "PUT")]


@pytest.mark.parametrize("kind", [Point, NearPoint])
def test_what_is_asked(around: Any, kind: Any) -> None:
    """AZ-1: subject, action, resource and context; nothing of the token, no query."""
    point = kind()
    claims = {
        "roles": ["b", "a"],
        "tenant": "acme",
        "acr": "loa2",
        "amr": ["pwd"],
        "auth_time": 5,
        "email": "alice@x",
        "department": "it",
        "other": "x",
        "scope": "write read",
    }
    options = {"claims": ["department", "email"]}
    ask = around(policed(point, routes=ROUTES, policy_options=options))
    assert ask("/todos/a:b?secret=1", token(**claims)).status == 204
    [request] = point.asked
    assert (request.subject.type, request.subject.id) == ("user", "alice")
    assert request.subject.properties == {
        "issuer": ISSUER.url,
        "client_id": request.subject.properties["client_id"],
        "scopes": ["read", "write"],
        "roles": ["a", "b"],
        "tenant": "acme",
        "acr": "loa2",
        "amr": ["pwd"],
        "auth_time": 5,
        "email": "alice@x",
        "department": "it",
    }
    assert (request.action.name, request.resource.type, request.resource.id) == (
        "read",
        "todo",
        "a:b",
    )
    assert request.context == {"method": "GET", "path": "/todos/{id}"}
    assert "secret" not in f"{request!r}{request.context}"


def test_the_shape_of_gateways(around: Any) -> None:
    """AZ-10: a route without action and resource is asked by its method and its template."""
    point = Point()
    routes = [{"method": "GET", "path": "/users/{userId}"}]
    ask = around(policed(point, routes=routes, policy_options={"subject_type": "identity"}))
    assert ask("/users/7", token()).status == 204
    assert ask("/users/7", token(), method="HEAD").status == 204
    asked = [(r.subject.type, r.action.name, r.resource.type, r.resource.id) for r in point.asked]
    assert asked == [("identity", n, "route", "/users/{userId}") for n in ("GET", "HEAD")]


@pytest.mark.filterwarnings("ignore:Unknown REQUEST_METHOD")
def test_a_policy_without_a_table(around: Any) -> None:
    """AZ-10: every request is asked by its method and its path; an unclear one is denied."""
    point = Point()
    ask = around(policed(point, exempt="/free"))
    assert ask("/any/thing", token()).status == 204
    assert [(r.action.name, r.resource.id) for r in point.asked] == [("GET", "/any/thing")]
    for path in ("//any", "/a/../b", "/a\\b", "/" + "a" * 3000):
        assert ask(path, token()).status == 403
    assert ask("/any", token(), method="get").status == 403
    assert len(point.asked) == 1
    assert ask("/free").status == 204
    assert ask("/any").status == 401


def test_clients_are_clients(around: Any) -> None:
    """A machine is asked about as one."""
    point = Point()
    around(policed(point))("/x", token(sub="svc", client_id="svc"))
    assert (point.asked[0].subject.type, point.asked[0].subject.id) == ("client", "svc")


def test_resources_with_properties(around: Any) -> None:
    """``$token`` and ``$path`` are filled in; what is not there is left out."""
    point = Point()
    resource = {
        "type": "todo",
        "id": "{id}:{kind}",
        "properties": {"owner": "$token.sub", "kind": "$path.kind", "no": "$token.no", "n": 1},
    }
    row = {"method": "GET", "path": "/t/{id}/{kind}", "action": "read", "resource": resource}
    assert around(policed(point, routes=[row]))("/t/{kind}/x", token()).status == 204
    assert point.asked[0].resource.id == "{kind}:x"
    assert point.asked[0].resource.properties == {"owner": "alice", "kind": "x", "n": 1}


def test_unmatched_routes_are_denied(around: Any) -> None:
    """Once there is a table; without asking anybody."""
    point = Point()
    server = policed(point, routes=ROUTES)
    ask = around(server)
    for path in ("/nothing", "/todos/", "//todos", "/TODOS", "/todos/a/b", "/todos/" + "x" * 300):
        assert ask(path, token()).status == 403
    assert ask("/todos", token(), method="DELETE").status == 403
    assert (point.asked, server.events.counts["no_route"]) == ([], 7)  # type: ignore[index]
    assert ask("/todos", token(), method="HEAD").status == 204
    assert ask("/nothing").status == 401
    assert around(policed(point, routes=[]))("/", token()).status == 403


def test_public_routes(around: Any) -> None:
    """Need no token, and none is looked at."""
    point = Point()
    ask = around(policed(point, routes=ROUTES, optional=False))
    for headers in ([], bearer("rubbish!"), token()):
        assert ask("/open", headers).status == 204
    assert ask("/open", method="HEAD").status == 204
    assert ask("/open", method="POST").status == 401
    assert ask("/open/").status == 401
    assert point.asked == []


def test_the_first_row_speaks(around: Any) -> None:
    """A public row after another for the same path opens nothing."""
    routes = [{"method": "GET", "path": "/a"}, {"method": "*", "path": "/*", "public": True}]
    ask = around(policed(Point(decision("deny")), routes=routes))
    assert ask("/a").status == 401
    assert ask("/a", token()).status == 403
    assert ask("/b").status == 204


def test_anonymous_callers(around: Any) -> None:
    """BEARER_OPTIONAL lets them into public and exempt routes only; a preflight passes."""
    point = Point()
    ask = around(policed(point, routes=ROUTES, optional=True, exempt="/free"))
    assert ask("/open").status == ask("/free").status == 204
    assert ask("/todos/1").status == 401
    assert ask("/plain").status == 401
    assert ask("/todos/1", [("Authorization", "Basic eDp5")]).status == 401
    assert ask("/todos/1", PREFLIGHT, method="OPTIONS").status == 204
    empty = [*PREFLIGHT, ("Authorization", "")]
    assert ask("/todos/1", empty, method="OPTIONS").status == 204
    assert (
        ask("/todos/1", [*PREFLIGHT, ("Authorization", "Basic x")], method="OPTIONS").status == 401
    )
    assert point.asked == []


def test_a_route_without_policy(around: Any) -> None:
    """A good token is enough."""
    point = Point(decision("deny"))
    ask = around(policed(point, routes=ROUTES))
    assert (ask("/plain", token()).status, ask("/plain").status, point.asked) == (204, 401, [])


def test_a_table_without_policy(around: Any) -> None:
    """Scopes alone decide."""
    routes = [{"method": "GET", "path": "/a", "scopes": "read"}, *ROUTES]
    ask = around(policed(routes=routes))
    assert ask("/a", token(scope="read")).status == 204
    assert ask("/a", token(scope="write")).status == 403
    assert ask("/todos/1", token()).status == 204
    assert ask("/nothing", token()).status == 403


def test_all_scopes_in_one_challenge(around: Any) -> None:
    """RFC 6750 section 3.1, MCP: those of the server and of the route, whichever are missing."""
    routes = [{"method": "GET", "path": "/a", "scopes": "write admin"}, *ROUTES]
    point = Point()
    ask = around(policed(point, routes=routes, required_scopes="read"))
    wanted = 'Bearer realm="api", error="insufficient_scope", scope="read write admin"'
    for scope in ("", "read", "read write", "write admin"):
        reply = ask("/a", token(scope=scope))
        assert (reply.status, reply.challenge) == (403, wanted)
    assert ask("/a").challenge == 'Bearer realm="api", scope="read write admin"'
    assert ask("/a", bearer("x.y")).challenge == 'Bearer realm="api", error="invalid_token"'
    assert point.asked == []
    assert ask("/a", token(scope="read write admin")).status == 204


def ago(seconds: int) -> int:
    """The time of an authentication, once the test runs."""
    return int(time.time()) - seconds


@pytest.mark.parametrize(
    ("claims", "status"),
    [
        ({"acr": "loa3", "auth_time": lambda: ago(0)}, 204),
        ({"acr": "loa2", "auth_time": lambda: ago(290)}, 204),
        ({"acr": "loa1", "auth_time": lambda: ago(0)}, 401),
        ({"acr": "loa3", "auth_time": lambda: ago(1000)}, 401),
        ({"acr": "loa3"}, 401),
        ({"auth_time": lambda: ago(0)}, 401),
        ({"acr": ["loa3"], "auth_time": lambda: ago(0)}, 401),
        ({"acr": "loa3", "auth_time": True}, 401),
        ({"acr": "loa3", "auth_time": lambda: str(ago(0))}, 401),
        ({"acr": "loa3", "auth_time": lambda: ago(-3600)}, 401),
    ],
)
@pytest.mark.parametrize("kind", ["jwt", "opaque"])
def test_stronger_authentication(around: Any, kind: str, claims: Any, status: int) -> None:
    """STEP-1, INT-13: one challenge with all that is wanted; missing claims are not enough."""
    routes = [{"method": "GET", "path": "/a", "acr": "loa3 loa2", "max_age": "5m"}]
    point = Point()
    claims = {name: said() if callable(said) else said for name, said in claims.items()}
    minted = ISSUER.jwt(**claims) if kind == "jwt" else ISSUER.opaque(**claims)
    reply = around(policed(point, routes=routes))("/a", bearer(minted))
    assert (reply.status, len(point.asked)) == (status, int(status == 204))
    if status == 401:
        assert reply.challenge == (
            'Bearer realm="api", error="insufficient_user_authentication", '
            'acr_values="loa3 loa2", max_age="300"'
        )


def test_requirements_are_told_to_nobody_else(around: Any) -> None:
    """STEP-2: a bad token is a bad token."""
    routes = [{"method": "GET", "path": "/a", "acr": "loa3"}]
    ask = around(policed(Point(), routes=routes))
    for bad in ("rubbish", ISSUER.jwt(exp=1), ISSUER.jwt(aud="others")):
        reply = ask("/a", bearer(bad))
        assert reply.challenge == 'Bearer realm="api", error="invalid_token"'
    assert ask("/a").challenge == 'Bearer realm="api"'


def test_fresh_routes(around: Any) -> None:
    """Ask past every cache."""
    point = Point()
    ask = around(policed(point, routes=[{**ROUTES[1], "fresh": True}, *ROUTES]))
    ask("/todos/1", token())
    ask("/todos", token())
    assert point.fresh == [True, False]


def test_subjects_without_a_name(around: Any) -> None:
    """Nobody can be asked about nobody."""
    point = Point()
    server = policed(point, routes=ROUTES, given={"validators": [lambda text: Identity()]})
    assert around(server)("/todos/1", token()).status == 403
    assert point.asked == []


@pytest.mark.parametrize("said", ["permit", "deny"])
def test_websockets(said: str) -> None:
    """Are asked about as GET, and refused before they are accepted."""
    point = Point(decision(said))

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        await send({"type": "websocket.accept"})

    wrapped = BearerMiddleware(app, server=policed(point, routes=ROUTES))
    [first, *_] = handshake(wrapped, "/todos/1", token())
    expected = "websocket.accept" if said == "permit" else "websocket.http.response.start"
    assert first["type"] == expected
    assert point.asked[0].action.name == "read"
    [first, *_] = handshake(wrapped, "/nothing", token(), can_deny=False)
    assert first == {"type": "websocket.close", "code": 1008, "reason": ""}


def test_below_a_mount_point() -> None:
    """The path is that below ``root_path``."""
    point = Point()
    ask = over_asgi(policed(point, routes=ROUTES))
    assert ask("/v1/todos/1", token(), root_path="/v1").status == 204
    assert ask("/v1/todos/1", token()).status == 403


def test_lifespan_and_nothing_else_passes() -> None:
    """Without policy nothing is put around the application."""
    plain = BearerMiddleware(asgi_app, server=policed())
    assert plain.app is asgi_app
    assert exchange(plain, "/x", token()).status == 204


@pytest.mark.parametrize("fresh", [False, True])
def test_a_point_that_remembers(around: Any, fresh: bool) -> None:
    """Is asked what it knows first, but not by a route that wants a fresh decision; and it is told
    how long the token lives.
    """
    lives: list[float] = []

    class Remembering(Point):
        def remembered(self, request: Any) -> Any:
            return decision("permit", cached=True) if request.resource.id == "1" else None

        def decide(  # type: ignore[override]
            self, request: Any, deadline: float, *, fresh: bool, expires: float
        ) -> Any:
            lives.append(expires)
            return Point.decide(self, request, deadline, fresh=fresh)

        def decide_many(  # type: ignore[override]
            self, requests: Any, deadline: float, *, fresh: bool, expires: float
        ) -> Any:
            raise NotImplementedError

    point = Remembering(decision("deny"))
    ask = around(policed(point, routes=[{**ROUTES[1], "fresh": fresh}]))
    expires = int(time.time()) + 600
    assert ask("/todos/1", token(exp=expires)).status == (403 if fresh else 204)
    assert ask("/todos/2", token(exp=expires)).status == 403
    assert lives == [expires] * (2 if fresh else 1)


def test_policy_that_changed() -> None:
    """Is told to whoever remembers decisions; others have nothing to forget."""
    told = []

    class Remembering(Point):
        def invalidate(self, **what: Any) -> None:
            told.append(what)

    policed(Remembering()).policy_changed(subject="alice")
    policed(Point()).policy_changed()
    policed().policy_changed(resource_type="todo")
    assert told == [{"subject": "alice", "resource_type": None}]
