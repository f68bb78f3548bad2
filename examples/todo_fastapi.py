"""FastAPI: todos, and who may do what with them. Policy and routes are in files beside this one:
`todo_policy.toml` says who may, `todo_routes.toml` what a request is. The code names no role."""

import os
from typing import Annotated, Any

import uvicorn
from fastapi import Depends, FastAPI
from fastapi.requests import HTTPConnection

from bearer_middleware import BearerMiddleware, Identity
from bearer_middleware.policy.model import Resource
from bearer_middleware.web.authorizing import AsyncAuthorizer
from bearer_middleware.web.fastapi import authorize, current_authorizer

TODOS = {"1": {"text": "buy milk", "owner": "alice"}, "2": {"text": "sell milk", "owner": "bob"}}


def todo(number: str) -> Resource | None:
    """What policy is asked about: it may want to know the owner."""
    return Resource("todo", number, {"owner": TODOS[number]["owner"]}) if number in TODOS else None


def todo_of(connection: HTTPConnection) -> Resource | None:
    return todo(connection.path_params["number"])


app = FastAPI(title="Todos")
app.add_middleware(BearerMiddleware)


@app.get("/todos")
async def todos(authorizer: Annotated[AsyncAuthorizer, Depends(current_authorizer)]) -> Any:
    return await authorizer.filter("read", TODOS, todo)  # one question for all of them


@app.post("/todos", status_code=201)
async def create() -> str:
    return "the table of routes has asked"


@app.put("/todos/{number}")
async def update(caller: Annotated[Identity, Depends(authorize("update", todo_of))]) -> str:
    return f"updated by {caller.subject}"


@app.delete("/todos/{number}")
async def delete(number: str) -> str:
    return f"deleted {number}"


if __name__ == "__main__":
    uvicorn.run(app, port=int(os.environ.get("PORT", "8000")), lifespan="on")
