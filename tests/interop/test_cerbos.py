"""AuthZEN's interop scenarios, decided by a real Cerbos that our adapter asks."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import trio

from bearer_middleware.flow.drivers import arun, run
from bearer_middleware.flow.transport import HttpTransport
from bearer_middleware.policy.authzen import AuthZEN
from bearer_middleware.policy.model import AccessRequest, Action, Effect, Resource, Subject

VECTORS = Path(__file__).parents[3] / "shared/vectors/authzen"
TODO = VECTORS / "decisions-authorization-api-1_0-02.json"
GATEWAY = VECTORS / "gateway-decisions.json"
PATIENT = 30.0

pytestmark = pytest.mark.skipif(not VECTORS.is_dir(), reason=f"no test vectors at {VECTORS}")

Ask = Callable[[Any], Any]


@pytest.fixture(params=["sync", "asyncio", "trio"])
def ask(request: pytest.FixtureRequest) -> Ask:
    """Drive a flow over the real network, in each world."""

    async def asynchronously(flow: Any) -> Any:
        transport = HttpTransport()
        try:
            return await arun(flow, transport)
        finally:
            await transport.aclose()

    def synchronously(flow: Any) -> Any:
        transport = HttpTransport()
        try:
            return run(flow, transport)
        finally:
            transport.close()

    drivers: dict[str, Ask] = {
        "sync": synchronously,
        "asyncio": lambda flow: asyncio.run(asynchronously(flow)),
        "trio": lambda flow: trio.run(asynchronously, flow),
    }
    return drivers[request.param]


def cases(path: Path, kind: str) -> list[dict[str, Any]]:
    """The decisions of a scenario; none where the folder is absent."""
    return json.loads(path.read_bytes())[kind] if path.exists() else []


def request_of(told: dict[str, Any]) -> AccessRequest:
    """The request of a case."""
    return AccessRequest(
        Subject(**told["subject"]),
        Action(**told["action"]),
        Resource(**told["resource"]),
        told.get("context", {}),
    )


def soon() -> float:
    """A patient deadline: nothing is measured here."""
    return time.monotonic() + PATIENT


def one_by_one(point: AuthZEN, requests: list[AccessRequest]) -> Any:
    """Each with an exchange of its own."""
    decisions = []
    for request in requests:
        decisions.append((yield from point.decide(request, soon())))  # noqa: PERF401
    return decisions


def effects(decisions: list[Any]) -> list[Effect]:
    """What was decided."""
    return [decision.effect for decision in decisions]


def expected(answers: list[bool]) -> list[Effect]:
    """In our words."""
    return [Effect.PERMIT if answer else Effect.DENY for answer in answers]


@pytest.mark.parametrize(("path", "count"), [(TODO, 40), (GATEWAY, 25)], ids=["todo", "gateway"])
@pytest.mark.parametrize("together", [False, True], ids=["each", "batch"])
def test_every_decision_of_the_scenario(
    cerbos: str, ask: Ask, path: Path, count: int, together: bool
) -> None:
    """AZ-1, AZ-5, AZ-6, AZ-10. Discovered, asked and answered as published."""
    scenario = cases(path, "evaluation")
    assert len(scenario) == count
    point = AuthZEN(cerbos, timeout=PATIENT, batch_size=16)
    requests = [request_of(case["request"]) for case in scenario]
    flow = point.decide_many(requests, soon()) if together else one_by_one(point, requests)
    decisions = ask(flow)
    assert effects(decisions) == expected([case["expected"] for case in scenario])


def test_batches_of_the_scenario(cerbos: str, ask: Ask) -> None:
    """AZ-5. Boxcars, with the defaults of the scenario put into each question."""
    point = AuthZEN(cerbos, timeout=PATIENT)
    for case in cases(TODO, "evaluations"):
        told = dict(case["request"])
        items = told.pop("evaluations")
        decisions = ask(point.decide_many([request_of({**told, **item}) for item in items], soon()))
        wanted = [item["decision"] for item in case["expected"]]
        assert effects(decisions) == expected(wanted)


def test_a_stranger_is_denied(cerbos: str, ask: Ask) -> None:
    """Who is not of the household may nothing, whatever the id holds."""
    point = AuthZEN(cerbos, timeout=PATIENT)
    hostile = ['x" || true', "\u202e\0", "*", "a:b"]
    requests = [
        AccessRequest(Subject("user", name), Action("can_read_todos"), Resource("todo", name))
        for name in hostile
    ]
    assert effects(ask(point.decide_many(requests, soon()))) == [Effect.DENY] * len(hostile)


def test_what_it_does_not_have_is_said(cerbos: str, ask: Ask) -> None:
    """AZ-6. Its metadata names no search, so none is asked."""
    point = AuthZEN(cerbos, timeout=PATIENT)
    flow = point.search_actions(Subject("user", "alice"), Resource("todo", "1"), soon())
    assert ask(flow).error == "no_such_endpoint"


def test_another_identifier_is_refused(cerbos: str, ask: Ask) -> None:
    """AZ-6. Its metadata names itself, and that is not whom we asked for."""
    point = AuthZEN(
        f"{cerbos}/elsewhere",
        timeout=PATIENT,
        metadata_url=f"{cerbos}/.well-known/authzen-configuration",
    )
    request = request_of(cases(TODO, "evaluation")[0]["request"])
    decision = ask(point.decide(request, soon()))
    assert decision.effect is Effect.INDETERMINATE
    assert decision.error == "metadata_of_another_decision_point"
