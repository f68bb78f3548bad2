"""The language of local rules: what holds, what does not, and what is missing."""

from __future__ import annotations

from typing import Any

import pytest

from bearer_middleware.policy.conditions import condition, reference
from tests.policy.asking import ask

REQUEST = ask(
    "alice",
    said={
        "level": 3,
        "groups": ["dev", "ops"],
        "tenant": "acme",
        "admin": 1,
        "deep": {"a": {"b": True}},
        "https://x/role": "boss",
        "roles": {"editor": {}},
        "word": "admins",
    },
    context={"hour": 9.5, "nan": float("nan")},
    ownerID="alice",
    frozen=False,
    size="10",
    tenant="acme",
    none=None,
)

HOLDS = [
    "resource.properties.ownerID == subject.id",
    "subject.properties.tenant == resource.properties.tenant",
    "subject.type == 'user'",
    'action.name == "update"',
    "resource.id != '2'",
    "resource.type in ['todo', 'list']",
    "'dev' in subject.properties.groups",
    "'qa' not in subject.properties.groups",
    "'editor' in subject.properties.roles",
    "subject.properties.level >= 3",
    "subject.properties.level < 3.5",
    "context.hour > 9",
    "-1 < subject.properties.level",
    "subject.properties.deep.a.b == true",
    "subject.properties.'https://x/role' == 'boss'",
    'subject.properties."https://x/role" is present',
    "resource.properties.frozen == false",
    "resource.properties.none is absent",
    "resource.properties.frozen is present",
    "subject.properties.level in [1, 2, 3]",
    "subject.properties.level not in []",
]
#: Neither where something permits nor where it denies.
FALSE = [
    "resource.properties.ownerID == resource.id",
    "subject.properties.admin == true",
    "subject.properties.admin == '1'",
    "resource.properties.frozen == 0",
    "true in subject.properties.groups",
    "subject.properties.nothing == subject.properties.nothing",
    "subject.properties.nothing in ['a']",
    "'a' in subject.properties.nothing",
    "subject.properties.nothing == 'x'",
    "subject.properties.level > 3",
    "subject.properties.level is absent",
]
#: Nobody can know: true where something denies, and only there.
UNKNOWN = [
    "subject.properties.nothing != 'x'",
    "subject.properties.nothing not in ['x']",
    "'x' not in subject.properties.nothing",
    "'admin' in subject.properties.word",
    "'admin' not in subject.properties.word",
    "subject.properties.nothing > 3",
    "resource.properties.size < 20",
    "context.nan < 3",
    "subject.properties.groups >= 1",
]
BROKEN = [
    "",
    "subject.id",
    "subject.id = 'x'",
    "subject.id == ",
    "subject.id == 'x' 'y'",
    'subject.id == "x',
    "'x' == 'y'",
    "subject == 'x'",
    "subject.name == 'x'",
    "subject.properties == 'x'",
    "token.sub == 'x'",
    "subject.id not 'x'",
    "subject.id is odd",
    "'x' is present",
    "subject.id in ['x'",
    "subject.id in ['x' 'y']",
    "subject.id in [subject.type]",
    "subject.id == 'x' or subject.id == 'y'",
    "__import__('os') == 1",
    "subject.id.__class__ == 'x'",
    None,
    3,
]


def holds(written: str, *, wary: bool) -> bool:
    """Does it, for the request above?"""
    return condition(written, wary=wary)(REQUEST, {})


@pytest.mark.parametrize("written", HOLDS)
def test_holds(written: str) -> None:
    """Whoever asks."""
    assert holds(written, wary=False)
    assert holds(written, wary=True)


@pytest.mark.parametrize("written", FALSE)
def test_does_not_hold(written: str) -> None:
    """Types count, and what is missing is equal to nothing."""
    assert not holds(written, wary=False)
    assert not holds(written, wary=True)


@pytest.mark.parametrize("written", UNKNOWN)
def test_what_nobody_can_know_never_helps_the_caller(written: str) -> None:
    """It does not permit, and it denies."""
    assert not holds(written, wary=False)
    assert holds(written, wary=True)


@pytest.mark.parametrize("written", BROKEN)
def test_broken_ones_are_told_of(written: Any) -> None:
    """In words that do not repeat them."""
    with pytest.raises(ValueError) as failure:  # noqa: PT011 - its text is looked at
        condition(written, wary=False)
    assert "'x'" not in str(failure.value)


def test_what_the_policy_knows_counts_more_than_what_the_token_says() -> None:
    """Facts come before properties."""
    asks = condition("subject.properties.tenant == 'other'", wary=False)
    assert asks(REQUEST, {"tenant": "other"})
    assert not asks(REQUEST, {})


@pytest.mark.parametrize("written", ["'x'", "1", "subject.id == 'x'", "", None, "subject"])
def test_a_reference_is_nothing_else(written: Any) -> None:
    """Where one is wanted."""
    with pytest.raises(ValueError, match="reference"):
        reference(written)
