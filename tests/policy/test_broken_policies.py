"""Policies that are cut off, mixed up or no policies at all: a ConfigError, or a policy."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bearer_middleware.errors import ConfigError
from bearer_middleware.policy.casbin import CasbinPolicy
from bearer_middleware.policy.cedar import CedarPolicy
from bearer_middleware.policy.local import LocalPolicy
from bearer_middleware.policy.model import Effect
from bearer_middleware.policy.point import InProcess
from bearer_middleware.policy.rego import RegoPolicy
from tests.policy.asking import OWNERS_CEDAR, OWNERS_LOCAL, OWNERS_MODEL, OWNERS_REGO, owner_asks

ENTITIES = '[{"uid": {"type": "user", "id": "x"}, "attrs": {}, "parents": []}]'
MAKE: dict[str, tuple[str, Callable[[str], InProcess]]] = {
    "local": (OWNERS_LOCAL, LocalPolicy),
    "cedar": (OWNERS_CEDAR, CedarPolicy),
    "cedar entities": (ENTITIES, lambda text: CedarPolicy("", entities=text)),
    "casbin": ("p, todo, update\n", lambda text: CasbinPolicy(text, OWNERS_MODEL)),
    "casbin model": (OWNERS_MODEL, lambda text: CasbinPolicy("p, todo, update", text)),
    "regorus": (OWNERS_REGO, lambda text: RegoPolicy(text, engine="regorus")),
    "regopy": (OWNERS_REGO, lambda text: RegoPolicy(text, engine="regopy")),
}
EACH = pytest.mark.parametrize("name", MAKE)
SCRAPS = st.sampled_from(
    ["", "\n", '"', "[", "]]", "{", "}", "(", ")", "=", "==", "#", "//", ",", "p", "g, a, b\n", "é"]
)


def built(name: str, text: str) -> InProcess | None:
    """The policy of a text, if it is one."""
    try:
        return MAKE[name][1](text)
    except ConfigError:
        return None


@EACH
@settings(deadline=None, max_examples=80)
@given(data=st.data())
def test_mutilated_ones(name: str, data: st.DataObject) -> None:
    """A piece of it taken out, and a scrap put in: it decides, or is a mistake, and that is all."""
    text = MAKE[name][0]
    begin = data.draw(st.integers(0, len(text)))
    end = data.draw(st.integers(begin, len(text)))
    point = built(name, text[:begin] + data.draw(SCRAPS) + text[end:])
    if point is not None:
        assert point.judge(owner_asks("alice", "alice")).effect in Effect


@EACH
@settings(deadline=None, max_examples=50)
@given(text=st.text(max_size=60))
def test_any_text(name: str, text: str) -> None:
    """What is no policy permits nothing."""
    point = built(name, text)
    if point is not None:
        assert not point.judge(owner_asks("alice", "bob")).permitted
