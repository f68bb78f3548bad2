"""The Todo API of AuthZEN's interoperability scenario, in Starlette and in Flask: its routes name
actions and resources, and where an owner matters its handlers ask.
"""

from __future__ import annotations

from typing import Any

import flask
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

from bearer_middleware import BearerMiddleware, ResourceServer, WSGIBearerMiddleware
from bearer_middleware.policy.model import Resource
from bearer_middleware.web import flask as for_flask
from bearer_middleware.web import starlette as for_starlette

#: All that the middleware decides by itself, and what it leaves to the handlers.
ROUTES = """
[[routes]]
method = "GET"
path = "/users/{userId}"
action = "can_read_user"
resource = "user:{userId}"

[[routes]]
method = "GET"
path = "/todos"
action = "can_read_todos"
resource = "todo:todo-1"

[[routes]]
method = "POST"
path = "/todos"
action = "can_create_todo"
resource = "todo:todo-1"

[[routes]]
method = "GET"
path = "/changeable/{todoIds}"
policy = false

[[routes]]
method = "*"
path = "/todos/{todoId}"
policy = false
"""
#: The same API behind a gateway: every request is asked by method and template.
GATEWAY_ROUTES = "".join(
    f'[[routes]]\nmethod = "{method}"\npath = "{path}"\n'
    for method, path in (
        ("GET", "/users/{userId}"),
        ("GET", "/todos"),
        ("POST", "/todos"),
        ("PUT", "/todos/{todoId}"),
        ("DELETE", "/todos/{todoId}"),
    )
)

Owners = dict[str, str]


def asgi(server: ResourceServer, owners: Owners) -> Any:
    """The API in Starlette."""

    def todo(request: Any) -> Resource:
        return _todo(request.path_params["todoId"], owners)

    async def done(request: Request) -> JSONResponse:
        return JSONResponse("done")

    @for_starlette.requires("can_update_todo", todo)
    async def update(request: Request) -> JSONResponse:
        return JSONResponse("updated")

    async def delete(request: Request) -> JSONResponse:
        await for_starlette.current_authorizer(request).require("can_delete_todo", todo(request))
        return JSONResponse("deleted")

    async def changeable(request: Request) -> JSONResponse:
        authorizer = for_starlette.current_authorizer(request)
        ids = request.path_params["todoIds"].split(",")
        mine = await authorizer.filter("can_update_todo", ids, lambda one: _todo(one, owners))
        return JSONResponse(mine)

    routes = [
        Route("/users/{userId}", done),
        Route("/todos", done, methods=["GET", "POST"]),
        Route("/todos/{todoId}", update, methods=["PUT"]),
        Route("/todos/{todoId}", delete, methods=["DELETE"]),
        Route("/changeable/{todoIds}", changeable),
    ]
    return BearerMiddleware(Starlette(routes=routes), server=server)


def wsgi(server: ResourceServer, owners: Owners) -> Any:
    """The API in Flask."""
    app = flask.Flask("todo")

    def todo(request: Any) -> Resource:
        return _todo(request.view_args["todoId"], owners)

    @app.get("/users/<userId>")
    @app.get("/todos")
    @app.post("/todos")
    def done(**_: str) -> Any:
        return flask.jsonify("done")

    @app.put("/todos/<todoId>")
    @for_flask.requires("can_update_todo", todo)
    def update(**_: str) -> Any:
        return flask.jsonify("updated")

    @app.delete("/todos/<todoId>")
    def delete(**_: str) -> Any:
        for_flask.current_authorizer().require("can_delete_todo", todo(flask.request))
        return flask.jsonify("deleted")

    @app.get("/changeable/<ids>")
    def changeable(ids: str) -> Any:
        authorizer = for_flask.current_authorizer()
        key = lambda one: _todo(one, owners)  # noqa: E731
        return flask.jsonify(authorizer.filter("can_update_todo", ids.split(","), key))

    return WSGIBearerMiddleware(app, server=server)


def bare_asgi(server: ResourceServer) -> Any:
    """What stands behind a gateway, and asks nobody."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b""})

    return BearerMiddleware(app, server=server)


def bare_wsgi(server: ResourceServer) -> Any:
    """The same in the other world."""

    def app(environ: Any, start_response: Any) -> list[bytes]:
        start_response("200 OK", [("Content-Type", "text/plain")])
        return []

    return WSGIBearerMiddleware(app, server=server)


def _todo(identifier: str, owners: Owners) -> Resource:
    return Resource("todo", identifier, {"ownerID": owners[identifier]})
