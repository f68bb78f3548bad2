"""From settings, or from what the user gave, to the recorder of a server."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, Literal, Protocol, TypeAlias, cast

from bearer_middleware.audit.auditor import Auditor
from bearer_middleware.audit.record import Recorder
from bearer_middleware.audit.sinks import JsonLines, Log, Sink
from bearer_middleware.errors import ConfigError
from bearer_middleware.flow.drivers import Transport
from bearer_middleware.flow.events import Events
from bearer_middleware.flow.transport import HttpTransport
from bearer_middleware.settings import Settings

#: A recorder, or the sinks of one.
Audit: TypeAlias = Recorder | Iterable[Sink | Callable[[Any], Any]]
_Part = Callable[[], tuple[Literal["ok", "degraded", "failing"], Mapping[str, Any]]]


class _Checkup(Protocol):
    def add(self, name: str, part: _Part) -> None: ...


class Parts(Protocol):
    """Of a resource server, what an audit trail is fastened to."""

    settings: Settings
    events: Events
    transport: HttpTransport

    @property
    def checkup(self) -> _Checkup: ...


def open_audit(server: Parts, given: Audit | None = None) -> Recorder | None:
    """What is ``given``, else what ``BEARER_AUDIT`` names; ``None`` where there is neither. What
    waits to be written is written when the server is closed. Raises ``ConfigError``.
    """
    recorder = _recorder(server.settings, given, server.transport)
    if isinstance(recorder, Auditor):
        recorder.join(server.events, server.transport)
        server.transport.beside.append(recorder)
        server.checkup.add("audit", recorder.condition)
    return recorder


def _recorder(settings: Settings, given: Audit | None, transport: Transport) -> Recorder | None:
    if given is None:
        if settings.audit is None:
            return None
        sink = Log() if settings.audit == "log" else JsonLines(settings.audit)
        return Auditor([sink], transport=transport)
    if settings.audit is not None:
        raise ConfigError("BEARER_AUDIT: the server was given an audit of its own; keep one")
    if hasattr(given, "record"):
        return cast(Recorder, given)
    try:
        return Auditor(cast("Iterable[Sink]", given), transport=transport)
    except TypeError:
        raise ConfigError("audit: must be an Auditor, or a list of sinks and functions") from None
