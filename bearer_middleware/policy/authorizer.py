"""May they? The enforcement point of one server, for requests and for their handlers.

Cheap before dear: a route, a token, its scopes, its authentication; only then the decision
point is asked. Whatever goes wrong there is "we cannot know", never a pass.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from time import perf_counter
from typing import Any, NoReturn

from bearer_middleware.access.hierarchy import Hierarchy
from bearer_middleware.access.identity import Identity
from bearer_middleware.audit.record import Outcome, Record, Recorder, RequestFacts
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
from bearer_middleware.flow.instruments import DECISIONS, POLICY_DURATION
from bearer_middleware.policy.asking import Asking
from bearer_middleware.policy.demands import Demands
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
from bearer_middleware.policy.point import DecisionPoint
from bearer_middleware.policy.questions import Questions
from bearer_middleware.policy.routes import RouteTable, is_clear
from bearer_middleware.settings import Settings

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
        self.asking, self.point = Asking(settings), point
        self.table = None if settings.routes is None else RouteTable(settings.routes)
        self.hides = settings.hide_forbidden
        self._clock, self._events, self._recorder = clock, events, recorder
        self._obligations = dict(obligations or {})
        self._demands = Demands(settings, clock, hierarchy)
        self._questions = Questions(point, settings.policy_timeout, clock, events)
        #: Functions of the user's, which may need an event loop.
        self.extensions: tuple[Callable[..., Any], ...] = (
            *getattr(point, "extensions", ()),
            *self._obligations.values(),
        )
        self.name, self._judge = self._questions.name, self._questions.judge

    # -- of a whole request --------------------------------------------------------------

    def inquiry(
        self,
        identity: Identity | None,
        method: str,
        path: str,
        facts: Callable[[str], RequestFacts],
    ) -> Inquiry:
        """What this request asks. ``facts`` are made of the template of its path."""
        match = None if self.table is None else self.table.match(method, path)
        return Inquiry(self, identity, method, path, match=match, facts=facts)

    def is_public(self, method: str, path: str) -> bool:
        """Does the table say that this request needs no token?"""
        if self.table is None or not self.table.has_public:
            return False
        match = self.table.match(method, path)
        return match is not None and match.route.public

    def wanted_of(self, refusal: Refused, method: str, path: str) -> Refused:
        """The refusal of a token with all scopes that its route needs: one challenge tells all."""
        if self.table is None or not isinstance(refusal, InsufficientScope | MissingToken):
            return refusal
        match = self.table.match(method, path)
        if match is None or not match.route.scopes:
            return refusal
        scopes = tuple(dict.fromkeys((*refusal.scopes, *match.route.scopes)))
        if isinstance(refusal, MissingToken):
            whole: Refused = MissingToken(refusal.reason, issuer=refusal.issuer, scopes=scopes)
        else:
            whole = InsufficientScope(scopes, refusal.reason, issuer=refusal.issuer)
        whole.kind = refusal.kind
        return whole

    def admits_at_once(self, inquiry: Inquiry) -> bool:
        """Is it certain by now that the request may go on? ``False`` says nothing: then
        :meth:`admit` has to find out. No flow is made for a point in this process.
        """
        if self._recorder is not None or (self._judge is None and self.point is not None):
            return False
        try:
            request = self._question(inquiry)
            if request is None or self._judge is None:
                return request is None
            key, started = inquiry.key(request), perf_counter()
            if key is None:
                return False
            decision = self._questions.judged(request)
        except Exception:  # noqa: BLE001 - told on the whole way
            return False
        if decision.effect is not Effect.PERMIT or decision.obligations:
            inquiry.judged[key] = decision  # so that it is not asked again
            return False
        self._count("permit", decision, perf_counter() - started)
        inquiry.remember(key, self._clock.monotonic(), Conclusion(decision, None))
        return True

    def admit(self, inquiry: Inquiry) -> Flow[None]:
        """Raises ``Refused``, and nothing else, where the request must not go on."""
        try:
            yield from self._admit(inquiry)
        except Refused as refusal:
            refused = refusal
        except Exception as error:  # noqa: BLE001 - fail closed, and never as a 500
            refused = Unavailable(Reason.INTERNAL, type(error).__name__)
        else:
            return
        yield from self.refuse(refused)

    def refuse(self, refusal: Refused) -> Flow[NoReturn]:
        """Tell of a refusal, and raise a copy of it."""
        yield from self._events.refused(refusal)
        raise refusal.again().with_traceback(None)

    def _admit(self, inquiry: Inquiry) -> Flow[None]:
        try:
            request = self._question(inquiry)
        except Refused as refusal:
            yield from self._record(inquiry, "deny", refusal=refusal)
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
            action, resource = self.asking.question(match, identity, inquiry.method)
        subject = inquiry.subject()
        if subject is None:
            raise Forbidden(issuer=identity.issuer, hidden=inquiry.hidden)
        return AccessRequest(subject, action, resource, inquiry.context)

    # -- of single questions -------------------------------------------------------------

    def conclude(
        self, inquiry: Inquiry, request: AccessRequest | None, *, opens: bool = False
    ) -> Flow[Conclusion]:
        """What the decision point says of a question, and what that means. It is put once."""
        conclusions = yield from self._conclude(inquiry, [request], opens=opens)
        return conclusions[0]

    def conclude_many(
        self, inquiry: Inquiry, requests: Sequence[AccessRequest | None]
    ) -> Flow[list[Conclusion]]:
        """The same of several questions, put in one batch."""
        return self._conclude(inquiry, requests, opens=False)

    def _conclude(
        self, inquiry: Inquiry, requests: Sequence[AccessRequest | None], *, opens: bool
    ) -> Flow[list[Conclusion]]:
        if self.point is None:
            why = "a handler asks for policy, and none is configured"
            yield from self.refuse(Unavailable(Reason.MISCONFIGURED, why))
        now, keys = self._clock.monotonic(), list[object]()
        asked, found = dict[object, AccessRequest](), dict[object, Conclusion]()
        for request in requests:
            key = None if request is None else inquiry.key(request)
            keys.append(id(request) if key is None else key)
            known = _nothing(inquiry) if request is None else inquiry.remembered(key, now)
            if known is not None:
                found[keys[-1]] = known
            elif request is not None:
                asked.setdefault(keys[-1], request)
        started = perf_counter()
        decisions = {name: inquiry.judged.pop(name) for name in asked if name in inquiry.judged}
        new = {name: request for name, request in asked.items() if name not in decisions}
        expires = None if inquiry.identity is None else inquiry.identity.expires_at
        answers = yield from self._questions.answers(
            list(new.values()), fresh=inquiry.fresh, expires=expires
        )
        decisions.update(zip(new, answers, strict=True))
        seconds = perf_counter() - started
        for name, request in asked.items():
            decision = decisions[name]
            found[name] = yield from self._weigh(inquiry, request, decision, seconds, opens=opens)
            inquiry.remember(inquiry.key(request), now, found[name])
        return [found[key] for key in keys]

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
                decision.obligations, self._obligations, request, issuer, hidden=inquiry.hidden
            )
        outcome: Outcome = decision.effect.value
        if refusal is not None and decision.effect is Effect.PERMIT:
            outcome = "deny"
        elif opens and decision.effect is Effect.INDETERMINATE:
            outcome = "fail_open"
        self._count(outcome, decision, seconds)
        yield from self._record(
            inquiry, outcome, refusal=refusal, request=request, decision=decision, seconds=seconds
        )
        return Conclusion(decision, refusal)

    def forget(self, *, subject: str | None, resource_type: str | None) -> None:
        """Forget decisions, where the decision point remembers any."""
        invalidate = getattr(self.point, "invalidate", None)
        if invalidate is not None:
            invalidate(subject=subject, resource_type=resource_type)

    # -- telling -------------------------------------------------------------------------

    def _count(self, outcome: str, decision: Decision, seconds: float) -> None:
        tally = self._events.tally
        tally.add(DECISIONS, outcome, self.name, "true" if decision.cached else "false")
        tally.took(POLICY_DURATION, seconds, outcome, self.name)

    def _record(self, inquiry: Inquiry, outcome: Outcome, **told: Any) -> Flow[None]:
        if self._recorder is None:
            return
        refusal: Refused | None = told.get("refusal")
        status = 200 if refusal is None or outcome == "fail_open" else refusal.status
        if isinstance(refusal, Forbidden) and refusal.hidden:
            status = 404
        yield from self._recorder.record(
            Record(
                at=self._clock.now(),
                outcome=outcome,
                status=status,
                facts=inquiry.facts,
                identity=inquiry.identity,
                **told,
            )
        )


def _nothing(inquiry: Inquiry) -> Conclusion:
    return Conclusion(_NOBODY, refusal_of(_NOBODY, issuer=None, hidden=inquiry.hidden))
