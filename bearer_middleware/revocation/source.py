"""Where the marks of a fleet come from, and may go to: what every feed is to its reader."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Protocol, runtime_checkable

from bearer_middleware.revocation.marks import Mark


class Source(Protocol):
    """A feed as its one reader sees it, on a thread of its own: both methods may be plain or
    flows, but not ``async``. They raise ``TransportError``, or anything, where the feed cannot
    be read; that they return is its heartbeat, so neither may take longer than three seconds.
    """

    def snapshot(self) -> Any:
        """All marks there are: an iterable of :class:`Mark`. What comes later follows."""

    def following(self) -> Any:
        """The marks that were added since then, waiting about a second for one; ``None`` where
        some may have been missed, and a snapshot has to be taken.
        """


@runtime_checkable
class WritableSource(Source, Protocol):
    """A feed that can be told."""

    def publish(self, marks: Iterable[Mark]) -> Any:
        """Add ``marks``; returns once that is acknowledged. May be plain, ``async`` or a flow,
        and raises ``TransportError``, or anything, where it is not.
        """
