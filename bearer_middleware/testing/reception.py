"""Where requests arrive: each is counted, logged, answered, and spoilt where a test wants it."""

from __future__ import annotations

import threading
from collections import Counter, deque
from dataclasses import dataclass

from bearer_middleware.testing.endpoints import UNKNOWN, Answer, Endpoints, Request
from bearer_middleware.testing.faults import Fault, Faults


@dataclass(frozen=True, slots=True)
class Asked(Request):
    """A request that arrived, and the endpoint that it was for."""

    endpoint: str = UNKNOWN


class Reception:
    """What every world brings its requests to; it knows nothing of the issuer above it."""

    def __init__(self, endpoints: Endpoints, faults: Faults) -> None:
        self._endpoints = endpoints
        self._faults = faults
        self._lock = threading.Lock()
        self.requests: Counter[str] = Counter()
        self.log: deque[Asked] = deque(maxlen=100)

    def respond(self, request: Request) -> tuple[Answer, Fault]:
        """Answer a request, and say what is to go wrong on the way back."""
        endpoint = self._endpoints.named(request.path)
        self._note(request, endpoint)
        fault = self._faults.take(endpoint)
        return fault.spoil(lambda: self._endpoints.answer(request)), fault

    def _note(self, request: Request, endpoint: str) -> None:
        asked = Asked(request.method, request.path, request.headers, request.body, endpoint)
        with self._lock:
            self.log.append(asked)
            if endpoint != UNKNOWN:
                self.requests[endpoint] += 1
