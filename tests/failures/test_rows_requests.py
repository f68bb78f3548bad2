"""Section 4 of the promises, rows about what callers send, and what is told of it."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import logging
import traceback
from types import SimpleNamespace
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.utils import (
    decode_dss_signature,
    encode_dss_signature,
)

from bearer_middleware.errors import Refused
from bearer_middleware.flow.drivers import run
from bearer_middleware.memory import remembered
from bearer_middleware.testing import Issuer
from tests.contract.wire import bearer


def b64(data: bytes) -> str:
    """As JWS writes it."""
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def unb64(text: str) -> bytes:
    """The reverse."""
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))


def asked_nobody(stage: Any) -> bool:
    """Was no endpoint of the issuer asked?"""
    return sum(stage.issuer.requests.values()) == 0


# -- oversize token, two headers, odd bytes ------------------------------------------------


@pytest.mark.parametrize("length", [8_193, 70_000, 1_000_000])
def test_oversize_token(stage: Any, length: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """400, before anything is hashed, parsed or asked."""
    hashes = []

    class Blank:
        def __init__(self, data: bytes = b"") -> None:
            self.update(data)

        def copy(self) -> Blank:
            return self

        def update(self, data: bytes) -> None:
            hashes.append(len(data))

        def digest(self) -> bytes:
            return bytes(32)

    monkeypatch.setattr(remembered, "hashlib", SimpleNamespace(sha256=Blank))
    monkeypatch.setattr("bearer_middleware.resource_server._sha256", Blank)
    stage.serve()
    hashes.clear()
    assert stage.ask("a" * length) == 400
    assert stage.ask(stage.jwt(pad="x" * length)) == 400
    assert asked_nobody(stage)
    assert hashes == []
    stage.ask("a")
    assert hashes == [len("Bearer a")] * 2  # the short way, and the whole one


def test_two_authorization_headers(stage: Any) -> None:
    """400 as two headers and as one that a server joined; good tokens do not help."""
    token = stage.jwt()
    assert stage.request(bearer(token) * 2).status == 400
    assert stage.ask(f"{token},Bearer {token}") == 400
    assert stage.ask(f"{token}, Bearer {token}") == 400
    assert asked_nobody(stage)


ODD = {
    "a tab": "Bearer\t{}",
    "a tab behind the space": "Bearer \t{}",
    "a trailing space within": "Bearer {} x",
    "NUL": "Bearer {}\0",
    "ESC": "Bearer \x1b{}",
    "CR LF": "Bearer {}\r\nX-Evil: 1",
    "obs-fold": "Bearer\r\n {}",
    "latin-1": "Bearer {}\xe9",
    "a no-break space": "Bearer\xa0{}",
    "no scheme": "{}",
    "a scheme too long": "Bearerx {}",
}


@pytest.mark.parametrize("odd", ODD.values(), ids=ODD)
def test_odd_bytes(stage: Any, odd: str) -> None:
    """Refused, whatever is inside; nobody is asked and nothing breaks."""
    reply = stage.request([("Authorization", odd.format(stage.jwt()))])
    assert reply.status in (400, 401)
    assert asked_nobody(stage)


def test_a_scheme_has_no_case_and_spaces_may_be_many(stage: Any) -> None:
    """The two liberties of the grammar."""
    token = stage.jwt()
    for text in ("bearer {}", "BEARER {}", "Bearer  {}"):
        assert stage.request([("Authorization", text.format(token))]).status == 200


def test_token_in_query_body_cookie(stage: Any) -> None:
    """Is no token: 401 without an error."""
    token = stage.jwt()
    places: list[dict[str, Any]] = [
        {"path": f"/?access_token={token}"},
        {"headers": [("Cookie", f"access_token={token}; Authorization=Bearer {token}")]},
        {"headers": [("X-Access-Token", token), ("Proxy-Authorization", f"Bearer {token}")]},
    ]
    replies = [stage.request(**place) for place in places]
    for reply in [*replies, stage.form(f"access_token={token}".encode())]:
        assert (reply.status, reply.challenge) == (401, 'Bearer realm="api"')
    assert asked_nobody(stage)


# -- kid injection, algorithms, signatures -------------------------------------------------


@pytest.mark.parametrize(
    "kid",
    [
        "../../../../etc/passwd",
        "file:///dev/null",
        "' OR 1=1 --",
        "a\nCRITICAL forged line",
        "\u202e\u0000",
        "x" * 257,
        "x" * 5_000,
        "",
        1,
        None,
        ["a"],
        {"a": 1},
    ],
    ids=lambda kid: repr(kid)[:20],
)
def test_kid_injection(stage: Any, kid: Any, caplog: pytest.LogCaptureFixture) -> None:
    """A name of a key and no more: 401, no file, no address, no line in a log."""
    caplog.set_level(logging.DEBUG)
    assert stage.ask(stage.jwt()) == 200
    forged = Issuer(stage.issuer.url).jwt(headers={"kid": kid})
    assert stage.ask(forged) == 401
    assert "forged" not in caplog.text
    assert "passwd" not in caplog.text
    assert stage.asked("jwks") <= 2


@pytest.mark.parametrize("alg", ["none", "None", "NONE", "nOnE", "", "HS256", "HS512", "RS1", 1])
def test_alg_confusion(stage: Any, alg: Any) -> None:
    """``none`` in every spelling, and a public key as a secret: 401."""
    assert stage.ask(stage.jwt()) == 200
    head = b64(json.dumps({"alg": alg, "typ": "at+jwt", "kid": stage.issuer.kid}).encode())
    body = stage.jwt().split(".")[1]
    signed = f"{head}.{body}".encode()
    key = json.dumps(stage.issuer.jwks["keys"][0]).encode()
    for secret in (b"", key, stage.issuer.jwks["keys"][0]["n"].encode()):
        signature = b64(hmac.digest(secret or b"\0", signed, hashlib.sha256))
        assert stage.ask(f"{head}.{body}.{signature}") == 401
    assert stage.ask(f"{head}.{body}.") == 401


def test_psychic_signatures(stage: Any) -> None:
    """CVE-2022-21449: zeros verify nothing, of any length."""
    ec = Issuer(stage.issuer.url, algorithm="ES256")
    stage.issuer.fail("jwks", body=json.dumps(ec.jwks).encode())
    good = ec.jwt(iat=int(stage.clock()), exp=int(stage.clock()) + 600)
    assert stage.ask(good) == 200
    head, body, _ = good.split(".")
    for signature in (b"", b"\0" * 64, b"\0" * 32, b"\0" * 63 + b"\1", b"\xff" * 64):
        assert stage.ask(f"{head}.{body}.{b64(signature)}") == 401


def test_malleable_signature(stage: Any) -> None:
    """Spelt otherwise it is the same token: the same identity, and revoked with it."""
    ec = Issuer(stage.issuer.url, algorithm="ES256")
    stage.issuer.fail("jwks", body=json.dumps(ec.jwks).encode())
    token = ec.jwt(iat=int(stage.clock()), exp=int(stage.clock()) + 600)
    head, body, signature = token.split(".")
    raw = unb64(signature)
    r, s = int.from_bytes(raw[:32]), int.from_bytes(raw[32:])
    order = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551
    assert decode_dss_signature(encode_dss_signature(r, s)) == (r, s)
    other = f"{head}.{body}.{b64(r.to_bytes(32) + (order - s).to_bytes(32))}"
    assert stage.ask(token) == stage.ask(other) == 200
    assert stage.ask(token + "=") == stage.ask(token + "==") == 401
    stage.server.revoke(token=token)
    assert stage.ask(token) == stage.ask(other) == 401


# -- what is told --------------------------------------------------------------------------

CANARY = "canary-Zx9"


def test_log_injection_and_token_leakage(stage: Any, caplog: pytest.LogCaptureFixture) -> None:
    """Reasons alone: nothing that a token, a claim or an answer said is in a log or an answer."""
    caplog.set_level(logging.DEBUG)
    line = f"{CANARY}\r\nCRITICAL bearer_middleware forged"
    tokens = [
        stage.jwt(sub=line, aud="other"),
        stage.jwt(iss=line),
        stage.jwt(exp=line),
        stage.jwt(headers={"crit": [line], "kid": line}),
        stage.jwt(headers={"typ": line}),
        stage.opaque(token=f"{CANARY}-opaque", aud=line),
        f"{CANARY}-unknown",
        f"{CANARY}.{CANARY}.{CANARY}",
    ]
    answers = [stage.request(bearer(token)) for token in tokens]
    stage.issuer.fail("introspection", status=400, body=line.encode())
    answers.append(stage.request(bearer(f"{CANARY}-in-an-outage")))
    stage.issuer.fail("introspection", status=401, body=json.dumps({"error": line}).encode())
    answers.append(stage.request(bearer(f"{CANARY}-refused")))
    assert [answer.status for answer in answers] == [401] * 8 + [503] * 2
    assert CANARY not in caplog.text + repr(answers)
    assert "forged" not in caplog.text


def test_tracebacks_hold_no_token(stage: Any) -> None:
    """Not even with the locals of every frame of ours."""
    stage.issuer.fail("introspection", status=500)
    for token in (f"{CANARY}-opaque", stage.jwt(jti=CANARY, aud="other")):
        flow = stage.server.authenticate([b"Bearer " + token.encode()])
        value = token
        del token
        try:
            run(flow, stage.server.transport)
        except Refused as refusal:
            told = traceback.TracebackException.from_exception(refusal, capture_locals=True)
            ours = [frame for frame in told.stack if "/bearer_middleware/" in frame.filename]
            shown = " ".join(str(frame.locals) for frame in ours)
            assert value not in shown
            assert value.rpartition(".")[2] not in shown
        else:
            raise AssertionError("it was let in")


def test_identity_object(stage: Any) -> None:
    """Its representation shows no person; it is what it is."""
    token = stage.jwt(sub=CANARY)
    flow = stage.server.authenticate([b"Bearer " + token.encode()])
    identity = run(flow, stage.server.transport)
    assert identity is not None
    assert identity.subject == CANARY
    assert CANARY not in repr(identity)
    with pytest.raises(AttributeError):
        identity.subject = "admin"  # type: ignore[misc]
