"""What tests of policy ask, and the same small policies for every engine in this process."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from bearer_middleware.policy.casbin import CasbinPolicy
from bearer_middleware.policy.cedar import CedarPolicy
from bearer_middleware.policy.function import FunctionPoint
from bearer_middleware.policy.local import LocalPolicy
from bearer_middleware.policy.model import AccessRequest, Action, Resource, Subject
from bearer_middleware.policy.point import InProcess
from bearer_middleware.policy.rego import RegoPolicy

VECTORS = Path(__file__).parents[2] / "../shared/vectors/authzen"
TODO_VECTORS = VECTORS / "decisions-authorization-api-1_0-02.json"
GATEWAY_VECTORS = VECTORS / "gateway-decisions.json"

OWNERS_LOCAL = """
[[rules]]
name = "owners"
actions = ["update"]
resources = ["todo"]
when = "resource.properties.ownerID == subject.id"
"""
OWNERS_CEDAR = """
@id("owners")
permit(principal, action == Action::"update", resource is todo)
when { resource has ownerID && resource.ownerID == context.asker };
"""
OWNERS_REGO = """
package authz
import rego.v1

default allow := false

allow if {
    input.action.name == "update"
    input.resource.type == "todo"
    input.resource.properties.ownerID == input.subject.id
}
"""
OWNERS_MODEL = """
[request_definition]
r = sub, obj, act

[policy_definition]
p = kind, act

[policy_effect]
e = some(where (p.eft == allow))

[matchers]
m = r.obj.type == p.kind && r.act == p.act && r.obj.properties.ownerID == r.sub
"""


def ask(
    subject: str = "alice",
    action: str = "update",
    resource: str = "1",
    *,
    kind: str = "todo",
    who: str = "user",
    said: Mapping[str, Any] | None = None,
    context: Mapping[str, Any] | None = None,
    **properties: Any,
) -> AccessRequest:
    """A request; ``said`` are properties of the subject, keywords those of the resource."""
    return AccessRequest(
        Subject(who, subject, said or {}),
        Action(action),
        Resource(kind, resource, properties),
        context or {},
    )


def owner_asks(subject: str, owner: str) -> AccessRequest:
    """May ``subject`` update what ``owner`` owns?"""
    return ask(subject, ownerID=owner, context={"asker": subject})


def _casbin_owners() -> InProcess:
    request = ("subject.id", "resource", "action.name")
    return CasbinPolicy("p, todo, update", OWNERS_MODEL, request=request)


def _owns(asked: AccessRequest) -> bool:
    if (asked.action.name, asked.resource.type) != ("update", "todo"):
        return False
    return bool(asked.resource.properties.get("ownerID") == asked.subject.id)


#: By name: a policy that lets owners update their todos, and nobody do anything else.
OWNERS: Mapping[str, Callable[[], InProcess | FunctionPoint]] = {
    "local": lambda: LocalPolicy(OWNERS_LOCAL),
    "cedar": lambda: CedarPolicy(OWNERS_CEDAR),
    "casbin": _casbin_owners,
    "regorus": lambda: RegoPolicy(OWNERS_REGO, engine="regorus"),
    "regopy": lambda: RegoPolicy(OWNERS_REGO, engine="regopy"),
    "function": lambda: FunctionPoint(_owns),
}


def vectors(path: Path = TODO_VECTORS) -> list[tuple[AccessRequest, bool]]:
    """The decisions of a scenario of AuthZEN's interoperability tests: that with todos."""
    cases = json.loads(path.read_text())["evaluation"]
    return [(_request(case["request"]), case["expected"]) for case in cases]


def _request(said: Mapping[str, Any]) -> AccessRequest:
    subject, resource = said["subject"], said["resource"]
    return AccessRequest(
        Subject(subject["type"], subject["id"], subject.get("properties", {})),
        Action(said["action"]["name"]),
        Resource(resource["type"], resource["id"], resource.get("properties", {})),
    )
