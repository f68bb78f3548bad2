"""Who writes audit events while nobody waits: one thread of the process, or tasks of its loops.

Both have a bounded queue. What does not fit is dropped and counted; a request is never held up.
"""

from __future__ import annotations

import errno
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future

from bearer_middleware.audit.event import Event
from bearer_middleware.audit.sinks import Sink
from bearer_middleware.flow.companion import Companion
from bearer_middleware.flow.drivers import Transport
from bearer_middleware.flow.effects import Background, Flow, Wait, pause
from bearer_middleware.flow.locks import LazyLock, renew_after_fork
from bearer_middleware.flow.worlds import threads_do_not_run

#: Seconds in which what comes after an event is left to lie, so that a busy process wakes the
#: thread some twenty times a second, and not for each request.
_LINGER = 0.05
_LOOK_AGAIN = 5.0

#: Is told of an event that was dropped, or of a sink that failed, in a word of ours.
Note = Callable[[str, str], None]
_Queued = Event | Future[None]


class Writer:
    """A thread that writes to ``sinks``; it begins with the first event of each process."""

    def __init__(
        self, sinks: Sequence[Sink], size: int, note: Note, transport: Transport | None
    ) -> None:
        self._sinks, self._size, self._note = tuple(sinks), size, note
        self._queue: deque[_Queued] = deque()
        self._lock = LazyLock()
        self._bell: Future[None] | None = None
        self._transport = transport
        self._thread = Companion("bearer_middleware.audit", self._work, transport)
        renew_after_fork(self)

    def join(self, transport: Transport) -> None:
        """Perform exchanges there, where sinks ask for some, unless that is settled already."""
        if self._transport is None:
            self.stop()
            self._transport = transport
            self._thread = Companion("bearer_middleware.audit", self._work, transport)

    def after_fork(self) -> None:
        """What waits is the parent's to write."""
        self._queue, self._bell = deque(), None

    def __len__(self) -> int:
        return len(self._queue)

    def put(self, event: Event) -> Flow[None]:
        """Leave an event to the thread."""
        if len(self._queue) >= self._size:
            self._note("dropped", "")
        elif threads_do_not_run():
            yield from write_to(self._sinks, event, self._note)
        else:
            self._queue.append(event)
            self._wake()

    def flush(self, seconds: float) -> Flow[bool]:
        """Wait until all that is in the queue now is written; ``False`` if that takes longer."""
        if not self._queue and not self._thread.runs:
            return True
        done: Future[None] = Future()
        self._queue.append(done)
        try:
            self._wake(at_once=True)
        except RuntimeError:  # no thread can be had any more, at the end of the interpreter
            yield from self._empty()
        return (yield from Wait(done, seconds))

    def stop(self) -> None:
        """Let the thread end once its queue is empty. The next event begins another."""
        self._thread.stop()
        self._ring()

    def _wake(self, *, at_once: bool = False) -> None:
        if not self._thread.runs:
            try:
                self._thread.start()
            except RuntimeError:
                if at_once:
                    raise
        elif at_once or self._bell is not None:
            self._ring()

    def _ring(self) -> None:
        with self._lock:
            bell, self._bell = self._bell, None
        if bell is not None:
            bell.set_result(None)

    def _work(self, ending: Future[None]) -> Flow[None]:
        while True:
            # Hung up before the queue is looked at, or what came in between would lie there.
            bell = self._hang_up_bell(ending)
            yield from self._empty()
            if ending.done():
                return
            if (yield from Wait(bell, _LOOK_AGAIN)):
                yield from pause(_LINGER)

    def _hang_up_bell(self, ending: Future[None]) -> Future[None]:
        """Not in the place of that of the next thread, where this one is only finishing."""
        bell: Future[None] = Future()
        with self._lock:
            if not ending.done():
                self._bell = bell
        return bell

    def _empty(self) -> Flow[None]:
        while self._queue:
            try:
                queued = self._queue.popleft()
            except IndexError:  # somebody else was quicker
                return
            if isinstance(queued, Future):
                queued.set_result(None)
            else:
                yield from write_to(self._sinks, queued, self._note)


class LoopWriter:
    """Writes to sinks that need an event loop, in a task of the loop whose request came first."""

    def __init__(self, sinks: Sequence[Sink], size: int, note: Note) -> None:
        self._sinks, self._size, self._note = tuple(sinks), size, note
        self._queue: deque[Event] = deque()
        #: Done once the task that is writing has no more to write.
        self._task: Future[None] | None = None
        renew_after_fork(self)

    def after_fork(self) -> None:
        """What waits is the parent's to write."""
        self._queue, self._task = deque(), None

    def __len__(self) -> int:
        return len(self._queue)

    def put(self, event: Event) -> Flow[None]:
        """Leave an event to the task."""
        if len(self._queue) >= self._size:
            self._note("dropped", "")
            return
        self._queue.append(event)
        if self._task is None:
            yield from Background(self._apart)

    def flush(self, seconds: float) -> Flow[None]:
        """Write what is in the queue and wait for what a task is just writing, for so long: a sink
        that hangs must not keep a loop from its end.
        """
        done: Future[None] = Future()

        def apart() -> Flow[None]:
            try:
                yield from self._empty()
                task = self._task  # looked at now: it may have begun meanwhile, with the last one
                if task is not None:
                    yield from Wait(task, seconds)
            finally:
                done.set_result(None)

        if self._queue or self._task is not None:
            yield from Background(apart)
            yield from Wait(done, seconds)

    def _empty(self) -> Flow[None]:
        while self._queue:
            try:
                event = self._queue.popleft()
            except IndexError:  # somebody else was quicker
                return
            yield from write_to(self._sinks, event, self._note)

    def _apart(self) -> Flow[None]:
        if self._task is not None:
            return
        task = self._task = Future()
        try:
            yield from self._empty()
        finally:  # also where the loop ends: the next request goes on with the rest
            self._task = None
            task.set_result(None)


def write_to(sinks: Sequence[Sink], event: Event, note: Note) -> Flow[None]:
    """One event to each of them. What one raises keeps it from no other."""
    for sink in sinks:
        try:
            yield from sink.write(event)
        except Exception as error:  # noqa: BLE001 - its text may be anybody's
            note("failed", f"{type(sink).__name__} raised {word_for(error)}")
        else:
            note("written", "")


def word_for(error: Exception) -> str:
    """What may be told of an exception that is not ours: its class, and of the system its code."""
    name = type(error).__name__
    if isinstance(error, OSError) and error.errno is not None:
        return f"{name} {errno.errorcode.get(error.errno, '')}".rstrip()
    return name
