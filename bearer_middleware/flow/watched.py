"""Files whose content may change while the process runs: secrets, keys, certificates.

A file is looked at (``stat``, which follows symbolic links) at most once a second, and
read where it has changed. What is missing, half written or unusable changes nothing: the
old content serves on, and that is told once.
"""

from __future__ import annotations

import hashlib
import logging
import os
import stat
import time
from collections.abc import Callable
from typing import Generic, TypeVar

from bearer_middleware.flow.events import Event
from bearer_middleware.flow.locks import LazyLock

T = TypeVar("T")

_SECONDS_PER_LOOK = 1.0
# A file written twice within a tick of its clock looks the same twice: until it is so old, it
# is read again.
_YOUNG_SECONDS = 2.0
_MOST_BYTES = 4 * 1024 * 1024
# Stands for what was written while it was read, so nobody knows which of both was. Were it taken
# for the first, the first would not be noticed when it comes back.
_IN_MOTION = b""

_Mark = tuple[tuple[int, int, int], ...]


class Watched(Generic[T]):
    """What ``read`` makes of files, renewed where they change.

    ``name`` is the setting that names them, for events. ``read`` raises ``ValueError`` with
    words of ours, or ``OSError``. ``first`` is what was read before; without it ``value`` is
    ``None`` until the first look.
    """

    def __init__(
        self,
        name: str,
        paths: tuple[str, ...],
        read: Callable[[], T],
        *,
        first: T | None = None,
        issuer: str | None = None,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._name, self._paths, self._read, self._issuer = name, paths, read, issuer
        self._monotonic = monotonic
        self._lock = LazyLock()
        self._mark: _Mark | None = None
        self._digest: bytes | None = None
        #: What serves now.
        self.value = first
        #: Grows with every new content.
        self.version = 0
        #: Is the file unusable, and older content serving?
        self.troubled = False
        #: Monotonic seconds: of the next look, and of the last that found the file usable.
        self.due, self.confirmed = 0.0, monotonic()

    def __repr__(self) -> str:
        return f"<Watched {self._name}>"

    def look(self, *, at_once: bool = False) -> Event | None:
        """Look whether a file has changed, if that is due or ``at_once``; what is to be told."""
        now = self._monotonic()
        with self._lock:
            if now < self.due and not at_once:
                return None
            self.due = now + _SECONDS_PER_LOOK
        mark = _mark_of(self._paths)
        if mark is not None and mark == self._mark:
            self.confirmed = now
            return None
        return self._renew(mark, now)

    def _renew(self, mark: _Mark | None, now: float) -> Event | None:
        found: tuple[T] | None = None
        try:
            digest = _digest_of(self._paths)
            if digest != self._digest:
                found = (self._read(),)
                # The digest alone would miss a change to and fro.
                if _mark_of(self._paths) != mark or _digest_of(self._paths) != digest:
                    mark, digest = None, _IN_MOTION
        except OSError:
            return self._unusable("it cannot be read or used")
        except ValueError as error:
            return self._unusable(str(error))
        self.troubled, self.confirmed = False, now
        mark = None if mark is None or _is_young(mark) else mark
        return self._take(found, digest, mark)

    def _take(self, found: tuple[T] | None, digest: bytes, mark: _Mark | None) -> Event | None:
        """All three at once, or other callers would mix those of two contents for ever."""
        with self._lock:
            known = self._digest
            if digest == known != _IN_MOTION:  # an old one, or one another caller has just read
                self._mark = mark
                return None
            if found is None:  # another caller has just read another one
                return None
            (self.value,), self._digest, self._mark = found, digest, mark
            self.version += 1
        if known is None:
            return None
        return Event("file_renewed", issuer=self._issuer, detail=self._name)

    def _unusable(self, why: str) -> Event | None:
        self._mark = None
        if self.troubled:
            return None
        self.troubled = True
        detail = f"{self._name}: {why}; the old content serves on"
        return Event("file_unusable", logging.WARNING, issuer=self._issuer, detail=detail)


def _mark_of(paths: tuple[str, ...]) -> _Mark | None:
    """What changes with the content, nearly always; ``None`` where a file is missing."""
    try:
        found = [os.stat(path) for path in paths]
    except OSError:
        return None
    return tuple((each.st_mtime_ns, each.st_size, each.st_ino) for each in found)


def _is_young(mark: _Mark) -> bool:
    now = time.time()  # that of the files, which no test moves
    return any(abs(now - written / 1e9) < _YOUNG_SECONDS for written, _, _ in mark)


def _digest_of(paths: tuple[str, ...]) -> bytes:
    digest = hashlib.sha256()
    for path in paths:
        if not stat.S_ISREG(os.stat(path).st_mode):
            raise OSError("not a regular file")
        with open(path, "rb") as file:
            data = file.read(_MOST_BYTES)
        digest.update(len(data).to_bytes(8) + data)
    return digest.digest()
