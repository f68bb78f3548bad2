"""Commands to a Redis or Valkey server, over redis-py or valkey-py, whose API is the same.

Every command is bounded as a whole, and nothing is tried twice: what the store could save
is worth less than the time it would take. The limits of the client itself are per socket
operation, so blocking callers wait for a short-lived thread, as for HTTP. The asynchronous
client knows asyncio alone; under trio the blocking one works in a worker thread.

Clients are made at first use, one per process or event loop, and dropped (not closed) in
a forked child, since the connections are the parent's.
"""

from __future__ import annotations

import contextlib
import contextvars
import importlib
import threading
import weakref
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any

from bearer_middleware.errors import ConfigError, TransportError
from bearer_middleware.flow.effects import StoreCommand
from bearer_middleware.flow.locks import LazyLock, renew_after_fork
from bearer_middleware.flow.store_client import (
    client_library,
    executed,
    new_client,
    pool_options,
    word_for,
)
from bearer_middleware.flow.worlds import forget_ended, in_trio, running_loop, threads_do_not_run

# Commands under way at once, and so connections, in a process or on a loop.
# More at once would only fight for the interpreter, and each be late.
_ROOM_IN_THREADS, _ROOM_ON_LOOP = 4, 8
# Patience is counted in short steps: a process that is itself late, and did not look for the
# answer, has used up one of them and not all.
_STEPS = 4
# What is still under way on a client that is replaced gets so long to end.
_RETIREMENT_SECONDS = 1.0


class _Line:
    """A client, and the room in it."""

    __slots__ = ("client", "lapses", "room", "warm")

    def __init__(self, client: Any, room: Any) -> None:
        self.client, self.room = client, room
        #: How often there was no answer in time: who waited for room meanwhile need not try.
        self.lapses = 0
        #: Did it ever answer? Then a command need not wait for a connection first.
        self.warm = False

    def close(self) -> None:
        self.client.connection_pool.disconnect()


class Store:
    """A Redis or Valkey server, asked from threads, greenlets, asyncio and trio alike.

    ``address`` returns its URL, which may hold a password and is called ``name`` where it is
    said. ``patience`` is how many seconds it may take to connect, and again to answer; so many
    ``queue`` seconds do commands wait for others to end. Raises ``ConfigError`` where the URL is
    none, or no client is installed; it connects to nothing.
    """

    def __init__(
        self, name: str, address: Callable[[], str], patience: float = 0.1, queue: float = 1.0
    ) -> None:
        self._address, self._patience, self._queue = address, patience, queue
        self._lock = LazyLock()
        self._lines: dict[object, _Line] = {}
        self._loops: weakref.WeakKeyDictionary[Any, _Line] = weakref.WeakKeyDictionary()
        self._inherited: list[Any] = []
        self._at_exit = weakref.finalize(self, _close_all, self._lines)
        renew_after_fork(self)
        detail = None
        try:  # now, and not on the loop of the first request: the import takes long
            pool_options(client_library(), address(), patience)
        except ImportError:
            detail = "needs a client: pip install bearer-middleware[redis]"
        except Exception:  # noqa: BLE001 - its text may quote the URL, and so the password
            detail = "is no URL of a Redis or Valkey server"
        if detail is not None:
            raise ConfigError(f"{name}: {detail}")

    def __repr__(self) -> str:
        return "<Store>"

    def after_fork(self) -> None:
        self._at_exit.detach()
        self._inherited.append((self._lines, dict(self._loops)))
        self._lines = {}
        self._loops = weakref.WeakKeyDictionary()
        self._at_exit = weakref.finalize(self, _close_all, self._lines)

    # -- blocking ------------------------------------------------------------------------

    def send(self, command: StoreCommand) -> Any:
        """Perform one command. Raises ``TransportError``."""
        line = self._line()
        return self._send(command, line, line.lapses)

    def _send(self, command: StoreCommand, line: _Line, lapses: int) -> Any:
        if not line.room.acquire(timeout=self._queue):
            raise TransportError("busy")
        if line.lapses != lapses:
            line.room.release()
            raise TransportError("busy")
        if threads_do_not_run():
            return _perform(line, command)
        answer: Future[Any] = Future()
        context = contextvars.copy_context()  # whoever traces the client finds the caller's span
        try:
            threading.Thread(
                target=context.run,
                args=(_perform_into, answer, line, command),
                name="bearer_middleware store",
                daemon=True,
            ).start()
        except BaseException:
            line.room.release()
            raise
        for _ in range(_STEPS):
            with contextlib.suppress(TimeoutError):
                return answer.result(2 * self._patience / _STEPS)
        line.lapses += 1
        self._retire(line)
        raise TransportError("timeout")

    def _line(self) -> _Line:
        line = self._lines.get("now")
        if line is None:
            client = new_client(client_library(), self._address(), self._patience)
            made = _Line(client, threading.BoundedSemaphore(_ROOM_IN_THREADS))
            with self._lock:
                line = self._lines.setdefault("now", made)
        return line

    def _retire(self, line: _Line) -> None:
        """A server that drips, or a resolver that hangs, keeps its thread and connection: the
        next command gets new ones, and closing the old ones ends what it holds.
        """
        with self._lock:
            if self._lines.get("now") is not line:
                return
            self._lines[line] = self._lines.pop("now")
        closing = threading.Timer(_RETIREMENT_SECONDS, _close_retired, (self._lines, line))
        closing.daemon = True
        closing.start()

    # -- on a loop -----------------------------------------------------------------------

    async def asend(self, command: StoreCommand) -> Any:
        """Perform one command. Raises ``TransportError``."""
        if in_trio():
            return await self._trio_send(command)
        import asyncio

        line = self._async_line()
        lapses = line.lapses
        try:
            async with asyncio.timeout(self._queue):
                await line.room.acquire()
        except TimeoutError:
            raise TransportError("busy") from None
        try:
            if line.lapses != lapses:
                raise TransportError("busy")
            return await self._on_loop(line, command)
        finally:
            line.room.release()

    async def _on_loop(self, line: _Line, command: StoreCommand) -> Any:
        import asyncio

        loop = asyncio.get_running_loop()
        step = (1 if line.warm else 2) * self._patience / _STEPS

        timer: asyncio.TimerHandle

        def count(left: int) -> None:
            nonlocal timer
            if left:
                timer = loop.call_later(step, count, left - 1)
            else:
                limit.reschedule(loop.time())

        timer = loop.call_later(step, count, _STEPS - 1)
        try:
            async with asyncio.timeout(None) as limit:
                answer = await executed(line.client, command.arguments, command.more)
        except Exception as error:  # noqa: BLE001 - whatever it is, its text may quote the command
            detail = word_for(error)
        else:
            line.warm = True
            return answer
        finally:
            timer.cancel()
        line.lapses += detail == "timeout"
        raise TransportError(detail)

    def _async_line(self) -> _Line:
        import asyncio

        line = self._loops.get(running_loop())
        if line is None:
            library = importlib.import_module(f"{client_library().__name__}.asyncio")
            client = new_client(library, self._address(), None)  # the limits are ours
            line = self._remember(_Line(client, asyncio.Semaphore(_ROOM_ON_LOOP)))
        return line

    def _remember(self, line: _Line) -> _Line:
        with self._lock:  # other threads have loops, too
            forget_ended(self._loops)
            self._loops[running_loop()] = line
        return line

    async def _trio_send(self, command: StoreCommand) -> Any:
        """By the blocking client, in one of trio's threads."""
        import trio

        line = self._line()
        lapses = line.lapses
        # Not trio's own limiter: a stalled store must not keep the application's work waiting.
        here = self._loops.get(running_loop()) or self._remember(
            _Line(None, trio.CapacityLimiter(_ROOM_IN_THREADS))
        )
        return await trio.to_thread.run_sync(
            self._send, command, line, lapses, abandon_on_cancel=True, limiter=here.room
        )

    # -- both ----------------------------------------------------------------------------

    def close(self) -> None:
        """Close what this process opened from blocking code, and from trio."""
        _close_all(self._lines)

    async def aclose(self) -> None:
        """Close what the running loop opened."""
        with self._lock:
            line = self._loops.pop(running_loop(), None)
        if in_trio():
            self.close()
        elif line is not None:
            await line.client.connection_pool.disconnect()


def _perform_into(answer: Future[Any], line: _Line, command: StoreCommand) -> None:
    try:
        answer.set_result(_perform(line, command))
    except TransportError as failure:
        answer.set_exception(TransportError(failure.detail))


def _perform(line: _Line, command: StoreCommand) -> Any:
    try:
        return executed(line.client, command.arguments, command.more)
    except Exception as error:  # noqa: BLE001 - whatever it is, its text may quote the command
        detail = word_for(error)
    finally:
        line.room.release()
    line.lapses += detail == "timeout"
    raise TransportError(detail)


def _close_all(lines: dict[object, _Line]) -> None:
    while lines:
        lines.popitem()[1].close()


def _close_retired(lines: dict[object, _Line], line: _Line) -> None:
    if lines.pop(line, None) is not None:
        line.close()
