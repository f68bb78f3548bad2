"""Where the followers of a flight wait for it, hundreds of them perhaps.

Threads stand in line and are let through a few at a time, each by one that has just passed: only
one of them can run Python, and all woken at once would stand in each other's way. Tasks of event
loops are told by callbacks, as by any other future.
"""

from __future__ import annotations

import threading
from collections import deque
from concurrent.futures import Future

#: While one runs, the next wakes up.
_AT_ONCE = 2


class Landing(Future[None]):
    """A future that lands once, for threads of any number."""

    def __init__(self) -> None:
        super().__init__()
        self._landed = False  # to ask the future takes a lock
        # A lock of each one's own: the condition in a Future would let its waiters out one by one.
        self._line: deque[threading.Lock] = deque()
        # Without this mark one follower's cancellation would cancel the flight for all.
        self.set_running_or_notify_cancel()

    def land(self) -> None:
        """There is nothing more to wait for."""
        self._landed = True
        try:
            self.set_result(None)
        finally:  # a leader that is killed in the midst of this strands nobody
            self._let_through(_AT_ONCE)

    def wait(self, timeout: float) -> bool:
        """Block this thread until it has landed; ``False`` after so many seconds."""
        gate = threading.Lock()
        gate.acquire()
        self._line.append(gate)
        passed = False
        try:
            # Who comes when it has landed may stand in line after the last one was let through.
            passed = not self._landed and gate.acquire(timeout=max(timeout, 0.0))
        finally:
            # Whoever was called passes that on, though it was too late, or was killed meanwhile.
            if passed or not self._left(gate):
                self._let_through(1)
        return self._landed

    def _let_through(self, number: int) -> None:
        for _ in range(number):
            try:
                self._line.popleft().release()
            except IndexError:
                return

    def _left(self, gate: threading.Lock) -> bool:
        """Has it gone out of the line before it was called?"""
        try:
            self._line.remove(gate)
        except ValueError:
            return False
        return True
