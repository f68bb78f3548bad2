"""Django over ASGI, in a single file, with async views."""

import os

import uvicorn
from django.conf import settings
from django.core.asgi import get_asgi_application
from django.http import HttpRequest, JsonResponse
from django.urls import path

from bearer_middleware import BearerMiddleware
from bearer_middleware.web.django import current_identity, requires_scopes

settings.configure(ROOT_URLCONF=__name__, ALLOWED_HOSTS=["localhost", "127.0.0.1"])


async def whoami(request: HttpRequest) -> JsonResponse:
    identity = current_identity(request)
    return JsonResponse({"subject": identity.subject, "scopes": sorted(identity.scopes)})


@requires_scopes("write")
async def write(request: HttpRequest) -> JsonResponse:
    return JsonResponse({"written by": current_identity(request).subject})


urlpatterns = [path("", whoami), path("write", write)]
application = BearerMiddleware(get_asgi_application())

if __name__ == "__main__":
    uvicorn.run(application, port=int(os.environ.get("PORT", "8000")))
