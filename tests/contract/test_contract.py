"""The contract: one table of cases, in every world. A new case is one line."""

import base64
import json
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import pytest

from bearer_middleware.testing import Issuer
from tests.contract.wire import server_of
from tests.contract.worlds import WORLDS

PREFLIGHT = [("Origin", "https://shop"), ("Access-Control-Request-Method", "POST")]
BASIC = "Basic " + base64.b64encode(b"alice:secret").decode()
WRITE = "write"
TITLES = {400: "Bad Request", 401: "Unauthorized", 403: "Forbidden", 503: "Service Unavailable"}


@dataclass(frozen=True, kw_only=True)
class Case:
    """A request, what the issuer and the settings are like, and what comes of it."""

    #: The Authorization headers, given the issuer.
    show: Callable[[Issuer], list[Any]] = lambda issuer: []
    path: str = "/"
    method: str = "GET"
    headers: list[Any] = field(default_factory=list)
    given: Callable[[Issuer], Any] = lambda issuer: None
    settings: dict[str, Any] = field(default_factory=dict)
    #: What comes of it. The identity's subject where it is 200.
    status: int = 200
    subject: str | None = None
    error: str | None = None
    scope: str | None = None


def jwt(sub: str | None = "alice", **claims: Any) -> Callable[[Issuer], list[str]]:
    """Show a JWT of the issuer."""
    return lambda issuer: ["Bearer " + issuer.jwt(sub=sub, **claims)]


def opaque(sub: str | None = "alice", **members: Any) -> Callable[[Issuer], list[str]]:
    """Show an opaque token of the issuer."""
    return lambda issuer: ["Bearer " + issuer.opaque(sub=sub, **members)]


def raw(*values: str | bytes) -> Callable[[Issuer], list[str | bytes]]:
    """Show these Authorization headers as they stand."""
    return lambda issuer: [*values]


def spelt(spelling: str) -> Callable[[Issuer], list[str]]:
    """Show a good JWT in an odd spelling."""
    return lambda issuer: [spelling.format(token=issuer.jwt())]


def twice(issuer: Issuer) -> list[str]:
    """Show a good token in two headers."""
    return ["Bearer " + issuer.jwt()] * 2


def revoked(issuer: Issuer) -> list[str]:
    """Show a token that was taken back."""
    token = issuer.opaque()
    issuer.revoke(token)
    return ["Bearer " + token]


def unsigned(issuer: Issuer) -> list[str]:
    """Show a JWT that says it needs no signature."""
    header = base64.urlsafe_b64encode(json.dumps({"alg": "none"}).encode()).rstrip(b"=").decode()
    return [f"Bearer {header}.{issuer.jwt().split('.')[1]}."]


def other_signature(issuer: Issuer) -> list[str]:
    """Show a JWT with the signature of another."""
    head, body, _ = issuer.jwt().split(".")
    return [f"Bearer {head}.{body}.{issuer.jwt(sub='bob').split('.')[2]}"]


def down(endpoint: str, **fault: Any) -> Callable[[Issuer], None]:
    """Let an endpoint of the issuer fail; where nothing else is said, it hangs up."""
    return lambda issuer: issuer.fail(endpoint, **(fault or {"drop": True}))


OPTIONAL = {"optional": True}
PUBLIC = {"exempt": "/public/*,GET /health"}
NEEDS_READ = {"required_scopes": "read"}
NEEDS_BOTH = {"required_scopes": "read profile"}
BAD = {"status": 401, "error": "invalid_token"}
MALFORMED = {"status": 400, "error": "invalid_request"}
CHALLENGED = {"status": 401}
FORBIDDEN = {"status": 403, "error": "insufficient_scope"}
UNKNOWN = {"status": 503}

CASES = {
    # Who shows a good token is let in with its identity.
    "TOK-1 a JWT": Case(show=jwt(), subject="alice"),
    "TOK-1 an opaque token": Case(show=opaque("bob"), subject="bob"),
    "TOK-2 the scheme in any case": Case(show=spelt("bEaReR {token}"), subject="alice"),
    "TOK-3 several spaces": Case(show=spelt("Bearer   {token}"), subject="alice"),
    "a client, which has no sub": Case(show=opaque(None, client_id="cron"), subject="cron"),
    "HEAD with a token": Case(show=jwt(), method="HEAD"),
    "POST with a token": Case(show=jwt(), method="POST", subject="alice"),
    # Who shows nothing is told what to show, without an error code.
    "ERR-1 ERR-2 ERR-3 no token": Case(**CHALLENGED),
    "ERR-3 no token, scopes required": Case(
        settings=NEEDS_BOTH, **CHALLENGED, scope="read profile"
    ),
    "TOK-12 another scheme": Case(show=raw(BASIC), **CHALLENGED),
    "TOK-9 a token in the query": Case(path="/?access_token=mF_9.B5f-4.1JqM", **CHALLENGED),
    "TOK-9 one in the query beside one in the header": Case(
        show=jwt(), path="/?access_token=x", subject="alice"
    ),
    "an empty header": Case(show=raw(""), **CHALLENGED),
    "HEAD without a token": Case(method="HEAD", **CHALLENGED),
    # What is malformed is 400.
    "ERR-6 TOK-5 TOK-6 two headers": Case(show=twice, **MALFORMED),
    "TOK-6 joined by a comma": Case(show=spelt("Bearer {token},Bearer {token}"), **MALFORMED),
    "TOK-3 the scheme alone": Case(show=raw("Bearer"), **MALFORMED),
    "TOK-3 two words": Case(show=raw("Bearer a b"), **MALFORMED),
    "TOK-3 quoted": Case(show=raw('Bearer "a"'), **MALFORMED),
    "TOK-3 padding in front": Case(show=raw("Bearer =abc"), **MALFORMED),
    "TOK-7 bytes that are no ASCII": Case(show=raw(b"Bearer \xe9"), **MALFORMED),
    "TOK-7 bytes that are no UTF-8": Case(show=raw(b"Bearer \xff\xfe"), **MALFORMED),
    "an over-long token": Case(show=raw("Bearer " + "a" * 8193), **MALFORMED),
    # A token that is known to be bad is 401.
    "ERR-4 expired": Case(show=jwt(exp=1_000_000_000), **BAD),
    "ERR-4 of another audience": Case(show=jwt(aud="other"), **BAD),
    "ERR-4 of another issuer": Case(show=jwt(iss="https://evil.example"), **BAD),
    "ERR-4 signed over something else": Case(show=other_signature, **BAD),
    "ERR-4 not signed": Case(show=unsigned, **BAD),
    "ERR-4 never issued": Case(show=raw("Bearer mF_9.B5f-4.1JqM"), **BAD),
    "ERR-4 revoked": Case(show=revoked, **BAD),
    # Scopes: all of them, letter by letter.
    "ERR-5 the API needs a scope": Case(
        show=jwt(scope="other"), settings=NEEDS_READ, **FORBIDDEN, scope="read"
    ),
    "ERR-5 the API needs two": Case(
        show=opaque(scope="read"), settings=NEEDS_BOTH, **FORBIDDEN, scope="read profile"
    ),
    "ERR-10 scopes have case": Case(
        show=jwt(scope="Read"), settings=NEEDS_READ, **FORBIDDEN, scope="read"
    ),
    "ERR-5 the route needs a scope": Case(show=jwt(), path="/write", **FORBIDDEN, scope=WRITE),
    "ERR-5 all that API and route need": Case(
        show=jwt(), path="/write", settings=NEEDS_READ, **FORBIDDEN, scope="read write"
    ),
    "the route's scope is there": Case(show=jwt(scope="write"), path="/write", subject="alice"),
    "HEAD of a route that needs a scope": Case(
        show=jwt(), path="/write", method="HEAD", **FORBIDDEN, scope=WRITE
    ),
    # What we cannot know is 503, and no fault of the token.
    "ERR-16 introspection is down": Case(given=down("introspection"), show=opaque(), **UNKNOWN),
    "ERR-16 introspection fails": Case(
        given=down("introspection", status=500), show=opaque(), **UNKNOWN
    ),
    "ERR-16 the keys are not to be had": Case(given=down("jwks"), show=jwt(), **UNKNOWN),
    "ERR-16 all is down": Case(given=down("all"), show=jwt(), **UNKNOWN),
    "ERR-16 the keys are not needed": Case(given=down("jwks"), show=opaque("bob"), subject="bob"),
    "ERR-16 HEAD in an outage": Case(given=down("jwks"), show=jwt(), method="HEAD", **UNKNOWN),
    # Anonymous callers, where they are welcome.
    "optional: no token": Case(settings=OPTIONAL),
    "optional: another scheme": Case(settings=OPTIONAL, show=raw(BASIC)),
    "optional: a good token": Case(settings=OPTIONAL, show=jwt(), subject="alice"),
    "optional: a bad token": Case(settings=OPTIONAL, show=jwt(aud="other"), **BAD),
    "optional: a malformed header": Case(settings=OPTIONAL, show=raw("Bearer"), **MALFORMED),
    "optional: scopes bind nobody who is anonymous": Case(settings=OPTIONAL | NEEDS_READ),
    "optional: scopes bind who shows a token": Case(
        settings=OPTIONAL | NEEDS_READ, show=jwt(scope=""), **FORBIDDEN, scope="read"
    ),
    "optional: a route that needs a scope": Case(
        settings=OPTIONAL, path="/write", **CHALLENGED, scope=WRITE
    ),
    # Exempt paths, and those that only look like it.
    "exempt": Case(settings=PUBLIC, path="/public/open"),
    "exempt: deeper": Case(settings=PUBLIC, path="/public/a/b"),
    "exempt: the token is not looked at": Case(
        settings=PUBLIC, path="/public/a", show=raw("Bearer")
    ),
    "exempt: by method": Case(settings=PUBLIC, path="/health"),
    "exempt: GET covers HEAD": Case(settings=PUBLIC, path="/health", method="HEAD"),
    "exempt: but not POST": Case(settings=PUBLIC, path="/health", method="POST", **CHALLENGED),
    "exempt: the prefix is not below itself": Case(settings=PUBLIC, path="/public", **CHALLENGED),
    "exempt: nor is another word": Case(settings=PUBLIC, path="/publicity/x", **CHALLENGED),
    "exempt: other letters": Case(settings=PUBLIC, path="/PUBLIC/open", **CHALLENGED),
    "ASGI-7 up and out": Case(settings=PUBLIC, path="/public/../admin", **CHALLENGED),
    "ASGI-7 a dot": Case(settings=PUBLIC, path="/public/./open", **CHALLENGED),
    "ASGI-7 two slashes in front": Case(settings=PUBLIC, path="//public/open", **CHALLENGED),
    "ASGI-7 two slashes within": Case(settings=PUBLIC, path="/public//open", **CHALLENGED),
    "ASGI-7 //admin": Case(settings=PUBLIC, path="//admin", **CHALLENGED),
    "ASGI-7 a slash at the end": Case(settings=PUBLIC, path="/public/open/", **CHALLENGED),
    "ASGI-7 a backslash": Case(settings=PUBLIC, path="/public/..\\admin", **CHALLENGED),
    "ASGI-7 /%61dmin": Case(settings=PUBLIC, path="/%61dmin", **CHALLENGED),
    "ASGI-7 a slash was encoded": Case(settings=PUBLIC, path="/public%2fopen", **CHALLENGED),
    # CORS preflights carry no credentials.
    "ERR-14 a preflight": Case(method="OPTIONS", headers=PREFLIGHT),
    "ERR-14 a preflight with a token is none": Case(
        method="OPTIONS", headers=PREFLIGHT, show=raw("Bearer"), **MALFORMED
    ),
    "ERR-14 an empty header holds none": Case(method="OPTIONS", headers=PREFLIGHT, show=raw("")),
    "ERR-14 OPTIONS alone is none": Case(method="OPTIONS", **CHALLENGED),
    "ERR-14 nor is Origin alone": Case(method="OPTIONS", headers=PREFLIGHT[:1], **CHALLENGED),
    "ERR-14 nor another method": Case(method="POST", headers=PREFLIGHT, **CHALLENGED),
}


@pytest.mark.parametrize("world", WORLDS)
@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_contract(case: Case, world: str) -> None:
    """The same request has the same answer, to the byte, in every world."""
    issuer = Issuer()
    case.given(issuer)
    ask = WORLDS[world](server_of(issuer, **case.settings))
    headers = [("Authorization", value) for value in case.show(issuer)]
    reply = ask(case.path, [*case.headers, *headers], method=case.method)
    assert (reply.status, reply.challenge) == (case.status, _challenge(case))
    if case.status != 200:
        _is_refusal(reply, case)
    elif case.method != "HEAD":
        assert reply.json["subject"] == case.subject


def _challenge(case: Case) -> str | None:
    if case.status in (200, 503):
        return None
    parameters = ['realm="api"']
    if case.error:
        parameters.append(f'error="{case.error}"')
    if case.scope:
        parameters.append(f'scope="{case.scope}"')
    return "Bearer " + ", ".join(parameters)


def _is_refusal(reply: Any, case: Case) -> None:
    assert reply.header("content-type") == "application/problem+json"
    assert reply.header("cache-control") == "no-store"
    retry = reply.header("retry-after")
    assert (retry is not None and int(retry) >= 1) is (case.status == 503)
    if case.method == "HEAD":
        assert reply.body == b""
        return
    problem = {"status": case.status, "title": TITLES[case.status]}
    assert reply.json == problem | ({"error": case.error} if case.error else {})
    assert reply.header("content-length") == str(len(reply.body))


def test_a_token_that_was_seen_before_is_judged_alike() -> None:
    """The short way over the memory gives the same answers as the long one."""
    issuer = Issuer()
    for make in WORLDS.values():
        ask = make(server_of(issuer, required_scopes="read"))
        good = [("Authorization", "Bearer " + issuer.jwt())]
        poor = [("Authorization", "Bearer " + issuer.opaque(scope="other"))]
        assert [ask("/", good).status for _ in range(3)] == [200] * 3
        assert [ask("/", poor).status for _ in range(3)] == [403] * 3
        assert [ask("/write", good).challenge for _ in range(2)] == [
            'Bearer realm="api", error="insufficient_scope", scope="read write"'
        ] * 2
