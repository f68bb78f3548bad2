"""``Auditor``: of every record one event, to every sink, and nobody held up but where that is
asked for.
"""

from __future__ import annotations

import logging
import random
import weakref
from collections.abc import Awaitable, Callable, Iterable, Iterator
from typing import Any, Literal, cast

from bearer_middleware.audit.event import Event, event_of
from bearer_middleware.audit.record import Record
from bearer_middleware.audit.sinks import Function, Sink
from bearer_middleware.audit.writer import LoopWriter, Writer, word_for
from bearer_middleware.errors import Reason, Unavailable
from bearer_middleware.flow import events as told
from bearer_middleware.flow.drivers import Transport, arun, run
from bearer_middleware.flow.effects import Flow
from bearer_middleware.flow.events import Events
from bearer_middleware.flow.instruments import AUDIT_EVENTS
from bearer_middleware.flow.locks import renew_after_fork
from bearer_middleware.flow.tally import Labels

#: Is this permit worth an event?
Predicate = Callable[[Record], bool]

_FLUSH_SECONDS = 5.0


def everything(record: Record) -> bool:
    """Every permit is written, too."""
    return True


def nothing(record: Record) -> bool:
    """No permit is written."""
    return False


def sampled(share: float) -> Predicate:
    """That share of the permits, from 0 to 1, is written."""
    if not 0 <= share <= 1:
        raise ValueError("a share is a number from 0 to 1")
    return lambda record: random.random() < share  # noqa: S311 - no secret depends on it


class Auditor:
    """Writes an event for each record to ``sinks``: functions, plain, ``async`` or flows, or
    objects of :mod:`bearer_middleware.audit.sinks`.

    ``permits`` says which permits are written; denials, indeterminate decisions, requests let in
    while nobody could decide, and refused authentications always are. ``size`` is the number of
    events that may wait to be written: more are dropped, and counted. ``service`` and ``version``
    are the application's. Nothing runs before the first event.
    """

    def __init__(
        self,
        sinks: Iterable[Sink | Callable[[Any], Any]],
        *,
        permits: Predicate = everything,
        size: int = 10_000,
        service: str | None = None,
        version: str | None = None,
        events: Events | None = None,
        transport: Transport | None = None,
    ) -> None:
        self.sinks = tuple(_sink(one) for one in sinks)
        self._permits = permits
        named = {"name": service, "version": version}
        self._service = {name: value for name, value in named.items() if value}
        self._awaited = [one for one in self.sinks if one.required or _is_at_once(one)]
        later = [one for one in self.sinks if one not in self._awaited]
        plain = [one for one in later if not _needs_a_loop(one)]
        in_loops = [one for one in later if _needs_a_loop(one)]
        #: Apart from this object: the thread knows it, and must not keep this alive.
        self._numbers = numbers = _Numbers(events)
        self._writer = Writer(plain, size, numbers.note, transport) if plain else None
        self._loop_writer = LoopWriter(in_loops, size, numbers.note) if in_loops else None
        if self._writer is not None:
            self._at_exit = weakref.finalize(self, _finish, self._writer)

    def record(self, record: Record) -> Flow[None]:
        """Write an event of it. Raises ``Unavailable`` where a required sink fails."""
        if record.outcome == "permit" and not self._is_wanted(record):
            return
        event = self._event(record)
        if event is None:
            return
        for sink in self._awaited:
            yield from self._write_now(sink, event)
        if self._writer is not None:
            yield from self._writer.put(event)
        if self._loop_writer is not None:
            yield from self._loop_writer.put(event)

    def flush(self, seconds: float = _FLUSH_SECONDS) -> None:
        """Wait until all events up to now are written, or so many seconds; for threads."""
        if self._writer is not None:
            run(self._writer.flush(seconds))

    def aflush(self, seconds: float = _FLUSH_SECONDS) -> Awaitable[None]:
        """:meth:`flush` for event loops; also done at the end of lifespan."""
        return arun(self._flush(seconds))

    def close(self) -> None:
        """Write what waits, and end the thread. The next event begins another."""
        if self._writer is not None:
            _finish(self._writer)
        for sink in self.sinks:
            close = getattr(sink, "close", None)
            if close is not None:
                close()

    def aclose(self) -> Awaitable[None]:
        """Write what waits, where a loop ends. Others may go on, so nothing is closed."""
        return self.aflush()

    @property
    def functions(self) -> tuple[Callable[..., Any], ...]:
        """The functions of the user's among the sinks."""
        return tuple(sink.function for sink in self.sinks if isinstance(sink, Function))

    # -- how it is -------------------------------------------------------------------------

    @property
    def written(self) -> int:
        """Events written in this process, once for each sink."""
        return self._numbers.of["written"]

    @property
    def dropped(self) -> int:
        """Events for which there was no room."""
        return self._numbers.of["dropped"]

    @property
    def failed(self) -> int:
        """Events that a sink did not take."""
        return self._numbers.of["failed"]

    def condition(self) -> tuple[Literal["ok", "degraded"], dict[str, Any]]:
        """For health: degraded while the newest event was lost."""
        waiting = sum(len(one) for one in (self._writer, self._loop_writer) if one is not None)
        status: Literal["ok", "degraded"] = "degraded" if self._numbers.losing else "ok"
        return status, {**self._numbers.of, "waiting": waiting}

    def join(self, events: Events, transport: Transport) -> None:
        """Tell the events and metrics of a server, and use its connections, unless another one
        has come before.
        """
        self._numbers.join(events)
        if self._writer is not None:
            self._writer.join(transport)

    # -- within ----------------------------------------------------------------------------

    def _flush(self, seconds: float) -> Flow[None]:
        """In a loop, which alone can write to some sinks."""
        if self._loop_writer is not None:
            yield from self._loop_writer.flush(seconds)
        if self._writer is not None:
            yield from self._writer.flush(seconds)

    def _is_wanted(self, record: Record) -> bool:
        try:
            return bool(self._permits(record))
        except Exception as error:  # noqa: BLE001 - it is not ours; what is in doubt is written
            self._numbers.note("unsure", f"the predicate of permits raised {type(error).__name__}")
            return True

    def _event(self, record: Record) -> Event | None:
        try:
            return event_of(record, self._service)
        except Exception as error:  # noqa: BLE001 - what a decision point returned may be anything
            name = type(error).__name__
        self._numbers.note("failed", f"an event could not be made: {name}")
        if any(sink.required for sink in self.sinks):
            raise Unavailable(Reason.AUDIT_UNAVAILABLE, name)
        return None

    def _write_now(self, sink: Sink, event: Event) -> Flow[None]:
        try:
            yield from sink.write(event)
        except Exception as error:  # noqa: BLE001 - its text may be anybody's
            name = word_for(error)
        else:
            self._numbers.note("written", "")
            return
        self._numbers.note("failed", f"{type(sink).__name__} raised {name}")
        if sink.required:
            raise Unavailable(Reason.AUDIT_UNAVAILABLE, name)


class _Numbers:
    """How many events were written, dropped and not taken, and who is told of it."""

    __slots__ = ("__weakref__", "_events", "losing", "of")

    def __init__(self, events: Events | None) -> None:
        self._events: Events | None = None
        self.after_fork()
        renew_after_fork(self)
        if events is not None:
            self.join(events)

    def join(self, events: Events) -> None:
        """Tell ``events``, if there is nobody yet."""
        if self._events is None:
            self._events = events
            events.tally.watch(AUDIT_EVENTS, self._counted)

    def after_fork(self) -> None:
        """What the parent counted it tells itself."""
        self.of = {"written": 0, "dropped": 0, "failed": 0}
        self.losing = False

    def note(self, result: str, detail: str) -> None:
        """One more. No lock: there is no call between reading a number and writing it."""
        if result in self.of:
            self.of[result] += 1
            self.losing = result != "written"
        if result != "written" and self._events is not None:
            self._events.note(told.Event(f"audit_{result}", logging.ERROR, detail=detail))

    def _counted(self) -> Iterator[tuple[Labels, float]]:
        for result, number in self.of.items():
            yield (result,), number


def _sink(given: Sink | Callable[[Any], Any]) -> Sink:
    if hasattr(given, "write") and hasattr(given, "required"):
        return cast(Sink, given)
    if not callable(given):
        raise TypeError("a sink is a function, or has write and required")
    return Function(given)


def _is_at_once(sink: Sink) -> bool:
    return bool(getattr(sink, "at_once", False))


def _needs_a_loop(sink: Sink) -> bool:
    return isinstance(sink, Function) and sink.is_async


def _finish(writer: Writer) -> None:
    """At the end of the process, or of the auditor."""
    run(writer.flush(_FLUSH_SECONDS))
    writer.stop()
