"""Token status lists as an issuer publishes them: one number for each of many tokens."""

from __future__ import annotations

import base64
import threading
import time
import zlib
from typing import Any

from bearer_middleware.testing.mint import LIFETIME, Mint
from bearer_middleware.testing.signing import sign

MEDIA_TYPE = "application/statuslist+jwt"
PATH = "/statuslists"
VALID, INVALID, SUSPENDED = 0, 1, 2


class StatusList:
    """One published list. Assign to an index to change a status: ``statuses[3] = INVALID``.

    ``claims`` and ``headers`` override what is signed, where ``None`` leaves one out; ``key``
    signs in place of the issuer's.
    """

    def __init__(self, mint: Mint, name: str, bits: int, size: int, ttl: float | None) -> None:
        if bits not in (1, 2, 4, 8):
            raise ValueError("bits are 1, 2, 4 or 8")
        self._mint, self._name, self._bits = mint, name, bits
        self._statuses = [VALID] * size
        self._next = 0
        self._lock = threading.Lock()
        self.claims: dict[str, Any] = {"ttl": ttl}
        self.headers: dict[str, Any] = {}
        self.key: Any = None

    def __len__(self) -> int:
        return len(self._statuses)

    def __getitem__(self, index: int) -> int:
        return self._statuses[index]

    def __setitem__(self, index: int, status: int) -> None:
        if not 0 <= status < 1 << self._bits:
            raise ValueError(f"no status of {self._bits} bits: {status}")
        self._statuses[index] = status

    @property
    def uri(self) -> str:
        """Where it is published."""
        return f"{self._mint.url.rstrip('/')}{PATH}/{self._name}"

    def claim(self, index: int | None = None) -> dict[str, Any]:
        """The ``status`` claim of a token with this index, or with the next that is free."""
        if index is None:
            with self._lock:
                index, self._next = self._next, self._next + 1
            if index >= len(self):
                raise ValueError("every index of the list is taken")
        return {"status_list": {"idx": index, "uri": self.uri}}

    def token(self) -> str:
        """The Status List Token as it is published now."""
        key, now = self._mint.signing_key(), int(time.time())
        header = {"alg": key.algorithm, "kid": key.kid, "typ": "statuslist+jwt", **self.headers}
        claims: dict[str, Any] = {
            "iss": self._mint.url,
            "sub": self.uri,
            "iat": now,
            "exp": now + LIFETIME,
            "status_list": {"bits": self._bits, "lst": packed(self._statuses, self._bits)},
            **self.claims,
        }
        said, header = (
            {k: v for k, v in part.items() if v is not None} for part in (claims, header)
        )
        return sign(header, said, key.algorithm, self.key or key.private)


def _said(members: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in members.items() if value is not None}


def packed(statuses: list[int], bits: int) -> str:
    """Statuses as ``lst`` has them: from the lowest bit of each byte up, compressed."""
    each = 8 // bits
    octets = bytes(
        sum(status << place * bits for place, status in enumerate(statuses[start : start + each]))
        for start in range(0, len(statuses), each)
    )
    return base64.urlsafe_b64encode(zlib.compress(octets, 9)).decode().rstrip("=")


class StatusLists:
    """The lists of one issuer, by the last part of their address."""

    def __init__(self, mint: Mint) -> None:
        self._mint = mint
        self._lists: dict[str, StatusList] = {}

    def publish(self, bits: int, size: int, ttl: float | None) -> StatusList:
        """A new list, all VALID."""
        name = str(len(self._lists) + 1)
        self._lists[name] = StatusList(self._mint, name, bits, size, ttl)
        return self._lists[name]

    def token(self, path: str) -> str | None:
        """The list at a path, if there is one."""
        found = self._lists.get(path.rpartition("/")[2])
        return None if found is None else found.token()
