"""What FastAPI knows of a route's dependencies, read without importing it; versions differ."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any


def everywhere(dependencies: Iterable[Any]) -> Iterator[Any]:
    """These dependants and all that they depend on."""
    for dependency in dependencies:
        yield dependency
        yield from everywhere(dependency.dependencies)


def scopes_of(dependant: Any) -> tuple[str, ...]:
    """All that ``Security`` names here and further out."""
    names = ("parent_oauth_scopes", "own_oauth_scopes", "security_scopes")
    return tuple(scope for name in names for scope in getattr(dependant, name, None) or ())


def route_in(scope: Mapping[str, Any]) -> Any:
    """The route that serves a request, with the dependencies of all routers around it."""
    route, kept = scope.get("route"), scope.get("fastapi")
    if isinstance(kept, Mapping):  # newer ones leave what was included as it is
        effective = kept.get("effective_route_context")
        if getattr(effective, "original_route", None) is route:
            return effective
    return route
