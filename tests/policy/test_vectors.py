"""The decisions of AuthZEN's interoperability scenarios, through the whole middleware: a policy
that knows nothing but the vectors is asked exactly what they ask.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from bearer_middleware.policy.model import AccessRequest, Resource, information
from tests.contract.wire import ISSUER, bearer
from tests.policy.conftest import over_asgi, over_wsgi, policed

FOLDER = Path(__file__).parents[3] / "shared" / "vectors" / "authzen"
KEY = "bearer_middleware.authorizer"

pytestmark = pytest.mark.needs("../shared/vectors/authzen")


def _vectors(name: str) -> list[Any]:
    file = FOLDER / name
    return json.loads(file.read_text())["evaluation"] if file.exists() else []


def _known(vectors: list[Any]) -> Any:
    """Decides as the vectors do, and nothing else; what they do not tell is left out."""
    expected = {_text(vector["request"]): vector["expected"] for vector in vectors}

    def policy(request: AccessRequest) -> bool | None:
        asked = information(request)
        asked["subject"].pop("properties", None)
        asked.pop("context", None)
        return expected.get(_text(asked))

    return policy


def _text(request: dict[str, Any]) -> str:
    return json.dumps(request, sort_keys=True)


def _token(kind: str, subject: str) -> Any:
    return bearer(ISSUER.jwt(sub=subject) if kind == "jwt" else ISSUER.opaque(sub=subject))


GATEWAY = _vectors("gateway-decisions.json")
TODO = _vectors("decisions-authorization-api-1_0-02.json")


@pytest.mark.parametrize("kind", ["jwt", "opaque"])
def test_gateways(around: Any, kind: str) -> None:
    """AZ-10: method and template, of a subject of type ``identity``."""
    rows = {(v["request"]["action"]["name"], v["request"]["resource"]["id"]) for v in GATEWAY}
    routes = [{"method": method, "path": path} for method, path in sorted(rows)]
    options = {"subject_type": "identity"}
    ask = around(policed(_known(GATEWAY), routes=routes, policy_options=options))
    assert len(GATEWAY) == 25
    for vector in GATEWAY:
        request = vector["request"]
        path = request["resource"]["id"].replace("{userId}", "u:1").replace("{todoId}", "t 1")
        headers = _token(kind, request["subject"]["id"])
        reply = ask(path, headers, method=request["action"]["name"])
        assert reply.status == (204 if vector["expected"] else 403), request


@pytest.mark.parametrize("kind", ["jwt", "opaque"])
@pytest.mark.parametrize("world", ["asgi", "wsgi"])
def test_todos(world: str, kind: str) -> None:
    """AZ-1: what a handler asks, with the properties of its resource."""
    current: list[Any] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await scope[KEY].require(*current)
        await send({"type": "http.response.start", "status": 204, "headers": []})
        await send({"type": "http.response.body", "body": b""})

    def wsgi(environ: Any, start_response: Any) -> list[bytes]:
        environ[KEY].require(*current)
        start_response("204 No Content", [])
        return []

    routes = [{"method": "GET", "path": "/", "policy": False}]
    server = policed(_known(TODO), routes=routes)
    ask = over_asgi(server, app) if world == "asgi" else over_wsgi(server, wsgi)
    assert len(TODO) == 40
    for vector in TODO:
        request = vector["request"]
        resource = request["resource"]
        what = Resource(resource["type"], resource["id"], resource.get("properties", {}))
        current[:] = [request["action"]["name"], what]
        reply = ask("/", _token(kind, request["subject"]["id"]))
        assert reply.status == (204 if vector["expected"] else 403), request
