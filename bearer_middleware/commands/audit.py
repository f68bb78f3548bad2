"""``bearer-middleware audit FILE``: reads audit events back, and shows those that are asked for."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import Any, BinaryIO, TextIO, get_args

from bearer_middleware.audit.event import SCHEMA
from bearer_middleware.audit.record import Outcome
from bearer_middleware.audit.sinks import line_of
from bearer_middleware.commands.findings import tell

OUTCOMES: tuple[str, ...] = get_args(Outcome)

# What is longer is no event of ours, and is not read into memory as a whole.
_LONGEST_LINE = 1024 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """Which events are asked for; ``None`` is any."""

    #: The id of a subject.
    subject: str | None = None
    #: A type of resource, or ``type:id``.
    resource: str | None = None
    outcome: str | None = None
    #: Seconds since the epoch.
    since: float | None = None

    def covers(self, event: Mapping[str, Any]) -> bool:
        """Is it one of them?"""
        if self.outcome is not None and event.get("outcome") != self.outcome:
            return False
        if self.subject is not None and _table(event, "subject").get("id") != self.subject:
            return False
        if self.resource is not None:
            resource = _table(event, "resource")
            kind = resource.get("type")
            if kind is None or self.resource not in (kind, f"{kind}:{resource.get('id')}"):
                return False
        return self.since is None or _seconds(event) >= self.since


def audit(
    source: str, stdin: BinaryIO, out: TextIO, err: TextIO, wanted: Wanted, *, as_json: bool = False
) -> int:
    """Write one line for each event of ``source``, a path or ``-``. Lines that are no events are
    counted on ``err``. Returns 0, or 1 where the file cannot be read.
    """
    skipped = 0
    try:
        with _opened(source, stdin) as file:
            for event in _events(file):
                if event is None:
                    skipped += 1
                elif wanted.covers(event):
                    tell([json.dumps(event) if as_json else _readable(event)], out)
    except BrokenPipeError:
        raise
    except (OSError, ValueError) as error:
        why = getattr(error, "strerror", None) or "not a file name"
        tell([f"the file cannot be read: {why}"], err)
        return 1
    if skipped:
        tell([f"{skipped} lines are no audit events, and were left out"], err)
    return 0


@contextmanager
def _opened(source: str, stdin: BinaryIO) -> Iterator[BinaryIO]:
    if source == "-":
        yield stdin
        return
    with open(source, "rb") as file:
        yield file


def _events(file: BinaryIO) -> Iterator[dict[str, Any] | None]:
    """Each line as an event, or ``None``."""
    for line in _lines(file):
        if not line.strip():
            continue
        try:
            event: object = json.loads(line)
        except (ValueError, RecursionError):
            event = None
        known = isinstance(event, dict) and event.get("schema") == SCHEMA
        yield event if known else None  # type: ignore[misc]


def _lines(file: BinaryIO) -> Iterable[bytes]:
    """The lines of a file; of a longer one only what cannot be an event."""
    part = file.readline(_LONGEST_LINE)
    while part:
        line = part
        while part and not part.endswith(b"\n"):
            part = file.readline(_LONGEST_LINE)
            line = b"{" if part else line  # broken, and counted once
        yield line
        part = file.readline(_LONGEST_LINE)


def _readable(event: Mapping[str, Any]) -> str:
    return f"{event.get('time')} {line_of(event)}"


def _seconds(event: Mapping[str, Any]) -> float:
    try:
        time = datetime.fromisoformat(event["time"])
        return time.timestamp() if time.tzinfo is not None else 0.0
    except (KeyError, TypeError, ValueError, OverflowError):
        return 0.0


def _table(event: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    value = event.get(name)
    return value if isinstance(value, Mapping) else {}
