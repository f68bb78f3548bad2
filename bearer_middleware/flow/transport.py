"""HTTP exchanges over httpx, or httpx2 where that is installed.

Every exchange is bounded as a whole: httpx's own time limits are per socket operation, so a
server that drips one byte at a time, or a resolver that hangs, would outlast them. On a
loop a cancel scope does it; blocking callers wait for a short-lived thread. Bodies are
counted raw and never decompressed, redirects are never followed, cookies never kept.

Clients are made at first use, one per process or event loop, and dropped (not closed) in
a forked child, since the connections are the parent's.
"""

from __future__ import annotations

import contextlib
import contextvars
import functools
import threading
import time
import weakref
from collections.abc import AsyncGenerator, Iterator, Mapping
from concurrent.futures import Future
from types import ModuleType
from typing import TYPE_CHECKING, Any

from bearer_middleware.errors import TransportError
from bearer_middleware.flow.effects import HttpRequest, HttpResponse, Tls
from bearer_middleware.flow.locks import LazyLock, renew_after_fork
from bearer_middleware.flow.worlds import has_ended, running_loop, threads_do_not_run

if TYPE_CHECKING:
    import ssl


# No exchange of ours is given longer: BEARER_HTTP_TIMEOUT is at most this.
_LONGEST_SECONDS = 60.0
_MOST_RETIRED = 8


class HttpTransport:
    """Performs :class:`HttpRequest` effects in threads, greenlets, asyncio and trio alike.

    ``inner`` is a transport of httpx's own kind, used for every exchange instead of the
    network: for tests, or for an unusual road to the authorization server.
    """

    def __init__(self, inner: Any = None) -> None:
        self._inner = inner
        #: Other things with connections, closed together with this one.
        self.beside: list[Any] = []
        self._lock = LazyLock()
        self._contexts: dict[Tls, ssl.SSLContext] = {}
        self._clients: dict[Any, Any] = {}
        self._loops: weakref.WeakKeyDictionary[Any, dict[tuple[Tls, bool], Any]] = (
            weakref.WeakKeyDictionary()
        )
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
        client = self._client(request)
        if threads_do_not_run():
            return _perform(client, request)
        answer: Future[HttpResponse] = Future()
        context = contextvars.copy_context()  # whoever traces httpx finds the caller's span
        threading.Thread(
            target=context.run,
            args=(_perform_into, answer, client, request),
            name="bearer_middleware exchange",
            daemon=True,
        ).start()
        try:
            return answer.result(max(request.timeout, 0.0))
        except TimeoutError:
            self._retire(_client_key(request), client)
        raise TransportError("timeout")

    def _client(self, request: HttpRequest) -> Any:
        key = _client_key(request)
        client = self._clients.get(key)
        if client is None:
            options = self._client_options(key)
            with self._lock:
                client = self._clients.get(key)
                if client is None:
                    client = self._clients[key] = _http().Client(**options)
        return client

    def _retire(self, key: tuple[Tls, bool], client: Any) -> None:
        """Closing its connections is what ends an exchange that drips; but only once others
        that are under way on the same client have had their time too.
        """
        retired = object()
        with self._lock:
            if self._inner is not None or self._clients.get(key) is not client:
                return
            self._clients[retired] = self._clients.pop(key)
            excess = [old for old in self._clients if type(old) is object][:-_MOST_RETIRED]
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
                async with client.stream(**_arguments(request)) as response:
                    body = await _acollect(response.aiter_raw(), request.limit)
                    return HttpResponse(response.status_code, _headers(response), body)
        except Exception as error:  # noqa: BLE001 - whatever it is, its text may quote the request
            detail = _word_for(error)
        raise TransportError(detail)

    async def _async_client(self, request: HttpRequest) -> Any:
        key, loop = _client_key(request), running_loop()
        clients = self._loops.get(loop)
        if clients is None:
            self._forget_ended_loops()
            clients = self._loops.setdefault(loop, {})
        if key not in clients:
            import anyio

            # Importing the client and reading the trust store takes long: not on the loop.
            options = await anyio.to_thread.run_sync(self._client_options, key)
            if key not in clients:
                clients[key] = _http().AsyncClient(**options)
        return clients[key]

    def _forget_ended_loops(self) -> None:
        """A loop that ended without a word left its clients here, and they keep it alive."""
        for loop in list(self._loops):
            if has_ended(loop):
                self._loops.pop(loop, None)

    # -- both ----------------------------------------------------------------------------

    def _client_options(self, key: tuple[Tls, bool]) -> dict[str, Any]:
        from http import cookiejar

        httpx = _http()
        no_cookies = cookiejar.DefaultCookiePolicy(allowed_domains=[])
        return {
            "verify": self._context(*key),
            "transport": self._inner,
            "cookies": cookiejar.CookieJar(no_cookies),
            "follow_redirects": False,
            "limits": httpx.Limits(max_connections=100, max_keepalive_connections=20),
        }

    def _context(self, tls: Tls, secure: bool) -> ssl.SSLContext:
        if not secure or self._inner is not None:
            import ssl

            return ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)  # trusts nobody, and costs nothing
        context = self._contexts.get(tls)
        if context is None:
            context = _http().create_ssl_context()
            if tls.authorities is not None:
                context.load_verify_locations(tls.authorities)
            if tls.certificate is not None:
                context.load_cert_chain(tls.certificate, tls.key)
            self._contexts[tls] = context
        return context

    def close(self) -> None:
        """Close what this process opened from blocking code."""
        _close_all(self._clients)
        for other in self.beside:
            other.close()

    async def aclose(self) -> None:
        """Close what the running loop opened."""
        clients = self._loops.pop(running_loop(), {})
        for client in clients.values():
            await client.aclose()
        for other in self.beside:
            await other.aclose()


def _perform_into(answer: Future[HttpResponse], client: Any, request: HttpRequest) -> None:
    try:
        answer.set_result(_perform(client, request))
    except TransportError as failure:
        answer.set_exception(TransportError(failure.detail))


def _perform(client: Any, request: HttpRequest) -> HttpResponse:
    deadline = time.monotonic() + request.timeout
    try:
        with client.stream(**_arguments(request)) as response:
            body = _collect(response.iter_raw(), request.limit, deadline)
            return HttpResponse(response.status_code, _headers(response), body)
    except Exception as error:  # noqa: BLE001 - whatever it is, its text may quote the request
        detail = _word_for(error)
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


def _client_key(request: HttpRequest) -> tuple[Tls, bool]:
    return request.tls, request.url[:6].lower() == "https:"


def _arguments(request: HttpRequest) -> dict[str, Any]:
    return {
        "method": request.method,
        "url": request.url,
        "headers": {
            "User-Agent": _user_agent(),
            "Accept-Encoding": "identity",
            **request.headers,
        },
        "content": request.body,
        # A little less than the whole, so that plain silence ends without further ado.
        "timeout": max(request.timeout * 0.95, 0.001),
    }


@functools.cache
def _user_agent() -> str:
    from importlib import metadata

    with contextlib.suppress(metadata.PackageNotFoundError):
        return f"bearer-middleware/{metadata.version('bearer-middleware')}"
    return "bearer-middleware"


def _headers(response: Any) -> Mapping[str, str]:
    return {name.lower(): value for name, value in response.headers.items()}


def _collect(chunks: Iterator[bytes], limit: int, deadline: float) -> bytes:
    body = bytearray()
    for chunk in chunks:
        body += chunk
        if len(body) > limit:
            raise TransportError("too_large")
        if time.monotonic() > deadline:
            raise TransportError("timeout")
    return bytes(body)


async def _acollect(chunks: AsyncGenerator[bytes, None], limit: int) -> bytes:
    body = bytearray()
    async with contextlib.aclosing(chunks):
        async for chunk in chunks:
            body += chunk
            if len(body) > limit:
                raise TransportError("too_large")
    return bytes(body)


def _word_for(error: Exception) -> str:
    if isinstance(error, TransportError):
        return error.detail
    name = type(error).__name__  # of httpx or httpx2, whose classes are distinct
    if isinstance(error, TimeoutError) or name.endswith("Timeout"):
        return "timeout"
    if name == "ConnectError":
        return "connect"
    return "protocol" if name.endswith(("Error", "Exception")) else "failed"
