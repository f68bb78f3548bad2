"""What makes two requests the same question, and an answer one of before."""

from __future__ import annotations

import json
import marshal
from collections.abc import Mapping
from dataclasses import fields
from hashlib import sha256

from bearer_middleware.policy.model import AccessRequest, Decision

#: What had been invalidated when a question was asked: everything, its subject, its resource type.
Generation = tuple[int, int, int]


class Generations:
    """How often the policy changed, for whom. Its caller holds the lock."""

    __slots__ = ("_all", "_number", "_size", "_subjects", "_types")

    def __init__(self, size: int) -> None:
        self._number, self._all, self._size = 0, 0, size
        self._subjects: dict[str, int] = {}
        self._types: dict[str, int] = {}

    def of(self, request: AccessRequest) -> Generation:
        """What holds for this request now. No two moments with a change between are the same."""
        return (
            self._all,
            self._subjects.get(request.subject.id, 0),
            self._types.get(request.resource.type, 0),
        )

    def bump(self, subject: str | None, resource_type: str | None) -> bool:
        """Something changed; ``True`` where that is everything."""
        self._number += 1
        if subject is not None:
            self._subjects[subject] = self._number
        if resource_type is not None:
            self._types[resource_type] = self._number
        everything = subject is None and resource_type is None
        # So many names are not remembered for ever: then it is everything that changed.
        if everything or len(self._subjects) + len(self._types) > self._size:
            self._all = self._number
            self._subjects, self._types = {}, {}
            return True
        return False


def _plain(value: object) -> object:
    """What JSON has no word for, as the request would be sent."""
    if isinstance(value, Mapping):
        return dict(value)
    if isinstance(value, set | frozenset):
        return sorted(value)
    raise TypeError


_encode = json.JSONEncoder(
    sort_keys=True, separators=(",", ":"), allow_nan=False, default=_plain
).encode


def digest_of(request: AccessRequest) -> bytes | None:
    """The same for the same request, properties and context included; ``None`` for one of which
    that cannot be said.
    """
    subject, action, resource = request.subject, request.action, request.resource
    told = (
        subject.type,
        subject.id,
        subject.properties or None,
        action.name,
        action.properties or None,
        resource.type,
        resource.id,
        resource.properties or None,
        request.context or None,
    )
    try:
        return sha256(_encode(told).encode("ascii")).digest()
    except (TypeError, ValueError, RecursionError):
        return None


def likeness_of(request: AccessRequest) -> bytes | None:
    """The same for requests that are alike to the letter, in half the time of a digest: enough for
    what is asked at this moment. Equal ones that were made in another way may differ.
    """
    subject, action, resource = request.subject, request.action, request.resource
    told = (
        (subject.type, subject.id, {**subject.properties}),
        (action.name, {**action.properties}),
        (resource.type, resource.id, {**resource.properties}),
        {**request.context},
    )
    try:
        return marshal.dumps(told, 2)
    except ValueError:  # it knows plain values alone
        return digest_of(request)


_FIELDS = tuple(field.name for field in fields(Decision) if field.name not in ("cached", "age"))
_put = object.__setattr__


def from_cache(decision: Decision, age: float) -> Decision:
    """A copy that says how many seconds old it is."""
    copy = object.__new__(Decision)
    for name in _FIELDS:
        _put(copy, name, getattr(decision, name))
    _put(copy, "cached", True)
    _put(copy, "age", age if age > 0 else 0.0)
    return copy
