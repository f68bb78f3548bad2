"""The short way: a token that nobody has to be asked about, seen before or signed by a key we hold.

Nearly every request goes it and nothing else, so it is written in few calls: each costs as
much as two of these rules. What it does not answer goes the whole way.
"""

from __future__ import annotations

import hashlib

from bearer_middleware.access.identity import (
    Identity,
    facts_of,
    new_identity,
    put_facts,
)
from bearer_middleware.errors import InsufficientScope, InvalidToken, MissingToken, Refused
from bearer_middleware.flow.clock import Clock
from bearer_middleware.flow.ring import Entry
from bearer_middleware.issuer.server import AuthorizationServer
from bearer_middleware.memory.places import Memory, entry_of
from bearer_middleware.revocation.state import Revocations
from bearer_middleware.routing import Trusted
from bearer_middleware.settings import Settings
from bearer_middleware.tokens.bearer import bearer_token
from bearer_middleware.tokens.jws import Jws
from bearer_middleware.tokens.keys import VerificationKey
from bearer_middleware.tokens.text import decode_base64url, is_base64url

_sha256 = hashlib.sha256
_SLOT = 10  # behind the ten items of an entry the ring wrote its slot


class ShortWay:
    """What is remembered, and what can be verified at once. ``None`` always means: I cannot say."""

    __slots__ = (
        "_clock",
        "_forgets_jwts",
        "_keys",
        "_longest",
        "_longest_token",
        "_memory",
        "_monotonic",
        "_now",
        "_recognise",
        "_required",
        "_revocations",
        "_scopes",
        "_seen_answers",
        "_seen_jwts",
        "_served_locally",
        "_touched",
        "_trusted",
    )

    def __init__(
        self,
        trusted: Trusted,
        memory: Memory,
        revocations: Revocations,
        clock: Clock,
        settings: Settings,
        *,
        mapped: bool,
    ) -> None:
        self._trusted, self._memory, self._clock = trusted, memory, clock
        self._revocations = revocations
        self._longest_token = settings.max_token_length
        self._longest = settings.max_token_length + len(b"Bearer ")
        # A claim mapper may add scopes: whether they are enough is seen after it.
        self._scopes = () if mapped else settings.required_scopes
        self._required = frozenset(self._scopes)
        self._now, self._monotonic = clock.now, clock.monotonic
        self._seen_jwts, self._touched = memory.verified.shards, memory.verified.touched
        self._seen_answers = memory.introspected.get
        self._recognise = trusted.headers.recognise
        self._forgets_jwts = all(server.settings.jwt_cache_ttl <= 0 for server in trusted.servers)
        self._keys = tuple(server.keys for server in trusted.servers)
        self._served_locally = {
            server.issuer: server for server in trusted.servers if not server.asks_about_jwts
        }

    def identify(self, value: bytes) -> Identity | None:  # noqa: C901 - calls are what it saves
        """The identity of an Authorization header, where nobody has to be asked.

        ``None`` says nothing: the whole way has to be gone. Raises ``Refused``.
        """
        try:
            if len(value) > self._longest:  # not worth a hash: it is refused, or no bearer at all
                bearer_token((value,), self._longest_token)
                return None
            if self._forgets_jwts and (entry := self._verified(value, b"")) is not None:
                return self.allowed(entry, value)
            digest = _sha256(value).digest()
            entry = self._seen_jwts[digest[0]].get(digest)
            if entry is not None:
                self._touched[entry[_SLOT]] = 1
            else:
                entry = self._seen_answers(digest)
            if entry is not None:
                now = self._monotonic()
                if now < entry[2] and self._now() < entry[1]:
                    serial, keys = entry[3], self._keys[entry[4]]
                    # A key that was removed, or that we cannot vouch for now, vouches for nobody.
                    if serial is None or (serial in keys.serials and now < keys.settled_until):
                        if self._required or self._revocations.state is not None:
                            return self.allowed(entry, value)
                        identity = new_identity(Identity)
                        put_facts(identity, entry)
                        return identity
            entry = None if self._forgets_jwts else self._verified(value, digest)
            return None if entry is None else self.allowed(entry, value)
        except MissingToken:
            return None
        except Refused as refusal:
            refused = refusal
        except Exception:  # noqa: BLE001 - the whole way meets it again, and makes a 503 of it
            return None
        del value  # nor do the frames of a refusal hold the token
        raise refused.with_traceback(None)

    def allowed(self, entry: Entry, value: bytes) -> Identity:
        """The identity of a good entry, for the header ``Bearer`` and token. Raises
        ``InvalidToken`` for a revoked one, ``InsufficientScope``.
        """
        identity = new_identity(Identity)
        put_facts(identity, entry)
        state = self._revocations.state
        if state is not None and entry[0] not in state.cleared:
            issuer = self._trusted.servers[entry[4]].issuer
            self._revocations.clear(state, entry[0], identity, issuer, value[len(b"Bearer ") :])
        if self._required and not self._required <= identity.scopes:
            raise InsufficientScope(self._scopes, issuer=identity.issuer)
        return identity

    def _verified(self, value: bytes, digest: bytes) -> Entry | None:
        jws = self._recognise(value) or self._parsed(value)
        if jws is None:
            return None
        try:
            issuer = jws.hints.get("iss")
            server = self._served_locally.get(issuer) if type(issuer) is str else None
            if server is None:
                self._trusted.issuer_of(jws)  # raises for a stranger
                return None
            server.validate(jws)
            alg, kid, _ = jws.header
            key = server.keys.held(kid, alg)
            return None if key is None else self.verify(jws, server, key, digest)
        except InvalidToken:
            if is_base64url(jws.signature_segment):
                raise
            return None  # it may be no token at all: the whole way says what is wrong first

    def verify(
        self, jws: Jws, server: AuthorizationServer, key: VerificationKey, digest: bytes
    ) -> Entry:
        """The entry of a JWT whose claims are good, if this key signed it. Raises
        ``InvalidToken``.
        """
        _, header_segment, signing_input, payload, claims, segment = jws
        try:
            signature = decode_base64url(segment)
        except ValueError:
            signature = jws.signature  # raises, with a reason
        if not key.verifies(signing_input, signature):
            raise server.not_verified()
        if header_segment:
            self._trusted.headers.remember(jws)
        number, seconds = server.number, server.jwt_cache_ttl
        facts = facts_of(claims, payload, server.issuer, False)
        entry = entry_of(digest, facts, claims, seconds, key.serial, number, self._clock)
        if seconds > 0 and not server.asks_about_jwts:
            self._memory.verified.put(entry)
        return entry

    def _parsed(self, value: bytes) -> Jws | None:
        token = bearer_token((value,), self._longest_token)
        jws = self._trusted.parse(token)
        # Remembered by any other spelling of the header, one token could fill the memory.
        return None if jws is None or value[: -len(token)] != b"Bearer " else jws
