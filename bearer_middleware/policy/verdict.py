"""What a Rego rule says, as a decision: a boolean, or an object with a boolean in it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from bearer_middleware.policy import told
from bearer_middleware.policy.model import NOTHING, Decision, Effect, indeterminate

#: Of a rule, or a member, that is not there.
UNDEFINED = object()


def verdict(result: Any, *, point: str, version: str | None, key: str = "allow") -> Decision:
    """Only ``true`` permits, by itself or as the member ``key``. What is undefined is not
    applicable, and what is no boolean nobody can know.
    """
    said: Mapping[str, Any] = result if isinstance(result, Mapping) else NOTHING
    allowed = said.get(key, UNDEFINED) if isinstance(result, Mapping) else result
    if allowed is UNDEFINED:
        effect = Effect.NOT_APPLICABLE
    elif isinstance(allowed, bool):
        effect = Effect.PERMIT if allowed else Effect.DENY
    else:
        return indeterminate("no_boolean", point=point)
    obliged = told.obligations(said.get("obligations"))
    return Decision(
        effect=effect,
        reasons=told.words(said.get("reason"), said.get("reasons")),
        user_reason=told.sentence(said.get("user_reason")),
        obligations=obliged,
        acr_values=told.acr_values(said.get("acr_values"), obliged),
        max_age=told.max_age(said.get("max_age")),
        decision_id=told.word(said.get("id")),
        point=point,
        policy_version=version,
        context=said,
    )
