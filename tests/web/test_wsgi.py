"""The WSGI middleware as servers and applications meet it. ``wsgiref.validate`` watches."""

import copy
import io
from wsgiref.validate import validator

import pytest

from bearer_middleware import ConfigError, ResourceServer, Settings, WSGIBearerMiddleware
from tests.contract.wire import ISSUER, bearer, call, environ_of, server_of, wsgi_protected


class Recorder:
    """An application that remembers its environ and says hello."""

    def __init__(self):
        self.environ = None

    def __call__(self, environ, start_response):
        self.environ = environ
        start_response("200 OK", [("Content-Type", "text/plain")])
        return [b"hello"]


def ask(headers=(), path="/", issuer=ISSUER, members=None, **settings):
    """What the application reads."""
    app = Recorder()
    assert call(wsgi_protected(app, issuer, **settings), path, headers, **members or {}).status
    return app.environ


def test_what_the_application_reads():
    """WSGI-1: the identity under its own key; the user's name where CGI has it."""
    environ = ask(bearer(ISSUER.jwt(sub="alice", scope="read")))
    identity = environ["bearer_middleware.identity"]
    assert (identity.subject, identity.scopes, identity.kind) == ("alice", {"read"}, "jwt")
    assert (environ["REMOTE_USER"], environ["AUTH_TYPE"]) == ("alice", "Bearer")


@pytest.mark.parametrize("settings", [{"optional": True}, {"exempt": "/"}])
def test_what_the_application_reads_of_nobody(settings):
    """WSGI-1: nobody has no name, whatever client or server set before."""
    preset = {"REMOTE_USER": "root", "AUTH_TYPE": "Basic", "bearer_middleware.identity": "root"}
    environ = ask(members=preset, **settings)
    assert environ["bearer_middleware.identity"] is None
    assert "REMOTE_USER" not in environ
    assert "AUTH_TYPE" not in environ


NAMELESS = {
    "a client": {"sub": None, "client_id": "cron"},
    "a client that is its own subject": {"sub": "cron", "client_id": "cron"},
    "a fallback to the user name": {"sub": None, "username": "alice"},
    "no latin-1": {"sub": "Łukasz"},
    "control characters": {"sub": "alice\r\nX: y"},
}


@pytest.mark.parametrize("members", NAMELESS.values(), ids=NAMELESS)
def test_whom_the_environ_cannot_name(members):
    """WSGI-1: only the ``sub`` of a user, in latin-1; a preset name does not stay in its place."""
    token = ISSUER.opaque(**members)
    environ = ask(bearer(token), members={"REMOTE_USER": "root", "AUTH_TYPE": "Basic"})
    assert environ["bearer_middleware.identity"].subject
    assert "REMOTE_USER" not in environ
    assert environ["AUTH_TYPE"] == "Bearer"


def test_a_name_in_latin_1():
    """WSGI-1: it is the name itself, not bytes in disguise."""
    assert ask(bearer(ISSUER.jwt(sub="José")))["REMOTE_USER"] == "José"


def test_a_name_needs_one_issuer():
    """WSGI-1: of two issuers each has an alice of its own."""
    tables = [ISSUER.settings(), {"issuer": "https://other.test", "audience": "api"}]
    server = ResourceServer(Settings(issuers=tables), transport=ISSUER.transport())
    app = Recorder()
    assert call(WSGIBearerMiddleware(app, server=server), "/", bearer(ISSUER.jwt())).status == 200
    assert app.environ["bearer_middleware.identity"].subject == "alice"
    assert "REMOTE_USER" not in app.environ


def test_a_lookalike_header():
    """WSGI-1: what a client calls identity or user is a header and nothing else."""
    headers = [
        ("Bearer-Middleware-Identity", "root"),
        ("Remote-User", "root"),
        ("bearer_middleware.identity", "root"),
    ]
    environ = ask(headers, optional=True)
    assert environ["bearer_middleware.identity"] is None
    assert "REMOTE_USER" not in environ


@pytest.mark.parametrize("token", [None, "mF_9.B5f-4.1JqM", ISSUER.jwt()])
def test_the_callers_environ_is_not_changed(token):
    """Whatever comes of the request."""
    environ = environ_of("/", bearer(token) if token else [], REMOTE_USER="root")
    before = copy.copy(environ)
    app = wsgi_protected(Recorder())
    app(environ, lambda *_: None)
    assert environ == before


def test_both_sides_keep_to_pep_3333():
    """WSGI-2: the validator watches what we do to the server, and to the application."""
    app = wsgi_protected(validator(Recorder()))
    assert call(app, "/", bearer(ISSUER.jwt())).body == b"hello"


def test_the_applications_iterable_is_the_servers():
    """WSGI-2: nothing is read ahead, nothing wrapped; closing is the server's to do."""

    class Body:
        closed = False

        def __iter__(self):
            yield from (b"a", b"b")

        def close(self):
            self.closed = True

    body = Body()

    def app(environ, start_response):
        start_response("200 OK", [("Content-Type", "text/plain")])
        return body

    result = wsgi_protected(app)(environ_of("/", bearer(ISSUER.jwt())), lambda *_: None)
    assert result is body
    assert not body.closed
    assert call(wsgi_protected(app), "/", bearer(ISSUER.jwt())).body == b"ab"
    assert body.closed


def test_a_file_wrapper_stays_one():
    """A server that sends files by itself recognizes its own wrapper."""

    class FileWrapper:
        def __init__(self, file):
            self.file = file

    def app(environ, start_response):
        start_response("200 OK", [("Content-Type", "text/plain")])
        return environ["wsgi.file_wrapper"](io.BytesIO(b"file"))

    environ = environ_of("/", bearer(ISSUER.jwt()), **{"wsgi.file_wrapper": FileWrapper})
    assert isinstance(wsgi_protected(app)(environ, lambda *_: None), FileWrapper)


def test_the_headers_of_a_refusal():
    """WSGI-2 WSGI-3: native text, started once, and nothing hop-by-hop."""
    started = []
    result = wsgi_protected(Recorder())(environ_of(), lambda *args: started.append(args))
    [(status, headers)] = started
    assert status == "401 Unauthorized"
    assert all(type(name) is str and type(value) is str for name, value in headers)
    assert [name for name, _ in headers] == [
        "Content-Type",
        "Cache-Control",
        "Www-Authenticate",
        "Content-Length",
    ]
    assert dict(headers)["Content-Length"] == str(len(b"".join(result)))


def test_text_that_no_server_makes():
    """TOK-7: a careless server or test passes text that is not latin-1: no error, not let in."""
    app = wsgi_protected(Recorder())
    started = []
    environ = environ_of(HTTP_AUTHORIZATION="Bearer Łukasz")
    app(environ, lambda *args: started.append(args))
    assert started[0][0] == "400 Bad Request"


@pytest.mark.parametrize("path", ["/öffentlich/a", "/public/ü"])
def test_exempt_paths_are_decoded(path):
    """ASGI-7: PATH_INFO is bytes in disguise, rules are text."""
    assert call(wsgi_protected(Recorder(), exempt="/öffentlich/*,/public/*"), path).status == 200


def test_a_path_that_is_no_utf_8_is_not_exempt():
    """ASGI-7: it could mean anything."""
    app = wsgi_protected(Recorder(), exempt="/public/*")
    assert call(app, PATH_INFO="/public/\xff").status == 401


def test_exempt_below_the_mount_point():
    """ASGI-7: SCRIPT_NAME is no part of the path."""
    app = wsgi_protected(Recorder(), exempt="/open")
    assert call(app, "/open", SCRIPT_NAME="/api").status == 200
    assert call(app, "", SCRIPT_NAME="/open").status == 401


def test_an_empty_path_is_the_root():
    """PEP 3333 allows it where there is a SCRIPT_NAME."""
    assert call(wsgi_protected(Recorder(), exempt="/"), "", SCRIPT_NAME="/api").status == 200


def test_an_async_extension_cannot_serve_wsgi():
    """It is said when the middleware is built, not at the first request."""

    async def mapper(identity):
        return identity

    server = ResourceServer(Settings(**ISSUER.settings()), claim_mapper=mapper)
    with pytest.raises(ConfigError, match="mapper"):
        WSGIBearerMiddleware(Recorder(), server=server)


def test_a_server_shared_with_asgi():
    """Building either middleware changes nothing of the server."""
    server = server_of()
    assert WSGIBearerMiddleware(Recorder(), server=server).server is server


def test_settings_from_the_environment(monkeypatch):
    """As over ASGI."""
    for name, value in ISSUER.settings(realm="shop").items():
        monkeypatch.setenv(f"BEARER_{name.upper()}", str(value))
    assert call(WSGIBearerMiddleware(Recorder())).challenge == 'Bearer realm="shop"'
