"""The canonical event: what is in it, and what never is."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bearer_middleware import Identity
from bearer_middleware.audit.event import LONGEST_TEXT, clean, event_of, token_id
from bearer_middleware.audit.mappings import as_ecs, as_ocsf
from bearer_middleware.audit.record import Record, RequestFacts
from bearer_middleware.errors import Forbidden, InvalidToken, Reason
from bearer_middleware.policy.model import (
    AccessRequest,
    Action,
    Decision,
    Effect,
    Resource,
    Subject,
)

Make = Callable[..., Record]


def test_of_a_decision(record: Make) -> None:
    """Has all members of the schema, in its words."""
    event = event_of(record(), {"name": "todo", "version": "1"})
    assert len(event.pop("event_id")) == 26
    assert event == {
        "schema": "bearer_middleware.access/1",
        "time": "2025-11-24T16:00:00.755Z",
        "kind": "authorization",
        "outcome": "deny",
        "status": 403,
        "subject": {
            "type": "user",
            "id": "auth0|alice",
            "issuer": "https://as.test/",
            "client_id": "spa1",
            "tenant": "acme",
            "token_id": token_id("jti-1"),
            "auth_time": 1_700_000_000,
            "acr": "loa2",
        },
        "action": "update",
        "resource": {"type": "todo", "id": "42"},
        "decision": {
            "pdp": "permit",
            "id": "d-1",
            "reasons": ["policy:owner"],
            "policy_version": "v7",
            "cached": False,
            "latency_ms": 1.9,
            "obligations": ["step-up"],
        },
        "request": {
            "id": "r-1",
            "method": "PUT",
            "route": "/todos/{id}",
            "host": "api.test",
            "ip": "203.0.113.7",
            "user_agent": "curl/8",
        },
        "trace": {
            "trace_id": "0af7651916cd43dd8448eb211c80319c",
            "span_id": "b7ad6b7169203331",
        },
        "service": {"name": "todo", "version": "1"},
    }


def test_of_a_refused_authentication(refused: Make) -> None:
    """Has neither action nor resource, and says why in a word of ours."""
    event = event_of(refused())
    assert (event["kind"], event["outcome"], event["status"]) == ("authentication", "deny", 401)
    assert event["subject"] == {"issuer": "https://as.test/"}
    assert event["decision"] == {"reasons": ["expired"]}
    assert event.keys().isdisjoint({"action", "resource", "service"})


def test_of_a_good_token_that_may_not(refused: Make, record: Make) -> None:
    """Nobody had to be asked: there is no such route, or a scope is missing."""
    who = record().identity
    event = event_of(refused(identity=who, refusal=Forbidden(Reason.NO_ROUTE), status=403))
    assert (event["kind"], event["outcome"], event["status"]) == ("authorization", "deny", 403)
    assert event["decision"] == {"reasons": ["no_route"]}
    assert as_ecs(event)["event"]["category"] == ["api", "iam"]
    assert as_ecs(event)["event"]["action"] == "PUT"
    assert "resources" not in as_ocsf(event)


def test_of_a_remembered_decision(record: Make) -> None:
    """Says how old it was; one that could not be made says our word for why."""
    old = Decision(effect=Effect.PERMIT, point="p", cached=True, age=1.25)
    assert event_of(record(decision=old))["decision"]["cache_age_ms"] == 1250
    unsure = Decision(effect=Effect.INDETERMINATE, point="p", error="timeout")
    assert event_of(record(decision=unsure))["decision"]["error"] == "timeout"


def test_what_an_extension_calls_a_reason(refused: Make) -> None:
    """May be any text, so it is not told."""
    refusal = InvalidToken("canary")  # type: ignore[arg-type]
    assert event_of(refused(refusal=refusal))["decision"] == {"reasons": ["extension_failed"]}


def test_never_what_is_not_asked_for(record: Make, refused: Make) -> None:
    """No claims beside the named ones, no properties, no debug, no detail, no query, no jti."""
    facts = RequestFacts(method="GET", route="/todos?access_token=canary")
    for one in (record(), refused(), record(facts=facts)):
        told = json.dumps(event_of(one))
        assert "canary" not in told
        assert "jti-1" not in told


def test_a_machine(record: Make) -> None:
    """Is a client, also where nobody decided; a claim of an odd shape is left out."""
    claims = {"acr": ["x"], "auth_time": True, "tid": 7, "org_id": "org"}
    identity = Identity(subject="worker", is_client=True, claims=claims)
    event = event_of(record(identity=identity, request=None, decision=None))
    assert event["subject"] == {"type": "client", "id": "worker", "tenant": "org"}


def test_ids_sort_by_time(record: Make) -> None:
    """As ULIDs do, and no two are the same."""
    ids = [event_of(record(at=float(at)))["event_id"] for at in range(1, 2000)]
    assert ids == sorted(ids)
    assert len(set(ids)) == len(ids)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("a\r\nb", "a\\r\\nb"),
        ("\x1b[31m", "\\x1b[31m"),
        ("\u202egnp", "\\u202egnp"),
        ("\ud800", "\\ud800"),
        ("\u2028", "\\u2028"),
        ("naïve ✓", "naïve ✓"),
    ],
)
def test_control_characters(text: str, told: str) -> None:
    """Are shown as escapes: nobody forges a line, or paints a terminal."""
    assert clean(text) == told


odd = st.text(max_size=20) | st.text(st.characters(), min_size=600, max_size=700)


@given(odd, odd, odd, st.lists(odd, max_size=40), odd)
def test_any_text(subject: str, action: str, resource: str, reasons: list[str], agent: str) -> None:
    """Makes one bounded line of printable text."""
    event = event_of(
        Record(
            at=1.0,
            outcome="deny",
            status=403,
            facts=RequestFacts(method="GET", route=agent, user_agent=agent),
            identity=Identity(subject=subject, token_id=subject, claims={"acr": action}),
            request=AccessRequest(
                Subject("user", subject), Action(action), Resource("t", resource)
            ),
            decision=Decision(effect=Effect.DENY, reasons=tuple(reasons), decision_id=subject),
        )
    )
    told: list[Any] = [event]
    while told:
        value = told.pop()
        if isinstance(value, dict):
            told += value.values()
        elif isinstance(value, list):
            told += value
        elif isinstance(value, str):
            assert value.isprintable()
            assert len(value) <= 10 * (LONGEST_TEXT + 3)
    assert "\n" not in json.dumps(event)


def test_the_name_of_a_token() -> None:
    """Is a digest of its jti, and absent where there is none."""
    assert token_id("jti-1") == token_id("jti-1") != token_id("jti-2")
    assert token_id(None) is token_id("") is token_id(7) is None
    assert Reason.EXPIRED in list(Reason)
