"""The issuer without a network: as an ASGI application and as an httpx transport.

Both are flows, so the colour of the caller's world is the driver's business, not theirs.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping
from functools import partial
from typing import Any, Self, TypeVar

from bearer_middleware.flow.drivers import arun, run
from bearer_middleware.flow.effects import Call, Flow
from bearer_middleware.testing.endpoints import Answer, Request
from bearer_middleware.testing.faults import Fault, Respond

T = TypeVar("T")
Sleep = Callable[[float], Any]
Channel = Callable[..., Awaitable[Any]]


def asleep(seconds: float) -> Awaitable[None]:
    """Sleep in a task, on asyncio or trio."""
    import anyio

    return anyio.sleep(seconds)


class Application:
    """The issuer for an ASGI server or test client."""

    def __init__(self, respond: Respond) -> None:
        self._respond = respond

    def __call__(self, scope: Mapping[str, Any], *channels: Channel) -> Any:
        if not channels:
            # Servers take a callable that is no coroutine function for ASGI 2, called in two steps.
            return partial(self, scope)
        return arun(self._converse(scope, *channels))

    def _converse(self, scope: Mapping[str, Any], receive: Channel, send: Channel) -> Flow[None]:
        if scope["type"] == "lifespan":
            yield from _live(receive, send)
        elif scope["type"] == "http":
            request = Request(
                scope["method"],
                scope["path"],
                {
                    name.decode("latin-1"): value.decode("latin-1")
                    for name, value in scope["headers"]
                },
                (yield from _body(receive)),
            )
            yield from _write(*self._respond(request), send)
        else:
            raise ValueError(f"the issuer speaks no {scope['type']}")


def _live(receive: Channel, send: Channel) -> Flow[None]:
    for phase in ("startup", "shutdown"):
        yield from Call(receive)
        yield from Call(send, ({"type": f"lifespan.{phase}.complete"},))


def _body(receive: Channel) -> Flow[bytes]:
    body, more = b"", True
    while more:
        message = yield from Call(receive)
        body += message.get("body", b"")
        more = message.get("more_body", False)
    return body


def _write(answer: Answer, fault: Fault, send: Channel) -> Flow[None]:
    yield from Call(asleep, (fault.delay,))
    if fault.drop:
        raise ConnectionResetError("the issuer hangs up")
    if fault.drip_headers:
        for _ in answer.head():
            yield from Call(asleep, (fault.drip,))
    headers = [(name.encode(), value.encode()) for name, value in answer.headers.items()]
    start = {"type": "http.response.start", "status": answer.status, "headers": headers}
    yield from Call(send, (start,))
    for byte in answer.body if fault.drip else b"":
        yield from Call(asleep, (fault.drip,))
        part = {"type": "http.response.body", "body": bytes([byte]), "more_body": True}
        yield from Call(send, (part,))
    rest = b"" if fault.drip else answer.body
    yield from Call(send, ({"type": "http.response.body", "body": rest},))


class Transport:
    """The issuer in place of the network, for ``httpx`` and its fork ``httpx2``.

    It keeps the read timeout of the client, which is what a slow issuer is about.
    """

    def __init__(self, respond: Respond) -> None:
        self._respond = respond

    def handle_request(self, request: Any) -> Any:
        return run(self._exchange(request, request.read, time.sleep))

    def handle_async_request(self, request: Any) -> Awaitable[Any]:
        return arun(self._exchange(request, request.aread, asleep))

    def close(self) -> None:
        """Nothing is held open."""

    def aclose(self) -> Awaitable[None]:
        return arun(_at_once(None))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __aenter__(self) -> Awaitable[Self]:
        return arun(_at_once(self))

    def __aexit__(self, *_: object) -> Awaitable[None]:
        return self.aclose()

    def _exchange(self, request: Any, read: Callable[[], Any], sleep: Sleep) -> Flow[Any]:
        httpx = _library_of(request)
        body = yield from Call(read)
        headers = {name.lower(): value for name, value in request.headers.items()}
        answer, fault = self._respond(Request(request.method, request.url.path, headers, body))
        yield from _pause(request, fault.delay, sleep)
        if fault.drop:
            raise httpx.ConnectError("the issuer is down", request=request)
        if fault.drip_headers:
            for _ in answer.head():
                yield from _pause(request, fault.drip, sleep)
        content = b"" if request.method == "HEAD" else answer.body
        stream = _drip(request, content, fault.drip) if fault.drip else httpx.ByteStream(content)
        return httpx.Response(answer.status, headers=dict(answer.headers), stream=stream)


def _at_once(value: T) -> Flow[T]:
    yield from ()
    return value


def _library_of(request: Any) -> Any:
    return sys.modules[type(request).__module__.partition(".")[0]]


def _pause(request: Any, seconds: float, sleep: Sleep) -> Flow[None]:
    """Let time pass, as far as the client's read timeout allows."""
    limit = request.extensions.get("timeout", {}).get("read")
    if limit is None or seconds <= limit:
        yield from Call(sleep, (seconds,))
        return
    yield from Call(sleep, (limit,))
    raise _library_of(request).ReadTimeout("the issuer is slow", request=request)


def _drip(request: Any, body: bytes, seconds: float) -> Any:
    """A body that arrives byte by byte, of the stream classes that the client insists on."""
    httpx = _library_of(request)
    kind = type("Drip", (_Drip, httpx.SyncByteStream, httpx.AsyncByteStream), {})
    return kind(request, body, seconds)


class _Drip:
    def __init__(self, request: Any, body: bytes, seconds: float) -> None:
        self._request = request
        self._seconds = seconds
        self._bytes = iter([bytes([byte]) for byte in body])

    def __iter__(self) -> Iterator[bytes]:
        for byte in self._bytes:
            run(_pause(self._request, self._seconds, time.sleep))
            yield byte

    def __aiter__(self) -> Self:
        return self

    def __anext__(self) -> Awaitable[bytes]:
        return arun(self._next())

    def _next(self) -> Flow[bytes]:
        for byte in self._bytes:
            yield from _pause(self._request, self._seconds, asleep)
            return byte
        raise StopAsyncIteration
