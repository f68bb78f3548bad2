"""What a resource server can be asked at any time: how full, how old, in what state.

Nothing is kept up to date for this: the values are read where they are when somebody asks.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Protocol

from bearer_middleware.flow import instruments
from bearer_middleware.flow.events import Events
from bearer_middleware.flow.tally import Labels
from bearer_middleware.issuer.server import AuthorizationServer
from bearer_middleware.issuer.upstream import Upstream
from bearer_middleware.memory.places import Memory
from bearer_middleware.memory.served import each
from bearer_middleware.revocation.state import Revocations
from bearer_middleware.routing import Trusted
from bearer_middleware.tokens.facts import OPAQUE

_Values = Iterable[tuple[Labels, float]]
_STATES = {"closed": 0, "half-open": 1, "open": 2}


class Parts(Protocol):
    """Of a resource server, what is read here."""

    events: Events
    trusted: Trusted
    memory: Memory
    revocations: Revocations

    def now(self) -> float: ...

    @property
    def policy_upstreams(self) -> tuple[Upstream, ...]: ...


class Readings:
    """Lets the tally of a resource server read its parts."""

    def __init__(self, parts: Parts, *, extended: bool) -> None:
        self._tally = tally = parts.events.tally
        self._servers, self._now = parts.trusted.servers, parts.now
        self._policy = parts.policy_upstreams
        self._memory, self._served, self._revocations = (
            parts.memory,
            parts.memory.served,
            parts.revocations,
        )
        tally.signs.append(self._served.watched)
        if not extended:  # else who was recognised here may yet be refused
            tally.watch(instruments.REQUESTS, self._requests)
        tally.watch(instruments.LOOKUPS, self._lookups)
        tally.watch(instruments.SIZE, self._size)
        tally.watch(instruments.EVICTIONS, self._evictions)
        tally.watch(instruments.IN_FLIGHT, self._in_flight)
        tally.watch(instruments.BREAKER, self._breakers)
        tally.watch(instruments.KEYS, self._keys)
        tally.watch(instruments.KEYS_FETCHED, self._keys_fetched)
        tally.watch(instruments.UNKNOWN_KID, self._unknown_kid)
        tally.watch(instruments.REVOKED, self._revoked)
        tally.watch(instruments.DENIED, self._denied)
        tally.watch(instruments.CLOCK_SKEW, self._clock_skew)

    # -- requests and caches -------------------------------------------------------------

    def _requests(self) -> _Values:
        """Who was let in on the short way."""
        for counts in (self._served.hits, self._served.afresh):
            for server, flags, number in each(counts):
                kind = "opaque" if flags & OPAQUE else "jwt"
                issuer = self._tally.issuer(self._servers[server].issuer)
                yield ("allowed", "", kind, issuer), number

    def _lookups(self) -> _Values:
        for server, flags, number in each(self._served.hits):
            kept_as_jwt = not (flags & OPAQUE or self._servers[server].asks_about_jwts)
            yield ("jwt" if kept_as_jwt else "pos", "hit"), number
        for authority, number in zip(self._servers, self._served.verified, strict=True):
            if authority.jwt_cache_ttl > 0 and not authority.asks_about_jwts:
                yield ("jwt", "miss"), number

    def _size(self) -> _Values:
        memory = self._memory
        yield ("jwt",), len(memory.verified)
        yield ("pos",), len(memory.introspected)
        yield ("neg",), len(memory.refusals)

    def _evictions(self) -> _Values:
        memory = self._memory
        yield ("jwt",), memory.verified.evicted
        yield ("pos",), memory.introspected.evicted
        yield ("neg",), memory.refusals.evicted

    # -- authorization servers -----------------------------------------------------------

    def _in_flight(self) -> _Values:
        for upstream in self._upstreams():
            yield (upstream.target,), upstream.in_flight

    def _breakers(self) -> _Values:
        for upstream in self._upstreams():
            yield (upstream.target,), _STATES[upstream.state]

    def _keys(self) -> _Values:
        for server in self._servers:
            if server.needs_keys:
                yield (self._tally.issuer(server.issuer),), server.keys.condition().number

    def _keys_fetched(self) -> _Values:
        for server in self._servers:
            age = server.keys.condition().age if server.needs_keys else None
            if age is not None:
                yield (self._tally.issuer(server.issuer),), self._now() - age

    def _clock_skew(self) -> _Values:
        for server in self._servers:
            for upstream in _upstreams_of(server):
                if upstream.skew is not None:
                    yield (self._tally.issuer(server.issuer),), upstream.skew

    def _upstreams(self) -> Iterator[Upstream]:
        for server in self._servers:
            yield from _upstreams_of(server)
        yield from self._policy

    # -- refusals, by what they say of keys and revocations -------------------------------

    def _unknown_kid(self) -> _Values:
        for (_, reason, _, issuer), number in self._tally.counted(instruments.REQUESTS):
            if reason == "unknown_kid":
                yield (issuer,), number

    def _denied(self) -> _Values:
        for (_, reason, kind, _), number in self._tally.counted(instruments.REQUESTS):
            if reason == "revoked":
                yield (kind,), number

    def _revoked(self) -> _Values:
        state = self._revocations.held
        yield ("denied",), 0 if state is None else len(state.denied)
        yield ("cutoff",), 0 if state is None else len(state.cutoffs)


def _upstreams_of(server: AuthorizationServer) -> Iterator[Upstream]:
    for part in (server.keys, server.introspection, server.metadata):
        upstream = getattr(part, "upstream", None)
        if upstream is not None:
            yield upstream
