"""The whole way of one request, as metrics tell of it. Holds nothing of the token."""

from __future__ import annotations

from contextlib import suppress
from time import perf_counter
from typing import Literal

from bearer_middleware.access.identity import Identity
from bearer_middleware.errors import Refused, Unavailable
from bearer_middleware.flow.instruments import DURATION, REQUESTS
from bearer_middleware.flow.tally import Tally


class Course:
    """How a request goes. Whoever learns something of it writes it here."""

    __slots__ = ("_started", "_tally", "counted", "issuer", "kind", "source")

    def __init__(self, tally: Tally) -> None:
        tally.look()
        self._tally, self._started = tally, perf_counter()
        self.kind: Literal["", "jwt", "opaque"] = ""
        self.issuer: str | None = None
        #: Who knew: the memory (``l1``), the shared cache (``l2``), the server (``upstream``), or
        #: nobody had to be asked (``local``).
        self.source = "local"
        #: Was it counted on the short way?
        self.counted = False

    def allowed(self, identity: Identity) -> None:
        """It ended well."""
        if not self.counted:
            if not self.kind:  # only an extension knows
                self.kind, self.issuer = identity.kind, identity.issuer
            tally = self._tally
            kind, issuer = tally.kind(self.kind), tally.issuer(self.issuer)
            tally.add(REQUESTS, "allowed", "", kind, issuer)
            self._ended("allowed")

    def anonymous(self) -> None:
        """It showed no token, and need not."""
        self._tally.add(REQUESTS, "anonymous", "", "", "")

    def refused(self, refusal: Refused) -> None:
        """It did not; the refusal itself is counted as an event."""
        with suppress(AttributeError):  # an extension's own, which may be sealed
            refusal.kind = refusal.kind or self.kind
        self._ended("unavailable" if isinstance(refusal, Unavailable) else "denied")

    def _ended(self, outcome: str) -> None:
        self._tally.took(DURATION, perf_counter() - self._started, outcome, self.source)
