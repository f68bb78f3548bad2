"""WSGI without a framework: the identity is in the environ."""

import json
import os
from collections.abc import Callable
from typing import Any
from wsgiref.simple_server import make_server

from bearer_middleware import WSGIBearerMiddleware


def whoami(environ: dict[str, Any], start_response: Callable[..., Any]) -> list[bytes]:
    identity = environ["bearer_middleware.identity"]
    body = json.dumps({"subject": identity.subject, "scopes": sorted(identity.scopes)}).encode()
    start_response("200 OK", [("Content-Type", "application/json")])
    return [body]


def write(environ: dict[str, Any], start_response: Callable[..., Any]) -> list[bytes]:
    body = json.dumps({"written by": environ["bearer_middleware.identity"].subject}).encode()
    start_response("200 OK", [("Content-Type", "application/json")])
    return [body]


# Without a router there is no route to decorate: each application has its own middleware.
reader = WSGIBearerMiddleware(whoami)
writer = WSGIBearerMiddleware(write, required_scopes="write")


def app(environ: dict[str, Any], start_response: Callable[..., Any]) -> Any:
    chosen = writer if environ["PATH_INFO"] == "/write" else reader
    return chosen(environ, start_response)


if __name__ == "__main__":
    make_server("127.0.0.1", int(os.environ.get("PORT", "8000")), app).serve_forever()
