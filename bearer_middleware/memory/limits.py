"""How often callers may make us ask about tokens that nobody has seen before.

Random tokens are all new, so remembering refusals does not help against a flood of them:
what is asked has to be bounded. Two buckets do it, the caller's own and one for all:

* A place is taken when the server is about to be asked, and not by those who wait until there
  is room for that. Only who comes when bad tokens have used the places up is refused at once.
* Only a token that turns out bad costs its caller a place; a good one gives it back.
* Who showed bad tokens in the last minute leaves up to half of the places for all to those
  who did not: else a dozen addresses could use them up.
* Who has no address, or where nobody said how to find it, has no bucket of its own.

Nothing that was good before, is remembered, or is verified locally comes here.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import TypeVar

from cachetools import LRUCache

from bearer_middleware.errors import InvalidToken, RateLimited, Reason, Spared, Unavailable
from bearer_middleware.flow.clock import Bucket, Clock
from bearer_middleware.flow.effects import Flow
from bearer_middleware.flow.events import Event, Events
from bearer_middleware.flow.locks import LazyLock, renew_after_fork

T = TypeVar("T")
#: Where a request comes from: a key of its client's address. ``None`` if there is none.
Client = Callable[[], bytes | None]
#: Of a client: what it may ask about now, and the record of its bad tokens. Or none at all.
Buckets = tuple[()] | tuple[Bucket, Bucket]

_BURST, _SECONDS = 100, 1 / 50
_CLIENT_BURST, _CLIENT_SECONDS = 20, 1 / 5
#: So many bad tokens are remembered of a client, each for so many seconds; who is known for
#: all of them has to leave so many of the places for all.
_RECORD, _RECORD_SECONDS, _RESERVE = 4, 15.0, _BURST / 2
#: A forgotten client is like a new one. Bad tokens need minutes to push that many out, and
#: by then a record has lapsed anyway.
_MOST_CLIENTS = 10_000
_SECONDS_BETWEEN_WARNINGS = 60.0


def _new_buckets() -> Buckets:
    return Bucket(_CLIENT_BURST, _CLIENT_SECONDS), Bucket(_RECORD, _RECORD_SECONDS)


class Turn:
    """One question, and what it has of the buckets from when it is asked until that is judged."""

    __slots__ = ("_leave", "_limits", "client", "places")

    def __init__(self, limits: Limits, client: bytes | None) -> None:
        self._limits, self.client = limits, client
        self._leave: Callable[[], None] | None = None
        #: The buckets it has a place from, that of all first; none as long as nobody is asked.
        self.places: Sequence[Bucket] = ()

    def admit(self, leave: Callable[[], None]) -> None:
        """The server is about to be asked; ``leave`` lets the next caller ask. Raises
        ``RateLimited`` where bad tokens have left no place meanwhile.
        """
        if not self.places:  # else it is asked once more about the same token
            self._limits.take(self.client, self)
        self._leave = leave

    def good(self) -> None:
        """Nothing about this token was bad, and the next caller shall profit from that."""
        self._limits.settle(self, self.places)
        self.end()

    def end(self) -> None:
        """What it still has is spent."""
        self._limits.settle(self)
        if self._leave is not None:
            self._leave()


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
        "_under_way",
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
        self._clients: LRUCache[bytes, Buckets] = LRUCache(_MOST_CLIENTS)
        self._familiar: LRUCache[bytes, None] = LRUCache(self._most_familiar)
        self._under_way: set[Turn] = set()

    def within(
        self,
        digest: bytes,
        client: Client | None,
        ask: Callable[[Turn | None], Flow[T]],
        *,
        remember: bool,
    ) -> Flow[T]:
        """What ``ask`` returns, if it may be asked now. Raises ``RateLimited`` where not.

        ``ask`` is given the turn to be let in with, or ``None`` where there is no limit.
        ``remember`` says that nobody else will remember that this token was good.
        """
        if remember and self._is_familiar(digest):
            return (yield from self._again(digest, ask))
        key = None if client is None else client()
        try:
            self._refuse_if_spent(key)
            answer = yield from self._ask(Turn(self, key), ask)
        except RateLimited as shed:
            yield from self._tell(shed)
            raise
        if remember:
            with self._lock:
                self._familiar[digest] = None
        return answer

    def _ask(self, turn: Turn, ask: Callable[[Turn | None], Flow[T]]) -> Flow[T]:
        try:
            answer = yield from ask(turn)
            turn.good()
            return answer
        except Spared:  # nobody has been asked
            turn.good()
            raise
        except Unavailable:  # the server has been asked all the same, but nothing was bad
            self.settle(turn, turn.places[1:])
            raise
        finally:
            turn.end()

    def take(self, client: bytes | None, turn: Turn | None = None) -> None:
        """One place for a new token of ``client``, for good or until the turn is settled.

        Raises ``RateLimited``.
        """
        now = self._monotonic()
        with self._lock:
            own = () if client is None else self._clients.get(client) or _new_buckets()
            wait, spent = self._wait(own, now)
            if wait <= 0:
                if client is not None:  # only now: who gets no place pushes nobody out
                    self._clients[client] = own
                places = [bucket for bucket in (self._all, *own) if bucket.take(now)]
                if turn is not None:
                    turn.places = places
                    self._under_way.add(turn)
                return
        raise RateLimited(Reason.RATE_LIMITED, spent, retry_after=wait)

    def settle(self, turn: Turn, back: Sequence[Bucket] = ()) -> None:
        """These places are given back, and what else it has is spent. The first call counts."""
        if not back:  # no lock: the collector may end a lost question in a thread that holds it
            self._under_way.discard(turn)
            return
        with self._lock:
            if turn in self._under_way:
                self._under_way.discard(turn)
                for bucket in back:
                    bucket.give()

    def _refuse_if_spent(self, client: bytes | None) -> None:
        """No wait for those whom *bad* tokens have left no place. What is under way may be good.

        Raises ``RateLimited``.
        """
        now = self._monotonic()
        with self._lock:
            own = () if client is None else self._clients.get(client) or ()
            wait, spent = self._wait(own, now)
            if wait > 0 and self._under_way:
                wait, spent = self._wait(own, now, [*self._under_way])
        if wait > 0:
            raise RateLimited(Reason.RATE_LIMITED, spent, retry_after=wait)

    def _wait(self, own: Buckets, now: float, good: Sequence[Turn] = ()) -> tuple[float, str]:
        """Seconds until there is a place for a caller with these buckets, and what is spent; if
        these turns were good.
        """
        back = [bucket for turn in good for bucket in turn.places]
        needed = 1.0
        if own:
            left, record = (bucket.level(now) + back.count(bucket) for bucket in own)
            if left < 1:
                return (1 - left) * _CLIENT_SECONDS, "too many bad tokens from one address"
            needed += _RESERVE * (1 - record / _RECORD)
        level = self._all.level(now) + back.count(self._all)
        return (needed - level) * _SECONDS, "too many new tokens in all"

    # -- tokens that are asked about every time ------------------------------------------

    def _is_familiar(self, digest: bytes) -> bool:
        with self._lock:
            if digest not in self._familiar:
                return False
            self._familiar[digest] = None  # used last
            return True

    def _again(self, digest: bytes, ask: Callable[[Turn | None], Flow[T]]) -> Flow[T]:
        try:
            return (yield from ask(None))
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
