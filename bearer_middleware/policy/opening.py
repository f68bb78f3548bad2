"""From settings to the decision point they name. An engine is imported only where it is named."""

from __future__ import annotations

from importlib import import_module

from bearer_middleware.policy.point import DecisionPoint, Surroundings
from bearer_middleware.settings import Settings

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
