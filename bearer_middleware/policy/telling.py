"""What is told of decisions: to telemetry, and to audit where there is any."""

from __future__ import annotations

from bearer_middleware.audit.record import Outcome, Record, Recorder
from bearer_middleware.errors import Forbidden, Refused
from bearer_middleware.flow.clock import Clock
from bearer_middleware.flow.effects import Flow
from bearer_middleware.flow.events import Events
from bearer_middleware.flow.instruments import DECISIONS, POLICY_DURATION
from bearer_middleware.policy.inquiry import Inquiry
from bearer_middleware.policy.model import AccessRequest, Decision


class Telling:
    """Tells of the decisions of one decision point; ``name`` is its name."""

    __slots__ = ("_clock", "_name", "_recorder", "_tally")

    def __init__(self, name: str, clock: Clock, events: Events, recorder: Recorder | None) -> None:
        self._name, self._clock, self._tally = name, clock, events.tally
        self._recorder = recorder

    @property
    def records(self) -> bool:
        """Is there anybody to take records?"""
        return self._recorder is not None

    def count(self, outcome: str, decision: Decision, seconds: float) -> None:
        """One more decision, and how long it took."""
        self._tally.add(DECISIONS, outcome, self._name, "true" if decision.cached else "false")
        self._tally.took(POLICY_DURATION, seconds, outcome, self._name)

    def record(
        self,
        inquiry: Inquiry,
        outcome: Outcome,
        *,
        refusal: Refused | None,
        request: AccessRequest | None = None,
        decision: Decision | None = None,
        seconds: float = 0.0,
    ) -> Flow[None]:
        """Have it recorded. Raises ``Unavailable`` where it has to be kept, and could not."""
        if self._recorder is None or inquiry.facts is None:
            return
        yield from self._recorder.record(
            Record(
                at=self._clock.now(),
                outcome=outcome,
                status=_status(outcome, refusal),
                facts=inquiry.facts,
                identity=inquiry.identity,
                request=request,
                decision=decision,
                refusal=refusal,
                seconds=seconds,
            )
        )


def _status(outcome: Outcome, refusal: Refused | None) -> int:
    if refusal is None or outcome == "fail_open":
        return 200
    return 404 if isinstance(refusal, Forbidden) and refusal.hidden else refusal.status
