"""Permit.io: what is sent is what its own SDK sends, and what is read is what it reads."""

from __future__ import annotations

import asyncio
import warnings
from collections.abc import Callable
from typing import Any

import pytest

from bearer_middleware import ConfigError, Settings
from bearer_middleware.policy.model import AccessRequest, Action, Effect, Resource, Subject
from bearer_middleware.policy.opening import open_point
from bearer_middleware.policy.permit import Granted, Permit
from bearer_middleware.policy.point import Surroundings

KEY = "permit_key_of_nobody"
PROFILE = {"first_name": "Alice", "last_name": "L", "email": "a@example.com", "level": 3}


def request(subject: Subject, resource: Resource, **context: Any) -> AccessRequest:
    """May the subject read it?"""
    return AccessRequest(subject, Action("read"), resource, context)


#: Ours, and the arguments of the SDK's ``check`` that mean the same.
SAME = {
    "plain": (
        request(Subject("user", "auth0|alice"), Resource("document", "42")),
        ("auth0|alice", "read", "document:42"),
    ),
    "a collection": (
        request(Subject("user", "alice"), Resource("document", "*")),
        ("alice", "read", {"type": "document"}),
    ),
    "colons": (
        request(Subject("user", "a:b"), Resource("document", "x:y:z")),
        ("a:b", "read", {"type": "document", "key": "x:y:z"}),
    ),
    "a tenant": (
        request(Subject("user", "alice"), Resource("document", "42", {"tenant": "acme"})),
        ("alice", "read", {"type": "document", "key": "42", "tenant": "acme"}),
    ),
    "attributes": (
        request(
            Subject("user", "alice", PROFILE),
            Resource("document", "42", {"owner": "bob", "tags": ["x"]}),
            ip="192.0.2.1",
        ),
        (
            {
                "key": "alice",
                "first_name": "Alice",
                "last_name": "L",
                "email": "a@example.com",
                "attributes": {"level": 3},
            },
            "read",
            {"type": "document", "key": "42", "attributes": {"owner": "bob", "tags": ["x"]}},
            {"ip": "192.0.2.1"},
        ),
    ),
    "letters": (
        request(Subject("user", "älice\n\"'"), Resource("document", "\u2028/../<>")),
        ("älice\n\"'", "read", {"type": "document", "key": "\u2028/../<>"}),
    ),
}


@pytest.fixture
def sdk(pdp: Any) -> Callable[[str], Any]:
    """Call a method of the real SDK against the same decision point."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of its own deprecated names
        permit = pytest.importorskip("permit", reason="no permit, the SDK of Permit.io")

    def call(name: str, *arguments: Any) -> Any:
        async def go() -> Any:
            client = permit.Permit(token=KEY, pdp=pdp.url)
            return await getattr(client, name)(*arguments)

        return asyncio.run(go())

    return call


@pytest.fixture
def point(pdp: Any) -> Permit:
    """Ours."""
    return Permit(pdp.url, token=KEY, timeout=30)


@pytest.mark.needs("permit")
@pytest.mark.filterwarnings("ignore")  # of the SDK
@pytest.mark.parametrize("case", SAME)
def test_one_question_is_the_sdks(pdp: Any, ask: Any, sdk: Any, point: Permit, case: str) -> None:
    """The same bytes to the same place, and the same answer of it."""
    ours, theirs = SAME[case]
    for allow in (True, False):
        pdp.seen.clear()
        pdp.answers["/allowed"] = {"allow": allow, "result": allow, "debug": {"rbac": {}}}
        decision = ask(point.decide(ours, pdp.soon()))
        assert decision.permitted is sdk("check", *theirs) is allow
        mine, its = pdp.seen
        assert mine.body == its.body
        assert (mine.method, mine.path) == (its.method, its.path)
        for name in ("content-type", "authorization"):
            assert mine.headers[name] == its.headers[name]


@pytest.mark.needs("permit")
@pytest.mark.filterwarnings("ignore")
def test_many_questions_are_the_sdks(pdp: Any, ask: Any, sdk: Any, point: Permit) -> None:
    """The same list, and the same answers in its order."""
    allowed = [index % 2 == 0 for index in range(len(SAME))]
    pdp.answers["/allowed/bulk"] = {"allow": [{"allow": each, "result": each} for each in allowed]}
    decisions = ask(point.decide_many([ours for ours, _ in SAME.values()], pdp.soon()))
    names = ("user", "action", "resource", "context")
    checks = [dict(zip(names, theirs, strict=False)) for _, theirs in SAME.values()]
    assert [decision.permitted for decision in decisions] == sdk("bulk_check", checks) == allowed
    mine, its = pdp.seen
    assert mine.body == its.body
    assert mine.path == its.path == "/allowed/bulk"


@pytest.mark.needs("permit")
@pytest.mark.filterwarnings("ignore")
def test_permissions_are_the_sdks(pdp: Any, ask: Any, sdk: Any, point: Permit) -> None:
    """The same question; its answer under names of ours."""
    told = {
        "__tenant:default": {
            "tenant": {"key": "default", "attributes": {}},
            "permissions": ["document:read"],
            "roles": ["viewer"],
        },
        "document:42": {"resource": {"key": "42"}, "permissions": ["document:update"]},
    }
    pdp.answers["/user-permissions"] = told
    flow = point.user_permissions(
        Subject("user", "alice"), pdp.soon(), tenants=["default"], resource_types=["document"]
    )
    permissions = ask(flow)
    theirs = sdk("get_user_permissions", "alice", ["default"], None, ["document"])
    assert permissions.granted.keys() == theirs.keys()
    assert permissions.granted["__tenant:default"] == Granted(
        frozenset({"document:read"}), frozenset({"viewer"})
    )
    assert permissions.granted["document:42"].roles == frozenset()
    mine, its = pdp.seen
    assert mine.json == its.json


@pytest.mark.parametrize(
    "answer",
    [
        {"x": None},
        {"x": {"permissions": "document:read"}},
        {"x": {"permissions": [1]}},
        {"x": {"permissions": [], "roles": [None]}},
        {"detail": "debug"},
    ],
)
def test_odd_permissions_are_none(pdp: Any, ask_here: Any, point: Permit, answer: Any) -> None:
    """Nothing is taken for granted, and a word of ours says why."""
    pdp.answers["/user-permissions"] = answer
    permissions = ask_here(point.user_permissions(Subject("user", "alice"), pdp.soon()))
    assert (dict(permissions.granted), permissions.error) == ({}, "not_permissions")


def test_permissions_that_cannot_be_had(pdp: Any, ask_here: Any, point: Permit) -> None:
    """As decisions: never an exception."""
    permissions = ask_here(point.user_permissions(Subject("user", "alice"), pdp.soon()))
    assert permissions.error == "status_404"
    odd = ask_here(point.user_permissions(Subject("user", "\ud800"), pdp.soon()))
    assert odd.error == "unsendable"


@pytest.mark.parametrize(
    ("subject", "resource", "tenant"),
    [
        ({}, {}, "mine"),
        ({"org": "acme"}, {}, "acme"),
        ({"org": "acme"}, {"tenant": "other"}, "other"),
        ({"org": ""}, {"tenant": ""}, "mine"),
        ({"tenant": "acme"}, {}, "mine"),
    ],
)
def test_whose_tenant_it_is(
    pdp: Any, ask_here: Any, subject: Any, resource: Any, tenant: str
) -> None:
    """The resource's, else the subject's, else the one that is configured."""
    pdp.answers["/allowed"] = {"allow": True}
    point = Permit(pdp.url, timeout=30, tenant="mine", tenant_property="org")
    asked = request(Subject("user", "alice", subject), Resource("document", "1", resource))
    assert ask_here(point.decide(asked, pdp.soon())).permitted
    sent = pdp.seen[0].json["resource"]
    assert sent == {
        "type": "document",
        "key": "1",
        "tenant": tenant,
        "context": {"tenant": tenant},
    }


@pytest.mark.parametrize("odd", [7, ["acme"], {"id": "acme"}, True, 0, []], ids=repr)
@pytest.mark.parametrize("many", [1, 2])
def test_a_tenant_that_is_no_text(pdp: Any, ask_here: Any, odd: Any, many: int) -> None:
    """AZ-2. The subject is somebody's, but not the usual tenant's: nobody asks about that one."""
    pdp.answers = {"/allowed": {"allow": True}, "/allowed/bulk": {"allow": [{"allow": True}] * 2}}
    point = Permit(pdp.url, timeout=30, tenant="mine", tenant_property="org")
    asked = [
        request(Subject("user", "alice", {"org": odd}), Resource("document", "1")),
        request(Subject("user", "alice"), Resource("document", "1", {"tenant": odd})),
    ]
    for one in asked:
        decisions = ask_here(point.decide_many([one] * many, pdp.soon()))
        assert [each.reasons for each in decisions] == [("unsendable",)] * many
    assert pdp.seen == []


def test_only_allow_counts(pdp: Any, ask: Any, point: Permit) -> None:
    """Its older mirror decides nothing, whatever it says."""
    asked = request(Subject("user", "alice"), Resource("document", "1"))
    pdp.answers["/allowed"] = {"allow": False, "result": True}
    assert ask(point.decide(asked, pdp.soon())).effect is Effect.DENY
    pdp.answers["/allowed"] = {"result": True}
    assert ask(point.decide(asked, pdp.soon())).effect is Effect.INDETERMINATE


def test_debug_is_kept_only_where_asked_for(pdp: Any, ask_here: Any, point: Permit) -> None:
    """It tells of the policy's inside."""
    asked = request(Subject("user", "alice"), Resource("document", "1"))
    pdp.answers["/allowed"] = {"allow": True, "query": {"x": 1}, "debug": {"rbac": {}}}
    assert dict(ask_here(point.decide(asked, pdp.soon())).context) == {}
    telling = Permit(pdp.url, timeout=30, debug=True)
    decision = ask_here(telling.decide(asked, pdp.soon()))
    assert dict(decision.context) == {"debug": {"rbac": {}}, "query": {"x": 1}}
    assert "rbac" not in repr(decision)


def test_many_go_in_bounded_batches(pdp: Any, ask: Any) -> None:
    """A rest of one is a single question."""
    pdp.answers["/allowed"] = {"allow": True}
    pdp.answers["/allowed/bulk"] = lambda seen: pdp.wire(
        {"allow": [{"allow": True} for _ in seen.json]}
    )
    point = Permit(pdp.url, timeout=30, batch_size=2)
    asked = request(Subject("user", "alice"), Resource("document", "1"))
    decisions = ask(point.decide_many([asked] * 5, pdp.soon()))
    assert [decision.permitted for decision in decisions] == [True] * 5
    assert pdp.paths == ["/allowed/bulk", "/allowed/bulk", "/allowed"]


def test_it_is_opened_from_the_settings(pdp: Any, ask: Any) -> None:
    """The options are the keywords; the API key is ``BEARER_POLICY_TOKEN``."""
    pdp.answers["/allowed"] = {"allow": True}
    said = Settings(
        issuer="https://as.example",
        audience="api",
        policy="permit",
        policy_url=f"{pdp.url}/",
        policy_token=KEY,
        policy_timeout=30,
        policy_options={"tenant": "acme"},
    )
    point = open_point(said, Surroundings())
    assert isinstance(point, Permit)
    assert point.name == "permit"
    assert [upstream.target for upstream in point.upstreams] == ["policy"]
    asked = request(Subject("user", "alice"), Resource("document", "1"))
    assert ask(point.decide(asked, pdp.soon())).permitted
    assert pdp.seen[0].headers["authorization"] == f"Bearer {KEY}"
    assert pdp.seen[0].json["resource"]["tenant"] == "acme"


def test_wrong_options() -> None:
    """Named, and no secret shown."""
    said = {"issuer": "https://as.example", "audience": "api", "policy": "permit"}
    for options, word in (({"tenant": 7}, "tenant"), ({"x": 1}, "unknown member")):
        settings = Settings(**said, policy_url="https://pdp.example", policy_options=options)
        with pytest.raises(ConfigError, match=f"BEARER_POLICY_OPTIONS: .*{word}"):
            open_point(settings, Surroundings())
    settings = Settings(**said, policy_url="https://pdp.example?x=1")
    with pytest.raises(ConfigError, match="BEARER_POLICY_URL"):
        open_point(settings, Surroundings())
