"""The same of decision points: our credentials, what they say, what is kept and audited."""

from __future__ import annotations

import io
import itertools
import json
import logging
import secrets
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import anyio
import pytest

from bearer_middleware import (
    BearerMiddleware,
    ConfigError,
    ResourceServer,
    Settings,
    WSGIBearerMiddleware,
)
from bearer_middleware.errors import Refused
from bearer_middleware.flow.drivers import run
from bearer_middleware.policy.cached import CachedPoint
from bearer_middleware.testing import Issuer
from tests.commands.test_check_resource import serving
from tests.contract.wire import call, converse, environ_of, reply_of, scope_of
from tests.leaks import test_canaries
from tests.leaks.test_canaries import Canaries, opaque

canaries, everything_is_logged = test_canaries.canaries, test_canaries.everything_is_logged

POLICY = {
    "policy_token": f"canary-policy-token-{secrets.token_hex(24)}",
    "policy_changed_token": f"canary-changed-token-{secrets.token_hex(24)}",
}
QUERY = "canary-query"
DEBUG = "canary-debug"
ROUTES = [{"method": "*", "path": "/todos/{id}", "action": "read", "resource": "todo:{id}"}]

#: What the decision point answers; ``TOKEN`` is our own credential, said back to us.
ANSWERS: dict[str, tuple[int, str]] = {
    "permit": (200, '{"decision": true, "context": {"trace": "canary-debug"}}'),
    "deny": (200, '{"decision": false, "context": {"debug": "canary-debug TOKEN"}}'),
    "no decision": (200, '{"decision": "TOKEN", "canary-debug": 1}'),
    "no object": (200, '["TOKEN"]'),
    "twice": (200, '{"TOKEN": 1, "TOKEN": 2}'),
    "no json": (200, "canary-debug TOKEN"),
    "401": (401, "canary-debug TOKEN"),
    "403": (403, '{"error": "canary-debug TOKEN"}'),
    "500": (500, "canary-debug TOKEN"),
    "too long": (200, "TOKEN" * 9_000),
}


@contextmanager
def point(status: int, body: str) -> Iterator[str]:
    """A decision point over real sockets, so that the HTTP client logs what it does."""
    said = body.replace("TOKEN", POLICY["policy_token"]).encode()

    def answer(environ: Any, start_response: Any) -> list[bytes]:
        environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
        headers = [("Content-Type", "application/json"), ("Content-Length", str(len(said)))]
        start_response(f"{status} x", headers)
        return [said]

    with serving(lambda url: answer) as url:
        yield url.removesuffix("/api")


@pytest.fixture
def make(canaries: Canaries, tmp_path: Path) -> Callable[..., ResourceServer]:
    """A server with a decision point, a cache, an audit trail and secrets for all of it."""
    canaries.texts |= {*POLICY.values(), QUERY, DEBUG}

    def build(issuer: Issuer, url: str, **more: Any) -> ResourceServer:
        keywords = issuer.settings(
            policy="authzen",
            policy_url=url,
            policy_timeout=5,
            policy_cache_ttl=30,
            policy_options={"discovery": "false"},
            policy_changed_path="/changed",
            routes=ROUTES,
            audit=tmp_path / "audit.jsonl",
            **POLICY,
            **more,
        )
        return ResourceServer(Settings(**keywords))

    return build


def asked(server: ResourceServer, world: str, token: str, path: str = "/todos/1") -> str:
    """All that the caller gets, as text."""
    headers = [("Authorization", f"Bearer {token}"), ("Cookie", "canary-cookie")]
    if world == "wsgi":

        def application(environ: Any, start_response: Any) -> list[bytes]:
            start_response("204 No Content", [])
            return []

        app = WSGIBearerMiddleware(application, server=server)
        return repr(call(app, path, headers, QUERY_STRING=f"secret={QUERY}"))

    async def asgi_application(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 204, "headers": []})
        await send({"type": "http.response.body", "body": b""})

    scope = scope_of(path, headers, query_string=f"secret={QUERY}".encode())
    return over_asgi(server, asgi_application, scope, b"")


def over_asgi(server: ResourceServer, app: Any, scope: Any, body: bytes) -> str:
    """One exchange in a loop of its own, and what was sent."""

    async def main() -> Any:
        message = {"type": "http.request", "body": body, "more_body": False}
        try:
            return await converse(BearerMiddleware(app, server=server), scope, [message])
        finally:
            await server.aclose()

    return repr(reply_of(anyio.run(main)))


def kept(server: ResourceServer) -> CachedPoint:
    """The decisions that are remembered."""
    assert server.authorizer is not None
    assert isinstance(server.authorizer.point, CachedPoint)
    return server.authorizer.point


@pytest.mark.parametrize(
    "case", [*itertools.product(["jwt", "opaque"], ["asgi", "wsgi"], ANSWERS)], ids="-".join
)
def test_decision_points(
    canaries: Canaries,
    everything_is_logged: pytest.LogCaptureFixture,
    make: Callable[..., ResourceServer],
    case: tuple[str, str, str],
) -> None:
    """Logs, answers, representations, the audit trail, and the decisions that are kept."""
    canaries.texts.add("canary-cookie")
    kind, world, scene = case
    with Issuer().serve() as issuer, point(*ANSWERS[scene]) as url:
        server = make(issuer, url)
        token = canaries.token(issuer.jwt() if kind == "jwt" else opaque(issuer))
        for _ in range(2):
            canaries.look("answer", asked(server, world, token))
        for entry in [*kept(server)._kept.items(), *kept(server)._asked.items()]:
            key, decision = entry
            assert isinstance(key, bytes)
            assert len(key) == 32
            canaries.look("kept", f"{key!r} {decision!r}")
        _look_at(canaries, server)
        server.close()
    for record in everything_is_logged.records:
        canaries.look(f"log of {record.name}", logging.Formatter().format(record))
        canaries.look(f"record of {record.name}", repr(vars(record)))
    trail = Path(str(server.settings.audit)).read_text()
    assert trail.count("\n") == 2
    canaries.look("audit", trail)
    assert canaries.seen_in == []


def _look_at(canaries: Canaries, server: ResourceServer) -> None:
    point = kept(server)
    assert server.authorizer is not None
    inquiry = server.authorizer.inquiry(None, "GET", "/todos/1", lambda template: None)  # type: ignore[arg-type,return-value]
    within: Any = point.point
    for thing in (
        *(server, server.settings, server.settings.policy_options, server.settings.routes),
        *(server.authorizer, server.audit, server.authorizer.phrasing, inquiry),
        *(point, within, within._remote, within._discovery, *within.upstreams),
        server.health(),
    ):
        canaries.look(f"repr of {type(thing).__name__}", f"{thing!r} {thing}")


@pytest.mark.parametrize("world", ["asgi", "wsgi"])
def test_whoever_tells_of_changes(
    canaries: Canaries,
    everything_is_logged: pytest.LogCaptureFixture,
    make: Callable[..., ResourceServer],
    tmp_path: Path,
    world: str,
) -> None:
    """Neither the secret nor what was shown in its place, nor the message."""
    guess = canaries.token(f"canary-guess-{secrets.token_hex(16)}")
    with Issuer().serve() as issuer:
        server = make(issuer, "http://127.0.0.1:9")
        app: Any = WSGIBearerMiddleware(lambda *_: [], server=server)
        for shown in (POLICY["policy_changed_token"], guess):
            for body in (b'{"subject": "canary-debug"}', b"canary-debug", b'{"subject": 1}'):
                told = _post(server, app, world, shown, body)
                canaries.look("answer", told)
        server.close()
    for record in everything_is_logged.records:
        canaries.look(f"log of {record.name}", logging.Formatter().format(record))
        canaries.look(f"record of {record.name}", repr(vars(record)))
    file = tmp_path / "audit.jsonl"
    canaries.look("audit", file.read_text() if file.exists() else "")
    assert canaries.seen_in == []


def _post(server: ResourceServer, app: Any, world: str, secret: str, body: bytes) -> str:
    headers = [("Authorization", f"Bearer {secret}"), ("Content-Type", "application/json")]
    if world == "asgi":
        return over_asgi(server, app, scope_of("/changed", headers, method="POST"), body)
    environ = {
        **environ_of("/changed", headers[:1], REQUEST_METHOD="POST"),
        "wsgi.input": io.BytesIO(body),
        "CONTENT_LENGTH": str(len(body)),
        "CONTENT_TYPE": "application/json",
    }
    sent: list[Any] = []
    sent += app(environ, lambda *words: sent.append(words))
    return repr(sent)


@pytest.mark.parametrize("scene", ["no decision", "401", "500", "too long"])
def test_tracebacks(canaries: Canaries, make: Callable[..., ResourceServer], scene: str) -> None:
    """Of a refusal, with the locals of our frames: neither credential nor token is in them."""
    with Issuer().serve() as issuer, point(*ANSWERS[scene]) as url:
        server = make(issuer, url)
        token = canaries.token(issuer.jwt())
        identity = run(server.authenticate([f"Bearer {token}".encode()]), server.transport)
        assert server.authorizer is not None
        inquiry = server.authorizer.inquiry(identity, "GET", "/todos/1", lambda template: None)  # type: ignore[arg-type,return-value]
        with pytest.raises(Refused) as refused:
            run(server.authorizer.admit(inquiry), server.transport)
        server.close()
    canaries.look("traceback", test_canaries._with_locals(refused.value))
    assert canaries.seen_in == []


@pytest.mark.parametrize(
    "mistake",
    [
        {"policy_options": {"canary-secret-option": "canary-secret-value"}},
        {"policy_options": {"batch_size": "canary-secret-value"}},
        {"policy_options": {"evaluation_url": "canary-secret-value"}},
        {"policy": "permit", "policy_options": {"tenant": ["canary-secret-value"]}},
        {"policy": "opa", "policy_options": {"decision_path": "canary secret value"}},
        {"policy": "opa", "policy_options": {"token": "canary-secret-value"}},
        {"policy_token": "canary secret value"},
        {"policy_changed_path": "/changed", "policy_changed_token": "canary secret value"},
        {"policy": "cedar", "policy_file": "/nowhere"},
        {"policy": "local", "policy_url": None, "policy_options": {"x": "canary-secret-value"}},
        {"policy_url": "https://user:canary-secret-value@pdp.example"},
    ],
    ids=str,
)
def test_mistakes(canaries: Canaries, mistake: dict[str, Any]) -> None:
    """The text of a ConfigError names the option, and never what is in it."""
    canaries.texts |= {*POLICY.values(), "canary-secret-value", "canary secret value"}
    keywords = {
        "policy": "authzen",
        "policy_url": "https://pdp.example",
        "policy_token": POLICY["policy_token"],
        **mistake,
    }
    with pytest.raises(ConfigError) as wrong:
        ResourceServer(Settings(**Issuer().settings(**keywords)))
    error = wrong.value
    canaries.look("error", f"{error} {error!r} {error.mistakes} {error.args}")
    assert canaries.seen_in == []


def test_options_that_are_secrets(canaries: Canaries) -> None:
    """A table of options shows its names alone, in the settings and by itself."""
    canaries.texts.add("canary-attribute")
    rule = {
        "name": "r",
        "effect": "permit",
        "actions": ["*"],
        "resources": ["*"],
        "when": ["subject.properties.key == 'canary-attribute'"],
    }
    options = {"rules": [rule]}
    server = ResourceServer(Settings(**Issuer().settings(policy="local", policy_options=options)))
    assert server.authorizer is not None
    settings = server.settings
    for thing in (settings, settings.policy_options, server.authorizer.point, server):
        canaries.look("repr", f"{thing!r} {thing}")
    canaries.look("dumps", json.dumps(server.health().as_dict()))
    assert canaries.seen_in == []
