"""What one request asks: who, by which route, and what was answered so far."""

from __future__ import annotations

import marshal
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, TypeVar

from bearer_middleware.access.identity import Identity
from bearer_middleware.audit.record import RequestFacts
from bearer_middleware.errors import Refused, Unavailable
from bearer_middleware.flow.effects import Flow
from bearer_middleware.policy.model import (
    AccessRequest,
    Action,
    Decision,
    Effect,
    Resource,
    Subject,
)
from bearer_middleware.policy.phrasing import resource_of
from bearer_middleware.policy.routes import Match

if TYPE_CHECKING:
    from bearer_middleware.policy.authorizer import Authorizer

T = TypeVar("T")
Key = tuple[object, ...]
#: What lasts longer than a request does, such as a websocket, asks again after so many seconds.
_REMEMBERED_SECONDS = 5.0
_LONGEST_ID = 2048
_ANONYMOUS = Decision(effect=Effect.DENY, reasons=("anonymous",))


@dataclass(frozen=True, slots=True)
class Conclusion:
    """A decision, and what it means once its obligations are done: ``None`` is "go on"."""

    decision: Decision
    refusal: Refused | None


class Inquiry:
    """One request. The same question is put once, whoever asks it: middleware or handlers.

    ``template`` is the route's, or the path itself where there is no table.
    """

    __slots__ = (
        "_authorizer",
        "_memo",
        "_subject",
        "context",
        "facts",
        "identity",
        "judged",
        "match",
        "method",
        "path",
        "question",
        "template",
    )

    def __init__(
        self,
        authorizer: Authorizer,
        identity: Identity | None,
        method: str,
        path: str,
        *,
        match: Match | None,
        facts: RequestFacts | None,
    ) -> None:
        #: What audit is told of the request, where there is any.
        self._authorizer, self.facts = authorizer, facts
        self.identity, self.method, self.path, self.match = identity, method, path, match
        self.template = path if match is None else match.route.path
        self.context: Mapping[str, Any] = {"method": method, "path": self.template}
        self._subject: Subject | None = None
        #: What the request itself asks, once somebody has found out.
        self.question: AccessRequest | None = None
        #: What was said already, and how long that took, before anything was done about it.
        self.judged: dict[object, tuple[Decision, float]] = {}
        self._memo: dict[object, tuple[float, Conclusion]] = {}

    @property
    def parameters(self) -> Mapping[str, str]:
        """Of the path, as the table of routes has them."""
        return {} if self.match is None else self.match.parameters

    @property
    def fresh(self) -> bool:
        """Does the route want answers past every cache?"""
        return self.match is not None and self.match.route.fresh

    @property
    def hidden(self) -> bool:
        """Shall it seem that there is nothing, where the policy says no?"""
        own = None if self.match is None else self.match.route.hide
        return self._authorizer.hides if own is None else own

    def subject(self) -> Subject | None:
        """Who asks; nobody where there is no identity, or it names no subject."""
        if self._subject is None and self.identity is not None:
            self._subject = self._authorizer.phrasing.subject(self.identity)
        return self._subject

    # -- what was answered ---------------------------------------------------------------

    def key(self, request: AccessRequest) -> Key | None:
        """What makes a question the same as another of this request; ``None`` if nobody can
        say.
        """
        action, resource = request.action, request.resource
        if request.context is self.context and not action.properties and not resource.properties:
            return action.name, resource.type, resource.id
        told = (action.properties, resource.properties, request.context)
        try:
            # Exact to the type, and quick; of what is no plain value it does not know a word. Equal
            # dicts of another order are another question: that one is put twice does no harm.
            more = marshal.dumps([{**part} for part in told], 2)
        except ValueError:
            return None
        return action.name, resource.type, resource.id, more

    def remembered(self, key: object, now: float) -> Conclusion | None:
        """What was concluded a moment ago."""
        if key is None or key not in self._memo:
            return None
        at, conclusion = self._memo[key]
        return conclusion if now - at < _REMEMBERED_SECONDS else None

    def remember(self, key: object, now: float, conclusion: Conclusion) -> None:
        if key is not None:
            self._memo[key] = (now, conclusion)

    # -- what handlers ask ---------------------------------------------------------------

    def decide(
        self, action: Action | str, resource: Resource | str, context: Mapping[str, Any]
    ) -> Flow[Decision]:
        """The decision; a permit whose obligations are not met is a denial. Raises ``Unavailable``
        where no decision point is configured.
        """
        if self.identity is None:
            return _ANONYMOUS
        conclusion = yield from self._conclude(action, resource, context)
        if conclusion.refusal is not None and conclusion.decision.permitted:
            return replace(conclusion.decision, effect=Effect.DENY)
        return conclusion.decision

    def permitted(
        self, action: Action | str, resource: Resource | str, context: Mapping[str, Any]
    ) -> Flow[bool]:
        """May the caller? Raises ``Unavailable`` where nobody can decide."""
        if self.identity is None:
            return False
        conclusion = yield from self._conclude(action, resource, context)
        if isinstance(conclusion.refusal, Unavailable):
            yield from self._authorizer.refuse(conclusion.refusal)
        return conclusion.refusal is None

    def require(
        self,
        action: Action | str,
        resource: Resource | str,
        context: Mapping[str, Any],
    ) -> Flow[None]:
        """Raises ``Refused`` where the caller may not."""
        conclusion = yield from self._conclude(action, resource, context)
        if conclusion.refusal is not None:
            yield from self._authorizer.refuse(conclusion.refusal)

    def filter(
        self,
        action: Action | str,
        items: Iterable[T],
        key: Callable[[T], Resource | str],
        context: Mapping[str, Any],
    ) -> Flow[list[T]]:
        """Those of ``items`` that the caller may, in their order, asked for in one batch. Raises
        ``Unavailable`` where nobody can decide about one of them.
        """
        kept = list(items)
        if self.identity is None or not kept:
            return []
        found = [resource_of(key(item)) for item in kept]  # data, so nothing is filled in
        requests = [self._request(action, resource, context) for resource in found]
        flow = self._authorizer.conclude_many(self, requests)
        conclusions = yield from self._authorizer.told(flow)
        for conclusion in conclusions:
            if isinstance(conclusion.refusal, Unavailable):
                yield from self._authorizer.refuse(conclusion.refusal)
        pairs = zip(kept, conclusions, strict=True)
        return [item for item, conclusion in pairs if conclusion.refusal is None]

    def _conclude(
        self, action: Action | str, resource: Resource | str, context: Mapping[str, Any]
    ) -> Flow[Conclusion]:
        request = self._request(action, resource, context)
        return self._authorizer.told(self._authorizer.conclude(self, request))

    def _request(
        self, action: Action | str, resource: Resource | str, context: Mapping[str, Any]
    ) -> AccessRequest | None:
        """``None`` is a question about nobody or nothing, which is denied."""
        subject, what = self.subject(), resource_of(resource, self.parameters)
        if subject is None or not what.type or not 0 < len(what.id) <= _LONGEST_ID:
            return None
        named = Action(action) if isinstance(action, str) else action
        told = {**self.context, **context} if context else self.context
        return AccessRequest(subject, named, what, told)
