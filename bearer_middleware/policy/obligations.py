"""What has to be done before a permit holds. What nobody here can do, or what failed, is a
denial.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from bearer_middleware.errors import Forbidden, Reason, Refused
from bearer_middleware.flow.effects import Flow, lift
from bearer_middleware.policy.model import AccessRequest, Obligation
from bearer_middleware.policy.outcomes import step_up

#: ``(obligation, request)``: does what is wanted; fails where it raises, or returns anything but
#: ``True`` or nothing. A plain function, an ``async`` one or a flow.
ObligationHandler = Callable[[Obligation, AccessRequest], Any]

_STEP_UP = "step-up"
_logger = logging.getLogger("bearer_middleware")


def oblige(
    obligations: Sequence[Obligation],
    handlers: Mapping[str, ObligationHandler],
    request: AccessRequest,
    issuer: str | None,
    *,
    hidden: bool,
) -> Flow[Refused | None]:
    """Do all of them, in their order; the refusal of the first that was not done. ``step-up``
    wants another authentication (RFC 9470), by its ``acr_values`` and ``max_age``.
    """
    denied = Forbidden(Reason.UNKNOWN_OBLIGATION, issuer=issuer, hidden=hidden)
    for obligation in obligations:
        handler = handlers.get(obligation.type)
        if handler is None and obligation.type == _STEP_UP:
            told = obligation.properties
            acr_values, max_age = told.get("acr_values", ()), told.get("max_age")
            return step_up(acr_values, max_age, issuer=issuer) or denied
        if handler is None:
            return denied
        try:
            done = yield from lift(handler, obligation, request)
        except Exception as error:  # noqa: BLE001 - what was not done is no permit
            _logger.error("an obligation raised %s", type(error).__name__)
            return denied
        if done is not None and done is not True:
            return denied
    return None
