"""Section 4 of the promises, rows about introspection: what fails, and what callers meet."""

from __future__ import annotations

import json
import logging
from email.utils import formatdate
from typing import Any

import pytest

from bearer_middleware.testing import Issuer
from tests.proxy import TOXICS

each_toxic = pytest.mark.parametrize("toxic", TOXICS)


def warm(stage: Any, **settings: Any) -> tuple[str, str]:
    """A JWT and an opaque token that were seen to be good."""
    stage.serve(**settings)
    known = stage.jwt(), stage.opaque()
    assert [stage.ask(token) for token in known] == [200, 200]
    return known


# -- introspection slow, down, reset -------------------------------------------------------


@each_toxic
def test_introspection_slow_or_reset(stage: Any, toxic: str) -> None:
    """503 for what has to be asked about; what is known, and every JWT, does not feel it."""
    known = warm(stage)
    TOXICS[toxic](stage.proxy)
    token = stage.opaque()
    assert stage.ask(token) == 503
    assert stage.together([*known, stage.jwt()]) == [200] * 3
    stage.mend()
    assert stage.ask(token) == 200


@pytest.mark.alone
def test_introspection_slow_bulkhead(stage: Any) -> None:
    """Twenty wait for it, and the others are told at once: nothing else is kept waiting."""
    known = warm(stage)
    stage.issuer.fail("introspection", delay=30)
    asked = stage.asked()
    tokens = [stage.opaque() for _ in range(60)]
    statuses = stage.together([*tokens, *known, stage.jwt()])
    assert statuses == [503] * 60 + [200] * 3
    # Five time-outs open the breaker: who was late to come may have got a place of the first four.
    assert stage.asked() - asked <= 20 + 4
    stage.mend()
    assert stage.ask(tokens[0]) == 200  # one probe at first
    assert stage.together(tokens[:30]) == [200] * 30


@pytest.mark.parametrize(
    "fault", [{"drip": 0.1}, {"drip": 0.1, "drip_headers": True}, {"drop": True}], ids=str
)
def test_introspection_drip(stage: Any, fault: dict[str, Any]) -> None:
    """The time of the request ends it."""
    warm(stage)
    stage.issuer.fail("introspection", **fault)
    token = stage.opaque()
    assert stage.ask(token) == 503
    stage.mend()
    assert stage.ask(token) == 200


# -- 500, 502, 503, 504 --------------------------------------------------------------------


@pytest.mark.parametrize("status", [204, 301, 304, 400, 404, 429, 500, 502, 503, 504])
@pytest.mark.parametrize("stale", [0, 30])
def test_introspection_500(stage: Any, status: int, stale: int) -> None:
    """503; an old answer serves in its place only where that was asked for, in its window."""
    _, opaque = warm(stage, stale_if_error=stale)
    stage.issuer.fail("introspection", status=status)
    stage.clock.advance(31)
    assert stage.ask(opaque) == (200 if stale else 503)
    stage.clock.advance(stale)
    assert stage.ask(opaque) == 503
    stage.mend()
    assert stage.ask(opaque) == 200


# -- 429 and Retry-After -------------------------------------------------------------------

#: What the server says, with the time it says it; and what our callers are told.
PATIENCE = {
    "seconds": ("17", 17),
    "zero": ("0", 1),
    "negative": ("-5", 1),
    "a fraction": ("2.5", 3),
    "10^20": ("100000000000000000000", 60),
    "four thousand digits": ("9" * 4000, 60),
    "spaces": ("  9  ", 9),
    "garbage": ("soon", 5),
    "two values": ("5, 10", 5),
    "a negative exponent": ("1e3", 5),
    "arabic digits": ("\u0661\u0662".encode().decode("latin-1"), 5),
    "an HTTP date": (lambda now: formatdate(now + 40, usegmt=True), 40),
    "a date of the past": (lambda now: formatdate(now - 4000, usegmt=True), 1),
    "a date far away": (lambda now: "Fri, 31 Dec 9999 23:59:59 GMT", 60),
    "a date in an old form": (lambda now: "Sunday, 06-Nov-94 08:49:37 GMT", 1),
    "a date that is none": (lambda now: "Fri, 99 Foo 2026 25:61:61 GMT", 5),
}


@pytest.mark.parametrize("status", [429, 503])
@pytest.mark.parametrize("said", PATIENCE.values(), ids=PATIENCE)
def test_429_retry_after(stage: Any, said: Any, status: int) -> None:
    """Honoured between one second and sixty; nobody is sent before; then all is well again."""
    retry_after, seconds = said
    warm(stage)
    if callable(retry_after):
        retry_after = retry_after(stage.clock())
    date = formatdate(stage.clock(), usegmt=True)
    headers = {"retry-after": retry_after, "date": date}
    stage.issuer.fail("introspection", status=status, headers=headers)
    asked, token = stage.asked(), stage.opaque()
    for _ in range(3):
        reply = stage.request([("Authorization", f"Bearer {stage.opaque()}")])
        assert (reply.status, reply.header("retry-after")) == (503, str(seconds))
    assert stage.asked() == asked + 1
    stage.issuer.recover()
    stage.clock.advance(seconds + 0.1)
    assert stage.ask(token) == 200


# -- 401 and 403 for our credentials -------------------------------------------------------


@pytest.mark.parametrize("status", [401, 403])
def test_our_credentials_are_refused(
    stage: Any, status: int, caplog: pytest.LogCaptureFixture
) -> None:
    """503 and never the caller's 401; an ERROR, and not ready: that does not pass by itself."""
    jwt, _ = warm(stage)
    stage.issuer.fail("introspection", status=status)
    caplog.set_level(logging.DEBUG)
    assert [stage.ask(stage.opaque()) for _ in range(3)] == [503] * 3
    assert [record.levelname for record in caplog.records].count("ERROR") >= 1
    assert not stage.server.health().ready
    assert stage.ask(jwt) == 200
    stage.mend()
    assert stage.ask(stage.opaque()) == 200
    assert stage.server.health().ready


def test_client_secret_rotated(stage: Any, tmp_path: Any) -> None:
    """The file is looked at again when the old one is refused: nobody feels it, nothing is lost."""
    file = tmp_path / "secret"
    file.write_text("old\n")
    clients = stage.issuer._clients  # the registration of a client is no part of a testing.Issuer
    right, clients.client_secret = clients.client_secret, "old"
    _, opaque = warm(stage, client_secret=None, client_secret_file=str(file))
    clients.client_secret = right
    assert stage.ask(stage.opaque()) == 503
    file.write_text(f"{right}\n")
    stage.clock.advance(1.5)
    assert stage.ask(stage.opaque()) == 200
    asked = stage.asked()
    assert stage.ask(opaque) == 200
    assert stage.asked() == asked


# -- malformed bodies ----------------------------------------------------------------------

GOOD = {"active": True, "sub": "alice", "aud": "api", "scope": "read"}


def text(**members: Any) -> bytes:
    """An answer that would be good, with these members."""
    return json.dumps(GOOD | members).encode()


NO_ANSWER = {
    "nothing": b"",
    "garbage": b"\x80\xff\x00 garbage",
    "half": text()[:-1],
    "html": b"<!DOCTYPE html><title>Sign in</title>",
    "a list": b"[" + text() + b"]",
    "a number": b"1",
    "null": b"null",
    "two documents": text() + text(),
    # active is true or false, and nothing else is an answer
    "active is the word true": text(active="true"),
    "active is the word false": text(active="false"),
    "active is one": text(active=1),
    "active is zero": text(active=0),
    "active is null": text(active=None),
    "active is a list": text(active=[]),
    "active is an object": text(active={"active": True}),
    "active is missing": b'{"sub": "alice", "aud": "api"}',
    "Active": b'{"Active": true, "sub": "alice", "aud": "api"}',
    # what parsers disagree about
    "active stands twice": b'{"active": false, "sub": "alice", "aud": "api", "active": true}',
    "sub stands twice": b'{"active": true, "sub": "bob", "aud": "api", "sub": "alice"}',
    "NaN": b'{"active": true, "sub": "alice", "aud": "api", "exp": NaN}',
    "Infinity": b'{"active": true, "sub": "alice", "aud": "api", "exp": Infinity}',
    "a byte order mark": b"\xef\xbb\xbf" + text(),
    "utf-16": text().decode().encode("utf-16"),
    "a lone surrogate": text(sub="\ud800"),
    "latin-1": b'{"active": true, "sub": "\xe9", "aud": "api"}',
    # what is too much
    "deep JSON": b'{"active": true, "x": ' + b"[" * 30_000 + b"]" * 30_000 + b"}",
    "more than 64 KiB": text(pad="x" * 70_000),
}


@pytest.mark.parametrize("body", NO_ANSWER.values(), ids=NO_ANSWER)
def test_malformed_body(stage: Any, body: bytes) -> None:
    """503, no verdict, and nothing of it is remembered."""
    warm(stage)
    token = stage.opaque()
    stage.issuer.fail("introspection", body=body)
    assert stage.ask(token) == 503
    stage.issuer.recover()
    stage.clock.advance(1)
    assert stage.ask(token) == 200


def test_a_gzip_bomb(stage: Any) -> None:
    """It is not unpacked."""
    import gzip

    warm(stage)
    token = stage.opaque()
    bomb = gzip.compress(b" " * 30_000_000)
    stage.issuer.fail("introspection", body=bomb, headers={"content-encoding": "gzip"})
    assert stage.ask(token) == 503
    stage.mend()
    assert stage.ask(token) == 200


# -- members of an answer ------------------------------------------------------------------

FOREVER = 4_000_000_000
MEMBERS: dict[str, tuple[dict[str, Any], int]] = {
    "exp is an integer": ({"exp": FOREVER}, 200),
    "exp is a float": ({"exp": FOREVER + 0.5}, 200),
    "exp is text": ({"exp": str(FOREVER)}, 401),
    "exp is negative": ({"exp": -1}, 401),
    "exp is huge": ({"exp": 10**30}, 200),
    "exp is true": ({"exp": True}, 401),
    "exp is a list": ({"exp": [FOREVER]}, 401),
    "scope is text": ({"scope": "read write"}, 200),
    "scope is a list": ({"scope": ["read", "write"]}, 200),
    "scope is a number": ({"scope": 1}, 401),
    "300 scopes": ({"scope": " ".join(f"read{n}" for n in range(300))}, 401),
    "9,000 bytes of scope": ({"scope": "x" * 9_000}, 401),
    "aud is text": ({"aud": "api"}, 200),
    "aud is a list": ({"aud": ["other", "api"]}, 200),
    "aud is another": ({"aud": "other"}, 401),
    "aud is a number": ({"aud": 1}, 401),
    "aud is missing": ({"aud": None}, 401),
}


@pytest.mark.parametrize("members", MEMBERS.values(), ids=MEMBERS)
def test_members_of_an_answer(stage: Any, members: Any) -> None:
    """Ints and floats are times, text is not; both forms of scope and aud are understood."""
    changed, status = members
    stage.serve()
    stage.issuer.fail("introspection", body=text(**changed))
    assert stage.ask("opaque") == status


@pytest.mark.parametrize("members", MEMBERS.values(), ids=MEMBERS)
def test_members_of_a_token(stage: Any, members: Any) -> None:
    """The same in a JWT, where what cannot be read is a bad token."""
    changed, status = members
    stage.serve(max_token_length=16_384)
    assert stage.ask(stage.jwt(**changed)) == status


def test_what_is_no_json_in_a_token(stage: Any) -> None:
    """Like a token of the issuer, but not by the rules of JSON: 401."""
    import base64

    stage.serve()
    assert stage.ask(stage.jwt()) == 200
    assert stage.ask(stage.jwt(sub="\ud800")) == 401
    head, _, signature = stage.jwt().split(".")
    for body in (b"", b"[]", b'{"iss": NaN}', b'{"sub": "a", "sub": "b"}', b"\xef\xbb\xbf{}"):
        middle = base64.urlsafe_b64encode(body).rstrip(b"=").decode()
        assert stage.ask(f"{head}.{middle}.{signature}") == 401


# -- clock skew and jumps ------------------------------------------------------------------


def test_clock_skew(stage: Any) -> None:
    """Thirty seconds either way, for both kinds of token."""
    stage.serve()
    now = int(stage.clock())
    for seconds, status in ((-29, 200), (-31, 401)):
        assert stage.ask(stage.jwt(exp=now + seconds, iat=now - 100)) == status
        assert stage.ask(stage.jwt(nbf=now - seconds)) == status
        assert stage.ask(stage.jwt(iat=now - seconds)) == status
        assert stage.ask(stage.opaque(nbf=now - seconds)) == status


@pytest.mark.parametrize("kind", ["jwt", "opaque"])
def test_clock_jump(stage: Any, kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Forward: what has ended by the wall is over at once. Backward: nothing lives longer for it,
    and what steady time has ended is not revived.
    """
    from bearer_middleware.flow.clock import Clock

    wall, steady = [stage.clock()], [1000.0]
    made = Clock(lambda: wall[0], lambda: steady[0])
    monkeypatch.setattr("bearer_middleware.resource_server.Clock", lambda *_: made)
    server = stage.serve()
    token = getattr(stage, kind)(exp=int(wall[0]) + 600)
    assert stage.ask(token) == 200
    wall[0] += 700
    assert stage.ask(token) == 401
    wall[0] -= 700
    stage.issuer.revoke(token)
    steady[0] += 61
    wall[0] -= 100_000
    if kind == "jwt":  # only we can revoke that
        server.revoke(token=token)
    assert stage.ask(token) == 401


def test_an_unknown_issuer_asks_nobody(stage: Any) -> None:
    """A JWT of somebody else is refused without any exchange."""
    stage.serve()
    assert stage.ask(Issuer().jwt()) == 401
    assert sum(stage.issuer.requests.values()) == 0
