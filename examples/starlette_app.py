"""Starlette: whoever shows a good token may ask who he is; the scope `write` may write."""

import os

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

from bearer_middleware import BearerMiddleware
from bearer_middleware.web.starlette import current_identity, requires_scopes


async def whoami(request: Request) -> JSONResponse:
    identity = current_identity(request)
    return JSONResponse({"subject": identity.subject, "scopes": sorted(identity.scopes)})


@requires_scopes("write")
async def write(request: Request) -> JSONResponse:
    return JSONResponse({"written by": request.user.display_name})


app = Starlette(routes=[Route("/", whoami), Route("/write", write)])
app.add_middleware(BearerMiddleware)

if __name__ == "__main__":
    uvicorn.run(app, port=int(os.environ.get("PORT", "8000")), lifespan="on")
