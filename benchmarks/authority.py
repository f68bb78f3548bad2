"""An authorization server in a process of its own: answers introspection after 20 ms, or as many as
its argument says, and counts calls.

Prints its port. ``GET /count`` tells how often it was asked since the last time.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time

DELAY = float(sys.argv[1]) / 1000 if len(sys.argv) > 1 else 0.020
_calls = 0


async def _serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    global _calls  # noqa: PLW0603 - it is all this process is about
    try:
        while head := await reader.readuntil(b"\r\n\r\n"):
            line, *headers = head.decode("latin-1").split("\r\n")
            lengths = [h.split(":")[1] for h in headers if h.lower().startswith("content-length:")]
            await reader.readexactly(int(lengths[0]) if lengths else 0)
            if "/count" in line:
                body, _calls = str(_calls).encode(), 0
            else:
                _calls += 1
                await asyncio.sleep(DELAY)
                body = json.dumps(_answer()).encode()
            writer.write(
                b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n%s"
                % (len(body), body)
            )
            await writer.drain()
    except (asyncio.IncompleteReadError, ConnectionError):
        writer.close()


def _answer() -> dict[str, object]:
    now = int(time.time())
    return {
        "active": True,
        "sub": "auth0|5f7c8ec7c33c6c004bbaf000",
        "client_id": "web-frontend",
        "aud": "api",
        "scope": "read:orders write:orders",
        "iat": now,
        "exp": now + 3600,
    }


async def _main() -> None:
    server = await asyncio.start_server(_serve, "127.0.0.1", 0, backlog=1024)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(_main())
