"""What is asked and what is answered: the information model of OpenID AuthZEN 1.0.

An :class:`AccessRequest` says who (subject) wants to do what (action) to what (resource), under
which circumstances (context). A :class:`Decision` is the answer of one decision point, in the
words of XACML. Only ``Effect.PERMIT`` lets anybody through.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from types import MappingProxyType
from typing import Any

_SCALARS = frozenset({str, int, bool, float})

#: Of no properties: one for all, and nobody can write into it.
NOTHING: Mapping[str, Any] = MappingProxyType({})


def _nothing() -> Mapping[str, Any]:
    return NOTHING


@dataclass(frozen=True, slots=True)
class Subject:
    """Who asks (AuthZEN section 5.1): ``type`` is ``user`` or ``client`` where nothing else was
    configured.
    """

    type: str
    id: str
    properties: Mapping[str, Any] = field(default_factory=_nothing, repr=False)


@dataclass(frozen=True, slots=True)
class Resource:
    """What it is done to (section 5.2). ``id`` is data, never part of a policy or of a name."""

    type: str
    id: str
    properties: Mapping[str, Any] = field(default_factory=_nothing, repr=False)


@dataclass(frozen=True, slots=True)
class Action:
    """What is done (section 5.3)."""

    name: str
    properties: Mapping[str, Any] = field(default_factory=_nothing, repr=False)


@dataclass(frozen=True, slots=True)
class AccessRequest:
    """May this subject do this to that (section 5)?"""

    subject: Subject
    action: Action
    resource: Resource
    context: Mapping[str, Any] = field(default_factory=_nothing, repr=False)


class Effect(StrEnum):
    """What a decision point makes of a request."""

    PERMIT = "permit"
    DENY = "deny"
    #: It has no policy for such a request. Nobody is let through.
    NOT_APPLICABLE = "not_applicable"
    #: It could not decide, or could not be asked. Nobody is let through: 503.
    INDETERMINATE = "indeterminate"


@dataclass(frozen=True, slots=True)
class Obligation:
    """What has to be done before a permit holds. One that nobody here can do is a denial."""

    type: str
    id: str = ""
    properties: Mapping[str, Any] = field(default_factory=_nothing, repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """The answer to one request.

    ``reasons`` are for logs and audit: ids of policies, short words. ``user_reason`` alone may
    be shown to the caller. ``acr_values`` and ``max_age`` (seconds) say which authentication
    would do where this one does not (RFC 9470). ``error`` is a word of ours for why the decision
    is indeterminate, never text of the decision point; ``retry_after`` is in seconds.
    ``context`` is what the decision point told besides; it goes nowhere by itself.
    """

    effect: Effect
    reasons: tuple[str, ...] = ()
    user_reason: str | None = None
    obligations: tuple[Obligation, ...] = ()
    acr_values: tuple[str, ...] = ()
    max_age: int | None = None
    #: The name of the decision point.
    point: str = ""
    decision_id: str | None = None
    policy_version: str | None = None
    error: str | None = None
    retry_after: float = 1.0
    #: Was it remembered, and for how many seconds?
    cached: bool = False
    age: float = 0.0
    context: Mapping[str, Any] = field(default_factory=_nothing, repr=False, compare=False)

    @property
    def permitted(self) -> bool:
        """Is the request let through? A decision itself is never a truth value."""
        return self.effect is Effect.PERMIT

    def __bool__(self) -> bool:
        raise TypeError("a Decision is neither true nor false: ask decision.permitted")


def indeterminate(error: str, *, point: str = "", retry_after: float = 1.0) -> Decision:
    """The decision of a point that could not decide; ``error`` is a word of ours."""
    return Decision(effect=Effect.INDETERMINATE, error=error, point=point, retry_after=retry_after)


def information(request: AccessRequest) -> dict[str, Any]:
    """The request as JSON has it in AuthZEN: what is empty or ``None`` is left out (AZ-9)."""
    told = {
        "subject": _entity(request.subject),
        "action": _with_properties({"name": request.action.name}, request.action.properties),
        "resource": _entity(request.resource),
    }
    if context := without_null(request.context):
        told["context"] = context
    return told


def _entity(entity: Subject | Resource) -> dict[str, Any]:
    return _with_properties({"type": entity.type, "id": entity.id}, entity.properties)


def _with_properties(told: dict[str, Any], properties: Mapping[str, Any]) -> dict[str, Any]:
    if kept := without_null(properties):
        told["properties"] = kept
    return told


def without_null(value: Mapping[str, Any]) -> dict[str, Any]:
    """A copy of plain dicts and lists without members that are ``None``, however deep."""
    return {
        # Nearly always a scalar; to ask for a Mapping takes much longer.
        name: item if type(item) in _SCALARS else _plain(item)
        for name, item in value.items()
        if item is not None
    }


def _plain(value: Any) -> Any:
    if type(value) in _SCALARS:
        return value
    if isinstance(value, list):
        return [_plain(item) for item in value if item is not None]
    if isinstance(value, Mapping):
        return without_null(value)
    if isinstance(value, set | frozenset):
        return sorted(value)
    if isinstance(value, Sequence) and not isinstance(value, str | bytes):
        return [_plain(item) for item in value if item is not None]
    return value
