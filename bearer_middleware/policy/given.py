"""A decision point of the user's: an object with the protocol, or a function."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

from bearer_middleware.errors import ConfigError
from bearer_middleware.policy.function import FunctionPoint
from bearer_middleware.policy.model import AccessRequest
from bearer_middleware.policy.point import DecisionPoint, Surroundings


def point_of(
    given: DecisionPoint | Callable[[AccessRequest], Any], surroundings: Surroundings
) -> DecisionPoint:
    """``given`` as a decision point. Raises ``ConfigError`` where it is none."""
    if callable(getattr(given, "decide", None)) and callable(getattr(given, "decide_many", None)):
        return cast("DecisionPoint", given)
    if not callable(given):
        raise ConfigError("policy: must be a decision point, or a function of an AccessRequest")
    return FunctionPoint(given, surroundings=surroundings)
