"""``run`` and ``arun``: the two drivers that answer what a flow asks for.

This is the only place where blocking and asynchronous code differ. Both drivers send
replies into the flow and *throw* failures into it; a cancelled task or a killed greenlet
throws its cancellation into the flow too, so that a flight is handed over.
"""

from __future__ import annotations

import inspect
import logging
import threading
from collections.abc import Awaitable, Callable
from concurrent.futures import Future
from typing import Any, Protocol, TypeVar

from bearer_middleware.flow.effects import (
    Background,
    Call,
    Effect,
    Flow,
    HttpRequest,
    HttpResponse,
    StoreCommand,
    Wait,
)
from bearer_middleware.flow.landing import Landing
from bearer_middleware.flow.worlds import in_trio, running_loop, threads_do_not_run

T = TypeVar("T")
_logger = logging.getLogger("bearer_middleware")


class Transport(Protocol):
    """What performs HTTP exchanges, in both colours."""

    def send(self, request: HttpRequest) -> HttpResponse: ...

    def asend(self, request: HttpRequest) -> Awaitable[HttpResponse]: ...


def run(flow: Flow[T], transport: Transport | None = None) -> T:
    """Drive a flow in this thread or greenlet until it returns or raises."""
    failure: BaseException | None = None
    try:
        effect = next(flow)
        while True:
            try:
                reply, failure = _answer(effect, transport), None
            except BaseException as error:  # noqa: BLE001 - a killed greenlet must hand over its flight
                reply, failure = None, error
            # Here, where nothing is being handled, or the failure, whose frames hold the token,
            # would be the context of whatever the flow raises instead.
            effect = flow.send(reply) if failure is None else flow.throw(failure)
    except StopIteration as done:
        return done.value  # type: ignore[no-any-return]
    finally:
        failure = None  # it knows this frame: both would stay until they are collected
        flow.close()


async def arun(flow: Flow[T], transport: Transport | None = None) -> T:
    """Drive a flow in this task, on asyncio or trio, until it returns or raises."""
    failure: BaseException | None = None
    try:
        effect = next(flow)
        while True:
            try:
                reply, failure = await _async_answer(effect, transport), None
            except BaseException as error:  # noqa: BLE001 - a cancelled task must hand over its flight
                reply, failure = None, error
            effect = flow.send(reply) if failure is None else flow.throw(failure)  # as in ``run``
    except StopIteration as done:
        return done.value  # type: ignore[no-any-return]
    finally:
        failure = None
        flow.close()


def runner() -> Callable[[Flow[Any], Transport | None], Any]:
    """What drives flows in the event loop that runs here, for plain functions that wait for it in
    threads; in the thread of the loop itself, where that cannot be, it is :func:`run`.
    """
    loop, home = running_loop(), threading.get_ident()

    def run_there(flow: Flow[T], transport: Transport | None = None) -> T:
        if threading.get_ident() == home:
            return run(flow, transport)
        if not hasattr(loop, "call_soon_threadsafe"):
            import trio

            return trio.from_thread.run(arun, flow, transport, trio_token=loop)
        import asyncio

        return asyncio.run_coroutine_threadsafe(arun(flow, transport), loop).result()

    return run_there


def _answer(effect: Effect, transport: Transport | None) -> Any:
    match effect:
        case HttpRequest():
            return _present(transport).send(effect)
        case StoreCommand(store):
            return store.send(effect)
        case Call(function, arguments):
            return _plain(function(*arguments))
        case Wait(landing, timeout):
            return _landed(landing, timeout)
        case Background(start) if threads_do_not_run():
            _run_apart(start(), transport)  # late, but else it would be never
            return None
        case Background(start):
            threading.Thread(
                target=_run_apart, args=(start(), transport), name="bearer_middleware", daemon=True
            ).start()
            return None


async def _async_answer(effect: Effect, transport: Transport | None) -> Any:
    match effect:
        case HttpRequest():
            return await _present(transport).asend(effect)
        case StoreCommand(store):
            return await store.asend(effect)
        case Call(function, arguments, within):
            result = function(*arguments)
            return await _awaited(result, within) if inspect.isawaitable(result) else result
        case Wait(landing, timeout):
            return await _async_landed(landing, timeout)
        case Background(start):
            _start_apart(start(), transport)
            return None


async def _awaited(result: Awaitable[Any], within: float | None) -> Any:
    if within is None:
        return await result
    import anyio

    with anyio.fail_after(max(within, 0.0)):
        return await result


def _present(transport: Transport | None) -> Transport:
    if transport is None:
        raise RuntimeError("this flow asks for HTTP, and no transport was given")
    return transport


def _plain(result: Any) -> Any:
    if inspect.isawaitable(result):
        if inspect.iscoroutine(result):
            result.close()
        raise TypeError("an asynchronous extension cannot be called from blocking code")
    return result


def _landed(landing: Future[None], timeout: float) -> bool:
    if isinstance(landing, Landing):  # it has a line for hundreds; any other has one or two
        return landing.wait(timeout)
    gate = threading.Lock()
    gate.acquire()
    landing.add_done_callback(lambda _: gate.release())
    return gate.acquire(timeout=max(timeout, 0.0))


async def _async_landed(landing: Future[None], timeout: float) -> bool:
    if in_trio():
        return await _trio_landed(landing, timeout)
    return await _asyncio_landed(landing, timeout)


async def _asyncio_landed(landing: Future[None], timeout: float) -> bool:
    """As ``asyncio.wait`` over ``wrap_future`` would, for hundreds of followers at once."""
    import asyncio

    loop = asyncio.get_running_loop()
    waiter = loop.create_future()

    def finish() -> None:
        if not waiter.done():
            waiter.set_result(None)

    def wake(_: Future[None]) -> None:
        try:
            if threading.get_ident() == thread:
                finish()
            else:
                loop.call_soon_threadsafe(finish)
        except RuntimeError:
            return  # the loop is closed, so nobody is left to be woken

    thread = threading.get_ident()
    landing.add_done_callback(wake)
    timer = loop.call_later(max(timeout, 0.0), finish)
    try:
        await waiter
    finally:
        timer.cancel()
        waiter.cancel()
    return landing.done()


async def _trio_landed(landing: Future[None], timeout: float) -> bool:
    import trio

    event, token = trio.Event(), trio.lowlevel.current_trio_token()

    def wake(_: Future[None]) -> None:
        try:
            token.run_sync_soon(event.set)
        except trio.RunFinishedError:
            return  # the waiting run is over, so nobody is left to be woken

    landing.add_done_callback(wake)
    with trio.move_on_after(max(timeout, 0.0)):
        await event.wait()
    return landing.done()


def _run_apart(flow: Flow[None], transport: Transport | None) -> None:
    try:
        run(flow, transport)
    except Exception as failure:  # noqa: BLE001 - whatever it is, it is reported
        _report(failure)


async def _arun_apart(flow: Flow[None], transport: Transport | None) -> None:
    try:
        await arun(flow, transport)
    except Exception as failure:  # noqa: BLE001 - whatever it is, it is reported
        _report(failure)


def _report(failure: Exception) -> None:
    # The text of a foreign exception may hold a token: its class says enough.
    _logger.error("background work failed: %s", type(failure).__name__)


# An event loop keeps only weak references to its tasks.
_background: set[Any] = set()


def _start_apart(flow: Flow[None], transport: Transport | None) -> None:
    if in_trio():
        import trio

        trio.lowlevel.spawn_system_task(_arun_apart, flow, transport)
        return
    import asyncio

    task = asyncio.get_running_loop().create_task(_arun_apart(flow, transport))
    _background.add(task)
    task.add_done_callback(_background.discard)
