"""Casbin in this process: the mapping of requests, the rule that matched, what is wrong."""

from __future__ import annotations

import logging
from typing import Any

import pytest

from bearer_middleware.errors import ConfigError
from bearer_middleware.policy.casbin import CasbinPolicy
from bearer_middleware.policy.model import Effect
from tests.policy.asking import ask
from tests.policy.test_policy_files import MODEL

RULES = """
# who may do what
p, editor, todo, update
p, viewer, todo, read
g, alice, editor
g, editor, viewer
"""
DENIES = MODEL.replace("p = sub, obj, act", "p = sub, obj, act, eft").replace(
    "some(where (p.eft == allow))", "some(where (p.eft == allow)) && !some(where (p.eft == deny))"
)
DOMAINS = """
[request_definition]
r = sub, obj, act, dom
[policy_definition]
p = sub, obj, act, dom
[role_definition]
g = _, _, _
[policy_effect]
e = some(where (p.eft == allow))
[matchers]
m = g(r.sub, p.sub, r.dom) && r.obj == p.obj && r.act == p.act && r.dom == p.dom
"""


def test_the_usual_request() -> None:
    """Subject, type and action; the rule that matched is the reason."""
    point = CasbinPolicy(RULES, MODEL)
    decision = point.judge(ask("alice", "read"))
    assert (decision.effect, decision.reasons) == (Effect.PERMIT, ("viewer, todo, read",))
    assert decision.policy_version
    assert point.judge(ask("alice", "delete")).effect is Effect.DENY
    assert point.judge(ask("bob", "read")).reasons == ()


def test_nobody_is_a_role_by_being_called_so() -> None:
    """To Casbin a user with the name of a role would have it."""
    point = CasbinPolicy(RULES, MODEL)
    for name in ("editor", "viewer"):
        decision = point.judge(ask(name, "read"))
        assert (decision.effect, decision.reasons) == (Effect.DENY, ("subject_named_as_role",))


def test_denying_rules() -> None:
    """Where the model has them, they win."""
    rules = "p, alice, todo, update, allow\np, alice, todo, update, deny\n"
    assert CasbinPolicy(rules.splitlines()[0], DENIES).judge(ask()).permitted
    decision = CasbinPolicy(rules, DENIES).judge(ask())
    assert (decision.effect, decision.reasons) == (Effect.DENY, ("alice, todo, update, deny",))


def test_domains() -> None:
    """A fourth value, of a tenant; a request without one is undecided."""
    request = ("subject.id", "resource.type", "action.name", "subject.properties.tenant")
    rules = "p, editor, todo, update, acme\ng, alice, editor, acme"
    point = CasbinPolicy(rules, DOMAINS, request=request)
    assert point.judge(ask(said={"tenant": "acme"})).permitted
    assert not point.judge(ask(said={"tenant": "other"})).permitted
    decision = point.judge(ask())
    assert (decision.effect, decision.error) == (Effect.INDETERMINATE, "missing_value")


def test_whole_entities() -> None:
    """A matcher may look into them; what is not there is undecided, and never equal."""
    model = MODEL.replace("p = sub, obj, act", "p = act").replace("g = _, _", "g = _, _")
    matcher = "m = r.obj.properties.owner == r.sub.properties.email && r.act == p.act"
    model = model[: model.index("m = ")] + matcher
    point = CasbinPolicy("p, update", model, request=("subject", "resource", "action.name"))
    assert point.judge(ask(said={"email": "a"}, owner="a")).permitted
    assert point.judge(ask(said={"email": "a"}, owner="b")).effect is Effect.DENY
    assert point.judge(ask()).effect is Effect.INDETERMINATE
    assert point.judge(ask(said={"email": "a"})).effect is Effect.INDETERMINATE


def test_requests_are_not_logged(caplog: pytest.LogCaptureFixture) -> None:
    """Casbin itself would log every refused one as a warning."""
    caplog.set_level(logging.DEBUG)
    CasbinPolicy(RULES, MODEL).judge(ask("SECRET", "read"))
    assert "SECRET" not in caplog.text


@pytest.mark.parametrize(
    ("rules", "model", "more", "told"),
    [
        ("p, a, todo, read\n\np, SECRET", MODEL, {}, "line 3: is no rule of the model"),
        ("p, a, todo, read\nq, SECRET, b, c", MODEL, {}, "line 2"),
        ("p2, SECRET, b, c", MODEL, {}, "line 1"),
        ("g, SECRET", MODEL, {}, "line 1"),
        ("(, SECRET", MODEL, {}, "line 1"),
        ("p, (SECRET, b, c", MODEL, {}, "line 1"),
        ("p, SECRET), b, c", MODEL, {}, "line 1"),
        (RULES, "SECRET", {}, "the model cannot be read"),
        (RULES, "", {}, "the model cannot be read"),
        (RULES, MODEL.replace("&&", "&& SECRET ="), {}, "the matcher of the model"),
        (RULES, MODEL, {"request": ("subject.id",)}, "another number of values"),
        (RULES, MODEL, {"request": ("SECRET.id",) * 3}, "no such reference"),
    ],
)
def test_what_is_wrong_is_told(rules: str, model: str, more: dict[str, Any], told: str) -> None:
    """With the line of the rule, and without its text."""
    with pytest.raises(ConfigError) as failure:
        CasbinPolicy(rules, model, **more)
    assert told in str(failure.value)
    assert "SECRET" not in str(failure.value)
