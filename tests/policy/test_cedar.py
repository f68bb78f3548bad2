"""Cedar in this process: what becomes of a request, and of what Cedar says."""

from __future__ import annotations

import json
import logging
from typing import Any

import pytest

from bearer_middleware.errors import ConfigError
from bearer_middleware.policy.cedar import CedarPolicy
from bearer_middleware.policy.cedar_entities import Vocabulary, attributes_of
from bearer_middleware.policy.model import Decision, Effect
from tests.policy.asking import ask

SCHEMA = """
entity Role;
entity user in [Role] { email: String };
entity todo { ownerID: String };
action writing;
action update in [writing] appliesTo { principal: user, resource: todo, context: {} };
"""


def judged(policies: str, request: Any = None, **more: Any) -> Decision:
    """The decision of Cedar policies."""
    return CedarPolicy(policies, **more).judge(request or ask())


@pytest.mark.parametrize(
    ("policies", "effect", "reasons"),
    [
        ("permit(principal, action, resource);", Effect.PERMIT, ("policy0",)),
        ('@id("all") permit(principal, action, resource);', Effect.PERMIT, ("all",)),
        ('permit(principal == user::"bob", action, resource);', Effect.DENY, ()),
        (
            'permit(principal, action, resource); @id("no") forbid(principal, action, resource);',
            Effect.DENY,
            ("no",),
        ),
        ("", Effect.DENY, ()),
    ],
)
def test_decisions(policies: str, effect: Effect, reasons: tuple[str, ...]) -> None:
    """Allow permits, Deny denies, and the ids of policies are reasons."""
    decision = judged(policies)
    assert (decision.effect, decision.reasons) == (effect, reasons)
    assert decision.policy_version


def test_errors_of_policies(caplog: pytest.LogCaptureFixture) -> None:
    """One that permits and errs permits nothing; one that forbids and errs is not passed over."""
    caplog.set_level(logging.INFO, "bearer_middleware")
    errs = "permit(principal, action, resource) when { resource.secret };"
    decision = judged(errs)
    assert (decision.effect, decision.reasons) == (Effect.DENY, ("policy_error",))
    assert "policy_failed: cedar: a policy could not be evaluated" in caplog.text
    allowed = judged(errs + "permit(principal, action, resource);")
    assert (allowed.effect, allowed.reasons) == (Effect.PERMIT, ("policy1", "policy_error"))
    forbids = "forbid(principal, action, resource) when { resource.secret };"
    decision = judged(forbids + "permit(principal, action, resource);")
    assert (decision.effect, decision.error) == (Effect.INDETERMINATE, "policy_error")
    assert "secret" not in caplog.text


@pytest.mark.parametrize("kind", ["no type", 'x"', "a-b", "", "__cedar::x", "é"])
def test_no_decision_is_undecided(kind: str) -> None:
    """Where Cedar cannot build the request."""
    decision = judged("permit(principal, action, resource);", ask(kind=kind))
    assert (decision.effect, decision.error) == (Effect.INDETERMINATE, "no_decision")


def test_roles_are_parents() -> None:
    """A list, a text, or the members of an object; groups of roles come from the file."""
    policy = 'permit(principal in Role::"editor", action, resource);'
    for roles in (["editor"], "editor", {"editor": {}}, ["x", "editor", 3, None]):
        assert judged(policy, ask(said={"roles": roles})).permitted
    for roles in ([], "editors", None, 3, [["editor"]]):
        assert not judged(policy, ask(said={"roles": roles})).permitted
    entities = json.dumps(
        [
            {
                "uid": {"type": "Role", "id": "admin"},
                "attrs": {},
                "parents": [{"type": "Role", "id": "editor"}],
            }
        ]
    )
    assert judged(policy, ask(said={"roles": ["admin"]}), entities=entities).permitted
    assert not judged(policy, ask(said={"roles": ["admin"]})).permitted


def test_names_of_types() -> None:
    """A namespace, other names, other roles."""
    words = Vocabulary(
        namespace="Todo", types={"user": "Person"}, roles="groups", role_type="Other::Team"
    )
    policy = """
    permit(principal is Todo::Person in Other::Team::"dev", action == Todo::Action::"update",
           resource == Todo::todo::"1");
    """
    assert judged(policy, ask(said={"groups": ["dev"]}), vocabulary=words).permitted
    assert not judged(policy, ask(said={"roles": ["dev"]}), vocabulary=words).permitted


def test_entities_of_the_file() -> None:
    """What the policy knows counts more than what a token says, and reaches as far as it leads."""

    def entity(kind: str, name: str, *parents: tuple[str, str], **attrs: Any) -> dict[str, Any]:
        uids = [{"type": one, "id": other} for one, other in parents]
        return {"uid": {"type": kind, "id": name}, "attrs": attrs, "parents": uids}

    boss = {"__entity": {"type": "user", "id": "bob"}}
    entities = json.dumps(
        [
            entity("user", "alice", ("Team", "dev"), tenant="acme", boss=boss),
            entity("user", "bob", level=7),
            entity("Team", "dev", ("Team", "all")),
            entity("Team", "all"),
            entity("Flag", "open", value=True),
            entity("Action", "update", ("Action", "writing")),
        ]
    )

    def may(condition: str, **said: Any) -> bool:
        policy = f"permit(principal, action, resource) when {{ {condition} }};"
        return judged(policy, ask(said=said, size=3), entities=entities).permitted

    assert may('principal in Team::"all"')
    assert may("principal.boss.level == 7")
    assert may('principal.tenant == "acme"', tenant="evil")
    assert may('principal.other == "x"', other="x")
    assert may('Flag::"open".value')
    assert may('action in Action::"writing"')
    assert may("resource.size == 3")
    assert may('principal in Role::"x" && principal in Team::"dev"', roles=["x"])
    assert not may('resource in Team::"all"')


def test_a_subject_that_is_the_resource() -> None:
    """Whoever reads himself is one entity."""
    policy = "permit(principal, action, resource) when { principal == resource };"
    assert judged(policy, ask("1", kind="user", resource="1")).permitted
    assert not judged(policy, ask("2", kind="user", resource="1")).permitted


def test_a_schema() -> None:
    """Policies are held against it, and so are requests, with the attributes it knows."""
    policy = """
    permit(principal, action in Action::"writing", resource)
    when { resource.ownerID == principal.email };
    """
    words = Vocabulary(
        attributes={
            "user": frozenset({"email"}),
            "todo": frozenset({"ownerID"}),
            "context": frozenset(),
        }
    )
    point = CedarPolicy(policy, schema=SCHEMA, vocabulary=words)
    said = {"email": "a", "sub": "alice", "exp": 1.5}
    assert point.judge(ask(said=said, context={"ip": "::1"}, ownerID="a", x=1)).permitted
    assert point.judge(ask(said=said, ownerID="b")).effect is Effect.DENY
    assert point.judge(ask(said={}, ownerID="a")).effect is Effect.INDETERMINATE
    with pytest.raises(ConfigError, match="does not fit the schema"):
        CedarPolicy("permit(principal, action, resource) when { resource.x };", schema=SCHEMA)


@pytest.mark.parametrize(
    ("value", "told"),
    [
        ("x", "x"),
        (True, True),
        (3, 3),
        (3.0, 3),
        (2**63 - 1, 2**63 - 1),
        (-(2**63), -(2**63)),
        (["a", 1], ["a", 1]),
        (("a",), ["a"]),
        (frozenset({"a"}), ["a"]),
        ({"a": {"b": [1]}, "c": None, "d": 1.5}, {"a": {"b": [1]}}),
        (3.5, None),
        (float("nan"), None),
        (float("inf"), None),
        (2**63, None),
        (None, None),
        (b"x", None),
        ([1, 1.5], None),
        ([None], None),
        ({"__entity": {"type": "Role", "id": "admin"}}, None),
        ([{"__extn": {"fn": "ip", "arg": "::1"}}], None),
        ({"a": {"__expr": "1"}}, {}),
    ],
)
def test_what_cedar_has_types_for(value: Any, told: Any) -> None:
    """The others are left out, and what it would take for an entity above all."""
    assert attributes_of({"x": value}) == ({} if told is None else {"x": told})


def test_reserved_names_are_left_out() -> None:
    """Also where they are the name of an attribute."""
    assert attributes_of({"__entity": "x", "a": "b"}) == {"a": "b"}


@pytest.mark.parametrize(
    ("policies", "more", "told"),
    [
        ("permit(principal, action, resource)", {}, "line 1"),
        (
            '// ;\npermit(principal, action, resource) when { ";" == "SECRET;" };\n\n// two\n'
            "permit(principal, action, SECRET);",
            {},
            "line 5: cannot be parsed",
        ),
        ("", {"entities": "[\n{SECRET"}, "line 2 of the entities: is not JSON"),
        ("", {"entities": '{"SECRET": 1}'}, "must be a list of objects"),
        ("", {"entities": '[{"uid": "SECRET"}]'}, "must have uids"),
        ("", {"entities": '[{"uid": {"type": "x y", "id": "SECRET"}}]'}, "cannot be parsed"),
        ("", {"schema": "entity SECRET"}, "the schema cannot be parsed"),
    ],
)
def test_what_is_wrong_is_told(policies: str, more: dict[str, str], told: str) -> None:
    """With the line of the policy, and without its text."""
    with pytest.raises(ConfigError) as failure:
        CedarPolicy(policies, **more)  # type: ignore[arg-type]
    assert told in str(failure.value)
    assert "SECRET" not in str(failure.value)
