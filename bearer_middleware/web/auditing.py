"""Refused authentications, on their way into the audit trail. Nothing of this runs without one."""

from __future__ import annotations

from collections.abc import Callable

from bearer_middleware.access.identity import Identity
from bearer_middleware.audit.record import Record, Recorder, RequestFacts
from bearer_middleware.errors import Refused, Unavailable
from bearer_middleware.flow.effects import Flow
from bearer_middleware.web.challenge import Answer, Challenges

#: Makes of a refusal, the facts of its request and who asked, if he is known, the answer to it.
Audited = Callable[[Refused, Answer, RequestFacts, Identity | None], Flow[Answer]]


def audited(recorder: Recorder, now: Callable[[], float], challenges: Challenges) -> Audited:
    """What tells ``recorder`` of refused requests."""

    def tell(
        refusal: Refused, answer: Answer, facts: RequestFacts, identity: Identity | None
    ) -> Flow[Answer]:
        """The answer stands, but where the event is required and cannot be kept."""
        unknown = isinstance(refusal, Unavailable)
        record = Record(
            at=now(),
            outcome="indeterminate" if unknown else "deny",
            status=answer.status,
            facts=facts,
            identity=identity,
            refusal=refusal,
        )
        try:
            yield from recorder.record(record)
        except Unavailable as failure:
            return challenges.refuse(failure)
        return answer

    return tell
