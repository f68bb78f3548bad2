"""Where audit events go: a file of JSON lines, :mod:`logging`, a function, or the current span.

``required=True`` says that a request waits until its event is written, and is refused with 503
where that fails. ``format`` makes of the canonical event what is written, such as
:func:`~bearer_middleware.audit.mappings.as_ecs`.
"""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Callable, Mapping
from typing import Any, Protocol

from bearer_middleware.audit.event import Event
from bearer_middleware.flow.effects import Flow, is_async, lift
from bearer_middleware.flow.locks import LazyLock, renew_after_fork
from bearer_middleware.flow.tally import is_loaded

Format = Callable[[Event], Mapping[str, Any]]

_logger = logging.getLogger("bearer_middleware.audit")
_encode = json.JSONEncoder(separators=(",", ":"), allow_nan=False).encode


class Sink(Protocol):
    """Takes events, one after another. Raises whatever it likes where one cannot be written."""

    @property
    def required(self) -> bool:
        """Does the request wait for it?"""
        ...

    def write(self, event: Event) -> Flow[None]:
        """Write one event."""
        ...


class JsonLines:
    """Appends each event as one line of JSON to a file, in one write: any number of processes may
    append to the same file of a local file system. It is opened at the first event, readable for
    its owner and group, and opened anew where it was rotated away.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        format: Format | None = None,  # noqa: A002 - what it is called everywhere
        required: bool = False,
    ) -> None:
        self.required, self._path, self._format = required, os.fspath(path), format
        self._lock = LazyLock()
        self._file: int | None = None
        self._torn = False
        renew_after_fork(self)

    def after_fork(self) -> None:
        """A file that is appended to may be shared; a number that is just being changed not."""
        self._file, self._torn = None, False

    def write(self, event: Event) -> Flow[None]:
        yield from ()  # nobody is asked
        line = _encode(event if self._format is None else self._format(event)).encode() + b"\n"
        with self._lock:
            self._append(line)

    def close(self) -> None:
        """Close the file. The next event opens it again."""
        with self._lock:
            self._close()

    def _append(self, line: bytes) -> None:
        file = self._opened()
        if self._torn:  # a disk that was full has half a line: this one begins anew
            line = b"\n" + line
        written = os.write(file, line)
        self._torn = written < len(line)
        if self._torn:
            raise OSError("the event was not written as a whole")

    def _opened(self) -> int:
        if self._file is not None:
            if self._is_in_place(self._file):
                return self._file
            self._close()
        flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | getattr(os, "O_CLOEXEC", 0)
        self._file = os.open(self._path, flags, 0o640)
        return self._file

    def _is_in_place(self, file: int) -> bool:
        """Is it still what the path names?"""
        try:
            named = os.stat(self._path)
        except FileNotFoundError:
            return False
        ours = os.fstat(file)
        return (named.st_ino, named.st_dev) == (ours.st_ino, ours.st_dev)

    def _close(self) -> None:
        file, self._file, self._torn = self._file, None, False
        if file is not None:
            os.close(file)


class Log:
    """Writes to the logger ``bearer_middleware.audit``: permits as INFO, all else as WARNING. The
    event is the record's ``audit``, for handlers that write JSON.
    """

    def __init__(
        self,
        *,
        logger: logging.Logger = _logger,
        format: Format | None = None,  # noqa: A002 - as above
        required: bool = False,
    ) -> None:
        self.required, self._logger, self._format = required, logger, format

    def write(self, event: Event) -> Flow[None]:
        yield from ()
        level = logging.INFO if event["outcome"] == "permit" else logging.WARNING
        if not self._logger.isEnabledFor(level):
            return
        told = event if self._format is None else dict(self._format(event))
        self._logger.log(level, "%s", line_of(event), extra={"audit": told})


class Function:
    """Calls a function of yours, plain, ``async`` or a flow, with each event. An ``async`` one is
    refused when a WSGI middleware is built.
    """

    def __init__(
        self,
        function: Callable[[Any], Any],
        *,
        format: Format | None = None,  # noqa: A002 - as above
        required: bool = False,
    ) -> None:
        self.required, self.function, self._format = required, function, format

    @property
    def is_async(self) -> bool:
        """Does it need an event loop?"""
        return is_async(self.function)

    def write(self, event: Event) -> Flow[None]:
        yield from lift(self.function, event if self._format is None else self._format(event))


class OpenTelemetry:
    """Adds the span event ``bearer.authz.decision`` to the span of the request, where there is one
    and the application traces. Nothing is imported for it, and nobody waits.
    """

    required = False
    #: The span is that of whoever decides: what is told later has no place in it.
    at_once = True

    def write(self, event: Event) -> Flow[None]:
        yield from ()
        if not is_loaded("opentelemetry.trace"):
            return
        from opentelemetry import trace

        span = trace.get_current_span()
        if span.is_recording():
            span.add_event("bearer.authz.decision", attributes_of(event))


def attributes_of(event: Event) -> dict[str, Any]:
    """The event as attributes of OpenTelemetry: ``user.id``, ``http.route``, and ours, which begin
    with ``authz``.
    """
    subject, decision = event.get("subject", {}), event.get("decision", {})
    resource, request = event.get("resource", {}), event["request"]
    told = {
        "authz.kind": event["kind"],
        "authz.outcome": event["outcome"],
        "authz.status": event["status"],
        "authz.event_id": event["event_id"],
        "user.id": subject.get("id"),
        "authz.subject.type": subject.get("type"),
        "authz.client_id": subject.get("client_id"),
        "authz.tenant": subject.get("tenant"),
        "authz.action": event.get("action"),
        "authz.resource.type": resource.get("type"),
        "authz.resource.id": resource.get("id"),
        "authz.pdp": decision.get("pdp"),
        "authz.decision_id": decision.get("id"),
        "authz.reasons": decision.get("reasons"),
        "authz.policy_version": decision.get("policy_version"),
        "authz.cached": decision.get("cached"),
        "authz.duration": decision.get("latency_ms", 0) / 1000 if decision else None,
        "error.type": decision.get("error"),
        "http.request.method": request.get("method"),
        "http.route": request.get("route"),
    }
    return {name: value for name, value in told.items() if value is not None}


def line_of(event: Mapping[str, Any]) -> str:
    """One event as people read it."""
    subject, decision = _table(event, "subject"), _table(event, "decision")
    resource, request = _table(event, "resource"), _table(event, "request")
    words = [event.get("outcome"), event.get("status"), subject.get("id") or "(nobody)"]
    if "action" in event:
        words += [event["action"], f"{resource.get('type')}:{resource.get('id')}"]
    else:
        words.append(event.get("kind"))
    reasons = decision.get("reasons")
    why = [*(reasons if isinstance(reasons, list) else ()), decision.get("error")]
    if said := ", ".join(str(word) for word in why if word):
        words.append(f"({said})")
    if pdp := decision.get("pdp"):
        words.append(f"by {pdp}")
    words += [request.get("method"), request.get("route")]
    if ip := request.get("ip"):
        words.append(f"from {ip}")
    return " ".join(str(word) for word in words if word is not None)


def _table(event: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    value = event.get(name)
    return value if isinstance(value, Mapping) else {}
