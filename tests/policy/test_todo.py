"""The Todo and gateway scenarios of AuthZEN's interoperability tests, by engines in process."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest

from bearer_middleware.policy.casbin import CasbinPolicy
from bearer_middleware.policy.cedar import CedarPolicy
from bearer_middleware.policy.local import LocalPolicy
from bearer_middleware.policy.point import InProcess
from bearer_middleware.policy.rego import RegoPolicy
from tests.policy.asking import GATEWAY_VECTORS, vectors

pytestmark = pytest.mark.needs("../shared/vectors/authzen")

#: In the order they come in the scenario.
PEOPLE = {
    "rick@the-citadel.com": ["admin", "evil_genius"],
    "morty@the-citadel.com": ["editor"],
    "summer@the-smiths.com": ["editor"],
    "beth@the-smiths.com": ["viewer"],
    "jerry@the-smiths.com": ["viewer"],
}

LOCAL = """
[roles.viewer]
permits = ["user:can_read_user", "todo:can_read_todos"]

[roles.editor]
inherits = ["viewer"]
permits = ["todo:can_create_todo"]

[roles.evil_genius]
permits = ["todo:can_update_todo"]

[roles.admin]
inherits = ["editor"]
permits = ["todo:can_delete_todo"]

[[rules]]
name = "owner"
actions = ["can_update_todo", "can_delete_todo"]
resources = ["todo"]
roles = ["editor"]
when = "resource.properties.ownerID == subject.properties.email"
"""
CEDAR = """
permit(principal in Role::"viewer",
       action in [Action::"can_read_user", Action::"can_read_todos"], resource);
permit(principal in Role::"editor", action == Action::"can_create_todo", resource);
permit(principal in Role::"evil_genius", action == Action::"can_update_todo", resource);
permit(principal in Role::"admin", action == Action::"can_delete_todo", resource);
@id("owner")
permit(principal in Role::"editor",
       action in [Action::"can_update_todo", Action::"can_delete_todo"], resource)
when { resource has ownerID && resource.ownerID == principal.email };
"""
CASBIN_MODEL = """
[request_definition]
r = sub, obj, act

[policy_definition]
p = sub, kind, act, owner

[role_definition]
g = _, _

[policy_effect]
e = some(where (p.eft == allow))

[matchers]
m = g(r.sub, p.sub) && r.obj.type == p.kind && r.act == p.act && \
(p.owner == "any" || r.obj.properties.ownerID == p.owner)
"""
CASBIN = """
p, viewer, user, can_read_user, any
p, viewer, todo, can_read_todos, any
p, editor, todo, can_create_todo, any
p, evil_genius, todo, can_update_todo, any
p, admin, todo, can_delete_todo, any
g, editor, viewer
g, admin, editor
"""
REGO = """
package authz
import rego.v1

default allow := false

granted := {
    "viewer": {"can_read_user", "can_read_todos"},
    "editor": {"can_read_user", "can_read_todos", "can_create_todo"},
    "evil_genius": {"can_update_todo"},
    "admin": {"can_read_user", "can_read_todos", "can_create_todo", "can_delete_todo"},
}

person := data.people[input.subject.id]

allow if {
    some role in person.roles
    input.action.name in granted[role]
}

allow if {
    input.action.name in {"can_update_todo", "can_delete_todo"}
    "editor" in person.roles
    input.resource.properties.ownerID == person.email
}
"""

Known = dict[str, tuple[str, list[str]]]


def known() -> Known:
    """By the ids of the scenario: e-mail and roles."""
    ids = dict.fromkeys(request.subject.id for request, _ in vectors())
    return dict(zip(ids, PEOPLE.items(), strict=True))


def local(people: Known) -> InProcess:
    """Roles by rules, people by the table of subjects."""
    subjects = "".join(
        f'[subjects."user:{one}"]\nroles = {roles}\nproperties = {{ email = "{email}" }}\n'
        for one, (email, roles) in people.items()
    )
    return LocalPolicy(LOCAL + subjects)


def cedar(people: Known) -> InProcess:
    """People and roles are entities."""

    def role(name: str) -> dict[str, str]:
        return {"type": "Role", "id": name}

    entities = [
        {
            "uid": {"type": "user", "id": one},
            "attrs": {"email": email},
            "parents": [role(name) for name in roles],
        }
        for one, (email, roles) in people.items()
    ]
    entities += [
        {"uid": role("admin"), "attrs": {}, "parents": [role("editor")]},
        {"uid": role("editor"), "attrs": {}, "parents": [role("viewer")]},
        {"uid": role("viewer"), "attrs": {}, "parents": []},
    ]
    return CedarPolicy(CEDAR, entities=json.dumps(entities))


def casbin(people: Known) -> InProcess:
    """Roles by ``g``, what people own by rules of their own."""
    rules = CASBIN
    for one, (email, roles) in people.items():
        rules += "".join(f"g, {one}, {role}\n" for role in roles)
        if "editor" in roles:
            rules += f"p, {one}, todo, can_update_todo, {email}\n"
            rules += f"p, {one}, todo, can_delete_todo, {email}\n"
    return CasbinPolicy(rules, CASBIN_MODEL, request=("subject.id", "resource", "action.name"))


def rego(engine: str) -> Callable[[Known], InProcess]:
    """People are data."""

    def make(people: Known) -> InProcess:
        told = {one: {"email": email, "roles": roles} for one, (email, roles) in people.items()}
        return RegoPolicy(REGO, data=json.dumps({"people": told}), engine=engine)

    return make


@pytest.mark.parametrize(
    "make",
    [local, cedar, casbin, rego("regorus"), rego("regopy")],
    ids=["local", "cedar", "casbin", "regorus", "regopy"],
)
def test_every_decision_of_the_scenario(make: Callable[[Known], InProcess]) -> None:
    """AZ-1: forty requests, forty right answers."""
    point = make(known())
    decided = [(point.judge(request), expected) for request, expected in vectors()]
    assert len(decided) == 40
    assert [decision.permitted for decision, _ in decided] == [wanted for _, wanted in decided]
    assert {decision.error for decision, _ in decided} == {None}


GATEWAY_LOCAL = """
[roles.viewer]
permits = ["route:GET"]

[roles.editor]
inherits = ["viewer"]
permits = ["route:POST", "route:PUT", "route:DELETE"]

[roles.admin]
inherits = ["editor"]
"""
GATEWAY_MODEL = """
[request_definition]
r = sub, obj, act
[policy_definition]
p = sub, obj, act
[role_definition]
g = _, _
[policy_effect]
e = some(where (p.eft == allow))
[matchers]
m = g(r.sub, p.sub) && r.obj == p.obj && r.act == p.act
"""
GATEWAY_RULES = """
p, viewer, route, GET
p, editor, route, POST
p, editor, route, PUT
p, editor, route, DELETE
g, editor, viewer
g, admin, editor
"""


def test_the_gateway_scenario() -> None:
    """AZ-10: methods are actions and templates of paths are resources; roles are enough here."""
    people = known()
    subjects = "".join(
        f'[subjects."identity:{one}"]\nroles = {roles}\n' for one, (_, roles) in people.items()
    )
    rules = GATEWAY_RULES + "".join(
        f"g, {one}, {role}\n" for one, (_, roles) in people.items() for role in roles
    )
    points = [LocalPolicy(GATEWAY_LOCAL + subjects), CasbinPolicy(rules, GATEWAY_MODEL)]
    cases = vectors(GATEWAY_VECTORS)
    assert len(cases) == 25
    for point in points:
        assert [point.judge(request).permitted for request, _ in cases] == [
            expected for _, expected in cases
        ]
