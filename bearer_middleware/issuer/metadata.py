"""Where the endpoints of an issuer are (RFC 8414, OpenID Connect Discovery 1.0)."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from functools import partial
from typing import Any, TypeGuard
from urllib.parse import urlsplit, urlunsplit

from bearer_middleware.errors import Reason, TransportError, Unavailable
from bearer_middleware.flow.clock import Backoff, Clock
from bearer_middleware.flow.effects import Background, Flow, Tls
from bearer_middleware.flow.events import Event, Events
from bearer_middleware.flow.flights import Flights
from bearer_middleware.flow.instruments import FOLLOWERS
from bearer_middleware.flow.locks import LazyLock
from bearer_middleware.issuer.documents import fetch_object
from bearer_middleware.issuer.upstream import Shed, Upstream

MAX_METADATA_BYTES = 65_536
_QUESTION = "metadata"
_KEPT_SECONDS = 3600.0
_MISSED_SECONDS = 30.0
_NOT_THERE = "status 404"
#: What we ask the metadata for.
_ENDPOINTS = ("jwks_uri", "introspection_endpoint")


def well_known_urls(issuer: str) -> tuple[str, ...]:
    """RFC 8414 inserts its suffix before the path, OpenID appends it; tried in this order."""
    path = urlsplit(issuer).path.removesuffix("/")
    return urls_at(
        issuer,
        f"/.well-known/oauth-authorization-server{path}",
        f"/.well-known/openid-configuration{path}",
        f"{path}/.well-known/openid-configuration",
    )


def urls_at(issuer: str, *paths: str) -> tuple[str, ...]:
    """These paths at the host of ``issuer``, each once."""
    parts = urlsplit(issuer)
    return tuple(
        dict.fromkeys(urlunsplit((parts.scheme, parts.netloc, path, "", "")) for path in paths)
    )


class Metadata:
    """The metadata of one issuer: fetched at first need, and anew every hour, while what was
    known goes on serving. ``timeout`` is what that renewal may take, in seconds; ``urls`` are
    where it may be, if not where an authorization server has it.
    """

    def __init__(
        self,
        issuer: str,
        *,
        upstream: Upstream,
        timeout: float,
        clock: Clock,
        events: Events,
        tls: Tls,
        insecure: bool,
        urls: tuple[str, ...] | None = None,
    ) -> None:
        self._issuer, self._clock, self._tls, self._insecure = issuer, clock, tls, insecure
        self._urls = well_known_urls(issuer) if urls is None else urls
        #: Is it published nowhere (404), as far as we know?
        self.missing = False
        #: What stands between us and the documents, for health.
        self.upstream = upstream
        self._timeout, self._events = timeout, events
        follows = partial(events.tally.add, FOLLOWERS, "discovery")
        self._flights: Flights[dict[str, Any]] = Flights(clock.monotonic, follows)
        self._lock = LazyLock()
        self._backoff = Backoff()
        self._members: dict[str, Any] = {}
        self._due = 0.0
        #: The endpoint that did not answer as it should: it may be somewhere else by now.
        self._doubted: str | None = None

    def endpoint(self, name: str, deadline: float) -> Flow[str]:
        """The URL called ``name``. Raises ``Unavailable``; ``MISCONFIGURED`` if there is none."""
        if name == self._doubted:
            yield from self._renew(name, deadline)
        elif name not in self._members or self._clock.monotonic() >= self._due:
            if self._is_usable(self._members.get(name)):
                yield from self._renew_apart(name)
            else:
                yield from self._renew(name, deadline)
        url = self._members.get(name)
        if not self._is_usable(url):
            raise self._unavailable(Reason.MISCONFIGURED, f"the metadata has no usable {name}")
        return url

    def said(self, name: str, deadline: float) -> Flow[Any]:
        """What is said under ``name``; ``None`` where nothing is. Raises ``Unavailable``."""
        if name not in self._members:
            yield from self._renew(name, deadline)
        elif self._clock.monotonic() >= self._due:
            yield from self._renew_apart(name)
        return self._members.get(name)

    def doubt(self, name: str) -> None:
        """Ask again at the next need: this endpoint of ours did not answer as it should."""
        self._doubted = name

    def _renew_apart(self, name: str) -> Flow[None]:
        """Nobody waits for what is known already."""
        with self._lock:
            now = self._clock.monotonic()
            if now < self._due:  # another caller was here first
                return
            # Should the work get lost, with its loop say, somebody tries again after this.
            self._due = max(now + self._timeout, self._backoff.until)
        yield Background(lambda: self._renew(name, self._clock.monotonic() + self._timeout))

    def _renew(self, name: str, deadline: float) -> Flow[None]:
        try:
            yield from self._learn(name, deadline)
            if name not in self._members:  # somebody else's question was answered
                yield from self._learn(name, deadline)
        except Unavailable:
            if name not in self._members:
                raise

    def _learn(self, name: str, deadline: float) -> Flow[None]:
        self._members = yield from self._flights.once(
            _QUESTION,  # one for all endpoints: mostly one document names them all
            lambda: self._discover(name, deadline),
            deadline=deadline,
            late=lambda: self._unavailable(Reason.METADATA_UNAVAILABLE, "timeout"),
            permit=self._permit,
        )

    def _permit(self) -> None:
        wait = self._backoff.until - self._clock.monotonic()
        if wait > 0:
            raise self._unavailable(Reason.METADATA_UNAVAILABLE, "cooling down", wait)

    def _discover(self, name: str, deadline: float) -> Flow[dict[str, Any]]:
        """Merge the documents until they name the endpoint, and those that serve already: some
        servers name one of them, or a usable one, in only one document. What is not found again
        serves on.
        """
        known = {old: url for old, url in self._members.items() if old in _ENDPOINTS and url}
        wanted = {name, *known}
        found: dict[str, Any] = {}
        problem = _NOT_THERE
        for url in self._urls:
            try:
                document = yield from self._fetch(url, deadline)
            except TransportError as failure:
                if problem == _NOT_THERE:  # most servers lack some document: what else is, counts
                    problem = failure.detail
                if isinstance(failure, Shed) or failure.detail in ("timeout", "connect"):
                    break  # the other documents live on the same server
                continue
            useful = self._without_useless(document)
            yield from self._compare(found, useful)
            found = {**useful, **found}
            if wanted <= found.keys():
                break
        self.missing = problem == _NOT_THERE and not found
        if not found:
            now = self._clock.monotonic()
            self._backoff.failed(now, self.upstream.wait)
            wait = self._backoff.until - now
            raise self._unavailable(Reason.METADATA_UNAVAILABLE, problem, wait)
        self._backoff.succeeded()
        self._doubted = None
        complete = found.keys() >= wanted & {*_ENDPOINTS}  # whatever else is not said is no gap
        self._due = self._clock.monotonic() + (_KEPT_SECONDS if complete else _MISSED_SECONDS)
        return {name: None, **known, **found}

    def _fetch(self, url: str, deadline: float) -> Flow[dict[str, Any]]:
        timeout = deadline - self._clock.monotonic()
        document = yield from fetch_object(
            url, self.upstream, timeout=timeout, limit=MAX_METADATA_BYTES, tls=self._tls
        )
        if document.get("issuer") != self._issuer:  # RFC 8414 section 3.3: MUST NOT be used
            raise TransportError("the metadata names another issuer")
        return document

    def _without_useless(self, document: Mapping[str, Any]) -> dict[str, Any]:
        """An endpoint that nobody could use is not named."""
        return {
            name: value
            for name, value in document.items()
            if name not in _ENDPOINTS or self._is_usable(value)
        }

    def _compare(self, one: Mapping[str, Any], other: Mapping[str, Any]) -> Flow[None]:
        """RFC 9068 section 4: where a server has both kinds, they MUST say the same."""
        for name in _ENDPOINTS:
            if name in one and name in other and one[name] != other[name]:
                detail = f"{name} is not the same in all documents; the first one counts"
                event = Event("metadata_differs", logging.WARNING, None, self._issuer, detail)
                yield from self._events.happened(event)

    def _is_usable(self, url: Any) -> TypeGuard[str]:
        try:
            parts = urlsplit(url) if isinstance(url, str) else None
        except ValueError:
            return False
        if parts is None or not parts.hostname:
            return False
        return parts.scheme == "https" or (parts.scheme == "http" and self._insecure)

    def _unavailable(self, reason: Reason, detail: str, retry_after: float = 1.0) -> Unavailable:
        return Unavailable(reason, detail, issuer=self._issuer, retry_after=retry_after)
