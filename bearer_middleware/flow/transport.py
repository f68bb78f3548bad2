"""HTTP exchanges over httpx, or httpx2 where that is installed.

Every exchange is bounded as a whole: httpx's own time limits are per socket operation, so a
server that drips one byte at a time, or a resolver that hangs, would outlast them. On a
loop a cancel scope does it; blocking callers wait for a short-lived thread. Bodies are
counted raw and never decompressed, redirects are never followed, cookies never kept.

Clients are made at first use, one per process or event loop, and dropped (not closed) in
a forked child, since the connections are the parent's. Where a certificate was replaced, a
new client follows the old, which is closed once its exchanges are over.
"""

from __future__ import annotations

import contextlib
import contextvars
import math
import threading
import time
import weakref
from collections.abc import Callable
from concurrent.futures import Future
from types import ModuleType
from typing import TYPE_CHECKING, Any

from bearer_middleware.errors import TransportError
from bearer_middleware.flow.certificates import Certificates
from bearer_middleware.flow.effects import HttpRequest, HttpResponse, Tls
from bearer_middleware.flow.events import Event
from bearer_middleware.flow.exchange import arguments_of, collect, headers_of, raw, word_for
from bearer_middleware.flow.locks import LazyLock, renew_after_fork
from bearer_middleware.flow.worlds import forget_ended, running_loop, threads_do_not_run

if TYPE_CHECKING:
    import ssl


#: Of a client: its certificates, whether it needs them, and which version of them it has.
_Key = tuple[Tls, bool, int]
# No exchange of ours is given longer: BEARER_HTTP_TIMEOUT is at most this.
_LONGEST_SECONDS = 60.0
_MOST_RETIRED = 8


class HttpTransport:
    """Performs :class:`HttpRequest` effects in threads, greenlets, asyncio and trio alike.

    ``inner`` is a transport of httpx's own kind, used for every exchange instead of the
    network: for tests, or for an unusual road to the authorization server. ``note`` is told
    of certificate files that change.
    """

    def __init__(self, inner: Any = None, note: Callable[[Event], None] | None = None) -> None:
        self._inner = inner
        #: Other things with connections, closed together with this one.
        self.beside: list[Any] = []
        self._lock = LazyLock()
        self._certificates = Certificates(_new_context, note)
        self._clients: dict[Any, Any] = {}
        self._loops: weakref.WeakKeyDictionary[Any, dict[Any, Any]] = weakref.WeakKeyDictionary()
        self._inherited: list[Any] = []
        self._at_exit = weakref.finalize(self, _close_all, self._clients)
        renew_after_fork(self)

    def after_fork(self) -> None:
        self._at_exit.detach()
        self._inherited.append((self._clients, dict(self._loops)))
        self._clients = {}
        self._loops = weakref.WeakKeyDictionary()
        self._at_exit = weakref.finalize(self, _close_all, self._clients)

    # -- blocking ------------------------------------------------------------------------

    def send(self, request: HttpRequest) -> HttpResponse:
        """Perform one exchange. Raises ``TransportError`` no later than its time limit."""
        if self._is_due(request):
            self._certificates.look(request.tls)
        key = self._key(request)
        client = self._client(key)
        if threads_do_not_run():
            return self._judged(request, _perform(client, request))
        answer: Future[HttpResponse] = Future()
        context = contextvars.copy_context()  # whoever traces httpx finds the caller's span
        threading.Thread(
            target=context.run,
            args=(_perform_into, answer, client, request),
            name="bearer_middleware exchange",
            daemon=True,
        ).start()
        try:
            return self._judged(request, answer.result(max(request.timeout, 0.0)))
        except TimeoutError:
            self._retire(key, client)
        raise TransportError("timeout")

    def _client(self, key: _Key) -> Any:
        client = self._clients.get(key)
        if client is None:
            options = self._client_options(key)
            with self._lock:
                client = self._clients.get(key)
                if client is None:
                    client = self._clients[key] = _http().Client(**options)
            for old, predecessor in list(self._clients.items()):
                if _precedes(old, key):
                    self._retire(old, predecessor)
        return client

    def _retire(self, key: _Key, client: Any) -> None:
        """Closing its connections is what ends an exchange that drips; but only once others
        that are under way on the same client have had their time too.
        """
        retired = object()
        with self._lock:
            if self._inner is not None or self._clients.get(key) is not client:
                return
            self._clients[retired] = self._clients.pop(key)
            excess = [old for old in list(self._clients) if type(old) is object][:-_MOST_RETIRED]
        for old in excess:
            _close_retired(self._clients, old)
        arguments = (self._clients, retired)
        closing = threading.Timer(_LONGEST_SECONDS, _close_retired, arguments)
        closing.daemon = True
        closing.start()

    # -- on a loop -----------------------------------------------------------------------

    async def asend(self, request: HttpRequest) -> HttpResponse:
        """Perform one exchange. Raises ``TransportError`` no later than its time limit."""
        import anyio

        try:
            with anyio.fail_after(max(request.timeout, 0.0)):
                client = await self._async_client(request)
                async with client.stream(**arguments_of(request)) as response:
                    body = await _acollect(response, request.limit)
                    answer = HttpResponse(response.status_code, headers_of(response), body)
                    return self._judged(request, answer)
        except Exception as error:  # noqa: BLE001 - whatever it is, its text may quote the request
            detail = word_for(error)
        raise TransportError(detail)

    async def _async_client(self, request: HttpRequest) -> Any:
        import anyio

        loop = running_loop()
        clients = self._loops.get(loop)
        if clients is None:
            with self._lock:  # other threads have loops, too
                forget_ended(self._loops)
                clients = self._loops.setdefault(loop, {})
        # Importing the client and reading the trust store takes long: not on the loop.
        if self._is_due(request):
            await anyio.to_thread.run_sync(self._certificates.look, request.tls)
        key = self._key(request)
        if key not in clients:
            options = await anyio.to_thread.run_sync(self._client_options, key)
            if key not in clients:
                clients[key] = _http().AsyncClient(**options)
        client = clients[key]
        if len(clients) > 1:
            await self._async_retire(clients, key)
        return client

    async def _async_retire(self, clients: dict[Any, Any], key: _Key) -> None:
        """As :meth:`_retire`, where nobody can be told to close it later but the next caller."""
        now = time.monotonic()
        for old in list(clients):
            if old not in clients:  # another task was here
                continue
            if _precedes(old, key):
                clients[_Retired(now + _LONGEST_SECONDS)] = clients.pop(old)
            elif isinstance(old, _Retired) and now >= old.until:
                await clients.pop(old).aclose()

    # -- both ----------------------------------------------------------------------------

    def _is_due(self, request: HttpRequest) -> bool:
        return self._uses_certificates(request) and self._certificates.due(request.tls)

    def _uses_certificates(self, request: HttpRequest) -> bool:
        return self._inner is None and request.url[:6].lower() == "https:"

    def _key(self, request: HttpRequest) -> _Key:
        if self._uses_certificates(request):
            return request.tls, True, self._certificates.version(request.tls)
        return request.tls, False, 0

    def _judged(self, request: HttpRequest, response: HttpResponse) -> HttpResponse:
        if response.status == 401:
            self._certificates.doubt(request.tls)
        return response

    def _client_options(self, key: _Key) -> dict[str, Any]:
        from http import cookiejar

        httpx = _http()
        no_cookies = cookiejar.DefaultCookiePolicy(allowed_domains=[])
        return {
            "verify": self._certificates.context(key[0]) if key[1] else _trusting_nobody(),
            "transport": self._inner,
            "cookies": cookiejar.CookieJar(no_cookies),
            "follow_redirects": False,
            "limits": httpx.Limits(max_connections=100, max_keepalive_connections=20),
        }

    def close(self) -> None:
        """Close what this process opened from blocking code."""
        for other in self.beside:  # which may have something to send yet
            other.close()
        _close_all(self._clients)

    async def aclose(self) -> None:
        """Close what the running loop opened."""
        for other in self.beside:  # as above
            await other.aclose()
        with self._lock:
            clients = self._loops.pop(running_loop(), {})
        while clients:  # a task that is under way may make one yet
            await clients.popitem()[1].aclose()


def _perform_into(answer: Future[HttpResponse], client: Any, request: HttpRequest) -> None:
    try:
        answer.set_result(_perform(client, request))
    except TransportError as failure:
        answer.set_exception(TransportError(failure.detail))


def _perform(client: Any, request: HttpRequest) -> HttpResponse:
    deadline = time.monotonic() + request.timeout
    try:
        with client.stream(**arguments_of(request)) as response:
            body = collect(raw(response), request.limit, deadline)
            return HttpResponse(response.status_code, headers_of(response), body)
    except Exception as error:  # noqa: BLE001 - whatever it is, its text may quote the request
        detail = word_for(error)
    raise TransportError(detail)


def _close_all(clients: dict[Any, Any]) -> None:
    while clients:
        clients.popitem()[1].close()


def _close_retired(clients: dict[Any, Any], retired: object) -> None:
    client = clients.pop(retired, None)
    if client is not None:
        client.close()


def _http() -> ModuleType:
    """httpx2 where it is installed, else httpx: the same API, imported at first use."""
    try:
        import httpx2
    except ImportError:
        import httpx

        return httpx
    return httpx2


def _new_context() -> ssl.SSLContext:
    return _http().create_ssl_context()  # type: ignore[no-any-return]


def _trusting_nobody() -> ssl.SSLContext:
    import ssl

    return ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)  # costs nothing


class _Retired:
    """The key of a client whose exchanges are all over at ``until``, in monotonic seconds."""

    def __init__(self, until: float) -> None:
        self.until = until


def _precedes(old: Any, key: _Key) -> bool:
    """Is this the key of a client with older certificates?"""
    return isinstance(old, tuple) and old[:2] == key[:2] and old[2] < key[2]


async def _acollect(response: Any, limit: int) -> bytes:
    if response.is_stream_consumed:
        return collect(raw(response), limit, math.inf)
    body = bytearray()
    async with contextlib.aclosing(response.aiter_raw()) as chunks:
        async for chunk in chunks:
            body += chunk
            if len(body) > limit:
                raise TransportError("too_large")
    return bytes(body)
