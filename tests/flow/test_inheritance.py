"""Small maps in a forked child, whatever the threads of its parent were doing at that moment."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from typing import Any

import cachetools
import pytest

from bearer_middleware.errors import InvalidToken, Reason
from bearer_middleware.flow.clock import Clock
from bearer_middleware.flow.inheritance import inherited
from bearer_middleware.memory.asked import JustAsked
from bearer_middleware.memory.places import Refusals


def test_what_is_there_is_inherited() -> None:
    """All of it, into a map as large."""
    parents: cachetools.LRUCache[int, str] = cachetools.LRUCache(2)
    parents[1], parents[2], parents[3] = "one", "two", "three"
    assert dict(inherited(parents, cachetools.LRUCache(2))) == {2: "two", 3: "three"}


def refusals() -> tuple[Callable[[bytes], None], Callable[[bytes], bool]]:
    """What is remembered of bad tokens, two of them at most."""
    kept = Refusals(2, Clock())
    error = InvalidToken(Reason.INACTIVE)
    return lambda name: kept.remember(name, error, 60), lambda name: kept.get(name) is not None


def asked() -> tuple[Callable[[bytes], None], Callable[[bytes], bool]]:
    """What was just asked about."""
    kept = JustAsked(Clock())
    kept._until = cachetools.LRUCache(2)
    return lambda name: kept.add(name, 2.0**40), kept.has


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here")
@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
@pytest.mark.parametrize("make", [refusals, asked])
def test_a_fork_in_the_middle_of_a_change(make: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """An entry that was just being pushed out does not stop the child from remembering more."""
    put, has = make()
    put(b"1")
    put(b"2")
    halfway, goes_on = threading.Event(), threading.Event()
    remove = cachetools.Cache.__delitem__

    def slow(self: Any, key: Any) -> None:
        remove(self, key)
        halfway.set()
        goes_on.wait(30)

    def delete(self: Any, key: Any) -> None:
        slow(self, key)
        del self._LRUCache__order[key]

    monkeypatch.setattr(cachetools.LRUCache, "__delitem__", delete)
    thread = threading.Thread(target=put, args=(b"3",))
    thread.start()
    halfway.wait(30)
    child = os.fork()
    if child == 0:
        goes_on.set()
        status = 2
        try:
            for name in (b"4", b"5", b"6"):
                put(name)
            status = 0 if has(b"6") else 1
        finally:
            os._exit(status)
    goes_on.set()
    thread.join(30)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
