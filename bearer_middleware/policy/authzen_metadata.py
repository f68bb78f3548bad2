"""Where the endpoints of an AuthZEN decision point are (Authorization API 1.0, section 9).

The document is found in three layouts. What it says of itself, ``policy_decision_point``, has to
be the very identifier we were given (section 9.2.3), or an attacker's would do as well. A decision
point that publishes none has its endpoints where the standard puts them (section 10.1).
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit, urlunsplit

from bearer_middleware.errors import TransportError
from bearer_middleware.flow.clock import Backoff
from bearer_middleware.flow.effects import Background, Flow
from bearer_middleware.flow.flights import Flights
from bearer_middleware.flow.locks import LazyLock
from bearer_middleware.issuer.upstream import Shed
from bearer_middleware.policy.authzen_signed import Signed
from bearer_middleware.policy.remote import Remote, word_of
from bearer_middleware.settings import grammar

_WELL_KNOWN = "/.well-known/authzen-configuration"
_KEPT_SECONDS, _MISSED_SECONDS = 3600.0, 60.0
#: An endpoint that fails is looked for again, but not all the time.
_DOUBTED_SECONDS = 5.0
_QUESTION = "metadata"


@dataclass(frozen=True, slots=True, kw_only=True)
class Endpoints:
    """One URL for each API; ``None`` where the decision point does not have it."""

    evaluation: str | None = None
    evaluations: str | None = None
    search_subject: str | None = None
    search_resource: str | None = None
    search_action: str | None = None


#: The parameter of the metadata, and the path where there is no metadata.
_APIS = {
    "evaluation": ("access_evaluation_endpoint", "/access/v1/evaluation"),
    "evaluations": ("access_evaluations_endpoint", "/access/v1/evaluations"),
    "search_subject": ("search_subject_endpoint", "/access/v1/search/subject"),
    "search_resource": ("search_resource_endpoint", "/access/v1/search/resource"),
    "search_action": ("search_action_endpoint", "/access/v1/search/action"),
}
APIS = tuple(_APIS)


def default_endpoints(identifier: str) -> Endpoints:
    """Those of the standard, below the decision point's own URL."""
    return Endpoints(**{api: identifier.rstrip("/") + path for api, (_, path) in _APIS.items()})


def metadata_urls(identifier: str) -> tuple[str, ...]:
    """The standard inserts its suffix before the path (section 9.2.1); Keycloak appends it, and
    OpenFGA inserts it before the last segment alone.
    """
    parts = urlsplit(identifier)
    path = parts.path.rstrip("/")
    paths = (
        f"{_WELL_KNOWN}{path}",
        f"{path}{_WELL_KNOWN}",
        f"{_WELL_KNOWN}/{path.rpartition('/')[2]}" if path else _WELL_KNOWN,
    )
    return tuple(
        dict.fromkeys(urlunsplit((parts.scheme, parts.netloc, each, "", "")) for each in paths)
    )


class Discovery:
    """The endpoints of one decision point: learnt at first need, and anew every hour, while what
    was known goes on serving. ``given`` are known from elsewhere, and win. With ``signed`` only
    what is signed is believed, and that nothing is there is not.
    """

    def __init__(
        self,
        identifier: str,
        remote: Remote,
        *,
        url: str | None = None,
        validate: bool = True,
        signed: Signed | None = None,
        given: Mapping[str, str] | None = None,
        insecure: bool = False,
    ) -> None:
        self._identifier, self._remote = identifier, remote
        self._urls = metadata_urls(identifier) if url is None else (url,)
        self._validate, self._signed = validate, signed
        self._given, self._insecure = dict(given or {}), insecure
        self._monotonic = remote.surroundings.clock.monotonic
        #: What stands between us and the document, for health.
        self.upstream = remote.another_upstream("policy metadata")
        self._flights: Flights[Endpoints] = Flights(self._monotonic)
        self._lock = LazyLock()
        self._backoff = Backoff()
        self._known: Endpoints | None = None
        #: Where there is no document; kept while time runs out before all places are known.
        self._missing: set[str] = set()
        self._due = self._may_be_doubted = 0.0

    @property
    def retry_after(self) -> float:
        """Seconds until the document may be asked for again."""
        return max(self._backoff.until - self._monotonic(), self.upstream.wait, 1.0)

    def endpoints(self, deadline: float) -> Flow[Endpoints]:
        """Where to ask. Raises ``TransportError`` as long as that was never known."""
        known = self._known
        if known is None:
            return (yield from self._learn(deadline))
        if self._monotonic() >= self._due:
            yield from self._renew_apart()
        return known

    def doubt(self) -> None:
        """Look again, apart: an endpoint is not where it was."""
        self._due = min(self._due, self._may_be_doubted)

    def _renew_apart(self) -> Flow[None]:
        with self._lock:
            now = self._monotonic()
            if now < self._due:  # another caller was here first
                return
            # Should the work get lost, with its loop say, somebody tries again after this.
            self._due = max(now + self._remote.timeout, self._backoff.until)
            self._may_be_doubted = self._due
        yield Background(self._renew)

    def _renew(self) -> Flow[None]:
        try:
            yield from self._learn(self._monotonic() + self._remote.timeout)
        except TransportError:
            # What was known serves on.
            self._due = self._may_be_doubted = max(self._due, self._backoff.until)

    def _learn(self, deadline: float) -> Flow[Endpoints]:
        return self._flights.once(
            _QUESTION,
            lambda: self._discover(deadline),
            deadline=deadline,
            late=lambda: TransportError("timeout"),
            permit=self._permit,
        )

    def _permit(self) -> None:
        if self._backoff.until > self._monotonic():
            raise TransportError("metadata cooling down")

    def _discover(self, deadline: float) -> Flow[Endpoints]:
        problem: str | None = None
        for url in [each for each in self._urls if each not in self._missing]:
            try:
                found = yield from self._fetch(url, deadline)
            except TransportError as failure:
                if failure.detail == "status 404":
                    self._missing.add(url)
                    continue
                problem = word_of(failure)
                if isinstance(failure, Shed) or problem in ("timeout", "connect"):
                    break  # the other documents live on the same server
                continue
            return self._learnt(found, _KEPT_SECONDS)
        if problem not in ("timeout", "shed"):
            self._missing.clear()
        if problem is None and self._signed is None:  # there is none
            return self._learnt(default_endpoints(self._identifier), _MISSED_SECONDS)
        problem = problem or "missing"
        self._backoff.failed(self._monotonic(), self.upstream.wait)
        detail = f"metadata {problem.replace('_', ' ')}"
        yield from self._remote.note("policy_failed", logging.WARNING, detail)
        raise TransportError(detail)

    def _learnt(self, found: Endpoints, seconds: float) -> Endpoints:
        self._backoff.succeeded()
        self._missing.clear()
        told = {api: getattr(found, api) for api in APIS}
        self._known = Endpoints(**{**told, **self._given})
        now = self._monotonic()
        self._due, self._may_be_doubted = now + seconds, now + _DOUBTED_SECONDS
        return self._known

    def _fetch(self, url: str, deadline: float) -> Flow[Endpoints]:
        document = yield from self._remote.document(url, self.upstream, deadline)
        if self._signed is not None:
            document = dict(self._signed.claims(document))  # nothing beside it was signed
        if self._validate and document.get("policy_decision_point") != self._identifier:
            raise TransportError("of another decision point")
        found = {
            api: document[name] for api, (name, _) in _APIS.items() if self._usable(document, name)
        }
        if "evaluation" not in found and "evaluation" not in self._given:
            raise TransportError("without endpoint")
        return Endpoints(**found)

    def _usable(self, document: Mapping[str, Any], name: str) -> bool:
        """An absolute URL, and not over http where the decision point is not, or where that leads
        to another machine.
        """
        url = document.get(name)
        try:
            parts = urlsplit(url) if isinstance(url, str) else None
        except ValueError:
            return False
        if not isinstance(url, str) or parts is None or not parts.hostname:
            return False
        plain = grammar.is_plain(url) and grammar.is_plain(self._identifier)
        return parts.scheme == "https" or (plain and (self._insecure or grammar.is_loopback(url)))
