"""Revoking: from the words of whoever asks for it to what holds in every process."""

from __future__ import annotations

from collections.abc import Callable

from bearer_middleware.errors import RevocationError
from bearer_middleware.flow.clock import Clock
from bearer_middleware.flow.effects import Flow
from bearer_middleware.flow.events import Event, Events
from bearer_middleware.flow.instruments import APPLIED
from bearer_middleware.issuer.server import AuthorizationServer
from bearer_middleware.revocation.alone import Alone
from bearer_middleware.revocation.feed import Feed
from bearer_middleware.revocation.request import Revocation, mark_of
from bearer_middleware.revocation.state import Revocations


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

    def __call__(self, said: Revocation, source: str = "call") -> Flow[None]:
        """``source`` is who asks for it, for metrics. Raises ``ValueError`` where it is not clear
        what is meant, ``TypeError`` for a keyword that there is not, ``RevocationError`` where it
        would not hold everywhere.
        """
        issuer = self._whose(said)
        others = None if self._feed is not None else self._alone.sign_of_others()
        if others is not None:
            raise RevocationError(f"{others}, and the memory of one process is no place for this")
        mark = mark_of(said, issuer, now=self._clock.now(), keep=self._keep)
        if self._feed is None:
            self._revocations.apply([mark])
        else:
            yield from self._feed.publish(mark)
        self._events.tally.add(APPLIED, source, mark.kind)
        yield from self._events.happened(Event("revocation_applied", detail=mark.kind))

    def _whose(self, said: Revocation) -> str | None:
        """The configured issuer that is meant. What is misspelled shall not revoke all it has."""
        unknown = said.keys() - Revocation.__annotations__.keys()
        if unknown:
            raise TypeError(f"revoke() got an unexpected keyword argument {min(unknown)!r}")
        issuer = said.get("issuer")
        if issuer is None:
            if said.get("token") is not None:
                return None  # a token says itself whose it is
            if not said.keys() - {"issuer", "before"}:
                raise ValueError("issuer: is required where all its tokens are meant")
        elif not isinstance(issuer, str):
            raise ValueError("issuer: must be text")
        return self._named(issuer).issuer
