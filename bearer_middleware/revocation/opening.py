"""From the settings to the feed they ask for. Nothing is opened before the first request."""

from __future__ import annotations

from collections.abc import Callable

from bearer_middleware.errors import ConfigError
from bearer_middleware.flow.clock import Clock
from bearer_middleware.flow.effects import Tls
from bearer_middleware.flow.events import Events
from bearer_middleware.flow.transport import HttpTransport
from bearer_middleware.issuer.server import AuthorizationServer
from bearer_middleware.revocation.alone import Alone
from bearer_middleware.revocation.bound import bound_of
from bearer_middleware.revocation.feed import Feed
from bearer_middleware.revocation.revoking import Revoking
from bearer_middleware.revocation.source import Source
from bearer_middleware.revocation.state import Revocations
from bearer_middleware.settings import Settings
from bearer_middleware.settings.feeds import kind_of_feed, path_of_feed

_NAME = "BEARER_REVOCATION_URL"
#: What a source of one's own is taken to need from a revocation until it tells of it.
_OWN_LAG_SECONDS = 2.0
_LONGEST_FETCH_SECONDS = 3.0


def open_feed(  # noqa: PLR0917 - what the server is made of
    settings: Settings,
    own: Source | None,
    revocations: Revocations,
    alone: Alone,
    named: Callable[[str | None], AuthorizationServer],
    transport: HttpTransport,
    clock: Clock,
    events: Events,
) -> tuple[Feed | None, Revoking]:
    """The feed of ``BEARER_REVOCATION_URL``, or of a source of one's ``own``, or ``None``; and
    what writes into it, or into the memory of this process. Raises ``ConfigError``.
    """
    if own is not None and settings.revocation_url is not None:
        raise ConfigError(f"{_NAME}: beside a feed of your own; keep one")
    source = own or _source(settings, transport, clock, events)
    feed = None
    if source is not None:
        feed = Feed(
            source,
            revocations,
            policy=settings.on_stale_feed,
            bound=bound_of(settings, _OWN_LAG_SECONDS),
            transport=transport,
            clock=clock,
            events=events,
        )
        transport.beside.insert(0, feed)
    keep = _kept(settings)
    how = Revoking(feed, revocations, alone, named=named, keep=keep, clock=clock, events=events)
    return feed, how


def _kept(settings: Settings) -> float:
    """Seconds: a token may be issued a leeway after now, and be good for another after its end."""
    return settings.revocation_keep + 2 * max(each.leeway for each in settings.issuers)


def _source(
    settings: Settings, transport: HttpTransport, clock: Clock, events: Events
) -> Source | None:
    if settings.revocation_url is None:
        return None
    # Few have one, and everybody would pay for the import.
    from bearer_middleware.flow.store import Store
    from bearer_middleware.revocation.document_feed import FileFeed, HttpFeed
    from bearer_middleware.revocation.entries import Entries
    from bearer_middleware.revocation.store_feed import (
        READING_PATIENCE,
        WRITING_PATIENCE,
        StoreFeed,
    )

    url, secret = settings.revocation_url, settings.fleet_secret
    entries = Entries(None if secret is None else secret.reveal(), _kept(settings), clock, events)
    kind = kind_of_feed(url.reveal())
    if kind == "file":
        return FileFeed(path_of_feed(url.reveal()), entries)
    if kind == "http":
        patience = min(settings.http_timeout, _LONGEST_FETCH_SECONDS)
        return HttpFeed(url.reveal(), entries, patience, Tls(settings.ca_file))
    # Apart, so that nobody who revokes waits for the reader, which waits for news.
    reading = Store(_NAME, url.reveal, READING_PATIENCE)
    writing = Store(_NAME, url.reveal, WRITING_PATIENCE)
    transport.beside += [reading, writing]
    return StoreFeed(reading, writing, entries, clock, events.tally)
