"""Threads that wait for a flight: all of them pass, whatever becomes of those before them."""

import threading
import time
from collections.abc import Callable
from types import SimpleNamespace

import pytest

from bearer_middleware.flow import landing as module
from bearer_middleware.flow.landing import Landing

_FOR_EVER = 30.0


def _waiting(
    landing: Landing, timeout: float, number: int
) -> tuple[list[bool], Callable[[], None]]:
    """So many threads in line. Their answers, and how to wait for all of them."""
    answers: list[bool] = []
    threads = [
        threading.Thread(target=lambda: answers.append(landing.wait(timeout)))
        for _ in range(number)
    ]
    for thread in threads:
        thread.start()

    def join() -> None:
        for thread in threads:
            thread.join(_FOR_EVER)
            assert not thread.is_alive()

    return answers, join


def _until(true: Callable[[], bool]) -> None:
    deadline = time.monotonic() + _FOR_EVER
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.001)


def test_all_in_line_pass_when_it_lands() -> None:
    """Not only those who are let through at first."""
    landing = Landing()
    answers, join = _waiting(landing, _FOR_EVER, 100)
    _until(lambda: len(landing._line) == 100)
    assert answers == []
    landing.land()
    join()
    assert answers == [True] * 100
    assert not landing._line


def test_who_comes_later_does_not_wait() -> None:
    """Nobody would come and call it."""
    landing = Landing()
    landing.land()
    assert landing.wait(0)
    assert not landing._line


def test_who_waited_in_vain_leaves_the_line_to_the_others() -> None:
    """Their gates would be opened for nobody."""
    landing = Landing()
    early, join_early = _waiting(landing, 0.01, 5)
    late, join_late = _waiting(landing, _FOR_EVER, 5)
    join_early()
    assert early == [False] * 5
    _until(lambda: len(landing._line) == 5)
    landing.land()
    join_late()
    assert late == [True] * 5


def test_a_timeout_in_the_past_is_none() -> None:
    """A deadline may be over by the time a caller gets to wait."""
    assert not Landing().wait(-1)


class _Killed(BaseException):
    """As a greenlet is killed, or a process interrupted."""


class _Deadly:
    """The lock of those who will be killed in line. The first ``acquire`` closes it."""

    kill = threading.Event()

    def __init__(self) -> None:
        self._closed = False

    def acquire(self, timeout: float = -1) -> bool:
        if not self._closed:
            self._closed = True
            return True
        assert self.kill.wait(_FOR_EVER)
        raise _Killed

    def release(self) -> None:
        """It is called, and does not live to hear of it."""


def _doomed(landing: Landing, monkeypatch: pytest.MonkeyPatch) -> list[threading.Thread]:
    """As many in line as are let through at once; they are killed by ``_Deadly.kill``."""

    def dies() -> None:
        with pytest.raises(_Killed):
            landing.wait(_FOR_EVER)

    threads = [threading.Thread(target=dies) for _ in range(module._AT_ONCE)]
    with monkeypatch.context() as patched:
        patched.setattr(module, "threading", SimpleNamespace(Lock=_Deadly))
        for thread in threads:
            thread.start()
        _until(lambda: len(landing._line) == len(threads))
    return threads


@pytest.mark.parametrize("called", [False, True])
def test_who_is_killed_in_line_stops_nobody(monkeypatch: pytest.MonkeyPatch, called: bool) -> None:
    """Before it was called, it goes out of the line; after that it calls the next one."""
    landing = Landing()
    monkeypatch.setattr(_Deadly, "kill", threading.Event())
    doomed = _doomed(landing, monkeypatch)
    answers, join = _waiting(landing, _FOR_EVER, 3)
    _until(lambda: len(landing._line) == len(doomed) + 3)
    if called:
        landing.land()
    _Deadly.kill.set()
    for thread in doomed:
        thread.join(_FOR_EVER)
    if not called:
        assert len(landing._line) == 3
        landing.land()
    join()
    assert answers == [True] * 3
