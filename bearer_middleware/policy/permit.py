"""A decision point of Permit.io: its container, or its cloud.

    point = Permit("http://localhost:7766", token="permit_key_...")

It is asked as its own SDK asks it. A subject's ``id`` is the key of a user (its type is not told),
``first_name``, ``last_name`` and ``email`` among its properties are members of the user, the others
attributes. A resource's ``id`` is a key, whatever stands in it; the ``*`` of a collection is none.
The options of ``BEARER_POLICY_OPTIONS`` have the names of the keywords of :class:`Permit`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeGuard

from bearer_middleware.errors import ConfigError, TransportError
from bearer_middleware.flow.effects import Flow
from bearer_middleware.policy.members import address, members_of
from bearer_middleware.policy.model import NOTHING, AccessRequest, Decision, Effect, Subject
from bearer_middleware.policy.point import Surroundings
from bearer_middleware.policy.remote import (
    MAX_ANSWERS,
    Remote,
    Remotely,
    Token,
    limit_for,
    reach,
    word_of,
)
from bearer_middleware.policy.wire import Unsendable, encode, in_list, told
from bearer_middleware.settings import Settings, grammar
from bearer_middleware.settings.parsing import integer, switch, text

_OPTIONS = {
    "tenant": text,
    "tenant_property": text,
    "batch_size": integer(1, 1000),
    "debug": switch,
}
_OF_A_USER = ("first_name", "last_name", "email")
_COLLECTION = "*"


@dataclass(frozen=True, slots=True)
class Granted:
    """What a user may on one object or in one tenant: ``permissions`` as ``type:action``."""

    permissions: frozenset[str]
    roles: frozenset[str]


@dataclass(frozen=True, slots=True)
class Permissions:
    """What a user may, by ``type:key`` (of a tenant, ``__tenant:key``). ``error`` is a word of
    ours where that could not be learnt. No decision is made of it: ask for one.
    """

    granted: Mapping[str, Granted] = field(default_factory=lambda: NOTHING, repr=False)
    error: str | None = None
    retry_after: float = 1.0


class Permit(Remotely):
    """Asks a decision point of Permit.io. ``token`` is the API key of the environment, ``timeout``
    what a question may take, in seconds.

    The tenant is that of the resource (its property ``tenant``), else the subject's property
    ``tenant_property``, else ``tenant``. ``batch_size`` is how many questions go into one
    exchange. Only with ``debug`` is what the decision point says of its policy kept in a
    decision's context. Over http it is asked on this machine only, unless ``allow_insecure_http``
    is true. Raises ``ConfigError``.
    """

    def __init__(
        self,
        url: str,
        *,
        token: Token = None,
        timeout: float = 0.5,
        surroundings: Surroundings | None = None,
        name: str = "permit",
        tenant: str = "default",
        tenant_property: str = "tenant",
        batch_size: int = 50,
        debug: bool = False,
        allow_insecure_http: bool = False,
    ) -> None:
        self._url = address("url", url, grammar.issuer, insecure=allow_insecure_http).rstrip("/")
        self._remote = Remote(name, token=token, timeout=timeout, surroundings=surroundings)
        self._tenant, self._tenant_property = tenant, tenant_property
        self._batch, self._debug = batch_size, debug

    def decide(
        self, request: AccessRequest, deadline: float, *, fresh: bool = False
    ) -> Flow[Decision]:
        """One question to ``/allowed``; ``fresh`` goes past its cache. Never raises."""
        try:
            question = self._question(request)
            deadline = self._remote.deadline(deadline)
            url = f"{self._url}/allowed"
            answer = yield from self._remote.ask(url, question, deadline, fresh=fresh)
            return self._decision(answer)
        except Unsendable:
            return self._remote.denied("unsendable")
        except TransportError as failure:
            return self._remote.undecided(failure)

    def decide_many(
        self, requests: Sequence[AccessRequest], deadline: float, *, fresh: bool = False
    ) -> Flow[list[Decision]]:
        """Many questions to ``/allowed/bulk``, ``batch_size`` at a time. What a shorter answer
        leaves out is denied, a longer one decides nothing. Never raises.
        """
        deadline = self._remote.deadline(deadline)
        decided: list[Decision] = []
        for start in range(0, len(requests), self._batch):
            chunk = requests[start : start + self._batch]
            if len(chunk) == 1:
                decided.append((yield from self.decide(chunk[0], deadline, fresh=fresh)))
            else:
                decided += yield from self._decide_chunk(chunk, deadline, fresh)
        return decided

    def _decide_chunk(
        self, requests: Sequence[AccessRequest], deadline: float, fresh: bool
    ) -> Flow[list[Decision]]:
        questions = [self._sendable(request) for request in requests]
        sent = [question for question in questions if question is not None]
        try:
            answers = (yield from self._answers(sent, deadline, fresh)) if sent else []
        except TransportError as failure:
            answers = [self._remote.undecided(failure)] * len(sent)
        found, unsendable = iter(answers), self._remote.denied("unsendable")
        return [unsendable if question is None else next(found) for question in questions]

    def _answers(
        self, questions: list[bytes], deadline: float, fresh: bool
    ) -> Flow[list[Decision]]:
        url, body, limit = (
            f"{self._url}/allowed/bulk",
            in_list(questions),
            limit_for(len(questions)),
        )
        answer = yield from self._remote.ask(url, body, deadline, limit=limit, fresh=fresh)
        items = answer.get("allow")
        if not isinstance(items, list) or len(items) > len(questions):
            raise TransportError("not as many answers")
        decided = [self._decision(item) for item in items]
        return decided + [self._remote.denied("unanswered")] * (len(questions) - len(items))

    def user_permissions(
        self,
        subject: Subject,
        deadline: float,
        *,
        tenants: Sequence[str] | None = None,
        resources: Sequence[str] | None = None,
        resource_types: Sequence[str] | None = None,
        fresh: bool = False,
    ) -> Flow[Permissions]:
        """What the user may in these tenants, on these resources (``type:key``) and on those of
        these types; ``None`` is all. ``deadline`` is in monotonic seconds. Never raises.
        """
        question = {
            "user": {"key": subject.id},
            "tenants": tenants,
            "resources": resources,
            "resource_types": resource_types,
        }
        try:
            deadline = self._remote.deadline(deadline)
            url = f"{self._url}/user-permissions"
            answer = yield from self._remote.ask(
                url, question, deadline, limit=MAX_ANSWERS, fresh=fresh
            )
            return Permissions({name: _granted(item) for name, item in answer.items()})
        except Unsendable:
            return Permissions(error="unsendable")
        except TransportError as failure:
            return Permissions(error=word_of(failure), retry_after=self._remote.retry_after)

    def _sendable(self, request: AccessRequest) -> bytes | None:
        try:
            return self._question(request)
        except Unsendable:
            return None

    def _question(self, request: AccessRequest) -> bytes:
        """As the SDK writes it, byte for byte. Raises ``Unsendable``."""
        asked = told(request)
        subject, resource = asked["subject"], asked["resource"]
        properties = dict(resource.get("properties", {}))
        of_subject = subject.get("properties", {})
        tenants = (properties.pop("tenant", None), of_subject.get(self._tenant_property))
        tenant = next((each for each in tenants if each not in (None, "")), self._tenant)
        if not isinstance(tenant, str):  # of the usual one nobody asks
            raise Unsendable("a tenant that is no text")
        named = {"type": resource["type"]}
        if resource["id"] != _COLLECTION:
            named["key"] = resource["id"]
        named["tenant"] = tenant
        if properties:
            named["attributes"] = properties
        return encode(
            {
                "user": _user(subject["id"], of_subject),
                "action": asked["action"]["name"],
                "resource": {**named, "context": {"tenant": tenant}},
                "context": asked.get("context", {}),
            }
        )

    def _decision(self, answer: object) -> Decision:
        """``allow`` alone counts, and only ``true`` permits."""
        allowed = answer.get("allow") if isinstance(answer, Mapping) else None
        if not isinstance(answer, Mapping) or not isinstance(allowed, bool):
            raise TransportError("not a decision")
        effect = Effect.PERMIT if allowed is True else Effect.DENY
        kept = {name: answer[name] for name in ("debug", "query") if name in answer}
        return Decision(effect=effect, point=self.name, context=kept if self._debug else NOTHING)


def _user(key: str, properties: Mapping[str, Any]) -> dict[str, Any]:
    user: dict[str, Any] = {"key": key}
    for name in _OF_A_USER:
        if isinstance(properties.get(name), str):
            user[name] = properties[name]
    attributes = {name: value for name, value in properties.items() if name not in user}
    if attributes:
        user["attributes"] = attributes
    return user


def _granted(item: object) -> Granted:
    if isinstance(item, Mapping):
        permissions, roles = item.get("permissions"), item.get("roles")
        if _texts(permissions) and (roles is None or _texts(roles)):
            return Granted(frozenset(permissions), frozenset(roles or ()))
    raise TransportError("not permissions")


def _texts(value: Any) -> TypeGuard[list[str]]:
    return isinstance(value, list) and all(isinstance(item, str) for item in value)


def open_point(settings: Settings, surroundings: Surroundings) -> Permit:
    """The decision point of the settings. Raises ``ConfigError``."""
    options = members_of(settings.policy_options, _OPTIONS)
    if settings.policy_url is None or "?" in settings.policy_url:
        raise ConfigError("BEARER_POLICY_URL: must be the address of a decision point")
    return Permit(
        settings.policy_url,
        **reach(settings, surroundings),
        **options,
    )
