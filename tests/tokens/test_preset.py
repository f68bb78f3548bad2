"""How claims are read by a preset."""

from __future__ import annotations

import copy
import pickle
from typing import Any

import pytest

from bearer_middleware.tokens.claims import jwt_rules
from bearer_middleware.tokens.facts import CLIENT, OPAQUE, USER, facts_of, preset_facts
from bearer_middleware.tokens.preset import USUAL, Preset, at, named, preset_of


def test_the_usual_rules_have_nothing_special() -> None:
    """Who names no provider gets what there was before there were any."""
    rules = jwt_rules("https://as", frozenset({"a"}), 30.0, "compatible")
    assert rules.preset is USUAL
    assert not rules.required


@pytest.mark.parametrize(
    "claims",
    [
        {"sub": "a", "client_id": "b"},
        {"sub": "a", "client_id": "a"},
        {"sub": "a", "azp": "a"},
        {"client_id": "b"},
        {"client_id": "b", "username": "u"},
        {"username": "u"},
        {"username": 7},
        {},
        {"sub": "", "azp": "z"},
    ],
)
@pytest.mark.parametrize("opaque", [False, True])
def test_facts_by_the_usual_preset_are_the_usual_facts(claims: Any, opaque: bool) -> None:
    """One says the same as the other, fallbacks included."""
    expected = facts_of(claims, b"{}", "https://as", opaque)
    assert preset_facts(USUAL, claims, b"{}", "https://as", opaque) == expected


def test_a_subject_of_several_claims() -> None:
    """All of them, or the next that is whole."""
    preset = Preset(subject=(("oid", "tid"), ("sub",)))
    assert preset.subject_of({"oid": "o", "tid": "t", "sub": "s"}) == "o.t"
    assert preset.subject_of({"oid": "o", "tid": "", "sub": "s"}) == "s"
    assert preset.subject_of({"oid": "o", "tid": 7}) is None


def test_a_machine_is_a_client_by_either_name() -> None:
    """By ``sub``, or what stands in its place; or as the product has it."""
    preset = Preset(subject=(("uid",), ("sub",)), client=("cid",))
    assert preset_facts(preset, {"sub": "c", "cid": "c"}, b"", None, False)[2] == CLIENT
    assert preset_facts(preset, {"sub": "c", "cid": "c", "uid": "u"}, b"", None, False)[2] == CLIENT
    assert preset_facts(preset, {"sub": "c", "uid": "u"}, b"", None, True)[2] == USER | OPAQUE


@pytest.mark.parametrize("value", [None, [], "a", {"b": None}, {"b": []}, {"b": 7}, 7])
def test_paths_that_lead_nowhere(value: Any) -> None:
    """What is not an object has no members."""
    preset = Preset(roles=(("a", "b", "c"),), tenant=(("a", "b", "c"),))
    claims = {"a": value}
    assert at(claims, ("a", "b", "c")) is None
    assert (preset.roles_of(claims), preset.tenant_of(claims)) == (frozenset(), None)


def test_a_name_tells_of_its_preset_wherever_it_goes() -> None:
    """Copied, or sent to another process; what is plain text tells of the usual one."""
    preset = Preset(title="Some")
    name = named("https://as.example", preset)
    for each in (name, copy.copy(name), copy.deepcopy(name), pickle.loads(pickle.dumps(name))):
        assert each == "https://as.example"
        assert preset_of(each) == preset
    assert preset_of("https://as.example") is USUAL
    assert preset_of(None) is USUAL
