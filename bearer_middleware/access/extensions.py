"""What users add: validators and claim mappers of their own, which must not let anybody in."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from bearer_middleware.access.identity import Identity
from bearer_middleware.errors import ConfigError, Reason, Refused, Unavailable
from bearer_middleware.flow.effects import Flow, is_async, lift


def extended(extension: Callable[..., Any], argument: Any) -> Flow[Any]:
    """The identity that an extension returns, or ``None``. Raises ``Refused``."""
    try:
        result = yield from lift(extension, argument)
    except Refused:
        raise
    except Exception as error:  # noqa: BLE001 - it is not ours, and must not let anybody in
        detail = f"an extension raised {type(error).__name__}"
    else:
        if result is None or isinstance(result, Identity):
            return result
        detail = "an extension returned no Identity"
    raise Unavailable(Reason.EXTENSION_FAILED, detail)


def refuse_async(extensions: Iterable[Callable[..., Any] | None]) -> None:
    """Raises ``ConfigError`` where one of them needs an event loop."""
    names = [
        getattr(extension, "__name__", type(extension).__name__)
        for extension in extensions
        if extension is not None and is_async(extension)
    ]
    if names:
        raise ConfigError(f"{name}: an async extension cannot serve WSGI" for name in names)
