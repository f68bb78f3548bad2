"""Marks as they are written into a feed: one JSON object each, sealed with the fleet secret.

    {"kind":"subject","digest":"9f...","before":1795000000.0,"until":1797592000,"mac":"5c..."}

Whoever can write the feed can neither lock anybody out nor alter a revocation without the
secret. What is sealed with another one is not applied, counted, and told of once a minute.
"""

from __future__ import annotations

import hmac
import json
import logging
import math
from collections.abc import Iterable
from typing import Any

from bearer_middleware.flow.clock import Clock
from bearer_middleware.flow.events import Event, Events
from bearer_middleware.revocation.marks import Kind, Mark
from bearer_middleware.revocation.request import Revocation, mark_of
from bearer_middleware.tokens.text import parse_object

MAX_ENTRY_BYTES = 4_096
_PURPOSE = "bearer_middleware revocation 1"
_DIGEST_DIGITS = 32
_LATEST, _HOUR = 1e12, 3600.0
_QUIET_SECONDS = 60.0
_NAMES = ("token_id", "session", "subject", "client")


class Entries:
    """Seals marks, and opens what was sealed. Without a secret nothing is sealed: entries are
    believed as the place is where they are, and may then name in plain words what they revoke.
    """

    def __init__(self, secret: str | None, keep: float, clock: Clock, events: Events) -> None:
        self._secret = None if secret is None else secret.encode()
        self._keep, self._clock, self._events = keep, clock, events
        self._quiet_until = -math.inf
        #: How many were not applied.
        self.rejected = 0

    def __repr__(self) -> str:
        return "<Entries>"

    def sealed(self, mark: Mark) -> bytes:
        """One line. The same mark always gives the same one."""
        said: dict[str, Any] = {"kind": mark.kind.value, "digest": mark.digest.hex()}
        if mark.before is not None:
            said["before"] = float(mark.before)
        said["until"] = math.ceil(mark.until)
        if self._secret is not None:
            said["mac"] = self._mac(mark.kind, said["digest"], mark.before, said["until"])
        return json.dumps(said, separators=(",", ":")).encode()

    def opened(self, entries: Iterable[bytes]) -> list[Mark]:
        """The marks of those entries that are good and not past."""
        marks, rejected, now = [], 0, self._clock.now()
        for entry in entries:
            try:
                mark = self._opened(entry)
            except ValueError:
                rejected += 1
                continue
            if now < mark.until:
                marks.append(mark)
        if rejected:
            self._tell(rejected)
        return marks

    def _opened(self, entry: bytes) -> Mark:
        if len(entry) > MAX_ENTRY_BYTES:
            raise ValueError("too long")
        said = parse_object(entry)
        if self._secret is None and "kind" not in said:
            return self._of_words(said)
        kind, digest, until = Kind(str(said.get("kind"))), said.get("digest"), _time(said, "until")
        before = _time(said, "before") if kind.is_cutoff else None
        if not isinstance(digest, str) or len(digest) != _DIGEST_DIGITS:
            raise ValueError("no digest")
        if self._secret is not None:
            mac = said.get("mac")
            expected = self._mac(kind, digest, before, said["until"])
            if not isinstance(mac, str) or not hmac.compare_digest(mac.encode(), expected.encode()):
                raise ValueError("sealed with another secret")
        return Mark(kind, bytes.fromhex(digest), until, before)

    def _of_words(self, said: dict[str, Any]) -> Mark:
        """``{"issuer": ..., "subject": ..., "before": ...}``: in force for as long as it stands
        there, and for ``BEARER_REVOCATION_KEEP`` after, or until its ``until``.
        """
        issuer, now = said.get("issuer"), self._clock.now()
        if not isinstance(issuer, str) or not said.keys() <= {"issuer", "before", "until", *_NAMES}:
            raise ValueError("not a revocation")
        words: Revocation = {}
        for name in _NAMES:
            if name in said:
                words[name] = said[name]  # type: ignore[literal-required]
        if "before" in said or not said.keys() & {"token_id", "session"}:
            words["before"] = _time(said, "before")  # that of reading it would move on and on
        mark = mark_of(words, issuer, now=now, keep=self._keep)
        # In whole hours: what is only read again is no news.
        until = math.ceil(mark.until / _HOUR) * _HOUR
        if "until" in said:
            until = _time(said, "until")
        return Mark(mark.kind, mark.digest, until, mark.before)

    def _mac(self, kind: Kind, digest: str, before: float | None, until: float) -> str:
        text = f"{_PURPOSE}\n{kind} {digest} {'' if before is None else float(before)!r} {until!r}"
        return hmac.digest(self._secret or b"", text.encode(), "sha256").hex()

    def _tell(self, rejected: int) -> None:
        self.rejected += rejected
        self._events.counts["revocation_tampered"] += rejected
        now = self._clock.monotonic()
        if now < self._quiet_until:
            return
        self._quiet_until = now + _QUIET_SECONDS
        whose = "cannot be read" if self._secret is None else "were not written by this fleet"
        self._events.counts["revocation_tampered"] -= 1  # the event counts as one
        detail = f"{rejected} entries of the feed {whose}, and are not applied"
        self._events.note(Event("revocation_tampered", logging.ERROR, detail=detail))


def _time(said: dict[str, Any], name: str) -> float:
    value = said.get(name)
    if isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < _LATEST:
        return float(value)
    raise ValueError(f"no {name}")
