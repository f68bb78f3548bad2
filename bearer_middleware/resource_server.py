"""The street: header -> token -> kind -> claims -> identity.

One ``ResourceServer`` serves any number of middlewares of both worlds, threads and loops.
``identify`` is the short way of a token that nobody has to be asked about, a plain method;
``authenticate`` is the whole way, a flow.
"""

from __future__ import annotations

import hashlib
from collections.abc import Awaitable, Callable, Sequence
from typing import TYPE_CHECKING, Any

from bearer_middleware.access.extensions import (
    ClaimMapper,
    Extensions,
    TokenValidator,
    extended,
    refuse_async,
)
from bearer_middleware.access.hierarchy import Implies, hierarchy_of
from bearer_middleware.access.identity import Identity, mapped, origin_of
from bearer_middleware.errors import InsufficientScope, MissingToken, Reason, Refused, Unavailable
from bearer_middleware.flow.clock import Clock
from bearer_middleware.flow.effects import Flow
from bearer_middleware.flow.events import Event, Events
from bearer_middleware.flow.ring import Entry
from bearer_middleware.flow.tally import Tally
from bearer_middleware.flow.transport import HttpTransport
from bearer_middleware.health import Checkup, Health
from bearer_middleware.memory.answers import Answers
from bearer_middleware.memory.course import Course
from bearer_middleware.memory.limits import Client, Limits
from bearer_middleware.memory.places import Memory
from bearer_middleware.memory.question import Question
from bearer_middleware.memory.remembered import Identify, say_nothing
from bearer_middleware.memory.shared import Cache, SharedCache
from bearer_middleware.memory.sharing import shared_cache
from bearer_middleware.policy.server import Deciding
from bearer_middleware.revocation.alone import Alone
from bearer_middleware.revocation.bound import ASK_AGAIN_SECONDS
from bearer_middleware.revocation.feed import Feed
from bearer_middleware.revocation.opening import open_feed
from bearer_middleware.revocation.receivers import Receivers
from bearer_middleware.revocation.revoker import Revoker
from bearer_middleware.revocation.revoking import Revoking
from bearer_middleware.revocation.source import Source
from bearer_middleware.revocation.state import Revocations
from bearer_middleware.routing import Trusted
from bearer_middleware.settings import Settings
from bearer_middleware.short_way import ShortWay
from bearer_middleware.telemetry.showing import show
from bearer_middleware.tokens.bearer import bearer_token

if TYPE_CHECKING:
    from bearer_middleware.audit.opening import Audit
    from bearer_middleware.policy.opening import Obligations, Policy

_sha256 = hashlib.sha256
EventListener = Callable[[Event], Any]


class ResourceServer(Revoker, Deciding):
    """Validates the tokens of requests by ``settings``.

    Every extension may be a plain function, an ``async`` one or a flow; a WSGI middleware
    refuses ``async`` ones when it is built. ``clock`` returns seconds since the epoch;
    ``transport`` is one of httpx's own kind, used in place of the network; ``feed`` tells of
    revocations in place of ``BEARER_REVOCATION_URL``; ``audit`` is an ``Auditor`` or its sinks.
    ``metrics`` is ``"prometheus"``, or a registry of prometheus_client, where metrics shall be
    shown besides in OpenTelemetry. ``policy`` decides access in place of ``BEARER_POLICY``: a
    decision point, or a function of an ``AccessRequest``, of which only ``True`` permits.
    ``obligations`` are what a permit may oblige us to, by type: functions of the obligation and
    the request. ``implies`` expands scopes, ``(granted) -> scopes``, or is a table. Raises
    ``ConfigError`` where the settings cannot work.
    """

    feed: Feed | None
    #: The identity of an Authorization header, where nobody has to be asked: a plain function.
    #: ``None`` says nothing: :meth:`authenticate` has to find out. Raises ``Refused``, which
    #: nobody was told of.
    identify: Identify
    receivers: Receivers

    def __init__(
        self,
        settings: Settings,
        *,
        validators: Sequence[TokenValidator] = (),
        claim_mapper: ClaimMapper | None = None,
        cache: Cache | None = None,
        listener: EventListener | None = None,
        clock: Callable[[], float] | None = None,
        transport: Any = None,
        metrics: Any = None,
        feed: Source | None = None,
        policy: Policy | None = None,
        audit: Audit | None = None,
        obligations: Obligations | None = None,
        implies: Implies | None = None,
    ) -> None:
        self.settings = settings
        self._clock = Clock() if clock is None else Clock(clock, clock)
        self.events = self._make_events(listener)
        self.transport = HttpTransport(transport, self.events.note)
        self._validators, self._mapper = tuple(validators), claim_mapper
        self._extensions: Extensions = (*validators, claim_mapper, listener)
        self._has_extensions = any(given is not None for given in self._extensions)
        self.hierarchy = hierarchy_of(settings, implies)
        self.trusted = Trusted(settings, self._clock, self.events)
        self.memory = Memory(settings.cache_size, self._clock, len(self.trusted.servers))
        self.revocations, self.alone = Revocations(self._clock), Alone()
        self.checkup = Checkup(self.trusted.servers)
        self.feed, self._revoking = self._open_feed(feed)
        self._short_way = self._make_short_way()
        self.identify = say_nothing if self._has_extensions else self._short_way.identify
        self._open_receivers()
        self.audit = self._open_audit(audit)
        self.limits = Limits(settings.cache_size, self._clock, self.events)
        self._answers = self._open_answers(cache)
        self._open_policy(policy, obligations, self.checkup.add)
        show(self, metrics, extended=self._has_extensions)

    def __repr__(self) -> str:
        return f"<ResourceServer of {len(self.trusted.servers)} issuers>"

    def now(self) -> float:
        """Seconds since the epoch, by the clock of this server."""
        return self._clock.now()

    def close(self) -> None:
        """Close the connections that blocking code opened; also done when the process ends."""
        self.transport.close()

    def aclose(self) -> Awaitable[None]:
        """Close the connections of the running event loop; also done at the end of lifespan."""
        return self.transport.aclose()

    def health(self) -> Health:
        """How the server is now. Asks nobody, and is right before the first request, too."""
        return self.checkup.health()

    def wake(self) -> Flow[None]:
        """Begin to fetch what is due, without waiting for it; so readiness needs no traffic."""
        if self.feed is not None:
            self.feed.start()
        return self.checkup.wake()

    # -- revoking ------------------------------------------------------------------------

    def refuse_revoked(self, identity: Identity, token: bytes) -> None:
        """Hold an identity, and the token it was made of, against what is revoked now. Raises
        ``InvalidToken``.
        """
        state, identity = self.revocations.held, origin_of(identity)
        if state is not None:
            issuer = self.trusted.home_of(identity.issuer)
            self.revocations.clear(state, b"", identity, issuer, token)

    # -- the whole way -------------------------------------------------------------------

    def authenticate(
        self, values: Sequence[bytes], *, client: Client | None = None
    ) -> Flow[Identity | None]:
        """The identity of a request whose Authorization headers are ``values``.

        ``client`` returns a key of the caller's address, or ``None``; it is called where a
        limit depends on it. ``None`` is an anonymous caller, where the settings allow that.
        Raises ``Refused``, and nothing else.
        """
        course = Course(self.events.tally)
        try:
            identity = yield from self._authenticate(values, client, course)
            course.allowed(identity)
            return identity
        except Refused as refusal:
            if isinstance(refusal, MissingToken) and self.settings.optional:
                course.anonymous()
                return None
            refused = refusal
        except Exception as error:  # noqa: BLE001 - fail closed, and never as a 500
            refused = Unavailable(Reason.INTERNAL, type(error).__name__)
        del values, client  # nor do the frames of a refusal hold the token
        course.refused(refused)
        yield from self.events.refused(refused)
        raise refused.with_traceback(None)

    def _authenticate(
        self, values: Sequence[bytes], client: Client | None, course: Course
    ) -> Flow[Identity]:
        token = bearer_token(values, self.settings.max_token_length)
        deadline = self.deadline()
        if self.feed is not None:
            yield from self.feed.admit(deadline)
        for validator in self._validators:
            identity = yield from extended(validator, token.decode("ascii"))
            if identity is not None:
                self.refuse_revoked(identity, token)
                return self._allow(identity)
        value, identity = b"Bearer " + token, None
        if self._has_extensions or value != values[0]:  # else whoever asks has tried that
            identity = self._short_way.identify(value)
            course.counted = identity is not None and not self._has_extensions
        if identity is None:
            digest = _sha256(value).digest()
            entry = yield from self._entry(token, digest, deadline, client, course)
            identity = self._short_way.allowed(entry, value, self.revocations.held)
            yield from self.trusted.statuses.hold(entry, deadline)
        if self._mapper is not None:
            made = yield from extended(self._mapper, identity)
            if made is None:  # only a validator may say "not mine"
                raise Unavailable(Reason.EXTENSION_FAILED, "the claim mapper returned nothing")
            lasts = self.settings.close_on_expiry and made is not identity
            identity = mapped(made, identity) if lasts else made
        return self._allow(identity)

    def _entry(
        self, token: bytes, digest: bytes, deadline: float, client: Client | None, course: Course
    ) -> Flow[Entry]:
        jws = self.trusted.parse(token)
        if jws is None:
            course.kind = "opaque"
            server = self.trusted.introspecting(token)
            question = Question(token, digest, server, deadline, course, client=client)
            return (yield from self._answer(question))
        course.kind = "jwt"
        server = self.trusted.issuer_of(jws)
        jws.signature  # noqa: B018 - raises for what is none: junk causes no exchange
        verified = None
        if server.settings.jwt_validation != "introspect" and server.settings.local_validation:
            server.validate(jws.header, jws.hints, self._clock.now())
            key = yield from server.keys.find(jws.header.kid, jws.header.alg, deadline)
            verified = self._short_way.verify(jws, server, key, digest)
            asks = self.feed is not None and self.feed.asks_again and server.introspection
            if not server.asks_about_jwts and not asks:
                course.issuer = server.issuer
                return verified
        question = Question(
            token, digest, server, deadline, course, is_jwt=True, verified=verified, client=client
        )
        return (yield from self._answer(question))

    def _answer(self, question: Question) -> Flow[Entry]:
        if self.feed is not None and self.feed.asks_again:
            return self._answers.renewed(question, ASK_AGAIN_SECONDS)
        return self._answers.entry(question)

    def _allow(self, identity: Identity) -> Identity:
        needed = self.hierarchy.required
        if needed and not self.hierarchy.grants(identity.scopes, needed):
            raise InsufficientScope(self.settings.required_scopes, issuer=identity.issuer)
        return identity

    # -- extensions ----------------------------------------------------------------------

    def refuse_async_extensions(self) -> None:
        """For blocking worlds. Raises ``ConfigError`` where an extension needs an event loop."""
        refuse_async((*self._extensions, *self.extensions_of_policy))

    def deadline(self) -> float:
        """Until when a request that begins now may wait, in monotonic seconds."""
        return self._clock.monotonic() + self.settings.http_timeout

    def _make_events(self, listener: EventListener | None) -> Events:
        tally = Tally(issuer.issuer for issuer in self.settings.issuers)
        return Events(listener, tally=tally, monotonic=self._clock.monotonic)

    def _open_receivers(self) -> None:
        parts = (self.trusted, self._revoking, self._clock, self.events, self.checkup.add)
        self.receivers = Receivers(self.settings, *parts)
        self.trusted.statuses.add_to(self.checkup.add)

    def _open_answers(self, cache: Cache | None) -> Answers:
        shared = self._share(cache)
        return Answers(self.memory, self._clock, self.events, shared, self.limits)

    def _share(self, cache: Cache | None) -> SharedCache | None:
        settings, beside = self.settings, self.transport.beside
        shared, self.fleet_cache = shared_cache(settings, cache, self._clock, self.events, beside)
        if self.fleet_cache is not None:
            self.checkup.add("redis", self.fleet_cache.condition)
        elif cache is not None:
            self._extensions = (*self._extensions, cache.get, cache.set)
        return shared

    def _make_short_way(self) -> ShortWay:
        parts = (self.trusted, self.memory, self.revocations, self._clock, self.settings)
        # With extensions all requests go the whole way, which tells of them.
        tally = Tally() if self._has_extensions else self.events.tally
        mapped = self._mapper is not None
        return ShortWay(*parts, hierarchy=self.hierarchy, mapped=mapped, tally=tally)

    def _open_feed(self, source: Source | None) -> tuple[Feed | None, Revoking]:
        parts = (self.settings, source, self.revocations, self.alone, self.trusted.named)
        feed, revoking = open_feed(*parts, self.transport, self._clock, self.events)
        if feed is not None:  # no revocation shall be forgotten before its token ends
            self.trusted.limit_life(self.settings.revocation_keep)
            self.checkup.add("revocation", feed.condition)
        return feed, revoking
