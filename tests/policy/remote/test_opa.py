"""Open Policy Agent: a data API over a real Rego interpreter, and what else it may answer."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from typing import Any

import pytest

from bearer_middleware import ConfigError, Settings
from bearer_middleware.policy.model import (
    AccessRequest,
    Action,
    Decision,
    Effect,
    Resource,
    Subject,
)
from bearer_middleware.policy.opa import Opa
from bearer_middleware.policy.opening import open_point
from bearer_middleware.policy.point import Surroundings

RULES = """
package httpapi.authz
import rego.v1

default allow := false
allow if {
    input.action.name == "read"
    "viewer" in input.subject.properties.roles
}
allow if input.resource.properties.owner == input.subject.id

decision := {"allow": allow, "reason": "rbac", "user_reason": {"en": "Ask the owner."}}

# Only where there is an owner.
owned if {
    input.resource.properties.owner
    input.resource.properties.owner == input.subject.id
}

many := [one | some each in input.evaluations; one := each.resource.id != "secret"]

by_path if {
    input.method == "GET"
    input.path == ["todos", "1"]
    input.user == "alice"
    not input.nothing
}

odd := "true"
"""
VIEWER = Subject("user", "alice", {"roles": ["viewer"]})
BOB = Subject("user", "bob", {"roles": []})
READ = Action("read")


@pytest.fixture
def opa(pdp: Any) -> Any:
    """The data API of OPA, as far as it is used: ``POST /v1/data/<path>``."""
    regopy = pytest.importorskip("regopy", reason="no regopy, a Rego interpreter")
    interpreter = regopy.Interpreter()
    interpreter.add_module("authz", RULES)
    lock = threading.Lock()  # it is not safe under threads

    def answer(seen: Any) -> Any:
        path, _, query = seen.path.partition("?")
        rule = path.removeprefix("/v1/data/").replace("/", ".")
        with lock:
            interpreter.set_input(seen.json["input"])
            output = str(interpreter.query(f"x=data.{rule}"))
        told: dict[str, Any] = {"decision_id": "4ca6"}
        if output.startswith("{"):
            told["result"] = json.loads(output)["bindings"]["x"]
        if query == "provenance=true":
            told["provenance"] = {"version": "1.9", "bundles": {"authz": {"revision": "r7"}}}
        return pdp.wire(told)

    pdp.otherwise = answer
    return pdp


def asked(subject: Subject, number: str = "1", **properties: Any) -> AccessRequest:
    """May the subject read it?"""
    return AccessRequest(subject, READ, Resource("todo", number, properties))


@pytest.mark.parametrize("rule", ["allow", "decision"])
def test_a_rule_decides(opa: Any, ask: Any, rule: str) -> None:
    """A boolean or an object, from a real interpreter; the input is AuthZEN's model."""
    point = Opa(opa.url, decision_path=f"httpapi/authz/{rule}", timeout=30)
    requests = [asked(VIEWER), asked(BOB), asked(BOB, owner="bob"), asked(BOB, owner="alice")]
    decisions = ask(point.decide_many(requests, opa.soon()))
    assert [decision.permitted for decision in decisions] == [True, False, True, False]
    assert {decision.decision_id for decision in decisions} == {"4ca6"}
    assert opa.seen[0].json == {
        "input": {
            "subject": {"type": "user", "id": "alice", "properties": {"roles": ["viewer"]}},
            "action": {"name": "read"},
            "resource": {"type": "todo", "id": "1"},
        }
    }
    told = (("rbac",), "Ask the owner.") if rule == "decision" else ((), None)
    assert (decisions[0].reasons, decisions[0].user_reason) == told


def test_a_rule_that_is_undefined_does_not_apply(opa: Any, ask: Any) -> None:
    """No permit, and no denial either; as where there is no such rule."""
    for rule in ("owned", "none", "none/such"):
        point = Opa(opa.url, decision_path=f"httpapi/authz/{rule}", timeout=30)
        decision = ask(point.decide(asked(VIEWER), opa.soon()))
        assert decision.effect is Effect.NOT_APPLICABLE
    owned = Opa(opa.url, decision_path="httpapi/authz/owned", timeout=30)
    assert ask(owned.decide(asked(BOB, owner="bob"), opa.soon())).permitted


def test_a_text_is_no_permit(opa: Any, ask: Any) -> None:
    """AZ-2."""
    point = Opa(opa.url, decision_path="httpapi/authz/odd", timeout=30)
    assert ask(point.decide(asked(VIEWER), opa.soon())).error == "not_a_decision"


def test_a_whole_package(opa: Any, ask: Any) -> None:
    """Its rules are members of an object; another key names another one."""
    for key, effect in (("allow", Effect.PERMIT), ("owned", Effect.NOT_APPLICABLE)):
        point = Opa(f"{opa.url}/v1/data/httpapi/authz", result_key=key, timeout=30)
        assert ask(point.decide(asked(VIEWER), opa.soon())).effect is effect


def test_a_rule_for_many(opa: Any, ask: Any) -> None:
    """One exchange; a single question goes to the single rule."""
    point = Opa(
        opa.url,
        decision_path="httpapi/authz/allow",
        batch_path="httpapi/authz/many",
        timeout=30,
    )
    requests = [asked(BOB, "1"), asked(BOB, "secret"), asked(BOB, "3")]
    decisions = ask(point.decide_many(requests, opa.soon()))
    assert [decision.permitted for decision in decisions] == [True, False, True]
    assert opa.paths == ["/v1/data/httpapi/authz/many"]
    ask(point.decide_many(requests[:1], opa.soon()))
    assert opa.paths[1:] == ["/v1/data/httpapi/authz/allow"]


def test_an_input_of_ones_own(opa: Any, ask: Any) -> None:
    """Names that a policy has already. What they refer to and is not there is left out."""
    point = Opa(
        opa.url,
        decision_path="httpapi/authz/by_path",
        timeout=30,
        input={
            "method": "$action.properties.method",
            "path": "$context.path",
            "user": "$subject.id",
            "nothing": "$context.nothing",
            "constant": {"x": 1},
        },
    )
    request = AccessRequest(
        VIEWER,
        Action("read", {"method": "GET"}),
        Resource("todo", "1"),
        {"path": ["todos", "1"]},
    )
    assert ask(point.decide(request, opa.soon())).permitted
    assert opa.seen[0].json["input"] == {
        "method": "GET",
        "path": ["todos", "1"],
        "user": "alice",
        "constant": {"x": 1},
    }


def test_what_a_caller_says_is_no_reference(opa: Any, ask_here: Any) -> None:
    """Only the mapping refers, the values never do."""
    point = Opa(opa.url, decision_path="a/b", input={"id": "$resource.id"}, timeout=30)
    ask_here(point.decide(asked(BOB, "$subject.id"), opa.soon()))
    assert opa.seen[0].json["input"] == {"id": "$subject.id"}


def test_the_version_of_the_policy(opa: Any, ask: Any) -> None:
    """Where OPA is asked for its provenance."""
    point = Opa(opa.url, decision_path="httpapi/authz/allow", provenance=True, timeout=30)
    assert ask(point.decide(asked(VIEWER), opa.soon())).policy_version == "r7"


@pytest.fixture
def decide(pdp: Any, ask_here: Any) -> Callable[[Any], Decision]:
    """What becomes of this answer."""

    def one(answer: Any) -> Decision:
        pdp.otherwise = answer
        point = Opa(pdp.url, decision_path="a/allow", timeout=30)
        decision: Decision = ask_here(point.decide(asked(VIEWER), pdp.soon()))
        return decision

    return one


@pytest.mark.parametrize(
    ("provenance", "version"),
    [
        ({"revision": "r1"}, "r1"),
        ({"bundles": {"b": {"revision": "r2"}, "a": {"revision": "r1"}}}, "a=r1,b=r2"),
        ({"bundles": {"a": {"revision": "r1"}}, "revision": "r0"}, "r1"),
        ({"bundles": {}}, None),
        ({"bundles": {"a": 7}}, None),
        ("x", None),
    ],
)
def test_each_form_of_provenance(decide: Any, provenance: Any, version: str | None) -> None:
    """One bundle or several, or a revision without bundles."""
    assert decide({"result": True, "provenance": provenance}).policy_version == version


def test_all_that_a_result_may_say(decide: Any) -> None:
    """STEP-1: which authentication would do; and what else a permit asks for."""
    decision = decide(
        {
            "result": {
                "allow": False,
                "reasons": ["old_login", "no_mfa"],
                "acr_values": ["loa3"],
                "max_age": 300,
                "obligations": [{"type": "mask", "id": "1"}],
            }
        }
    )
    assert decision.effect is Effect.DENY
    assert decision.reasons == ("old_login", "no_mfa")
    assert (decision.acr_values, decision.max_age) == (("loa3",), 300)
    assert [obligation.type for obligation in decision.obligations] == ["mask"]


@pytest.mark.parametrize("allow", ["true", 1, None, [], {}], ids=repr)
def test_an_object_permits_only_by_true(decide: Any, allow: Any) -> None:
    """AZ-2."""
    assert decide({"result": {"allow": allow}}).effect is Effect.INDETERMINATE


def test_a_batch_that_is_undefined_does_not_apply(pdp: Any, ask: Any) -> None:
    """To none of them."""
    pdp.otherwise = {}
    point = Opa(pdp.url, decision_path="a/one", batch_path="a/many", timeout=30)
    decisions = ask(point.decide_many([asked(BOB)] * 2, pdp.soon()))
    assert [decision.effect for decision in decisions] == [Effect.NOT_APPLICABLE] * 2


def test_more_than_it_shall_be_asked(pdp: Any, ask_here: Any) -> None:
    """Without a rule for many each is a query, and their number is bounded."""
    pdp.otherwise = {"result": True}
    point = Opa(pdp.url, decision_path="a/one", most=2, timeout=30)
    decisions = ask_here(point.decide_many([asked(BOB)] * 4, pdp.soon()))
    assert [decision.permitted for decision in decisions] == [True, True, False, False]
    assert {decision.error for decision in decisions[2:]} == {"too_many_questions"}
    assert len(pdp.seen) == 2


def settings(**more: Any) -> Settings:
    """An API whose decisions are made elsewhere."""
    return Settings(issuer="https://as.example", audience="api", policy="opa", **more)


@pytest.mark.parametrize(
    ("url", "options", "path"),
    [
        ("", {"decision_path": "a/b"}, "/v1/data/a/b"),
        ("/", {"decision_path": "/v1/data/a/b"}, "/v1/data/a/b"),
        ("/opa", {"decision_path": "a/b"}, "/opa/v1/data/a/b"),
        ("/v1/data/a/b", {}, "/v1/data/a/b"),
        ("/opa/v1/data/a/b/", {}, "/opa/v1/data/a/b"),
        ("", {"decision_path": "a", "provenance": "true"}, "/v1/data/a?provenance=true"),
    ],
)
def test_it_is_opened_from_the_settings(
    pdp: Any, ask_here: Any, url: str, options: Any, path: str
) -> None:
    """The rule is named by an option, or by the address."""
    pdp.otherwise = {"result": True}
    said = settings(policy_url=pdp.url + url, policy_options=options, policy_timeout=30)
    point = open_point(said, Surroundings())
    assert isinstance(point, Opa)
    assert point.name == "opa"
    assert [upstream.target for upstream in point.upstreams] == ["policy"]
    assert ask_here(point.decide(asked(BOB), pdp.soon())).permitted
    assert pdp.paths == [path]


@pytest.mark.parametrize(
    ("url", "options"),
    [
        ("", {}),
        ("/v1/data/a", {"decision_path": "b"}),
        ("", {"decision_path": "../a"}),
        ("", {"decision_path": "a?x"}),
        ("/v1/data/a%2f", {}),
        ("", {"decision_path": "a", "batch_path": "a b"}),
        ("", {"decision_path": "a", "input": {"x": "$token.sub"}}),
        ("", {"decision_path": "a", "input": {"x": ["$token.sub"]}}),
        ("", {"decision_path": "a", "input": "x"}),
        ("", {"decision_path": "a", "most": 0}),
        ("?x=1", {"decision_path": "a"}),
    ],
)
def test_wrong_options(url: str, options: Any) -> None:
    """Named when it is built."""
    said = settings(policy_url=f"https://opa.example{url}", policy_options=options)
    with pytest.raises(ConfigError, match=r"BEARER_POLICY_|decision_path"):
        open_point(said, Surroundings())
