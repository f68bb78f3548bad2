"""The street: header -> token -> kind -> claims -> identity.

One ``ResourceServer`` serves any number of middlewares of both worlds, threads and loops.
``identify`` is the short way of a token that nobody has to be asked about, a plain method;
``authenticate`` is the whole way, a flow.
"""

from __future__ import annotations

import hashlib
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from bearer_middleware.access.identity import Identity, facts_of, identity_of
from bearer_middleware.errors import (
    ConfigError,
    InsufficientScope,
    MissingToken,
    Reason,
    Refused,
    Unavailable,
)
from bearer_middleware.flow.clock import Clock
from bearer_middleware.flow.effects import Flow, is_async, lift
from bearer_middleware.flow.events import Event, Events
from bearer_middleware.flow.ring import Entry
from bearer_middleware.flow.transport import HttpTransport
from bearer_middleware.issuer.server import AuthorizationServer
from bearer_middleware.memory.answers import Answers, Question
from bearer_middleware.memory.places import Memory, entry_of
from bearer_middleware.memory.shared import Cache, SharedCache
from bearer_middleware.routing import Trusted
from bearer_middleware.settings import Settings
from bearer_middleware.tokens.bearer import bearer_token
from bearer_middleware.tokens.jws import Jws
from bearer_middleware.tokens.keys import VerificationKey

_sha256 = hashlib.sha256

#: ``(token) -> Identity``, or ``None`` for "not mine, ask the next"; raises ``InvalidToken``.
TokenValidator = Callable[[str], Any]
#: ``(identity) -> Identity``: the identity as the standard claims make it, to one of your own.
ClaimMapper = Callable[[Identity], Any]
EventListener = Callable[[Event], Any]


class ResourceServer:
    """Validates the tokens of requests by ``settings``.

    Every extension may be a plain function, an ``async`` one or a flow; a WSGI middleware
    refuses ``async`` ones when it is built. ``clock`` returns seconds since the epoch;
    ``transport`` is a transport of httpx's own kind, used in place of the network.

    Raises ``ConfigError`` where the settings cannot work.
    """

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
    ) -> None:
        self.settings = settings
        self.transport = HttpTransport(transport)
        self.events = Events(listener)
        self._clock = Clock() if clock is None else Clock(clock, clock)
        self._validators = tuple(validators)
        self._mapper = claim_mapper
        self._extensions: tuple[Callable[..., Any] | None, ...] = (
            *validators,
            claim_mapper,
            listener,
        )
        self._longest = settings.max_token_length + len(b"Bearer ")
        self._has_extensions = any(given is not None for given in self._extensions)
        self._required = frozenset(settings.required_scopes)
        self.trusted = Trusted(settings, self._clock, self.events)
        self._keys = tuple(server.keys for server in self.trusted.servers)
        self._remembers_jwts = any(issuer.jwt_cache_ttl > 0 for issuer in settings.issuers)
        self.memory = Memory(settings.cache_size, self._clock)
        # What the short way uses, one step nearer.
        self._seen_jwts, self._seen_answers = self.memory.verified, self.memory.introspected
        self._now, self._monotonic = self._clock.now, self._clock.monotonic
        shared = self._share(cache)
        self._answers = Answers(self.memory, self._clock, self.events, shared)

    def __repr__(self) -> str:
        return f"<ResourceServer of {len(self._keys)} issuers>"

    def close(self) -> None:
        """Close the connections that blocking code opened; also done when the process ends."""
        self.transport.close()

    def aclose(self) -> Awaitable[None]:
        """Close the connections of the running event loop; also done at the end of lifespan."""
        return self.transport.aclose()

    # -- the short way -------------------------------------------------------------------

    def identify(self, value: bytes) -> Identity | None:
        """The identity of an Authorization header, where nobody has to be asked: the token
        was seen before, or is a JWT whose key we hold.

        ``None`` says nothing: :meth:`authenticate` has to find out. Raises ``Refused``.
        """
        if self._has_extensions:  # they may have to wait for something
            return None
        try:
            if len(value) > self._longest:  # not worth a hash: it is refused, or no bearer at all
                bearer_token((value,), self.settings.max_token_length)
                return None
            if self._remembers_jwts:
                digest = _sha256(value).digest()
                entry = self._recalled(digest) or self._verified(value, digest)
            else:
                entry = self._verified(value, b"") or self._recalled(_sha256(value).digest())
            if entry is None:
                return None
            identity = identity_of(entry)
            return self._allow(identity) if self._required else identity
        except MissingToken:
            return None
        except Refused as refusal:
            refused = refusal
        except Exception:  # noqa: BLE001 - the whole way meets it again, and makes a 503 of it
            return None
        del value  # nor do the frames of a refusal hold the token
        self.events.note_refusal(refused)
        raise refused.with_traceback(None)

    def _verified(self, value: bytes, digest: bytes) -> Entry | None:
        token = bearer_token((value,), self.settings.max_token_length)
        jws = self.trusted.parse(token)
        # Remembered by any other spelling of the header, one token could fill the memory.
        if jws is None or value[: -len(token)] != b"Bearer ":
            return None
        server = self.trusted.issuer_of(jws)
        if server.asks_about_jwts:
            return None
        server.validate(jws)
        key = server.keys.held(jws.header.kid, jws.header.alg)
        return None if key is None else self._verify(jws, server, key, digest)

    def _verify(
        self, jws: Jws, server: AuthorizationServer, key: VerificationKey, digest: bytes
    ) -> Entry:
        serial = server.verify(jws, key)
        facts = facts_of(jws.hints, jws.payload, server.issuer, opaque=False)
        seconds = server.settings.jwt_cache_ttl
        entry = entry_of(digest, facts, jws.hints, seconds, serial, server.number, self._clock)
        if seconds > 0 and not server.asks_about_jwts:
            self.memory.verified.put(entry)
        return entry

    def _recalled(self, digest: bytes) -> Entry | None:
        entry = self._seen_jwts.get(digest) or self._seen_answers.get(digest)
        if entry is None:
            return None
        now = self._monotonic()
        if now >= entry[2] or self._now() >= entry[1]:
            return None
        serial = entry[3]
        if serial is not None:
            # A key that was removed, or that we cannot vouch for now, vouches for nobody.
            keys = self._keys[entry[4]]
            if serial not in keys.serials or now >= keys.settled_until:
                return None
        return entry

    # -- the whole way -------------------------------------------------------------------

    def authenticate(self, values: Sequence[bytes]) -> Flow[Identity | None]:
        """The identity of a request whose Authorization headers are ``values``.

        ``None`` is an anonymous caller, where the settings allow that. Raises ``Refused``,
        and nothing else.
        """
        try:
            return (yield from self._authenticate(values))
        except Refused as refusal:
            if isinstance(refusal, MissingToken) and self.settings.optional:
                return None
            refused = refusal
        except Exception as error:  # noqa: BLE001 - fail closed, and never as a 500
            refused = Unavailable(Reason.INTERNAL, type(error).__name__)
        del values  # nor do the frames of a refusal hold the token
        yield from self.events.refused(refused)
        raise refused.with_traceback(None)

    def _authenticate(self, values: Sequence[bytes]) -> Flow[Identity]:
        token = bearer_token(values, self.settings.max_token_length)
        for validator in self._validators:
            identity = yield from self._extended(validator, token.decode("ascii"))
            if identity is not None:
                return self._allow(identity)
        digest = _sha256(b"Bearer " + token).digest()
        entry = self._recalled(digest)
        if entry is None:
            deadline = self._clock.monotonic() + self.settings.http_timeout
            entry = yield from self._entry(token, digest, deadline)
        identity = identity_of(entry)
        if self._mapper is not None:
            identity = yield from self._extended(self._mapper, identity)
            if identity is None:  # only a validator may say "not mine"
                raise Unavailable(Reason.EXTENSION_FAILED, "the claim mapper returned nothing")
        return self._allow(identity)

    def _entry(self, token: bytes, digest: bytes, deadline: float) -> Flow[Entry]:
        jws = self.trusted.parse(token)
        if jws is None:
            server = self.trusted.introspecting(token)
            return (yield from self._answers.entry(Question(token, digest, server, deadline)))
        server = self.trusted.issuer_of(jws)
        verified = None
        if server.settings.jwt_validation != "introspect" and server.settings.local_validation:
            server.validate(jws)
            key = yield from server.keys.find(jws.header.kid, jws.header.alg, deadline)
            verified = self._verify(jws, server, key, digest)
            if not server.asks_about_jwts:
                return verified
        question = Question(token, digest, server, deadline, is_jwt=True, verified=verified)
        return (yield from self._answers.entry(question))

    def _allow(self, identity: Identity) -> Identity:
        if self._required and not self._required <= identity.scopes:
            raise InsufficientScope(self.settings.required_scopes, issuer=identity.issuer)
        return identity

    # -- extensions ----------------------------------------------------------------------

    def refuse_async_extensions(self) -> None:
        """For blocking worlds. Raises ``ConfigError`` where an extension needs an event loop."""
        names = [
            getattr(extension, "__name__", type(extension).__name__)
            for extension in self._extensions
            if extension is not None and is_async(extension)
        ]
        if names:
            raise ConfigError(f"{name}: an async extension cannot serve WSGI" for name in names)

    def _extended(self, extension: Callable[..., Any], argument: Any) -> Flow[Any]:
        try:
            result = yield from lift(extension, argument)
        except Refused:
            raise
        except Exception as error:  # noqa: BLE001 - it is not ours, and must not let anybody in
            detail = f"an extension raised {type(error).__name__}"
        else:
            if result is None or isinstance(result, Identity):
                return result
            detail = "an extension returned no Identity"
        raise Unavailable(Reason.EXTENSION_FAILED, detail)

    def _share(self, cache: Cache | None) -> SharedCache | None:
        if cache is None:
            return None
        secret = self.settings.fleet_secret
        if secret is None:
            raise ConfigError("BEARER_FLEET_SECRET: needed for the MACs in a shared cache")
        self._extensions = (*self._extensions, cache.get, cache.set)
        return SharedCache(cache, secret.reveal(), self._clock, self.events)
