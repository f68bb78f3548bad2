"""Functions of the user's as decision points."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Generator
from typing import Any

import anyio
import pytest

from bearer_middleware.access.extensions import refuse_async
from bearer_middleware.errors import ConfigError
from bearer_middleware.flow.drivers import arun, run
from bearer_middleware.policy.combined import AllOf
from bearer_middleware.policy.function import FunctionPoint, extensions_of
from bearer_middleware.policy.local import LocalPolicy
from bearer_middleware.policy.model import AccessRequest, Decision, Effect
from bearer_middleware.policy.point import AtOnce
from tests.policy.asking import ask

SAID = [
    (True, Effect.PERMIT),
    (False, Effect.DENY),
    (None, Effect.NOT_APPLICABLE),
    (Decision(effect=Effect.PERMIT), Effect.PERMIT),
    (Decision(effect=Effect.DENY), Effect.DENY),
    (1, Effect.INDETERMINATE),
    ("true", Effect.INDETERMINATE),
    ([True], Effect.INDETERMINATE),
    (Effect.PERMIT, Effect.INDETERMINATE),
    (ValueError("SECRET"), Effect.INDETERMINATE),
]


def plain(said: Any) -> Callable[[AccessRequest], Any]:
    """A plain function that says so."""

    def decide(request: AccessRequest) -> Any:
        if isinstance(said, Exception):
            raise said
        return said

    return decide


def asynchronous(said: Any) -> Callable[[AccessRequest], Any]:
    """An ``async`` one."""

    async def decide(request: AccessRequest) -> Any:
        await asyncio.sleep(0)
        return plain(said)(request)

    return decide


def flowing(said: Any) -> Callable[[AccessRequest], Any]:
    """A flow."""

    def decide(request: AccessRequest) -> Generator[Any, Any, Any]:
        yield from ()
        return plain(said)(request)

    return decide


@pytest.mark.parametrize(("said", "effect"), SAID)
def test_only_true_permits(said: Any, effect: Effect, caplog: pytest.LogCaptureFixture) -> None:
    """AZ-2: in every colour, and nothing of what was raised is told."""
    point = FunctionPoint(plain(said))
    assert isinstance(point, AtOnce)
    assert point.judge(ask()).effect is effect
    assert run(point.decide(ask(), 1e9)).effect is effect
    for make in (asynchronous, flowing):
        point = FunctionPoint(make(said), name="mine")
        assert not isinstance(point, AtOnce)
        several = asyncio.run(arun(point.decide_many([ask(), ask()], 1e9)))
        assert [each.effect for each in several] == [effect, effect]
    assert "SECRET" not in caplog.text
    assert "mine" in repr(point)


def test_what_nobody_awaits_is_undecided() -> None:
    """A plain function that returns a coroutine is no permit; nor does it leave a warning."""
    later = asynchronous(True)
    point = FunctionPoint(lambda request: later(request))  # noqa: PLW0108 - it looks plain
    assert point.judge(ask()).effect is Effect.INDETERMINATE


def test_async_ones_are_refused_where_nothing_awaits_them() -> None:
    """As other extensions of the user's are, also as a part of others."""
    point = AllOf(LocalPolicy({}), FunctionPoint(asynchronous(True)))
    with pytest.raises(ConfigError, match="async"):
        refuse_async(extensions_of(point))
    refuse_async(extensions_of(FunctionPoint(plain(True))))
    refuse_async(extensions_of(LocalPolicy({})))


@pytest.mark.parametrize("library", ["asyncio", "trio"])
def test_an_async_one_that_hangs(library: str) -> None:
    """AZ-4. Nobody waits longer than for any other decision point, and nothing is left behind."""
    ended = []

    async def decide(request: AccessRequest) -> bool:
        try:
            await anyio.sleep(3600)
        finally:
            ended.append(True)
        return True

    async def one() -> Decision:
        deadline = time.monotonic() + 0.05
        return await arun(FunctionPoint(decide).decide(ask(), deadline))

    assert anyio.run(one, backend=library).effect is Effect.INDETERMINATE
    assert ended == [True]
