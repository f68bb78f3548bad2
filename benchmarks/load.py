"""A load generator for machines without wrk: ``TOKEN=... load.py PORT SECONDS CONNECTIONS``.

Prints the requests answered with 200, and the seconds they took.
"""

from __future__ import annotations

import asyncio
import os
import sys
import time

import uvloop

_BODY = b"\r\n\r\nok"


class Client(asyncio.Protocol):
    """One connection with one request under way at a time."""

    def __init__(self, request: bytes, until: float) -> None:
        self._request, self._until = request, until
        self.answered, self._received = 0, b""
        self.done = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport
        transport.write(self._request)

    def data_received(self, data: bytes) -> None:
        self._received += data
        if not self._received.startswith(b"HTTP/1.1 200"[: len(self._received)]):
            self.done.set_exception(RuntimeError(repr(self._received[:200])))
            self._transport.close()
            return
        if not self._received.endswith(_BODY):  # the rest is on its way
            return
        self.answered, self._received = self.answered + 1, b""
        if time.perf_counter() < self._until:
            self._transport.write(self._request)
        elif not self.done.done():
            self.done.set_result(None)
            self._transport.close()


async def _main(port: int, seconds: float, connections: int) -> None:
    token = os.environ["TOKEN"]
    request = f"GET /orders HTTP/1.1\r\nHost: api\r\nAuthorization: Bearer {token}\r\n\r\n".encode()
    begun = time.perf_counter()
    loop = asyncio.get_running_loop()

    def client() -> Client:
        return Client(request, begun + seconds)

    made = [await loop.create_connection(client, "127.0.0.1", port) for _ in range(connections)]
    clients = [client for _, client in made]
    await asyncio.gather(*(client.done for client in clients))
    print(sum(client.answered for client in clients), time.perf_counter() - begun)


if __name__ == "__main__":
    uvloop.run(_main(int(sys.argv[1]), float(sys.argv[2]), int(sys.argv[3])))
