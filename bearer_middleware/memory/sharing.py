"""From the settings to the cache that processes share, if they ask for one."""

from __future__ import annotations

from bearer_middleware.errors import ConfigError
from bearer_middleware.flow.clock import Clock
from bearer_middleware.flow.events import Events
from bearer_middleware.flow.store import Store
from bearer_middleware.flow.transport import HttpTransport
from bearer_middleware.memory.fleet import FleetCache
from bearer_middleware.memory.shared import Cache, SharedCache
from bearer_middleware.settings import Settings


def fleet_cache(
    settings: Settings, own: Cache | None, transport: HttpTransport, clock: Clock, events: Events
) -> FleetCache | None:
    """The cache at ``BEARER_CACHE_URL``, beside no ``own`` one. Raises ``ConfigError``."""
    url = settings.cache_url
    if url is None:
        return None
    if own is not None:
        raise ConfigError("BEARER_CACHE_URL: beside a cache of your own; keep one")
    store = Store("BEARER_CACHE_URL", url.reveal)
    transport.beside.append(store)
    return FleetCache(store, clock, events)


def shared_cache(
    settings: Settings, own: Cache | None, fleet: FleetCache | None, clock: Clock, events: Events
) -> SharedCache | None:
    """Either of them with what makes it safe. Raises ``ConfigError``."""
    cache, secret = own if fleet is None else fleet, settings.fleet_secret
    if cache is None:
        return None
    if secret is None:
        raise ConfigError("BEARER_FLEET_SECRET: needed for the MACs in a shared cache")
    return SharedCache(cache, secret.reveal(), clock, events, fleet=fleet)
