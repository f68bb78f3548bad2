"""Asking about tokens (RFC 7662, RFC 9701): what is sent, what is believed, what is remembered."""

from __future__ import annotations

import base64
import json
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
)

from bearer_middleware import ResourceServer, Settings
from bearer_middleware.errors import Reason, Refused
from bearer_middleware.flow.clock import Clock
from bearer_middleware.flow.drivers import arun, run
from bearer_middleware.testing import Issuer
from bearer_middleware.testing.signing import sign

Make = Callable[..., Any]


@pytest.fixture
def opaque_only(make: Make) -> Make:
    """An API that knows nothing but an introspection endpoint."""

    def build(**settings: Any) -> Any:
        url = "https://issuer.test/introspect"
        return make(**{"issuer": None, "introspection_url": url, **settings})

    return build


def form_of(issuer: Issuer) -> dict[str, str]:
    """The form that arrived last."""
    fields = parse_qs(issuer.last_request.body.decode(), strict_parsing=True)
    assert all(len(values) == 1 for values in fields.values())
    return {name: values[0] for name, values in fields.items()}


# -- what is sent --------------------------------------------------------------------------


@pytest.mark.parametrize("token", ["plain", "a+b/c==", "mF_9.B5f-4.1JqM", "~a.b-c_d+e/f="])
def test_the_request_int_1(opaque_only: Make, issuer: Issuer, token: str) -> None:
    """INT-1: POST, a form, the token percent-encoded, JSON wanted, authenticated."""
    world = opaque_only()
    assert world.ask(issuer.opaque(token=token)) == 200
    asked = issuer.last_request
    assert (asked.method, asked.path) == ("POST", "/introspect")
    assert asked.headers["content-type"] == "application/x-www-form-urlencoded"
    assert asked.headers["accept"] == "application/json"
    assert asked.headers["authorization"].startswith("Basic ")
    assert form_of(issuer) == {"token": token, "token_type_hint": "access_token"}
    assert issuer.requests == {"introspection": 1}


@pytest.mark.parametrize(
    ("client_id", "secret"),
    [
        ("id", "a:b%c"),
        ("rs:weird&id", "p w+d"),
        ("https://api.test/x?y=z", "=&;/\\\"'"),
        ("id", "gehëim€"),
    ],
)
@pytest.mark.parametrize("method", ["client_secret_basic", "client_secret_post"])
def test_secrets_with_weird_characters_int_2(
    build: Any, client_id: str, secret: str, method: str
) -> None:
    """INT-2: form-encoded before they are joined: panva refuses a raw ``rs:weird&id``."""
    issuer = Issuer(client_id=client_id, client_secret=secret)
    world = build(issuer, **issuer.settings(client_auth=method))
    assert world.ask(issuer.opaque()) == 200


def test_basic_to_the_letter_int_2(build: Any) -> None:
    """INT-2: the very header of the rule."""
    issuer = Issuer(client_id="id", client_secret="a:b%c")
    build(issuer, **issuer.settings()).ask(issuer.opaque())
    _, _, credentials = issuer.last_request.headers["authorization"].partition(" ")
    assert base64.b64decode(credentials) == b"id:a%3Ab%25c"


KEYS: dict[str, Callable[[], Any]] = {
    "RS256": lambda: rsa.generate_private_key(65537, 2048),
    "ES256": lambda: ec.generate_private_key(ec.SECP256R1()),
    "ES384": lambda: ec.generate_private_key(ec.SECP384R1()),
    "ES512": lambda: ec.generate_private_key(ec.SECP521R1()),
    "EdDSA": ed25519.Ed25519PrivateKey.generate,
}


@pytest.mark.parametrize("algorithm", KEYS)
@pytest.mark.parametrize("kid", [None, "key-1"])
def test_private_key_jwt(
    make: Make, issuer: Issuer, tmp_path: Path, algorithm: str, kid: str | None
) -> None:
    """A fresh assertion for every exchange, by the algorithm of the key."""
    key = KEYS[algorithm]()
    file = tmp_path / "key.pem"
    file.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    issuer.trust_client_key(key.public_key())
    world = make(
        client_auth="private_key_jwt",
        client_secret=None,
        client_key_file=str(file),
        client_key_id=kid,
    )
    for _ in range(2):  # an assertion is good once
        assert world.ask(issuer.opaque()) == 200
    form = form_of(issuer)
    header = jwt.get_unverified_header(form["client_assertion"])
    assert (header["alg"], header.get("kid")) == (algorithm, kid)
    assert "authorization" not in issuer.last_request.headers


def test_client_secret_jwt(make: Make, issuer: Issuer) -> None:
    """Signed with the secret, which itself is not sent."""
    world = make(client_auth="client_secret_jwt")
    for _ in range(2):
        assert world.ask(issuer.opaque()) == 200
    form = form_of(issuer)
    assert issuer.client_secret not in issuer.last_request.body.decode()
    claims = jwt.decode(form["client_assertion"], options={"verify_signature": False})
    assert claims["iss"] == claims["sub"] == issuer.client_id
    assert claims["aud"] == issuer.url
    assert 0 < claims["exp"] - claims["iat"] <= 300
    assert len(claims["jti"]) >= 16


def test_assertions_are_dated_by_the_clock_given(make: Make, issuer: Issuer) -> None:
    """A clock that was injected holds for everything."""
    world = make(client_auth="client_secret_jwt")
    world.clock.advance(-5000)
    world.ask(issuer.opaque(exp=None, iat=None))
    claims = jwt.decode(form_of(issuer)["client_assertion"], options={"verify_signature": False})
    assert claims["iat"] == world.clock()


@pytest.mark.parametrize("client_id", ["public", None])
def test_no_client_authentication(build: Any, client_id: str | None) -> None:
    """``none``: at most our name."""
    issuer = Issuer(client_id="public", client_secret=None)
    keywords = issuer.settings(client_auth="none", client_id=client_id)
    world = build(issuer, **keywords, introspection_url="https://issuer.test/introspect")
    assert world.ask(issuer.opaque()) == 200
    assert "authorization" not in issuer.last_request.headers
    assert form_of(issuer).get("client_id") == client_id


# -- what is believed ----------------------------------------------------------------------

GOOD = {"active": True, "sub": "alice", "aud": "api", "scope": "read"}


def say(issuer: Issuer, answer: Any, **fault: Any) -> None:
    """Let the endpoint answer this."""
    body = answer if isinstance(answer, bytes) else json.dumps(answer).encode()
    issuer.fail("introspection", body=body, **fault)


@pytest.mark.parametrize("active", ["true", "false", 1, 0, None, [], {}, "", [True], 1.0])
def test_active_is_json_true_or_false_int_3(world: Any, issuer: Issuer, active: Any) -> None:
    """INT-3: everything else is no answer, and nothing that is remembered as a verdict."""
    token = issuer.opaque()
    say(issuer, {**GOOD, "active": active})
    assert world.ask(token).reason is Reason.INTROSPECTION_UNAVAILABLE
    issuer.recover()
    world.clock.advance(1)
    assert world.ask(token) == 200


def test_active_is_missing_int_3(world: Any, issuer: Issuer) -> None:
    """INT-3: the one member that is required."""
    say(issuer, {name: value for name, value in GOOD.items() if name != "active"})
    assert world.ask("token") == 503


@pytest.mark.parametrize(
    "answer",
    [
        {"active": False},
        {"active": False, "error": "revoked by canary", "sub": "alice"},
        {"active": False, "exp": 99999999999, "aud": "api"},
    ],
)
def test_inactive_is_a_bad_token_int_4(world: Any, issuer: Issuer, answer: Any) -> None:
    """INT-4: whatever else the server says, it is ``invalid_token`` in our words."""
    say(issuer, answer)
    refused = world.ask("token")
    assert (refused.status, refused.reason) == (401, Reason.INACTIVE)
    assert "canary" not in refused.detail


NO_ANSWER: dict[str, dict[str, Any]] = {
    **{f"status {status}": {"status": status} for status in (204, 400, 404, 429, 500, 502, 503)},
    "retry after": {"status": 429, "headers": {"retry-after": "-5"}},
    "unsupported_token_type": {"status": 400, "body": b'{"error":"unsupported_token_type"}'},
    "redirect": {"status": 302, "headers": {"location": "https://evil.test/"}},
    "redirect that keeps the body": {"status": 307, "headers": {"location": "https://evil.test/"}},
    "html": {"body": b"<html>Sign in</html>", "content_type": "text/html"},
    "garbage": {"body": b"\xff\x00"},
    "nothing": {"body": b""},
    "array": {"body": b'[{"active": true}]'},
    "true": {"body": b"true"},
    "twice": {"body": b'{"active": false, "active": true}'},
    "twice within": {"body": b'{"active": true, "aud": "api", "x": {"a": 1, "a": 2}}'},
    "nan": {"body": b'{"active": true, "aud": "api", "x": NaN}'},
    "two documents": {"body": b'{"active": true, "aud": "api"}{"active": false}'},
    "deep": {"body": b'{"active": true, "x": ' + b"[" * 20_000 + b"]" * 20_000 + b"}"},
    "huge": {"huge": 70_000},
    "surrogate": {"body": b'{"active": true, "aud": "api", "sub": "\\ud800"}'},
    "bom": {"body": b'\xef\xbb\xbf{"active": true, "aud": "api"}'},
    "utf-16": {"body": '{"active": true, "aud": "api"}'.encode("utf-16")},
    "gzip": {"headers": {"content-encoding": "gzip"}},
    "dropped": {"drop": True},
    "created": {"status": 201, "body": json.dumps(GOOD).encode()},
    "error with a good body": {"status": 500, "body": json.dumps(GOOD).encode()},
}


@pytest.mark.parametrize("fault", NO_ANSWER.values(), ids=NO_ANSWER.keys())
def test_what_is_no_answer_is_503_and_no_verdict(
    world: Any, issuer: Issuer, fault: dict[str, Any]
) -> None:
    """We cannot know; and a moment later, when we can, nothing of it is left (spring-security
    7902; panva answers 400 to JWTs).
    """
    token = issuer.opaque()
    issuer.fail("introspection", **fault)
    refused = world.ask(token)
    assert (refused.status, refused.reason) == (503, Reason.INTROSPECTION_UNAVAILABLE)
    # Where nothing has reached the server, it is tried once more.
    assert issuer.requests["introspection"] == (2 if "drop" in fault else 1)
    issuer.recover()
    world.clock.advance(1)
    assert world.ask(token) == 200


@pytest.mark.parametrize("fault", NO_ANSWER.values(), ids=NO_ANSWER.keys())
def test_what_is_no_answer_does_not_unseat_a_good_one(
    world: Any, issuer: Issuer, fault: dict[str, Any]
) -> None:
    """While the answer is fresh nobody asks; after it, 503 unless staleness was allowed."""
    token = issuer.opaque()
    assert world.ask(token) == 200
    issuer.fail("introspection", **fault)
    world.clock.advance(29)
    assert world.ask(token) == 200
    world.clock.advance(2)
    assert world.ask(token) == 503


@pytest.mark.parametrize("status", [401, 403])
@pytest.mark.parametrize("body", [b"", b"<html>", b'{"error":"invalid_client"}'])
def test_our_own_credentials_are_refused_int_10(
    world: Any, issuer: Issuer, status: int, body: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    """INT-10: the operator's mistake is an error in the log and 503, never the caller's 401.
    django-oauth-toolkit answers 403 with HTML, glewlwyd 401 with nothing.
    """
    token = issuer.opaque()
    issuer.fail("introspection", status=status, body=body)
    refused = world.ask(token)
    assert (refused.status, refused.reason) == (503, Reason.MISCONFIGURED)
    levels = {record.levelname for record in caplog.records if "misconf" in record.getMessage()}
    assert "ERROR" in levels


def test_wrong_credentials_int_10(make: Make, issuer: Issuer) -> None:
    """INT-10: against the real endpoint."""
    assert make(client_secret="wrong").ask(issuer.opaque()).reason is Reason.MISCONFIGURED


def test_a_failure_is_not_repeated_at_once(world: Any, issuer: Issuer) -> None:
    """Callers who come in a row share it for a moment, each token for itself."""
    issuer.fail("introspection", status=500)
    token = issuer.opaque()
    assert [world.ask(token).status for _ in range(50)] == [503] * 50
    assert issuer.requests["introspection"] == 1
    assert world.ask(issuer.opaque()) == 503
    assert issuer.requests["introspection"] == 2


# -- the rules on the answer, now and at every hit -----------------------------------------


def refusals(now: float) -> dict[str, tuple[dict[str, Any], Reason]]:
    """Active answers that we refuse all the same."""
    return {
        "expired": ({"exp": now - 31}, Reason.EXPIRED),
        "not yet": ({"nbf": now + 60}, Reason.NOT_YET_VALID),
        "issued in the future": ({"iat": now + 60}, Reason.NOT_YET_VALID),
        "another aud": ({"aud": "other"}, Reason.WRONG_AUDIENCE),
        "aud of others": ({"aud": ["other", "third"]}, Reason.WRONG_AUDIENCE),
        "no aud": ({"aud": None}, Reason.WRONG_AUDIENCE),
        "empty aud": ({"aud": []}, Reason.WRONG_AUDIENCE),
        "odd aud": ({"aud": {"api": True}}, Reason.MALFORMED_CLAIM),
        "another iss": ({"iss": "https://other.test"}, Reason.UNKNOWN_ISSUER),
        "odd iss": ({"iss": 7}, Reason.UNKNOWN_ISSUER),
        "exp as text": ({"exp": str(int(now) + 60)}, Reason.MALFORMED_CLAIM),
        "exp true": ({"exp": True}, Reason.MALFORMED_CLAIM),
        "exp huge": ({"exp": 10**400}, Reason.MALFORMED_CLAIM),
        "iat huge": ({"iat": 10**400}, Reason.MALFORMED_CLAIM),
        "sub is a number": ({"sub": 7}, Reason.MALFORMED_CLAIM),
        "scope is a number": ({"scope": 7}, Reason.MALFORMED_CLAIM),
        "too many scopes": ({"scope": "a " * 300}, Reason.MALFORMED_CLAIM),
        "bound": ({"cnf": {"jkt": "x"}}, Reason.BOUND_TOKEN),
        "refresh by token_type": ({"token_type": "refresh_token"}, Reason.NOT_ACCESS_TOKEN),
        "refresh by token_type N/A": ({"token_type": "N_A"}, Reason.NOT_ACCESS_TOKEN),
        "refresh by token_use": ({"token_use": "refresh_token"}, Reason.NOT_ACCESS_TOKEN),
        "refresh by typ": ({"typ": "Refresh"}, Reason.NOT_ACCESS_TOKEN),
        "offline by typ": ({"typ": "Offline"}, Reason.NOT_ACCESS_TOKEN),
        "id by typ": ({"typ": "ID"}, Reason.NOT_ACCESS_TOKEN),
        "id by token_use": ({"token_use": "id"}, Reason.NOT_ACCESS_TOKEN),
        "id by claims": ({"nonce": "n", "at_hash": "h"}, Reason.NOT_ACCESS_TOKEN),
    }


CASES = list(refusals(0.0))


@pytest.mark.parametrize(
    "case",
    CASES,
)
def test_active_and_refused_int_8(world: Any, issuer: Issuer, case: str) -> None:
    """INT-8, INT-12: what the server calls active still has to satisfy our rules."""
    members, reason = refusals(world.clock())[case]
    token = issuer.opaque(**members)
    for _ in range(3):
        refused = world.ask(token)
        assert (refused.status, refused.reason) == (401, reason)
    assert issuer.requests["introspection"] == 1  # and the answer is remembered


@pytest.mark.parametrize("iss", [7, ["https://issuer.test"], {"url": "https://issuer.test"}])
def test_an_odd_iss_where_no_issuer_is_configured(
    opaque_only: Make, issuer: Issuer, iss: Any
) -> None:
    """INT-8: the answer is understood, so the token is bad, and no outage of ours."""
    assert opaque_only().ask(issuer.opaque(iss=iss)).reason is Reason.MALFORMED_CLAIM


ACCEPTED: dict[str, dict[str, Any]] = {
    "nothing but active": dict.fromkeys(("iss", "sub", "client_id", "iat", "exp", "jti", "scope")),
    "aud in a list": {"aud": ["other", "api"]},
    "float times": {"iat": 1000.5, "exp": 99999999999.5},
    "scope in a list": {"scope": ["read", "write"]},
    "dpop": {"token_type": "DPoP"},
    "access_token": {"token_type": "access_token"},
    "no token_type": {"token_type": None},
    "typ of an access token": {"typ": "Bearer"},
    "unknown members": {"ext": {"a": [1, None]}, "x-y": 1},
}


@pytest.mark.parametrize("members", ACCEPTED.values(), ids=ACCEPTED.keys())
def test_answers_of_real_servers(world: Any, issuer: Issuer, members: dict[str, Any]) -> None:
    """All but ``active`` and, by default, ``aud`` is optional."""
    assert world.ask(issuer.opaque(**members)) == 200


def test_members_that_are_null(world: Any, issuer: Issuer) -> None:
    """Some servers write ``null`` for what they do not know."""
    names = ("exp", "iat", "nbf", "iss", "sub", "scope", "token_type", "cnf", "client_id", "jti")
    say(issuer, {"active": True, "aud": "api", **dict.fromkeys(names)})
    assert world.ask("token") == 200


def test_the_subject_of_a_client(world: Any, issuer: Issuer) -> None:
    """Servers leave ``sub`` out for machines: the client, then the user's name stand in."""
    machine = world.ask(issuer.opaque(None, client_id="robot")).identity
    assert (machine.subject, machine.is_client, machine.kind) == ("robot", True, "opaque")
    user = world.ask(issuer.opaque(None, client_id=None, username="bob")).identity
    assert (user.subject, user.is_client) == ("bob", False)
    nobody = world.ask(issuer.opaque(None, client_id=None, iss=None)).identity
    assert (nobody.subject, nobody.issuer) == (None, issuer.url)


def test_authentication_facts_int_13(world: Any, issuer: Issuer) -> None:
    """INT-13: ``acr`` and ``auth_time`` of an answer are there to be looked at."""
    claims = world.ask(issuer.opaque(acr="urn:mfa", auth_time=1000)).identity.claims
    assert (claims["acr"], claims["auth_time"]) == ("urn:mfa", 1000)


@pytest.mark.parametrize(
    ("mode", "aud", "status"),
    [
        ("required", None, 401),
        ("required", "other", 401),
        ("required", "api", 200),
        ("if-present", None, 200),
        ("if-present", "other", 401),
        ("if-present", "api", 200),
        ("any", None, 200),
        ("any", "other", 200),
    ],
)
def test_audience_modes(
    make: Make, issuer: Issuer, mode: str, aud: str | None, status: int
) -> None:
    """``BEARER_INTROSPECTION_AUDIENCE``."""
    assert make(introspection_audience=mode).ask(issuer.opaque(aud=aud)) == status


def test_any_audience_implies_any(make: Make, issuer: Issuer) -> None:
    """``BEARER_ALLOW_ANY_AUDIENCE``."""
    world = make(audience=None, allow_any_audience=True)
    assert world.ask(issuer.opaque(aud="other")) == 200
    assert world.ask(issuer.opaque(aud=None)) == 200


def test_a_server_without_aud_is_named_in_the_log(
    world: Any, issuer: Issuer, caplog: pytest.LogCaptureFixture
) -> None:
    """Once, with the setting that is about it."""
    for _ in range(5):
        world.ask(issuer.opaque(aud=None))
    assert caplog.text.count("BEARER_INTROSPECTION_AUDIENCE") == 1


# -- what is remembered --------------------------------------------------------------------


def test_an_active_answer_is_remembered(world: Any, issuer: Issuer) -> None:
    """For thirty seconds, counted from the answer and never prolonged by use."""
    token = issuer.opaque()
    for _ in range(29):
        assert world.ask(token) == 200
        world.clock.advance(1)
    assert issuer.requests["introspection"] == 1
    issuer.revoke(token)
    world.clock.advance(2)
    assert world.ask(token) == 401
    assert issuer.requests["introspection"] == 2


def test_never_past_exp_int_5(make: Make, issuer: Issuer) -> None:
    """INT-5: with ``exp`` in five seconds it is asked again then, whatever the TTL."""
    world = make(introspection_ttl=300)
    token = issuer.opaque(exp=world.clock() + 5)
    assert world.ask(token) == 200
    world.clock.advance(4)
    assert world.ask(token) == 200
    assert issuer.requests["introspection"] == 1
    world.clock.advance(1)
    world.ask(token)
    assert issuer.requests["introspection"] == 2
    world.clock.advance(31)
    assert world.ask(token).reason is Reason.EXPIRED


def test_a_clock_set_back_revives_nothing(issuer: Issuer, monkeypatch: pytest.MonkeyPatch) -> None:
    """Monotonic and wall time both have to agree, and the earlier one counts."""
    wall, steady = [time.time()], [1000.0]
    module = "bearer_middleware.resource_server.Clock"
    monkeypatch.setattr(module, lambda: Clock(lambda: wall[0], lambda: steady[0]))
    server = ResourceServer(Settings(**issuer.settings()), transport=issuer.transport())
    token = issuer.opaque()
    value = [b"Bearer " + token.encode()]
    run(server.authenticate(value), server.transport)
    steady[0] += 31
    wall[0] -= 1000
    issuer.revoke(token)
    with pytest.raises(Refused):
        run(server.authenticate(value), server.transport)


@pytest.mark.parametrize("endpoint", ["opaque", "jwt"])
def test_ttl_zero_asks_every_time_int_6(make: Make, issuer: Issuer, endpoint: str) -> None:
    """INT-6: the cache can be turned off as a whole."""
    world = make(introspection_ttl=0, jwt_validation="introspect", negative_ttl=0)
    token = getattr(issuer, endpoint)()
    for count in range(1, 6):
        assert world.ask(token) == 200
        assert issuer.requests["introspection"] == count
    issuer.revoke(token)
    for count in range(6, 9):
        assert world.ask(token) == 401
        assert issuer.requests["introspection"] == count


def test_inactive_is_remembered_apart_int_9(world: Any, issuer: Issuer) -> None:
    """INT-9: a hundred times the same bad token is one exchange, for ten seconds."""
    for _ in range(100):
        assert world.ask("unknown") == 401
    assert issuer.requests["introspection"] == 1
    issuer.opaque(token="unknown")  # a token that was replicated late
    world.clock.advance(9.9)
    assert world.ask("unknown") == 401
    world.clock.advance(0.2)
    assert world.ask("unknown") == 200


def test_random_tokens_use_bounded_memory_int_9(make: Make, issuer: Issuer) -> None:
    """INT-9: and push out nothing that is good."""
    world = make(cache_size=50)
    good = [issuer.opaque() for _ in range(20)]
    assert all(world.ask(token) == 200 for token in good)
    asked = issuer.requests["introspection"]
    for number in range(300):
        world.ask(f"junk-{number}")
        world.clock.advance(0.02)  # no faster than the limit allows
    assert len(world.server.memory.refusals._known) <= 50
    assert all(world.ask(token) == 200 for token in good)
    assert issuer.requests["introspection"] == asked + 300


def test_a_token_that_becomes_valid(make: Make, issuer: Issuer) -> None:
    """``nbf`` is judged at every use of the answer that was remembered (INT-8)."""
    world = make(introspection_ttl=300)
    token = issuer.opaque(nbf=world.clock() + 100)
    assert world.ask(token).reason is Reason.NOT_YET_VALID
    world.clock.advance(69)
    assert world.ask(token) == 401
    world.clock.advance(2)
    assert world.ask(token) == 200
    assert issuer.requests["introspection"] == 1


def test_scopes_are_no_part_of_what_is_remembered(issuer: Issuer, make: Make) -> None:
    """Facts are remembered, decisions are not (oathkeeper 743)."""
    world = make(required_scopes="write")
    token = issuer.opaque(scope="read")
    for _ in range(3):
        refused = world.ask(token)
        assert (refused.status, refused.reason) == (403, Reason.INSUFFICIENT_SCOPE)
    assert issuer.requests["introspection"] == 1


def test_two_apis_ask_for_themselves_int_7(build: Any, issuer: Issuer, clock: Any) -> None:
    """INT-7: an answer is meant for the API that asked."""
    first = build(issuer, clock=clock, **issuer.settings())
    second = build(issuer, clock=clock, **issuer.settings(audience="other"))
    token = issuer.opaque()
    assert first.ask(token) == 200
    assert second.ask(token) == 401
    assert issuer.requests["introspection"] == 2


def test_stale_answers_where_that_is_allowed(
    make: Make, issuer: Issuer, caplog: pytest.LogCaptureFixture
) -> None:
    """In an outage, in the window, never past ``exp`` nor for the refused (sttp-oauth2 311)."""
    world = make(stale_if_error=60)
    lasting, short = issuer.opaque(), issuer.opaque(exp=world.clock() + 50)
    revoked = issuer.opaque()
    for token in (lasting, short, revoked):
        assert world.ask(token) == 200
    world.clock.advance(31)
    issuer.revoke(revoked)
    assert world.ask(revoked) == 401
    issuer.fail("introspection", status=503)
    assert world.ask(lasting) == 200
    assert world.ask(short) == 200
    assert "stale_served" in caplog.text
    assert world.ask(issuer.opaque()) == 503
    world.clock.advance(11)
    assert world.ask(revoked) == 503
    world.clock.advance(9)
    assert world.ask(short) == 503
    assert world.ask(lasting) == 200
    world.clock.advance(41)
    assert world.ask(lasting) == 503
    issuer.recover()
    world.clock.advance(13)  # by then the circuit breaker lets somebody try
    assert world.ask(lasting) == 200


def test_stale_answers_cool_down_too(make: Make, issuer: Issuer) -> None:
    """Callers in a row do not each wait for a server that is known to be down."""
    world = make(stale_if_error=60)
    token = issuer.opaque()
    world.ask(token)
    world.clock.advance(31)
    issuer.fail("introspection", status=503)
    assert [world.ask(token).status for _ in range(20)] == [200] * 20
    assert issuer.requests["introspection"] == 2


# -- signed answers ------------------------------------------------------------------------


def signed(issuer: Issuer, clock: Any, **changes: Any) -> bytes:
    """A signed answer as it should be, but for the changes."""
    key = issuer._mint.signing_key()
    header = {"alg": "RS256", "kid": key.kid, "typ": "token-introspection+jwt"}
    claims = {
        "iss": issuer.url,
        "aud": issuer.client_id,
        "iat": int(clock()),
        "token_introspection": GOOD,
    }
    for name, value in changes.items():
        place = header if name in header else claims
        place[name] = value
    claims = {name: value for name, value in claims.items() if value is not None}
    return sign(header, claims, "RS256", key.private).encode()


MEDIA_TYPE = "application/token-introspection+jwt"


def test_signed_answers_int_11(make: Make, issuer: Issuer) -> None:
    """INT-11: asked for by media type, verified with the issuer's keys."""
    world = make(introspection_signed=True)
    assert world.ask(issuer.opaque()) == 200
    asked = [entry for entry in issuer.log if entry.endpoint == "introspection"]
    assert asked[0].headers["accept"] == MEDIA_TYPE
    assert world.ask("unknown").reason is Reason.INACTIVE
    identity = world.ask(issuer.opaque(sub="bob")).identity
    assert (identity.subject, identity.claims["sub"]) == ("bob", "bob")


WRONG: dict[str, dict[str, Any]] = {
    "no typ": {"typ": None},
    "typ of an access token": {"typ": "at+jwt"},
    "plain typ": {"typ": "JWT"},
    "another iss": {"iss": "https://other.test"},
    "no iss": {"iss": None},
    "another aud": {"aud": "other"},
    "no aud": {"aud": None},
    "empty aud": {"aud": []},
    "odd aud": {"aud": {"resource-server": 1}},
    "no iat": {"iat": None},
    "iat of yesterday": {"iat": 86_400},
    "iat as text": {"iat": "now"},
    "no answer": {"token_introspection": None},
    "odd answer": {"token_introspection": "active"},
    "empty answer": {"token_introspection": {}},
    "active is text": {"token_introspection": {**GOOD, "active": "true"}},
    "an unknown key": {"kid": "unknown"},
}


@pytest.mark.parametrize("changes", WRONG.values(), ids=WRONG.keys())
def test_signed_answers_that_are_not_believed_int_11(
    make: Make, issuer: Issuer, changes: dict[str, Any]
) -> None:
    """INT-11: 503, for we do not know; and no trace of it a moment later."""
    world = make(introspection_signed=True)
    say(issuer, signed(issuer, world.clock, **changes), content_type=MEDIA_TYPE)
    refused = world.ask("token")
    assert (refused.status, refused.reason) == (503, Reason.INTROSPECTION_UNAVAILABLE)
    issuer.recover()
    world.clock.advance(5)
    assert world.ask(issuer.opaque(token="token")) == 200


@pytest.mark.parametrize("aud", ["resource-server", "api", ["x", "api"]])
def test_whom_a_signed_answer_may_mean_int_11(make: Make, issuer: Issuer, aud: Any) -> None:
    """INT-11: servers put our client id there (panva), or the name of our API."""
    world = make(introspection_signed=True)
    say(issuer, signed(issuer, world.clock, aud=aud), content_type=f"{MEDIA_TYPE}; charset=x")
    assert world.ask("token") == 200


def test_unsigned_and_badly_signed_answers_int_11(make: Make, issuer: Issuer) -> None:
    """INT-11: plain JSON, another's signature, a tampered one, ``none``: 503."""
    world = make(introspection_signed=True)
    good = signed(issuer, world.clock)
    stranger = Issuer()
    stranger.rotate(kid=issuer.kid)
    head, payload, signature = good.split(b".")
    for body, media_type in (
        (json.dumps(GOOD).encode(), "application/json"),
        (json.dumps(GOOD).encode(), MEDIA_TYPE),
        (good, "application/json"),
        (good, "application/jwt"),
        (signed(stranger, world.clock), MEDIA_TYPE),
        (b".".join((head, payload[:-2] + b"AA", signature)), MEDIA_TYPE),
        (b".".join((head, payload, b"")), MEDIA_TYPE),
        (good + b"." + signature, MEDIA_TYPE),
        (good[:-4], MEDIA_TYPE),
        (b"", MEDIA_TYPE),
    ):
        say(issuer, body, content_type=media_type)
        assert world.ask("token") == 503
        world.clock.advance(4)
    say(issuer, good, content_type=MEDIA_TYPE)
    assert world.ask("token") == 200


@pytest.mark.parametrize("mode", ["local", "both", "introspect"])
def test_a_signed_answer_is_no_bearer_token_int_11(make: Make, issuer: Issuer, mode: str) -> None:
    """INT-11: presented as a token it is refused, whatever is inside."""
    world = make(introspection_signed=True, jwt_validation=mode)
    assert world.ask(issuer.jwt()) == 200
    full = {"exp": int(world.clock()) + 60, "sub": "mallory", "aud": ["api", "resource-server"]}
    assert world.ask(signed(issuer, world.clock, **full).decode()) == 401


def test_keys_that_are_down_make_signed_answers_unreadable(make: Make, issuer: Issuer) -> None:
    """503 again, of the keys."""
    world = make(introspection_signed=True)
    issuer.fail("jwks", status=500)
    assert world.ask(issuer.opaque()) == 503


# -- JWTs ----------------------------------------------------------------------------------


def test_local_jwts_ask_nobody(world: Any, issuer: Issuer) -> None:
    """Also when they are bad: a JWT that fails here is never retried through introspection."""
    from secrets import token_hex

    bad = [
        issuer.jwt(exp=1),
        issuer.jwt(aud="other"),
        issuer.jwt(iss="https://other.test"),
        issuer.jwt(headers={"typ": "logout+jwt"}),
        issuer.jwt(headers={"kid": token_hex(4)}),
        issuer.jwt()[:-8] + "AAAAAAAA",
        issuer.jwt(headers={"alg": "none"}),
        issuer.jwt(cnf={"jkt": "x"}),
    ]
    assert world.ask(issuer.jwt()) == 200
    assert [world.ask(token).status for token in bad] == [401] * len(bad)
    assert issuer.requests["introspection"] == 0


def test_introspected_jwts(make: Make, issuer: Issuer) -> None:
    """``introspect``: the signature is not looked at, the answer is the identity."""
    world = make(jwt_validation="introspect")
    token = issuer.jwt(sub="alice")
    assert world.ask(token).identity.kind == "jwt"
    assert issuer.requests == {"metadata": 1, "introspection": 1}
    issuer.revoke(token)
    world.clock.advance(31)
    assert world.ask(token) == 401
    assert world.ask(issuer.jwt(iss="https://other.test")).reason is Reason.UNKNOWN_ISSUER
    assert issuer.requests == {"metadata": 1, "introspection": 2}
    say(issuer, {**GOOD, "sub": "bob"})
    assert world.ask(issuer.jwt(sub="alice")).identity.subject == "bob"


def test_a_flood_of_kids_does_not_bind_what_is_introspected(make: Make, issuer: Issuer) -> None:
    """Our keys are for signed answers there: which key signed a token is the server's business."""
    world = make(jwt_validation="introspect", introspection_signed=True)
    assert world.ask(issuer.jwt()) == 200
    for number in range(10):
        assert world.ask(issuer.jwt(headers={"kid": f"junk-{number}"})) == 401
    say(issuer, signed(issuer, world.clock), content_type=MEDIA_TYPE)
    assert world.ask(issuer.jwt(headers={"kid": "another"})) == 200


def test_jwts_where_nothing_but_introspection_is_configured(
    opaque_only: Make, issuer: Issuer
) -> None:
    """Every token is asked about."""
    world = opaque_only()
    assert world.ask(issuer.jwt()) == 200
    assert world.ask(issuer.opaque()) == 200
    assert issuer.requests == {"introspection": 2}


def test_both(make: Make, issuer: Issuer) -> None:
    """The JWT's claims are the identity; the answer through the cache can only refuse it."""
    world = make(jwt_validation="both")
    token = issuer.jwt(sub="alice", scope="read")
    say(issuer, {**GOOD, "scope": "admin", "extra": 1})
    for _ in range(5):
        identity = world.ask(token).identity
        assert (identity.subject, identity.scopes) == ("alice", {"read"})
        assert "extra" not in identity.claims
    assert issuer.requests["introspection"] == 1
    issuer.recover()
    revoked = issuer.jwt()
    issuer.revoke(revoked)
    assert world.ask(revoked).reason is Reason.INACTIVE


@pytest.mark.parametrize(("sub", "status"), [("bob", 401), ("alice", 200), (None, 200)])
def test_both_with_another_subject(
    make: Make, issuer: Issuer, sub: str | None, status: int
) -> None:
    """A different ``sub`` is refused; a server that names none is believed."""
    world = make(jwt_validation="both")
    say(issuer, {**GOOD, "sub": sub})
    outcome = world.ask(issuer.jwt(sub="alice"))
    assert outcome == status
    assert status == 200 or outcome.reason is Reason.SUBJECT_MISMATCH


def test_both_looks_first_and_asks_later(make: Make, issuer: Issuer) -> None:
    """What fails locally is not sent; while the server is down, 503."""
    world = make(jwt_validation="both")
    assert world.ask(issuer.jwt(exp=1)) == 401
    assert world.ask(issuer.jwt()[:-8] + "AAAAAAAA") == 401
    assert issuer.requests["introspection"] == 0
    issuer.fail("introspection", status=500)
    assert world.ask(issuer.jwt()) == 503


def test_both_ends_with_the_earlier_exp(make: Make, issuer: Issuer) -> None:
    """Of the token and of the answer."""
    world = make(jwt_validation="both", introspection_ttl=300, jwt_cache_ttl=300)
    say(issuer, {**GOOD, "exp": world.clock() + 10})
    token = issuer.jwt()
    assert world.ask(token) == 200
    world.clock.advance(11)
    world.ask(token)
    assert issuer.requests["introspection"] == 2


def test_both_and_a_removed_key(make: Make, issuer: Issuer) -> None:
    """The remembered answer does not keep a token whose key is gone."""
    world = make(jwt_validation="both")
    token = issuer.jwt()
    assert world.ask(token) == 200
    issuer.rotate()
    assert world.ask(issuer.jwt()) == 200
    assert world.ask(token) == 401


# -- several issuers -----------------------------------------------------------------------


class Several:
    """Two issuers in a TOML file, and the network between them."""

    def __init__(self, build: Any, tmp_path: Path) -> None:
        self.a = Issuer("https://a.test", audience="orders", client_id="rs-a")
        self.b = Issuer("https://b.test", audience="billing", client_id="rs-b", algorithm="ES256")
        file = tmp_path / "bearer.toml"
        file.write_text(f"""
[[issuers]]
issuer = "https://a.test"
audience = ["orders"]
algorithms = ["RS256"]
client_id = "rs-a"
client_secret = "{self.a.client_secret}"
token_prefix = "a_"

[[issuers]]
issuer = "https://b.test"
audience = ["billing"]
algorithms = ["ES256"]
client_id = "rs-b"
client_secret = "{self.b.client_secret}"
""")
        several = self

        class TwoHosts(build):  # type: ignore[misc]
            def transport(self) -> Any:
                return _Network({"a.test": several.a, "b.test": several.b})

        self.world = TwoHosts(self.a, self.b, config_file=str(file))


class _Network:
    """An httpx transport that finds the issuer by its host."""

    def __init__(self, issuers: dict[str, Issuer]) -> None:
        self._by_host = {host: issuer.transport() for host, issuer in issuers.items()}

    def handle_request(self, request: Any) -> Any:
        return self._by_host[request.url.host].handle_request(request)

    def close(self) -> None:
        """Nothing is open."""

    def __enter__(self) -> Any:
        return self

    def __exit__(self, *_: object) -> None:
        """Nothing is open."""


@pytest.fixture
def several(build: Any, tmp_path: Path) -> Several:
    """Issuers a and b, each with its own keys, audience, algorithm and credentials."""
    return Several(build, tmp_path)


def test_each_issuer_has_its_own(several: Several) -> None:
    """Tokens of both are good, each by its own rules."""
    a, b, world = several.a, several.b, several.world
    assert world.ask(a.jwt()).identity.issuer == a.url
    assert world.ask(b.jwt()).identity.issuer == b.url
    assert world.ask(a.jwt(aud="billing")) == 401
    assert world.ask(b.jwt(aud="orders")) == 401
    assert world.ask(b.jwt(algorithm="RS256")).reason is Reason.UNSUPPORTED_ALG
    assert world.ask(Issuer("https://c.test", audience="orders").jwt()) == 401


def test_a_token_of_one_signed_by_the_other(several: Several) -> None:
    """With the same kid and algorithm: still another issuer's key."""
    a, b, world = several.a, several.b, several.world
    a.rotate(kid="shared")
    b._mint._ring._algorithm = "RS256"
    b.rotate(kid="shared")
    assert world.ask(a.jwt()) == 200
    assert world.ask(b.jwt(iss=a.url, aud="orders")).reason is Reason.BAD_SIGNATURE
    assert b.requests["jwks"] == 0


def test_opaque_tokens_go_by_prefix(several: Several) -> None:
    """Each is sent to one issuer, with our credentials there."""
    a, b, world = several.a, several.b, several.world
    assert world.ask(a.opaque(token="a_token")).identity.issuer == a.url
    assert (a.requests["introspection"], b.requests["introspection"]) == (1, 0)
    assert world.ask(b.opaque(token="other")).identity.issuer == b.url
    assert (a.requests["introspection"], b.requests["introspection"]) == (1, 1)
    assert world.ask(b.opaque(token="a_of_b")) == 401
    assert b.requests["introspection"] == 1


def test_an_outage_of_one_is_none_of_the_other(several: Several) -> None:
    """Keys and failures are each issuer's own."""
    a, b, world = several.a, several.b, several.world
    a.fail("all", status=500)
    assert world.ask(a.jwt()) == 503
    assert world.ask(b.jwt()) == 200
    assert world.ask(b.opaque(token="b_1")) == 200


def test_a_breaker_is_of_one_issuer(several: Several) -> None:
    """Fifty failures of one, and the other is asked as ever."""
    a, b, world = several.a, several.b, several.world
    a.fail("introspection", status=500)
    for number in range(50):
        assert world.ask(f"a_{number}") == 503
        assert world.ask(b.opaque(token=f"b_{number}")) == 200  # any other might begin with a_
    servers = world.server.trusted.servers
    states = {server.issuer: server.introspection.upstream.state for server in servers}
    assert states == {a.url: "open", b.url: "closed"}
    assert a.requests["introspection"] == 5


def test_an_answer_of_one_that_names_the_other(several: Several) -> None:
    """An answer speaks for the server that gave it (INT-8)."""
    a, b, world = several.a, several.b, several.world
    assert world.ask(a.opaque(token="a_x", iss=b.url)).reason is Reason.UNKNOWN_ISSUER


# -- time ----------------------------------------------------------------------------------


@pytest.mark.parametrize("world_kind", ["sync", "asyncio"])
@pytest.mark.parametrize(
    ("token", "settings", "faults"),
    [
        ("jwt", {}, ("metadata", "jwks")),
        ("opaque", {}, ("metadata", "introspection")),
        ("opaque", {"introspection_signed": True}, ("metadata", "introspection", "jwks")),
        ("jwt", {"jwt_validation": "both"}, ("metadata", "jwks", "introspection")),
    ],
)
def test_the_time_of_all_exchanges_is_bounded_together(
    world_kind: str, token: str, settings: dict[str, Any], faults: tuple[str, ...]
) -> None:
    """Each endpoint takes most of the time: together they may not take it several times."""
    import asyncio

    with Issuer().serve() as issuer:
        server = ResourceServer(Settings(**issuer.settings(http_timeout=1.0, **settings)))
        for endpoint in faults:
            issuer.fail(endpoint, delay=0.7)
        value = [b"Bearer " + getattr(issuer, token)().encode()]

        async def ask() -> None:
            try:
                await arun(server.authenticate(value), server.transport)
            finally:
                await server.transport.aclose()

        def ask_blocking() -> None:
            run(server.authenticate(value), server.transport)

        began = time.monotonic()
        with pytest.raises(Refused) as refused:
            ask_blocking() if world_kind == "sync" else asyncio.run(ask())
        assert time.monotonic() - began < 3.0
        assert refused.value.status == 503
        server.transport.close()
    _quiet()


@pytest.mark.parametrize("fault", [{"drip": 0.1}, {"drip": 0.1, "drip_headers": True}])
@pytest.mark.parametrize("endpoint", ["metadata", "jwks", "introspection"])
def test_a_dripping_endpoint_is_503(endpoint: str, fault: dict[str, Any]) -> None:
    """At every endpoint, over a real socket."""
    with Issuer().serve() as issuer:
        server = ResourceServer(Settings(**issuer.settings(http_timeout=0.5)))
        issuer.fail(endpoint, **fault)
        token = issuer.opaque() if endpoint == "introspection" else issuer.jwt()
        with pytest.raises(Refused) as refused:
            run(server.authenticate([b"Bearer " + token.encode()]), server.transport)
        assert refused.value.status == 503
        server.transport.close()
    _quiet()


def _quiet() -> None:
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        names = {thread.name for thread in threading.enumerate()}
        if names.isdisjoint({"bearer_middleware", "bearer_middleware exchange"}):
            return
        time.sleep(0.01)
    raise AssertionError("an exchange never ended")
