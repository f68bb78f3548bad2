"""Every reason is given by some request, and none reaches the caller."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable
from typing import Any

import pytest

from bearer_middleware import Identity, ResourceServer, Settings
from bearer_middleware.audit.record import Record, RequestFacts
from bearer_middleware.errors import RateLimited, Reason, Refused, Unavailable
from bearer_middleware.flow.drivers import run
from bearer_middleware.flow.effects import Flow
from bearer_middleware.policy.model import Decision, Effect, Obligation
from bearer_middleware.testing import Issuer
from bearer_middleware.web.challenge import Challenges

#: What is shown, in which settings, after what was done to the issuer.
Shown = Callable[[Issuer], "str | bytes | list[bytes]"]


def _raising(identity: Identity) -> Identity:
    raise LookupError("the mapper's own trouble")


class FullBook:
    """A record of every decision that has to be kept, and is full."""

    def record(self, record: Record) -> Flow[None]:
        yield from ()
        raise Unavailable(Reason.AUDIT_UNAVAILABLE, "full")


def _out_of_range(issuer: Issuer) -> str:
    return issuer.jwt(status=issuer.status_list(size=8).claim(8))


def bearer(shown: str | bytes | list[bytes]) -> list[bytes]:
    """Authorization headers of a token, or those that were given."""
    if isinstance(shown, list):
        return shown
    return [b"Bearer " + (shown.encode() if isinstance(shown, str) else shown)]


def case(show: Shown, fail: dict[str, Any] | None = None, **settings: Any) -> tuple[Any, ...]:
    """One line of the table."""
    return show, fail, settings


SILENT = {"revocation_url": "/there/is/no/such/feed", "http_timeout": 0.05}

CASES: dict[Reason, tuple[Any, ...]] = {
    Reason.MISSING: case(lambda issuer: []),
    Reason.MALFORMED_HEADER: case(lambda issuer: [b"Bearer a b"]),
    Reason.MULTIPLE_CREDENTIALS: case(lambda issuer: [b"Bearer a", b"Bearer a"]),
    Reason.TOO_LONG: case(lambda issuer: "a" * 9000),
    Reason.MALFORMED_TOKEN: case(lambda issuer: issuer.jwt() + "="),
    Reason.ENCRYPTED_TOKEN: case(lambda issuer: "eyJhbGciOiJkaXIiLCJlbmMiOiJBMjU2R0NNIn0.a.b.c.d"),
    Reason.UNSUPPORTED_TOKEN: case(lambda issuer: "opaque", client_id=None, client_secret=None),
    Reason.UNSUPPORTED_HEADER: case(lambda issuer: issuer.jwt(headers={"crit": ["b64"]})),
    Reason.UNSUPPORTED_ALG: case(lambda issuer: issuer.jwt(), algorithms="ES256"),
    Reason.UNKNOWN_ISSUER: case(lambda issuer: issuer.jwt(iss="https://other.example")),
    Reason.UNKNOWN_KID: case(lambda issuer: issuer.jwt(headers={"kid": "nobody's"})),
    Reason.BAD_SIGNATURE: case(lambda issuer: issuer.jwt().rpartition(".")[0] + "." + "A" * 342),
    Reason.EXPIRED: case(lambda issuer: issuer.jwt(exp=1)),
    Reason.NOT_YET_VALID: case(lambda issuer: issuer.jwt(nbf=int(time.time()) + 999)),
    Reason.WRONG_AUDIENCE: case(lambda issuer: issuer.jwt(aud="others")),
    Reason.WRONG_TYPE: case(lambda issuer: issuer.jwt(headers={"typ": "logout+jwt"})),
    Reason.MISSING_CLAIM: case(lambda issuer: issuer.jwt(exp=None)),
    Reason.MALFORMED_CLAIM: case(lambda issuer: issuer.jwt(exp="tomorrow")),
    Reason.BOUND_TOKEN: case(lambda issuer: issuer.jwt(cnf={"jkt": "x"})),
    Reason.NOT_ACCESS_TOKEN: case(lambda issuer: issuer.jwt(nonce="n", at_hash="h")),
    Reason.INACTIVE: case(lambda issuer: "never-issued"),
    Reason.REVOKED: case(lambda issuer: issuer.jwt(), revoked=True),
    Reason.LIVES_TOO_LONG: case(
        lambda issuer: issuer.jwt(exp=int(time.time()) + 9000), revocation_keep="1h", **SILENT
    ),
    Reason.REVOCATION_STALE: case(lambda issuer: issuer.jwt(), on_stale_feed="refuse", **SILENT),
    Reason.UNSUPPORTED_STATUS: case(lambda issuer: issuer.jwt(status={"status_list": {}})),
    Reason.INVALID_STATUS: case(_out_of_range, status_lists="https://issuer.test"),
    Reason.SUBJECT_MISMATCH: case(
        lambda issuer: issuer.jwt(),
        {"endpoint": "introspection", "body": b'{"active": true, "sub": "mallory", "aud": "api"}'},
        jwt_validation="both",
    ),
    Reason.INSUFFICIENT_SCOPE: case(lambda issuer: issuer.jwt(), required_scopes="admin"),
    Reason.RATE_LIMITED: case(lambda issuer: "never-seen", flooded=True),
    Reason.METADATA_UNAVAILABLE: case(
        lambda issuer: issuer.opaque(), {"endpoint": "metadata", "status": 500}
    ),
    Reason.JWKS_UNAVAILABLE: case(lambda issuer: issuer.jwt(), {"endpoint": "jwks", "status": 500}),
    Reason.INTROSPECTION_UNAVAILABLE: case(
        lambda issuer: issuer.opaque(), {"endpoint": "introspection", "drop": True}
    ),
    Reason.STATUS_UNAVAILABLE: case(
        _out_of_range,
        {"endpoint": "status_list", "status": 404},
        status_lists="https://issuer.test",
    ),
    Reason.MISCONFIGURED: case(lambda issuer: issuer.opaque(), client_secret="not-ours"),
    Reason.EXTENSION_FAILED: case(lambda issuer: issuer.jwt(), claim_mapper=_raising),
    Reason.INSUFFICIENT_AUTHENTICATION: case(
        lambda issuer: issuer.jwt(), routes=[{"method": "GET", "path": "/", "acr": "loa3"}]
    ),
    Reason.FORBIDDEN: case(lambda issuer: issuer.jwt(), policy=lambda request: False),
    Reason.NO_ROUTE: case(lambda issuer: issuer.jwt(), routes=[]),
    Reason.UNKNOWN_OBLIGATION: case(
        lambda issuer: issuer.jwt(),
        policy=lambda request: Decision(effect=Effect.PERMIT, obligations=(Obligation("x"),)),
    ),
    Reason.POLICY_UNAVAILABLE: case(lambda issuer: issuer.jwt(), policy=lambda request: 1 / 0),
    Reason.AUDIT_UNAVAILABLE: case(
        lambda issuer: issuer.jwt(), policy=lambda request: True, audit=FullBook()
    ),
    Reason.INTERNAL: case(lambda issuer: issuer.jwt(), broken=True),
}


#: There RFC 6750 and 9470 have it.
SAME_WORD = {Reason.INSUFFICIENT_SCOPE, Reason.INSUFFICIENT_AUTHENTICATION}


def _admit(server: ResourceServer, identity: Identity | None) -> None:
    """What the middleware does with an identity: ask whether it may, where that is to be asked."""
    if server.authorizer is not None:
        facts = RequestFacts(method="GET", route="/")
        inquiry = server.authorizer.inquiry(identity, "GET", "/", lambda template: facts)
        run(server.authorizer.admit(inquiry), server.transport)


def test_every_reason_has_its_case() -> None:
    """The list is closed, and nothing in it is a dead letter."""
    assert set(CASES) == set(Reason)


@pytest.mark.parametrize("reason", CASES, ids=str)
def test_reason(reason: Reason, monkeypatch: pytest.MonkeyPatch) -> None:
    """The refusal, its record and its count say why; its answer does not."""
    show, fault, keywords = CASES[reason]
    issuer = Issuer()
    if fault is not None:
        issuer.fail(**fault)
    apart = {"broken", "claim_mapper", "revoked", "flooded", "policy", "audit"}
    now = time.time()
    settings = {name: value for name, value in keywords.items() if name not in apart}
    server = ResourceServer(
        Settings(**issuer.settings(**settings)),
        claim_mapper=keywords.get("claim_mapper"),
        policy=keywords.get("policy"),
        audit=keywords.get("audit"),
        transport=issuer.transport(),
        clock=(lambda: now) if "flooded" in keywords else None,
    )
    if "revoked" in keywords:
        server.revoke(subject="alice", before=time.time() + 60)
    with contextlib.suppress(RateLimited):
        while "flooded" in keywords:
            server.limits.take(None)
    if "broken" in keywords:
        monkeypatch.setattr(server.trusted, "parse", lambda token: 1 / 0)
    with pytest.raises(Refused) as refused:
        _admit(server, run(server.authenticate(bearer(show(issuer))), server.transport))
    server.close()
    assert refused.value.reason is reason
    assert server.events.counts[reason] >= 1
    answer = Challenges("api").answer(refused.value)
    if reason not in SAME_WORD:
        assert str(reason) not in f"{answer.headers}{answer.body!r}"
