"""The object itself, the table behind it, and what no input may do."""

from __future__ import annotations

import dataclasses
import pickle
import re
import warnings
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import bearer_middleware
from bearer_middleware.errors import ConfigError
from bearer_middleware.settings import IssuerSettings, Settings
from bearer_middleware.settings.keywords import IssuerKeywords, Keywords
from bearer_middleware.settings.variables import TABLE, Reach, Variable

GOOD: dict[str, Any] = {"issuer": "https://as.example", "audience": "orders"}


def names(kind: type[Any]) -> set[str]:
    """The names of a dataclass's fields."""
    return {field.name for field in dataclasses.fields(kind)}


def test_table_class_and_keywords_agree() -> None:
    """What the table serves are the attributes and the keywords, of servers and of issuers."""
    per_issuer = {one.keyword for one in TABLE if one.reach is not Reach.SERVER}
    assert names(IssuerSettings) == set(IssuerKeywords.__annotations__) == per_issuer
    everything = {one.keyword for one in TABLE} | {"issuers"}
    assert names(Settings) == set(Keywords.__annotations__) == everything


def test_guardhouse_no_setting_is_without_effect() -> None:
    """One of its options did nothing, silently: somebody reads every setting of ours."""
    sources = [file.read_text() for file in Path(bearer_middleware.__file__).parent.rglob("*.py")]
    read = set(re.findall(r"(?<=\.)[a-z_]+\b", "\n".join(sources)))
    assert {one.holds or one.keyword for one in TABLE} <= read


def test_table_is_complete() -> None:
    """Every setting is described once, in one line."""
    assert len({one.keyword for one in TABLE}) == len(TABLE)
    assert all(one.summary and "\n" not in one.summary for one in TABLE)
    assert TABLE[0].name == "BEARER_ISSUER"


@pytest.mark.parametrize("variable", TABLE, ids=lambda one: one.keyword)
def test_defaults_are_values(variable: Variable) -> None:
    """A default is what the setting's own parser would make of it."""
    if variable.default is not None:
        assert variable.parse(variable.default) == variable.default


def test_defaults() -> None:
    """With an issuer and an audience everything else has its documented default."""
    settings = Settings(**GOOD)
    defaults = {one.keyword: one.default for one in TABLE}
    said = {"issuer": "https://as.example", "audience": ("orders",), "issuers": settings.issuers}
    assert {name: getattr(settings, name) for name in names(Settings)} == defaults | said
    (issuer,) = settings.issuers
    for name in names(IssuerSettings):
        assert getattr(issuer, name) == getattr(settings, name)


def test_frozen() -> None:
    """Settings cannot be changed, and can be keys of a mapping."""
    settings = Settings(**GOOD)
    with pytest.raises(dataclasses.FrozenInstanceError):
        settings.leeway = 5  # type: ignore[misc]
    with pytest.raises((AttributeError, TypeError)):
        settings.novelty = 5  # type: ignore[attr-defined]
    assert {settings: 1}[Settings(**GOOD)] == 1
    assert settings != Settings(**GOOD, leeway=5)


def test_without_secrets_they_travel() -> None:
    """Settings without a secret can be sent to another process."""
    settings = Settings(**GOOD)
    assert pickle.loads(pickle.dumps(settings)) == settings


junk = st.text(max_size=40) | st.sampled_from(
    ["true", "5m", "https://a.example", "http://a/b?c", "HS256", "/a/*", "/etc/passwd", "/", "none"]
)
anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | junk | st.binary(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(junk, inner, max_size=3),
    max_leaves=6,
)


def build(make: Any, *arguments: Any, **keywords: Any) -> None:
    """Settings, or a ConfigError whose every mistake is one line."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            made = make(*arguments, **keywords)
        except ConfigError as error:
            made = error
    if isinstance(made, ConfigError):
        assert made.mistakes
        assert all(mistake.isprintable() for mistake in made.mistakes)
    else:
        assert isinstance(made, Settings)


@given(st.dictionaries(st.sampled_from([one.name for one in TABLE]) | junk, junk))
def test_any_variables(environ: dict[str, str]) -> None:
    """Whatever the variables say, the outcome is settings or a ConfigError."""
    build(Settings.from_env, environ)
    build(Settings.from_env, environ, **GOOD)


@given(
    st.dictionaries(st.sampled_from([one.keyword for one in TABLE]) | junk, anything, max_size=6),
    anything | st.lists(st.dictionaries(st.sampled_from([one.keyword for one in TABLE]), anything)),
)
def test_any_keywords(keywords: dict[str, Any], issuers: Any) -> None:
    """Whatever the keywords are, the outcome is settings or a ConfigError."""
    build(Settings, **keywords)
    build(Settings, **keywords | {"issuers": issuers})
