"""Servers for the demo, on loopback, in threads that end with it."""

from __future__ import annotations

import os
import socket
import threading
import time
from collections.abc import Generator
from contextlib import closing, contextmanager
from socketserver import TCPServer, ThreadingMixIn
from typing import Any
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer

from bearer_middleware.web.asgi import ASGIApplication
from bearer_middleware.web.wsgi import WSGIApplication

HOST = "127.0.0.1"
_PATIENCE = 10.0
_PROXY = ("NO_PROXY", "no_proxy")


@contextmanager
def asgi_served(app: ASGIApplication, port: int) -> Generator[int]:
    """Serve by uvicorn inside the block, and tell on which port. Raises ``ImportError``."""
    import uvicorn

    with closing(socket.create_server((HOST, port))) as listening:
        config = uvicorn.Config(
            app,
            ws="none",
            access_log=False,
            log_level="warning",
            timeout_graceful_shutdown=1,
        )
        server = uvicorn.Server(config)
        thread = threading.Thread(target=server.run, args=([listening],), name="demo ASGI")
        thread.start()
        try:
            _wait_for(server, thread)
            yield listening.getsockname()[1]
        finally:
            server.should_exit = True
            thread.join()


@contextmanager
def wsgi_served(app: WSGIApplication, port: int) -> Generator[int]:
    """Serve by the standard library's server inside the block, and tell on which port."""
    with _ThreadingServer((HOST, port), _Handler) as server:
        server.set_app(app)
        thread = threading.Thread(target=server.serve_forever, args=(0.05,), name="demo WSGI")
        thread.start()
        try:
            yield server.server_port
        finally:
            server.shutdown()
            thread.join()


@contextmanager
def loopback_without_proxy() -> Generator[None]:
    """Whatever proxy this machine has, it does not stand between the parts of the demo."""
    before = {name: os.environ.get(name) for name in _PROXY}
    known = ",".join(filter(None, before.values()))
    os.environ.update(dict.fromkeys(_PROXY, f"{known},{HOST}".lstrip(",")))
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


def _wait_for(server: Any, thread: threading.Thread) -> None:
    deadline = time.monotonic() + _PATIENCE
    while not server.started:
        if not thread.is_alive() or time.monotonic() > deadline:
            raise OSError("uvicorn did not start")
        time.sleep(0.01)


class _ThreadingServer(ThreadingMixIn, WSGIServer):
    daemon_threads = True

    def server_bind(self) -> None:
        # Not http.server's: that looks up the name of the host, which may take seconds.
        TCPServer.server_bind(self)
        self.server_name, self.server_port = HOST, self.server_address[1]
        self.setup_environ()


class _Handler(WSGIRequestHandler):
    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the name is http.server's
        """Stay silent: the terminal belongs to the curl lines."""
