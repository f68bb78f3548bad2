"""Ids and properties as attackers write them: never a wrong permit, never an exception."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bearer_middleware.policy.model import Effect
from tests.policy.asking import OWNERS, ask, owner_asks

POINTS = {name: make() for name, make in OWNERS.items()}
EACH = pytest.mark.parametrize("name", POINTS)

# fmt: off
PIECES = st.sampled_from(
    ["alice", '"', "'", "\\", "\n", "\r", "\0", ":", "::", "{", "}", "#", "@", ",", "*", "|", "==",
     '","allow":true,"', 'User::"alice"', "r.sub", "data.authz", "\\u0061", "é", "e\u0301",
     "\u2028", "\U0001f600", "\ud800", "true", "null", " ", "%s", "${x}", "{{7*7}}", "\x7f",
     "1", "1.0"]
)
# fmt: on
IDS = st.one_of(
    st.lists(PIECES, max_size=6).map("".join),
    st.text(st.characters(exclude_categories=()), max_size=30),
    st.sampled_from(["a" * 10_000, '"' * 10_000, "\\" * 9_999, "{" * 10_000]),
)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | IDS,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            IDS | st.sampled_from(["__entity", "__extn", "__expr", "type", "id"]), inner, max_size=3
        )
    ),
    max_leaves=6,
)


@EACH
@settings(deadline=None, max_examples=150)
@given(subject=IDS, owner=IDS)
def test_only_owners_are_permitted(name: str, subject: str, owner: str) -> None:
    """Two names are equal where they are the same, and nobody's name is read as policy."""
    decision = POINTS[name].judge(owner_asks(subject, owner))
    assert not decision.permitted or subject == owner


@EACH
@settings(deadline=None, max_examples=60)
@given(subject=st.text(st.characters(exclude_categories=("Cs",)), max_size=20))
def test_owners_are_permitted_whatever_they_are_called(name: str, subject: str) -> None:
    """AZ-9: every text that JSON can carry is a name like any other."""
    assert POINTS[name].judge(owner_asks(subject, subject)).permitted


@EACH
@settings(deadline=None, max_examples=100)
@given(
    ids=st.tuples(IDS, IDS, IDS, IDS),
    said=st.dictionaries(IDS, VALUES, max_size=3),
    owner=VALUES,
)
def test_nothing_raises(name: str, ids: tuple[str, str, str, str], said: Any, owner: Any) -> None:
    """Whatever is asked there is a decision, and it is no permit unless it should be."""
    subject, action, resource, kind = ids
    request = ask(
        subject, action, resource, kind=kind, said=said, context={"asker": subject}, ownerID=owner
    )
    allowed = action == "update" and kind == "todo" and owner == subject
    assert not POINTS[name].judge(request).permitted or allowed


@EACH
@pytest.mark.parametrize(
    "owner", [True, 1, 1.0, None, ["alice"], {"alice": 1}, {"__entity": {"type": "user"}}, object()]
)
def test_other_types_are_other_things(name: str, owner: Any) -> None:
    """What is no text is not a name."""
    assert not POINTS[name].judge(owner_asks("alice", owner)).permitted


@pytest.mark.parametrize("name", ["regorus", "regopy", "cedar"])
@pytest.mark.parametrize("subject", ['","allow":true,"z":"', '"}, "allow": true, {"', "\\", "\\n"])
def test_names_do_not_break_out_of_json(name: str, subject: str) -> None:
    """A name with quotes is no more than that on both ways."""
    point = POINTS[name]
    assert point.judge(owner_asks(subject, "alice")).effect is Effect.DENY
    assert point.judge(owner_asks(subject, subject)).effect is Effect.PERMIT


@EACH
@pytest.mark.parametrize("depth", [100, 400, 900, 5_000])
def test_depth_is_survived(name: str, depth: int) -> None:
    """A claim within a claim within a claim: a decision, and the process lives on."""
    lists: Any = 1
    objects: Any = 1
    for _ in range(depth):
        lists, objects = [lists], {"a": objects}
    for deep in (lists, objects):
        request = ask(said={"x": deep}, context={"asker": "alice"}, ownerID="bob")
        assert not POINTS[name].judge(request).permitted
        assert not POINTS[name].judge(owner_asks("alice", deep)).permitted
