"""FastAPI: the identity is a typed argument, and scopes stand in the OpenAPI document."""

import os
from typing import Annotated, Any

import uvicorn
from fastapi import FastAPI, Security

from bearer_middleware import BearerMiddleware, Identity
from bearer_middleware.web.fastapi import current_identity

Caller = Annotated[Identity, Security(current_identity)]
Writer = Annotated[Identity, Security(current_identity, scopes=["write"])]

app = FastAPI(title="Who am I")
app.add_middleware(BearerMiddleware)


@app.get("/")
async def whoami(identity: Caller) -> dict[str, Any]:
    return {"subject": identity.subject, "scopes": sorted(identity.scopes)}


@app.get("/write")
async def write(identity: Writer) -> dict[str, Any]:
    return {"written by": identity.subject}


if __name__ == "__main__":
    uvicorn.run(app, port=int(os.environ.get("PORT", "8000")), lifespan="on")
