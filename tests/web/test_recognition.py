"""Servers guess what an application is: this one is ASGI 3, whichever way they ask."""

import inspect

import pytest
from asgiref.compatibility import guarantee_single_callable, is_double_callable
from hypercorn.utils import is_asgi
from starlette._utils import is_async_callable
from uvicorn import Config

from bearer_middleware import BearerMiddleware
from tests.contract.wire import ISSUER, server_of


async def _no_content(scope, receive, send):
    await send({"type": "http.response.start", "status": 204, "headers": []})
    await send({"type": "http.response.body", "body": b""})


class Marked(BearerMiddleware):
    """As users extend it: a coroutine that adds something of its own."""

    async def __call__(self, scope, receive, send):
        await super().__call__({**scope, "marked": True}, receive, send)


@pytest.fixture(params=[BearerMiddleware, Marked])
def app(request):
    """The class itself, and one made of it."""
    return request.param(_no_content, server=server_of())


def test_uvicorn(app):
    """Else it would be called with one argument, as ASGI 2 was."""
    config = Config(app)
    config.load()
    assert config.interface == "asgi3"


def test_hypercorn(app):
    """Else it would be called as WSGI."""
    assert is_asgi(app)


def test_asgiref(app):
    """That of Django and Daphne."""
    assert not is_double_callable(app)
    assert guarantee_single_callable(app) is app


def test_starlette(app):
    """Which calls what is not async in a thread."""
    assert is_async_callable(app)


@pytest.mark.anyio
async def test_called_by_name(app):
    """``app.__call__`` is the same as ``app``, an override included."""
    seen = []

    async def record(scope, receive, send):
        seen.append(scope.get("marked", False))

    app.app = record
    headers = [(b"authorization", b"Bearer " + ISSUER.jwt().encode())]
    scope = {"type": "http", "path": "/", "method": "GET", "headers": headers}
    assert inspect.iscoroutinefunction(app.__call__)
    await app.__call__(scope, None, None)
    await app(scope, None, None)
    assert seen == [isinstance(app, Marked)] * 2
