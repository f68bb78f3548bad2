"""Decision points that misbehave, through the whole middleware, in every world: the caller gets a
503 that says nothing, or what the rule says; never a pass.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from bearer_middleware import ConfigError, ResourceServer, Settings
from bearer_middleware.audit.record import Record
from bearer_middleware.flow.transport import _http
from tests.contract.wire import ISSUER
from tests.policy.conftest import asgi_app, over_asgi, over_wsgi, token

#: As the middleware has it: either of two libraries of the same kind.
httpx: Any = _http()
PDP = "pdp.example"
DEBUG = "rule data.internal.secret_rule"
ROUTES: list[dict[str, Any]] = [
    {"method": "GET", "path": "/todos/{id}", "action": "read", "resource": "todo:{id}"},
    {"method": "GET", "path": "/open/{id}", "on_error": "allow"},
]
#: By kind: its settings, and the member that says yes.
ADAPTERS: dict[str, tuple[dict[str, Any], str]] = {
    "authzen": ({"policy_options": {"discovery": "false"}}, "decision"),
    "permit": ({}, "allow"),
    "opa": ({"policy_options": {"decision_path": "app/allow"}}, "result"),
}
Answer = Callable[[Any, str], Any]


def _raising(failure: Any) -> Answer:
    def answer(request: Any, yes: str) -> Any:
        raise failure(DEBUG, request=request)

    return answer


def _saying(status: int, body: Any = None, **headers: str) -> Answer:
    def answer(request: Any, yes: str) -> Any:
        said = {yes: True, "debug": DEBUG} if body is None else body
        if isinstance(said, dict) and "YES" in said:
            said = {yes: said["YES"], "debug": DEBUG}
        data = said if isinstance(said, bytes) else json.dumps(said).encode()
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        told = {"content-type": "application/json", **named}
        return httpx.Response(status, content=data, headers=told)

    return answer


FAULTS: dict[str, Answer] = {
    "slow": _raising(httpx.ReadTimeout),
    "away": _raising(httpx.ConnectError),
    "gone in the middle": _raising(httpx.RemoteProtocolError),
    **{f"status {status}": _saying(status) for status in (201, 204, 400, 401, 403, 404, 429)},
    **{f"status {status}": _saying(status) for status in (500, 502, 503)},
    "redirect": _saying(307, location="https://elsewhere.example/yes"),
    "megabytes": _saying(200, b'{"x": "' + b"x" * 2_000_000 + b'"}'),
    "a string": _saying(200, {"YES": "true"}),
    "a number": _saying(200, {"YES": 1}),
    "null": _saying(200, {"YES": None}),
    "a list": _saying(200, [True]),
    "a page": _saying(200, b"<html>" + DEBUG.encode(), content_type="text/html"),
    "half of it": _saying(200, b'{"decision": true, "allow": true, "result": tr'),
    "twice": _saying(200, b'{"decision":true,"decision":true,"allow":true,"allow":true}'),
}


class Network(httpx.BaseTransport, httpx.AsyncBaseTransport):  # type: ignore[misc]
    """The issuer, and a decision point that answers as it is told."""

    def __init__(self, answer: Answer, yes: str) -> None:
        self._issuer: Any = ISSUER.transport()
        self._answer, self._yes = answer, yes
        self.asked = 0

    def handle_request(self, request: Any) -> Any:
        if request.url.host != PDP:
            return self._issuer.handle_request(request)
        request.read()
        self.asked += 1
        return self._answer(request, self._yes)

    async def handle_async_request(self, request: Any) -> Any:
        if request.url.host != PDP:
            return await self._issuer.handle_async_request(request)
        await request.aread()
        self.asked += 1
        return self._answer(request, self._yes)


class Trail:
    """Keeps what it is told."""

    def __init__(self) -> None:
        self.records: list[Record] = []

    def record(self, record: Record) -> Any:
        yield from ()
        self.records.append(record)


def make(kind: str, answer: Answer, trail: Trail | None = None) -> tuple[ResourceServer, Network]:
    """A server whose decision point misbehaves."""
    more, yes = ADAPTERS[kind]
    network = Network(answer, yes)
    said = {"policy": kind, "policy_url": f"https://{PDP}", "routes": ROUTES, **more}
    settings = Settings(**ISSUER.settings(**said))
    return ResourceServer(settings, transport=network, audit=trail), network


@pytest.mark.parametrize(("yes", "status"), [(True, 204), (False, 403)])
@pytest.mark.parametrize("kind", ADAPTERS)
def test_where_nothing_is_wrong(around: Any, kind: str, yes: bool, status: int) -> None:
    """So that what follows is about what it says."""
    server, _ = make(kind, _saying(200, {"YES": yes}))
    assert around(server)("/todos/1", token(sub="alice")).status == status


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("kind", ADAPTERS)
def test_503(around: Any, kind: str, fault: str) -> None:
    """AZ-2, AZ-4: none of that is a decision; Retry-After, no challenge, and not a word of it."""
    server, network = make(kind, FAULTS[fault])
    reply = around(server)("/todos/1", token(sub="alice"))
    if (kind, fault) == ("opa", "twice"):  # there the names say nothing: no result, no rule
        assert reply.status in (403, 503)
    else:
        assert (reply.status, reply.challenge) == (503, None)
        assert int(reply.header("retry-after") or 0) >= 1
    assert "secret_rule" not in f"{reply.body!r} {reply.headers}"
    assert network.asked >= 1


@pytest.mark.parametrize("fault", ["slow", "away", "status 500", "a string", "megabytes"])
@pytest.mark.parametrize("kind", ADAPTERS)
def test_the_own_choice_of_a_rule(around: Any, kind: str, fault: str) -> None:
    """A row that says ``allow`` lets the request on, and the trail says that it failed open."""
    trail = Trail()
    server, _ = make(kind, FAULTS[fault], trail)
    reply = around(server)("/open/1", token(sub="alice"))
    assert reply.status == 204
    assert [record.outcome for record in trail.records] == ["fail_open"]
    assert "secret_rule" not in repr(trail.records)


def _batch(yes: str, answers: int) -> Any:
    one = {yes: True}
    many = {"decision": {"evaluations": [one] * answers}, "allow": {"allow": [one] * answers}}
    return many[yes]


@pytest.mark.parametrize(("answers", "left"), [(0, []), (2, [0, 1]), (3, [0, 1, 2]), (4, None)])
@pytest.mark.parametrize("kind", ["authzen", "permit"])
@pytest.mark.parametrize("world", ["asgi", "wsgi"])
def test_batches(world: str, kind: str, answers: int, left: list[int] | None) -> None:
    """AZ-5: what a shorter batch leaves out is denied; a longer one is no answer to anything."""
    yes = ADAPTERS[kind][1]

    def answer(request: Any, _: str) -> Any:
        path = request.url.path
        many = path.endswith(("evaluations", "bulk"))
        return httpx.Response(200, json=_batch(yes, answers) if many else {yes: True})

    server, _ = make(kind, answer)
    seen: list[Any] = []

    async def filtering(scope: Any, receive: Any, send: Any) -> None:
        authorizer = scope["bearer_middleware.authorizer"]
        seen.append(await authorizer.filter("read", range(3), key=lambda n: f"todo:{n + 5}"))
        await asgi_app(scope, receive, send)

    def filtering_plainly(environ: Any, start_response: Any) -> list[bytes]:
        authorizer = environ["bearer_middleware.authorizer"]
        seen.append(authorizer.filter("read", range(3), key=lambda n: f"todo:{n + 5}"))
        start_response("204 No Content", [])
        return []

    ask: Any = over_asgi(server, filtering)
    if world == "wsgi":
        ask = over_wsgi(server, filtering_plainly)
    reply = ask("/todos/1", token(sub="alice"))
    assert reply.status == (503 if left is None else 204)
    assert seen == ([] if left is None else [left])


@pytest.mark.parametrize("kind", ADAPTERS)
def test_ids_are_data(around: Any, kind: str) -> None:
    """What a path names reaches the decision point as it is, or not at all."""
    bodies: list[bytes] = []

    def answer(request: Any, yes: str) -> Any:
        bodies.append(request.content)
        return httpx.Response(200, json={yes: False})

    server, _ = make(kind, answer)
    ask = around(server)
    for odd in ('1", "type": "admin', "doc:1", "{id}", "$resource.id", "' or 1 == 1"):
        assert ask(f"/todos/{odd}", token(sub="alice")).status == 403
        assert json.dumps(odd) in bodies[-1].decode()
    asked = len(bodies)
    assert ask(f"/todos/{'a' * 257}", token(sub="alice")).status == 403
    assert len(bodies) == asked


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ('[[routes]]\nmethod = "GET"\npath = "a"\n', "line 1"),
        ('realm = "x"\n\n[[routes]]\nmethod = "GET"\npath = "/a"\nacton = "x"\n', "line 3"),
        (
            '[[routes]]\nmethod = "GET"\npath = "/a"\n[[routes]]\nmethod = "get"\npath = "/"',
            "line 4",
        ),
    ],
)
def test_tables_that_are_wrong(tmp_path: Any, text: str, line: str) -> None:
    """A ConfigError, which names the line of the row."""
    file = tmp_path / "bearer.toml"
    file.write_text(text)
    with pytest.raises(ConfigError, match=line):
        Settings.from_env({}, **ISSUER.settings(config_file=str(file)))


@pytest.mark.parametrize("kind", ["local", "cedar", "casbin", "rego"])
def test_policies_that_are_wrong(tmp_path: Any, kind: str) -> None:
    """A ConfigError, which names the line of the policy and quotes nothing of it."""
    text = {
        "local": '[[rules]]\nname = "a"\neffect = "secret_rule"\n',
        "cedar": "permit(principal, action, resource);\nsecret_rule!\n",
        "casbin": "p, alice, todo, read\nsecret_rule\n",
        "rego": "package authz\n\nallow := secret_rule(\n",
    }[kind]
    file = tmp_path / "policy"
    file.write_text(text)
    model = tmp_path / "model"
    model.write_text(
        "[request_definition]\nr = sub, obj, act\n[policy_definition]\np = sub, obj, act\n"
        "[policy_effect]\ne = some(where (p.eft == allow))\n"
        "[matchers]\nm = r.sub == p.sub && r.obj == p.obj && r.act == p.act\n"
    )
    options = {"policy_options": {"model": str(model)}} if kind == "casbin" else {}
    with pytest.raises(ConfigError, match=r"line \d") as wrong:
        ResourceServer(Settings(**ISSUER.settings(policy=kind, policy_file=str(file), **options)))
    assert "secret_rule" not in str(wrong.value)
