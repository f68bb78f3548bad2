"""What a local policy wants to know of subjects: their roles, and how they authenticated."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from bearer_middleware.policy.local_table import KnownSubject, LocalTable, Rule
from bearer_middleware.policy.model import AccessRequest

#: Seconds by which the issuer's clock may be ahead of ours: what BEARER_LEEWAY is by default.
_LEEWAY = 30


class Roles:
    """The roles of one subject, looked up when a rule first wants to know."""

    __slots__ = ("_known", "_names", "_request", "_table")

    def __init__(self, request: AccessRequest, known: KnownSubject, table: LocalTable) -> None:
        self._request, self._known, self._table = request, known, table
        self._names: dict[str, None] | None = None

    def names(self) -> dict[str, None]:
        """Their names, each once, in the order they were found in."""
        if self._names is None:
            found = dict.fromkeys(self._known.roles)
            for get in self._table.roles_from:
                found |= dict.fromkeys(_role_names(get(self._request, self._known.properties)))
            self._names = found
        return self._names


def strong_enough(rule: Rule, request: AccessRequest, now: float) -> bool:
    """Did the subject authenticate as ``rule`` wants it? Where that is not known, no."""
    if rule.acr and _told("acr", request) not in rule.acr:
        return False
    if rule.max_age is None:
        return True
    at = _told("auth_time", request)
    if not isinstance(at, int | float) or isinstance(at, bool):
        return False
    return -_LEEWAY <= now - at <= rule.max_age


def _told(name: str, request: AccessRequest) -> Any:
    """A claim about the authentication: of the subject, or of the circumstances."""
    value = request.subject.properties.get(name)
    return request.context.get(name) if value is None else value


def _role_names(value: Any) -> list[str]:
    """A role, a list of them, or an object whose members are roles, as Zitadel has it."""
    if isinstance(value, str):
        return [value]
    if isinstance(value, list | tuple | set | frozenset | Mapping):
        return [each for each in value if isinstance(each, str)]
    return []


def heirs_of(table: LocalTable) -> dict[str, set[str]]:
    """For each role all that have what it has: itself, and whoever inherits from it."""
    heirs: dict[str, set[str]] = {name: {name} for name in table.roles}
    for name in table.roles:
        ahead, seen = [name], {name}
        while ahead:
            for other in table.roles[ahead.pop()].inherits:
                if other not in seen:
                    seen.add(other)
                    ahead.append(other)
                    heirs[other].add(name)
    return heirs
