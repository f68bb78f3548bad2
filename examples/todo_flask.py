"""Flask: as `todo_fastapi`, with the same policy and the same table of routes."""

import os
from typing import Any

from flask import Flask, Request

from bearer_middleware import WSGIBearerMiddleware
from bearer_middleware.policy.model import Resource
from bearer_middleware.web.flask import current_authorizer, current_identity, requires

TODOS = {"1": {"text": "buy milk", "owner": "alice"}, "2": {"text": "sell milk", "owner": "bob"}}


def todo(number: str) -> Resource | None:
    """What policy is asked about: it may want to know the owner."""
    return Resource("todo", number, {"owner": TODOS[number]["owner"]}) if number in TODOS else None


def todo_of(request: Request) -> Resource | None:
    return todo(request.view_args["number"])


app = Flask(__name__)
app.wsgi_app = WSGIBearerMiddleware(app.wsgi_app)


@app.get("/todos")
def todos() -> Any:
    return current_authorizer().filter("read", TODOS, todo)  # one question for all of them


@app.post("/todos")
def create() -> Any:
    return "the table of routes has asked", 201


@app.put("/todos/<number>")
@requires("update", todo_of)
def update(number: str) -> Any:
    return f"updated by {current_identity().subject}"


@app.delete("/todos/<number>")
def delete(number: str) -> Any:
    return f"deleted {number}"


if __name__ == "__main__":
    app.run(port=int(os.environ.get("PORT", "8000")))
