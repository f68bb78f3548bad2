"""The issuer on a loopback port: one thread for each connection, none left behind."""

from __future__ import annotations

import socket
import socketserver
import sys
import threading
from collections.abc import Generator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler
from typing import Any, cast
from urllib.parse import unquote

from bearer_middleware.testing.endpoints import Answer, Request
from bearer_middleware.testing.faults import Fault, Respond

#: Bytes of a body that is not copied behind its head.
_HUGE = 1_000_000


@contextmanager
def served(respond: Respond, port: int) -> Generator[int]:
    """Serve inside the block, and tell on which port."""
    server = _Server(respond, port)
    thread = threading.Thread(
        target=server.serve_forever, args=(0.01,), name="bearer-issuer", daemon=True
    )
    thread.start()
    try:
        yield server.server_address[1]
    finally:
        server.stop()
        thread.join()


class _Server(socketserver.TCPServer):
    # Not http.server's: that looks up the name of the host, which may take seconds.
    allow_reuse_address = True
    request_queue_size = 512

    def __init__(self, respond: Respond, port: int) -> None:
        self.respond = respond
        self.stopping = threading.Event()
        self._connections: list[tuple[socket.socket, threading.Thread]] = []
        super().__init__(("127.0.0.1", port), _Connection)

    def process_request(self, request: Any, client_address: Any) -> None:
        thread = threading.Thread(
            target=self._converse, args=(request, client_address), daemon=True
        )
        self._connections = [pair for pair in self._connections if pair[1].is_alive()]
        thread.start()
        self._connections.append((request, thread))

    def _converse(self, request: Any, client_address: Any) -> None:
        try:
            self.finish_request(request, client_address)
        except Exception:  # noqa: BLE001 - the server goes on, as socketserver does
            self.handle_error(request, client_address)
        finally:
            self.shutdown_request(request)

    def handle_error(self, request: Any, client_address: Any) -> None:
        # A client that hangs up is the everyday of a test; anything else is a bug of ours.
        if not isinstance(sys.exception(), OSError):
            super().handle_error(request, client_address)

    def stop(self) -> None:
        """End every conversation, also those in the middle of a delay."""
        self.shutdown()
        self.server_close()
        self.stopping.set()
        for connection, thread in self._connections:
            with suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
            thread.join()


class _Connection(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    @property
    def _host(self) -> _Server:
        return cast(_Server, self.server)

    def _reply(self) -> None:
        length = int(self.headers.get("content-length") or 0)
        request = Request(
            self.command,
            unquote(self.path.partition("?")[0]),
            {name.lower(): value for name, value in self.headers.items()},
            self.rfile.read(length),
        )
        answer, fault = self._host.respond(request)
        self._host.stopping.wait(fault.delay)
        if fault.drop or self._host.stopping.is_set():
            self.close_connection = True
            return
        self._write(answer, fault)

    do_GET = do_HEAD = do_POST = do_PUT = do_PATCH = do_DELETE = do_OPTIONS = _reply  # noqa: N815 - http.server's names

    def _write(self, answer: Answer, fault: Fault) -> None:
        head, body = answer.head(), b"" if self.command == "HEAD" else answer.body
        if answer.headers.get("content-length") != str(len(answer.body)):
            self.close_connection = True  # else the client would wait for the end for ever
        if not fault.drip:
            self._write_at_once(head, body)
            return
        slow = head + body if fault.drip_headers else body
        self.wfile.write(b"" if fault.drip_headers else head)
        for byte in slow:
            if self._host.stopping.wait(fault.drip):
                return
            self.wfile.write(bytes([byte]))

    def _write_at_once(self, head: bytes, body: bytes) -> None:
        if len(body) < _HUGE:
            self.wfile.write(head + body)  # one packet, where it fits
            return
        self.wfile.write(head)
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the name is http.server's
        """Stay silent: what was asked stands in the issuer's log."""
