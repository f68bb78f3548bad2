"""The table of a local policy: read, validated, and every mistake told with its line."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from bearer_middleware.policy.conditions import Condition, Getter, condition, reference
from bearer_middleware.policy.kept import line_at
from bearer_middleware.policy.local_members import (
    ACTION,
    TYPE,
    actions,
    members,
    obligations,
    seconds,
    sentence,
    texts,
    types,
    word,
)
from bearer_middleware.policy.model import Obligation
from bearer_middleware.policy.relations import Entity, Relations
from bearer_middleware.settings.parsing import is_list, is_table

_TABLES = ("roles_from", "tuples", "roles", "subjects", "relations", "rules")
_MOST_RULES = 10_000


@dataclass(frozen=True, slots=True)
class Role:
    """What a role permits: pairs of a resource type and an action, each with ``*``."""

    permits: tuple[tuple[str, str], ...] = ()
    inherits: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """One row of ``[[rules]]``."""

    name: str
    denies: bool = False
    actions: tuple[str, ...] = ("*",)
    resources: tuple[str, ...] = ("*",)
    roles: tuple[str, ...] = ()
    relations: tuple[str, ...] = ()
    when: tuple[Condition, ...] = ()
    unless: tuple[Condition, ...] = ()
    user_reason: str | None = None
    obligations: tuple[Obligation, ...] = ()
    acr: tuple[str, ...] = ()
    max_age: int | None = None


@dataclass(frozen=True, slots=True)
class KnownSubject:
    """What the policy itself knows of a subject."""

    roles: tuple[str, ...] = ()
    properties: Mapping[str, Any] = field(default_factory=dict, repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class LocalTable:
    """All that a local policy says."""

    roles_from: tuple[Getter, ...]
    roles: Mapping[str, Role]
    subjects: Mapping[Entity, KnownSubject]
    relations: Relations
    rules: tuple[Rule, ...]


def read_table(table: Mapping[str, Any], text: str = "") -> LocalTable:
    """The policy that ``table`` says; ``text`` is its TOML, for the numbers of lines. Raises
    ``ValueError`` with all mistakes, and without anything that was written.
    """
    mistakes = _Mistakes(text)
    with mistakes.at():
        members(table, _TABLES)
    read: dict[str, Any] = {
        "roles_from": (reference("subject.properties.roles"),),
        "roles": {},
        "subjects": {},
        "relations": Relations(),
    }
    with mistakes.at():
        if "roles_from" in table:
            read["roles_from"] = _references(table["roles_from"])
    with mistakes.at():
        read["roles"] = dict(_each(table, "roles", _role, mistakes))
        _know_roles(read["roles"])
    with mistakes.at():
        read["subjects"] = {
            _entity(name): subject for name, subject in _each(table, "subjects", _subject, mistakes)
        }
    with mistakes.at():
        read["relations"] = _relations(table, mistakes)
    rules = _rules(table, read["roles"], read["relations"], mistakes)
    mistakes.tell()
    return LocalTable(**read, rules=rules)


class _Mistakes:
    """All that is wrong, in the order it was found."""

    def __init__(self, text: str) -> None:
        self._text, self._found = text, list[str]()

    @contextmanager
    def at(self, header: str = "", number: int = 1) -> Iterator[None]:
        """Note what is wrong below the ``number``-th ``header``, and go on."""
        try:
            yield
        except ValueError as error:
            self._found.append(f"{self._where(header, number)}{error}")

    @contextmanager
    def where(self, written: object, name: str) -> Iterator[None]:
        """The same for what stands somewhere in the text."""
        try:
            yield
        except ValueError as error:
            place = self._text.find(written) if isinstance(written, str) else -1
            line = f"line {line_at(self._text, place)}: " if place >= 0 else ""
            self._found.append(f"{line}{name} {error}")

    def tell(self) -> None:
        if self._found:
            raise ValueError("; ".join(self._found))

    def _where(self, header: str, number: int) -> str:
        if not header:
            return ""
        name = f"[[{header}]] #{number}" if header == "rules" else f"[{header}] #{number}"
        opening = r"\[\[\s*rules\s*\]\]" if header == "rules" else rf"\[\s*{header}\s*\.[^\]\n]+\]"
        found = list(re.finditer(rf"(?m)^[ \t]*{opening}", self._text))
        if len(found) < number:
            return f"{name} "
        return f"line {line_at(self._text, found[number - 1].end())}: {name} "


def _each(
    table: Mapping[str, Any], name: str, read: Callable[[Any], Any], mistakes: _Mistakes
) -> Iterator[tuple[str, Any]]:
    named = table.get(name, {})
    if not is_table(named):
        raise ValueError(f"{name} must be a table of tables")
    for number, (key, value) in enumerate(named.items(), 1):
        with mistakes.at(name, number):
            yield key, read(value)


def _role(value: object) -> Role:
    written = members(value, ("permits", "inherits"))
    permits = tuple(map(_permission, texts(written.get("permits", []))))
    return Role(permits, texts(written.get("inherits", [])))


def _permission(written: str) -> tuple[str, str]:
    kind, _, action = written.partition(":")
    if not TYPE.fullmatch(kind) or not ACTION.fullmatch(action):
        raise ValueError(
            "permits must be a list of type:action, such as todo:read, todo:* or *:read"
        )
    return kind, action


def _know_roles(roles: Mapping[str, Role]) -> None:
    if any(other not in roles for role in roles.values() for other in role.inherits):
        raise ValueError("a role inherits one that is not in [roles]")


def _subject(value: object) -> KnownSubject:
    written = members(value, ("roles", "properties"))
    properties = written.get("properties", {})
    if not is_table(properties):
        raise ValueError("properties must be a table")
    return KnownSubject(texts(written.get("roles", [])), properties)


def _entity(name: str) -> Entity:
    kind, colon, identifier = name.partition(":")
    if not (kind and colon and identifier):
        raise ValueError('[subjects] must have names such as "user:alice"')
    return kind, identifier


def _references(value: object) -> tuple[Getter, ...]:
    try:
        return tuple(map(reference, texts(value)))
    except ValueError as error:
        raise ValueError(f"roles_from {error}") from None


def _relations(table: Mapping[str, Any], mistakes: _Mistakes) -> Relations:
    tuples, derived = table.get("tuples", []), table.get("relations", {})
    if not is_list(tuples):
        raise ValueError("tuples must be a list of relations such as todo:1#owner@user:alice")
    if not is_table(derived):
        raise ValueError("relations must be tables, such as [relations.todo]")
    relations = Relations()
    for number, written in enumerate(tuples, 1):
        with mistakes.where(written, f"tuples #{number}"):
            relations.add(written)
    for number, (kind, named) in enumerate(derived.items(), 1):
        with mistakes.at("relations", number):
            if not is_table(named) or not all(map(is_list, named.values())):
                raise ValueError("must have lists of relations")
            for relation, sources in named.items():
                relations.derive(kind, relation, sources)  # type: ignore[arg-type]
    return relations


def _rules(
    table: Mapping[str, Any], roles: Mapping[str, Role], relations: Relations, mistakes: _Mistakes
) -> tuple[Rule, ...]:
    rows = table.get("rules", [])
    read: list[Rule] = []
    known = relations.names()
    if not is_list(rows) or len(rows) > _MOST_RULES:
        rows = []
        with mistakes.at():
            raise ValueError(f"rules must be a list of at most {_MOST_RULES} tables")
    for number, row in enumerate(rows, 1):
        with mistakes.at("rules", number):
            rule = _rule(row)
            if any(rule.name == other.name for other in read):
                raise ValueError("has the name of another rule")
            if not known.issuperset(rule.relations):
                raise ValueError("names a relation that nothing has")
            if roles and not roles.keys() >= set(rule.roles):
                raise ValueError("names a role that is not in [roles]")
            read.append(rule)
    return tuple(read)


def _rule(row: object) -> Rule:
    written = dict(members(row, _MEMBERS))
    effect = written.pop("effect", "permit")
    if effect not in ("permit", "deny"):
        raise ValueError("effect must be permit or deny")
    denies = effect == "deny"
    read: dict[str, Any] = {"denies": denies}
    for name, wary in (("when", denies), ("unless", not denies)):
        conditions = texts(written.pop(name, []), name)
        try:
            read[name] = tuple(condition(text, wary=wary) for text in conditions)
        except ValueError as error:
            raise ValueError(f"{name} {error}") from None
    for name, value in written.items():
        read["relations" if name == "relation" else name] = _PARSERS[name](value, name)
    if "name" not in read:
        raise ValueError("needs a name, for logs and audit")
    return Rule(**read)


_PARSERS: Mapping[str, Callable[[object, str], Any]] = {
    "name": word,
    "actions": actions,
    "resources": types,
    "roles": texts,
    "relation": texts,
    "user_reason": sentence,
    "obligations": obligations,
    "acr": texts,
    "max_age": seconds,
}
_MEMBERS = ("name", "effect", *list(_PARSERS)[1:5], "when", "unless", *list(_PARSERS)[5:])
