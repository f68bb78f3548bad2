"""What a Rego rule says, as a decision: a boolean, or an object with a boolean in it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from bearer_middleware.policy.model import Decision, Effect, Obligation, indeterminate


def verdict(result: Any, *, defined: bool, point: str, version: str | None) -> Decision:
    """Only ``true`` permits, by itself or as ``allow``; nothing at all is not applicable, and
    what cannot be read is indeterminate.
    """
    allowed = result.get("allow") if isinstance(result, Mapping) else result
    if not defined:
        effect = Effect.NOT_APPLICABLE
    elif isinstance(allowed, bool):
        effect = Effect.PERMIT if allowed else Effect.DENY
    else:
        return indeterminate("no_boolean", point=point)
    try:
        more = _more(result) if isinstance(result, Mapping) else {}
    except _UnreadableError:
        return indeterminate("unreadable_result", point=point)
    return Decision(effect=effect, point=point, policy_version=version, **more)


class _UnreadableError(Exception):
    """A member is not what its name says."""


def _more(result: Mapping[str, Any]) -> dict[str, Any]:
    more: dict[str, Any] = {}
    for name in ("reasons", "acr_values"):
        if name in result:
            more[name] = _texts(result[name])
    if "obligations" in result:
        more["obligations"] = tuple(map(_obligation, _items(result["obligations"])))
    for name, member, kind in (
        ("user_reason", "user_reason", str),
        ("id", "decision_id", str),
        ("max_age", "max_age", int),
    ):
        if name in result:
            value = result[name]
            if not isinstance(value, kind) or isinstance(value, bool):
                raise _UnreadableError
            more[member] = value
    return more


def _items(value: Any) -> list[Any]:
    if isinstance(value, list | tuple):
        return list(value)
    # A set of Rego comes as a list, or as the members of an object.
    if isinstance(value, set | frozenset):
        return sorted(value, key=str)
    raise _UnreadableError


def _texts(value: Any) -> tuple[str, ...]:
    items = _items([value] if isinstance(value, str) else value)
    if not all(isinstance(item, str) for item in items):
        raise _UnreadableError
    return tuple(items)


def _obligation(value: Any) -> Obligation:
    if not isinstance(value, Mapping):
        raise _UnreadableError
    kind, identifier = value.get("type"), value.get("id", "")
    properties = value.get("properties", {})
    readable = isinstance(kind, str) and isinstance(identifier, str)
    if not readable or not isinstance(properties, Mapping):
        raise _UnreadableError
    return Obligation(str(kind), str(identifier), properties)
