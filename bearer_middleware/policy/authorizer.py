"""May they? The enforcement point of one server, for requests and for their handlers.

Cheap before dear: a route, a token, its scopes, its authentication; only then the decision
point is asked. Whatever goes wrong there is "we cannot know", never a pass.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from time import perf_counter
from typing import Any, NoReturn, TypeVar

from bearer_middleware.access.hierarchy import Hierarchy
from bearer_middleware.access.identity import Identity
from bearer_middleware.audit.record import Outcome, Recorder, RequestFacts
from bearer_middleware.errors import (
    Forbidden,
    InsufficientScope,
    MissingToken,
    Reason,
    Refused,
    Unavailable,
)
from bearer_middleware.flow.clock import Clock
from bearer_middleware.flow.effects import Flow
from bearer_middleware.flow.events import Event, Events
from bearer_middleware.policy.demands import Demands, wanting
from bearer_middleware.policy.inquiry import Conclusion, Inquiry
from bearer_middleware.policy.model import (
    AccessRequest,
    Action,
    Decision,
    Effect,
    Resource,
)
from bearer_middleware.policy.obligations import ObligationHandler, oblige
from bearer_middleware.policy.outcomes import refusal_of
from bearer_middleware.policy.phrasing import Phrasing
from bearer_middleware.policy.point import DecisionPoint, forget
from bearer_middleware.policy.questions import Questions
from bearer_middleware.policy.routes import RouteTable, is_clear
from bearer_middleware.policy.telling import Telling
from bearer_middleware.settings import Settings

T = TypeVar("T")
#: About nobody, or about nothing: what need not be asked.
_NOBODY = Decision(effect=Effect.DENY, reasons=("no_question",))


class Authorizer:
    """Decides over requests by the table of routes and the decision point of a server."""

    def __init__(
        self,
        settings: Settings,
        point: DecisionPoint | None,
        *,
        clock: Clock,
        events: Events,
        hierarchy: Hierarchy,
        recorder: Recorder | None = None,
        obligations: Mapping[str, ObligationHandler] | None = None,
    ) -> None:
        self.phrasing, self.point = Phrasing(settings), point
        self.table = None if settings.routes is None else RouteTable(settings.routes)
        self.hides = settings.hide_forbidden
        self._clock, self._events = clock, events
        self._obligations = dict(obligations or {})
        self._demands = Demands(settings, clock, hierarchy)
        self._questions = Questions(point, settings.policy_timeout, clock, events)
        self._telling = Telling(self._questions.name, clock, events, recorder)
        #: Functions of the user's, which may need an event loop.
        self.extensions: tuple[Callable[..., Any], ...] = (
            *getattr(point, "extensions", ()),
            *self._obligations.values(),
        )

    # -- of a whole request --------------------------------------------------------------

    def inquiry(
        self,
        identity: Identity | None,
        method: str,
        path: str,
        facts: Callable[[str], RequestFacts],
    ) -> Inquiry:
        """What this request asks. ``facts`` makes what audit is told of it, of its template."""
        match = None if self.table is None else self.table.match(method, path)
        told = None
        if self._telling.records:  # now, so that nothing of the request is held on to
            told = facts(path if match is None else match.route.path)
        return Inquiry(self, identity, method, path, match=match, facts=told)

    def wanted_of(self, refusal: Refused, method: str, path: str) -> Refused:
        """The refusal of a token with all scopes that its route needs: one challenge tells all."""
        if self.table is None or not isinstance(refusal, InsufficientScope | MissingToken):
            return refusal
        match = self.table.match(method, path)
        if match is None or not match.route.scopes:
            return refusal
        return wanting(refusal, match.route.scopes)

    def admits_at_once(self, inquiry: Inquiry) -> bool:
        """Is it certain by now that the request may go on? ``False`` says nothing: then
        :meth:`admit` has to find out. No flow is made for a point in this process.
        """
        if self._telling.records or (self.point is not None and self._questions.asks):
            return False
        try:
            request = self._question(inquiry)
            if request is None:
                return True
            inquiry.question = request
            key, started = inquiry.key(request), perf_counter()
            if key is None:
                return False
            decision = self._questions.at_once(request, fresh=inquiry.fresh)
        except Exception:  # noqa: BLE001 - told on the whole way
            return False
        if decision is None:
            return False
        seconds = perf_counter() - started
        if decision.effect is not Effect.PERMIT or decision.obligations:
            inquiry.judged[key] = decision, seconds  # so that it is not asked again
            return False
        self._telling.count("permit", decision, seconds)
        inquiry.remember(key, self._clock.monotonic(), Conclusion(decision, None))
        return True

    def admit(self, inquiry: Inquiry) -> Flow[None]:
        """Raises ``Refused``, and nothing else, where the request must not go on."""
        return self.told(self._admit(inquiry))

    def told(self, flow: Flow[T]) -> Flow[T]:
        """What a flow returns; what it raises is told, and is a refusal in any case."""
        try:
            return (yield from flow)
        except Refused as refusal:
            refused = refusal
        except Exception as error:  # noqa: BLE001 - fail closed, and never as a 500
            refused = Unavailable(Reason.INTERNAL, type(error).__name__)
        return (yield from self.refuse(refused))

    def refuse(self, refusal: Refused) -> Flow[NoReturn]:
        """Tell of a refusal, and raise a copy of it."""
        yield from self._events.refused(refusal)
        raise refusal.again().with_traceback(None)

    def _admit(self, inquiry: Inquiry) -> Flow[None]:
        try:
            request = inquiry.question or self._question(inquiry)
        except Refused as refusal:
            yield from self._telling.record(inquiry, "deny", refusal=refusal)
            raise
        if request is None:
            return
        opens = inquiry.match is not None and inquiry.match.route.on_error == "allow"
        conclusion = yield from self.conclude(inquiry, request, opens=opens)
        if conclusion.refusal is None:
            return
        if opens and conclusion.decision.effect is Effect.INDETERMINATE:
            detail = f"{inquiry.template}: nobody could decide, and its route says allow"
            yield from self._events.happened(Event("fail_open", logging.WARNING, detail=detail))
            return
        raise conclusion.refusal

    def _question(self, inquiry: Inquiry) -> AccessRequest | None:
        """What has to be asked for this request to go on; ``None`` is nothing. Raises ``Refused``
        for what has not to be asked.
        """
        identity, match = inquiry.identity, inquiry.match
        if identity is None:
            raise MissingToken(scopes=() if match is None else match.route.scopes)
        if match is None:
            if self.table is not None or not is_clear(inquiry.method, inquiry.path):
                raise Forbidden(Reason.NO_ROUTE, issuer=identity.issuer, hidden=inquiry.hidden)
            if self.point is None:
                return None
            action, resource = Action(inquiry.method), Resource("route", inquiry.path)
        else:
            self._demands.hold(match.route, identity)
            if self.point is None or not match.route.policy:
                return None
            action, resource = self.phrasing.question(match, identity, inquiry.method)
        subject = inquiry.subject()
        if subject is None:
            raise Forbidden(issuer=identity.issuer, hidden=inquiry.hidden)
        return AccessRequest(subject, action, resource, inquiry.context)

    # -- of single questions -------------------------------------------------------------

    def conclude(
        self, inquiry: Inquiry, request: AccessRequest | None, *, opens: bool = False
    ) -> Flow[Conclusion]:
        """What the decision point says of a question, and what that means. It is put once."""
        if inquiry.identity is not None:  # who shows no token is told that, whatever is configured
            self._need_point()
        if request is None:
            return (yield from self._nothing(inquiry))
        key = inquiry.key(request)
        judged = inquiry.judged.pop(key, None)
        return (yield from self._conclude(inquiry, request, key, judged, opens=opens))

    def conclude_many(
        self, inquiry: Inquiry, requests: Sequence[AccessRequest | None]
    ) -> Flow[list[Conclusion]]:
        """The same of several questions, put in one batch."""
        self._need_point()
        now, new = self._clock.monotonic(), dict[object, AccessRequest]()
        keys: list[object] = []
        for request in requests:
            key = None if request is None else inquiry.key(request) or object()
            keys.append(key)
            if request is not None and inquiry.remembered(key, now) is None:
                new.setdefault(key, request)
        started = perf_counter()
        decisions = yield from self._asked(inquiry, list(new.values()))
        seconds = perf_counter() - started
        judged = {key: (said, seconds) for key, said in zip(new, decisions, strict=True)}
        conclusions: list[Conclusion] = []
        for key, request in zip(keys, requests, strict=True):
            if request is None:
                conclusions.append((yield from self._nothing(inquiry)))
                continue
            said = judged.get(key)
            conclusion = yield from self._conclude(inquiry, request, key, said, opens=False)
            conclusions.append(conclusion)
        return conclusions

    def _conclude(
        self,
        inquiry: Inquiry,
        request: AccessRequest,
        key: object,
        judged: tuple[Decision, float] | None,
        *,
        opens: bool,
    ) -> Flow[Conclusion]:
        now = self._clock.monotonic()
        known = inquiry.remembered(key, now)
        if known is not None:
            return known
        if judged is None:
            started = perf_counter()
            decisions = yield from self._asked(inquiry, [request])
            judged = decisions[0], perf_counter() - started
        conclusion = yield from self._weigh(inquiry, request, *judged, opens=opens)
        inquiry.remember(key, now, conclusion)
        return conclusion

    def _asked(
        self, inquiry: Inquiry, requests: Sequence[AccessRequest]
    ) -> Flow[Sequence[Decision]]:
        identity, expires = inquiry.identity, None
        if self._questions.bounded and identity is not None:
            expires = identity.expires_at
        return self._questions.answers(requests, fresh=inquiry.fresh, expires=expires)

    def _need_point(self) -> None:
        if self.point is None:
            why = "a handler asks for policy, and none is configured"
            raise Unavailable(Reason.MISCONFIGURED, why)

    def _weigh(
        self,
        inquiry: Inquiry,
        request: AccessRequest,
        decision: Decision,
        seconds: float,
        *,
        opens: bool,
    ) -> Flow[Conclusion]:
        """Do what a decision obliges to, count it and have it recorded."""
        issuer = None if inquiry.identity is None else inquiry.identity.issuer
        refusal = refusal_of(decision, issuer=issuer, hidden=inquiry.hidden)
        if refusal is None and decision.obligations:
            refusal = yield from oblige(
                decision.obligations, self._obligations, request, inquiry, self._demands.meets
            )
        outcome: Outcome = decision.effect.value
        if refusal is not None and decision.effect is Effect.PERMIT:
            outcome = "deny"
        elif opens and decision.effect is Effect.INDETERMINATE:
            outcome = "fail_open"
        self._telling.count(outcome, decision, seconds)
        if self._telling.records:
            told: dict[str, Any] = {"request": request, "decision": decision, "seconds": seconds}
            yield from self._telling.record(inquiry, outcome, refusal=refusal, **told)
        return Conclusion(decision, refusal)

    def _nothing(self, inquiry: Inquiry) -> Flow[Conclusion]:
        refusal = refusal_of(_NOBODY, issuer=None, hidden=inquiry.hidden)
        refusal = MissingToken() if inquiry.identity is None else refusal
        yield from self._telling.record(inquiry, "deny", refusal=refusal, decision=_NOBODY)
        return Conclusion(_NOBODY, refusal)

    def forget(self, *, subject: str | None, resource_type: str | None) -> None:
        """Forget decisions, where the decision point remembers any."""
        forget(self.point, subject=subject, resource_type=resource_type)
