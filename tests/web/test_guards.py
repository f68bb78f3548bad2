"""The decision of the per-route decorators, and what importing them costs."""

import json
import subprocess
import sys

import pytest

from bearer_middleware import ConfigError, Identity
from bearer_middleware.web.challenge import CHALLENGES, Challenges
from bearer_middleware.web.guards import Guard
from bearer_middleware.web.parts import IDENTITY


def place(identity):
    """A scope or environ below a middleware."""
    return {IDENTITY: identity, CHALLENGES: Challenges("api", ("profile",))}


def challenge(answer):
    """The status and the challenge of an answer."""
    return answer.status, dict(answer.headers)["www-authenticate"]


ALICE = Identity(subject="alice", scopes=["read", "write"])


@pytest.mark.parametrize("scopes", [(), ("read",), ("read", "write"), ("read", "read")])
def test_let_through(scopes):
    """All that is needed is there."""
    assert Guard(*scopes).refusal(place(ALICE)) is None


@pytest.mark.parametrize("scopes", [("admin",), ("read", "admin"), ("READ",), ("rea",)])
def test_insufficient(scopes):
    """ERR-5 ERR-10: one that is missing is enough, and the challenge names all that are needed."""
    needed = " ".join(("profile", *scopes))
    expected = f'Bearer realm="api", error="insufficient_scope", scope="{needed}"'
    assert challenge(Guard(*scopes).refusal(place(ALICE))) == (403, expected)


@pytest.mark.parametrize("scopes", [(), ("read",)])
def test_anonymous(scopes):
    """ERR-3: no error code, as the caller showed nothing that could be wrong."""
    status, header = challenge(Guard(*scopes).refusal(place(None)))
    assert (status, "error" in header) == (401, False)
    assert header.startswith('Bearer realm="api", scope="profile')


def test_no_middleware_around(caplog):
    """ERR-16: nobody gets in, nobody learns why, and the log says it."""
    for given in ({}, {IDENTITY: ALICE}):
        answer = Guard().refusal(given)
        assert answer.status == 503
        assert json.loads(answer.body) == {"status": 503, "title": "Service Unavailable"}
        assert "www-authenticate" not in dict(answer.headers)
    assert "no BearerMiddleware is around" in caplog.text


@pytest.mark.parametrize("scope", ["", " ", "a b", 'a"b', "a\\b", "ü", "a\nb", None, ["read"], len])
def test_what_is_no_scope(scope):
    """ERR-8: it is said when the decorator is applied, and never sent."""
    with pytest.raises(ConfigError, match="the scopes of a route"):
        Guard("read", scope)


FRAMEWORKS = {"starlette", "fastapi", "django", "flask"}


@pytest.mark.parametrize(
    ("module", "allowed"),
    [
        ("bearer_middleware", set()),
        ("bearer_middleware.web.guards", set()),
        ("bearer_middleware.web.starlette", {"starlette"}),
        ("bearer_middleware.web.fastapi", {"starlette", "fastapi"}),
        ("bearer_middleware.web.django", {"django"}),
        ("bearer_middleware.web.flask", {"flask"}),
    ],
)
def test_each_adapter_imports_its_own_framework(module, allowed):
    """Who runs Flask does not pay for Starlette."""
    code = f"import sys, json, {module}; print(json.dumps([*sys.modules]))"
    printed = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True).stdout
    assert FRAMEWORKS & set(json.loads(printed)) == allowed
