"""From a decision to the answer it deserves. Only a permit without more to do lets anybody on."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence

from bearer_middleware.errors import (
    Forbidden,
    InsufficientAuthentication,
    Reason,
    Refused,
    Unavailable,
)
from bearer_middleware.policy.model import Decision, Effect, indeterminate

#: The reason of a denial that nobody spoke out: a batch had no answer to this question.
NOT_ANSWERED = "not_answered"
_LONGEST_SECONDS = 10**9
_LONGEST_REASON = 500
# What stands in a quoted-string between spaces: RFC 6749 appendix A.
_ACR = re.compile(r"[\x21\x23-\x5b\x5d-\x7e]{1,256}")


def refusal_of(decision: Decision, *, issuer: str | None, hidden: bool) -> Refused | None:
    """Why the request is not let through; ``None`` for a permit, whatever it obliges to."""
    if decision.effect is Effect.PERMIT:
        return None
    if decision.effect is Effect.INDETERMINATE:
        return Unavailable(
            Reason.POLICY_UNAVAILABLE,
            decision.error or "",
            issuer=issuer,
            retry_after=_seconds(decision.retry_after),
        )
    wanted = step_up(decision.acr_values, decision.max_age, issuer=issuer)
    if wanted is not None:
        return wanted
    told = decision.user_reason
    shown = told[:_LONGEST_REASON] if isinstance(told, str) and told.strip() else None
    return Forbidden(issuer=issuer, user_reason=shown, hidden=hidden)


def step_up(
    acr_values: object, max_age: object, *, issuer: str | None
) -> InsufficientAuthentication | None:
    """The challenge for another authentication (RFC 9470 section 3), where it is said which:
    values that would not fit into a challenge are left out.
    """
    named = acr_values.split() if isinstance(acr_values, str) else acr_values
    values = named if isinstance(named, Sequence) else ()
    fit = tuple(value for value in values if isinstance(value, str) and _ACR.fullmatch(value))
    whole = isinstance(max_age, int) and not isinstance(max_age, bool)
    age = max_age if isinstance(max_age, int) and whole else None
    if age is not None and not 0 <= age <= _LONGEST_SECONDS:
        age = None
    if not fit and age is None:
        return None
    return InsufficientAuthentication(fit, age, issuer=issuer)


def believed(answer: object, point: str) -> Decision:
    """What a decision point returned, if it is a decision at all."""
    if isinstance(answer, Decision) and isinstance(answer.effect, Effect):
        return answer
    return indeterminate("not_a_decision", point=point)


def believed_all(answers: object, asked: int, point: str) -> list[Decision]:
    """As many decisions as were asked for. What a short batch leaves out is denied; a longer one
    is no answer to anything.
    """
    if not isinstance(answers, list | tuple) or len(answers) > asked:
        return [indeterminate("wrong_batch", point=point)] * asked
    left_out = Decision(effect=Effect.DENY, reasons=(NOT_ANSWERED,), point=point)
    told = [believed(answer, point) for answer in answers]
    return told + [left_out] * (asked - len(told))


def _seconds(value: object) -> float:
    good = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    return float(value) if good and isinstance(value, int | float) else 1.0
