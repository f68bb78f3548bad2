"""Django over WSGI, in a single file, with a class-based view."""

import os
from wsgiref.simple_server import make_server

from django.conf import settings
from django.core.wsgi import get_wsgi_application
from django.http import HttpRequest, JsonResponse
from django.urls import path
from django.utils.decorators import method_decorator
from django.views import View

from bearer_middleware import WSGIBearerMiddleware
from bearer_middleware.web.django import current_identity, requires_scopes

settings.configure(ROOT_URLCONF=__name__, ALLOWED_HOSTS=["localhost", "127.0.0.1"])


def whoami(request: HttpRequest) -> JsonResponse:
    identity = current_identity(request)
    return JsonResponse({"subject": identity.subject, "scopes": sorted(identity.scopes)})


@method_decorator(requires_scopes("write"), name="dispatch")
class Write(View):
    def get(self, request: HttpRequest) -> JsonResponse:
        return JsonResponse({"written by": current_identity(request).subject})


urlpatterns = [path("", whoami), path("write", Write.as_view())]
application = WSGIBearerMiddleware(get_wsgi_application())

if __name__ == "__main__":
    make_server("127.0.0.1", int(os.environ.get("PORT", "8000")), application).serve_forever()
