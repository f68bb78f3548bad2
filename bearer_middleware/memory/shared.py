"""Answers shared by several processes, through a cache the user brings.

Whoever can read the cache learns no token and cannot test a guess of one; whoever can
write it cannot mint an identity: keys are an HMAC of the token and of everything that
decides what an answer means, values carry a MAC bound to their key and deadline. What
fails a check, and a cache that fails, is a miss. Refusals are never shared: anybody could
fill the cache with them.
"""

from __future__ import annotations

import contextlib
import hashlib
import hmac
import logging
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Protocol

from bearer_middleware.flow.clock import Clock
from bearer_middleware.flow.effects import Background, Flow, lift, pause
from bearer_middleware.flow.events import Event, Events
from bearer_middleware.flow.instruments import LOOKUPS
from bearer_middleware.issuer.introspection import MAX_ANSWER_BYTES, Answer
from bearer_middleware.issuer.server import AuthorizationServer
from bearer_middleware.tokens.text import parse_object

_VERSION = b"bearer_middleware 1"
_MAC_BYTES = 32
#: No value of ours is longer, so no more of one is read.
MAX_VALUE_BYTES = 2 * MAX_ANSWER_BYTES
# So often we look for an answer before we try to take the turn of who should bring it.
_LOOKS = 3
# A look that took longer than this may have been given up, or be out of date.
_PROMPT_SECONDS = 0.1
# A command that waits for others may take so many seconds.
_LONGEST_COMMAND = 1.2
# Somebody who tampers does so many times; one word a minute is enough.
_QUIET_SECONDS = 60.0


class Fleet(Protocol):
    """Processes that let one of them ask for all: it says so under the key of the answer."""

    @property
    def unreadable(self) -> bool:
        """Did the last attempt to read fail?"""
        ...

    def waits(self, deadline: float) -> Iterator[float]:
        """How long to pause before looking again, and again, until it has been long enough."""
        ...

    def claim(self, key: str, seconds: float) -> Flow[bool | None]:
        """Are we the one? ``None`` where nobody can tell."""
        ...

    def release(self, key: str) -> Flow[None]:
        """We are not any more."""
        ...


class Cache(Protocol):
    """A store shared by processes. Both methods may be plain, ``async`` or flows."""

    def get(self, key: str) -> Any:
        """The ``bytes`` stored under ``key``, or ``None``."""

    def set(self, key: str, value: bytes, seconds: float) -> Any:
        """Store ``value`` for so many seconds."""


@dataclass(frozen=True, slots=True, repr=False, eq=False)
class Found:
    """What another process left for us: its answer and the seconds it may still be used.

    ``leads`` is true where there is none, and others wait for the one we shall get; ``spoilt``
    where something else is in its place, so that there is nothing to wait for.
    """

    answer: tuple[Answer, float] | None = None
    leads: bool = False
    spoilt: bool = False

    @property
    def settled(self) -> bool:
        """Is looking again of no use?"""
        return self.answer is not None or self.spoilt


class SharedCache:
    """The user's cache, or that of a fleet, with what makes it safe. One that is ``async`` may
    take ``within`` seconds to answer.
    """

    def __init__(
        self,
        cache: Cache,
        secret: str,
        clock: Clock,
        events: Events,
        *,
        fleet: Fleet | None,
        within: float,
    ) -> None:
        self._cache, self._clock, self._events = cache, clock, events
        self._secret, self._fleet, self._within = secret.encode(), fleet, within
        self._quiet_until = 0.0

    def __repr__(self) -> str:
        return "<SharedCache>"

    def find(self, token: bytes, server: AuthorizationServer, deadline: float) -> Flow[Found]:
        """What there is; in a fleet also what another process is just asking for, unless that
        takes too long. ``deadline`` is monotonic seconds.
        """
        key, now = self._key(token, server), self._clock.monotonic
        # The writer's clock may be ahead of ours: nothing serves for longer than we say.
        longest = server.settings.introspection_ttl
        begun = now()
        enough = begun + (deadline - begun) / 3
        found = yield from self._look(key, longest)
        if found.settled or self._fleet is None or longest <= 0 or now() >= enough:
            return found
        for number, wait in enumerate(self._fleet.waits(deadline)):
            if number % _LOOKS == 0:  # now and then: whoever asks may give up
                leads = yield from self._fleet.claim(key, longest)
                if leads is not False:
                    return (yield from self._led(key, longest, begun, leads=leads is True))
                if now() >= enough:  # the store is slow
                    break
            yield from pause(wait)
            begun = now()
            found = yield from self._look(key, longest)
            if found.settled:
                return found
        return Found()

    def _led(self, key: str, longest: float, begun: float, *, leads: bool) -> Flow[Found]:
        """It is our turn; but where a machine is so slow that it may have been another's since
        we began to look, there may be an answer now.
        """
        if not leads or self._clock.monotonic() - begun < _PROMPT_SECONDS:
            return Found(leads=leads)
        found = yield from self._look(key, longest)
        return found if found.answer is not None else Found(leads=True)

    def look(self, token: bytes, server: AuthorizationServer) -> Flow[tuple[Answer, float] | None]:
        """What there is right now, and the seconds it may still be used."""
        longest = server.settings.introspection_ttl
        return (yield from self._look(self._key(token, server), longest)).answer

    def give_up(
        self, token: bytes, server: AuthorizationServer, found: Found, deadline: float
    ) -> Flow[None]:
        """There will be no answer to share: those who wait for it need not."""
        fleet = self._fleet
        if found.leads and fleet is not None:
            key = self._key(token, server)
            yield from self._before(deadline, lambda: fleet.release(key))

    def put(
        self,
        token: bytes,
        server: AuthorizationServer,
        answer: Answer,
        seconds: float,
        deadline: float,
    ) -> Flow[None]:
        """Share an answer for so many seconds. ``deadline`` is that of who asked."""
        key, now = self._key(token, server), self._clock.now()
        expires = answer.claims.get("exp")
        until = int(now + seconds if expires is None else min(now + seconds, expires))
        if until <= now:  # RFC 7662 section 4: never beyond its exp
            return
        text = b"%d\n%s" % (until, answer.payload)
        value = self._mac(key, text) + text
        yield from self._before(deadline, lambda: self._set(key, value, until - now))

    def _set(self, key: str, value: bytes, seconds: float) -> Flow[None]:
        try:
            yield from lift(self._cache.set, key, value, seconds, within=self._within)
        except Exception as error:  # noqa: BLE001 - the answer is good without being shared
            yield from self._failed(error)

    def _before(self, deadline: float, work: Callable[[], Flow[None]]) -> Flow[None]:
        """Do it, or have it done apart where a slow store would keep the request too long."""
        if self._clock.monotonic() + _LONGEST_COMMAND < deadline:
            yield from work()
            return
        with contextlib.suppress(Exception):  # no thread to be had: nobody needs it that much
            yield from Background(work)

    def _look(self, key: str, longest: float) -> Flow[Found]:
        tally = self._events.tally
        try:
            value = yield from lift(self._cache.get, key, within=self._within)
        except Exception as error:  # noqa: BLE001 - a cache that fails is a miss
            tally.add(LOOKUPS, "l2", "error")
            yield from self._failed(error)
            return Found()
        if not isinstance(value, bytes):
            failed = self._fleet is not None and self._fleet.unreadable
            tally.add(LOOKUPS, "l2", "error" if failed else "miss")
            return Found()
        mac, text = value[:_MAC_BYTES], value[_MAC_BYTES:]
        if len(value) > MAX_VALUE_BYTES or not hmac.compare_digest(mac, self._mac(key, text)):
            tally.add(LOOKUPS, "l2", "error")
            yield from self._tampered()
            return Found(spoilt=True)
        deadline, _, payload = text.partition(b"\n")
        seconds = min(int(deadline) - self._clock.now(), longest)
        tally.add(LOOKUPS, "l2", "hit" if seconds > 0 else "stale")
        return Found((Answer(parse_object(payload), payload), seconds)) if seconds > 0 else Found()

    def _key(self, token: bytes, server: AuthorizationServer) -> str:
        return hmac.digest(
            self._secret, b"\0".join((_VERSION, server.fingerprint, token)), "sha256"
        ).hex()

    def _mac(self, key: str, text: bytes) -> bytes:
        return hmac.digest(self._secret, hashlib.sha256(key.encode() + text).digest(), "sha256")

    def _failed(self, error: Exception) -> Flow[None]:
        detail = f"the shared cache raised {type(error).__name__}"
        yield from self._events.happened(Event("cache_failed", logging.WARNING, detail=detail))

    def _tampered(self) -> Flow[None]:
        now = self._clock.monotonic()
        if now < self._quiet_until:
            return
        self._quiet_until = now + _QUIET_SECONDS
        detail = "a value in the shared cache was not written by this fleet"
        yield from self._events.happened(Event("cache_tampered", logging.ERROR, detail=detail))
