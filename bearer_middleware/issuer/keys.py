"""The keys of an issuer over time: cached, rotated, and still there while it is down.

* Known keys never wait: a set that grows old is renewed in the background, ahead of its
  expiry, while it goes on serving, through an outage up to ``max_stale``.
* An unknown ``kid`` fetches at once, but under a flood of them only a burst of two and
  then one in three seconds, so a freshly rotated key is found soon and nobody can make us
  hammer the issuer.
* A fetch that was given up with its caller is begun again apart, by the next caller.
* A failed fetch, or a document that is bad or empty, never replaces a good set.
* The set is replaced, never merged: a key that was removed verifies nothing any more.
* A bootstrap set serves until the first good fetch, and never after it.
"""

from __future__ import annotations

import logging
import math
import random
from collections.abc import Callable
from functools import partial
from typing import Protocol

from bearer_middleware.errors import InvalidToken, Reason, Refused, TransportError, Unavailable
from bearer_middleware.flow.clock import Backoff, Bucket, Clock
from bearer_middleware.flow.effects import Background, Flow
from bearer_middleware.flow.events import Event, Events
from bearer_middleware.flow.flights import Flights
from bearer_middleware.flow.instruments import FOLLOWERS
from bearer_middleware.flow.locks import LazyLock
from bearer_middleware.issuer.condition import KeysCondition
from bearer_middleware.issuer.upstream import Upstream
from bearer_middleware.tokens.keys import KeySet, VerificationKey

_BURST, _SECONDS_PER_FETCH = 2, 3.0
_QUESTION = "keys"

#: Fetches a key set until the given monotonic deadline; raises TransportError or Refused.
Source = Callable[[float], Flow[KeySet]]


class NotFoundYet(InvalidToken):
    """No key of this ``kid`` in our good set, and nobody could be asked for a newer one."""


class Keys(Protocol):
    """What verifying needs of keys, wherever they come from."""

    #: Serials of the keys that may verify right now, and until when that is certain (monotonic).
    serials: frozenset[int]
    settled_until: float
    #: What stands between us and the key set, for health; ``None`` where nothing is fetched.
    upstream: Upstream | None

    def held(self, kid: str | None, algorithm: str) -> VerificationKey | None:
        """The key, if we have it and need not look for a newer set."""

    def refuses(self, kid: str | None) -> bool:
        """Is it certain that no key of this ``kid`` would be found just now?"""
        ...

    def find(self, kid: str | None, algorithm: str, deadline: float) -> Flow[VerificationKey]: ...

    def wake(self) -> Flow[None]:
        """See to it that there are keys in date, without waiting for them."""
        ...

    def condition(self) -> KeysCondition:
        """How the keys are now; asks nobody."""
        ...


class ChangingKeys:
    """Keys that are fetched from ``source`` and renewed."""

    def __init__(
        self,
        source: Source,
        *,
        upstream: Upstream | None = None,
        issuer: str | None,
        ttl: float,
        max_stale: float,
        timeout: float,
        clock: Clock,
        events: Events,
        bootstrap: KeySet | None = None,
    ) -> None:
        self._source, self._issuer, self.upstream = source, issuer, upstream
        self._ttl, self._max_stale, self._timeout = ttl, max_stale, timeout
        self._clock, self._events = clock, events
        self._monotonic = clock.monotonic
        follows = partial(events.tally.add, FOLLOWERS, "jwks")
        self._flights: Flights[KeySet] = Flights(clock.monotonic, follows)
        self._lock = LazyLock()
        self._backoff = Backoff()
        self._bucket = Bucket(_BURST, _SECONDS_PER_FETCH)
        self._keys = bootstrap
        #: Monotonic seconds of the last good fetch. A bootstrap set waits for the first.
        self._fetched: float | None = None
        self._refresh_at = 0.0
        self.serials: frozenset[int] = frozenset() if bootstrap is None else bootstrap.serials
        self.settled_until = 0.0

    @property
    def key_set(self) -> KeySet | None:
        """The set that serves now, for ``check`` and health."""
        return self._keys

    def held(self, kid: str | None, algorithm: str) -> VerificationKey | None:
        """The key, if it is there and nothing is due; the short way of nearly every token."""
        if self._keys is None or self._monotonic() >= self.settled_until:
            return None
        return self._keys.index.get((kid, algorithm))

    def refuses(self, kid: str | None) -> bool:
        """Not in our good set, and the limit forbids a fetch: what a flood meets first."""
        keys = self._keys
        if keys is None or self._fetched is None or kid is None or keys.knows(kid):
            return False
        now = self._clock.monotonic()
        return (
            now < self.settled_until
            and not self._bucket.would_give(now)
            and self._flights.under_way(_QUESTION) is None
        )

    def find(self, kid: str | None, algorithm: str, deadline: float) -> Flow[VerificationKey]:
        """The key to verify with. Raises ``InvalidToken`` if there is none, ``Unavailable``
        while that cannot be known.
        """
        keys = yield from self._serving(deadline)
        key = keys.find(kid, algorithm)
        if key is None and keys.knows(kid):
            raise self._invalid(Reason.UNSUPPORTED_ALG, "alg is not the one of this key")
        if key is None:
            keys = yield from self._renewed_for(kid, algorithm, keys, deadline)
            key = keys.find(kid, algorithm)
        if key is None:
            raise self._invalid(Reason.UNKNOWN_KID, "no key of this kid and alg")
        return key

    def _serving(self, deadline: float) -> Flow[KeySet]:
        now = self._clock.monotonic()
        if self._keys is None or now >= self._serves_until:
            return (yield from self._fetch(deadline))
        if now >= self._refresh_at:
            yield from self._refresh_apart(now)
        return self._keys

    def wake(self) -> Flow[None]:
        """Begin to fetch where that is due, without waiting for it."""
        now = self._clock.monotonic()
        if now >= self._refresh_at:
            yield from self._refresh_apart(now)

    def condition(self) -> KeysCondition:
        now, fetched = self._clock.monotonic(), self._fetched
        number = 0 if self._keys is None else len(self._keys.keys)
        failing = self._backoff.failing
        return KeysCondition(
            "issuer" if fetched is not None or not number else "bootstrap",
            number,
            None if fetched is None else now - fetched,
            # Keys that grew old for lack of requests are fetched with the next one.
            usable=number > 0 and (now < self._serves_until or not failing),
            failing=failing,
        )

    @property
    def _serves_until(self) -> float:
        return math.inf if self._fetched is None else self._fetched + self._max_stale

    def _refresh_apart(self, now: float) -> Flow[None]:
        with self._lock:
            if now < self._refresh_at:  # another caller was here first
                return
            # Should the work get lost, with its loop say, somebody tries again after this.
            self._put_off(max(now + self._timeout, self._backoff.until))
        if now >= self._backoff.until:
            yield Background(self._refresh)

    def _refresh(self) -> Flow[None]:
        try:
            yield from self._fetch(self._clock.monotonic() + self._timeout)
        except Unavailable:
            return  # told and counted where it happened; the old set serves on

    def _renewed_for(
        self, kid: str | None, algorithm: str, keys: KeySet, deadline: float
    ) -> Flow[KeySet]:
        """A key set newer than ``keys``, fetched because of an unknown ``kid``."""
        flight = self._flights.under_way(_QUESTION)
        if flight is not None:
            # It may have started before the rotation: if it does not help, ask once more.
            yield from self._flights.join(flight, deadline)
            keys = self._keys or keys
            if keys.find(kid, algorithm) is not None:
                return keys
        try:
            return (yield from self._fetch(deadline, self._permit_for_unknown_kid))
        except Unavailable:
            fetched = self._fetched
            if fetched is not None and self._clock.monotonic() < fetched + self._ttl:
                raise self._not_found_yet("not in our good key set") from None
            raise

    def _fetch(self, deadline: float, permit: Callable[[], None] | None = None) -> Flow[KeySet]:
        return (
            yield from self._flights.once(
                _QUESTION,
                lambda: self._load(deadline),
                deadline=deadline,
                late=lambda: self._unavailable("timeout"),
                permit=permit or self._permit,
            )
        )

    def _permit(self) -> None:
        wait = self._backoff.until - self._clock.monotonic()
        if wait > 0:
            raise self._unavailable("cooling down after a failure", wait)

    def _permit_for_unknown_kid(self) -> None:
        self._permit()
        if not self._bucket.take(self._clock.monotonic()):
            if self._fetched is None:  # the issuer may well have it: we never heard from it
                raise self._unavailable("the limit forbids a fetch")
            raise self._not_found_yet("the limit forbids a fetch")

    def _load(self, deadline: float) -> Flow[KeySet]:
        try:
            keys = yield from self._source(deadline)
            if not keys.keys:
                raise TransportError("no usable key in the set")
        except Unavailable as failure:  # the metadata: it has a back-off of its own
            detail = str(failure)  # which says so: else the key set would seem to be at fault
            self._backoff.wait(self._clock.monotonic(), failure.retry_after)
        except (TransportError, Refused) as failure:
            detail = failure.detail
            patience = 0.0 if self.upstream is None else self.upstream.wait
            self._backoff.failed(self._clock.monotonic(), patience)
        except BaseException as given_up:
            if not isinstance(given_up, Exception):
                # Its caller was cancelled. Whoever comes next has it done apart, where nobody
                # can give it up again: else a flood of such callers would use up the limit.
                self._put_off(self._clock.monotonic())
            raise
        else:
            yield from self._take_over(keys)
            return keys
        now = self._clock.monotonic()
        self._put_off(self._backoff.until)
        yield from self._tell("keys_failed", logging.WARNING, detail)
        raise self._unavailable(detail, self._backoff.until - now)

    def _take_over(self, keys: KeySet) -> Flow[None]:
        now = self._clock.monotonic()
        before, self._keys, self.serials = self.serials, keys, keys.serials
        self._backoff.succeeded()
        self._fetched = now
        self._put_off(now + self._ttl * random.uniform(0.75, 0.85))  # noqa: S311 - jitter
        if keys.skipped and keys.serials != before:
            yield from self._tell("keys_skipped", logging.WARNING, "; ".join(keys.skipped[:5]))
        if keys.serials != before:
            added, removed = len(keys.serials - before), len(before - keys.serials)
            yield from self._tell("keys_refreshed", logging.INFO, f"{added} new, {removed} gone")

    def _put_off(self, until: float) -> None:
        """Nothing has to be looked at before ``until``, or before the set is too stale."""
        self._refresh_at = until
        self.settled_until = min(until, self._serves_until)

    def _tell(self, name: str, level: int, detail: str) -> Flow[None]:
        return self._events.happened(Event(name, level, issuer=self._issuer, detail=detail))

    def _invalid(self, reason: Reason, detail: str) -> InvalidToken:
        return InvalidToken(reason, detail, issuer=self._issuer)

    def _not_found_yet(self, detail: str) -> InvalidToken:
        return NotFoundYet(Reason.UNKNOWN_KID, detail, issuer=self._issuer)

    def _unavailable(self, detail: str, retry_after: float = 1.0) -> Unavailable:
        return Unavailable(
            Reason.JWKS_UNAVAILABLE, detail, issuer=self._issuer, retry_after=retry_after
        )
