"""What the servers serve: who is calling, as JSON; configured by BEARER_* variables alone."""

import json

from bearer_middleware import BearerMiddleware, WSGIBearerMiddleware


def _describe(identity) -> bytes:
    return json.dumps({"subject": identity.subject, "kind": identity.kind}).encode()


async def _asgi(scope, receive, send) -> None:
    if scope["type"] == "lifespan":
        for stage in ("startup", "shutdown"):
            await receive()
            await send({"type": f"lifespan.{stage}.complete"})
        return
    body = _describe(scope["bearer_middleware.identity"])
    if scope["type"] == "websocket":
        await receive()
        await send({"type": "websocket.accept"})
        await send({"type": "websocket.send", "text": body.decode()})
        await send({"type": "websocket.close"})
        return
    headers = [(b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": body})


def _wsgi(environ, start_response) -> list[bytes]:
    body = _describe(environ["bearer_middleware.identity"])
    start_response("200 OK", [("Content-Length", str(len(body)))])
    return [body]


asgi = BearerMiddleware(_asgi)
wsgi = WSGIBearerMiddleware(_wsgi)
