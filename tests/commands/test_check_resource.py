"""``check`` looks whether clients find what describes this API, and whether their tokens fit."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any
from wsgiref.simple_server import WSGIRequestHandler, make_server

import pytest

from bearer_middleware import ResourceServer, Settings, WSGIBearerMiddleware
from bearer_middleware.testing import Issuer

Tell = Callable[..., Any]


class Quiet(WSGIRequestHandler):
    """Without a log."""

    def log_message(self, *args: Any) -> None: ...


@contextmanager
def serving(app: Callable[..., Any]) -> Iterator[str]:
    """The address of an application that is served; ``app`` may be given the address."""
    server = make_server("127.0.0.1", 0, None, handler_class=Quiet)  # type: ignore[arg-type]
    url = f"http://127.0.0.1:{server.server_port}/api"
    server.set_app(app(url))
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield url
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def test_all_is_well(issuer: Issuer, checked: Tell) -> None:
    """PRM-4: the document is where it should be, and says what it should."""

    def api(url: str) -> Any:
        settings = Settings(**issuer.settings(resource=url, audience=url))
        return WSGIBearerMiddleware(lambda *_: [], server=ResourceServer(settings))

    with serving(api) as url:
        told = checked(resource=url, audience=url)
    assert told.status == 0
    assert told.of("ok")["BEARER_RESOURCE"].endswith("oauth-protected-resource/api describes it")
    assert "development only" in told.of("warn")["BEARER_RESOURCE"]
    assert "BEARER_AUDIENCE" not in told.of("warn")


@pytest.mark.parametrize(
    ("status", "body", "said"),
    [
        ("404 Not Found", b"", "answers with status 404"),
        ("200 OK", b"<html>", "is no JSON object"),
        ("200 OK", b'{"resource": "https://other.example"}', "describes another resource"),
    ],
)
def test_something_else_is_there(checked: Tell, status: str, body: bytes, said: str) -> None:
    """A proxy that does not hand the path on is the usual cause."""

    def app(url: str) -> Any:
        def answer(environ: Any, start_response: Any) -> list[bytes]:
            start_response(status, [("Content-Type", "text/html")])
            return [body]

        return answer

    with serving(app) as url:
        told = checked(resource=url)
    assert told.status == 0
    assert f"{said}; let what is in front" in told.text


def test_nothing_is_there(checked: Tell) -> None:
    """It may run elsewhere, or later: nothing is said to be wrong."""
    with serving(lambda url: lambda *_: []) as url:
        pass
    told = checked(resource=url)
    assert told.status == 0
    assert "was not reached from here" in told.of("skip")["BEARER_RESOURCE"]


def test_tokens_that_would_not_fit(checked: Tell) -> None:
    """MCP: clients ask for tokens for the resource, which the audience has to name (RFC 8707)."""
    with serving(lambda url: lambda *_: []) as url:
        pass
    assert "does not name BEARER_RESOURCE" in checked(resource=url).of("warn")["BEARER_AUDIENCE"]
    fits = checked(resource=url, audience=f"orders,{url}")
    assert "BEARER_AUDIENCE" not in fits.of("warn")


def test_without_the_setting(checked: Tell) -> None:
    """Nothing is looked for."""
    assert "BEARER_RESOURCE" not in checked().text
