"""What a flow may ask of the outside world: a closed list of effects.

A *flow* is a generator that yields effects and is sent their replies. An effect yields
itself, so the type of its reply is known exactly where it is asked for:

    response = yield from HttpRequest("GET", url)     # response: HttpResponse

Failures are thrown into the flow, which may then fall back to what it remembers. A flow
never sleeps, never blocks and never holds a lock across a ``yield``.
"""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable, Generator, Mapping
from concurrent.futures import Future
from dataclasses import dataclass, field
from types import GeneratorType
from typing import Any, Protocol, TypeVar

T = TypeVar("T")

#: Logic that asks. ``Flow[T]`` returns a ``T`` in the end.
Flow = Generator["Effect", Any, T]


@dataclass(frozen=True, slots=True)
class HttpResponse:
    """A whole answer. ``headers`` have lower-case names."""

    status: int
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = field(default=b"", repr=False)


@dataclass(frozen=True, slots=True)
class Tls:
    """PEM files for a TLS connection: whom else to trust, and how to show who we are."""

    authorities: str | None = None
    certificate: str | None = None
    key: str | None = None


@dataclass(frozen=True, slots=True)
class HttpRequest:
    """One HTTP exchange. ``timeout`` bounds all of it, in seconds; ``limit`` the body, in bytes.

    Raises :class:`~bearer_middleware.errors.TransportError` inside the flow.
    """

    method: str
    url: str
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    body: bytes | None = field(default=None, repr=False)
    timeout: float = 3.0
    limit: int = 65_536
    tls: Tls = Tls()

    def __iter__(self) -> Generator[HttpRequest, HttpResponse, HttpResponse]:
        return (yield self)


@dataclass(frozen=True, slots=True)
class Call:
    """Call a function that may be plain or asynchronous, and get what it returns. One that is
    asynchronous is cancelled after ``within`` seconds: ``TimeoutError``.
    """

    function: Callable[..., Any]
    arguments: tuple[Any, ...] = field(default=(), repr=False)
    within: float | None = None

    def __iter__(self) -> Generator[Call, Any, Any]:
        return (yield self)


@dataclass(frozen=True, slots=True)
class Wait:
    """Wait until another caller's flight has landed, or has left us its place; ``False`` when
    ``timeout`` seconds passed.
    """

    landing: Future[None]
    timeout: float

    def __iter__(self) -> Generator[Wait, bool, bool]:
        return (yield self)


class CommandSender(Protocol):
    """What performs commands to a store, in both colours."""

    def send(self, command: StoreCommand) -> Any: ...

    def asend(self, command: StoreCommand) -> Awaitable[Any]: ...


@dataclass(frozen=True, slots=True)
class StoreCommand:
    """One command to a Redis or Valkey server, its name first; the store bounds its time.

    With ``more`` commands it is a transaction (``MULTI``): the reply is the list of theirs.
    Raises :class:`~bearer_middleware.errors.TransportError` inside the flow.
    """

    store: CommandSender
    arguments: tuple[str | bytes | int, ...] = field(repr=False)
    more: tuple[tuple[str | bytes | int, ...], ...] = field(default=(), repr=False)

    def __iter__(self) -> Generator[StoreCommand, Any, Any]:
        return (yield self)


@dataclass(frozen=True, slots=True)
class Background:
    """Start another flow and go on at once. What it raises is logged, not shown to anybody."""

    start: Callable[[], Flow[None]]

    def __iter__(self) -> Generator[Background, None, None]:
        return (yield self)


Effect = HttpRequest | StoreCommand | Call | Wait | Background


def pause(seconds: float) -> Flow[None]:
    """Go on after so many seconds: a wait for nobody."""
    yield from Wait(Future(), seconds)


def lift(function: Callable[..., Any], *arguments: Any, within: float | None = None) -> Flow[Any]:
    """Call an extension that is a plain function, an ``async`` one or a flow; an ``async`` one may
    take ``within`` seconds.
    """
    if is_flow(function):
        return (yield from function(*arguments))
    result = yield from Call(function, arguments, within)
    if isinstance(result, GeneratorType):
        return (yield from result)
    return result


def is_flow(function: Callable[..., Any]) -> bool:
    """Is this a generator function (or an object whose ``__call__`` is one)?"""
    return inspect.isgeneratorfunction(function) or inspect.isgeneratorfunction(
        getattr(function, "__call__", None)  # noqa: B004 - the method itself is asked for
    )


def is_async(function: Callable[..., Any]) -> bool:
    """Can this extension run only in an event loop?"""
    return inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(
        getattr(function, "__call__", None)  # noqa: B004 - the method itself is asked for
    )
