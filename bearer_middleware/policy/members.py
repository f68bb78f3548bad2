"""``BEARER_POLICY_OPTIONS``: the members that a kind of decision point knows."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeVar

from bearer_middleware.errors import ConfigError
from bearer_middleware.settings.parsing import Parser, Unreadable

T = TypeVar("T")

#: Read by whoever puts the questions, whatever the decision point.
_READ_ELSEWHERE = frozenset({"subject_type", "claims"})
_OPTIONS = "BEARER_POLICY_OPTIONS"


def members_of(options: Mapping[str, object], known: Mapping[str, Parser[Any]]) -> dict[str, Any]:
    """What is said, read and under its own name. Raises ``ConfigError`` with every mistake."""
    read: dict[str, Any] = {}
    mistakes: list[str] = []
    if options.keys() - known.keys() - _READ_ELSEWHERE:
        names = ", ".join(known)
        mistakes.append(f"{_OPTIONS}: has an unknown member; the known ones are {names}")
    for name in known:
        if options.get(name) is None:
            continue
        try:
            read[name] = known[name](options[name])
        except Unreadable as wrong:
            mistakes.append(f"{_OPTIONS}: {name} {wrong}")
    if mistakes:
        raise ConfigError(mistakes)
    return read


def given(name: str, parse: Parser[T], value: object) -> T:
    """A keyword given in Python, as strict as the settings are. Raises ``ConfigError``."""
    try:
        return parse(value)
    except Unreadable as wrong:
        mistake = f"{name}: {wrong}"
    raise ConfigError(mistake)
