"""Health: what ``health()`` tells, and what is answered at ``BEARER_HEALTH_PATH``."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import anyio
import pytest

from bearer_middleware import BearerMiddleware, ResourceServer, Settings, WSGIBearerMiddleware
from bearer_middleware.errors import Refused
from bearer_middleware.flow.drivers import run
from bearer_middleware.testing import Issuer
from tests.contract.wire import bearer, call, exchange, handshake
from tests.issuer.conftest import FakeClock

PATH = "/healthz"


@pytest.fixture
def issuer() -> Issuer:
    """Fresh, not served."""
    return Issuer()


@pytest.fixture
def clock() -> FakeClock:
    """Stands still."""
    return FakeClock()


@pytest.fixture
def make(issuer: Issuer, clock: FakeClock) -> Callable[..., ResourceServer]:
    """A server that trusts the issuer."""

    def build(**settings: Any) -> ResourceServer:
        keywords = issuer.settings(**{"health_path": PATH, **settings})
        return ResourceServer(Settings(**keywords), clock=clock, transport=issuer.transport())

    return build


def ask(server: ResourceServer, token: str) -> int:
    """The status of a request with this token."""
    try:
        run(server.authenticate([b"Bearer " + token.encode()]), server.transport)
    except Refused as refusal:
        return refusal.status
    return 200


def told(server: ResourceServer) -> tuple[str, bool]:
    """In short."""
    health = server.health()
    return health.status, health.ready


# -- health() ------------------------------------------------------------------------------


def test_before_anything_was_asked(make: Any, issuer: Issuer) -> None:
    """No keys yet: not ready. Nobody is asked for that."""
    server = make()
    assert told(server) == ("failing", False)
    assert server.health().as_dict() == {
        "status": "failing",
        "ready": False,
        "issuers": [
            {
                "issuer": issuer.url,
                "status": "failing",
                "keys": {"status": "failing", "from": "issuer", "number": 0, "age_seconds": None},
                "introspection": {"status": "ok", "state": "unasked"},
                "breakers": dict.fromkeys(("introspection", "keys", "metadata"), "closed"),
            }
        ],
    }
    assert sum(issuer.requests.values()) == 0


def test_with_keys(make: Any, issuer: Issuer, clock: FakeClock) -> None:
    """Ready, with their age and number."""
    server = make()
    assert ask(server, issuer.jwt()) == 200
    clock.advance(12.34)
    assert told(server) == ("ok", True)
    keys = server.health().as_dict()["issuers"][0]["keys"]
    assert keys == {
        "status": "ok",
        "from": "issuer",
        "number": len(issuer.jwks["keys"]),
        "age_seconds": 12.3,
    }


def test_through_an_outage(make: Any, issuer: Issuer, clock: FakeClock) -> None:
    """Degraded, and failing once the keys are too old; but ready all the time."""
    server = make(jwks_max_stale=3600)
    ask(server, issuer.jwt())
    issuer.fail("jwks", status=503)
    clock.advance(301)
    run(server.trusted.servers[0].keys._refresh(), server.transport)
    assert told(server) == ("degraded", True)
    clock.advance(3600)
    assert told(server) == ("failing", True)
    issuer.recover()
    assert ask(server, issuer.jwt(exp=int(clock()) + 60)) == 200
    assert told(server) == ("ok", True)


def test_keys_that_nobody_needed_for_long(make: Any, issuer: Issuer, clock: FakeClock) -> None:
    """Nothing is wrong with them: the next request fetches."""
    server = make(jwks_max_stale=3600)
    ask(server, issuer.jwt())
    clock.advance(10_000)
    assert told(server) == ("ok", True)


def test_introspection_that_fails(make: Any, issuer: Issuer) -> None:
    """The outage of a server takes no readiness away."""
    server = make()
    ask(server, issuer.jwt())
    issuer.fail("introspection", status=503)
    assert ask(server, issuer.opaque()) == 503
    assert told(server) == ("degraded", True)
    assert server.health().issuers[0]["introspection"]["state"] == "failing"
    issuer.recover()
    assert ask(server, issuer.opaque()) == 200
    assert told(server) == ("ok", True)


def test_an_inactive_token_is_no_failure(make: Any, issuer: Issuer) -> None:
    """The server works very well."""
    server = make()
    ask(server, issuer.jwt())
    assert ask(server, "nobody-knows-this") == 401
    assert told(server) == ("ok", True)


def test_refused_credentials(make: Any, issuer: Issuer) -> None:
    """That is not ready, since it does not pass by itself."""
    server = make(client_secret="wrong")
    ask(server, issuer.jwt())
    assert ask(server, issuer.opaque()) == 503
    assert told(server) == ("failing", False)
    assert server.health().issuers[0]["introspection"]["state"] == "rejected"


def test_only_introspection(make: Any, issuer: Issuer) -> None:
    """Needs no keys."""
    server = make(issuer=None, introspection_url=f"{issuer.url}/introspect")
    assert told(server) == ("ok", True)
    assert "keys" not in server.health().issuers[0]


@pytest.mark.parametrize(
    ("settings", "needed"),
    [
        ({"jwt_validation": "introspect"}, False),
        ({"jwt_validation": "introspect", "introspection_signed": True}, True),
        ({"jwt_validation": "both"}, True),
    ],
)
def test_whether_keys_are_needed(make: Any, settings: Any, needed: bool) -> None:
    """Who sends every JWT verifies nothing, but for signed answers."""
    server = make(**settings)
    assert told(server)[1] is not needed


def test_keys_of_a_secret_and_of_files(make: Any, issuer: Issuer, tmp_path: Path) -> None:
    """Are there from the start; a bootstrap set is worth a word."""
    issuer.jwt()
    file = tmp_path / "keys.json"
    file.write_text(json.dumps(issuer.jwks))
    assert told(make(hmac_secret="s" * 32)) == ("ok", True)
    assert told(make(jwks_file=file)) == ("ok", True)
    bootstrapped = make(jwks_bootstrap_file=file)
    assert told(bootstrapped) == ("degraded", True)
    assert bootstrapped.health().issuers[0]["keys"]["from"] == "bootstrap"


def test_a_file_that_became_unusable(
    make: Any, issuer: Issuer, clock: FakeClock, tmp_path: Path
) -> None:
    """Degraded while its old content serves."""
    issuer.jwt()
    file = tmp_path / "keys.json"
    file.write_text(json.dumps(issuer.jwks))
    server = make(jwks_file=file)
    file.unlink()
    run(server.wake(), server.transport)
    assert told(server) == ("degraded", True)
    file.write_text(json.dumps(issuer.jwks))
    clock.advance(1)
    run(server.wake(), server.transport)
    assert told(server) == ("ok", True)


def test_one_issuer_of_two(issuer: Issuer) -> None:
    """Whose keys are missing takes the other nothing: degraded, and ready."""
    tables = [{"issuer": url, "audience": "api"} for url in (issuer.url, "https://other.test")]
    server = ResourceServer(Settings(issuers=tables), transport=issuer.transport())
    assert told(server) == ("failing", False)
    assert ask(server, issuer.jwt()) == 200
    assert told(server) == ("degraded", True)


def test_breakers(make: Any, issuer: Issuer) -> None:
    """Their states are shown where there are any."""
    server = make()
    ask(server, issuer.jwt())
    assert told(server) == ("ok", True)
    server.trusted.servers[0].metadata.upstream = SimpleNamespace(state="half-open")
    assert told(server) == ("degraded", True)
    breakers = server.health().issuers[0]["breakers"]
    assert breakers == {"introspection": "closed", "keys": "closed", "metadata": "half-open"}


def test_parts(make: Any, issuer: Issuer) -> None:
    """Others tell of themselves: the worst counts, and only a failing one is not ready."""
    server = make()
    ask(server, issuer.jwt())
    state: list[Any] = ["ok", {"entries": 3}]
    server.checkup.add("revocation", lambda: (state[0], state[1]))
    assert told(server) == ("ok", True)
    assert server.health().as_dict()["revocation"] == {"status": "ok", "entries": 3}
    state[0] = "degraded"
    assert told(server) == ("degraded", True)
    state[0] = "failing"
    assert told(server) == ("failing", False)
    state.clear()  # it raises
    assert told(server) == ("degraded", True)
    assert server.health().parts["revocation"] == {"status": "degraded", "error": "IndexError"}
    for name in ("revocation", "status", "ready", "issuers"):
        with pytest.raises(ValueError, match=name):
            server.checkup.add(name, lambda: ("ok", {}))


def test_the_mapping_is_the_callers(make: Any) -> None:
    """Changing it changes nothing."""
    health = make().health()
    health.as_dict()["issuers"][0]["keys"]["number"] = 99
    assert health.as_dict()["issuers"][0]["keys"]["number"] == 0


# -- the endpoint --------------------------------------------------------------------------


def never(*_: Any) -> Any:
    """An application that must not be called."""
    raise AssertionError("the application was called")


def asgi(server: ResourceServer, path: str = PATH, headers: Any = (), **members: Any) -> Any:
    """Over ASGI."""
    return exchange(BearerMiddleware(never, server=server), path, headers, **members)


def wsgi(server: ResourceServer, path: str = PATH, headers: Any = (), **members: Any) -> Any:
    """Over WSGI."""
    return call(WSGIBearerMiddleware(never, server=server), path, headers, **members)


both = pytest.mark.parametrize("over", [asgi, wsgi])


@both
def test_the_answer(make: Any, issuer: Issuer, over: Any) -> None:
    """Without a token: 200 as JSON, not to be stored."""
    server = make()
    ask(server, issuer.jwt())
    reply = over(server)
    assert (reply.status, reply.json) == (200, server.health().as_dict())
    assert reply.header("content-type") == "application/json"
    assert reply.header("cache-control") == "no-store"
    assert reply.header("content-length") == str(len(reply.body))
    head = over(server, method="HEAD")
    assert (head.status, head.body) == (200, b"")
    assert head.header("content-length") == str(len(reply.body))
    assert over(server, headers=bearer("not.a.token")).status == 200
    assert over(server, f"{PATH}?verbose=1").status == 200


@both
def test_not_ready(make: Any, issuer: Issuer, over: Any) -> None:
    """503, with the same body."""
    reply = over(
        make(client_secret="wrong", issuer=None, introspection_url="https://issuer.test/introspect")
    )
    assert reply.status == 200
    issuer.fail("metadata", status=503)
    reply = over(make())
    assert (reply.status, reply.json["ready"]) == (503, False)


@both
@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "OPTIONS", "PATCH"])
def test_other_methods(make: Any, over: Any, method: str) -> None:
    """405, never the application: also not as a CORS preflight, nor with a token."""
    headers = [("Origin", "https://x.test"), ("Access-Control-Request-Method", "GET")]
    reply = over(make(), headers=headers, method=method)
    assert (reply.status, reply.header("allow")) == (405, "GET, HEAD")
    assert reply.json == {"status": 405, "title": "Method Not Allowed"}


@both
@pytest.mark.parametrize(
    "path", ["/healthz/", "/healthz/x", "//healthz", "/x/../healthz", "/Healthz", "/healthz;x", "/"]
)
def test_other_paths(make: Any, over: Any, path: str) -> None:
    """Exactly that path: whatever looks like it needs a token."""
    assert over(make(), path).status == 401


@both
def test_absent(make: Any, over: Any) -> None:
    """Without the setting the path is one as any other."""
    assert over(make(health_path=None)).status == 401


@both
def test_beside_exempt_paths(make: Any, over: Any) -> None:
    """The answer is ours, also where the application has such a path."""
    assert over(make(exempt=f"{PATH},/open/*"), method="POST").status == 405


def test_below_a_mount_point(make: Any) -> None:
    """As with exempt paths: the path as the framework routes it."""
    assert asgi(make(), "/api/healthz", root_path="/api").status == 503
    assert wsgi(make(), PATH, SCRIPT_NAME="/api").status == 503


@pytest.mark.parametrize("can_deny", [True, False])
def test_a_websocket_there(make: Any, can_deny: bool) -> None:
    """Is refused, and not let through without a token."""
    app = BearerMiddleware(never, server=make())
    messages = handshake(app, PATH, can_deny=can_deny)
    if can_deny:
        assert messages[0]["status"] == 405
    else:
        assert messages == [{"type": "websocket.close", "code": 1008, "reason": ""}]


def test_nothing_secret(make: Any, issuer: Issuer) -> None:
    """No secret, no key id, no token."""
    server = make()
    tokens = [issuer.jwt(), issuer.opaque()]
    for token in tokens:
        ask(server, token)
    body = asgi(server).body.decode()
    for secret in (issuer.client_secret, issuer.client_id, issuer.kid, *tokens):
        assert secret not in body


# -- ready without traffic -----------------------------------------------------------------


def until(true: Callable[[], bool]) -> None:
    """Wait for what happens in the background."""
    deadline = time.monotonic() + 10
    while not true():
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.005)


def test_readiness_comes_without_traffic_over_wsgi(make: Any, issuer: Issuer) -> None:
    """The question itself begins the fetch, and does not wait for it."""
    server = make()
    app = WSGIBearerMiddleware(never, server=server)
    call(app, PATH)
    until(lambda: server.health().ready)
    assert call(app, PATH).status == 200
    assert issuer.requests == {"metadata": 1, "jwks": 1}


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_readiness_comes_without_traffic_over_asgi(make: Any, issuer: Issuer, backend: str) -> None:
    """The same on a loop."""
    server = make()

    async def visit() -> list[int]:
        statuses: list[int] = []

        async def send(message: Any) -> None:
            statuses.extend([message["status"]] if "status" in message else [])

        app = BearerMiddleware(never, server=server)
        scope = {"type": "http", "method": "GET", "path": PATH, "headers": []}
        with anyio.fail_after(10):
            while 200 not in statuses:
                await app(dict(scope), never, send)
                await anyio.sleep(0.001)
        return statuses

    assert anyio.run(visit, backend=backend)[0] == 503
    assert issuer.requests == {"metadata": 1, "jwks": 1}


def test_many_questions_make_one_fetch(make: Any, issuer: Issuer, clock: FakeClock) -> None:
    """And while the issuer is down, as many as the back-off allows."""
    issuer.fail("metadata", status=503)
    server = make()
    app = WSGIBearerMiddleware(never, server=server)
    threads = [
        threading.Thread(target=lambda: [call(app, PATH) for _ in range(20)]) for _ in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    until(lambda: server.events.counts["keys_failed"] == 1)
    asked = issuer.requests["metadata"]
    assert asked <= 3  # the documents of one attempt
    call(app, PATH)
    assert issuer.requests["metadata"] == asked
    issuer.recover()
    clock.advance(31)
    call(app, PATH)
    until(lambda: server.health().ready)


def test_mended_credentials_are_noticed_without_traffic(
    make: Any, issuer: Issuer, clock: FakeClock, tmp_path: Path
) -> None:
    """No request comes to who is not ready: the question itself tries, with back-off."""
    file = tmp_path / "secret"
    file.write_text("wrong")
    server = make(client_secret=None, client_secret_file=file)
    app = WSGIBearerMiddleware(never, server=server)
    ask(server, issuer.jwt())
    assert ask(server, issuer.opaque()) == 503
    for _ in range(10):
        assert call(app, PATH).status == 503
    until(lambda: issuer.requests["introspection"] == 2)
    until(lambda: server.trusted.servers[0]._probe._backoff.failing)
    call(app, PATH)
    assert issuer.requests["introspection"] == 2
    file.write_text(issuer.client_secret or "")
    clock.advance(31)
    call(app, PATH)
    until(lambda: server.health().ready)
    assert call(app, PATH).status == 200


def test_health_answers_while_the_issuer_hangs(make: Any, issuer: Issuer) -> None:
    """Whoever asks how we are does not wait for anybody."""
    issuer.fail("metadata", delay=5)
    server = make()
    began = time.monotonic()
    assert wsgi(server).status == 503
    assert asgi(server).status == 503
    assert time.monotonic() - began < 4
