"""One authorization server we trust: its rules, its keys, its introspection endpoint."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from bearer_middleware.errors import ConfigError, InvalidToken, Reason, TransportError
from bearer_middleware.flow.clock import Clock
from bearer_middleware.flow.effects import Flow, Tls
from bearer_middleware.flow.events import Events
from bearer_middleware.issuer.credentials import ClientCredentials
from bearer_middleware.issuer.documents import fetch_key_set
from bearer_middleware.issuer.given_keys import (
    FixedKeys,
    jwks_file_keys,
    read_key_file,
    secret_file_keys,
)
from bearer_middleware.issuer.introspection import Introspection
from bearer_middleware.issuer.keys import ChangingKeys, Keys
from bearer_middleware.issuer.metadata import Metadata
from bearer_middleware.issuer.probe import Probe
from bearer_middleware.issuer.ruling import facts_for, rules_for
from bearer_middleware.issuer.upstream import Upstream
from bearer_middleware.issuer.userinfo import ASKING
from bearer_middleware.settings import IssuerSettings
from bearer_middleware.tokens.claims import Claims, validate_claims, validate_type
from bearer_middleware.tokens.jws import Header, Jws, parse_jws, read_header
from bearer_middleware.tokens.keys import (
    KeySet,
    VerificationKey,
    accepted_names,
    secret_keys,
)
from bearer_middleware.tokens.preset import USUAL, named

_NEAR = 300.0  # seconds between a signed answer and now; compared, for its iat may be huge
# Keys and metadata are asked for seldom, and back off by themselves for no longer than this.
_DOCUMENT_SECONDS = 30.0


class AuthorizationServer:
    """What one issuer's settings amount to. Asks nothing before the first token arrives."""

    def __init__(
        self,
        settings: IssuerSettings,
        *,
        number: int,
        others: frozenset[str],
        insecure: bool,
        timeout: float,
        clock: Clock,
        events: Events,
    ) -> None:
        self.settings, self.number = settings, number
        self.issuer, self.jwt_cache_ttl = settings.issuer, settings.jwt_cache_ttl
        #: Is the server asked about JWTs, instead of or after looking at them ourselves?
        self.asks_about_jwts = settings.jwt_validation != "local" or not settings.local_validation
        self._clock, self._timeout, self._events = clock, timeout, events
        self._tls = Tls(settings.ca_file)
        self._algorithms = accepted_names(settings.algorithms)
        #: Issuers that other servers speak for, and this one must not.
        self._others = others
        self.preset = preset = settings.preset
        self.jwt_rules, self.answer_rules = rules_for(settings, preset)
        #: What makes facts of claims; to be called with ``name`` for the issuer.
        self.facts_of = facts_for(preset)
        self.name = self.issuer and (self.issuer if preset is USUAL else named(self.issuer, preset))
        #: All that its tokens may have as ``iss``, and what is a part of each of these.
        self.names = (self.issuer, *preset.aliases)
        self.mark = (preset.mark or self.issuer or "").encode()
        self.metadata = (
            None if self.issuer is None else self._make_metadata(self.issuer, insecure=insecure)
        )
        self._key_server = self._upstream("keys", _DOCUMENT_SECONDS)
        self.keys: Keys = self._make_keys(timeout, events)
        self.introspection = self._make_introspection(events) if settings.introspection else None
        self._probe = Probe(self.introspection, timeout, clock) if self.introspection else None

    @property
    def needs_keys(self) -> bool:
        """Must there be keys, or does the server verify everything itself?"""
        settings = self.settings
        signed = settings.introspection_signed or bool(settings.status_lists)
        return settings.local_validation and (settings.jwt_validation != "introspect" or signed)

    @property
    def fingerprint(self) -> bytes:
        """Everything that decides what an answer of this server means to us."""
        settings = self.settings
        parts: tuple[object, ...] = (
            settings.issuer,
            settings.introspection_url,
            settings.client_id,
            settings.audience,
            settings.allow_any_audience,
            settings.introspection_audience,
            settings.introspection_signed,
            settings.introspection_ttl,
        )
        if self.preset is not USUAL:
            parts += (settings.provider, self.preset.asked)
        return repr(parts).encode()

    # -- JWT -----------------------------------------------------------------------------

    def validate(self, header: Header, claims: Claims, now: float) -> None:
        """All that can be said without a key, and is said before one is looked for: junk
        causes no fetch and no dear work. Raises ``InvalidToken``.
        """
        self.allow(header.alg)
        validate_type(header.typ, self.jwt_rules)
        validate_claims(claims, self.jwt_rules, now)
        self.demand_kid(header.kid)

    def demand_kid(self, kid: str | None) -> None:
        """Some products always name the key. Raises ``InvalidToken``."""
        if kid is None and self.preset.needs_kid:
            raise self._invalid(Reason.UNKNOWN_KID, "no kid")

    def allow(self, algorithm: str) -> None:
        """Is this on our list (RFC 8725 section 3.1)? Raises ``InvalidToken``."""
        if algorithm not in self._algorithms:
            raise self._invalid(Reason.UNSUPPORTED_ALG, "alg is not on the list")

    def verify_signature(self, jws: Jws, deadline: float) -> Flow[int]:
        """Find the key and verify; its serial. Raises ``InvalidToken``, ``Unavailable``."""
        key = yield from self.keys.find(jws.header.kid, jws.header.alg, deadline)
        return self.verify(jws, key)

    def verify(self, jws: Jws, key: VerificationKey) -> int:
        """Verify with this key. Raises ``InvalidToken``."""
        if not key.verifies(jws.signing_input, jws.signature):
            raise self.not_verified()
        return key.serial

    def not_verified(self) -> InvalidToken:
        """The refusal of a signature that no key of ours made."""
        return self._invalid(Reason.BAD_SIGNATURE, "the signature does not verify")

    # -- introspection answers -----------------------------------------------------------

    def judge(self, claims: Mapping[str, Any]) -> None:
        """May a token with this answer in? Raises ``InvalidToken``."""
        self.refuse_others(claims)
        validate_claims(claims, self.answer_rules, self._clock.now())

    def refuse_others(self, claims: Mapping[str, Any]) -> None:
        """Who has no name speaks for no other that has one. Raises ``InvalidToken``."""
        named = claims.get("iss")
        if self.issuer is None and isinstance(named, str) and named in self._others:
            raise InvalidToken(Reason.UNKNOWN_ISSUER, "the answer speaks for another server")

    def _read_signed(self, body: bytes, deadline: float) -> Flow[Mapping[str, Any]]:
        """The claims of a signed answer (RFC 9701 section 5). Raises ``TransportError``."""
        try:
            token = body.strip()
            header = read_header(token)
            if header is None:
                raise TransportError("signed answer: not a JWT")
            jws = parse_jws(token, header)
            self.allow(jws.header.alg)
            yield from self.verify_signature(jws, deadline)
        except InvalidToken as refusal:
            raise TransportError(f"signed answer: {refusal.reason}") from None
        claims, now = jws.hints, self._clock.now()
        ours = {self.settings.client_id, *self.settings.audience}
        audience, issued = claims.get("aud"), claims.get("iat")
        named = audience if isinstance(audience, list) else [audience]
        if jws.header.typ != "token-introspection+jwt" or claims.get("iss") != self.issuer:
            raise TransportError("signed answer: wrong typ or iss")
        if not any(isinstance(name, str) and name in ours for name in named):
            raise TransportError("signed answer: not meant for us")
        if not (isinstance(issued, int | float) and now - _NEAR <= issued <= now + _NEAR):
            raise TransportError("signed answer: iat missing or not of now")
        return claims

    # -- keys ----------------------------------------------------------------------------

    def fetch_keys(self, deadline: float) -> Flow[KeySet]:
        """The keys as they are published now; they may be none. Raises ``TransportError``,
        ``Unavailable``.
        """
        settings = self.settings
        if settings.jwks_file is not None:
            try:
                return read_key_file("jwks_file", settings)
            except ConfigError:  # it was good when the middleware was built
                raise TransportError("the file is not usable any more") from None
        url = settings.jwks_url
        if url is None:
            url = yield from self._metadata().endpoint("jwks_uri", deadline)
        timeout = deadline - self._clock.monotonic()
        of = self.preset.key_issuers
        parts = (url, self._key_server, settings.algorithms, of)
        try:
            return (yield from fetch_key_set(*parts, timeout=timeout, tls=self._tls))
        except TransportError as failure:
            detail = failure.detail
        if self.metadata is not None:
            self.metadata.doubt("jwks_uri")
        raise TransportError(detail)

    def wake(self) -> Flow[None]:
        """Begin what is due, without waiting for it: see ``health``."""
        if self.needs_keys:
            yield from self.keys.wake()
        if self._probe is not None:
            yield from self._probe.wake()

    # -- making --------------------------------------------------------------------------

    def _make_metadata(self, issuer: str, *, insecure: bool) -> Metadata:
        return Metadata(
            issuer,
            upstream=self._upstream("metadata", _DOCUMENT_SECONDS),
            timeout=self._timeout,
            clock=self._clock,
            events=self._events,
            tls=self._tls,
            insecure=insecure,
        )

    def _make_keys(self, timeout: float, events: Events) -> Keys:
        settings = self.settings
        if settings.local_validation:
            import jwt  # noqa: F401 - takes 0.1 s: now, and not on the loop of the first request
        if settings.hmac_secret is not None:
            secret = settings.hmac_secret.reveal().encode()
            keys = secret_keys(secret, settings.algorithms)
            if settings.hmac_secret_file is None:
                return FixedKeys(keys, self.issuer)
            return secret_file_keys(settings, keys, self._clock, events)
        if settings.jwks_file is not None:  # a mistake in it is one of the configuration: say it
            keys = read_key_file("jwks_file", settings)
            return jwks_file_keys(settings, keys, self._clock, events)
        return ChangingKeys(
            self.fetch_keys,
            upstream=self._key_server,
            issuer=self.issuer,
            ttl=settings.jwks_ttl,
            max_stale=settings.jwks_max_stale,
            timeout=timeout,
            clock=self._clock,
            events=events,
            bootstrap=self._bootstrap(),
        )

    def _bootstrap(self) -> KeySet | None:
        if self.settings.jwks_bootstrap_file is None:
            return None
        return read_key_file("jwks_bootstrap_file", self.settings)

    def _make_introspection(self, events: Events) -> Introspection:
        settings = self.settings
        return ASKING[self.preset.asked](
            self._introspection_endpoint,
            ClientCredentials(
                settings, self._clock.now, monotonic=self._clock.monotonic, events=events
            ),
            upstream=self._upstream("introspection"),
            issuer=self.issuer,
            clock=self._clock,
            events=events,
            tls=self._client_tls(),
            read_signed=self._read_signed if settings.introspection_signed else None,
        )

    def _upstream(self, name: str, longest: float = 60.0) -> Upstream:
        return Upstream(
            name,
            issuer=self.issuer,
            timeout=self._timeout,
            clock=self._clock,
            events=self._events,
            longest=longest,
        )

    def _client_tls(self) -> Tls:
        settings = self.settings
        if settings.client_auth != "tls_client_auth":
            return self._tls
        return Tls(settings.ca_file, settings.client_cert_file, settings.client_key_file)

    def _introspection_endpoint(self, deadline: float) -> Flow[str]:
        url = self.settings.introspection_url
        return url or (yield from self._metadata().endpoint("introspection_endpoint", deadline))

    def _metadata(self) -> Metadata:
        if self.metadata is None:
            raise TransportError("no issuer to ask for its metadata")
        return self.metadata

    def _invalid(self, reason: Reason, detail: str) -> InvalidToken:
        return InvalidToken(reason, detail, issuer=self.issuer)
