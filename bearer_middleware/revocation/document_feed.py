"""Feeds that can only be read: a file, or a document behind a URL, of one JSON object a line.

Both are looked at every second, and read where they changed. Without a fleet secret they are
trusted as they are: who can write the file, or serve the document, can lock out anybody.
"""

from __future__ import annotations

import hashlib
import os
import random
import stat
import time

from bearer_middleware.errors import TransportError
from bearer_middleware.flow.effects import Flow, HttpRequest, Tls, pause
from bearer_middleware.revocation.entries import Entries
from bearer_middleware.revocation.marks import Mark

MAX_DOCUMENT_BYTES = 32 * 1024 * 1024
_LOOK_SECONDS = 1.0
# A file written twice within a tick of its clock looks the same twice.
_YOUNG_SECONDS = 2.0


class FileFeed:
    """A file, best replaced by renaming another one."""

    def __init__(self, path: str, entries: Entries) -> None:
        self._path, self._entries = path, entries
        self._seen: tuple[int, int, int] | None = None

    def __repr__(self) -> str:
        return "<FileFeed>"

    def snapshot(self) -> list[Mark]:
        """All of it. Raises ``OSError``, ``TransportError``."""
        found = os.stat(self._path)
        if not stat.S_ISREG(found.st_mode):
            raise TransportError("not a file")
        with open(self._path, "rb") as file:
            data = file.read(MAX_DOCUMENT_BYTES + 1)
        if len(data) > MAX_DOCUMENT_BYTES:
            raise TransportError("too_large")
        marks = _opened(self._entries, data)
        young = abs(time.time() - found.st_mtime) < _YOUNG_SECONDS
        self._seen = None if young else _shape(found)  # only now: else it would be no change
        return marks

    def following(self) -> Flow[list[Mark]]:
        """A second later: nothing, or all of it. Raises ``OSError``, ``TransportError``."""
        yield from pause(_LOOK_SECONDS)
        if _shape(os.stat(self._path)) == self._seen:
            return []
        return self.snapshot()


class HttpFeed:
    """A document; where its server sends an ``ETag``, only a change of it is fetched."""

    def __init__(self, url: str, entries: Entries, timeout: float, tls: Tls) -> None:
        self._url, self._entries = url, entries
        self._timeout, self._tls = timeout, tls
        self._tag, self._digest = "", b""

    def __repr__(self) -> str:
        return "<HttpFeed>"

    def snapshot(self) -> Flow[list[Mark]]:
        """All of it. Raises ``TransportError``."""
        self._tag, self._digest = "", b""
        return self._fetch()

    def following(self) -> Flow[list[Mark]]:
        """A second later: nothing, or all of it. Raises ``TransportError``."""
        yield from pause(_LOOK_SECONDS * random.uniform(0.9, 1))  # noqa: S311 - jitter
        return (yield from self._fetch())

    def _fetch(self) -> Flow[list[Mark]]:
        response = yield from HttpRequest(
            "GET",
            self._url,
            {"If-None-Match": self._tag} if self._tag else {},
            timeout=self._timeout,
            limit=MAX_DOCUMENT_BYTES,
            tls=self._tls,
        )
        if response.status == 304 and self._tag:
            return []
        if response.status != 200:
            raise TransportError(f"status {response.status}")
        digest = hashlib.sha256(response.body).digest()
        # Only what was read is remembered: else what cannot be would be no change the next time.
        marks = [] if digest == self._digest else _opened(self._entries, response.body)
        self._tag, self._digest = response.headers.get("etag", ""), digest
        return marks


def _shape(found: os.stat_result) -> tuple[int, int, int]:
    return found.st_mtime_ns, found.st_size, found.st_ino


def _opened(entries: Entries, data: bytes) -> list[Mark]:
    """The marks of a document. One with lines of which none is an entry is something else, like
    the page of a proxy, and no word of what is revoked. Raises ``TransportError``.
    """
    lines = [line for line in map(bytes.strip, data.split(b"\n")) if line]
    before = entries.rejected
    marks = entries.opened(lines)
    if lines and entries.rejected - before == len(lines):
        raise TransportError("no entry in it")
    return marks
