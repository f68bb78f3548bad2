"""The same event in the words of ECS and OCSF."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest

from bearer_middleware.audit.event import event_of
from bearer_middleware.audit.mappings import as_ecs, as_ocsf
from bearer_middleware.audit.record import Record

Make = Callable[..., Record]


def test_ecs(record: Make) -> None:
    """``event.*`` by its allowed values, the template as ``url.path``, nanoseconds."""
    told = as_ecs(event_of(record(), {"name": "todo"}))
    assert told["event"]["kind"] == "event"
    assert told["event"]["category"] == ["api", "iam"]
    assert told["event"]["type"] == ["access", "denied"]
    assert told["event"]["action"] == "todo:update"
    assert told["event"]["outcome"] == "failure"
    assert told["event"]["reason"] == "policy:owner"
    assert told["event"]["duration"] == 1_900_000
    assert told["user"]["id"] == "auth0|alice"
    assert told["client"] == {"ip": "203.0.113.7"}
    assert told["http"]["request"] == {"id": "r-1", "method": "PUT"}
    assert told["url"]["path"] == "/todos/{id}"
    assert told["rule"]["name"] == "policy:owner"
    assert told["trace"]["id"] == "0af7651916cd43dd8448eb211c80319c"
    assert told["service"] == {"name": "todo"}


@pytest.mark.parametrize(
    ("outcome", "kind", "ecs"),
    [
        ("permit", "allowed", "success"),
        ("fail_open", "allowed", "success"),
        ("not_applicable", "denied", "failure"),
        ("indeterminate", "error", "unknown"),
    ],
)
def test_ecs_outcomes(record: Make, outcome: str, kind: str, ecs: str) -> None:
    """What could not be decided is an error of unknown outcome."""
    told = as_ecs(event_of(record(outcome=outcome)))["event"]
    assert (told["type"], told["outcome"]) == (["access", kind], ecs)


def test_ocsf(record: Make) -> None:
    """Class 6003, API Activity."""
    told = as_ocsf(event_of(record()))
    assert (told["class_uid"], told["activity_id"], told["type_uid"]) == (6003, 3, 600303)
    assert (told["action_id"], told["status_id"]) == (2, 2)
    assert told["time"] == 1_764_000_000_755
    assert told["actor"]["user"]["uid"] == "auth0|alice"
    assert told["actor"]["app_uid"] == "spa1"
    assert told["actor"]["idp"]["uid"] == "https://as.test/"
    (authorization,) = told["actor"]["authorizations"]
    assert authorization["decision"] == "deny"
    assert authorization["policy"] == {"uid": "d-1", "name": "policy:owner", "version": "v7"}
    assert told["resources"] == [{"type": "todo", "uid": "42"}]
    assert told["metadata"]["profiles"] == ["security_control", "trace"]
    allowed = as_ocsf(event_of(record(outcome="permit")))
    assert (allowed["action_id"], allowed["status_id"], allowed["severity_id"]) == (1, 1, 1)


def test_of_a_refused_authentication(refused: Make) -> None:
    """There is neither an action nor a resource, and both can say so."""
    event = event_of(refused())
    assert as_ecs(event)["event"]["action"] == "authenticate"
    assert as_ecs(event)["event"]["category"] == ["api", "authentication"]
    assert "resources" not in as_ocsf(event)
    assert as_ocsf(event)["api"]["operation"] == "PUT"
    json.dumps([as_ecs(event), as_ocsf(event)])
