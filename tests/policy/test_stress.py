"""Every engine in this process, asked by many at once: none gets another's answer."""

from __future__ import annotations

import asyncio
import os
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from bearer_middleware.flow.drivers import arun, run
from bearer_middleware.policy.combined import AllOf
from bearer_middleware.policy.rego import RegoPolicy
from tests.policy.asking import OWNERS, OWNERS_REGO, owner_asks

pytestmark = pytest.mark.alone

EACH = pytest.mark.parametrize("name", OWNERS)


def asked(number: int) -> tuple[Any, bool]:
    """Every third asks for what is not its own."""
    owner = f"user {number}"
    return owner_asks(owner if number % 3 else "a stranger", owner), bool(number % 3)


@EACH
def test_threads(name: str) -> None:
    """Eight threads, no wrong answer."""
    point = OWNERS[name]()

    def wrong(first: int) -> int:
        pairs = [asked(number) for number in range(first, first + 150)]
        return sum(point.judge(request).permitted is not wanted for request, wanted in pairs)

    with ThreadPoolExecutor(8) as pool:
        assert sum(pool.map(wrong, range(0, 1_200, 150))) == 0


@EACH
def test_tasks(name: str) -> None:
    """Two hundred tasks of a loop, as flows."""
    point = OWNERS[name]()

    async def ask_all() -> list[bool]:
        pairs = [asked(number) for number in range(200)]
        said = await asyncio.gather(*(arun(point.decide(request, 1e9)) for request, _ in pairs))
        return [
            decision.permitted is wanted for decision, (_, wanted) in zip(said, pairs, strict=True)
        ]

    assert all(asyncio.run(ask_all()))


def test_one_interpreter_serves_one_caller_at_a_time() -> None:
    """One of regopy that four threads shared gave every tenth a wrong decision."""
    point = RegoPolicy(OWNERS_REGO, engine="regopy")
    both = AllOf(point, RegoPolicy(OWNERS_REGO, engine="regopy"))

    def wrong(first: int) -> int:
        pairs = [asked(number) for number in range(first, first + 300)]
        return sum(both.judge(request).permitted is not wanted for request, wanted in pairs)

    with ThreadPoolExecutor(4) as pool:
        assert sum(pool.map(wrong, range(0, 1_200, 300))) == 0


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.filterwarnings("ignore:.*use of fork:DeprecationWarning")
@EACH
def test_forked_children_decide_as_their_parent(name: str, in_child: Any) -> None:
    """Also while threads of the parent are asking."""
    point = OWNERS[name]()
    with ThreadPoolExecutor(2) as pool:
        pending = [pool.submit(point.judge, asked(number)[0]) for number in range(100)]
        status = in_child(
            lambda: all(
                run(point.decide(request, 1e9)).permitted is wanted
                for request, wanted in map(asked, range(20))
            )
        )
        decisions = [future.result() for future in pending]
    assert status == 0
    assert [each.permitted for each in decisions] == [asked(number)[1] for number in range(100)]
