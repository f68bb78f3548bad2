"""Token status lists, in both worlds: TSL-1 to TSL-5 (draft-ietf-oauth-status-list)."""

from __future__ import annotations

import asyncio
import base64
import json
import threading
import time
import zlib
from collections.abc import Callable
from typing import Any

import pytest

from bearer_middleware import ResourceServer
from bearer_middleware.errors import Reason
from bearer_middleware.flow.drivers import arun
from bearer_middleware.testing import Issuer
from bearer_middleware.tokens.status_list import MAX_LIST_BYTES, MAX_UNPACKED_BYTES

Ask = Callable[..., Any]
Make = Callable[..., ResourceServer]
FETCHES = "status_list"


@pytest.fixture(params=["jwt", "opaque", "jwt-introspected", "jwt-both"])
def kind(request: pytest.FixtureRequest) -> str:
    """How a token comes to its claims."""
    return str(request.param)


@pytest.fixture
def server(kind: str, make: Make, issuer: Issuer) -> ResourceServer:
    """It may fetch the lists of its issuer."""
    validation = {"jwt-introspected": "introspect", "jwt-both": "both"}.get(kind, "local")
    return make({"status_lists": issuer.url, "jwt_validation": validation})


@pytest.fixture
def mint(kind: str, issuer: Issuer) -> Callable[..., str]:
    """Makes tokens of that kind."""
    return issuer.opaque if kind == "opaque" else issuer.jwt


def test_valid_passes_and_all_else_is_refused(
    server: ResourceServer, mint: Callable[..., str], issuer: Issuer, ask: Ask, problem: Any
) -> None:
    """TSL-3: VALID, INVALID, SUSPENDED, and what an application made up: all of one fetch."""
    statuses = issuer.status_list(bits=4)
    tokens = [mint(status=statuses.claim(), jti=f"j{index}") for index in range(4)]
    statuses[1], statuses[2], statuses[3] = 1, 2, 15
    for _ in range(2):
        replies = [ask(server, token) for token in tokens]
        assert [reply.status for reply in replies] == [200, 401, 401, 401]
        assert [reply.reached for reply in replies] == [True, False, False, False]
    assert 'error="invalid_token"' in replies[1].headers["www-authenticate"]
    assert problem(replies[1])["error"] == "invalid_token"
    assert server.events.counts[Reason.INVALID_STATUS] == 6
    assert issuer.requests[FETCHES] == 1
    asked = next(each for each in issuer.log if each.endpoint == FETCHES)
    assert asked.headers["accept"] == "application/statuslist+jwt"
    assert "authorization" not in asked.headers


def test_a_status_that_changes_counts_after_the_ttl(
    server: ResourceServer, mint: Callable[..., str], issuer: Issuer, ask: Ask, clock: Any
) -> None:
    """TSL-4: whatever is remembered of the token, and whatever the cache headers say."""
    statuses = issuer.status_list(bits=2, ttl=60)
    issuer.fail(FETCHES, headers={"cache-control": "max-age=86400"})
    token = mint(status=statuses.claim())
    assert ask(server, token).status == 200
    statuses[0] = 2
    clock.advance(40)
    assert ask(server, token).status == 200
    assert issuer.requests[FETCHES] == 1
    clock.advance(20)
    assert ask(server, token).status == 401
    statuses[0] = 0
    clock.advance(60)
    assert ask(server, token).status == 200
    assert issuer.requests[FETCHES] == 3


def test_an_outage(
    server: ResourceServer, mint: Callable[..., str], issuer: Issuer, ask: Ask, clock: Any
) -> None:
    """A list in date serves through it; once it has ended nobody can know, and later it is back."""
    token = mint(status=issuer.status_list(ttl=60).claim())
    assert ask(server, token).status == 200
    issuer.fail(FETCHES, status=500)
    clock.advance(44)
    assert ask(server, token).status == 200
    assert issuer.requests[FETCHES] == 1
    clock.advance(16)
    replies = [ask(server, token) for _ in range(3)]
    assert {reply.status for reply in replies} == {503}
    assert not any(reply.reached for reply in replies)
    assert {int(reply.headers["retry-after"]) for reply in replies} == {1}
    assert "www-authenticate" not in replies[0].headers
    assert issuer.requests[FETCHES] == 2  # remembered, so that nobody repeats it
    assert server.events.counts[Reason.STATUS_UNAVAILABLE] == 3
    assert server.events.counts["status_list_failed"] == 1
    issuer.recover()
    clock.advance(2)
    assert ask(server, token).status == 200


@pytest.mark.parametrize(
    "claims",
    [{"exp": 1}, {"aud": "others"}, {"nbf": 4_000_000_000}, {"cnf": {"jkt": "x"}}],
    ids=lambda claims: str(next(iter(claims))),
)
def test_a_token_that_is_bad_otherwise_causes_no_fetch(
    server: ResourceServer,
    mint: Callable[..., str],
    issuer: Issuer,
    ask: Ask,
    claims: dict[str, Any],
) -> None:
    """TSL-1: MUST NOT fetch."""
    assert ask(server, mint(status=issuer.status_list().claim(), **claims)).status == 401
    assert issuer.requests[FETCHES] == 0


def test_nor_does_one_that_is_forged_revoked_or_lacks_scopes(
    make: Make, issuer: Issuer, ask: Ask
) -> None:
    """TSL-1: the same for what is found out later."""
    server = make({"status_lists": issuer.url, "required_scopes": "read"})
    claim = issuer.status_list().claim()
    forged = issuer.jwt(status=claim).rpartition(".")[0] + "." + "A" * 342
    assert ask(server, forged).status == 401
    assert ask(server, issuer.jwt(status=claim, scope="write")).status == 403
    server.revoke(subject="alice", before=time.time() + 60)
    assert ask(server, issuer.jwt(status=claim)).status == 401
    assert issuer.requests[FETCHES] == 0


def test_without_the_setting_a_status_is_refused(
    mint: Callable[..., str], make: Make, issuer: Issuer, ask: Ask, kind: str
) -> None:
    """Whoever says that a token can be taken back is not ignored by accident."""
    validation = {"jwt-introspected": "introspect", "jwt-both": "both"}.get(kind, "local")
    server = make({"jwt_validation": validation})
    token = mint(status=issuer.status_list().claim())
    for _ in range(2):
        assert ask(server, token).status == 401
    assert ask(server, mint()).status == 200
    assert server.events.counts[Reason.UNSUPPORTED_STATUS] == 2
    assert issuer.requests[FETCHES] == 0


def test_ignored_where_that_is_said(
    mint: Callable[..., str], make: Make, issuer: Issuer, ask: Ask, kind: str
) -> None:
    """Then it is a claim like any other, of any shape, and the token is remembered as ever."""
    validation = {"jwt-introspected": "introspect", "jwt-both": "both"}.get(kind, "local")
    server = make({"status_lists": "ignore", "jwt_validation": validation})
    statuses = issuer.status_list()
    statuses[0] = 1
    for said in (statuses.claim(0), "active", 7, [], None):
        token = mint(status=said)
        assert ask(server, token).status == 200
        assert server.identify(b"Bearer " + token.encode()) is not None
    assert issuer.requests[FETCHES] == 0


def test_the_short_way_never_serves_a_status(
    server: ResourceServer, mint: Callable[..., str], issuer: Issuer, ask: Ask
) -> None:
    """What is remembered of such a token is not enough to let it in."""
    token = mint(status=issuer.status_list().claim())
    for _ in range(3):
        assert server.identify(b"Bearer " + token.encode()) is None
        assert ask(server, token).status == 200
    introspections = issuer.requests["introspection"]
    assert introspections <= 1  # but answers are


HOSTILE = [
    "active",
    7,
    [],
    {},
    None,
    {"status_list": {}},
    {"status_list": "https://issuer.test/statuslists/1"},
    {"status_list": {"idx": 0}},
    {"status_list": {"uri": "https://issuer.test/statuslists/1"}},
    {"identifier_list": {"id": "x", "uri": "https://issuer.test/statuslists/1"}},
    *(
        {"status_list": {"idx": idx, "uri": "https://issuer.test/statuslists/1"}}
        for idx in (-1, 0.0, True, "0", None, 1 << 60)
    ),
    *(
        {"status_list": {"idx": 0, "uri": uri}}
        for uri in (
            *(7, "", "nonsense", "https://", "https://other.example/statuslists/1"),
            "http://issuer.test/statuslists/1",
            "https://issuer.test:444/statuslists/1",
            "https://issuer.test.evil.example/statuslists/1",
            "https://issuer.test@evil.example/statuslists/1",
            "https://user:pass@issuer.test/statuslists/1",
            "https://issuer.test\\@evil.example/statuslists/1",
            "https://issuer.test/statuslists-evil/1",
            "https://issuer.test/other",
            "https://issuer.test/",
            "https://issuer.test/statuslists/../jwks",
            "https://issuer.test/statuslists/./1",
            "https://issuer.test/statuslists//1",
            "https://issuer.test/statuslists/%2e%2e/jwks",
            "https://issuer.test/statuslists/%2E%2E%2fjwks",
            "https://issuer.test/statuslists/%252e%252e/jwks",
            "https://issuer.test/statuslists/..%5cjwks",
            "https://issuer.test/statuslists\\..\\jwks",
            "https://issuer.test/statuslists/1#fragment",
            "https://issuer.test/statuslists/1 ",
            "https://issuer.test/statuslists/\n1",
            "https://issuer.test/statuslists/" + "1" * 3_000,
            "//issuer.test/statuslists/1",
            "file:///statuslists/1",
        )
    ),
]


@pytest.mark.parametrize("status", HOSTILE, ids=str)
def test_what_is_no_reference_to_an_allowed_list(
    make: Make, issuer: Issuer, ask: Ask, status: Any
) -> None:
    """TSL-5: refused as bad, and nobody is asked."""
    server = make({"status_lists": "https://issuer.test/statuslists/"})
    issuer.status_list()
    segment = base64.urlsafe_b64encode(json.dumps(status).encode())
    assert ask(server, _signed(issuer, status)).status == 401, segment
    assert server.events.counts[Reason.UNSUPPORTED_STATUS] == 1
    assert issuer.requests[FETCHES] == 0
    assert all(each.endpoint != "unknown" for each in issuer.log)


def _signed(issuer: Issuer, status: Any) -> str:
    """A JWT with this status, which may be null: that is none only in an answer."""
    from bearer_middleware.testing.signing import Signed, sign

    usual = Signed.parse(issuer.jwt())
    assert usual is not None
    key = issuer._mint.signing_key()
    return sign(usual.header, {**usual.claims, "status": status}, key.algorithm, key.private)


def test_null_in_an_answer_is_none(make: Make, issuer: Issuer, ask: Ask) -> None:
    """Some servers write all members, those without a value as well."""
    server = make()
    token = issuer.opaque()
    body = json.dumps({**issuer.introspect(token), "status": None}).encode()
    issuer.fail("introspection", body=body)
    assert ask(server, token).status == 200
    assert ask(server, token).status == 200


def test_an_index_behind_the_end(
    server: ResourceServer, mint: Callable[..., str], issuer: Issuer, ask: Ask
) -> None:
    """TSL-2: out of bounds is refused."""
    statuses = issuer.status_list(bits=1, size=16)
    last, behind = (mint(status=statuses.claim(index)) for index in (15, 16))
    assert ask(server, last).status == 200
    assert ask(server, behind).status == 401
    assert server.events.counts[Reason.INVALID_STATUS] == 1
    assert issuer.requests[FETCHES] == 1


@pytest.mark.parametrize("claims", [{"sub": "https://issuer.test/2"}, {"sub": None}, {"iss": "x"}])
def test_a_signed_list_of_another_place(
    server: ResourceServer,
    mint: Callable[..., str],
    issuer: Issuer,
    ask: Ask,
    claims: dict[str, Any],
) -> None:
    """TSL-2: the issuer says itself that this is not the list of the token: 401."""
    statuses = issuer.status_list()
    statuses.claims.update(claims)
    token = mint(status=statuses.claim())
    for _ in range(2):
        assert ask(server, token).status == 401
    assert server.events.counts[Reason.INVALID_STATUS] == 2
    assert issuer.requests[FETCHES] == 1


def _bomb() -> str:
    packed = zlib.compress(bytes(MAX_UNPACKED_BYTES + 1), 9)
    return base64.urlsafe_b64encode(packed).decode().rstrip("=")


LST = "eNrbuRgAAhcBXQ"
BROKEN: dict[str, dict[str, Any]] = {
    "typ": {"headers": {"typ": "JWT"}},
    "no typ": {"headers": {"typ": None}},
    "alg": {"headers": {"alg": "none"}},
    "kid": {"headers": {"kid": "nobody's"}},
    "crit": {"headers": {"crit": ["exp"]}},
    "forged": {"key": "stranger"},
    "no iat": {"claims": {"iat": None}},
    "iat of tomorrow": {"claims": {"iat": 4_000_000_000}},
    "expired": {"claims": {"exp": 1}},
    "odd exp": {"claims": {"exp": "never"}},
    "ttl 0": {"claims": {"ttl": 0}},
    "ttl -5": {"claims": {"ttl": -5}},
    "odd ttl": {"claims": {"ttl": "60"}},
    "ttl true": {"claims": {"ttl": True}},
    "no list": {"claims": {"status_list": None}},
    "list of another shape": {"claims": {"status_list": [LST]}},
    "bits 3": {"claims": {"status_list": {"bits": 3, "lst": LST}}},
    "bits true": {"claims": {"status_list": {"bits": True, "lst": LST}}},
    "no bits": {"claims": {"status_list": {"lst": LST}}},
    "no lst": {"claims": {"status_list": {"bits": 1}}},
    "lst no base64url": {"claims": {"status_list": {"bits": 1, "lst": LST + "=="}}},
    "lst no ascii": {"claims": {"status_list": {"bits": 1, "lst": "\u00e9"}}},
    "lst no zlib": {"claims": {"status_list": {"bits": 1, "lst": "AAAA"}}},
    "lst cut off": {"claims": {"status_list": {"bits": 1, "lst": "eNrbuRgA"}}},
    "lst and more": {"claims": {"status_list": {"bits": 1, "lst": LST + "AA"}}},
    "zip bomb": {"claims": {"status_list": {"bits": 1, "lst": _bomb()}}},
    "oversize": {"fault": {"huge": MAX_LIST_BYTES + 1}},
    "html": {"fault": {"body": b"<html>", "content_type": "text/html"}},
    "empty": {"fault": {"body": b""}},
    "cwt": {"fault": {"body": b"\xd2\x84\x43\xa1\x01\x26"}},
    "moved": {"fault": {"status": 302, "headers": {"location": "https://issuer.test/jwks"}}},
    "compressed": {"fault": {"headers": {"content-encoding": "gzip"}}},
    "not found": {"fault": {"status": 404}},
    "away": {"fault": {"drop": True}},
}


@pytest.mark.parametrize("broken", BROKEN)
def test_a_list_that_nobody_can_believe(make: Make, issuer: Issuer, ask: Ask, broken: str) -> None:
    """TSL-2, TSL-4: the token is not let in, and not called bad either: we cannot know."""
    server = make({"status_lists": issuer.url})
    statuses = issuer.status_list()
    wrong = BROKEN[broken]
    statuses.claims.update(wrong.get("claims", {}))
    statuses.headers.update(wrong.get("headers", {}))
    if "key" in wrong:
        statuses.key = Issuer()._mint.signing_key().private
    if "fault" in wrong:
        issuer.fail(FETCHES, **wrong["fault"])
    token = issuer.jwt(status=statuses.claim())
    for _ in range(2):
        reply = ask(server, token)
        assert reply.status == 503
        assert not reply.reached
        assert int(reply.headers["retry-after"]) >= 1
    assert server.events.counts[Reason.STATUS_UNAVAILABLE] == 2
    assert issuer.requests[FETCHES] == (2 if broken == "away" else 1)  # connecting is tried twice
    assert ask(server, issuer.jwt()).status == 200


@pytest.mark.parametrize("claims", [{"iss": None}, {"exp": None}, {"ttl": None}, {"aud": "x"}])
def test_what_a_list_need_not_say(
    make: Make, issuer: Issuer, ask: Ask, claims: dict[str, Any]
) -> None:
    """Section 5.1: sub and iat are required, and the list."""
    statuses = issuer.status_list()
    statuses.claims.update(claims)
    token = issuer.jwt(status=statuses.claim())
    assert ask(make({"status_lists": issuer.url}), token).status == 200


def test_the_keys_cannot_be_had(make: Make, issuer: Issuer, ask: Ask) -> None:
    """An answer about an opaque token needs none, its list does."""
    server = make({"status_lists": issuer.url})
    token = issuer.opaque(status=issuer.status_list().claim())
    issuer.fail("jwks", status=500)
    assert ask(server, token).status == 503
    assert server.events.counts[Reason.JWKS_UNAVAILABLE] == 1


def test_answer_and_jwt_may_not_differ(make: Make, issuer: Issuer, ask: Ask) -> None:
    """With ``both``, the JWT is the identity: a status that only the answer has is not lost."""
    server = make({"status_lists": issuer.url, "jwt_validation": "both"})
    statuses = issuer.status_list()
    for own, other, status in (
        (None, statuses.claim(), 401),
        (statuses.claim(1), statuses.claim(2), 401),
        (statuses.claim(1), None, 200),
    ):
        token = issuer.jwt(status=own)
        answer = {name: v for name, v in issuer.introspect(token).items() if name != "status"}
        if other is not None:
            answer["status"] = other
        issuer.fail("introspection", body=json.dumps(answer).encode())
        assert ask(server, token).status == status


def test_each_issuer_speaks_for_its_own_tokens(issuer: Issuer, ask: Ask, clock: Any) -> None:
    """The prefixes are an issuer's own, and so are the keys that sign its lists."""
    from bearer_middleware import Settings

    other = Issuer("https://other.test")
    names = ("issuer", "audience")
    tables = [
        {**{name: each.settings()[name] for name in names}, "status_lists": prefixes}
        for each, prefixes in ((issuer, "https://issuer.test"), (other, "https://issuer.test"))
    ]
    server = ResourceServer(Settings(issuers=tables), transport=_both(issuer, other), clock=clock)
    claim = issuer.status_list().claim()
    assert ask(server, issuer.jwt(status=claim)).status == 200
    assert ask(server, other.jwt(status=claim)).status == 503  # signed by somebody else
    assert ask(server, other.jwt(status=other.status_list().claim())).status == 401
    assert other.requests[FETCHES] == 0


def _both(*issuers: Issuer) -> Any:
    """A transport to whoever is meant."""
    import httpx2 as httpx

    inner = {each.url: each.transport() for each in issuers}

    class Both(httpx.BaseTransport, httpx.AsyncBaseTransport):
        def handle_request(self, request: Any) -> Any:
            return inner[f"https://{request.url.host}"].handle_request(request)

        async def handle_async_request(self, request: Any) -> Any:
            return await inner[f"https://{request.url.host}"].handle_async_request(request)

    return Both()


@pytest.mark.parametrize("fault", [{"delay": 0.05}, {"status": 503}], ids=["slow", "down"])
def test_many_callers_make_one_fetch(
    make: Make, issuer: Issuer, world: str, ask: Ask, fault: dict[str, Any]
) -> None:
    """Two hundred at once, whether it succeeds or fails."""
    server = make({"status_lists": issuer.url})
    statuses = issuer.status_list()
    tokens = [issuer.jwt(status=statuses.claim(index)) for index in range(5)] * 40
    assert ask(server, issuer.jwt()).status == 200
    issuer.fail(FETCHES, **fault)
    seen: list[int] = []
    if world == "wsgi":
        threads = [
            threading.Thread(target=lambda token=token: seen.append(ask(server, token).status))
            for token in tokens
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    else:
        seen = asyncio.run(_all(server, tokens))
    assert seen == [200 if "delay" in fault else 503] * 200
    assert issuer.requests[FETCHES] == 1


async def _all(server: ResourceServer, tokens: list[str]) -> list[int]:
    flows = [server.authenticate([b"Bearer " + token.encode()]) for token in tokens]
    results = await asyncio.gather(
        *(arun(flow, server.transport) for flow in flows), return_exceptions=True
    )
    await server.aclose()
    return [getattr(result, "status", 200) for result in results]


def test_health_tells_of_the_lists(make: Make, issuer: Issuer, ask: Ask) -> None:
    """Where there may be any: how many, and the breakers of their servers."""
    assert "status_lists" not in make().health().parts
    server = make({"status_lists": f"{issuer.url},https://lists.example:8443/a"})
    assert ask(server, issuer.jwt(status=issuer.status_list().claim())).status == 200
    part = server.health().parts["status_lists"]
    assert part == {
        "status": "ok",
        "lists": 1,
        "breakers": {"https://issuer.test:443": "closed", "https://lists.example:8443": "closed"},
    }
    issuer.fail(FETCHES, status=503, headers={"retry-after": "30"})
    reply = ask(server, issuer.jwt(status=issuer.status_list().claim()))
    assert reply.status == 503
    health = server.health()
    assert health.status == "degraded"
    assert health.ready
    assert health.parts["status_lists"]["breakers"]["https://issuer.test:443"] == "open"
