"""How the server is: what an operator and an orchestrator want to know, without asking anybody.

``ready`` says whether requests should be sent here. An outage of an authorization server
takes it away from nobody who has been ready before: every worker would be removed at once.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from bearer_middleware.flow.effects import Flow
from bearer_middleware.issuer.server import AuthorizationServer

Status = Literal["ok", "degraded", "failing"]
#: Tells of one thing beside the issuers: its status, and what is to be shown, fit for JSON.
#: ``failing`` says that no request should come here; for an outage that passes, say ``degraded``.
Part = Callable[[], tuple[Status, Mapping[str, Any]]]

_RESERVED = frozenset({"status", "ready", "issuers"})


@dataclass(frozen=True, slots=True)
class Health:
    """The health of a resource server at one moment. Holds no secret and no key id."""

    #: The worst there is: ``degraded`` serves, ``failing`` cannot serve all it should.
    status: Status
    #: Should requests be sent here? ``False`` while no issuer can be served, since its keys
    #: were never there or our credentials are refused, or where a part is failing.
    ready: bool
    issuers: tuple[Mapping[str, Any], ...]
    parts: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)

    def as_dict(self) -> dict[str, Any]:
        """All of it, fit for JSON, and the caller's own."""
        issuers = [copy.deepcopy(dict(issuer)) for issuer in self.issuers]
        parts = {name: copy.deepcopy(dict(part)) for name, part in self.parts.items()}
        return {"status": self.status, "ready": self.ready, "issuers": issuers, **parts}


class Checkup:
    """Looks at the issuers, and at whatever else was added."""

    def __init__(self, servers: Iterable[AuthorizationServer]) -> None:
        self._servers = tuple(servers)
        self._parts: dict[str, Part] = {}

    def add(self, name: str, part: Part) -> None:
        """Show ``part`` under ``name``. It must neither wait nor ask anybody."""
        if name in _RESERVED or name in self._parts:
            raise ValueError(f"{name}: the name is taken")
        self._parts[name] = part

    def health(self) -> Health:
        """How everything is now."""
        issuers = [_issuer(server) for server in self._servers]
        parts = {name: _shown(part) for name, part in self._parts.items()}
        statuses = [shown["status"] for shown in parts.values()]
        ready = any(ready for ready, _ in issuers) and "failing" not in statuses
        told = tuple(shown for _, shown in issuers)
        return Health(_worst(_together(told), *statuses), ready, told, parts)

    def wake(self) -> Flow[None]:
        """Begin to fetch the keys that are due, and to ask again where introspection went
        wrong: a worker that gets no requests yet becomes ready nevertheless.
        """
        for server in self._servers:
            yield from server.wake()


def _issuer(server: AuthorizationServer) -> tuple[bool, dict[str, Any]]:
    """Can this issuer's tokens be served, and how is it?"""
    keys_ready, keys = _keys(server)
    asking_ready, introspection = _introspection(server)
    breakers = _breakers(server)
    opened: Status = "ok" if set(breakers.values()) <= {"closed"} else "degraded"
    status = _worst(keys.get("status", "ok"), introspection.get("status", "ok"), opened)
    parts = {"keys": keys, "introspection": introspection, "breakers": breakers}
    present = {name: part for name, part in parts.items() if part}
    return keys_ready and asking_ready, {"issuer": server.issuer, "status": status, **present}


def _keys(server: AuthorizationServer) -> tuple[bool, dict[str, Any]]:
    if not server.needs_keys:
        return True, {}
    keys = server.keys.condition()
    status: Status = "ok" if keys.usable else "failing"
    if keys.usable and (keys.failing or keys.origin == "bootstrap"):
        status = "degraded"
    age = None if keys.age is None else round(keys.age, 1)
    shown = {"status": status, "from": keys.origin, "number": keys.number, "age_seconds": age}
    # Keys that grew too old in an outage are another matter than keys that were never there.
    return keys.number > 0, shown


def _introspection(server: AuthorizationServer) -> tuple[bool, dict[str, Any]]:
    introspection = server.introspection
    if introspection is None:
        return True, {}
    standing, troubled = introspection.standing, introspection.troubled
    rejected = standing == "rejected"
    status: Status = "degraded" if standing == "failing" or troubled else "ok"
    shown: dict[str, Any] = {"status": "failing" if rejected else status, "state": standing}
    if troubled:
        shown["credentials_file"] = "unusable"
    return not rejected, shown


def _breakers(server: AuthorizationServer) -> dict[str, str]:
    """The state of each circuit breaker there is."""
    guarded = {
        "introspection": server.introspection,
        "keys": server.keys,
        "metadata": server.metadata,
    }
    upstreams = {name: getattr(part, "upstream", None) for name, part in guarded.items()}
    return {name: str(each.state) for name, each in upstreams.items() if each is not None}


def _shown(part: Part) -> dict[str, Any]:
    try:
        status, told = part()
    except Exception as error:  # noqa: BLE001 - whoever cannot say how it is, is not well
        return {"status": "degraded", "error": type(error).__name__}
    return {"status": status, **told}


def _together(issuers: tuple[Mapping[str, Any], ...]) -> Status:
    """One issuer of several that fails does not make the whole fail."""
    statuses: set[Status] = {issuer["status"] for issuer in issuers}
    return statuses.pop() if len(statuses) == 1 else "degraded"


def _worst(*statuses: Status) -> Status:
    if "failing" in statuses:
        return "failing"
    return "degraded" if "degraded" in statuses else "ok"
