"""What may go wrong on purpose: slow, wrong, huge and missing answers."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace

from bearer_middleware.testing.endpoints import ENDPOINTS, Answer, Request, answer, json_answer

ALL = "all"


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """How answers are spoiled. Where nothing is said, the true answer is given."""

    status: int | None = None
    body: bytes | None = field(default=None, repr=False)
    content_type: str = "application/json"
    #: Added to the answer; ``None`` takes a header away.
    headers: Mapping[str, str | None] | None = None
    #: A body of that many bytes, which all answers share.
    huge: int | None = None
    #: Seconds before the answer begins.
    delay: float = 0.0
    #: Seconds between the bytes of the body, and of the head where ``drip_headers`` says so.
    drip: float = 0.0
    drip_headers: bool = False
    #: The connection is closed without an answer.
    drop: bool = False

    def __post_init__(self) -> None:
        if self.huge is not None:
            object.__setattr__(self, "body", b" " * self.huge)

    def spoil(self, true_answer: Callable[[], Answer]) -> Answer:
        """The answer to be given in place of the true one."""
        spoilt = self._instead() or true_answer()
        headers = dict(spoilt.headers)
        for name, value in (self.headers or {}).items():
            headers.pop(name.lower(), None)
            if value is not None:
                headers[name.lower()] = value
        return replace(spoilt, headers=headers)

    def _instead(self) -> Answer | None:
        if self.body is not None:
            return answer(self.status or 200, self.body, self.content_type)
        if self.status in (204, 304):
            return answer(self.status, b"", self.content_type)
        if self.status is not None:
            return json_answer(self.status, {"error": "temporarily_unavailable"})
        return None


WELL = Fault()

#: What a world needs to put the issuer on its wire: the answer, and how to deliver it badly.
Respond = Callable[[Request], tuple[Answer, Fault]]


class Faults:
    """The faults of an issuer: at most one for each endpoint, and one for all the others."""

    def __init__(self) -> None:
        self._faults: dict[str, tuple[Fault, int | None]] = {}
        self._lock = threading.Lock()

    def set(self, endpoint: str, fault: Fault, times: int | None) -> None:
        """Spoil the answers of an endpoint, or only the next so many."""
        _require_known(endpoint)
        with self._lock:
            self._faults[endpoint] = (fault, times)

    def clear(self, endpoint: str) -> None:
        """Answer as usual again."""
        _require_known(endpoint)
        with self._lock:
            if endpoint == ALL:
                self._faults.clear()
            self._faults.pop(endpoint, None)

    def take(self, endpoint: str) -> Fault:
        """The fault for the request that has just arrived."""
        with self._lock:
            name = endpoint if endpoint in self._faults else ALL
            fault, times = self._faults.get(name, (WELL, None))
            if times is not None:
                self._faults[name] = (fault, times - 1)
                if times <= 1:
                    del self._faults[name]
            return fault


def _require_known(endpoint: str) -> None:
    if endpoint not in (*ENDPOINTS, ALL):
        raise ValueError(f"unknown endpoint {endpoint!r}; known are {', '.join(ENDPOINTS)}, {ALL}")
