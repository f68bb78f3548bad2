"""The Django adapter, over ASGI and WSGI: function and class-based views, plain and async."""

import asyncio

import pytest
from asgiref.sync import iscoroutinefunction
from django.core.asgi import get_asgi_application
from django.core.wsgi import get_wsgi_application
from django.http import HttpResponse, JsonResponse, StreamingHttpResponse
from django.test import RequestFactory
from django.urls import path
from django.utils.decorators import method_decorator
from django.views import View
from django.views.decorators.csrf import csrf_exempt

from bearer_middleware import ConfigError
from bearer_middleware.web.django import current_identity, requires_scopes
from tests.contract.wire import ISSUER, bearer, call, exchange, protected, wsgi_protected
from tests.contract.worlds import set_django_up

READER = bearer(ISSUER.jwt(scope="read"))
WRITER = bearer(ISSUER.jwt(scope="read write"))
FORBIDDEN = 'Bearer realm="api", error="insufficient_scope", scope="read write"'
needs_both = requires_scopes("read", "write")


def who(request):
    """Who is calling, as JSON."""
    identity = current_identity(request)
    return JsonResponse({"subject": None if identity is None else identity.subject})


@needs_both
def _plain(request):
    return who(request)


@needs_both
async def _asynchronous(request):
    return who(request)


@needs_both
def _argued(request, number, *, name):
    return JsonResponse({"subject": f"{number} {name}"})


class PlainMethod(View):
    @method_decorator(needs_both)
    def get(self, request):
        return who(request)


class AsyncMethod(View):
    @method_decorator(needs_both)
    async def get(self, request):
        return who(request)


@method_decorator(needs_both, name="dispatch")
class PlainDispatch(View):
    def get(self, request):
        return who(request)


@method_decorator(needs_both, name="dispatch")
class AsyncDispatch(View):
    async def get(self, request):
        return who(request)


class AsyncView(View):
    async def get(self, request):
        return who(request)


class PlainView(View):
    def get(self, request):
        return who(request)


@needs_both
def _stream(request):
    return StreamingHttpResponse(iter([b'{"subject": ', b'"alice"}']))


VIEWS = {
    "plain": _plain,
    "async": _asynchronous,
    "plain-method": PlainMethod.as_view(),
    "async-method": AsyncMethod.as_view(),
    "plain-dispatch": PlainDispatch.as_view(),
    "async-dispatch": AsyncDispatch.as_view(),
    "plain-as-view": needs_both(PlainView.as_view()),
    "async-as-view": needs_both(AsyncView.as_view()),
}
PATTERNS = [
    *(path(name, view) for name, view in VIEWS.items()),
    path("stream", _stream),
    path("open", who),
    path("any", requires_scopes()(who)),
    path("argued/<int:number>", _argued, {"name": "x"}),
    path("csrf", csrf_exempt(lambda request: HttpResponse("no token of Django's"))),
]


def over_asgi(*args, **settings):
    """Ask over ASGI."""
    set_django_up(*PATTERNS)
    return exchange(protected(get_asgi_application(), **settings), *args)


def over_wsgi(*args, **settings):
    """Ask over WSGI."""
    set_django_up(*PATTERNS)
    return call(wsgi_protected(get_wsgi_application(), **settings), *args)


both_ways = pytest.mark.parametrize("ask", [over_asgi, over_wsgi])


@both_ways
@pytest.mark.parametrize("name", VIEWS)
def test_views(ask, name):
    """ERR-5: whatever kind of view over whatever server."""
    allowed = ask(f"/{name}", WRITER)
    assert (allowed.status, allowed.json) == (200, {"subject": "alice"})
    refused = ask(f"/{name}", READER)
    assert (refused.status, refused.challenge) == (403, FORBIDDEN)
    assert refused.json == {"status": 403, "title": "Forbidden", "error": "insufficient_scope"}
    assert refused.header("content-type") == "application/problem+json"
    assert refused.header("cache-control") == "no-store"
    assert refused.header("content-length") == str(len(refused.body))


@both_ways
def test_anonymous(ask):
    """ERR-3: without scopes any identity will do, but one there must be."""
    assert ask("/open", optional=True).json == {"subject": None}
    assert ask("/any", READER, optional=True).json == {"subject": "alice"}
    refused = ask("/any", optional=True)
    assert (refused.status, refused.challenge) == (401, 'Bearer realm="api"')


@both_ways
def test_arguments_of_the_route(ask):
    """They reach the view as they are."""
    assert ask("/argued/7", WRITER).json == {"subject": "7 x"}


@pytest.mark.filterwarnings("ignore:StreamingHttpResponse must consume")
@both_ways
def test_a_stream(ask):
    """It is not touched."""
    assert ask("/stream", WRITER).json == {"subject": "alice"}


@pytest.mark.parametrize("name", VIEWS)
def test_colour(name):
    """Django asks a view whether it is async, and the decorator does not change the answer."""
    undecided = name.endswith("dispatch")
    assert undecided or iscoroutinefunction(VIEWS[name]) is name.startswith("async")


def test_attributes_of_the_view():
    """``csrf_exempt`` and its like are kept, on either side of ours, for either colour."""

    def view(request):
        """Documented."""

    async def async_view(request):
        """Documented."""

    for each in (view, async_view):
        inside, outside = needs_both(csrf_exempt(each)), csrf_exempt(needs_both(each))
        assert inside.csrf_exempt
        assert outside.csrf_exempt
        assert (inside.__name__, inside.__doc__) == (each.__name__, "Documented.")


def test_no_middleware_around(caplog):
    """ERR-16: fail closed, as 503 and with a word in the log."""
    set_django_up(*PATTERNS)
    request = RequestFactory().get("/plain")
    assert _plain(request).status_code == 503
    assert asyncio.run(_asynchronous(request)).status_code == 503
    assert current_identity(request) is None
    assert "no BearerMiddleware is around" in caplog.text


def test_a_client_cannot_name_itself():
    """WSGI-1: a header is a header, over ASGI too."""
    forged = [("bearer_middleware.identity", "root"), ("Bearer-Middleware-Identity", "root")]
    for ask in (over_asgi, over_wsgi):
        assert ask("/open", forged, optional=True).json == {"subject": None}


def test_what_is_no_scope():
    """It is said when the module is imported."""
    with pytest.raises(ConfigError):
        requires_scopes("read write")
