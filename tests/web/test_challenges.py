"""The answer to a refused request, as a value."""

import json
import re

import pytest

from bearer_middleware import errors
from bearer_middleware.errors import InsufficientScope, MissingToken, Reason, Unavailable
from bearer_middleware.web.challenge import Challenges
from bearer_middleware.web.exemptions import Exemptions, below

REFUSALS = {
    "missing": MissingToken(),
    "malformed": errors.InvalidRequest(Reason.MALFORMED_HEADER, 'secret "detail"\r\nX: ü'),
    "bad": errors.InvalidToken(Reason.EXPIRED, 'secret "detail"\r\nX: ü'),
    "scope": InsufficientScope(["read", "write"]),
    "unknown": Unavailable(Reason.INTERNAL, 'secret "detail"\r\nX: ü'),
}


@pytest.mark.parametrize("refusal", REFUSALS.values(), ids=REFUSALS)
def test_every_answer(refusal):
    """ERR-8 ERR-15: not to be stored, of plain characters, without a word of the detail."""
    answer = Challenges("api", ("read",)).answer(refusal)
    headers = dict(answer.headers)
    assert headers["cache-control"] == "no-store"
    assert headers["content-type"] == "application/problem+json"
    assert headers["content-length"] == str(len(answer.body))
    problem = {"status": refusal.status, "title": answer.reason, "error": refusal.code}
    assert json.loads(answer.body) == {name: value for name, value in problem.items() if value}
    for text in (*headers.values(), answer.body.decode()):
        assert re.fullmatch(r"[\x20-\x7e]*", text)
        assert "secret" not in text


@pytest.mark.parametrize("refusal", REFUSALS.values(), ids=REFUSALS)
def test_every_challenge(refusal):
    """ERR-1 ERR-2 ERR-7 ERR-13: one, with parameters, none of them twice; none in an outage.

    With one scheme there is one field, which is all that nginx hands on from auth_request.
    """
    headers = Challenges("api").answer(refusal).headers
    challenges = [value for name, value in headers if name == "www-authenticate"]
    assert len(challenges) == (refusal.status != 503)
    if refusal.status == 503:
        return
    (challenge,) = challenges
    names = re.findall(r'([a-z_]+)="', challenge)
    assert challenge.startswith('Bearer realm="api"')
    assert len(names) == len(set(names))


def test_a_realm_is_quoted():
    """ERR-9: with its quotes and backslashes escaped (Azure, axioms, Authlib, MCP 3130)."""
    answer = Challenges('a"b\\c').answer(MissingToken())
    assert dict(answer.headers)["www-authenticate"] == r'Bearer realm="a\"b\\c"'


def test_all_scopes_are_named_once():
    """ERR-5: those of the API and those of the route, in one challenge."""
    answer = Challenges("api", ("read", "write")).answer(InsufficientScope(["write", "admin"]))
    assert 'scope="read write admin"' in dict(answer.headers)["www-authenticate"]


@pytest.mark.parametrize(
    ("seconds", "header"), [(0, "1"), (-5, "1"), (0.2, "1"), (1.2, "2"), (7, "7"), (1e9, "3600")]
)
def test_retry_after_is_whole_seconds(seconds, header):
    """ERR-16: at least one, and not for ever."""
    answer = Challenges("api").answer(Unavailable(Reason.INTERNAL, retry_after=seconds))
    assert dict(answer.headers)["retry-after"] == header


def test_an_answer_is_the_same_each_time():
    """It is a value: two of one kind are equal."""
    challenges = Challenges("api")
    assert challenges.answer(MissingToken()) == challenges.answer(MissingToken())


RULES = Exemptions(
    [
        *("/", "/health", "GET /docs", "/public/*", "POST /hooks/*", "GET /hooks/*"),
        *("/my files", "GET /his files/*"),
    ]
)
COVERED = [
    ("GET", "/"),
    ("POST", "/health"),
    ("HEAD", "/docs"),
    ("PUT", "/public/a"),
    ("GET", "/public/a/b.c"),
    ("GET", "/public/..."),
    ("POST", "/hooks/a"),
    ("HEAD", "/hooks/a"),
    ("POST", "/my files"),
    ("GET", "/his files/a b"),
]
NOT_COVERED = [
    ("GET", ""),
    ("GET", "//"),
    ("GET", "/."),
    ("GET", "/health/"),
    ("GET", "/Health"),
    ("GET", "/healthy"),
    ("POST", "/docs"),
    ("get", "/docs"),
    ("GET", "/public"),
    ("GET", "/public/"),
    ("GET", "/public/."),
    ("GET", "/public/.."),
    ("GET", "/public/../admin"),
    ("GET", "/public/a/../../admin"),
    ("GET", "/public//admin"),
    ("GET", "/public/a\\..\\admin"),
    ("GET", "//public/a"),
    ("GET", "public/a"),
    ("PUT", "/hooks/a"),
    ("GET", "/%70ublic/a"),
    ("POST", "/his files/a"),
    ("GET", "files"),
]


@pytest.mark.parametrize(("method", "path"), COVERED)
def test_exempt(method, path):
    """A rule is a path or what is below a prefix, of one method or of any."""
    assert RULES.cover(method, path)


@pytest.mark.parametrize(("method", "path"), NOT_COVERED)
def test_not_exempt(method, path):
    """ASGI-7: what is not plainly covered is not."""
    assert not RULES.cover(method, path)


@pytest.mark.parametrize(
    ("root", "path", "rest"),
    [
        ("", "/a", "/a"),
        ("/api", "/api/a", "/a"),
        ("/api", "/api", "/"),
        ("/api", "/apia", "/apia"),
        ("/api", "/b", "/b"),
    ],
)
def test_below_the_mount_point(root, path, rest):
    """ASGI-7: as seen from there, or as it was where it is not below."""
    assert below(root, path) == rest


def test_step_up_names_the_metadata():
    """PRM-5 STEP-1: the challenge for stronger authentication has all of it."""
    refusal = errors.InsufficientAuthentication(acr_values=("loa3",), max_age=300)
    answer = Challenges("api", metadata="https://h/.well-known/x").answer(refusal)
    assert dict(answer.headers)["www-authenticate"] == (
        'Bearer realm="api", error="insufficient_user_authentication", acr_values="loa3", '
        'max_age="300", resource_metadata="https://h/.well-known/x"'
    )
