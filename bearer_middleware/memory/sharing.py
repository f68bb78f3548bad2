"""Which cache processes share, by the settings."""

from __future__ import annotations

from typing import Any

from bearer_middleware.errors import ConfigError
from bearer_middleware.flow.clock import Clock
from bearer_middleware.flow.events import Events
from bearer_middleware.memory.fleet import FleetCache
from bearer_middleware.memory.shared import Cache, SharedCache
from bearer_middleware.settings import Settings


def shared_cache(
    settings: Settings, cache: Cache | None, clock: Clock, events: Events, beside: list[Any]
) -> tuple[SharedCache | None, FleetCache | None]:
    """``cache``, or the one at ``BEARER_CACHE_URL``, if there is either; and that one. Its store
    has to be closed, and is added to ``beside``. Raises ``ConfigError``.
    """
    url, secret = settings.cache_url, settings.fleet_secret
    if cache is not None and url is not None:
        raise ConfigError("BEARER_CACHE_URL: beside a cache of your own; keep one")
    fleet, limit = None, settings.http_timeout
    # However slow it is: enough has to be left of a request's time to ask the server.
    within = min(1.0, limit / 4)
    if url is not None:
        from bearer_middleware.flow.store import Store  # few have one

        store = Store("BEARER_CACHE_URL", url.reveal, min(0.1, limit / 8), within)
        beside.append(store)
        cache = fleet = FleetCache(store, clock, events)
    if cache is None:
        return None, None
    if secret is None:
        raise ConfigError("BEARER_FLEET_SECRET: needed for the MACs in a shared cache")
    shared = SharedCache(cache, secret.reveal(), clock, events, fleet=fleet, within=within)
    return shared, fleet
