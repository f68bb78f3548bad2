"""How often callers may make us ask about tokens that nobody has seen before.

Random tokens are all new, so remembering refusals does not help against a flood of them:
what is asked has to be bounded. Two buckets do it, the caller's own and one for all:

* Only a token that turns out bad costs its caller a place; a good one gives it back.
* The fuller a caller's record of bad tokens, the fuller the bucket of all has to be for it.
  So those who fail leave the last places to those who do not.
* Who has no address, or where nobody said how to find it, has no bucket of its own.

Nothing that was good before, is remembered, or is verified locally comes here.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import TypeVar

from cachetools import LRUCache

from bearer_middleware.errors import InvalidToken, RateLimited, Reason, Unavailable
from bearer_middleware.flow.clock import Bucket, Clock
from bearer_middleware.flow.effects import Flow
from bearer_middleware.flow.events import Event, Events
from bearer_middleware.flow.locks import LazyLock, renew_after_fork

T = TypeVar("T")
#: Where a request comes from: a key of its client's address. ``None`` if there is none.
Client = Callable[[], bytes | None]

_BURST, _SECONDS = 100, 1 / 50
_CLIENT_BURST, _CLIENT_SECONDS = 20, 1 / 5
#: Of the places for all, those that a caller whose own are all spent has to leave.
_RESERVE = _BURST / 2
#: Forgetting a client gives it a new bucket, which is only as much as a new address has.
_MOST_CLIENTS = 10_000
_SECONDS_BETWEEN_WARNINGS = 60.0


class Limits:
    """The buckets. ``familiar`` bounds the tokens known to be good that nothing else remembers."""

    __slots__ = (
        "__weakref__",
        "_all",
        "_clients",
        "_events",
        "_familiar",
        "_lock",
        "_monotonic",
        "_most_familiar",
        "_warn_at",
    )

    def __init__(self, familiar: int, clock: Clock, events: Events) -> None:
        self._monotonic, self._events = clock.monotonic, events
        self._lock = LazyLock()
        self._all = Bucket(_BURST, _SECONDS)
        self._most_familiar, self._warn_at = familiar, 0.0
        self.after_fork()
        renew_after_fork(self)

    def __repr__(self) -> str:
        return f"<Limits of {len(self._clients)} clients>"

    def after_fork(self) -> None:
        """Another thread of the parent may have been changing these."""
        self._clients: LRUCache[bytes, Bucket] = LRUCache(_MOST_CLIENTS)
        self._familiar: LRUCache[bytes, None] = LRUCache(self._most_familiar)

    def within(
        self,
        digest: bytes,
        client: Client | None,
        ask: Callable[[], Flow[T]],
        *,
        remember: bool,
    ) -> Flow[T]:
        """What ``ask`` returns, if it may be asked now. Raises ``RateLimited`` where not.

        ``remember`` says that nobody else will remember that this token was good.
        """
        if remember and self._is_familiar(digest):
            return (yield from self._again(digest, ask))
        try:
            bucket = self.take(None if client is None else client())
        except RateLimited as shed:
            yield from self._tell(shed)
            raise
        try:
            answer = yield from ask()
        except Unavailable:  # the server has been asked all the same, but nothing was bad
            self._give_back(bucket)
            raise
        self._give_back(bucket, self._all)
        if remember:
            with self._lock:
                self._familiar[digest] = None
        return answer

    def take(self, client: bytes | None) -> Bucket | None:
        """One place for a new token of ``client``; the bucket of its own that it came from.

        Raises ``RateLimited``.
        """
        now = self._monotonic()
        with self._lock:
            bucket = None if client is None else self._bucket_of(client)
            wait, spent = self._wait(bucket, now)
            if wait <= 0:
                self._all.take(now)
                if bucket is not None:
                    bucket.take(now)
                return bucket
        raise RateLimited(Reason.RATE_LIMITED, spent, retry_after=wait)

    def _bucket_of(self, client: bytes) -> Bucket:
        bucket = self._clients.get(client)
        if bucket is None:
            bucket = self._clients[client] = Bucket(_CLIENT_BURST, _CLIENT_SECONDS)
        return bucket

    def _wait(self, bucket: Bucket | None, now: float) -> tuple[float, str]:
        """Seconds until there is a place for a caller with this bucket, and what is spent."""
        needed = 1.0
        if bucket is not None:
            own = bucket.level(now)
            if own < 1:
                return (1 - own) * _CLIENT_SECONDS, "too many bad tokens from one address"
            needed += _RESERVE * (1 - own / _CLIENT_BURST)
        return (needed - self._all.level(now)) * _SECONDS, "too many new tokens in all"

    def _give_back(self, *buckets: Bucket | None) -> None:
        with self._lock:
            for bucket in buckets:
                if bucket is not None:
                    bucket.give()

    # -- tokens that are asked about every time ------------------------------------------

    def _is_familiar(self, digest: bytes) -> bool:
        with self._lock:
            if digest not in self._familiar:
                return False
            self._familiar[digest] = None  # used last
            return True

    def _again(self, digest: bytes, ask: Callable[[], Flow[T]]) -> Flow[T]:
        try:
            return (yield from ask())
        except InvalidToken:
            with self._lock:
                self._familiar.pop(digest, None)
            raise

    # -- telling -------------------------------------------------------------------------

    def _tell(self, shed: RateLimited) -> Flow[None]:
        """Warn of a flood once in a while: each request in it is counted anyway."""
        now = self._monotonic()
        with self._lock:
            if now < self._warn_at:
                return
            self._warn_at = now + _SECONDS_BETWEEN_WARNINGS
        yield from self._events.happened(Event("shedding", logging.WARNING, detail=shed.detail))
