"""What Cedar is told of principals and resources: entities, in its JSON."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from bearer_middleware.policy.model import AccessRequest

_Uid = tuple[str, str]
_RESERVED = frozenset({"__entity", "__extn", "__expr"})
_MOST = 2**63
_LEFT_OUT = object()
# Made once: to write ``list | tuple`` makes a type each time.
_LISTS = (list, tuple, set, frozenset)
_PLAIN = frozenset({str, bool})


@dataclass(frozen=True, slots=True, kw_only=True)
class Vocabulary:
    """How types and roles are called in the policies."""

    namespace: str = ""
    types: Mapping[str, str] = field(default_factory=dict)
    #: The property of a subject that lists its roles.
    roles: str = "roles"
    role_type: str = "Role"
    #: By type, and for ``context``: the attributes to hand on. All, where it says nothing.
    attributes: Mapping[str, frozenset[str]] = field(default_factory=dict)

    def type_of(self, kind: str) -> str:
        """A type, as the policies call it."""
        name = self.types.get(kind, kind)
        return f"{self.namespace}::{name}" if self.namespace and "::" not in name else name

    @property
    def action_type(self) -> str:
        return self.type_of("Action")

    def handed_on(self, kind: str) -> frozenset[str] | None:
        """The attributes of a type to hand on; ``None`` is all."""
        return self.attributes.get(kind)


class KnownEntities:
    """The entities of a file. Raises ``ValueError``.

    Cedar is handed those alone that a request can lead to: the principal, the action and the
    resource, those that a policy names, and from each on to its parents and to what its
    attributes name.
    """

    def __init__(self, text: str, policies: Any) -> None:
        self._entities: dict[_Uid, dict[str, Any]] = {}
        self._onward: dict[_Uid, frozenset[_Uid]] = {}
        for entity in _listed(text):
            self._entities[_uid(entity.get("uid"))] = entity
        named = set(_named(policies)) & self._entities.keys()
        self._always = frozenset(each for uid in named for each in self._reachable(uid))

    def around(self, request: AccessRequest, asked: Mapping[str, Any], words: Vocabulary) -> str:
        """The entities of one request, as JSON."""
        principal, resource = request.subject, request.resource
        told = [
            {
                "uid": asked["principal"],
                "attrs": attributes_of(principal.properties, words.handed_on(principal.type)),
                "parents": _roles(principal.properties.get(words.roles), words),
            }
        ]
        if asked["resource"] != asked["principal"]:
            told.append(
                {
                    "uid": asked["resource"],
                    "attrs": attributes_of(resource.properties, words.handed_on(resource.type)),
                    "parents": [],
                }
            )
        return json.dumps(self._with_known(told, asked) if self._entities else told)

    def _with_known(
        self, told: list[dict[str, Any]], asked: Mapping[str, Any]
    ) -> list[dict[str, Any]]:
        uids = [_uid(each["uid"]) for each in told]
        roots = [*uids, _uid(asked["action"])]
        roots += [_uid(parent) for each in told for parent in each["parents"]]
        wanted = set(self._always)
        for uid in roots:
            wanted |= self._reachable(uid)
        merged = [self._merged(uid, each) for uid, each in zip(uids, told, strict=True)]
        return merged + [self._entities[uid] for uid in wanted.difference(uids)]

    def _merged(self, uid: _Uid, told: dict[str, Any]) -> dict[str, Any]:
        known = self._entities.get(uid)
        if known is None:
            return told
        parents = {_uid(each): each for each in (*told["parents"], *known.get("parents", ()))}
        return {
            **known,
            "attrs": told["attrs"] | known.get("attrs", {}),
            "parents": list(parents.values()),
        }

    def _reachable(self, uid: _Uid) -> frozenset[_Uid]:
        """``uid``, if it is known, and all that are known onward from there."""
        if uid not in self._entities:
            return frozenset()
        found = self._onward.get(uid)  # of the file's own: no request makes it grow
        if found is None:
            seen, ahead = set[_Uid](), [uid]
            while ahead:
                one = ahead.pop()
                if one not in seen and one in self._entities:
                    seen.add(one)
                    ahead += _named(self._entities[one])
            found = self._onward[uid] = frozenset(seen)
        return found


def attributes_of(
    properties: Mapping[str, Any], handed_on: frozenset[str] | None = None
) -> dict[str, Any]:
    """Those of the properties that Cedar has types for."""
    told = {}
    for name, value in properties.items():
        if name in _RESERVED or (handed_on is not None and name not in handed_on):
            continue
        kept = value if type(value) in _PLAIN else _expressed(value)
        if kept is not _LEFT_OUT:
            told[name] = kept
    return told


def _expressed(value: Any) -> Any:
    """A value in Cedar's types, or ``_LEFT_OUT``."""
    if isinstance(value, _LISTS):
        items = [item if type(item) in _PLAIN else _expressed(item) for item in value]
        return _LEFT_OUT if any(item is _LEFT_OUT for item in items) else items
    if isinstance(value, str | bool):
        return value
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if isinstance(value, int):
        return value if -_MOST <= value < _MOST else _LEFT_OUT
    if isinstance(value, Mapping):
        return _LEFT_OUT if _RESERVED & value.keys() else attributes_of(value)
    return _LEFT_OUT


def _roles(value: Any, words: Vocabulary) -> list[dict[str, str]]:
    names: Iterable[Any] = ()
    if isinstance(value, str):
        names = (value,)
    elif isinstance(value, (*_LISTS, Mapping)):
        names = value
    kind = words.type_of(words.role_type)
    return [{"type": kind, "id": name} for name in dict.fromkeys(names) if isinstance(name, str)]


def _listed(text: str) -> list[dict[str, Any]]:
    try:
        entities = json.loads(text or "[]")
    except json.JSONDecodeError as error:
        raise ValueError(f"line {error.lineno} of the entities: is not JSON") from None
    except (ValueError, RecursionError):
        raise ValueError("the entities are not JSON") from None
    if not isinstance(entities, list) or not all(isinstance(each, dict) for each in entities):
        raise ValueError("the entities must be a list of objects")
    return entities


def _uid(value: Any) -> _Uid:
    if isinstance(value, dict):
        value = value.get("__entity", value)
        kind, identifier = value.get("type"), value.get("id")
        if isinstance(kind, str) and isinstance(identifier, str):
            return kind, identifier
    raise ValueError("the entities must have uids of type and id")


def _named(value: Any) -> Iterator[_Uid]:
    """Everything in it that could be the uid of an entity."""
    ahead: list[Any] = [value]
    while ahead:
        one = ahead.pop()
        if isinstance(one, dict):
            kind, identifier = one.get("type"), one.get("id")
            if isinstance(kind, str) and isinstance(identifier, str):
                yield kind, identifier
            ahead += one.values()
        elif isinstance(one, list):
            ahead += one
