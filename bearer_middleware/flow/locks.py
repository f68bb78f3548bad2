"""Locks that are born at first use and born again in a forked child.

Building a middleware must create no lock: gevent may patch ``threading`` later, and a
process may fork after import. A lock that another thread held at the moment of the fork
would stay locked in the child for ever, so every child starts with new ones.
"""

from __future__ import annotations

import os
import threading
import weakref
from types import TracebackType
from typing import Protocol


class _Forkable(Protocol):
    def after_fork(self) -> None: ...


_forkables: weakref.WeakSet[_Forkable] = weakref.WeakSet()


def renew_after_fork(thing: _Forkable) -> None:
    """Call ``thing.after_fork()`` in every forked child for as long as ``thing`` lives."""
    _forkables.add(thing)


def _in_child() -> None:
    for thing in list(_forkables):
        thing.after_fork()


if hasattr(os, "register_at_fork"):  # not on Windows, which cannot fork
    os.register_at_fork(after_in_child=_in_child)


class _Lock(Protocol):
    def acquire(self) -> bool: ...

    def release(self) -> None: ...


class LazyLock:
    """``with lock:`` around a few microseconds of work; never around a ``yield``.

    Whoever holds it may enter it again: the collector may close a lost flow right here, and what
    that flow gives back is under the same lock.
    """

    __slots__ = ("__weakref__", "_born")

    def __init__(self) -> None:
        self._born: dict[str, _Lock] = {}
        renew_after_fork(self)

    def __enter__(self) -> None:
        lock = self._born.get("lock")
        if lock is None:  # setdefault is atomic: two threads get the same lock
            lock = self._born.setdefault("lock", threading.RLock())
        lock.acquire()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._born["lock"].release()

    def after_fork(self) -> None:
        self._born = {}
