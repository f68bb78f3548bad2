"""Answers shared by several processes, through a cache the user brings.

Whoever can read the cache learns no token and cannot test a guess of one; whoever can
write it cannot mint an identity: keys are an HMAC of the token and of everything that
decides what an answer means, values carry a MAC bound to their key and deadline. What
fails a check, and a cache that fails, is a miss. Refusals are never shared: anybody could
fill the cache with them.
"""

from __future__ import annotations

import hashlib
import hmac
import logging
from typing import Any, Protocol

from bearer_middleware.flow.clock import Clock
from bearer_middleware.flow.effects import Flow, lift
from bearer_middleware.flow.events import Event, Events
from bearer_middleware.issuer.introspection import MAX_ANSWER_BYTES, Answer
from bearer_middleware.issuer.server import AuthorizationServer
from bearer_middleware.tokens.text import parse_object

_VERSION = b"bearer_middleware 1"
_MAC_BYTES = 32


class Cache(Protocol):
    """A store shared by processes. Both methods may be plain, ``async`` or flows."""

    def get(self, key: str) -> Any:
        """The ``bytes`` stored under ``key``, or ``None``."""

    def set(self, key: str, value: bytes, seconds: float) -> Any:
        """Store ``value`` for so many seconds."""


class SharedCache:
    """The user's cache, with what makes it safe."""

    def __init__(self, cache: Cache, secret: str, clock: Clock, events: Events) -> None:
        self._cache, self._clock, self._events = cache, clock, events
        self._secret = secret.encode()

    def __repr__(self) -> str:
        return "<SharedCache>"

    def get(self, token: bytes, server: AuthorizationServer) -> Flow[tuple[Answer, float] | None]:
        """A remembered answer and the seconds it may still be used."""
        key = self._key(token, server)
        try:
            value = yield from lift(self._cache.get, key)
        except Exception as error:  # noqa: BLE001 - a cache that fails is a miss
            yield from self._failed(error)
            return None
        return self._open(key, value) if isinstance(value, bytes) else None

    def put(
        self, token: bytes, server: AuthorizationServer, answer: Answer, seconds: float
    ) -> Flow[None]:
        """Share an answer for so many seconds."""
        key, now = self._key(token, server), self._clock.now()
        expires = answer.claims.get("exp")
        until = int(now + seconds if expires is None else min(now + seconds, expires))
        if until <= now:  # RFC 7662 section 4: never beyond its exp
            return
        text = b"%d\n%s" % (until, answer.payload)
        try:
            yield from lift(self._cache.set, key, self._mac(key, text) + text, until - now)
        except Exception as error:  # noqa: BLE001 - the answer is good without being shared
            yield from self._failed(error)

    def _open(self, key: str, value: bytes) -> tuple[Answer, float] | None:
        mac, text = value[:_MAC_BYTES], value[_MAC_BYTES:]
        if len(value) > 2 * MAX_ANSWER_BYTES or not hmac.compare_digest(mac, self._mac(key, text)):
            return None
        deadline, _, payload = text.partition(b"\n")
        seconds = int(deadline) - self._clock.now()
        return (Answer(parse_object(payload), payload), seconds) if seconds > 0 else None

    def _key(self, token: bytes, server: AuthorizationServer) -> str:
        return hmac.digest(
            self._secret, b"\0".join((_VERSION, server.fingerprint, token)), "sha256"
        ).hex()

    def _mac(self, key: str, text: bytes) -> bytes:
        return hmac.digest(self._secret, hashlib.sha256(key.encode() + text).digest(), "sha256")

    def _failed(self, error: Exception) -> Flow[None]:
        detail = f"the shared cache raised {type(error).__name__}"
        yield from self._events.happened(Event("cache_failed", logging.WARNING, detail=detail))
