"""A candidate policy that is asked, compared, and never obeyed."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Sequence
from itertools import product
from typing import Any

import pytest

from bearer_middleware.flow.clock import Clock
from bearer_middleware.flow.drivers import arun, run
from bearer_middleware.flow.effects import Background, Flow
from bearer_middleware.policy.function import FunctionPoint
from bearer_middleware.policy.model import AccessRequest, Decision, Effect
from bearer_middleware.policy.point import AtOnce, Surroundings
from bearer_middleware.policy.shadow import Shadow
from tests.policy.asking import ask
from tests.policy.test_combined import Fixed, Remote

EFFECTS = tuple(Effect)


class Raising:
    """A candidate that keeps no promise."""

    name = "raising"

    def decide(self, request: AccessRequest, deadline: float, *, fresh: bool = False) -> Any:
        raise RuntimeError("SECRET")

    def decide_many(
        self, requests: Sequence[AccessRequest], deadline: float, *, fresh: bool = False
    ) -> Flow[list[Decision]]:
        yield from ()
        raise RuntimeError("SECRET")


@pytest.mark.parametrize(("primary", "candidate"), list(product(EFFECTS, EFFECTS)))
def test_the_primary_decides(primary: Effect, candidate: Effect) -> None:
    """Whatever the candidate says; what differs is counted and reported."""
    told: list[Any] = []
    shadow = Shadow(Fixed(primary), Fixed(candidate), lambda *said: told.append(said))
    assert isinstance(shadow, AtOnce)
    request = ask()
    assert shadow.judge(request).effect is primary
    assert run(shadow.decide(request, 1e9)).effect is primary
    assert [each.effect for each in run(shadow.decide_many([request] * 2, 1e9))] == [primary] * 2
    word = "failed" if candidate is Effect.INDETERMINATE else "different"
    assert shadow.counts == {"same" if primary is candidate and word != "failed" else word: 4}
    assert len(told) == (0 if primary is candidate else 4)
    for reported, decision, other in told:
        assert (reported, decision.effect, other.effect) == (request, primary, candidate)


def test_differences_are_logged(caplog: pytest.LogCaptureFixture) -> None:
    """In words of ours."""
    caplog.set_level(logging.INFO, "bearer_middleware")
    Shadow(Fixed(Effect.PERMIT, "old"), Fixed(Effect.DENY, "new")).judge(ask())
    assert "shadow_differed: old says permit, new deny" in caplog.text


def test_a_candidate_or_a_report_that_raises_changes_nothing(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """It is counted, and nothing of it is told."""

    def report(*said: Any) -> None:
        raise ValueError("SECRET")

    shadow = Shadow(Fixed(Effect.PERMIT), Fixed(Effect.DENY), report)
    assert shadow.judge(ask()).permitted
    assert shadow.counts == {"different": 1, "failed": 1}
    apart = Shadow(Fixed(Effect.PERMIT), Raising())
    assert asyncio.run(_settled(apart)).permitted
    assert apart.counts == {"failed": 1}
    assert "SECRET" not in caplog.text


async def _settled(shadow: Shadow) -> Decision:
    decision = await arun(shadow.decide(ask(resource="0"), 1e9))
    for _ in range(100):
        await asyncio.sleep(0)  # the background's turn
    return decision


def test_a_remote_candidate_is_asked_in_the_background() -> None:
    """On a loop and in threads; an async report too."""
    told: list[Any] = []

    async def report(*said: Any) -> None:
        told.append(said)

    shadow = Shadow(Fixed(Effect.PERMIT), Remote(Effect.DENY), report)
    assert not isinstance(shadow, AtOnce)
    assert asyncio.run(_settled(shadow)).permitted
    assert shadow.counts == {"different": 1}
    done = threading.Event()
    shadow = Shadow(Fixed(Effect.PERMIT), Remote(Effect.DENY), lambda *said: done.set())
    assert run(shadow.decide(ask(resource="0"), 1e9)).permitted
    assert done.wait(30)


def test_the_answer_does_not_wait_for_a_remote_candidate() -> None:
    """Its flow is handed over, and not driven by the request; where no thread is left, too."""
    for failure in (None, RuntimeError("can't start new thread")):
        shadow = Shadow(Fixed(Effect.PERMIT), Remote(Effect.DENY))
        flow = shadow.decide(ask(resource="0"), 1e9)
        assert isinstance(next(flow), Background)
        with pytest.raises(StopIteration) as done:
            flow.send(None) if failure is None else flow.throw(failure)
        assert done.value.value.permitted
        assert shadow.counts == ({} if failure is None else {"failed": 1})


def test_only_so_many_questions_are_open() -> None:
    """A candidate that is slow is left out, until those before it have had their time."""
    now = [100.0]
    surroundings = Surroundings(clock=Clock(lambda: now[0], lambda: now[0]))
    shadow = Shadow(Fixed(Effect.PERMIT), Remote(Effect.DENY), surroundings=surroundings)

    def begun() -> bool:
        """Is the candidate asked? Its flow is not driven here, as if it were slow."""
        flow = shadow.decide(ask(resource="0"), 101.0)
        return isinstance(next(flow, None), Background)

    assert [begun() for _ in range(17)] == [True] * 16 + [False]
    assert shadow.counts == {"skipped": 1}
    now[0] = 102.0
    assert begun()


def test_whoever_is_async_is_told() -> None:
    """For WSGI, which refuses such a report when it is built."""

    async def report(*said: Any) -> None:
        """Nothing."""

    def may(request: AccessRequest) -> bool:
        return True

    shadow = Shadow(FunctionPoint(may), FunctionPoint(may), report)
    assert shadow.extensions == (may, may, report)
    assert shadow.name in repr(shadow)


@pytest.mark.parametrize("candidate", [Fixed(Effect.PERMIT), Remote(Effect.PERMIT)])
def test_a_primary_with_a_short_batch(candidate: Any) -> None:
    """AZ-5. What it leaves out is denied, as without a candidate."""

    class Short(Remote):
        def decide_many(self, requests: Any, deadline: float, *, fresh: bool = False) -> Any:
            return (yield from super().decide_many(requests[:1], deadline, fresh=fresh))

    shadow = Shadow(Short(Effect.PERMIT), candidate)
    asked = [ask(resource="0")] * 3
    decisions = run(shadow.decide_many(asked, 1e9))
    assert [each.effect.value for each in decisions] == ["permit", "deny", "deny"]
