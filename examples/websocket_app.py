"""Websockets: who may not come in hears so before the socket is accepted."""

import os

import uvicorn
from starlette.applications import Starlette
from starlette.routing import WebSocketRoute
from starlette.websockets import WebSocket

from bearer_middleware import BearerMiddleware
from bearer_middleware.web.starlette import current_identity, requires_scopes


async def whoami(websocket: WebSocket) -> None:
    identity = current_identity(websocket)
    await websocket.accept()
    await websocket.send_json({"subject": identity.subject, "scopes": sorted(identity.scopes)})
    await websocket.close()


@requires_scopes("write")
async def write(websocket: WebSocket) -> None:
    await websocket.accept()
    await websocket.send_json({"written by": websocket.user.display_name})
    await websocket.close()


app = Starlette(routes=[WebSocketRoute("/", whoami), WebSocketRoute("/write", write)])
app.add_middleware(BearerMiddleware)

if __name__ == "__main__":
    uvicorn.run(app, port=int(os.environ.get("PORT", "8000")), lifespan="on")
