"""Starlette: as `starlette_app`, and the scope `admin` may revoke all that a user was issued."""

import os

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from bearer_middleware import BearerMiddleware, ResourceServer, Settings
from bearer_middleware.web.starlette import current_identity, requires_scopes

server = ResourceServer(Settings.from_env(health_path="/healthz", close_on_expiry=True))


async def whoami(request: Request) -> JSONResponse:
    identity = current_identity(request)
    return JSONResponse({"subject": identity.subject, "scopes": sorted(identity.scopes)})


@requires_scopes("write")
async def write(request: Request) -> JSONResponse:
    return JSONResponse({"written by": request.user.display_name})


@requires_scopes("admin")
async def revoke(request: Request) -> Response:
    await server.arevoke(subject=request.path_params["subject"])
    return Response(status_code=204)


app = Starlette(
    routes=[
        Route("/", whoami),
        Route("/write", write),
        Route("/users/{subject}/tokens", revoke, methods=["DELETE"]),
    ]
)
app.add_middleware(BearerMiddleware, server=server)

if __name__ == "__main__":
    uvicorn.run(app, port=int(os.environ.get("PORT", "8000")), lifespan="on")
