"""Many callers at once, processes that fork, and what may not exist before the first question."""

from __future__ import annotations

import asyncio
import os
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from bearer_middleware import Settings
from bearer_middleware.flow.drivers import arun, run
from bearer_middleware.flow.transport import HttpTransport
from bearer_middleware.policy.authzen import AuthZEN
from bearer_middleware.policy.model import AccessRequest, Action, Resource, Subject
from bearer_middleware.policy.opa import Opa
from bearer_middleware.policy.opening import open_point
from bearer_middleware.policy.permit import Permit
from bearer_middleware.policy.point import Surroundings

WELL_KNOWN = "/.well-known/authzen-configuration"


def asked(number: int) -> AccessRequest:
    """May alice read this one? Even ones she may."""
    return AccessRequest(Subject("user", "alice"), Action("read"), Resource("doc", str(number)))


@pytest.fixture
def even(pdp: Any) -> Any:
    """A decision point that permits what is even, and takes its time to say where it is."""

    def metadata(seen: Any) -> Any:
        time.sleep(0.1)
        told = {
            "policy_decision_point": pdp.url,
            "access_evaluation_endpoint": f"{pdp.url}/one",
        }
        return pdp.wire(told)

    pdp.answers = {
        WELL_KNOWN: metadata,
        "/one": lambda seen: pdp.wire({"decision": int(seen.json["resource"]["id"]) % 2 == 0}),
    }
    return pdp


def test_threads_discover_once_and_get_each_their_own_answer(even: Any) -> None:
    """AZ-6. One fetch, however many wait for it."""
    point, transport = AuthZEN(even.url, timeout=30), HttpTransport()
    with ThreadPoolExecutor(16) as pool:
        decide = lambda number: run(point.decide(asked(number), even.soon()), transport)  # noqa: E731
        decisions = list(pool.map(decide, range(64)))
    transport.close()
    assert [d.permitted for d in decisions] == [number % 2 == 0 for number in range(64)]
    assert even.paths.count(WELL_KNOWN) == 1


def test_tasks_discover_once_and_get_each_their_own_answer(even: Any) -> None:
    """AZ-6. On a loop as well; one that is cancelled takes nobody with it."""
    point = AuthZEN(even.url, timeout=30)

    async def go() -> list[Any]:
        transport = HttpTransport()
        tasks = [
            asyncio.create_task(arun(point.decide(asked(number), even.soon()), transport))
            for number in range(64)
        ]
        while WELL_KNOWN not in even.paths:  # noqa: ASYNC110 - it is filled by a thread
            await asyncio.sleep(0.001)
        tasks[0].cancel()  # it leads
        done = await asyncio.gather(*tasks, return_exceptions=True)
        await transport.aclose()
        return done

    first, *decisions = asyncio.run(go())
    assert isinstance(first, asyncio.CancelledError)
    assert [d.permitted for d in decisions] == [number % 2 == 0 for number in range(1, 64)]
    assert even.paths.count(WELL_KNOWN) <= 2


BUILDERS: dict[str, Callable[[str], Any]] = {
    "authzen": lambda url: AuthZEN(url, timeout=30),
    "permit": lambda url: Permit(url, timeout=30),
    "opa": lambda url: Opa(url, decision_path="a/allow", timeout=30),
}


@pytest.mark.parametrize("build", BUILDERS.values(), ids=BUILDERS)
def test_building_one_makes_nothing_live(
    build: Callable[[str], Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """No lock, no thread, no loop, no connection: it is built before the process forks."""

    def never(*arguments: Any, **keywords: Any) -> Any:
        raise AssertionError("made too early")

    for name in ("Lock", "RLock", "Thread", "Condition", "Event"):
        monkeypatch.setattr(threading, name, never)
    monkeypatch.setattr("socket.socket.connect", never)
    assert build("https://pdp.example").name


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_a_forked_child_asks_for_itself(even: Any, in_child: Any) -> None:
    """What was learnt goes along, what is under way does not."""
    point, transport = AuthZEN(even.url, timeout=30), HttpTransport()
    assert run(point.decide(asked(2), even.soon()), transport).permitted

    def permitted(number: int) -> bool:
        return run(point.decide(asked(number), even.soon()), transport).permitted

    assert in_child(lambda: [permitted(number) for number in (1, 2)] == [False, True]) == 0
    transport.close()
    assert even.paths.count(WELL_KNOWN) == 1


def test_it_is_opened_from_variables(pdp: Any, ask: Any) -> None:
    """As whoever deploys it writes it: options are JSON, the token is in a file."""
    pdp.answers["/v1/data/a/allow"] = {"result": True}
    settings = Settings.from_env(
        {
            "BEARER_ISSUER": "https://as.example",
            "BEARER_AUDIENCE": "api",
            "BEARER_POLICY": "opa",
            "BEARER_POLICY_URL": pdp.url,
            "BEARER_POLICY_TOKEN": "s3cret",
            "BEARER_POLICY_TIMEOUT": "30s",
            "BEARER_POLICY_OPTIONS": '{"decision_path": "a/allow"}',
        }
    )
    point = open_point(settings, Surroundings())
    assert point is not None
    assert ask(point.decide(asked(1), pdp.soon())).permitted
    assert pdp.seen[0].headers["authorization"] == "Bearer s3cret"


def test_a_source_of_tokens_is_known_as_an_extension() -> None:
    """It may need an event loop, so whoever builds a WSGI middleware has to know of it."""

    async def token() -> str:
        return "s3cret"

    url = "https://pdp.example"
    for point in (AuthZEN(url, token=token), Permit(url, token=token)):
        assert point.extensions == (token,)
    assert Opa(url, decision_path="a", token="s3cret").extensions == ()


def test_a_source_of_tokens_may_be_asynchronous(pdp: Any) -> None:
    """It runs where the question is asked."""
    pdp.answers["/allowed"] = {"allow": True}

    async def token() -> str:
        await asyncio.sleep(0)
        return "s3cret"

    async def go() -> Any:
        transport = HttpTransport()
        decision = await arun(
            Permit(pdp.url, token=token, timeout=30).decide(asked(1), pdp.soon()), transport
        )
        await transport.aclose()
        return decision

    assert asyncio.run(go()).permitted
    assert pdp.seen[0].headers["authorization"] == "Bearer s3cret"
