"""Starlette: a resource in the way of MCP. A client that knows nothing but its address, /mcp, finds
the authorization server by itself: refused, it reads where this API is described, and by whom its
tokens are issued. The scope `mcp:write` grants `mcp:read`, which every request needs."""

import os

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

from bearer_middleware import BearerMiddleware
from bearer_middleware.web.starlette import current_identity


async def mcp(request: Request) -> JSONResponse:
    """One tool, `whoami`, in the JSON-RPC of MCP; its handshake and streams are left out here."""
    call = await request.json()
    answer = {"jsonrpc": "2.0", "id": call.get("id")}
    if call.get("method") != "tools/call" or call["params"]["name"] != "whoami":
        return JSONResponse({**answer, "error": {"code": -32601, "message": "Method not found"}})
    text = f"{current_identity(request).subject} by way of {request.url.path}"
    return JSONResponse({**answer, "result": {"content": [{"type": "text", "text": text}]}})


app = Starlette(routes=[Route("/mcp", mcp, methods=["POST"])])
app.add_middleware(
    BearerMiddleware,
    required_scopes="mcp:read",
    resource_scopes="mcp:write",
    scope_implications={"mcp:write": ["mcp:read"]},
)

if __name__ == "__main__":
    uvicorn.run(app, port=int(os.environ.get("PORT", "8000")), lifespan="on")
