"""Who stands by while flows talk with an authorization server, and can tell of it later."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field

from bearer_middleware.errors import TransportError
from bearer_middleware.flow.drivers import Transport
from bearer_middleware.flow.effects import HttpRequest, HttpResponse
from bearer_middleware.issuer.exchanges import time_of


@dataclass(frozen=True, slots=True)
class Exchange:
    """One exchange: the answer, or the word for why there was none. Times since the epoch."""

    url: str
    began: float
    ended: float
    status: int | None = None
    failure: str | None = None
    headers: Mapping[str, str] = field(default_factory=dict[str, str], repr=False)
    body: bytes = field(default=b"", repr=False)

    @property
    def clock_offset(self) -> float | None:
        """How far the server's clock is ahead of ours at least; negative: it is behind.

        A Date header has whole seconds, and the answer was made between ``began`` and
        ``ended``, so the difference is known within limits only: the nearest one counts.
        ``None`` where the answer has no Date header that can be read.
        """
        told = time_of(self.headers.get("date", ""))
        if told is None:
            return None
        # Of an answer that a cache had kept (RFC 9111 section 5.1).
        age = self.headers.get("age", "")
        said = told + (int(age) if age.isdecimal() and len(age) < 10 else 0)
        if said > self.ended:
            return said - self.ended
        return min(said + 1 - self.began, 0.0)


class Witness:
    """A transport that remembers the exchanges of another one."""

    def __init__(self, transport: Transport, now: Callable[[], float] = time.time) -> None:
        self._transport, self._now = transport, now
        self.exchanges: list[Exchange] = []

    def send(self, request: HttpRequest) -> HttpResponse:
        began = self._now()
        try:
            response = self._transport.send(request)
        except TransportError as failure:
            failed = Exchange(request.url, began, self._now(), failure=failure.detail)
            self.exchanges.append(failed)
            raise
        self.exchanges.append(
            Exchange(
                request.url,
                began,
                self._now(),
                response.status,
                headers=response.headers,
                body=response.body,
            )
        )
        return response

    def asend(self, request: HttpRequest) -> Awaitable[HttpResponse]:
        """Commands block; this is here for whoever drives the same flows on a loop."""
        return self._transport.asend(request)
