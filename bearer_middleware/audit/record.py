"""What happened, as those who were there hand it on; what is written of it is decided elsewhere."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, Protocol

from bearer_middleware.access.identity import Identity
from bearer_middleware.errors import Refused
from bearer_middleware.flow.effects import Flow
from bearer_middleware.policy.model import AccessRequest, Decision

Outcome = Literal["permit", "deny", "not_applicable", "indeterminate", "fail_open"]


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestFacts:
    """What is told of an HTTP request: no query, no body, and none but these headers."""

    method: str
    #: The template of the path, or the path itself where there is no template.
    route: str
    host: str | None = None
    #: The client's address, as ``BEARER_TRUSTED_PROXIES`` has it.
    ip: str | None = None
    user_agent: str | None = None
    request_id: str | None = None
    trace_id: str | None = None
    span_id: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """One decision, or one refused authentication, which has a ``refusal`` and no ``request``."""

    #: Seconds since the epoch.
    at: float
    outcome: Outcome
    #: Of the answer; 200 where the request went on.
    status: int
    facts: RequestFacts
    identity: Identity | None = None
    request: AccessRequest | None = None
    decision: Decision | None = None
    refusal: Refused | None = None
    #: How long the decision took.
    seconds: float = 0.0


class Recorder(Protocol):
    """Takes records. Raises ``Unavailable`` where one that is required could not be kept."""

    def record(self, record: Record) -> Flow[None]:
        """Keep it, and hold nobody up."""
        ...
