"""``explain`` tells of the status of a token: a line of its own, last of all."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from typing import Any

import pytest

from bearer_middleware.testing import Issuer

Tell = Callable[..., Any]
FETCHES = "status_list"


@pytest.fixture(params=["jwt", "opaque", "introspected"])
def kind(request: pytest.FixtureRequest) -> str:
    """How a token comes to its claims."""
    return str(request.param)


@pytest.fixture
def show(kind: str, issuer: Issuer, explained: Tell) -> Tell:
    """``show(claim)``: what is told of a token with it, and where lists may be fetched."""

    def tell(claim: Any, **settings: Any) -> Any:
        settings.setdefault("status_lists", issuer.url)
        if kind == "introspected":
            settings["jwt_validation"] = "introspect"
        mint = issuer.opaque if kind == "opaque" else issuer.jwt
        return explained(mint(status=claim), **settings)

    return tell


@pytest.fixture
def name(kind: str) -> str:
    """The name of the line."""
    return "answer status" if kind == "introspected" else "status"


def test_valid(issuer: Issuer, show: Tell, name: str) -> None:
    """The list was asked, and the middleware agrees."""
    told = show(issuer.status_list().claim())
    assert told.status == 0
    assert "VALID" in told.of("ok")[name]


@pytest.mark.parametrize(("status", "word"), [(1, "INVALID"), (2, "SUSPENDED"), (3, "not VALID")])
def test_refused(issuer: Issuer, show: Tell, name: str, status: int, word: str) -> None:
    """With what the list says."""
    statuses = issuer.status_list(bits=2)
    statuses[0] = status
    told = show(statuses.claim())
    assert told.status == 1
    assert word in told.of("fail")[name]
    assert told.lines[-1] == f"refused: invalid_status ({name})"


def test_not_to_be_had(issuer: Issuer, show: Tell, name: str) -> None:
    """Nobody can know."""
    issuer.fail(FETCHES, status=404)
    told = show(issuer.status_list().claim())
    assert told.status == 1
    assert told.lines[-1] == f"cannot know: status_unavailable ({name})"


def test_not_configured(issuer: Issuer, show: Tell, name: str) -> None:
    """The setting is named."""
    told = show(issuer.status_list().claim(), status_lists=None)
    assert told.status == 1
    assert "BEARER_STATUS_LISTS" in told.of("fail")[name]
    assert issuer.requests[FETCHES] == 0


def test_ignored(issuer: Issuer, show: Tell, name: str) -> None:
    """As is configured."""
    told = show("c4n4ry", status_lists="ignore")
    assert told.status == 0
    assert "not looked at" in told.of("ok")[name]


def test_refused_before(issuer: Issuer, explained: Tell) -> None:
    """TSL-1: nobody is asked about a token that is bad already; scopes come first as well."""
    claim = issuer.status_list().claim()
    told = explained(issuer.jwt(status=claim, exp=1), status_lists=issuer.url)
    assert "nobody is asked" in told.of("skip")["status"]
    told = explained(issuer.jwt(status=claim), status_lists=issuer.url, required_scopes="admin")
    assert told.lines[-1] == "refused: insufficient_scope (scope)"
    assert issuer.requests[FETCHES] == 0


def test_answer_with_another_status(issuer: Issuer, explained: Tell) -> None:
    """What a server says beside a JWT must not be lost."""
    statuses = issuer.status_list()
    token = issuer.jwt(status=statuses.claim(1))
    answer = {**issuer.introspect(token), "status": statuses.claim(2)}
    issuer.fail("introspection", body=json.dumps(answer).encode())
    told = explained(token, status_lists=issuer.url, jwt_validation="both")
    assert told.lines[-1] == "refused: unsupported_status (answer status)"


def test_nothing_of_the_token_is_printed(issuer: Issuer, explained: Tell) -> None:
    """No URI, no index."""
    claim = {"status_list": {"idx": 424_242, "uri": "https://c4n4ry.example/1"}}
    told = explained(issuer.jwt(status=claim), status_lists=issuer.url)
    assert told.status == 1
    text = "\n".join(told.lines)
    assert "424242" not in text
    assert "c4n4ry" not in text
    assert base64.b64encode(b"c4n4ry").decode()[:6] not in text
