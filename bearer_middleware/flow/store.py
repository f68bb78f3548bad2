"""Commands to a Redis or Valkey server, over redis-py or valkey-py, whose API is the same.

Every command is bounded as a whole, and nothing is tried twice: what the store could save
is worth less than the time it would take. The limits of the client itself are per socket
operation, so blocking callers wait for a short-lived thread, as for HTTP. The asynchronous
client knows asyncio alone; under trio the blocking one works in a worker thread.

Clients are made at first use, one per process or event loop, and dropped (not closed) in
a forked child, since the connections are the parent's.
"""

from __future__ import annotations

import contextvars
import importlib
import threading
import weakref
from collections.abc import Callable
from concurrent.futures import Future
from types import ModuleType
from typing import Any

from bearer_middleware.errors import ConfigError, TransportError
from bearer_middleware.flow.effects import StoreCommand
from bearer_middleware.flow.locks import LazyLock, renew_after_fork
from bearer_middleware.flow.worlds import has_ended, in_trio, running_loop, threads_do_not_run

# Commands under way at once, and so connections, in a process or on a loop.
_ROOM = 32
# What is still under way on a client that is replaced gets so long to end.
_RETIREMENT_SECONDS = 1.0
_WORDS = {
    "TimeoutError": "timeout",
    "AuthenticationError": "credentials",
    "AuthenticationWrongNumberOfArgsError": "credentials",
    "BusyLoadingError": "loading",
    "ConnectionError": "connect",
    "NoPermissionError": "permission",
    "OutOfMemoryError": "full",
    "ReadOnlyError": "read-only",
}


class _Line:
    """A client, and the room in it."""

    __slots__ = ("client", "room")

    def __init__(self, client: Any, room: Any) -> None:
        self.client, self.room = client, room

    def close(self) -> None:
        self.client.connection_pool.disconnect()


class Store:
    """A Redis or Valkey server, asked from threads, greenlets, asyncio and trio alike.

    ``address`` returns its URL, which may hold a password and is called ``name`` where it is
    said. ``patience`` is how many seconds it may take to connect, and again to answer. Raises
    ``ConfigError`` where the URL is none, or no client is installed; it connects to nothing.
    """

    def __init__(self, name: str, address: Callable[[], str], patience: float = 0.1) -> None:
        self._address, self._patience = address, patience
        self._lock = LazyLock()
        self._lines: dict[object, _Line] = {}
        self._loops: weakref.WeakKeyDictionary[Any, _Line] = weakref.WeakKeyDictionary()
        self._inherited: list[Any] = []
        self._at_exit = weakref.finalize(self, _close_all, self._lines)
        renew_after_fork(self)
        detail = None
        try:  # now, and not on the loop of the first request: the import takes long
            _options(_library(), address(), patience)
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
        if not line.room.acquire(timeout=self._patience):
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
        try:
            return answer.result(2 * self._patience)
        except TimeoutError:
            self._retire(line)
        raise TransportError("timeout")

    def _line(self) -> _Line:
        line = self._lines.get("now")
        if line is None:
            client = _client(_library(), self._address(), self._patience)
            made = _Line(client, threading.BoundedSemaphore(_ROOM))
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
        try:
            async with asyncio.timeout(self._patience):
                await line.room.acquire()
        except TimeoutError:
            raise TransportError("busy") from None
        try:
            async with asyncio.timeout(2 * self._patience):
                return await line.client.execute_command(*command.arguments)
        except Exception as error:  # noqa: BLE001 - whatever it is, its text may quote the command
            detail = _word_for(error)
        finally:
            line.room.release()
        raise TransportError(detail)

    def _async_line(self) -> _Line:
        import asyncio

        loop = running_loop()
        line = self._loops.get(loop)
        if line is None:
            for ended in [one for one in list(self._loops) if has_ended(one)]:
                self._loops.pop(ended, None)
            library = importlib.import_module(f"{_library().__name__}.asyncio")
            client = _client(library, self._address(), self._patience)
            line = self._loops[loop] = _Line(client, asyncio.Semaphore(_ROOM))
        return line

    async def _trio_send(self, command: StoreCommand) -> Any:
        """By the blocking client, in one of trio's threads."""
        import trio

        line = self._line()
        # Not trio's own limiter: a stalled store must not keep the application's work waiting.
        with trio.move_on_after(3 * self._patience):
            return await trio.to_thread.run_sync(
                _perform_soon,
                line,
                command,
                self._patience,
                abandon_on_cancel=True,
                limiter=trio.CapacityLimiter(1),
            )
        self._retire(line)
        raise TransportError("timeout")

    # -- both ----------------------------------------------------------------------------

    def close(self) -> None:
        """Close what this process opened from blocking code, and from trio."""
        _close_all(self._lines)

    async def aclose(self) -> None:
        """Close what the running loop opened."""
        if in_trio():
            return self.close()
        line = self._loops.pop(running_loop(), None)
        if line is not None:
            await line.client.connection_pool.disconnect()
        return None


def _perform_soon(line: _Line, command: StoreCommand, patience: float) -> Any:
    if not line.room.acquire(timeout=patience):
        raise TransportError("busy")
    return _perform(line, command)


def _perform_into(answer: Future[Any], line: _Line, command: StoreCommand) -> None:
    try:
        answer.set_result(_perform(line, command))
    except TransportError as failure:
        answer.set_exception(TransportError(failure.detail))


def _perform(line: _Line, command: StoreCommand) -> Any:
    try:
        return line.client.execute_command(*command.arguments)
    except Exception as error:  # noqa: BLE001 - whatever it is, its text may quote the command
        detail = _word_for(error)
    finally:
        line.room.release()
    raise TransportError(detail)


def _close_all(lines: dict[object, _Line]) -> None:
    while lines:
        lines.popitem()[1].close()


def _close_retired(lines: dict[object, _Line], line: _Line) -> None:
    if lines.pop(line, None) is not None:
        line.close()


def _library() -> ModuleType:
    """redis-py, or valkey-py where that alone is installed: the same API."""
    try:
        import redis
    except ImportError:
        import valkey

        return valkey
    return redis


def _options(library: ModuleType, address: str, patience: float) -> dict[str, Any]:
    """What a pool is made of; the URL may say with whom to talk, but not for how long."""
    root = library.__name__.partition(".")[0]
    scheme, colon, rest = address.partition(":")
    ours = scheme.replace("valkey", root).replace("redis", root)
    said: dict[str, Any] = library.connection.parse_url(ours + colon + rest)
    if scheme in {"rediss", "valkeys"} and "ssl_cert_reqs" not in said:
        said.setdefault("ssl_check_hostname", True)  # before redis-py 6 it was not looked at
    retry = importlib.import_module(f"{library.__name__}.retry")
    backoff = importlib.import_module(f"{root}.backoff")
    return said | {
        "socket_timeout": patience,
        "socket_connect_timeout": patience,
        "retry": retry.Retry(backoff.NoBackoff(), 0),
        "protocol": 2,  # no greeting, and no notifications
        "decode_responses": False,
        "max_connections": 2**20,  # the room is what bounds them
        "health_check_interval": 0,
    }


def _client(library: ModuleType, address: str, patience: float) -> Any:
    options = _options(library, address, patience)
    return library.Redis(connection_pool=library.connection.ConnectionPool(**options))


def _word_for(error: Exception) -> str:
    if isinstance(error, TimeoutError):
        return "timeout"
    text = str(error)
    if text.startswith(("WRONGTYPE", "OOM")):
        return "wrong type" if text.startswith("W") else "full"
    return _WORDS.get(type(error).__name__, "refused")
