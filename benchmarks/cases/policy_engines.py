"""Policy engines in process: the local policy in raw, the others over their own bare call.

Each bare call is what somebody would write by hand around the engine: its policy parsed once, the
request put together anew each time, the answer read, and nobody else asking at the same time.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from typing import Any

import casbin
import cedarpy
import opa_eval
import regopy
from casbin.persist.adapters.string_adapter import StringAdapter
from harness import Case, measure, over
from report import Row
from tokens import bare_check, material

from bearer_middleware.policy.casbin import CasbinPolicy
from bearer_middleware.policy.cedar import CedarPolicy
from bearer_middleware.policy.function import FunctionPoint
from bearer_middleware.policy.local import LocalPolicy
from bearer_middleware.policy.model import AccessRequest, Action, Resource, Subject
from bearer_middleware.policy.rego import RegoPolicy

LOCAL = """
tuples = ["todo:1#owner@user:someone", "todo:1#parent@list:7", "list:7#reader@user:auth0|alice"]

[roles.viewer]
permits = ["todo:read", "user:read"]

[roles.editor]
inherits = ["viewer"]
permits = ["todo:create"]

[relations.todo]
reader = ["owner", "reader of parent"]

[[rules]]
name = "owners"
actions = ["update"]
resources = ["todo"]
roles = ["editor"]
when = "resource.properties.ownerID == subject.id"

[[rules]]
name = "readers"
actions = ["look"]
resources = ["todo"]
relation = "reader"

[[rules]]
name = "frozen"
effect = "deny"
resources = ["todo"]
when = "resource.properties.frozen == true"
"""
OTHERS = "".join(
    f'[[rules]]\nname = "other-{n}"\nresources = ["type-{n}"]\nwhen = "subject.id == \'x\'"\n'
    for n in range(1_000)
)
CEDAR = """
@id("owners")
permit(principal in Role::"editor", action == Action::"update", resource is todo)
when { resource has ownerID && resource.ownerID == principal.sub };
permit(principal in Role::"viewer", action == Action::"read", resource);
forbid(principal, action, resource is todo) when { resource has frozen && resource.frozen };
"""
MODEL = """
[request_definition]
r = sub, obj, act
[policy_definition]
p = sub, kind, act
[role_definition]
g = _, _
[policy_effect]
e = some(where (p.eft == allow))
[matchers]
m = g(r.sub, p.sub) && r.obj.type == p.kind && r.act == p.act && r.obj.properties.ownerID == r.sub
"""
RULES = "p, viewer, todo, read\np, editor, todo, update\ng, auth0|alice, editor"
REGO = """
package authz
import rego.v1
default allow := false
allow if {
    input.action.name == "update"
    input.resource.type == "todo"
    "editor" in input.subject.properties.roles
    input.resource.properties.ownerID == input.subject.id
}
"""
REQUEST = ("subject.id", "resource", "action.name")

Bare = Callable[[AccessRequest], bool]


def _requests(action: str = "update") -> list[AccessRequest]:
    """Sixty-four of them, all to be permitted."""
    alice = "auth0|alice"
    properties = {"roles": ["editor"], "email": "alice@example.com", "sub": alice}
    return [
        AccessRequest(
            Subject("user", alice, properties),
            Action(action),
            Resource("todo", "1" if action == "look" else str(number), {"ownerID": alice}),
        )
        for number in range(64)
    ]


def _bare_cedar() -> Bare:
    policies = cedarpy.PolicySet.from_str(CEDAR)

    def ask(asked: AccessRequest) -> bool:
        subject, resource = asked.subject, asked.resource
        principal = {"type": "user", "id": subject.id}
        thing = {"type": "todo", "id": resource.id}
        roles = [{"type": "Role", "id": role} for role in subject.properties["roles"]]
        entities = [
            {"uid": principal, "attrs": dict(subject.properties), "parents": roles},
            {"uid": thing, "attrs": dict(resource.properties), "parents": []},
        ]
        question = {
            "principal": principal,
            "action": {"type": "Action", "id": asked.action.name},
            "resource": thing,
            "context": dict(asked.context),
        }
        answer = cedarpy.is_authorized(question, policies, entities)
        return answer.allowed and bool(answer.diagnostics.reasons)

    return ask


def _document(asked: AccessRequest) -> str:
    subject, resource = asked.subject, asked.resource
    return json.dumps(
        {
            "subject": {
                "type": subject.type,
                "id": subject.id,
                "properties": dict(subject.properties),
            },
            "action": {"name": asked.action.name},
            "resource": {
                "type": resource.type,
                "id": resource.id,
                "properties": dict(resource.properties),
            },
        }
    )


def _bare_casbin() -> Bare:
    logging.getLogger("casbin").setLevel(logging.CRITICAL)
    model = casbin.Model()
    model.load_model_from_text(MODEL)
    enforcer = casbin.Enforcer(model, StringAdapter(RULES))

    def ask(asked: AccessRequest) -> bool:
        resource = asked.resource
        thing = {"type": resource.type, "properties": dict(resource.properties)}
        allowed, _rule = enforcer.enforce_ex(asked.subject.id, thing, asked.action.name)
        return bool(allowed)

    return ask


def _bare_regorus() -> Bare:
    from bearer_middleware.policy.rego import _file

    with _file(REGO) as name:
        evaluate = opa_eval.OpaEval(name, None, "data.authz.allow").evaluate_parsed
    return lambda asked: evaluate(_document(asked)) is True


def _bare_regopy() -> Bare:
    rego = regopy.Interpreter()
    rego.add_module("policy", REGO)
    bundle = rego.build("x=data.authz.allow", [])

    def ask(asked: AccessRequest) -> bool:
        rego.set_input_term(_document(asked))
        output = rego.query_bundle(bundle)
        return output.binding("x").json() == "true"

    return ask


def _owns(asked: AccessRequest) -> bool:
    return asked.resource.properties.get("ownerID") == asked.subject.id


def _pairs() -> dict[str, tuple[Any, Bare]]:
    """By engine: our decision point, and the bare call."""
    return {
        "Cedar (cedarpy)": (CedarPolicy(CEDAR), _bare_cedar()),
        "Casbin": (CasbinPolicy(RULES, MODEL, request=REQUEST), _bare_casbin()),
        "Rego (regorus)": (RegoPolicy(REGO, engine="regorus"), _bare_regorus()),
        "Rego (regopy)": (RegoPolicy(REGO, engine="regopy"), _bare_regopy()),
    }


async def rows(rounds: int) -> list[Row]:
    raw = Case("raw", *bare_check(material()))
    local, crowded = LocalPolicy(LOCAL), LocalPolicy(LOCAL + OTHERS)
    ours = {
        "local policy, a role": Case("role", local.judge, _requests("create")),
        "local policy, a rule with a condition": Case("rule", local.judge, _requests()),
        "local policy, a relation through a parent": Case(
            "relation", local.judge, _requests("look")
        ),
        "local policy, a rule beside 1,000 for other types": Case(
            "crowded", crowded.judge, _requests()
        ),
        "a plain function": Case("function", FunctionPoint(_owns).judge, _requests()),
    }
    pairs = {}
    for name, (point, bare) in _pairs().items():
        pairs[name] = (
            Case(name, point.judge, _requests()),
            Case(f"bare {name}", bare, _requests()),
        )
        if not all(bare(asked) and point.judge(asked).permitted for asked in _requests()):
            raise RuntimeError(f"{name}: denied what it should permit")
    for case in ours.values():
        if not all(case.work(asked).permitted for asked in case.inputs):
            raise RuntimeError(f"{case.name}: denied what it should permit")
    both = [case for pair in pairs.values() for case in pair]
    await measure([raw, *ours.values(), *both], rounds)
    table = [Row(name, over(case, raw), "raw", 0.25) for name, case in ours.items()]
    table += [
        Row(f"{name}, over its bare call", over(mine, bare), "bare", 1.3)
        for name, (mine, bare) in pairs.items()
    ]
    table += [Row(f"  {name}", over(mine, raw), "raw") for name, (mine, _) in pairs.items()]
    return table
