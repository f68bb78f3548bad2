"""A load generator that never sleeps: ``TOKEN=... load.py PORT SECONDS CONNECTIONS``.

To wake another CPU costs a server in a virtual machine about as much as to look a token up, and
the slower it is the more often its client has gone to sleep: that is not what is to be measured.

The requests have nine headers, as those of ``worlds.py`` and of the clients of an API.

Prints the requests answered with 200, and the seconds they took.
"""

from __future__ import annotations

import os
import select
import socket
import sys
import time
from contextlib import ExitStack

_REQUEST = """\
GET /orders?page=2 HTTP/1.1
Host: api.example.com
User-Agent: Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36
Accept: application/json
Accept-Language: en-GB,en;q=0.9
Accept-Encoding: gzip, deflate, br
Authorization: Bearer {token}
X-Request-ID: 0b2b5f0e-6d5c-4b5e-9a8f-2f5b7d1c9e4a
X-Forwarded-For: 203.0.113.7
Connection: keep-alive

"""
_BEGIN, _END = b"HTTP/1.1 200", b"\r\n\r\nok"


class Client:
    """One connection with one request under way at a time."""

    def __init__(self, connection: socket.socket, request: bytes) -> None:
        connection.setblocking(False)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._connection, self._request, self._received = connection, request, b""

    def ask(self) -> None:
        self._connection.sendall(self._request)

    def hear(self) -> bool:
        """Is the answer whole? Then the next question is asked."""
        self._received += self._connection.recv(65_536)
        if not self._received.endswith(_END):
            return False
        if not self._received.startswith(_BEGIN):
            raise RuntimeError(repr(self._received[:200]))
        self._received = b""
        self.ask()
        return True


def _main(port: int, seconds: float, connections: int) -> None:
    request = _REQUEST.format(token=os.environ["TOKEN"]).replace("\n", "\r\n").encode()
    clients, poll, answered = {}, select.epoll(), 0
    # Where there is one CPU, who spins would keep the server from it.
    patience = 0 if (os.cpu_count() or 1) > 1 else None
    with ExitStack() as stack:
        stack.enter_context(poll)
        for _ in range(connections):
            connection = stack.enter_context(socket.create_connection(("127.0.0.1", port)))
            clients[connection.fileno()] = Client(connection, request)
            poll.register(connection, select.EPOLLIN)
        begun = time.perf_counter()
        for client in clients.values():
            client.ask()
        while (took := time.perf_counter() - begun) < seconds:
            for number, _ in poll.poll(patience):
                answered += clients[number].hear()
    print(answered, took)


if __name__ == "__main__":
    _main(int(sys.argv[1]), float(sys.argv[2]), int(sys.argv[3]))
