"""What ``check`` says of the decision point: does it answer, and is the answer a decision?"""

from __future__ import annotations

from pathlib import Path

from bearer_middleware.commands.advice import advice
from bearer_middleware.commands.findings import Finding, address
from bearer_middleware.commands.witness import Exchange, Witness
from bearer_middleware.flow.clock import Clock
from bearer_middleware.flow.drivers import run
from bearer_middleware.flow.effects import Flow
from bearer_middleware.policy.model import (
    AccessRequest,
    Action,
    Decision,
    Effect,
    Resource,
    Subject,
)
from bearer_middleware.policy.passages import Around
from bearer_middleware.policy.point import AtOnce, DecisionPoint
from bearer_middleware.resource_server import ResourceServer
from bearer_middleware.settings.report import Report

_URL = "BEARER_POLICY_URL"
#: About nobody and nothing there is: harmless wherever it is asked.
QUESTION = AccessRequest(
    Subject("user", "bearer-middleware-check"),
    Action("check"),
    Resource("bearer_middleware_check", "none"),  # what Cedar, too, takes for a type
)
_ASKED = "may user:bearer-middleware-check do check to bearer_middleware_check:none?"
_WELL_KNOWN, _COMMENT = "authzen-configuration", ("#", "//")
#: Some refuse whatever their schema does not know, as others do what is none of their business.
_UNSURE = ("status_400", "status_422", "no_decision")
_LAYOUT = "is it the address, and the kind, of this decision point?"
# By how the word of a decision without effect begins; other words are those of an exchange.
_ADVICE = (
    ("status_401", "refuses us (status 401): is BEARER_POLICY_TOKEN right, or missing?"),
    ("status_403", "refuses us (status 403): may BEARER_POLICY_TOKEN ask for decisions?"),
    ("status_404", f"has nothing there (status 404): {_LAYOUT}"),
    ("status_405", f"takes no such question there (status 405): {_LAYOUT}"),
    ("not_a_decision", f"answers with something else than a decision: {_LAYOUT}"),
    ("not_json", f"does not answer with a JSON object: {_LAYOUT}"),
    (
        "metadata_of_another_decision_point",
        "its metadata is that of another decision point, so it is not believed (AuthZEN section "
        "9.2.3): write the address as policy_decision_point there has it, or see metadata_url "
        "and validate_pdp_id in the documentation",
    ),
    ("metadata_without_endpoint", "its metadata names no access_evaluation_endpoint to be used"),
    ("no_credentials", "was not asked: BEARER_POLICY_TOKEN cannot be sent"),
    (
        "timeout",
        "gives no whole answer in time: is it overloaded, or BEARER_POLICY_TIMEOUT too short?",
    ),
)


def policy_findings(server: ResourceServer, clock: Clock | None = None) -> list[Finding]:
    """What is found at the decision point, by a harmless question; nothing where there is none."""
    authorizer = server.authorizer
    if authorizer is None or authorizer.point is None:
        return []
    point = authorizer.point
    within = point.point if isinstance(point, Around) else point  # what is kept says nothing
    witness = Witness(server.transport)
    deadline = (clock or Clock()).monotonic() + server.settings.policy_timeout
    decision = run(_ask(within, deadline), witness)
    if isinstance(within, AtOnce) or not witness.exchanges:
        return [_of_engine(within, decision), *_of_file(server.settings.policy_file)]
    found = [_of_metadata(each) for each in witness.exchanges if _WELL_KNOWN in each.url]
    found.append(_of_answer(witness.exchanges[-1].url, decision))
    return found


def _ask(point: DecisionPoint, deadline: float) -> Flow[Decision]:
    return point.decide(QUESTION, deadline, fresh=True)


def _of_engine(point: DecisionPoint, decision: Decision) -> Finding:
    name, error = f"BEARER_POLICY={point.name}", decision.error or "undecided"
    if error in _UNSURE:
        text = f"does not decide about what it does not know ({error}), which a schema may be for"
        return Finding("warn", name, f"{text}; asked: {_ASKED}")
    if decision.effect is Effect.INDETERMINATE:
        text = f"could not decide about a harmless question ({error}): does the policy work at all?"
        return Finding("fail", name, f"{text} Asked: {_ASKED}")
    if decision.effect is Effect.PERMIT:
        return Finding("warn", name, _permits_all())
    version = "" if decision.policy_version is None else f", version {decision.policy_version}"
    return Finding("ok", name, f"decides in this process{version}; asked: {_ASKED}")


def _of_file(path: str | None) -> list[Finding]:
    """A policy without a rule can be read as well as any other."""
    try:
        lines = [] if path is None else Path(path).read_text("utf-8").splitlines()
    except (OSError, ValueError):
        return []  # it was read a moment ago, and may be there again in another
    if path is None or any(
        line.strip() and not line.strip().startswith(_COMMENT) for line in lines
    ):
        return []
    text = "has nothing in it but comments, so nobody is permitted anything"
    return [Finding("warn", "BEARER_POLICY_FILE", text)]


def _of_metadata(exchange: Exchange) -> Finding:
    """One place where AuthZEN's metadata may be; that there is none is no mistake."""
    if exchange.failure is not None:
        return Finding("skip", "metadata", f"{address(exchange.url)}: {exchange.failure}")
    if exchange.status == 404:
        return Finding("skip", "metadata", f"{address(exchange.url)}: there is none (status 404)")
    return Finding("ok", "metadata", f"{address(exchange.url)}: status {exchange.status}")


def _of_answer(url: str, decision: Decision) -> Finding:
    where, error = address(url), decision.error or ""
    if error in _UNSURE:
        text = f"answers, but not to a question about types it may not know ({error}): {_LAYOUT}"
        return Finding("warn", _URL, f"{where} {text} Asked: {_ASKED}")
    if decision.effect is Effect.INDETERMINATE:
        return Finding("fail", _URL, f"{where} {_what_is_wrong(error)}")
    if decision.effect is Effect.PERMIT:
        return Finding("warn", _URL, f"{where} {_permits_all()}")
    if decision.effect is Effect.NOT_APPLICABLE:
        text = "answers, but its rule is undefined for such a question: is decision_path right?"
        return Finding("warn", _URL, f"{where} {text} Asked: {_ASKED}")
    return Finding("ok", _URL, f"{where} answers, and denies what it should; asked: {_ASKED}")


def _what_is_wrong(word: str) -> str:
    for begins, text in _ADVICE:
        if word.startswith(begins):
            return text
    words = word.removeprefix("metadata_")
    return advice(words if words == "too_large" else words.replace("_", " "), Report())


def _permits_all() -> str:
    return f"permits even what has no rule ({_ASKED}): does the policy let in everybody?"
