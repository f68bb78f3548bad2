"""The drivers: every effect, every failure, in threads, asyncio and trio alike."""

from __future__ import annotations

import asyncio
import functools
import logging
import sys
import threading
import time
from collections.abc import Callable, Generator
from concurrent.futures import Future
from types import ModuleType
from typing import Any

import anyio
import anyio.lowlevel
import pytest
import trio
import trio.lowlevel

from bearer_middleware.errors import TransportError
from bearer_middleware.flow.drivers import arun, run
from bearer_middleware.flow.effects import (
    Background,
    Call,
    HttpRequest,
    HttpResponse,
    Wait,
    is_async,
    is_flow,
    lift,
)

Drive = Callable[..., Any]
Flow = Generator[Any, Any, Any]


class Canned:
    """A transport that answers from a list: responses are returned, exceptions raised."""

    def __init__(self, *replies: Any) -> None:
        self.replies = list(replies)
        self.asked: list[HttpRequest] = []

    def send(self, request: HttpRequest) -> HttpResponse:
        self.asked.append(request)
        reply = self.replies.pop(0)
        if isinstance(reply, BaseException):
            raise reply
        return reply  # type: ignore[no-any-return]

    async def asend(self, request: HttpRequest) -> HttpResponse:
        await anyio.lowlevel.checkpoint()
        return self.send(request)


async def _a_double(number: int) -> int:
    return number * 2


def _double(number: int) -> int:
    return number * 2


def _flow_double(number: int) -> Flow:
    return (yield from Call(_double, (number,)))


def _made_double(number: int) -> Flow:
    """A plain function that returns a flow."""
    return _flow_double(number)


def _promised_double(number: int) -> Any:
    """A plain function that returns something to await."""
    return _a_double(number)


def test_an_effect_yields_itself() -> None:
    """The conversation is plain: next, compare, send."""
    request = HttpRequest("GET", "https://as.test/")

    def flow() -> Flow:
        response = yield from request
        return response.status

    conversation = flow()
    assert next(conversation) is request
    with pytest.raises(StopIteration) as done:
        conversation.send(HttpResponse(204))
    assert done.value.value == 204


def test_a_flow_that_asks_nothing_returns(drive: Drive) -> None:
    """A flow without a yield that is reached is a plain call."""

    def flow() -> Flow:
        return 7
        yield

    assert drive(flow()) == 7


def test_replies_are_sent(drive: Drive) -> None:
    """HTTP answers and return values come back where they were asked for."""

    def flow() -> Flow:
        first = yield from HttpRequest("GET", "https://as.test/")
        second = yield from Call(_double, (first.status,))
        return first, second

    response = HttpResponse(200)
    assert drive(flow(), Canned(response)) == (response, 400)


def test_failures_are_thrown_in_and_may_be_survived(drive: Drive) -> None:
    """A flow that catches goes on asking, as often as it likes."""

    def flow() -> Flow:
        words = []
        for _ in range(3):
            try:
                yield from HttpRequest("GET", "https://as.test/")
            except TransportError as failure:
                words.append(failure.detail)
        return words

    failures = [TransportError(word) for word in ("timeout", "connect", "protocol")]
    assert drive(flow(), Canned(*failures)) == ["timeout", "connect", "protocol"]


@pytest.mark.parametrize("error", [ValueError("x"), TransportError("timeout"), KeyError("k")])
def test_failures_that_nobody_catches_come_out(drive: Drive, error: Exception) -> None:
    """The caller sees the very exception, and the flow is finished."""
    ended = []

    def flow() -> Flow:
        try:
            yield from HttpRequest("GET", "https://as.test/")
        finally:
            ended.append(True)

    with pytest.raises(type(error)):
        drive(flow(), Canned(error))
    assert ended == [True]


def test_stop_iteration_of_a_function_is_no_return_value(drive: Drive) -> None:
    """An extension that leaks StopIteration must not look like a flow that returned."""

    def stops() -> None:
        raise StopIteration("nobody")

    def flow() -> Flow:
        return (yield from Call(stops))

    with pytest.raises(RuntimeError):
        drive(flow())


def test_a_flow_without_transport_is_told(drive: Drive) -> None:
    """Asking for HTTP where none was given is a mistake of ours that is named."""

    def flow() -> Flow:
        return (yield from HttpRequest("GET", "https://as.test/"))

    with pytest.raises(RuntimeError, match="no transport"):
        drive(flow())


@pytest.mark.parametrize(
    "function",
    [_double, _flow_double, functools.partial(_flow_double), _made_double],
    ids=["plain", "flow", "partial", "returns-a-flow"],
)
def test_lift_takes_every_kind(drive: Drive, function: Any) -> None:
    """Plain functions and flows serve in all worlds."""
    assert drive(lift(function, 21)) == 42


@pytest.mark.parametrize("function", [_a_double, _promised_double])
def test_lift_takes_async_functions_on_a_loop(function: Any) -> None:
    """Coroutine functions, and plain ones that return something to await."""
    assert asyncio.run(arun(lift(function, 21))) == 42
    assert trio.run(arun, lift(function, 21)) == 42


@pytest.mark.parametrize("function", [_a_double, _promised_double])
def test_async_functions_are_refused_by_blocking_code(function: Any) -> None:
    """The coroutine is closed, or Python would warn of it, and warnings are errors."""
    with pytest.raises(TypeError, match="asynchronous"):
        run(lift(function, 21))


@pytest.mark.parametrize(
    ("function", "flow", "asynchronous"),
    [
        (_double, False, False),
        (_a_double, False, True),
        (_flow_double, True, False),
        (functools.partial(_a_double, 1), False, True),
        (functools.partial(_flow_double, 1), True, False),
    ],
)
def test_kinds_are_told_apart(function: Any, flow: bool, asynchronous: bool) -> None:
    """Also behind ``functools.partial``."""
    assert (is_flow(function), is_async(function)) == (flow, asynchronous)


def test_kinds_of_objects_are_told_apart() -> None:
    """An object is what its ``__call__`` is."""

    class Asynchronous:
        async def __call__(self) -> None: ...

    class Asking:
        def __call__(self) -> Flow:
            yield

    assert is_async(Asynchronous())
    assert not is_flow(Asynchronous())
    assert is_flow(Asking())
    assert not is_async(Asking())


def _waiting(landing: Future[None], timeout: float) -> Flow:
    return (yield from Wait(landing, timeout))


def _landing() -> Future[None]:
    landing: Future[None] = Future()
    landing.set_running_or_notify_cancel()
    return landing


def test_wait_for_what_has_landed(drive: Drive) -> None:
    """No waiting at all, also where the time was up before."""
    landing = _landing()
    landing.set_result(None)
    assert drive(_waiting(landing, 5.0)) is True


@pytest.mark.parametrize("timeout", [0.05, 0.0, -3.0])
def test_wait_gives_up(drive: Drive, timeout: float) -> None:
    """``False``, and the landing is as it was for all the others."""
    landing = _landing()
    began = time.monotonic()
    assert drive(_waiting(landing, timeout)) is False
    assert time.monotonic() - began < 5
    landing.set_result(None)  # would raise, had the waiting cancelled it


def test_wait_is_woken(drive: Drive) -> None:
    """By whatever thread lets it land."""
    landing = _landing()
    thread = threading.Timer(0.05, landing.set_result, (None,))
    thread.start()
    assert drive(_waiting(landing, 30.0)) is True
    thread.join()


def test_wait_while_trio_is_being_imported(monkeypatch: pytest.MonkeyPatch) -> None:
    """As it is by the thread that uses httpx first: it is there, and nothing of it yet."""
    monkeypatch.setitem(sys.modules, "trio", ModuleType("trio"))
    landing = _landing()
    landing.set_result(None)
    assert asyncio.run(arun(_waiting(landing, 5.0))) is True


def test_background_goes_on_at_once(world: str) -> None:
    """The flow that starts another does not wait for it, in any world."""
    gate, done = threading.Event(), threading.Event()
    spent: list[str] = []

    def apart() -> Flow:
        while not gate.is_set():
            yield from Call(time.sleep if world == "sync" else anyio.sleep, (0.001,))
        spent.append("apart")
        done.set()

    def flow() -> Flow:
        yield from Background(apart)
        spent.append("front")
        gate.set()

    async def main() -> None:
        await arun(flow())
        while not done.is_set():
            await _tick()

    if world == "sync":
        run(flow())
        assert done.wait(10)
    else:
        asyncio.run(main()) if world == "asyncio" else trio.run(main)
    assert spent == ["front", "apart"]


async def _tick() -> None:
    await anyio.sleep(0.001)


def test_background_failures_are_logged_without_their_text(
    world: str, caplog: pytest.LogCaptureFixture
) -> None:
    """The class of the exception says enough; its text may hold a token."""
    done = threading.Event()

    def apart() -> Flow:
        try:
            yield from Call(_fails)
        finally:
            done.set()

    def flow() -> Flow:
        yield from Background(apart)
        return "fine"

    async def main() -> str:
        result = await arun(flow())
        for _ in range(20):
            await _tick()
        return result

    with caplog.at_level(logging.DEBUG):
        if world == "sync":
            before = set(threading.enumerate())
            assert run(flow()) == "fine"
            for thread in set(threading.enumerate()) - before:
                thread.join(10)
        else:
            assert (asyncio.run(main()) if world == "asyncio" else trio.run(main)) == "fine"
    assert done.is_set()
    assert "LookupError" in caplog.text
    assert "canary" not in caplog.text


def _fails() -> None:
    raise LookupError("canary")


@pytest.mark.parametrize("runner", ["asyncio", "trio"])
def test_cancellation_is_thrown_in(runner: str) -> None:
    """A flow learns that its task is cancelled, so that it can hand over."""
    learned: list[str] = []

    def flow() -> Flow:
        try:
            yield from Wait(_landing(), 60)
        except BaseException as end:
            learned.append(type(end).__name__)
            raise

    async def on_asyncio() -> None:
        task = asyncio.create_task(arun(flow()))
        await asyncio.sleep(0.01)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    async def on_trio() -> None:
        with trio.move_on_after(0.01):
            await arun(flow())

    asyncio.run(on_asyncio()) if runner == "asyncio" else trio.run(on_trio)
    assert learned == ["CancelledError" if runner == "asyncio" else "Cancelled"]


class _Killed(BaseException):
    """What a greenlet library raises: no ``Exception``."""


def test_a_killed_greenlet_is_thrown_in() -> None:
    """Whatever ends the wait ends in the flow, and comes out again."""
    learned = []

    def flow() -> Flow:
        try:
            yield from HttpRequest("GET", "https://as.test/")
        finally:
            learned.append(True)

    with pytest.raises(_Killed):
        run(flow(), Canned(_Killed()))
    assert learned == [True]


def test_a_closed_coroutine_closes_the_flow() -> None:
    """A loop that is torn down throws ``GeneratorExit``: the flow ends in order."""
    ended = []

    def flow() -> Flow:
        try:
            yield from Wait(_landing(), 60)
        finally:
            ended.append(True)

    async def main() -> None:
        coroutine = arun(flow())
        coroutine.send(None)
        coroutine.close()

    asyncio.run(main())
    assert ended == [True]


def test_a_landing_after_the_loop_is_gone_harms_nobody(caplog: pytest.LogCaptureFixture) -> None:
    """Whoever waited in a loop or run that ended is not called any more."""
    landing = _landing()

    async def impatient() -> None:
        await arun(_waiting(landing, 0.01))

    asyncio.run(impatient())
    trio.run(impatient)
    landing.set_result(None)
    assert not caplog.records
