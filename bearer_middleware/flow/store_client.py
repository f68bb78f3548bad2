"""Which client speaks to a store, how it is made, and what its errors come down to."""

from __future__ import annotations

import importlib
from types import ModuleType
from typing import Any

_WORDS = {
    "TimeoutError": "timeout",
    "AuthenticationError": "credentials",
    "AuthenticationWrongNumberOfArgsError": "credentials",
    "BusyLoadingError": "loading",
    "ConnectionError": "connect",
    "NoPermissionError": "permission",
    "OutOfMemoryError": "full",
    "ReadOnlyError": "read-only",
}


def client_library() -> ModuleType:
    """redis-py, or valkey-py where that alone is installed: the same API."""
    try:
        import redis
    except ImportError:
        import valkey

        return valkey
    return redis


def pool_options(library: ModuleType, address: str, patience: float | None) -> dict[str, Any]:
    """What a pool is made of; the URL may say with whom to talk, but not for how long."""
    root = library.__name__.partition(".")[0]
    scheme, colon, rest = address.partition(":")
    ours = scheme.replace("valkey", root).replace("redis", root)
    said: dict[str, Any] = library.connection.parse_url(ours + colon + rest)
    if scheme in {"rediss", "valkeys"} and "ssl_cert_reqs" not in said:
        said.setdefault("ssl_check_hostname", True)  # before redis-py 6 it was not looked at
    retry = importlib.import_module(f"{library.__name__}.retry")
    backoff = importlib.import_module(f"{root}.backoff")
    return said | {
        "socket_timeout": patience,
        "socket_connect_timeout": patience,
        "retry": retry.Retry(backoff.NoBackoff(), 0),
        "protocol": 2,  # no greeting, and no notifications
        "decode_responses": False,
        "max_connections": 2**20,  # the room is what bounds them
        "health_check_interval": 0,
    }


def new_client(library: ModuleType, address: str, patience: float | None) -> Any:
    """A client that has connected to nothing yet."""
    options = pool_options(library, address, patience)
    return library.Redis(connection_pool=library.connection.ConnectionPool(**options))


def executed(client: Any, arguments: tuple[Any, ...], more: tuple[tuple[Any, ...], ...]) -> Any:
    """The reply of a client of either colour, which for an asynchronous one is to be awaited."""
    if not more:
        return client.execute_command(*arguments)
    together = client.pipeline(transaction=True)
    for each in (arguments, *more):
        together.execute_command(*each)
    return together.execute()


def word_for(error: Exception) -> str:
    """What is wrong, in a word of ours."""
    if isinstance(error, TimeoutError):
        return "timeout"
    text = str(error).rpartition("caused error: ")[2]  # before it, the command of a transaction
    if text.startswith(("WRONGTYPE", "OOM")):
        return "wrong type" if text.startswith("W") else "full"
    return _WORDS.get(type(error).__name__, "refused")
