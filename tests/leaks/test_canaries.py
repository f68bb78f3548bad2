"""Canaries: a token and secrets that must never appear where somebody might read them."""

from __future__ import annotations

import asyncio
import gc
import json
import logging
import secrets
import time
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from types import TracebackType
from typing import Any

import pytest

from bearer_middleware import (
    BearerMiddleware,
    ConfigError,
    Identity,
    ResourceServer,
    Settings,
    WSGIBearerMiddleware,
)
from bearer_middleware.errors import RateLimited, Refused
from bearer_middleware.flow.drivers import arun, run
from bearer_middleware.flow.effects import HttpRequest
from bearer_middleware.memory.limits import Turn
from bearer_middleware.testing import Issuer

LIBRARY = str(Path(__import__("bearer_middleware").__file__).parent)
SECRETS = {
    "client_secret": f"canary-client-secret-{secrets.token_hex(32)}",
    "fleet_secret": f"canary-fleet-secret-{secrets.token_hex(32)}",
}


class Canaries:
    """What nobody may see, and how to look for it."""

    def __init__(self) -> None:
        self.texts: set[str] = set(SECRETS.values())
        self.seen_in: list[str] = []

    def token(self, token: str) -> str:
        """A token, and the parts by which somebody could rebuild it."""
        self.texts.add(token)
        if token.count(".") == 2:
            self.texts.add(token.rpartition(".")[2])
        return token

    def look(self, where: str, text: str) -> None:
        for canary in self.texts:
            if canary in text:
                self.seen_in.append(f"{where}: {text[:2000]}")


@pytest.fixture
def canaries() -> Canaries:
    """None has been seen yet."""
    return Canaries()


@pytest.fixture
def everything_is_logged(
    caplog: pytest.LogCaptureFixture,
) -> Iterator[pytest.LogCaptureFixture]:
    """Of all loggers, those of the HTTP client too, at DEBUG."""
    names = ["", "bearer_middleware"]
    for library in ("httpx", "httpx2", "httpcore", "httpcore2", "asyncio", "concurrent.futures"):
        names += [library, f"{library}.connection", f"{library}.http11", f"{library}.proxy"]
    with caplog.at_level(logging.DEBUG):
        before = {name: logging.getLogger(name).level for name in names}
        for name in names:
            logging.getLogger(name).setLevel(logging.DEBUG)
        yield caplog
        for name, level in before.items():
            logging.getLogger(name).setLevel(level)


class Store:
    """A user's cache that remembers all it was given."""

    def __init__(self) -> None:
        self.data: dict[str, bytes] = {}

    def get(self, key: str) -> bytes | None:
        return self.data.get(key)

    def set(self, key: str, value: bytes, seconds: float) -> None:
        self.data[key] = value


def opaque(issuer: Issuer, **members: Any) -> str:
    """A token that says what it is."""
    return issuer.opaque(token=f"canary_{secrets.token_hex(24)}", **members)


def _failing(endpoint: str, **fault: Any) -> Callable[[Issuer], str]:
    def scene(issuer: Issuer) -> str:
        issuer.fail(endpoint, **fault)
        return opaque(issuer) if endpoint == "introspection" else issuer.jwt()

    return scene


def _echoing(**fault: Any) -> Callable[[Issuer], str]:
    """A server that says our token back, in a place of its choice."""

    def scene(issuer: Issuer) -> str:
        # As plain as an error code, which a log would like to show.
        token = "canary_" + "".join(secrets.choice("abcdefghij") for _ in range(30))
        issuer.opaque(token=token)
        spoilt = {
            name: json.loads(json.dumps(value).replace("TOKEN", token))
            for name, value in fault.items()
        }
        if "body" in spoilt:
            spoilt["body"] = spoilt["body"].encode()
        issuer.fail("introspection", **spoilt)
        return token

    return scene


SCENES: dict[str, Callable[[Issuer], str]] = {
    "good jwt": lambda issuer: issuer.jwt(),
    "good opaque": opaque,
    "expired": lambda issuer: issuer.jwt(exp=1),
    "another audience": lambda issuer: issuer.jwt(aud="other"),
    "another issuer": lambda issuer: issuer.jwt(iss="https://other.test"),
    "another typ": lambda issuer: issuer.jwt(headers={"typ": "logout+jwt"}),
    "unknown kid": lambda issuer: issuer.jwt(headers={"kid": "canary"}),
    "bad signature": lambda issuer: Issuer(issuer.url).jwt(headers={"kid": issuer.kid}),
    "no alg": lambda issuer: issuer.jwt(headers={"alg": "none"}),
    "not base64url": lambda issuer: issuer.jwt() + "=",
    "jwe": lambda issuer: "eyJhbGciOiJSU0EiLCJlbmMiOiJBIn0.Y2FuYXJ5.Y2FuYXJ5.Y2FuYXJ5.Y2FuYXJ5Cg",
    "inactive": lambda issuer: f"canary_{secrets.token_hex(24)}",
    "refused though active": lambda issuer: opaque(issuer, aud="other"),
    "scope missing": lambda issuer: issuer.jwt(scope="other"),
    "over-long": lambda issuer: "canary" * 2000,
    **{
        f"{endpoint} {name}": _failing(endpoint, **fault)
        for endpoint in ("metadata", "jwks", "introspection")
        for name, fault in {
            "500": {"status": 500},
            "401": {"status": 401},
            "asking for patience": {"status": 429, "headers": {"retry-after": "30"}},
            "html": {"body": b"<html>"},
            "dropped": {"drop": True},
            "dripping": {"drip": 0.2},
            "dripping headers": {"drip": 0.2, "drip_headers": True},
            "silent": {"delay": 20},
            "huge": {"huge": 400_000},
            "redirect": {"status": 302, "headers": {"location": "http://127.0.0.1:1/"}},
        }.items()
    },
    "token in an error": _echoing(status=400, body='{"error": "TOKEN"}'),
    "token in a refusal of our credentials": _echoing(status=401, body='{"error": "TOKEN"}'),
    "token in a redirect": _echoing(status=302, headers={"location": "http://x.test/?TOKEN"}),
    "token in Retry-After": _echoing(status=503, headers={"retry-after": "TOKEN"}),
    "token in a duplicate": _echoing(body='{"TOKEN": 1, "TOKEN": 2}'),
    "token in garbage": _echoing(body="TOKEN"),
    "token in iss": _echoing(body='{"active": true, "aud": "api", "iss": "TOKEN"}'),
    "token in aud": _echoing(body='{"active": true, "aud": "TOKEN"}'),
    "token in exp": _echoing(body='{"active": true, "aud": "api", "exp": "TOKEN"}'),
}
# Headers that name the token are written to the log of the HTTP client itself, at DEBUG.
NOT_OURS = {"token in a redirect", "token in Retry-After"}


@pytest.fixture
def served() -> Iterator[Issuer]:
    """Over real sockets, so that the HTTP client logs what it does."""
    with Issuer(client_secret=SECRETS["client_secret"]).serve() as issuer:
        yield issuer


def made(issuer: Issuer, store: Any, timeout: float, **extensions: Any) -> ResourceServer:
    """A server with secrets of every kind."""
    keywords = issuer.settings(
        http_timeout=timeout, required_scopes="read", fleet_secret=SECRETS["fleet_secret"]
    )
    return ResourceServer(Settings(**keywords), cache=store, **extensions)


def ask(server: ResourceServer, world: str, token: str) -> tuple[int, str, Identity | None]:
    """Status, all that the caller gets as text, and the identity the application got."""
    seen: list[Any] = []
    parts: list[Any] = []
    if world == "wsgi":

        def application(environ: Any, start_response: Any) -> list[bytes]:
            seen.append(environ["bearer_middleware.identity"])
            start_response("200 OK", [])
            return []

        environ = {
            "REQUEST_METHOD": "GET",
            "PATH_INFO": "/",
            "HTTP_AUTHORIZATION": f"Bearer {token}",
        }
        middleware = WSGIBearerMiddleware(application, server=server)
        parts += middleware(environ, lambda *words: parts.append(words))
        status = int(next(part[0] for part in parts if isinstance(part, tuple))[:3])
        return status, repr(parts), seen[0] if seen else None

    async def asgi_application(scope: Any, receive: Any, send: Any) -> None:
        seen.append(scope["bearer_middleware.identity"])
        await send({"type": "http.response.start", "status": 200, "headers": []})

    async def send(message: Any) -> None:
        parts.append(message)

    async def main() -> None:
        scope = {
            "type": "http",
            "method": "GET",
            "path": "/",
            "headers": [(b"authorization", f"Bearer {token}".encode())],
        }
        await BearerMiddleware(asgi_application, server=server)(scope, send, send)
        await server.aclose()

    asyncio.run(main())
    return parts[0]["status"], repr(parts), seen[0] if seen else None


@pytest.mark.parametrize("world", ["asgi", "wsgi"])
@pytest.mark.parametrize(
    "scene",
    SCENES,
)
def test_nothing_is_logged_told_or_stored(
    served: Issuer,
    canaries: Canaries,
    everything_is_logged: pytest.LogCaptureFixture,
    world: str,
    scene: str,
) -> None:
    """Logs of all loggers, the answer, representations, and what a user's cache was given."""
    store = Store()
    heard: list[Any] = []
    late = any(word in scene for word in ("dripping", "silent"))
    server = made(served, store, 0.4 if late else 20.0, listener=heard.append)
    token = canaries.token(SCENES[scene](served))
    for _ in range(2):
        status, told, identity = ask(server, world, token)
        canaries.look("answer", told)
    assert (status == 200) == scene.startswith("good")
    for record in everything_is_logged.records:
        if scene not in NOT_OURS or record.name.startswith("bearer_middleware"):
            canaries.look(f"log of {record.name}", logging.Formatter().format(record))
            canaries.look(f"record of {record.name}", repr(vars(record)))
    for event in heard:
        canaries.look("event", repr(event))
    for key, value in store.data.items():
        canaries.look("store", key + value.decode("latin-1"))
    for thing in (
        identity,
        server,
        server.settings,
        server.settings.issuers,
        server.memory,
        server.transport,
        server.trusted,
        server.events,
        server._answers,
        *server.trusted.servers,
        *(each.introspection for each in server.trusted.servers),
        *(each.introspection._credentials for each in server.trusted.servers if each.introspection),
        WSGIBearerMiddleware(lambda *_: [], server=server),
    ):
        canaries.look(f"repr of {type(thing).__name__}", f"{thing!r} {thing}")
    server.close()
    assert canaries.seen_in == []


@pytest.mark.parametrize("token_kind", ["jwt", "opaque", "inactive", "refused"])
def test_memory_holds_digests_alone(canaries: Canaries, token_kind: str) -> None:
    """No entry of any place has the token, nor a JWT's signature, in its key or value."""
    issuer = Issuer(client_secret=SECRETS["client_secret"])
    server = ResourceServer(Settings(**issuer.settings()), transport=issuer.transport())
    token = canaries.token(
        {
            "jwt": issuer.jwt,
            "opaque": lambda: opaque(issuer),
            "inactive": lambda: "canary_unknown",
            "refused": lambda: opaque(issuer, aud="other"),
        }[token_kind]()
    )
    status = _status(server, token)
    assert status == (200 if token_kind in ("jwt", "opaque") else 401)
    memory = server.memory
    kept = [entry for ring in (memory.verified, memory.introspected) for entry in ring._entries]
    refusals = [
        (digest, refusal.error, refusal.payload)
        for digest, refusal in memory.refusals._known.items()
    ]
    found = [repr(item) for item in (*kept, *refusals) if item is not None]
    assert found
    for text in found:
        canaries.look("memory", text)
    assert canaries.seen_in == []


def test_no_object_keeps_the_token_after_the_request() -> None:
    """Nothing that the collector can see from the server has it, as bytes or as text."""
    issuer = Issuer()
    server = ResourceServer(Settings(**issuer.settings()), transport=issuer.transport())
    tokens = [issuer.jwt(), opaque(issuer), "canary_unknown_token", issuer.jwt(exp=1)]
    for token in tokens:
        _status(server, token)
    gc.collect()
    wanted = {
        form for token in tokens for form in (token, token.encode(), b"Bearer " + token.encode())
    }
    reached, found, queue = set(), [], [server]
    while queue:
        thing = queue.pop()
        if id(thing) in reached:
            continue
        reached.add(id(thing))
        if isinstance(thing, str | bytes):
            if thing in wanted:
                found.append(thing)
        elif not isinstance(thing, type) and type(thing).__name__ not in ("module", "function"):
            queue.extend(
                other
                for other in gc.get_referents(thing)
                if not (isinstance(other, dict) and "__builtins__" in other)
                and type(other).__name__ != "Transport"  # the issuer itself is behind it
            )
    assert found == []


def _status(server: ResourceServer, token: str) -> int:
    try:
        run(server.authenticate([b"Bearer " + token.encode()]), server.transport)
    except Refused as refusal:
        return refusal.status
    return 200


def _frames_of_the_library(trace: TracebackType | None) -> TracebackType | None:
    """Without the frames of whoever called: what is in those is theirs."""
    while trace is not None and not trace.tb_frame.f_code.co_filename.startswith(LIBRARY):
        trace = trace.tb_next
    return trace


def _with_locals(error: BaseException) -> str:
    """As a service that collects errors shows them, causes and contexts included."""
    text = []
    pending: list[BaseException | None] = [error]
    while pending:
        one = pending.pop()
        if one is None:
            continue
        shown = traceback.TracebackException(
            type(one), one, _frames_of_the_library(one.__traceback__), capture_locals=True
        )
        text.append("".join(shown.format(chain=False)))
        pending += [one.__cause__, one.__context__]
    return "\n".join(text)


@pytest.mark.parametrize("world", ["asyncio", "sync"])
@pytest.mark.parametrize(
    "name", ["expired", "inactive", "introspection 500", "introspection dropped", "jwks 500"]
)
def test_tracebacks_with_locals_do_not_show_the_token(
    canaries: Canaries, world: str, name: str
) -> None:
    """Of a refusal that reaches code of the user, through the library's own frames."""
    issuer = Issuer(client_secret=SECRETS["client_secret"])
    server = ResourceServer(Settings(**issuer.settings()), transport=issuer.transport())
    token = canaries.token(SCENES[name](issuer))
    flow = server.authenticate([b"Bearer " + token.encode()])
    with pytest.raises(Refused) as refused:
        run(flow, server.transport) if world == "sync" else asyncio.run(
            arun(flow, server.transport)
        )
    canaries.look("traceback", _with_locals(refused.value))
    assert canaries.seen_in == []


@pytest.mark.parametrize("full", [False, True])
def test_tracebacks_of_shed_callers_do_not_show_the_token(canaries: Canaries, full: bool) -> None:
    """Of those who were not sent: the breaker is open, or there was no place."""
    issuer = Issuer(client_secret=SECRETS["client_secret"])
    server = ResourceServer(Settings(**issuer.settings()), transport=issuer.transport())
    asked = server.trusted.servers[0].introspection
    assert asked is not None
    if full:
        flows = [asked.upstream.exchange(HttpRequest("GET", issuer.url)) for _ in range(20)]
        for flow in flows:
            next(flow)
    else:
        issuer.fail("introspection", status=503, headers={"retry-after": "30"})
        assert _status(server, opaque(issuer)) == 503
    token = canaries.token(opaque(issuer))
    with pytest.raises(Refused) as refused:
        run(server.authenticate([b"Bearer " + token.encode()]), server.transport)
    assert server.events.counts["shed"] == 1
    canaries.look("traceback", _with_locals(refused.value))
    assert canaries.seen_in == []


@pytest.mark.parametrize("met", ["at the door", "when it is let in"])
def test_tracebacks_of_a_flood_do_not_show_the_token(canaries: Canaries, met: str) -> None:
    """Of those who find that bad tokens have left no place, also after they have waited."""
    issuer, now = Issuer(client_secret=SECRETS["client_secret"]), time.time()
    settings, transport = Settings(**issuer.settings()), issuer.transport()
    server = ResourceServer(settings, transport=transport, clock=lambda: now)
    for _ in range(100):
        server.limits.take(None, None if met == "at the door" else Turn(server.limits, None))
    token = canaries.token(opaque(issuer))
    with pytest.raises(RateLimited) as refused:
        run(server.authenticate([b"Bearer " + token.encode()]), server.transport)
    assert issuer.requests["introspection"] == 0
    canaries.look("traceback", _with_locals(refused.value))
    assert canaries.seen_in == []


@pytest.mark.parametrize("name", ["expired", "scope missing", "another audience"])
def test_tracebacks_of_the_short_way_do_not_show_the_token(canaries: Canaries, name: str) -> None:
    """The same where no flow is entered."""
    issuer = Issuer()
    settings = Settings(**issuer.settings(required_scopes="read"))
    server = ResourceServer(settings, transport=issuer.transport())
    assert _status(server, issuer.jwt()) == 200
    token = canaries.token(SCENES[name](issuer))
    with pytest.raises(Refused) as refused:
        server.identify(b"Bearer " + token.encode())
    canaries.look("traceback", _with_locals(refused.value))
    assert canaries.seen_in == []


@pytest.mark.parametrize("world", ["asyncio", "sync"])
@pytest.mark.parametrize("name", ["expired", "inactive", "introspection 500", "jwks 500"])
def test_tracebacks_do_not_show_secrets(canaries: Canaries, world: str, name: str) -> None:
    """Neither their text nor their locals: a secret is unwrapped in leaf calls alone."""
    issuer = Issuer(client_secret=SECRETS["client_secret"])
    keywords = issuer.settings(client_auth="client_secret_post")
    server = ResourceServer(Settings(**keywords), transport=issuer.transport())
    flow = server.authenticate([b"Bearer " + SCENES[name](issuer).encode()])
    with pytest.raises(Refused) as refused:
        run(flow, server.transport) if world == "sync" else asyncio.run(
            arun(flow, server.transport)
        )
    canaries.look("traceback", _with_locals(refused.value))
    assert canaries.seen_in == []


@pytest.mark.parametrize("world", ["asyncio", "sync"])
def test_a_failed_exchange_shows_no_secret_in_its_traceback(canaries: Canaries, world: str) -> None:
    """What is raised over the network carries no frame of the HTTP client, nor a chain to one."""
    import socket

    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{unused.getsockname()[1]}/introspect"
    settings = Settings(
        audience="api",
        introspection_url=url,
        client_id="id",
        client_secret=SECRETS["client_secret"],
        client_auth="client_secret_post",
        allow_insecure_http=True,
    )
    server = ResourceServer(settings)
    flow = server.authenticate([b"Bearer token"])

    async def main() -> None:
        try:
            await arun(flow, server.transport)
        finally:
            await server.aclose()

    with pytest.raises(Refused) as refused:
        run(flow, server.transport) if world == "sync" else asyncio.run(main())
    text = _with_locals(refused.value)
    canaries.look("traceback", text)
    server.close()
    assert "httpcore" not in text
    assert canaries.seen_in == []


@pytest.mark.parametrize(
    "mistake",
    [
        {"audience": None},
        {"leeway": "canary"},
        {"hmac_secret": SECRETS["client_secret"], "jwks_url": "https://k.test/"},
        {"client_auth": "none"},
        {"client_auth": "client_secret_jwt", "client_id": None},
        {"fleet_secret": ""},
        {"hmac_secret": "canary-short"},
    ],
    ids=str,
)
def test_mistakes_in_the_settings_do_not_show_secrets(
    canaries: Canaries, mistake: dict[str, Any]
) -> None:
    """The text of a ConfigError, its mistakes and its representation."""
    canaries.texts.add("canary-short")
    issuer = Issuer(client_secret=SECRETS["client_secret"])
    with pytest.raises(ConfigError) as wrong:
        Settings(**issuer.settings(**{**SECRETS, **mistake}))
    error = wrong.value
    canaries.look("error", f"{error} {error!r} {error.mistakes} {error.args}")
    assert canaries.seen_in == []


def test_an_application_that_fails_shows_no_secret(canaries: Canaries) -> None:
    """Its traceback goes through the middlewares, whose locals are few."""
    issuer = Issuer(client_secret=SECRETS["client_secret"])
    server = ResourceServer(Settings(**issuer.settings()), transport=issuer.transport())

    def application(environ: Any, start_response: Any) -> list[bytes]:
        raise LookupError("of the application")

    environ = {
        "REQUEST_METHOD": "GET",
        "PATH_INFO": "/",
        "HTTP_AUTHORIZATION": f"Bearer {issuer.jwt()}",
    }
    with pytest.raises(LookupError) as failed:
        WSGIBearerMiddleware(application, server=server)(environ, lambda *_: None)
    canaries.look("traceback", _with_locals(failed.value))
    assert canaries.seen_in == []
