"""``BEARER_POLICY_OPTIONS``: the members that a kind of decision point knows."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeVar

from bearer_middleware.errors import ConfigError
from bearer_middleware.settings import grammar
from bearer_middleware.settings.parsing import Parser, Unreadable

T = TypeVar("T")

#: Read by whoever puts the questions, whatever the decision point.
READ_ELSEWHERE = frozenset({"subject_type", "claims"})
_OPTIONS = "BEARER_POLICY_OPTIONS"


def members_of(options: Mapping[str, object], known: Mapping[str, Parser[Any]]) -> dict[str, Any]:
    """What is said, read and under its own name. Raises ``ConfigError`` with every mistake."""
    read: dict[str, Any] = {}
    mistakes: list[str] = []
    if options.keys() - known.keys() - READ_ELSEWHERE:
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


def address(name: str, value: object, parse: Parser[str], *, insecure: bool) -> str:
    """An address of a decision point: plain http is for one on this machine, as a sidecar is.
    Raises ``ConfigError``.
    """
    url = given(name, parse, value)
    if grammar.is_plain(url) and not grammar.is_loopback(url) and not insecure:
        allowed = "allow_insecure_http=True for development"
        raise ConfigError(f"{name}: goes over http to another machine; use https, or {allowed}")
    return url


def given(name: str, parse: Parser[T], value: object) -> T:
    """A keyword given in Python, as strict as the settings are. Raises ``ConfigError``."""
    try:
        return parse(value)
    except Unreadable as wrong:
        mistake = f"{name}: {wrong}"
    raise ConfigError(mistake)
