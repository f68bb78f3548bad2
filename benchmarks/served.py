"""What the serving group has uvicorn serve, by ``APP``; prints the port and a good token."""

from __future__ import annotations

import os
import socket
import sys

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Route


async def orders(request: Request) -> PlainTextResponse:
    return PlainTextResponse("ok")


def main() -> None:
    sys.path.insert(1, os.environ["LIBRARY"])
    sys.modules.update(orjson=None, pybase64=None)  # without the speed extra
    import peers
    from tokens import material

    from bearer_middleware import BearerMiddleware

    tokens = material()
    app = Starlette(routes=[Route("/orders", orders)])
    made = {
        "bare": lambda: app,
        "ours": lambda: BearerMiddleware(app, server=tokens.server()),
        "afresh": lambda: BearerMiddleware(app, server=tokens.server(jwt_cache_ttl=0)),
        "PyJWT": lambda: peers.starlette_with_pyjwt(app, tokens),
    }[os.environ["APP"]]()
    listener = socket.create_server(("127.0.0.1", 0), backlog=1024)
    print(listener.getsockname()[1], tokens.tokens[0].decode(), flush=True)
    config = uvicorn.Config(made, loop="uvloop", http="httptools", lifespan="off", access_log=False)
    uvicorn.Server(config).run([listener])


if __name__ == "__main__":
    main()
