"""``explain --method --path``: what becomes of a request after its token."""

from __future__ import annotations

import io
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from bearer_middleware import __main__ as main
from bearer_middleware.commands.explain import explain
from bearer_middleware.testing import Issuer
from tests.commands.conftest import Told, assert_hidden
from tests.commands.test_check_policy import authzen, point, table

Tell = Callable[..., Any]

POLICY = """
[[rules]]
name = "editors-write"
effect = "permit"
roles = ["editor"]
actions = ["update", "read"]
resources = ["todo"]

[[rules]]
name = "frozen"
effect = "deny"
actions = ["delete"]
resources = ["todo"]
user_reason = "Nothing is deleted here."
"""
ROUTES = table(
    {"method": "GET", "path": "/health", "public": True},
    {"method": "GET", "path": "/todos/{id}", "action": "read", "resource": "todo:{id}"},
    {
        "method": "PUT",
        "path": "/todos/{id}",
        "action": "update",
        "resource": "todo:{id}",
        "scopes": ["write"],
        "acr": ["loa3"],
        "max_age": 300,
    },
    {"method": "DELETE", "path": "/todos/{id}", "action": "delete", "resource": "todo:{id}"},
    {"method": "GET", "path": "/own", "policy": False},
    {"method": "GET", "path": "/open/{id}", "on_error": "allow"},
)


@pytest.fixture
def asked(variables: Callable[..., dict[str, str]], tmp_path: Path) -> Tell:
    """What ``explain`` says of a token and a request."""
    file = tmp_path / "policy.toml"
    file.write_text(POLICY)

    def run(token: str, method: str, path: str, **overrides: Any) -> Told:
        out = io.StringIO()
        header = f"Bearer {token}".encode()
        said = {"policy": "local", "policy_file": file, "routes": ROUTES, **overrides}
        status = explain(variables(**said), header, out, request=(method, path))
        told = Told(status, out.getvalue())
        assert_hidden(told.text, header.decode())
        return told

    return run


def test_permitted(issuer: Issuer, asked: Tell) -> None:
    """A line of each rule, after those of the token; the id, and of the rest the names alone."""
    told = asked(issuer.jwt(sub="alice", roles=["editor"], tenant="c4n4ry"), "GET", "/todos/42")
    assert told.status == 0, told.text
    good = told.of("ok")
    assert good["route"] == "row 2 of 6, GET /todos/{id}, with id=42"
    assert good["scopes"] == "none is required"
    assert good["subject"].startswith("user:alice, with client_id, issuer")
    assert (good["action"], good["resource"]) == ("read", "todo:42")
    assert good["decision"].startswith("permit, by local, version ")
    assert "reasons: editors-write; it took" in good["decision"]
    assert told.of("skip")["obligations"] == "there are none"
    assert told.lines[-1] == "answer: the request goes on to the application"


def test_denied(issuer: Issuer, asked: Tell) -> None:
    """The answer is the caller's, to the letter."""
    told = asked(issuer.jwt(sub="alice", roles=["editor"]), "DELETE", "/todos/42")
    assert told.status == 1
    assert told.of("fail")["decision"].startswith("deny, by local")
    assert told.lines[-1].startswith("answer: 403 Forbidden; {")
    assert '"detail": "Nothing is deleted here."' in told.lines[-1]
    hidden = asked(issuer.jwt(sub="alice"), "DELETE", "/todos/42", hide_forbidden="true")
    assert hidden.lines[-1].startswith("answer: 404 Not Found")
    told = asked(issuer.jwt(sub="alice"), "GET", "/todos/42")
    assert told.of("fail")["decision"].startswith("not applicable")


def test_scopes_and_authentication(issuer: Issuer, asked: Tell) -> None:
    """STEP-1: each is told by itself, and nobody is asked for a decision."""
    told = asked(issuer.jwt(sub="alice", scope="read"), "PUT", "/todos/42")
    assert told.status == 1
    wrong = told.of("fail")
    assert "required: write" in wrong["scopes"]
    assert "wanted: acr loa3, at most 300 s ago" in wrong["authentication"]
    assert "nobody is asked" in told.of("skip")["decision"]
    assert 'error="insufficient_scope", scope="write"' in told.lines[-1]
    told = asked(issuer.jwt(sub="alice", scope="write"), "PUT", "/todos/42")
    assert "scopes" in told.of("ok")
    assert 'acr_values="loa3", max_age="300"' in told.lines[-1]


def test_refused_token(issuer: Issuer, asked: Tell) -> None:
    """STEP-2: of a bad token nothing is asked, and what a route wants is not told to the caller."""
    told = asked(issuer.jwt(sub="alice", exp=1), "PUT", "/todos/42")
    assert told.status == 1
    assert told.of("ok")["route"].startswith("row 3 of 6")
    assert "refused already" in told.of("skip")["decision"]
    assert 'error="invalid_token"' in told.lines[-1]
    assert "acr_values" not in told.lines[-1]


def test_without_a_row(issuer: Issuer, asked: Tell) -> None:
    """What no row speaks for, and what could be read in two ways."""
    told = asked(issuer.jwt(sub="alice"), "POST", "/todos")
    assert told.status == 1
    assert "no row matches" in told.of("fail")["route"]
    assert "more than one way" in asked(issuer.jwt(), "GET", "/a//b").of("fail")["route"]
    assert told.lines[-1].startswith("answer: 403")


def test_where_nothing_is_asked(issuer: Issuer, asked: Tell) -> None:
    """A public row, what the middleware answers itself, a row without policy, no table."""
    bad = issuer.jwt(exp=1)
    told = asked(bad, "GET", "/health")
    assert told.status == 0
    assert "no token is looked at" in told.of("ok")["route"]
    told = asked(bad, "GET", "/status", health_path="/status")
    assert told.status == 0
    assert told.lines[-1] == "answer: the middleware's own"
    told = asked(issuer.jwt(), "GET", "/own")
    assert told.status == 0
    assert "the handler asks" in told.of("skip")["decision"]
    told = asked(issuer.jwt(), "GET", "/x", policy=None, policy_file=None, routes=None)
    assert told.status == 0
    assert "any path will do" in told.of("ok")["route"]
    told = asked(issuer.jwt(), "GET", "/own", policy=None, policy_file=None)
    assert "no policy is set" in told.of("skip")["decision"]


def test_without_a_table(issuer: Issuer, asked: Tell) -> None:
    """AZ-10: the method and the path are asked about."""
    told = asked(issuer.jwt(sub="alice"), "GET", "/x", routes=None)
    assert told.of("ok")["resource"] == "route:/x"
    assert told.status == 1


def test_obligations(issuer: Issuer, asked: Tell) -> None:
    """AZ-3: what nobody here can do is a denial; which it was is said."""
    obliged = {"obligations": [{"type": "watermark", "id": "w"}], "debug": "c4n4ry"}
    with point(authzen(True, context=obliged)) as url:
        remote = {"policy": "authzen", "policy_url": url, "policy_file": None}
        told = asked(issuer.jwt(sub="alice"), "GET", "/todos/42", **remote)
    assert told.status == 1, told.text
    assert told.of("ok")["decision"].startswith("permit, by authzen")
    assert "watermark" in told.of("fail")["obligations"]
    assert told.lines[-1].startswith("answer: 403")


def test_reasons_and_debug_text(issuer: Issuer, asked: Tell) -> None:
    """Reasons are told, and nothing else that the decision point says."""
    context = {"reason_admin": {"en": "no role"}, "trace": "c4n4ry", "id": "d-1"}
    with point(authzen(False, context=context)) as url:
        remote = {"policy": "authzen", "policy_url": url, "policy_file": None}
        told = asked(issuer.jwt(sub="alice"), "GET", "/todos/42", **remote)
    assert told.status == 1
    assert "no role" in told.of("fail")["decision"]
    assert "id d-1" in told.of("fail")["decision"]


def test_nobody_can_decide(issuer: Issuer, asked: Tell) -> None:
    """AZ-4: 503 with Retry-After; a row that fails open says so."""
    with point({"/access/v1/evaluation": (500, "c4n4ry")}) as url:
        remote = {"policy": "authzen", "policy_url": url, "policy_file": None}
        told = asked(issuer.jwt(sub="alice"), "GET", "/todos/42", **remote)
        assert told.status == 1
        assert "indeterminate" in told.of("fail")["decision"]
        assert "status_500" in told.of("fail")["decision"]
        assert told.lines[-1].startswith("answer: 503 Service Unavailable; Retry-After: ")
        told = asked(issuer.jwt(sub="alice"), "GET", "/open/1", **remote)
        assert told.status == 0
        assert 'on_error = "allow"' in told.of("warn")["decision"]
        assert told.lines[-1] == "answer: the request goes on to the application"


def test_step_up_of_the_policy(issuer: Issuer, asked: Tell) -> None:
    """AZ-8: a hint of the decision point becomes the challenge of RFC 9470."""
    with point(authzen(False, context={"acr_values": "loa4"})) as url:
        remote = {"policy": "authzen", "policy_url": url, "policy_file": None}
        told = asked(issuer.jwt(sub="alice"), "GET", "/todos/42", **remote)
    assert told.lines[-1].startswith("answer: 401 Unauthorized; WWW-Authenticate: Bearer")
    assert 'error="insufficient_user_authentication", acr_values="loa4"' in told.lines[-1]


def test_nothing_is_recorded(issuer: Issuer, asked: Tell, tmp_path: Path) -> None:
    """An explanation is no access."""
    file = tmp_path / "audit.jsonl"
    asked(issuer.jwt(sub="alice"), "GET", "/todos/42", audit=file)
    assert not file.exists()


def test_opaque_token(issuer: Issuer, asked: Tell) -> None:
    """The same for either kind of token."""
    told = asked(issuer.opaque(sub="alice", roles=["editor"]), "GET", "/todos/7")
    assert told.status == 0, told.text
    assert told.of("ok")["resource"] == "todo:7"


def test_opaque_text_of_a_path(issuer: Issuer, asked: Tell) -> None:
    """What is odd is written so that no terminal obeys it."""
    told = asked(issuer.jwt(sub="alice", roles=["editor"]), "GET", "/todos/ü")
    assert told.of("ok")["resource"] == r"todo:\xfc"


@pytest.mark.parametrize(
    "arguments",
    [
        ["--method", "GET"],
        ["--path", "/x"],
        ["--method", "GET", "--path", "x"],
        ["--method", "GET", "--path", "/x?y=1"],
        ["--method", "G T", "--path", "/x"],
    ],
)
def test_misused(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    """Contract section 6: 2 is usage."""
    assert main.main(["explain", *arguments]) == 2
    assert "--" in capsys.readouterr().err


def test_as_a_command(issuer: Issuer, variables: Callable[..., dict[str, str]]) -> None:
    """In small letters, percent-encoded, and with the exit status of the answer."""
    routes = json.dumps([{"method": "GET", "path": "/a b/{id}", "scopes": ["admin"]}])
    done = subprocess.run(
        [sys.executable, "-m", "bearer_middleware", "explain", "--method=get", "--path=/a%20b/1"],
        input=issuer.jwt(),
        env=variables(routes=routes),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 1, done.stderr
    assert "row 1 of 1, GET /a b/{id}, with id=1" in done.stdout
    assert 'answer: 403 Forbidden; WWW-Authenticate: Bearer realm="api"' in done.stdout
