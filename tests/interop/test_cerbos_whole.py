"""AuthZEN's interop scenarios through the whole middleware: a token comes in, a real Cerbos
decides, and the status says what it decided.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import anyio
import httpx
import pytest

from bearer_middleware import ResourceServer, Settings
from bearer_middleware.testing import Issuer
from tests.interop import todo_api
from tests.interop.test_cerbos import GATEWAY, TODO, cases

pytestmark = pytest.mark.needs("../shared/vectors/authzen", "flask")

#: A request to the API: method, path, token.
Asked = tuple[str, str, str]
_PATIENT = 60.0
#: What a case of the scenario is, as a request.
_WAYS = {
    "can_read_user": "GET /users/{id}",
    "can_read_todos": "GET /todos",
    "can_create_todo": "POST /todos",
    "can_update_todo": "PUT /todos/{id}",
    "can_delete_todo": "DELETE /todos/{id}",
}
_BETH = "CiRmZDM2MTRkMy1jMzlhLTQ3ODEtYjdiZC04Yjk2ZjVhNTEwMGQSBWxvY2Fs"


@pytest.fixture(scope="module")
def issuer() -> Iterator[Issuer]:
    """On loopback, as the decision point is."""
    with Issuer().serve() as issuer:
        yield issuer


@pytest.fixture(params=["jwt", "opaque"])
def mint(request: pytest.FixtureRequest, issuer: Issuer) -> Callable[[str], str]:
    """A token of somebody: signed, or to be introspected."""
    make = getattr(issuer, request.param)
    return lambda subject: str(make(sub=subject))


@pytest.fixture
def serve(issuer: Issuer, tmp_path: Path) -> Callable[..., ResourceServer]:
    """A server whose table of routes is in its TOML file."""

    def make(url: str, routes: str, **more: Any) -> ResourceServer:
        file = tmp_path / "bearer.toml"
        file.write_text(routes)
        settings = issuer.settings(
            config_file=str(file), policy="authzen", policy_url=url, policy_timeout=30, **more
        )
        return ResourceServer(Settings(**settings))

    return make


async def _all_over_asgi(
    server: ResourceServer, app: Any, asked: list[Asked]
) -> list[httpx.Response]:
    through = httpx.ASGITransport(app)
    try:
        async with httpx.AsyncClient(transport=through, base_url="http://api") as client:
            return [
                await client.request(method, path, headers={"Authorization": f"Bearer {token}"})
                for method, path, token in asked
            ]
    finally:
        await server.aclose()  # its clients belong to this loop


def _over_asgi(
    backend: str, server: ResourceServer, app: Any, asked: list[Asked]
) -> list[httpx.Response]:
    return anyio.run(_all_over_asgi, server, app, asked, backend=backend)


def _over_wsgi(server: ResourceServer, app: Any, asked: list[Asked]) -> list[httpx.Response]:
    try:
        with httpx.Client(transport=httpx.WSGITransport(app), base_url="http://api") as client:
            return [
                client.request(method, path, headers={"Authorization": f"Bearer {token}"})
                for method, path, token in asked
            ]
    finally:
        server.close()


#: By world: how to ask there, the API, and what stands behind a gateway.
_WORLDS: dict[str, tuple[Callable[..., Any], Callable[..., Any], Callable[..., Any]]] = {
    "asgi": (partial(_over_asgi, "asyncio"), todo_api.asgi, todo_api.bare_asgi),
    "asgi-trio": (partial(_over_asgi, "trio"), todo_api.asgi, todo_api.bare_asgi),
    "wsgi": (_over_wsgi, todo_api.wsgi, todo_api.bare_wsgi),
}


def in_world(name: str, server: ResourceServer, owners: dict[str, str] | None) -> Any:
    """Asks the API behind a server; without owners, what stands behind a gateway."""
    drive, whole, bare = _WORLDS[name]
    return partial(drive, server, bare(server) if owners is None else whole(server, owners))


@pytest.fixture(params=_WORLDS)
def api(request: pytest.FixtureRequest) -> Callable[..., Any]:
    """The same, in each world."""
    return partial(in_world, request.param)


def owners_of(scenario: list[dict[str, Any]]) -> dict[str, str]:
    """Whose todos there are."""
    resources = [case["request"]["resource"] for case in scenario]
    return {one["id"]: one["properties"]["ownerID"] for one in resources if "properties" in one}


def asked_of(case: dict[str, Any], mint: Callable[[str], str]) -> Asked:
    """The request to the Todo API that is this question."""
    told = case["request"]
    method, _, path = _WAYS[told["action"]["name"]].partition(" ")
    return method, path.format(id=told["resource"]["id"]), mint(told["subject"]["id"])


def statuses(scenario: list[dict[str, Any]]) -> list[int]:
    """What the decisions are to a caller."""
    return [200 if case["expected"] else 403 for case in scenario]


def test_todo(cerbos: str, serve: Any, api: Any, mint: Any) -> None:
    """AZ-1, AZ-2, AZ-6: forty requests, forty right answers; a denial says nothing about why."""
    scenario = cases(TODO, "evaluation")
    assert len(scenario) == 40
    ask = api(serve(cerbos, todo_api.ROUTES), owners_of(scenario))
    answers = ask([asked_of(case, mint) for case in scenario])
    assert [answer.status_code for answer in answers] == statuses(scenario)
    for answer in answers:
        if answer.status_code == 403:
            assert answer.headers["content-type"] == "application/problem+json"
            assert "www-authenticate" not in answer.headers
            assert answer.json() == {"status": 403, "title": "Forbidden"}


def test_todo_batches(cerbos: str, serve: Any, api: Any, mint: Any) -> None:
    """AZ-5: the boxcars of the scenario, as what a handler filters."""
    scenario, batches = cases(TODO, "evaluation"), cases(TODO, "evaluations")
    assert len(batches) == 3
    ask = api(serve(cerbos, todo_api.ROUTES), owners_of(scenario))
    asked, wanted = [], []
    for case in batches:
        ids = [item["resource"]["id"] for item in case["request"]["evaluations"]]
        said = [item["decision"] for item in case["expected"]]
        path = f"/changeable/{','.join(ids)}"
        asked.append(("GET", path, mint(case["request"]["subject"]["id"])))
        wanted.append([one for one, may in zip(ids, said, strict=True) if may])
    assert [answer.json() for answer in ask(asked)] == wanted


def test_gateway(cerbos: str, serve: Any, api: Any, mint: Any) -> None:
    """AZ-10: routes without action and resource, all twenty-five decisions."""
    scenario = cases(GATEWAY, "evaluation")
    assert len(scenario) == 25
    options = json.dumps({"subject_type": "identity"})
    ask = api(serve(cerbos, todo_api.GATEWAY_ROUTES, policy_options=options), None)
    asked = []
    for case in scenario:
        told = case["request"]
        path = told["resource"]["id"].format(userId="morty@the-citadel.com", todoId="7")
        asked.append((told["action"]["name"], path, mint(told["subject"]["id"])))
    answers = ask(asked)
    assert [answer.status_code for answer in answers] == statuses(scenario)


def test_who_shows_no_token_reaches_nobody(cerbos: str, serve: Any, api: Any) -> None:
    """STEP-2: first the token, then the policy; a stranger's todo is no question of theirs."""
    ask = api(serve(cerbos, todo_api.ROUTES), {})
    answers = ask([("GET", "/todos", "not-a-token"), ("GET", "/elsewhere", "not-a-token")])
    assert [answer.status_code for answer in answers] == [401, 401]


def test_the_policy_changes_while_the_tokens_live(
    changing_cerbos: tuple[str, Path], serve: Any, issuer: Issuer
) -> None:
    """AZ-2: Beth becomes an editor and ceases to be one, with the same two tokens, everywhere."""
    url, policies = changing_cerbos
    servers = {name: serve(url, todo_api.ROUTES) for name in _WORLDS}
    asks = [in_world(name, server, {}) for name, server in servers.items()]
    creates = [("POST", "/todos", mint(sub=_BETH)) for mint in (issuer.jwt, issuer.opaque)]

    def got() -> set[int]:
        return {answer.status_code for ask in asks for answer in ask(creates)}

    roles = policies / "derived_roles.yaml"
    before = roles.read_text()
    after = before.replace("      editors:\n", f"      editors:\n        - {_BETH}\n")
    assert after != before
    assert got() == {403}
    for text, wanted in ((after, {200}), (before, {403})):
        roles.write_text(text)
        assert _until(wanted, got) == wanted


def _until(wanted: set[int], got: Callable[[], set[int]]) -> set[int]:
    """What there was last: as soon as it is what is wanted, and after a minute anyway."""
    deadline = time.monotonic() + _PATIENT
    while (last := got()) != wanted and time.monotonic() < deadline:
        time.sleep(0.1)
    return last
