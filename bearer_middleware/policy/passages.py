"""What stands between us and a decision point, found wherever it is wrapped in others."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, Literal

from bearer_middleware.access.extensions import Extensions
from bearer_middleware.issuer.upstream import Upstream
from bearer_middleware.policy.function import extensions_of
from bearer_middleware.policy.point import DecisionPoint

_Condition = tuple[Literal["ok", "degraded", "failing"], Mapping[str, Any]]
Part = Callable[[], _Condition]


def upstreams_of(*points: DecisionPoint) -> tuple[Upstream, ...]:
    """Those of all points, each once."""
    found: dict[int, Upstream] = {}
    for point in points:
        told: Iterable[Upstream] = getattr(point, "upstreams", ())
        for upstream in told:
            found.setdefault(id(upstream), upstream)
    return tuple(found.values())


class Around:
    """What a decision point around another one lets pass."""

    point: DecisionPoint

    @property
    def name(self) -> str:
        """That of the point within."""
        return self.point.name

    @property
    def extensions(self) -> Extensions:
        """The functions of the user's that the point within asks."""
        return extensions_of(self.point)

    @property
    def upstreams(self) -> tuple[Upstream, ...]:
        """What stands between us and the point within."""
        return upstreams_of(self.point)


def condition(point: DecisionPoint) -> _Condition:
    """How the decision point is, for health: degraded while it is left alone after failures.
    Requests that nobody can decide are refused one by one, so none has to go elsewhere.
    """
    breakers = [(upstream.target, str(upstream.state)) for upstream in upstreams_of(point)]
    closed = all(state == "closed" for _, state in breakers)
    shown: dict[str, str] = {}
    for target, state in breakers:  # of several decision points the worst counts
        if shown.get(target, "closed") == "closed" or state == "open":
            shown[target] = state
    return ("ok" if closed else "degraded"), {"point": point.name, "breakers": shown}
