"""What the servers of the feed's tests serve: the process that answers; warmed up, if asked to."""

import os

from bearer_middleware import BearerMiddleware, WSGIBearerMiddleware
from bearer_middleware.flow.drivers import run


async def _asgi(scope, receive, send) -> None:
    if scope["type"] == "lifespan":
        for stage in ("startup", "shutdown"):
            await receive()
            await send({"type": f"lifespan.{stage}.complete"})
        return
    body = str(os.getpid()).encode()
    headers = [(b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": body})


def _wsgi(environ, start_response) -> list[bytes]:
    body = str(os.getpid()).encode()
    start_response("200 OK", [("Content-Length", str(len(body)))])
    return [body]


asgi = BearerMiddleware(_asgi)
wsgi = WSGIBearerMiddleware(_wsgi)

if "WARM_TOKEN" in os.environ:  # with --preload this is in the parent of all workers
    value = b"Bearer " + os.environ["WARM_TOKEN"].encode()
    assert run(wsgi.server.authenticate([value]), wsgi.server.transport) is not None
    assert wsgi.server.feed.is_live
