"""Revoking: from the words of whoever asks for it to what holds in every process."""

from __future__ import annotations

from collections.abc import Callable

from bearer_middleware.errors import RevocationError
from bearer_middleware.flow.clock import Clock
from bearer_middleware.flow.effects import Flow
from bearer_middleware.flow.events import Event, Events
from bearer_middleware.issuer.server import AuthorizationServer
from bearer_middleware.revocation.alone import Alone
from bearer_middleware.revocation.feed import Feed
from bearer_middleware.revocation.request import Revocation, mark_of
from bearer_middleware.revocation.state import Revocations
from bearer_middleware.tokens.jws import read_header


class Revoking:
    """Writes into the feed, or into the memory of this process where it is the only one."""

    def __init__(
        self,
        feed: Feed | None,
        revocations: Revocations,
        alone: Alone,
        *,
        named: Callable[[str | None], AuthorizationServer],
        keep: float,
        clock: Clock,
        events: Events,
    ) -> None:
        self._feed, self._revocations, self._alone = feed, revocations, alone
        self._named, self._keep = named, keep
        self._clock, self._events = clock, events

    def __call__(self, said: Revocation) -> Flow[None]:
        """Raises ``ValueError`` where it is not clear what is meant, ``RevocationError`` where
        it would not hold everywhere.
        """
        others = None if self._feed is not None else self._alone.sign_of_others()
        if others is not None:
            raise RevocationError(f"{others}, and the memory of one process is no place for this")
        token = (said.get("token") or "").strip().encode("ascii", "replace")
        mark = mark_of(
            said,
            self._named(said.get("issuer")).issuer,
            now=self._clock.now(),
            keep=self._keep,
            is_jwt=read_header(token) is not None,
        )
        if self._feed is None:
            self._revocations.apply([mark])
        else:
            yield from self._feed.publish(mark)
        yield from self._events.happened(Event("revocation_applied", detail=mark.kind))
