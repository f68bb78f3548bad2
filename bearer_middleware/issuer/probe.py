"""Finding out that introspection works again, where no request may come to try it.

An orchestrator sends no requests to who is not ready: without this, refused credentials that
were mended would never be noticed.
"""

from __future__ import annotations

import secrets

from bearer_middleware.errors import InvalidToken, Unavailable
from bearer_middleware.flow.clock import Backoff, Clock
from bearer_middleware.flow.effects import Background, Flow
from bearer_middleware.flow.locks import LazyLock
from bearer_middleware.issuer.introspection import Introspection


class Probe:
    """Asks about a token that nobody has, while the last real question went wrong."""

    def __init__(self, introspection: Introspection, timeout: float, clock: Clock) -> None:
        self._introspection, self._timeout, self._clock = introspection, timeout, clock
        self._backoff = Backoff()
        self._lock = LazyLock()

    def wake(self) -> Flow[None]:
        """Begin to ask where that is due, without waiting for the answer."""
        if self._introspection.standing not in ("failing", "rejected"):
            return
        now = self._clock.monotonic()
        with self._lock:
            if now < self._backoff.until:
                return
            # Should the work get lost, with its loop say, somebody tries again after this.
            self._backoff.wait(now, self._timeout)
        yield Background(self._ask)

    def _ask(self) -> Flow[None]:
        token = secrets.token_urlsafe(24).encode()
        try:
            yield from self._introspection.ask(token, self._clock.monotonic() + self._timeout)
        except Unavailable:
            self._backoff.failed(self._clock.monotonic())
            return  # told and counted where it happened
        except InvalidToken:
            pass  # which is the answer of a server that works
        self._backoff.succeeded()
