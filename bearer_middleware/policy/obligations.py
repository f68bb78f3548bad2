"""What has to be done before a permit holds. What nobody here can do, or what failed, is a
denial.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from bearer_middleware.access.identity import Identity
from bearer_middleware.errors import Forbidden, Reason, Refused
from bearer_middleware.flow.effects import Flow, lift
from bearer_middleware.policy.model import AccessRequest, Obligation
from bearer_middleware.policy.outcomes import step_up

if TYPE_CHECKING:
    from bearer_middleware.policy.inquiry import Inquiry

#: ``(obligation, request)``: does what is wanted; fails where it raises, or returns anything but
#: ``True`` or nothing. A plain function, an ``async`` one or a flow.
ObligationHandler = Callable[[Obligation, AccessRequest], Any]
#: ``(acr_values, max_age, identity)``: did the user authenticate like that?
Meets = Callable[[Sequence[str], int | None, Identity], bool]

_STEP_UP = "step-up"
#: What of such an obligation we can see for ourselves to be so already.
_SEEN = frozenset({"acr_value", "acr_values", "max_age"})
_logger = logging.getLogger("bearer_middleware")


def oblige(
    obligations: Sequence[Obligation],
    handlers: Mapping[str, ObligationHandler],
    request: AccessRequest,
    inquiry: Inquiry,
    meets: Meets,
) -> Flow[Refused | None]:
    """Do all of them, in their order; the refusal of the first that was not done. ``step-up``
    wants another authentication (RFC 9470), by its ``acr_values`` and ``max_age``, from whoever
    has not authenticated so already.
    """
    identity = inquiry.identity
    issuer = None if identity is None else identity.issuer
    denied = Forbidden(Reason.UNKNOWN_OBLIGATION, issuer=issuer, hidden=inquiry.hidden)
    for obligation in obligations:
        handler = handlers.get(obligation.type)
        if handler is None and obligation.type == _STEP_UP:
            if _is_met(obligation, identity, meets):
                continue
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


def _is_met(obligation: Obligation, identity: Identity | None, meets: Meets) -> bool:
    """Would another authentication as it is wanted be no other than that of this token?"""
    told = obligation.properties
    wanted = step_up(told.get("acr_values", ()), told.get("max_age"), issuer=None)
    if wanted is None or identity is None or not told.keys() <= _SEEN:
        return False
    names = bool(told.get("acr_value") or told.get("acr_values"))
    is_whole = wanted.max_age == told.get("max_age") and bool(wanted.acr_values) == names
    return is_whole and meets(wanted.acr_values, wanted.max_age, identity)
