"""``demo``: an authorization server, two protected APIs, and how to call them."""

from __future__ import annotations

import http.client
import signal
import threading
import time
from collections.abc import Generator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any, NamedTuple, TextIO
from urllib.parse import urlsplit

from bearer_middleware.commands.findings import tell
from bearer_middleware.commands.serving import asgi_served, loopback_without_proxy, wsgi_served
from bearer_middleware.resource_server import ResourceServer
from bearer_middleware.settings import Settings
from bearer_middleware.testing import Issuer
from bearer_middleware.web.asgi import BearerMiddleware
from bearer_middleware.web.demo import asgi_api, wsgi_api
from bearer_middleware.web.wsgi import WSGIBearerMiddleware

_HOUR = 3_600
_AUDIENCE = "demo"
_INSTALL = "demo needs uvicorn: pip install 'bearer-middleware[demo]'"


class Ports(NamedTuple):
    """Where to listen; 0 is any free port."""

    issuer: int = 0
    asgi: int = 0
    wsgi: int = 0


@dataclass(frozen=True, slots=True)
class Case:
    """One request, and the status it will be answered with."""

    what: str
    url: str
    token: str | None
    status: int

    def lines(self) -> tuple[str, ...]:
        """What is printed: a line for the reader, and one for the shell."""
        header = f' -H "Authorization: Bearer {self.token}"' if self.token is not None else ""
        return "", f"{self.what}: {self.status}", f"curl -i{header} {self.url}"

    def call(self) -> int:
        """Make the request; the status that came, or 0 where nothing did."""
        headers = {"Authorization": f"Bearer {self.token}"} if self.token is not None else {}
        parts = urlsplit(self.url)
        connection = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=30)
        try:
            connection.request("GET", parts.path, headers=headers)
            response = connection.getresponse()
            response.read()
            return response.status
        except (OSError, http.client.HTTPException):
            return 0
        finally:
            connection.close()


def demo(ports: Ports, out: TextIO, *, once: bool = False) -> int:
    """Serve until interrupted; ``once``: make every request that is printed, and end."""
    try:
        import uvicorn  # noqa: F401 - asked for before anything is started
    except ImportError:
        tell([_INSTALL], out)
        return 1
    with _interruptions() as interrupted, ExitStack() as stack:
        stack.enter_context(loopback_without_proxy())
        try:
            issuer = stack.enter_context(Issuer(audience=_AUDIENCE).serve(ports.issuer))
            server = ResourceServer(Settings(**issuer.settings()))
            stack.callback(server.close)
            asgi, wsgi = _apis(stack, server, ports)
        except OSError as error:
            tell([f"demo cannot listen: {error.strerror or error}"], out)
            return 1
        tell(_introduction(issuer, asgi, wsgi), out)
        cases = _cases(issuer, {"ASGI": asgi, "WSGI": wsgi})
        if once:
            return _try(cases, out)
        lines = [line for case in cases for line in case.lines()]
        tell([*lines, "", "Serving until interrupted (Ctrl-C)."], out)
        while not interrupted.wait(0.5):  # without a limit, Windows would not hear of Ctrl-C
            pass
        return 0


def _apis(stack: ExitStack, server: ResourceServer, ports: Ports) -> tuple[str, str]:
    asgi = asgi_served(BearerMiddleware(asgi_api, server=server), ports.asgi)
    wsgi = wsgi_served(WSGIBearerMiddleware(wsgi_api, server=server), ports.wsgi)
    first, second = (stack.enter_context(api) for api in (asgi, wsgi))
    return f"http://127.0.0.1:{first}/", f"http://127.0.0.1:{second}/"


def _introduction(issuer: Issuer, asgi: str, wsgi: str) -> list[str]:
    settings = {name: str(value) for name, value in issuer.settings().items()}
    settings["allow_insecure_http"] = "true"
    exports = " ".join(f"BEARER_{name.upper()}={value}" for name, value in settings.items())
    return [
        f"authorization server  {issuer.url}",
        f"ASGI API              {asgi}",
        f"WSGI API              {wsgi}",
        "",
        "Of an API that trusts this server, `check` and `explain` can tell more with:",
        f"export {exports}",
    ]


def _cases(issuer: Issuer, apis: dict[str, str]) -> list[Case]:
    past = int(time.time()) - _HOUR
    revoked = issuer.opaque()
    issuer.revoke(revoked)
    tokens = (
        ("a JWT", issuer.jwt(), 200),
        ("an opaque token", issuer.opaque(), 200),
        ("an expired JWT", issuer.jwt(iat=past - _HOUR, exp=past), 401),
        ("a revoked opaque token", revoked, 401),
        ("no token", None, 401),
    )
    return [
        Case(f"{name} API, {what}", url, token, status)
        for name, url in apis.items()
        for what, token, status in tokens
    ]


def _try(cases: Sequence[Case], out: TextIO) -> int:
    good = True
    for case in cases:
        status = case.call()
        good = good and status == case.status
        tell([*case.lines(), f"got {status}"], out)
    tell(["", "all as announced" if good else "not all as announced"], out)
    return 0 if good else 1


@contextmanager
def _interruptions() -> Generator[threading.Event]:
    """Set by Ctrl-C and by SIGTERM, where this is the thread that hears of signals."""
    interrupted = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield interrupted
        return

    def interrupt(*_: Any) -> None:
        interrupted.set()

    before = {name: signal.signal(name, interrupt) for name in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield interrupted
    finally:
        for name, handler in before.items():
            signal.signal(name, handler)
