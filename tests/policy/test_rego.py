"""Rego in this process, by both engines: what a rule says, and what that is worth."""

from __future__ import annotations

from typing import Any

import pytest

from bearer_middleware.errors import ConfigError
from bearer_middleware.policy.model import Decision, Effect, Obligation
from bearer_middleware.policy.rego import RegoPolicy
from bearer_middleware.policy.told import UNREADABLE
from bearer_middleware.policy.verdict import verdict
from tests.policy.asking import ask

ENGINE = pytest.mark.parametrize("engine", ["regorus", "regopy"])
HEAD = "package authz\nimport rego.v1\n"


def judged(rule: str, engine: str, **more: Any) -> Decision:
    """The decision of a rule ``allow``."""
    return RegoPolicy(HEAD + rule, engine=engine, **more).judge(ask())


@ENGINE
@pytest.mark.parametrize(
    ("rule", "effect"),
    [
        ("allow := true", Effect.PERMIT),
        ("allow := false", Effect.DENY),
        ('allow if input.subject.id == "alice"', Effect.PERMIT),
        ('allow if input.subject.id == "bob"', Effect.NOT_APPLICABLE),
        ('default allow := false\nallow if input.subject.id == "bob"', Effect.DENY),
        ('allow := {"allow": true}', Effect.PERMIT),
        ('allow := {"allow": false}', Effect.DENY),
        ('allow := {"allow": "true"}', Effect.INDETERMINATE),
        ('allow := {"allow": 1}', Effect.INDETERMINATE),
        ('allow := {"result": true}', Effect.NOT_APPLICABLE),
        ('allow := "true"', Effect.INDETERMINATE),
        ("allow := 1", Effect.INDETERMINATE),
        ("allow := null", Effect.INDETERMINATE),
        ("allow := [true]", Effect.INDETERMINATE),
        ('allow := {"allow": null}', Effect.INDETERMINATE),
    ],
)
def test_only_true_permits(rule: str, effect: Effect, engine: str) -> None:
    """AZ-2: a false rule denies, one that is undefined is not applicable."""
    assert judged(rule, engine).effect is effect


@ENGINE
def test_an_object_may_say_more(engine: str) -> None:
    """AZ-8: reasons, what the caller may know, obligations, stronger authentication."""
    decision = judged(
        """
        allow := {
            "allow": false, "reasons": ["a", input.resource.id], "user_reason": "No.",
            "obligations": [{"type": "notify", "id": "1", "properties": {"to": "x"}}],
            "acr_values": ["loa2"], "max_age": 300, "id": "d1", "else": {"debug": true}
        }
        """,
        engine,
    )
    assert decision == Decision(
        effect=Effect.DENY,
        reasons=("a", "1"),
        user_reason="No.",
        obligations=(Obligation("notify", "1", {"to": "x"}),),
        acr_values=("loa2",),
        max_age=300,
        decision_id="d1",
        point="rego",
        policy_version=decision.policy_version,
    )
    assert decision.policy_version


@ENGINE
@pytest.mark.parametrize("path", ["other.rule", "other/rule", "data.other.rule", "/other/rule/"])
def test_the_path_of_the_rule(path: str, engine: str) -> None:
    """In any of the spellings that are in use."""
    point = RegoPolicy("package other\nrule := true", decision_path=path, engine=engine)
    assert point.judge(ask()).permitted


@ENGINE
def test_data(engine: str) -> None:
    """Beside the policy."""
    rule = "allow if input.subject.id in data.people"
    assert judged(rule, engine, data='{"people": ["alice"]}').permitted
    assert not judged(rule, engine, data='{"people": ["bob"]}').permitted


@ENGINE
@pytest.mark.parametrize(
    ("policy", "more", "told"),
    [
        ("SECRET := true", {}, "line 1: there is no package"),
        (HEAD + "\nallow if { SECRET ==== 1 }", {}, "line 4: cannot be compiled"),
        (HEAD + '\nallow if { "SECRET }', {}, "line 4: cannot be compiled"),
        ("package a", {"data": '{\n"SECRET": }'}, "the data, line 2"),
    ],
)
def test_what_is_wrong_is_told(
    policy: str, more: dict[str, Any], told: str, engine: str, capfd: pytest.CaptureFixture[str]
) -> None:
    """With its line, and without its text."""
    with pytest.raises(ConfigError) as failure:
        RegoPolicy(policy, engine=engine, **more)
    assert told in str(failure.value)
    assert "SECRET" not in str(failure.value)
    assert "SECRET" not in "".join(capfd.readouterr())


def test_a_rule_that_is_not_there() -> None:
    """One of the engines can tell; to the other it is undefined for ever, and permits nothing."""
    with pytest.raises(ConfigError, match="no rule at decision_path"):
        RegoPolicy("package a", engine="regorus")
    assert RegoPolicy("package a", engine="regopy").judge(ask()).effect is Effect.NOT_APPLICABLE


@pytest.mark.parametrize("path", ["", "a b", "a[0]", "a\nb", "a-b", "x := true", 3])
def test_a_path_is_nothing_else(path: Any) -> None:
    """It is part of a query, so it is names and dots."""
    with pytest.raises(ValueError, match=r"must be|is empty"):
        RegoPolicy("package a", decision_path=path)


@pytest.mark.parametrize(
    "obligations", [{}, "notify", [3], [{"type": 3.5}], [{"type": "x", "properties": 3}]]
)
def test_no_obligation_is_lost(obligations: Any) -> None:
    """One that cannot be read is one that nobody can meet."""
    decision = verdict({"allow": True, "obligations": obligations}, point="x", version=None)
    assert decision.obligations == (UNREADABLE,)


def test_what_else_cannot_be_read_is_left_out() -> None:
    """It decides nothing; line breaks and the like are taken out of what will be logged."""
    said = {"allow": False, "reasons": ["a\nb", {}], "user_reason": 3, "max_age": "x", "id": []}
    decision = verdict(said, point="x", version=None)
    assert decision == Decision(effect=Effect.DENY, reasons=("a b",), point="x")
