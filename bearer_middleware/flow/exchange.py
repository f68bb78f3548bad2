"""What goes to an HTTP client of httpx's kind, and what is made of what comes back."""

from __future__ import annotations

import contextlib
import functools
import time
from collections.abc import Iterator, Mapping
from typing import Any

from bearer_middleware.errors import TransportError
from bearer_middleware.flow.effects import HttpRequest


def arguments_of(request: HttpRequest) -> dict[str, Any]:
    """What the client is called with."""
    return {
        "method": request.method,
        "url": request.url,
        "headers": {
            "User-Agent": _user_agent(),
            "Accept-Encoding": "identity",
            **request.headers,
        },
        "content": request.body,
        # A little less than the whole, so that plain silence ends without further ado.
        "timeout": max(request.timeout * 0.95, 0.001),
    }


@functools.cache
def _user_agent() -> str:
    from importlib import metadata

    with contextlib.suppress(metadata.PackageNotFoundError):
        return f"bearer-middleware/{metadata.version('bearer-middleware')}"
    return "bearer-middleware"


def headers_of(response: Any) -> Mapping[str, str]:
    """The headers of a response, with lower-case names."""
    return {name.lower(): value for name, value in response.headers.items()}


def raw(response: Any) -> Iterator[bytes]:
    """The body as it came. A transport for tests may have read it already."""
    return iter((response.content,)) if response.is_stream_consumed else response.iter_raw()


def collect(chunks: Iterator[bytes], limit: int, deadline: float) -> bytes:
    """The body, within its limit and until a monotonic deadline. Raises ``TransportError``."""
    body = bytearray()
    for chunk in chunks:
        body += chunk
        if len(body) > limit:
            raise TransportError("too_large")
        if time.monotonic() > deadline:
            raise TransportError("timeout")
    return bytes(body)


def word_for(error: Exception) -> str:
    """Our word for what went wrong, whatever it was."""
    if isinstance(error, TransportError):
        return error.detail
    name = type(error).__name__  # of httpx or httpx2, whose classes are distinct
    if isinstance(error, TimeoutError) or name.endswith("Timeout"):
        return "timeout"
    if name == "ConnectError":
        return "connect"
    return "protocol" if name.endswith(("Error", "Exception")) else "failed"
