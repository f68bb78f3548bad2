"""Status lists: what an issuer publishes of its tokens is asked for once, and then for all.

Each request whose token has a ``status`` is held against the list as it is known, without an
exchange while that is in date: for its ``ttl``, clamped, and never past its ``exp``, whatever
the cache headers of HTTP say (draft-ietf-oauth-status-list section 8.2).

* A list in use is fetched anew ahead of its end, apart, while it goes on serving.
* A list that has ended serves nobody: what cannot be renewed then is 503, for we cannot know.
* A failure is remembered for a while, so that callers do not repeat it one after the other.
* A list older than the one before is none: a revoked token must not come back with it.
"""

from __future__ import annotations

import logging
import random
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

from cachetools import LRUCache

from bearer_middleware.errors import InvalidToken, Reason, Refused, TransportError, Unavailable
from bearer_middleware.flow.clock import Backoff, Clock
from bearer_middleware.flow.effects import Background, Flow
from bearer_middleware.flow.events import Event, Events
from bearer_middleware.flow.flights import Flights
from bearer_middleware.flow.inheritance import inherited
from bearer_middleware.flow.locks import LazyLock, renew_after_fork
from bearer_middleware.flow.ring import Entry
from bearer_middleware.issuer.server import AuthorizationServer
from bearer_middleware.issuer.status_list import fetch_status_list
from bearer_middleware.issuer.upstream import Shed, Upstream
from bearer_middleware.tokens.facts import STATUS
from bearer_middleware.tokens.status import Reference
from bearer_middleware.tokens.status_list import INVALID, SUSPENDED, VALID, StatusList
from bearer_middleware.tokens.text import parse_object

# All lists together; each counts for at least so much, which bounds their number to a thousand.
_MOST_BYTES, _LEAST_BYTES = 64 * 1024 * 1024, 64 * 1024
_FAILURES = 1_000
_EARLIEST, _LATEST = 0.75, 0.80
_LONGEST_SECONDS = 30.0
_WORDS = {INVALID: "INVALID", SUSPENDED: "SUSPENDED"}

#: The number of the issuer, and the URI.
Name = tuple[int, str]
Condition = tuple[Literal["ok", "degraded"], dict[str, Any]]


class _Kept:
    """A list, and how long it may serve, in monotonic seconds and in those of ``exp``."""

    __slots__ = ("due", "list", "until")

    def __init__(self, found: StatusList, asked: float) -> None:
        self.list, self.until = found, asked + found.ttl
        #: When to fetch it anew. Jitter: workers that began together shall not ask together.
        self.due = asked + found.ttl * random.uniform(_EARLIEST, _LATEST)  # noqa: S311


class _Failure:
    """Why there is no list, and until when nobody tries again."""

    __slots__ = ("backoff", "refusal")

    def __init__(self) -> None:
        self.backoff = Backoff()
        self.refusal: Refused | None = None


class StatusLists:
    """The lists of all issuers. ``timeout`` is what fetching one apart may take, in seconds."""

    def __init__(
        self, servers: Sequence[AuthorizationServer], timeout: float, clock: Clock, events: Events
    ) -> None:
        self._servers, self._timeout = servers, timeout
        self._clock, self._events = clock, events
        self._lock = LazyLock()
        self._flights: Flights[_Kept] = Flights(clock.monotonic)
        self._kept: LRUCache[Name, _Kept] = LRUCache(_MOST_BYTES, _size)
        self._failures: LRUCache[Name, _Failure] = LRUCache(_FAILURES)
        #: By issuer and server of the list: one that fails takes no other with it.
        self._upstreams = {
            (server.number, place.origin): Upstream(
                "status_lists",
                issuer=server.issuer,
                timeout=timeout,
                clock=clock,
                events=events,
                longest=_LONGEST_SECONDS,
            )
            for server in servers
            for place in server.jwt_rules.status.places
        }
        renew_after_fork(self)

    def after_fork(self) -> None:
        """Another thread of the parent may have been changing these."""
        self._kept = inherited(self._kept, LRUCache(_MOST_BYTES, _size))
        self._failures = inherited(self._failures, LRUCache(_FAILURES))

    def __repr__(self) -> str:
        return f"<StatusLists: {len(self._kept)}>"

    def hold(self, entry: Entry, deadline: float) -> Flow[None]:
        """Hold a token that is good otherwise against its list, if it has one. ``deadline`` is in
        monotonic seconds.

        Raises ``InvalidToken`` for every status but VALID and an index that the list has not,
        ``Unavailable`` where there is no list in date.
        """
        if not entry[7] & STATUS:
            return
        yield from self.hold_claims(parse_object(entry[8]), self._servers[entry[4]], deadline)

    def hold_claims(
        self, claims: Mapping[str, Any], server: AuthorizationServer, deadline: float
    ) -> Flow[None]:
        """The same for claims that satisfied the rules of ``server``."""
        reference = server.jwt_rules.status.reference(claims.get("status"))
        if reference is None:
            return
        kept = yield from self._serving(server, reference, deadline)
        status = kept.list.status(reference.idx)
        if status != VALID:
            word = "idx is not in the list" if status is None else _WORDS.get(status, "not VALID")
            raise InvalidToken(Reason.INVALID_STATUS, word, issuer=server.issuer)

    def add_to(self, add: Callable[[str, Callable[[], Condition]], None]) -> None:
        """Be a part of health, where there are lists to be fetched."""
        if self._upstreams:
            add("status_lists", self.condition)

    def condition(self) -> Condition:
        """How many lists there are, and the breakers of their servers."""
        now = self._clock.monotonic()
        with self._lock:
            serving = sum(now < kept.until for kept in self._kept.values())
        breakers = {
            f"{scheme}://{host}:{port}": str(upstream.state)
            for (_, (scheme, host, port)), upstream in self._upstreams.items()
        }
        well = set(breakers.values()) == {"closed"}
        return "ok" if well else "degraded", {"lists": serving, "breakers": breakers}

    def _serving(
        self, server: AuthorizationServer, reference: Reference, deadline: float
    ) -> Flow[_Kept]:
        kept = self._in_date((server.number, reference.uri))
        if kept is None:
            return (yield from self._fetched(server, reference, None, deadline))
        if self._clock.monotonic() >= kept.due:
            yield from self._renew_apart(server, reference, kept)
        return kept

    def _in_date(self, name: Name) -> _Kept | None:
        with self._lock:
            kept = self._kept.get(name)
        if kept is None or self._clock.monotonic() >= kept.until:
            return None
        return kept if self._clock.now() < kept.list.expires else None

    def _renew_apart(
        self, server: AuthorizationServer, reference: Reference, kept: _Kept
    ) -> Flow[None]:
        now = self._clock.monotonic()
        with self._lock:
            if now < kept.due:  # another caller was here first
                return
            # Should the work get lost, with its loop say, somebody tries again after this.
            kept.due = now + self._timeout

        def renewal() -> Flow[None]:
            try:
                until = self._clock.monotonic() + self._timeout
                yield from self._fetched(server, reference, kept, until)
            except Refused:  # told of where it happened; the old list serves on
                kept.due = self._retry_at((server.number, reference.uri))

        try:
            yield from Background(renewal)
        except Exception:  # noqa: BLE001 - no thread to be had: that is no reason to refuse anybody
            return

    def _fetched(
        self,
        server: AuthorizationServer,
        reference: Reference,
        known: _Kept | None,
        deadline: float,
    ) -> Flow[_Kept]:
        """A list other than ``known``, fetched for all who want it now."""
        name = (server.number, reference.uri)
        return (
            yield from self._flights.once(
                name,
                lambda: self._load(server, reference, known, deadline),
                deadline=deadline,
                late=lambda: _unavailable("timeout", server.issuer),
                permit=lambda: self._permit(name),
            )
        )

    def _permit(self, name: Name) -> None:
        failure = self._failure(name)
        if failure is None or failure.refusal is None:
            return
        wait = failure.backoff.until - self._clock.monotonic()
        if wait > 0 and self._in_date(name) is None:
            refusal = failure.refusal.again()
            if isinstance(refusal, Unavailable):
                refusal.retry_after = max(wait, 1.0)
            raise refusal

    def _failure(self, name: Name) -> _Failure | None:
        with self._lock:
            return self._failures.get(name)

    def _retry_at(self, name: Name) -> float:
        failure = self._failure(name)
        return self._clock.monotonic() + 1.0 if failure is None else failure.backoff.until

    def _load(
        self,
        server: AuthorizationServer,
        reference: Reference,
        known: _Kept | None,
        deadline: float,
    ) -> Flow[_Kept]:
        name, asked = (server.number, reference.uri), self._clock.monotonic()
        kept = self._in_date(name)
        if kept is not None and kept is not known:
            return kept  # a flight may have landed before this one took off
        upstream = self._upstreams[server.number, reference.origin]
        refusal: Refused
        wait = None
        try:
            found = yield from fetch_status_list(
                server, reference.uri, upstream, self._clock, deadline
            )
            return self._take_over(name, found, asked)
        except TransportError as failure:
            refusal = _unavailable(failure.detail, server.issuer)
            wait = max(upstream.wait, 1.0) if isinstance(failure, Shed) else None
        except Unavailable as failure:  # of the keys
            refusal, wait = failure, failure.retry_after
        except InvalidToken as failure:
            refusal = failure
        self._fail(name, refusal, wait)
        if wait is None:  # else it is told of where it happened
            yield from self._tell(server, refusal)
        raise refusal.with_traceback(None)

    def _tell(self, server: AuthorizationServer, refusal: Refused) -> Flow[None]:
        name, level = "status_list_failed", logging.WARNING
        event = Event(name, level, issuer=server.issuer, detail=refusal.detail)
        return self._events.happened(event)

    def _take_over(self, name: Name, found: StatusList, asked: float) -> _Kept:
        # What it says was so when it was asked for, and its life counts from there.
        kept = _Kept(found, asked)
        with self._lock:
            before = self._kept.get(name)
            if before is not None and found.issued < before.list.issued:
                raise TransportError("older than the list before")
            self._kept[name] = kept
            self._failures.pop(name, None)
        return kept

    def _fail(self, name: Name, refusal: Refused, wait: float | None) -> None:
        """Remember it, for ``wait`` seconds where somebody else is waiting already."""
        now = self._clock.monotonic()
        with self._lock:
            failure = self._failures.setdefault(name, _Failure())
            if wait is None:
                failure.backoff.failed(now)
            else:
                failure.backoff.wait(now, wait)
            failure.refusal = refusal.again()
        if isinstance(refusal, Unavailable):
            refusal.retry_after = max(failure.backoff.until - now, 1.0)


def _unavailable(detail: str, issuer: str | None) -> Unavailable:
    return Unavailable(Reason.STATUS_UNAVAILABLE, detail, issuer=issuer)


def _size(kept: _Kept) -> int:
    return max(len(kept.list.statuses), _LEAST_BYTES)
