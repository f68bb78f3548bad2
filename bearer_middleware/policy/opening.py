"""From settings to the decision point they name, and to who asks it. An engine is imported only
where it is named.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from importlib import import_module
from typing import Any

from bearer_middleware.access.hierarchy import Hierarchy
from bearer_middleware.audit.record import Recorder
from bearer_middleware.errors import ConfigError
from bearer_middleware.flow.clock import Clock
from bearer_middleware.flow.effects import Tls
from bearer_middleware.flow.events import Events
from bearer_middleware.policy.authorizer import Authorizer
from bearer_middleware.policy.cached import cached
from bearer_middleware.policy.given import point_of
from bearer_middleware.policy.model import AccessRequest
from bearer_middleware.policy.obligations import ObligationHandler
from bearer_middleware.policy.point import DecisionPoint, Surroundings
from bearer_middleware.settings import Settings

#: ``True`` permits, ``False`` denies, ``None`` does not know; or a whole ``Decision``.
PolicyFunction = Callable[[AccessRequest], Any]
Policy = DecisionPoint | PolicyFunction
Obligations = Mapping[str, ObligationHandler]
#: What a server may be given in code.
Given = tuple[Policy | None, Recorder | None, Obligations | None]

_logger = logging.getLogger("bearer_middleware")
#: Each has ``open_point(settings, surroundings)``, which raises ``ConfigError``.
_MODULES = {
    "authzen": "bearer_middleware.policy.authzen",
    "permit": "bearer_middleware.policy.permit",
    "opa": "bearer_middleware.policy.opa",
    "cedar": "bearer_middleware.policy.cedar",
    "casbin": "bearer_middleware.policy.casbin",
    "rego": "bearer_middleware.policy.rego",
    "local": "bearer_middleware.policy.local",
}


def open_point(settings: Settings, surroundings: Surroundings) -> DecisionPoint | None:
    """The decision point of ``BEARER_POLICY``; ``None`` where none is set. Raises
    ``ConfigError``.
    """
    if settings.policy is None:
        return None
    module = import_module(_MODULES[settings.policy])
    point: DecisionPoint = module.open_point(settings, surroundings)
    return point


def open_authorizer(
    settings: Settings, given: Given, clock: Clock, events: Events, hierarchy: Hierarchy
) -> Authorizer | None:
    """Who decides over requests; ``None`` where nothing but tokens decides. Raises
    ``ConfigError``.
    """
    policy, recorder, obligations = given
    if not all(callable(handler) for handler in (obligations or {}).values()):
        raise ConfigError("obligations: each is done by a function (obligation, request)")
    surroundings = Surroundings(clock=clock, events=events, tls=Tls(settings.ca_file))
    if policy is not None:
        if settings.policy is not None:
            raise ConfigError("BEARER_POLICY: a policy was also given in code; keep one")
        point: DecisionPoint | None = point_of(policy, surroundings)
    else:
        point = open_point(settings, surroundings)
    if point is None and settings.routes is None:
        return None
    if point is None and any(route.action for route in settings.routes or ()):
        _logger.warning("the routes name actions, but no policy is set: scopes alone decide")
    if point is not None:
        point = cached(point, settings, clock)
    return Authorizer(
        settings,
        point,
        clock=clock,
        events=events,
        hierarchy=hierarchy,
        recorder=recorder,
        obligations=obligations,
    )
