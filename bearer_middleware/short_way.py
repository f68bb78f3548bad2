"""The short way: a token that nobody has to be asked about, seen before or signed by a key we hold.

Nearly every request goes it and nothing else, so it is written in few calls: each costs as
much as two of these rules. What it does not answer goes the whole way.
"""

from __future__ import annotations

from time import perf_counter
from typing import NamedTuple

from bearer_middleware.access.hierarchy import Hierarchy
from bearer_middleware.access.identity import Identity, identity_of
from bearer_middleware.errors import InsufficientScope, InvalidToken, MissingToken, Refused
from bearer_middleware.flow.clock import Clock
from bearer_middleware.flow.instruments import DURATION
from bearer_middleware.flow.ring import Entry
from bearer_middleware.flow.tally import Tally
from bearer_middleware.issuer.keys import Keys
from bearer_middleware.issuer.server import AuthorizationServer
from bearer_middleware.memory.places import Memory, entry_of
from bearer_middleware.memory.remembered import remembering, verifying
from bearer_middleware.memory.served import kind_of
from bearer_middleware.revocation.state import Revocations, State
from bearer_middleware.routing import Trusted, stranger
from bearer_middleware.settings import Settings
from bearer_middleware.tokens.bearer import bearer_token, too_long
from bearer_middleware.tokens.claims import Rules
from bearer_middleware.tokens.facts import STATUS, Facts, usual_facts
from bearer_middleware.tokens.jws import Header, Jws, parse_jws
from bearer_middleware.tokens.keys import VerificationKey
from bearer_middleware.tokens.text import decode_base64url, is_base64url, parse_object

#: Of what is refused on this way, these are about a token, and it is a JWT.
_OF_JWT = InvalidToken, InsufficientScope
_BEARER = len(b"Bearer ")
_DOT = ord(".")
_MOST_SIGNERS, _MOST_HEADERS, _LONGEST_HEAD = 64, 256, 512


class Signer(NamedTuple):
    """Whose signature under a JOSE header was good. Such headers are few, and the same again
    and again; what they say of algorithm and type was looked at then.
    """

    header: Header
    server: AuthorizationServer
    name: bytes
    rules: Rules
    keys: Keys
    key: VerificationKey


class ShortWay:
    """What is remembered, and what can be verified at once. ``None`` always means: I cannot say."""

    __slots__ = (
        "_afresh",
        "_headers",
        "_hierarchy",
        "_longest",
        "_longest_token",
        "_memory",
        "_monotonic",
        "_now",
        "_required",
        "_revocations",
        "_scopes",
        "_served",
        "_served_locally",
        "_signers",
        "_tally",
        "_trusted",
        "identify",
    )

    def __init__(
        self,
        trusted: Trusted,
        memory: Memory,
        revocations: Revocations,
        clock: Clock,
        settings: Settings,
        *,
        hierarchy: Hierarchy,
        mapped: bool,
        tally: Tally,
    ) -> None:
        self._trusted, self._memory = trusted, memory
        self._revocations, self._served, self._tally = revocations, memory.served, tally
        self._afresh = memory.served.afresh
        self._longest_token = settings.max_token_length
        self._longest = settings.max_token_length + _BEARER
        # A claim mapper may add scopes: whether they are enough is seen after it.
        self._scopes = () if mapped else settings.required_scopes
        self._required, self._hierarchy = frozenset(self._scopes), hierarchy
        self._now, self._monotonic = clock.now, clock.monotonic
        #: By how an Authorization header with their JOSE header begins.
        self._signers: dict[bytes, Signer] = {}
        #: By the same, what was read of the others: of no use but to be quick.
        self._headers: dict[bytes, Header] = {}
        self._served_locally = trusted.validated_here()
        keys = tuple(server.keys for server in trusted.servers)
        parts = memory, keys, revocations
        restricted = bool(self._required)
        self.identify = remembering(parts, self._otherwise, self._longest, restricted)
        if all(
            server.jwt_cache_ttl <= 0 and not server.asks_about_jwts for server in trusted.servers
        ):
            self.identify = verifying(self._otherwise, self.identify)

    def _otherwise(  # noqa: C901
        self, value: bytes, digest: bytes, entry: Entry | None
    ) -> Identity | Refused | None:
        """The same for what is not remembered, and for good entries that have more to pass."""
        if entry is not None:
            return self._passed(value, entry)
        started = perf_counter() if self._tally.watched else 0.0
        found: Entry | Refused | None
        try:
            if len(value) > self._longest:
                found = self._too_long(value)
            else:
                found = self._verified(value, digest)
            if isinstance(found, tuple):
                identity = self.allowed(found, value, self._revocations.state)
                self._afresh[found[4]][found[7]] += 1  # its server and its flags
                if started:
                    self._tally.took(DURATION, perf_counter() - started, "allowed", "local")
                return identity
        except MissingToken:
            return None
        except Refused as refusal:
            found = refusal.with_traceback(None)
        if isinstance(found, _OF_JWT):
            found.kind = "jwt"
        if started and found is not None:
            self._tally.took(DURATION, perf_counter() - started, "denied", "local")
        return found

    def _passed(self, value: bytes, entry: Entry) -> Identity | Refused:
        """What a good entry has to pass: who is revoked, which scopes are needed."""
        try:
            identity = self.allowed(entry, value, self._revocations.state)
        except Refused as refusal:
            refusal.kind = kind_of(entry)
            return refusal.with_traceback(None)
        self._served.count(self._served.hits, entry)
        return identity

    def _too_long(self, value: bytes) -> Refused | None:
        """The refusal, returned rather than raised, of what may be no bearer token at all."""
        if value.startswith(b"Bearer "):
            return too_long()
        bearer_token((value,), self._longest_token)
        return None

    def allowed(self, entry: Entry, value: bytes, state: State | None) -> Identity:
        """The identity of a good entry, for the header ``Bearer`` and token, held against what
        is revoked. Raises ``InvalidToken`` for a revoked one, ``InsufficientScope``.
        """
        identity = identity_of(entry)
        if state is not None and state.cleared.get(entry[0]) != (told := hash(entry[8])):
            issuer, token = self._trusted.servers[entry[4]].issuer, value[len(b"Bearer ") :]
            self._revocations.clear(state, entry[0], identity, issuer, token, told)
        needed = self._required
        if needed and not needed <= identity.scopes:
            if self._hierarchy.grants(identity.scopes, needed):
                return identity
            raise InsufficientScope(self._scopes, issuer=identity.issuer)
        return identity

    def _verified(self, value: bytes, digest: bytes) -> Entry | Refused | None:
        """The entry of a JWT that a key we hold signed. A refusal is returned where that is
        most of its cost, else raised.
        """
        first, last = value.find(_DOT), value.rfind(_DOT)
        if first < 0:  # no JWT
            return None
        signer = self._signers.get(value[:first])
        if signer is None:
            return self._verified_first(value, first, last, digest)
        # The alphabet of base64url being part of that of a bearer token, nothing else has to be
        # looked at; but what follows the header may be anything yet.
        header, server, name, rules, keys, key = signer
        segment, facts = value[last + 1 :], None
        try:
            payload = decode_base64url(value[first + 1 : last])
            if payload.find(name) < 0 and self._trusted.is_strange(payload):
                return stranger() if is_base64url(segment) else None
            claims = parse_object(payload)
            now, monotonic = self._now(), self._monotonic()
            if monotonic < keys.settled_until and key.serial in keys.serials:
                facts = usual_facts(claims, payload, rules, now)
            if facts is None:
                signed = value[_BEARER:last]
                return self._judged(Jws(header, b"", signed, payload, claims, segment), digest)
            signature = decode_base64url(segment)
        except ValueError:
            return None  # it may be no token at all: the whole way says what is wrong first
        if not key.verifies(value[_BEARER:last], signature):
            raise server.not_verified()
        return self._entry(server, key.serial, facts, claims["exp"], digest, now, monotonic)

    def _verified_first(
        self, value: bytes, first: int, last: int, digest: bytes
    ) -> Entry | Refused | None:
        """The same under a header that signed nothing good yet."""
        token, head = bearer_token((value,), self._longest_token), value[:first]
        is_three = value.find(_DOT, first + 1) == last > first
        header = self._headers.get(head) if is_three else None
        if header is None:
            header = self._trusted.header_of(token)
            if header is None:
                return None
            # What a misguided client sends once it sends for ever.
            if len(head) <= _LONGEST_HEAD:
                if len(self._headers) >= _MOST_HEADERS:
                    self._headers.clear()
                self._headers[head] = header
        refusal = self._trusted.refusal_of(header)
        if refusal is not None:
            return refusal
        # Remembered by any other spelling of the header, one token could fill the memory.
        if value[: -len(token)] != b"Bearer ":
            return None
        return self._judged(parse_jws(token, header), digest)

    def _judged(self, jws: Jws, digest: bytes) -> Entry | None:
        """The same for any parts of a JWT, rule by rule."""
        try:
            issuer = jws.hints.get("iss")
            server = self._served_locally.get(issuer) if type(issuer) is str else None
            if server is None:
                self._trusted.issuer_of(jws)  # raises for a stranger
                return None
            server.validate(jws.header, jws.hints, self._now())
            if server.jwt_rules.status.concerns(jws.hints):
                return None  # its list may have to be fetched
            key = server.keys.held(jws.header.kid, jws.header.alg)
            return None if key is None else self.verify(jws, server, key, digest)
        except InvalidToken:
            if is_base64url(jws.signature_segment):
                raise
            return None  # here, too

    def verify(
        self, jws: Jws, server: AuthorizationServer, key: VerificationKey, digest: bytes
    ) -> Entry:
        """The entry of a JWT whose claims are good, if this key signed it. Raises
        ``InvalidToken``.
        """
        name = server.mark
        signer = Signer(jws.header, server, name, server.jwt_rules, server.keys, key)
        if not key.verifies(jws.signing_input, jws.signature):
            raise server.not_verified()
        if jws.header_segment and not server.asks_about_jwts:
            if len(self._signers) >= _MOST_SIGNERS:
                self._signers.clear()
            self._signers[b"Bearer " + jws.header_segment] = signer
        now, monotonic = self._now(), self._monotonic()
        status, expires = server.jwt_rules.status.concerns(jws.hints), jws.hints["exp"]
        facts = server.facts_of(jws.hints, jws.payload, server.name, False, status)
        if facts[2] & STATUS:  # not remembered: it has to be held against its list each time
            seconds, number = server.jwt_cache_ttl, server.number
            return entry_of(digest, facts, expires, seconds, key.serial, number, now, monotonic)
        return self._entry(server, key.serial, facts, expires, digest, now, monotonic)

    def _entry(  # noqa: PLR0917 - half the time of keywords
        self,
        server: AuthorizationServer,
        serial: int,
        facts: Facts,
        expires: float,
        digest: bytes,
        now: float,
        monotonic: float,
    ) -> Entry:
        """What is remembered of a JWT that was good."""
        self._served.verified[server.number] += 1
        if monotonic >= self._tally.look_at:
            self._tally.look()
        seconds, left = server.jwt_cache_ttl, expires - now
        until = monotonic + (seconds if seconds < left else left)  # noqa: FURB136 - half the time
        entry = (digest, float(expires), until, serial, server.number) + facts  # noqa: RUF005
        if seconds > 0 and not server.asks_about_jwts:
            self._memory.verified.put(entry)
        return entry
