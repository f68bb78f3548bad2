"""What the layers between a middleware and its application have in common."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable
from typing import Any

from bearer_middleware.web.challenge import Answer

#: Sends an answer: to a scope, its ``receive`` and ``send``; to an environ and ``start_response``.
Refuse = Callable[[Answer, Any, Any, Any], Awaitable[None]]
Respond = Callable[[Answer, Any, Any], Iterable[bytes]]
#: With these messages an application has begun to answer, and nothing else can be sent.
BEGINS = ("http.response.start", "websocket.accept")


async def read_before() -> Any:
    """The handshake of a websocket was for the application, which may have read it."""
    return {}


def write_nothing(_: bytes) -> None:
    """PEP 3333 has applications that write."""


def close_body(body: Iterable[bytes]) -> None:
    """PEP 3333: a body that is not read is closed nevertheless."""
    close = getattr(body, "close", None)
    if close is not None:
        close()
