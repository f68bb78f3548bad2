"""Local policies: roles, rules and relations in a TOML file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from bearer_middleware.errors import ConfigError
from bearer_middleware.flow.clock import Clock
from bearer_middleware.policy import local
from bearer_middleware.policy.local import LocalPolicy
from bearer_middleware.policy.model import AccessRequest, Decision, Effect, Obligation
from bearer_middleware.policy.point import AtOnce, Surroundings
from tests.policy.asking import ask

NOW = 1_700_000_000.0
ROLES = """
[roles.viewer]
permits = ["todo:read", "user:*"]

[roles.editor]
inherits = ["viewer"]
permits = ["todo:create", "todo:update_*"]

[roles.auditor]
permits = ["*:audit"]
"""


def judged(policy: str, request: AccessRequest) -> Decision:
    """The decision of a policy, at ``NOW``."""
    surroundings = Surroundings(clock=Clock(lambda: NOW, lambda: NOW))
    return LocalPolicy(policy, surroundings=surroundings).judge(request)


def rule(**members: Any) -> str:
    """One rule, in TOML."""
    named = {"name": "r", **members}
    lines = [f"{name} = {_toml(value)}" for name, value in named.items()]
    return "\n".join(["[[rules]]", *lines, ""])


def _toml(value: Any) -> str:
    if isinstance(value, dict):
        return "{" + ", ".join(f"{name} = {_toml(item)}" for name, item in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(_toml, value)) + "]"
    return f'"{value}"' if isinstance(value, str) else str(value)


def test_the_format_in_the_manual_is_one() -> None:
    """The module shows a policy that works."""
    shown = (local.__doc__ or "").split("decided in Python.\n")[1].split("\nA rule may")[0]
    policy = LocalPolicy(shown)
    assert isinstance(policy, AtOnce)
    assert policy.judge(ask("bob", "update_title")).reasons == ("role:editor",)
    frozen = policy.judge(ask("bob", "read", frozen=True))
    assert (frozen.effect, frozen.user_reason) == (Effect.DENY, "This list is frozen.")


def test_the_policy_in_the_documentation_is_one() -> None:
    """It decides as the text around it says."""
    text = (Path(__file__).parents[2] / "bearer_middleware/policy/README.md").read_text()
    policy = text.split("A local policy reads like this:\n\n```toml\n")[1].split("```")[0]
    assert judged(policy, ask("bob", "create")).reasons == ("role:editor",)
    assert judged(policy, ask("carl", "read", "1")).reasons == ("readers-read",)
    assert judged(policy, ask("bob", "delete", ownerID="bob")).max_age == 300
    assert judged(policy, ask("bob", "create", frozen=True)).user_reason == "This list is frozen."


@pytest.mark.parametrize(
    ("roles", "action", "kind", "reason"),
    [
        (["viewer"], "read", "todo", "role:viewer"),
        (["viewer"], "create", "todo", None),
        (["viewer"], "read", "list", None),
        (["viewer"], "whatever", "user", "role:viewer"),
        (["editor"], "read", "todo", "role:viewer"),
        (["editor"], "update_title", "todo", "role:editor"),
        (["editor"], "update", "todo", None),
        (["editor"], "update_title", "user", "role:viewer"),
        (["auditor"], "audit", "todo", "role:auditor"),
        (["auditor"], "audit", "never heard of", "role:auditor"),
        (["auditor", "editor"], "create", "todo", "role:editor"),
        ("editor", "create", "todo", "role:editor"),
        ({"editor": {"1": "x"}}, "create", "todo", "role:editor"),
        ("editor viewer", "read", "todo", None),
        ([["editor"], None, 1], "read", "todo", None),
        (["nobody"], "read", "todo", None),
        ([], "read", "todo", None),
        (None, "read", "todo", None),
    ],
)
def test_roles(roles: Any, action: str, kind: str, reason: str | None) -> None:
    """What a role permits, what it inherits, and with what action and type."""
    decision = judged(ROLES, ask("alice", action, kind=kind, said={"roles": roles}))
    assert decision.effect is (Effect.PERMIT if reason else Effect.NOT_APPLICABLE)
    assert decision.reasons == ((reason,) if reason else ("no_rule",))


def test_roles_from_elsewhere() -> None:
    """Every provider has its own place for roles."""
    policy = 'roles_from = ["subject.properties.realm_access.roles"]\n' + ROLES
    said = {"realm_access": {"roles": ["editor"]}, "roles": []}
    assert judged(policy, ask("alice", "create", said=said)).permitted
    assert not judged(policy, ask("alice", "create", said={"roles": ["editor"]})).permitted


def test_roles_of_subjects_that_the_policy_knows() -> None:
    """By type and id: a client with the name of a user is somebody else."""
    policy = ROLES + '[subjects."user:bob:1"]\nroles = ["editor"]\n'
    assert judged(policy, ask("bob:1", "create")).permitted
    assert not judged(policy, ask("bob:1", "create", who="client")).permitted
    assert not judged(policy, ask("bob", "create")).permitted


def test_a_circle_of_roles_ends() -> None:
    """Each has what the other has."""
    policy = """
    [roles.a]
    inherits = ["b"]
    permits = ["todo:one"]
    [roles.b]
    inherits = ["a"]
    permits = ["todo:two"]
    """
    for action in ("one", "two"):
        assert judged(policy, ask("alice", action, said={"roles": ["a"]})).permitted


def test_a_rule_wants_all_that_it_names() -> None:
    """Action, type, one of the roles, every condition, and no exception."""
    policy = ROLES + rule(
        actions=["delete"],
        resources=["todo"],
        roles=["viewer"],
        when=["resource.properties.ownerID == subject.id", "context.hour < 18"],
        unless=["resource.properties.locked == true", "context.hour == 12"],
    )

    def may(**changes: Any) -> bool:
        said = {
            "action": "delete",
            "said": {"roles": ["editor"]},
            "context": {"hour": 9},
            "ownerID": "alice",
        } | changes
        return judged(policy, ask(**said)).permitted

    assert may()
    assert not may(action="remove")
    assert not may(kind="user", said={"roles": []})
    assert not may(said={"roles": []})
    assert not may(ownerID="bob")
    assert not may(context={"hour": 18})
    assert not may(context={"hour": 12})
    assert not may(context={})
    assert not may(locked=True)


@pytest.mark.parametrize(
    ("said", "permits", "denies"),
    [({}, False, True), ({"level": "9"}, False, True), ({"level": 9}, True, False)],
)
def test_what_nobody_knows_never_helps_the_caller(
    said: dict[str, Any], permits: bool, denies: bool
) -> None:
    """What is missing does not permit, denies, is an exception where something permits, and none
    where something denies.
    """
    request = ask(said=said)
    enough, little = "subject.properties.level >= 5", "subject.properties.level < 5"
    assert judged(rule(when=enough), request).permitted is permits
    assert judged(rule(unless=little), request).permitted is permits
    for condition in ({"when": little}, {"unless": enough}):
        policy = rule(name="all") + rule(effect="deny", **condition)
        assert judged(policy, request).permitted is not denies


def test_a_denial_wins() -> None:
    """Over any number of permits, and says why to the caller where it wants to."""
    policy = ROLES + rule(name="no", effect="deny", user_reason="Not now.") + rule(name="yes")
    decision = judged(policy, ask("alice", "read", said={"roles": ["editor"]}))
    assert (decision.effect, decision.reasons) == (Effect.DENY, ("no",))
    assert decision.user_reason == "Not now."


def test_all_reasons_and_obligations_of_a_permit() -> None:
    """Of every rule that permits, since each wanted its own."""
    policy = rule(name="a", obligations=[{"type": "notify", "id": "1", "properties": {"to": "x"}}])
    decision = judged(policy + rule(name="b", obligations=[{"type": "log"}]), ask())
    assert decision.reasons == ("a", "b")
    assert decision.obligations == (Obligation("notify", "1", {"to": "x"}), Obligation("log"))


def test_obligations_of_denials_are_told_too() -> None:
    """AZ-3: the draft on obligations has them executed."""
    policy = rule(effect="deny", obligations=[{"type": "alarm"}])
    assert judged(policy, ask()).obligations == (Obligation("alarm"),)


@pytest.mark.parametrize(
    ("said", "strong"),
    [
        ({"acr": "loa2", "auth_time": NOW - 299}, True),
        ({"acr": "loa3", "auth_time": NOW - 300.0}, True),
        ({"acr": "loa3", "auth_time": NOW + 30}, True),
        ({"acr": "loa3", "auth_time": NOW + 3600}, False),
        ({"acr": "loa2", "auth_time": NOW - 301}, False),
        ({"acr": "loa1", "auth_time": NOW}, False),
        ({"acr": ["loa2"], "auth_time": NOW}, False),
        ({"acr": "loa2"}, False),
        ({"acr": "loa2", "auth_time": str(NOW)}, False),
        ({"acr": "loa2", "auth_time": True}, False),
        ({"auth_time": NOW}, False),
        ({}, False),
    ],
)
def test_stronger_authentication(said: dict[str, Any], strong: bool) -> None:
    """STEP-1: a rule that wants it denies without, and says which would do."""
    wants = {"acr": ["loa2", "loa3"], "max_age": "5m"}
    decision = judged(rule(**wants), ask(said=said))
    assert decision.permitted is strong
    if not strong:
        assert decision.effect is Effect.DENY
        assert (decision.acr_values, decision.max_age) == (("loa2", "loa3"), 300)
    assert judged(rule(**wants), ask(context=said)).permitted is strong
    # A denial with the same words spares those who have it.
    spared = judged(rule(name="weak", effect="deny", **wants) + rule(), ask(said=said))
    assert spared.permitted is strong
    assert bool(spared.acr_values) is not strong


def test_stronger_authentication_is_wanted_only_where_it_would_help() -> None:
    """STEP-2: nobody authenticates for a denial, or for what is permitted anyway."""
    wanting = rule(name="strong", acr=["loa2"])
    denied = judged(wanting + rule(name="no", effect="deny"), ask())
    assert (denied.reasons, denied.acr_values) == (("no",), ())
    weak = rule(name="weak", effect="deny", acr=["loa2"])
    both = judged(weak + rule(name="no", effect="deny"), ask())
    assert (both.reasons, both.acr_values) == (("no",), ())
    assert judged(wanting + rule(name="anyway"), ask()).reasons == ("anyway",)


RELATIONS = """
tuples = [
    "todo:1#owner@user:alice",
    "todo:1#parent@list:7",
    "list:7#parent@area:9",
    "area:9#reader@user:zoe",
    "list:7#reader@team:eng#member",
    "team:eng#member@user:carl",
    "team:eng#member@team:ops#member",
    "team:ops#member@user:olga",
    "team:ops#member@team:eng#member",
    "todo:2#reader@user:*",
    "todo:a:b#owner@user:rick@the-citadel.com",
]

[relations.todo]
reader = ["owner", "reader of parent"]

[relations.list]
reader = ["reader of parent"]

[[rules]]
name = "readers"
actions = ["read"]
relation = ["reader", "owner"]
"""


@pytest.mark.parametrize(
    ("subject", "resource", "related"),
    [
        ("alice", "1", True),
        ("carl", "1", True),
        ("olga", "1", True),
        ("zoe", "1", True),
        ("dave", "1", False),
        ("dave", "2", True),
        ("alice", "a:b", False),
        ("rick@the-citadel.com", "a:b", True),
        ("rick@the-citadel.com", "a", False),
        ("alice", "1#owner", False),
        ("alice@user:alice", "1", False),
    ],
)
def test_relations(subject: str, resource: str, related: bool) -> None:
    """Direct ones, through sets, through parents, and to everybody; circles end."""
    assert judged(RELATIONS, ask(subject, "read", resource)).permitted is related


def test_everybody_is_of_one_type() -> None:
    """``user:*`` are no clients."""
    assert not judged(RELATIONS, ask("dave", "read", "2", who="client")).permitted


def test_endless_relations_are_undecided(monkeypatch: pytest.MonkeyPatch) -> None:
    """So many steps, and no more."""
    monkeypatch.setattr("bearer_middleware.policy.relations._MOST_PLACES", 3)
    decision = judged(RELATIONS, ask("dave", "read", "1"))
    assert (decision.effect, decision.error) == (Effect.INDETERMINATE, "engine_failed")


@pytest.mark.parametrize(
    ("policy", "told"),
    [
        ("a = 1", "unknown member"),
        ("\n\nx = ", "line 3: is not TOML"),
        ("x = 1\ny = ]", "line 2: is not TOML"),
        ("\n[roles.a]\n[roles.b]\npermits = ['SECRET']", "line 3: [roles] #2 permits"),
        ("[roles.a]\npermits = 3", "text, or a list of texts"),
        ("[roles.a]\ninherits = ['SECRET']", "not in [roles]"),
        ("roles = 3", "table of tables"),
        ("roles_from = 'SECRET'", "roles_from knows no such reference"),
        ("[subjects.SECRET]", "user:alice"),
        ("[subjects.'user:a']\nproperties = 3", "line 1: [subjects] #1 properties"),
        ("tuples = ['todo:1#owner@user:x',\n'SECRET']", "line 2: tuples #2 must be a relation"),
        ("tuples = 'SECRET'", "list of relations"),
        ("[relations.todo]\nreader = ['SECRET of']", "line 1: [relations] #1 must be relations"),
        ("[relations.todo]\nreader = 'SECRET'", "lists of relations"),
        ("relations = ['SECRET']", "must be tables"),
        ("rules = 3", "list of at most"),
        ("rules = [3]", "[[rules]] #1 must be a table"),
        (rule() + rule(), "line 3: [[rules]] #2 has the name of another rule"),
        ("\n\n[[rules]]", "line 3: [[rules]] #1 needs a name"),
        (rule(SECRET="x"), "has an unknown member"),
        (rule(name="SECRET x"), "name must be a word"),
        (rule(effect="SECRET"), "effect must be permit or deny"),
        (rule(actions=[]), "actions must be"),
        (rule(actions=["a*b"]), "actions must be"),
        (rule(resources=["to*"]), "resources must be"),
        (rule(when="SECRET"), "when knows no such reference"),
        (rule(unless=["subject.id == SECRET"]), "unless knows no such reference"),
        (rule(when=3), "when must be text"),
        (rule(relation="SECRET"), "names a relation that nothing has"),
        ("[roles.a]\n" + rule(roles=["SECRET"]), "names a role that is not in [roles]"),
        (rule(user_reason=3), "user_reason must be one line"),
        (rule(max_age="SECRET"), "max_age must be a duration"),
        (rule(acr=3), "acr must be text"),
        (rule(obligations=3), "obligations must be a list"),
        (rule(obligations=[{"id": "SECRET"}]), "obligations must be a list"),
        (rule(obligations=[{"type": "x", "SECRET": "x"}]), "unknown member"),
    ],
)
def test_what_is_wrong_is_told_with_its_line(policy: str, told: str) -> None:
    """And without anything that was written."""
    with pytest.raises(ConfigError) as failure:
        LocalPolicy(policy)
    assert told in str(failure.value)
    assert "SECRET" not in str(failure.value)


def test_all_mistakes_are_told_at_once() -> None:
    """Each with its own line."""
    with pytest.raises(ConfigError) as failure:
        LocalPolicy(rule(max_age="x") + rule(name="b", effect="x"))
    assert "line 1: [[rules]] #1" in str(failure.value)
    assert "line 4: [[rules]] #2" in str(failure.value)


def test_the_version_is_that_of_the_text() -> None:
    """Two texts, two versions; one text, one version."""
    one, other = judged(rule(), ask()), judged(rule() + "# more\n", ask())
    assert one.policy_version != other.policy_version
    assert one.policy_version == judged(rule(), ask()).policy_version
    assert len(one.policy_version or "") == 12


def test_a_table_does_as_well() -> None:
    """From Python, or from the options."""
    point = LocalPolicy({"rules": [{"name": "r", "actions": "update"}]}, name="mine")
    decision = point.judge(ask())
    assert (decision.permitted, decision.point) == (True, "mine")
    assert "mine" in repr(point)
