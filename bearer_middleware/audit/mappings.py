"""The same event in the words of others: the Elastic Common Schema, and OCSF's API Activity."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from bearer_middleware.audit.event import Event

_ECS_VERSION = "8.17"
_OCSF_VERSION = "1.5.0"
_LET_IN = ("permit", "fail_open")
#: OCSF 6003: 1 Create, 2 Read, 3 Update, 4 Delete, 99 Other.
_ACTIVITIES = {
    **dict.fromkeys(("create", "add", "post", "insert"), 1),
    **dict.fromkeys(("read", "get", "head", "list", "view", "search"), 2),
    **dict.fromkeys(("update", "put", "patch", "edit", "write"), 3),
    **dict.fromkeys(("delete", "remove"), 4),
}
_ACTIVITY_NAMES = {1: "Create", 2: "Read", 3: "Update", 4: "Delete", 99: "Other"}


def as_ecs(event: Event) -> dict[str, Any]:
    """The event in the Elastic Common Schema: ``event.category`` ``api`` and ``iam``, or
    ``authentication`` for a token that was refused.
    """
    subject, decision = event.get("subject", {}), event.get("decision", {})
    trace = event.get("trace", {})
    reasons = _joined(decision.get("reasons"))
    told = {
        "@timestamp": event["time"],
        "ecs": {"version": _ECS_VERSION},
        "event": _ecs_event(event, reasons),
        "user": {"id": subject.get("id"), "domain": subject.get("issuer")},
        "organization": {"id": subject.get("tenant")},
        **_ecs_http(event),
        "rule": {"name": reasons, "version": decision.get("policy_version")},
        "trace": {"id": trace.get("trace_id")},
        "span": {"id": trace.get("span_id")},
        "service": dict(event.get("service", {})),
        "bearer_middleware": {
            "outcome": event["outcome"],
            "resource": event.get("resource"),
            "decision": decision,
        },
    }
    return _without_nothing(told)


def as_ocsf(event: Event) -> dict[str, Any]:
    """The event as OCSF class 6003, API Activity, with the profiles ``security_control`` and
    ``trace``.
    """
    request, trace = event["request"], event.get("trace", {})
    resource = event.get("resource")
    told = {
        **_ocsf_class(event),
        **_ocsf_outcome(event),
        "actor": _ocsf_actor(event),
        "api": {
            "operation": event.get("action") or request.get("method"),
            "service": dict(event.get("service", {})),
            "request": {"uid": request.get("id")},
        },
        "resources": [{"type": resource["type"], "uid": resource["id"]}] if resource else None,
        "src_endpoint": {"ip": request.get("ip")},
        "http_request": {
            "http_method": request.get("method"),
            "url": {"path": request.get("route"), "hostname": request.get("host")},
            "user_agent": request.get("user_agent"),
        },
        "http_response": {"code": event["status"]},
        "trace": {"uid": trace.get("trace_id"), "span": {"uid": trace.get("span_id")}},
        "metadata": {
            "uid": event["event_id"],
            "version": _OCSF_VERSION,
            "profiles": ["security_control", "trace"],
            "product": {"name": "bearer_middleware"},
        },
        "unmapped": {"outcome": event["outcome"], "kind": event["kind"]},
    }
    return _without_nothing(told)


def _ecs_event(event: Event, reasons: str | None) -> dict[str, Any]:
    decision, is_decision = event.get("decision", {}), event["kind"] == "authorization"
    first, then = _ecs_types(event["outcome"])
    milliseconds = decision.get("latency_ms")
    action = "authenticate"
    if "action" in event:
        action = f"{event['resource']['type']}:{event['action']}"
    elif is_decision:  # by the table of routes, before anybody was asked
        action = event["request"]["method"]
    return {
        "id": event["event_id"],
        "kind": "event",
        "category": ["api", "iam"] if is_decision else ["api", "authentication"],
        "type": [first, then],
        "action": action,
        "outcome": _ecs_outcome(event["outcome"]),
        "reason": reasons or decision.get("error"),
        "duration": None if milliseconds is None else round(milliseconds * 1_000_000),
        "dataset": "bearer_middleware.access",
    }


def _ecs_http(event: Event) -> dict[str, Any]:
    request = event["request"]
    return {
        "client": {"ip": request.get("ip")},
        "http": {
            "request": {"id": request.get("id"), "method": request.get("method")},
            "response": {"status_code": event["status"]},
        },
        "url": {"path": request.get("route"), "domain": request.get("host")},
        "user_agent": {"original": request.get("user_agent")},
    }


def _ecs_types(outcome: str) -> tuple[str, str]:
    if outcome in _LET_IN:
        return "access", "allowed"
    return "access", "error" if outcome == "indeterminate" else "denied"


def _ecs_outcome(outcome: str) -> str:
    if outcome == "indeterminate":
        return "unknown"
    return "success" if outcome in _LET_IN else "failure"


def _ocsf_class(event: Event) -> dict[str, Any]:
    operation = event.get("action") or event["request"].get("method")
    activity = _ACTIVITIES.get(str(operation).lower(), 99)
    return {
        "class_uid": 6003,
        "class_name": "API Activity",
        "category_uid": 6,
        "category_name": "Application Activity",
        "activity_id": activity,
        "activity_name": _ACTIVITY_NAMES[activity],
        "type_uid": 600300 + activity,
        "severity_id": 1 if event["outcome"] == "permit" else 3,
        "time": round(datetime.fromisoformat(event["time"]).timestamp() * 1000),
    }


def _ocsf_outcome(event: Event) -> dict[str, Any]:
    decision, let_in = event.get("decision", {}), event["outcome"] in _LET_IN
    milliseconds = decision.get("latency_ms")
    return {
        "action_id": 1 if let_in else 2,
        "action": "Allowed" if let_in else "Denied",
        "status_id": 1 if let_in else 2,
        "status": "Success" if let_in else "Failure",
        "status_code": str(event["status"]),
        "status_detail": _joined(decision.get("reasons")) or decision.get("error"),
        "duration": None if milliseconds is None else round(milliseconds),
    }


def _ocsf_actor(event: Event) -> dict[str, Any]:
    subject, decision = event.get("subject", {}), event.get("decision", {})
    issuer = subject.get("issuer")
    return {
        "user": {"uid": subject.get("id"), "org": {"uid": subject.get("tenant")}},
        "app_uid": subject.get("client_id"),
        "idp": {"uid": issuer},
        "session": {"uid": subject.get("token_id"), "issuer": issuer},
        "authorizations": [_without_nothing(_authorization(event, decision))],
    }


def _authorization(event: Event, decision: dict[str, Any]) -> dict[str, Any]:
    return {
        "decision": event["outcome"],
        "policy": {
            "uid": decision.get("id"),
            "name": _joined(decision.get("reasons")),
            "version": decision.get("policy_version"),
        },
    }


def _joined(reasons: list[str] | None) -> str | None:
    return ", ".join(reasons) if reasons else None


def _without_nothing(value: dict[str, Any]) -> dict[str, Any]:
    """Without members that are ``None`` or empty, however deep."""
    kept: dict[str, Any] = {}
    for name, item in value.items():
        told = _without_nothing(item) if isinstance(item, dict) else item
        if told is not None and told != {}:
            kept[name] = told
    return kept
