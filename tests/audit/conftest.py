"""Records of every kind, and sinks that can be looked into."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import pytest

from bearer_middleware import Identity
from bearer_middleware.audit.record import Record, RequestFacts
from bearer_middleware.errors import InvalidToken, Reason
from bearer_middleware.policy.model import (
    AccessRequest,
    Action,
    Decision,
    Effect,
    Obligation,
    Resource,
    Subject,
)

MakeRecord = Callable[..., Record]

FACTS = RequestFacts(
    method="PUT",
    route="/todos/{id}",
    host="api.test",
    ip="203.0.113.7",
    user_agent="curl/8",
    request_id="r-1",
    trace_id="0af7651916cd43dd8448eb211c80319c",
    span_id="b7ad6b7169203331",
)
IDENTITY = Identity(
    subject="auth0|alice",
    issuer="https://as.test/",
    client_id="spa1",
    token_id="jti-1",
    claims={"acr": "loa2", "auth_time": 1_700_000_000, "tid": "acme", "email": "a@canary.test"},
)
REQUEST = AccessRequest(
    Subject("user", "auth0|alice"), Action("update"), Resource("todo", "42", {"owner": "canary"})
)
DENIED = Decision(
    effect=Effect.DENY,
    reasons=("policy:owner",),
    obligations=(Obligation("step-up"),),
    point="permit",
    decision_id="d-1",
    policy_version="v7",
    context={"debug": "canary"},
)


@pytest.fixture
def record() -> MakeRecord:
    """A denied decision, with changes; ``refused()`` is a refused authentication."""

    def make(**changes: Any) -> Record:
        whole = {
            "at": 1_764_000_000.755,
            "outcome": "deny",
            "status": 403,
            "facts": FACTS,
            "identity": IDENTITY,
            "request": REQUEST,
            "decision": DENIED,
            "seconds": 0.0019,
        }
        return Record(**(whole | changes))

    return make


@pytest.fixture
def refused() -> Callable[..., Record]:
    """A refused authentication."""

    def make(reason: Reason = Reason.EXPIRED, **changes: Any) -> Record:
        refusal = InvalidToken(reason, "canary", issuer="https://as.test/")
        whole = {
            "at": 1_764_000_000.5,
            "outcome": "deny",
            "status": 401,
            "facts": FACTS,
            "refusal": refusal,
        }
        return Record(**(whole | changes))

    return make


class Held:
    """A function that takes events only while its gate is open."""

    def __init__(self) -> None:
        self.events: list[dict[str, Any]] = []
        self.gate, self.entered = threading.Event(), threading.Event()

    def __call__(self, event: dict[str, Any]) -> None:
        self.entered.set()
        assert self.gate.wait(30)
        self.events.append(event)


@pytest.fixture
def held() -> Held:
    """Closed at first."""
    return Held()
