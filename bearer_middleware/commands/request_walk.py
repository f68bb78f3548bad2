"""A request's way on from its token: route, scopes, authentication, question, decision, answer.

Every verdict is that of the function which a request meets, and the answer is the middleware's.
Nothing of it is recorded in an audit trail.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from time import perf_counter
from typing import Any

from bearer_middleware.access.identity import Identity
from bearer_middleware.audit.record import RequestFacts
from bearer_middleware.commands.findings import Finding, Level
from bearer_middleware.commands.ledger import Ledger, guarded
from bearer_middleware.errors import ConfigError, Forbidden, Reason, Refused
from bearer_middleware.flow.clock import Clock
from bearer_middleware.flow.drivers import run
from bearer_middleware.flow.effects import Flow
from bearer_middleware.flow.events import Events
from bearer_middleware.policy.authorizer import Authorizer
from bearer_middleware.policy.demands import Demands
from bearer_middleware.policy.inquiry import Conclusion, Inquiry
from bearer_middleware.policy.model import (
    AccessRequest,
    Action,
    Decision,
    Effect,
    Resource,
    Subject,
)
from bearer_middleware.policy.routes import is_clear
from bearer_middleware.resource_server import ResourceServer
from bearer_middleware.settings.routes import Route
from bearer_middleware.web.challenge import Answer
from bearer_middleware.web.endpoints import endpoints_for
from bearer_middleware.web.parts import challenges_for, exemptions_for

_RULES = ("scopes", "authentication", "subject", "action", "resource", "decision", "obligations")
_NO_ROWS = "no row of a table asks for any"
_GOES_ON = "answer: the request goes on to the application"
_FAILS_OPEN = 'nobody could decide, and the row has on_error = "allow"'
_MOST_WORDS = 10


@dataclass(frozen=True, slots=True)
class Outcome:
    """A line for each rule, what the caller gets, and whether the request goes on."""

    findings: tuple[Finding, ...]
    answer: str
    accepted: bool


def request_explained(
    judge: ResourceServer,
    verdict: Identity | Refused | None,
    method: str,
    path: str,
    clock: Clock | None = None,
) -> Outcome:
    """What becomes of a request after ``verdict``, which ``judge`` came to about its token.
    ``path`` is decoded, below the mount point.
    """
    ledger, challenges = Ledger(), challenges_for(judge)
    try:
        own = endpoints_for(judge)
    except ConfigError as error:
        return Outcome((Finding("fail", "route", str(error)),), "the settings are wrong", False)
    if path in own:
        ledger.kept("route", "the middleware itself answers there, whatever the token is")
        return Outcome(tuple(ledger.findings), "answer: the middleware's own", True)
    exemptions = exemptions_for(judge, own)
    if exemptions is not None and exemptions.cover(method, path):
        ledger.kept("route", "exempt or public: no token is looked at")
        return Outcome(tuple(ledger.findings), _GOES_ON, True)
    refusal = _refusal(judge, verdict, (method, path), ledger, clock or Clock())
    if (refusal is None) is bool(ledger.broken) and not isinstance(verdict, Refused):
        said = "refuses" if refusal is not None else "lets through"
        text = f"{said} what the rules above do not; trust the middleware"
        ledger.findings.append(Finding("fail", "middleware", text))
    if refusal is None:
        return Outcome(tuple(ledger.findings), _GOES_ON, True)
    return Outcome(tuple(ledger.findings), _told(challenges.answer(refusal)), False)


def _refusal(
    judge: ResourceServer,
    verdict: Identity | Refused | None,
    request: tuple[str, str],
    ledger: Ledger,
    clock: Clock,
) -> Refused | None:
    """Why the middleware does not let the request on; the rules are written down on the way."""
    known, refused = judge.authorizer, verdict if isinstance(verdict, Refused) else None
    if known is None:
        ledger.kept("route", "there is neither a table of routes nor a policy: any path will do")
        ledger.skip(_RULES, "a good token is all that is asked for")
        return refused
    # One that records nothing: nobody asked for anything.
    events = Events(monotonic=clock.monotonic)
    authorizer = Authorizer(
        judge.settings, known.point, clock=clock, events=events, hierarchy=judge.hierarchy
    )
    identity = verdict if isinstance(verdict, Identity) else None
    facts = RequestFacts(method=request[0], route=request[1])
    inquiry = authorizer.inquiry(identity, *request, lambda _: facts)
    walk = _Walk(judge, authorizer, inquiry, ledger, clock)
    walk.route()
    if refused is not None:
        ledger.skip(_RULES, "the token is refused already, so nobody is asked")
        return authorizer.wanted_of(refused, *request)
    if identity is not None:
        run(walk.rules(identity), judge.transport)
    try:
        run(guarded(authorizer.admit(inquiry)), judge.transport)
    except Refused as refusal:
        return refusal
    return None


@dataclass(frozen=True, slots=True)
class _Walk:
    judge: ResourceServer
    authorizer: Authorizer
    inquiry: Inquiry
    ledger: Ledger
    clock: Clock

    def route(self) -> None:
        """Which row speaks for the request."""
        table, match = self.judge.settings.routes, self.inquiry.match
        if match is not None and table is not None:
            place = next(n for n, row in enumerate(table, 1) if row is match.route)
            named = ", ".join(f"{name}={value}" for name, value in match.parameters.items())
            text = f"row {place} of {len(table)}, {match.route.method} {match.route.path}"
            self.ledger.kept("route", text + (f", with {named}" if named else ""))
            return
        clear = is_clear(self.inquiry.method, self.inquiry.path)
        if table is None and clear:
            self.ledger.kept("route", "there is no table: the method and the path are asked about")
            return
        why = "no row matches it" if clear else "it can be read in more than one way"
        self.ledger.refused("route", Forbidden(Reason.NO_ROUTE, why))

    def rules(self, identity: Identity) -> Flow[None]:
        """What is asked of a good token, in the order in which it is."""
        ledger, route = (
            self.ledger,
            None if self.inquiry.match is None else self.inquiry.match.route,
        )
        if ledger.broken:
            ledger.skip(_RULES, "the request is refused already, so nobody is asked")
            return
        self._demands(route, identity)
        if self.authorizer.point is None:
            ledger.skip(_RULES, "no policy is set, so nobody is asked")
        elif route is not None and not route.policy:
            ledger.skip(_RULES, "the row has policy = false: the handler asks for itself")
        else:
            subject = self._subject()
            action, resource = self._question(identity)
            if ledger.broken or subject is None:
                ledger.skip(_RULES, "the request is refused already, so nobody is asked")
                return
            request = AccessRequest(subject, action, resource, self.inquiry.context)
            yield from self._decision(
                request, opens=route is not None and route.on_error == "allow"
            )

    def _demands(self, route: Route | None, identity: Identity) -> None:
        ledger, needed = self.ledger, self.judge.settings.required_scopes
        wanted = " ".join(dict.fromkeys((*needed, *(() if route is None else route.scopes))))
        if route is None:
            ledger.kept("scopes", f"required: {wanted}" if wanted else _NO_ROWS)
            ledger.skip(["authentication"], _NO_ROWS)
            return
        demands = Demands(self.judge.settings, self.clock, self.judge.hierarchy)
        scopes, rest = replace(route, acr=(), max_age=None), replace(route, scopes=())
        text = f"required: {wanted}" if wanted else "none is required"
        ledger.judge("scopes", lambda: demands.hold(scopes, identity), text, text)
        strong = [f"acr {' or '.join(route.acr)}"] if route.acr else []
        recent = [] if route.max_age is None else [f"at most {route.max_age} s ago"]
        text = "wanted: " + ", ".join(strong + recent) if strong + recent else "any will do"
        ledger.judge("authentication", lambda: demands.hold(rest, identity), text, text)

    def _subject(self) -> Subject | None:
        subject = self.inquiry.subject()
        if subject is None:
            self.ledger.refused("subject", Forbidden(detail="the token names no subject"))
        else:
            self.ledger.kept("subject", _entity(subject))
        return subject

    def _question(self, identity: Identity) -> tuple[Action, Resource]:
        inquiry, ledger = self.inquiry, self.ledger
        if inquiry.match is None:
            action, resource = Action(inquiry.method), Resource("route", inquiry.path)
        else:
            asked = self.authorizer.phrasing.question(inquiry.match, identity, inquiry.method)
            action, resource = asked
        ledger.kept("action", action.name)
        ledger.kept("resource", _entity(resource))
        return action, resource

    def _decision(self, request: AccessRequest, *, opens: bool) -> Flow[None]:
        started, ledger = perf_counter(), self.ledger
        try:
            flow = self.authorizer.conclude(self.inquiry, request, opens=opens)
            conclusion = yield from guarded(flow)
        except Refused as refusal:
            ledger.refused("decision", refusal)
            ledger.skip(["obligations"], "there is no decision")
            return
        decision, milliseconds = conclusion.decision, (perf_counter() - started) * 1000
        text = f"{_words(decision)}; it took {milliseconds:.1f} ms"
        permits = decision.effect is Effect.PERMIT
        if opens and decision.effect is Effect.INDETERMINATE:
            ledger.findings.append(Finding("warn", "decision", f"{text}; {_FAILS_OPEN}"))
        else:
            refusal_here = None if permits else conclusion.refusal
            level: Level = "ok" if permits else "fail"
            ledger.findings.append(Finding(level, "decision", text, refusal_here))
        self._obligations(conclusion, permits=permits)

    def _obligations(self, conclusion: Conclusion, *, permits: bool) -> None:
        kinds = ", ".join(one.type for one in conclusion.decision.obligations[:_MOST_WORDS])
        if not kinds or not permits:
            self.ledger.skip(
                ["obligations"], "there are none" if permits else "nothing is permitted"
            )
        elif conclusion.refusal is None:
            self.ledger.kept("obligations", f"done: {kinds}")
        else:
            remark = f"{kinds}; this command knows nobody who does them, your application may"
            self.ledger.refused("obligations", conclusion.refusal, remark)


def _entity(entity: Subject | Resource) -> str:
    """Type and id, and of the properties their names."""
    names = ", ".join(sorted(entity.properties))
    return f"{entity.type}:{entity.id}" + (f", with {names}" if names else "")


def _words(decision: Decision) -> str:
    """Effect, reasons, version and point: nothing else of what the decision point told."""
    told = [str(decision.effect).replace("_", " ")]
    if decision.point:
        told.append(f"by {decision.point}")
    if decision.policy_version:
        told.append(f"version {decision.policy_version}")
    if decision.decision_id:
        told.append(f"id {decision.decision_id}")
    if decision.cached:
        told.append(f"remembered for {decision.age:.1f} s")
    why = [*decision.reasons[:_MOST_WORDS], *([decision.error] if decision.error else ())]
    if why:
        told.append(f"reasons: {', '.join(why)}")
    return ", ".join(told)


def _told(answer: Answer) -> str:
    """What the caller gets, as it is sent."""
    shown: Mapping[str, Any] = dict(answer.headers)
    names = {"www-authenticate": "WWW-Authenticate", "retry-after": "Retry-After"}
    headers = [f"{names[name]}: {shown[name]}" for name in names if name in shown]
    return "; ".join([f"answer: {answer.status} {answer.reason}", *headers, answer.body.decode()])
