"""The Flask adapter: views, plain and async, in functions, classes and blueprints."""

import pytest
from flask import Blueprint, Flask, Response
from flask.views import MethodView

from bearer_middleware import ConfigError, WSGIBearerMiddleware
from bearer_middleware.web.flask import current_identity, requires_scopes
from tests.contract.wire import ISSUER, bearer, call, server_of

READER = bearer(ISSUER.jwt(scope="read"))
WRITER = bearer(ISSUER.jwt(scope="read write"))
FORBIDDEN = 'Bearer realm="api", error="insufficient_scope", scope="read write"'
needs_both = requires_scopes("read", "write")


def who():
    """Who is calling."""
    identity = current_identity()
    return {"subject": None if identity is None else identity.subject}


@needs_both
def _plain():
    return who()


@needs_both
async def _asynchronous():
    return who()


class Decorated(MethodView):
    decorators = (needs_both,)

    def get(self):
        return who()


class DecoratedMethod(MethodView):
    @needs_both
    def get(self):
        return who()


@needs_both
def _in_a_blueprint():
    return who()


@needs_both
def _argued(number, name="x"):
    return {"subject": f"{number} {name}"}


def application(middleware=True, **settings):
    """Every kind of view."""
    app = Flask("test")
    app.add_url_rule("/plain", view_func=_plain)
    app.add_url_rule("/async", view_func=_asynchronous)
    app.add_url_rule("/class", view_func=Decorated.as_view("class"))
    app.add_url_rule("/method", view_func=DecoratedMethod.as_view("method"))
    app.add_url_rule("/open", view_func=who)
    app.add_url_rule("/any", "any", requires_scopes()(who))
    app.add_url_rule("/argued/<int:number>", view_func=_argued)
    blueprint = Blueprint("blueprint", __name__)
    blueprint.add_url_rule("/blueprint", view_func=_in_a_blueprint)
    app.register_blueprint(blueprint)
    if middleware:
        app.wsgi_app = WSGIBearerMiddleware(app.wsgi_app, server=server_of(**settings))
    return app


@pytest.mark.parametrize("path", ["/plain", "/async", "/class", "/method", "/blueprint"])
def test_views(path):
    """ERR-5: refused as the middleware does it."""
    app = application()
    allowed = call(app, path, WRITER)
    assert (allowed.status, allowed.json) == (200, {"subject": "alice"})
    refused = call(app, path, READER)
    assert (refused.status, refused.challenge) == (403, FORBIDDEN)
    assert refused.json == {"status": 403, "title": "Forbidden", "error": "insufficient_scope"}
    assert refused.header("content-type") == "application/problem+json"
    assert refused.header("cache-control") == "no-store"
    assert refused.header("content-length") == str(len(refused.body))


def test_anonymous():
    """ERR-3: without scopes any identity will do, but one there must be."""
    app = application(optional=True)
    assert call(app, "/open").json == {"subject": None}
    assert call(app, "/any", READER).json == {"subject": "alice"}
    refused = call(app, "/any")
    assert (refused.status, refused.challenge) == (401, 'Bearer realm="api"')


def test_arguments_of_the_route():
    """They reach the view as they are."""
    assert call(application(), "/argued/7", WRITER).json == {"subject": "7 x"}


def test_head_has_no_body():
    """The headers are those of GET."""
    app = application()
    get, head = call(app, "/plain", READER), call(app, "/plain", READER, method="HEAD")
    assert (head.status, head.headers, head.body) == (get.status, get.headers, b"")


def test_no_middleware_around(caplog):
    """ERR-16: fail closed, as 503 and with a word in the log."""
    app = application(middleware=False)
    assert call(app, "/plain", WRITER).status == 503
    assert call(app, "/open", WRITER).json == {"subject": None}
    assert "no BearerMiddleware is around" in caplog.text


def test_flasks_own_test_client():
    """The middleware is part of the application, so tests of applications meet it."""
    client = application().test_client()
    assert client.get("/plain").status_code == 401
    token = ISSUER.jwt(scope="read write")
    answer = client.get("/plain", headers={"Authorization": f"Bearer {token}"})
    assert answer.get_json() == {"subject": "alice"}


def test_the_name_of_a_view():
    """Endpoints are named after it."""
    assert (_plain.__name__, _asynchronous.__name__) == ("_plain", "_asynchronous")


def test_after_request_sees_a_refusal():
    """It is a response of the application like any other."""
    app = application()

    @app.after_request
    def mark(response: Response) -> Response:
        response.headers["X-Seen"] = str(response.status_code)
        return response

    assert call(app, "/plain", READER).header("x-seen") == "403"


def test_what_is_no_scope():
    """It is said when the module is imported; a forgotten pair of parentheses too."""
    for wrong in ("read write", who):
        with pytest.raises(ConfigError):
            requires_scopes(wrong)
