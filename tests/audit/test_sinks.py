"""Where events go: each sink by itself."""

from __future__ import annotations

import json
import logging
import multiprocessing
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from bearer_middleware.audit.event import Event, event_of
from bearer_middleware.audit.mappings import as_ecs
from bearer_middleware.audit.record import Record
from bearer_middleware.audit.sinks import Function, JsonLines, Log, OpenTelemetry, line_of
from bearer_middleware.flow.drivers import run

Make = Callable[..., Record]


@pytest.fixture
def event(record: Make) -> Event:
    """A denied decision."""
    return event_of(record())


def lines(path: Path) -> list[Any]:
    """What is in a file of JSON lines."""
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_a_line_for_each(tmp_path: Path, event: Event) -> None:
    """Appended to what is there, and readable for nobody else."""
    path = tmp_path / "audit.jsonl"
    sink = JsonLines(path)
    assert not path.exists()  # nothing happens before the first event
    run(sink.write(event))
    run(sink.write(event | {"status": 404}))
    assert [line["status"] for line in lines(path)] == [403, 404]
    assert lines(path)[0] == event
    assert path.stat().st_mode & 0o007 == 0
    sink.close()
    run(JsonLines(path, format=as_ecs).write(event))
    assert lines(path)[2]["ecs"]


@pytest.mark.parametrize("how", ["renamed", "removed", "replaced"])
def test_rotated_away(tmp_path: Path, event: Event, how: str) -> None:
    """The next event is in the file that has the name now."""
    path, old = tmp_path / "audit.jsonl", tmp_path / "audit.jsonl.1"
    sink = JsonLines(path)
    run(sink.write(event))
    if how == "removed":
        path.unlink()
    else:
        path.rename(old)
    if how == "replaced":
        path.touch()
    run(sink.write(event))
    assert len(lines(path)) == 1
    sink.close()
    sink.close()


def _append(path: str, event: Event, number: int, times: int) -> None:
    sink = JsonLines(path)
    for _ in range(times):
        run(sink.write(event | {"status": number}))


def test_many_processes(tmp_path: Path, event: Event) -> None:
    """Append to one file, and no line is torn."""
    path = tmp_path / "audit.jsonl"
    long = event | {"action": "x" * 9000}
    context = multiprocessing.get_context("spawn")
    writers = [
        context.Process(target=_append, args=(str(path), long, number, 100)) for number in range(4)
    ]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join(60)
        assert writer.exitcode == 0
    written = [line["status"] for line in lines(path)]
    assert sorted(written) == sorted([0, 1, 2, 3] * 100)


@pytest.mark.needs("/dev/full")
def test_a_full_disk(event: Event) -> None:
    """Is an error of the sink, time after time."""
    sink = JsonLines("/dev/full")
    for _ in range(2):
        with pytest.raises(OSError, match="No space left"):
            run(sink.write(event))


def test_half_a_line(tmp_path: Path, event: Event, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a disk that was full does not spoil the next one."""
    path = tmp_path / "audit.jsonl"
    sink, write = JsonLines(path), os.write
    monkeypatch.setattr(os, "write", lambda file, line: write(file, line[:20]))
    with pytest.raises(OSError, match="as a whole"):
        run(sink.write(event))
    monkeypatch.setattr(os, "write", write)
    run(sink.write(event))
    first, second = path.read_text().splitlines()
    assert len(first) == 20
    assert json.loads(second) == event


def test_the_log(event: Event, caplog: pytest.LogCaptureFixture) -> None:
    """One line that people read, the event for handlers; permits are INFO, all else WARNING."""
    with caplog.at_level(logging.INFO):
        run(Log().write(event))
        run(Log(format=as_ecs).write(event | {"outcome": "permit"}))
    first, second = caplog.records
    assert (first.name, first.levelno) == ("bearer_middleware.audit", logging.WARNING)
    assert first.getMessage() == (
        "deny 403 auth0|alice update todo:42 (policy:owner) by permit PUT /todos/{id} "
        "from 203.0.113.7"
    )
    assert first.audit == event  # type: ignore[attr-defined]
    assert second.levelno == logging.INFO
    assert second.audit["ecs"]  # type: ignore[attr-defined]


def test_nobody_listens_to_the_log(event: Event, caplog: pytest.LogCaptureFixture) -> None:
    """Then nothing is made of the event."""
    with caplog.at_level(logging.ERROR):
        run(Log().write(event))
    assert caplog.records == []


def test_a_flow(event: Event) -> None:
    """A function may be a flow, and is given what its format makes."""
    seen: list[Any] = []

    def take(told: Any) -> Any:
        yield from ()
        seen.append(told)

    run(Function(take).write(event))
    run(Function(seen.append, format=as_ecs).write(event))
    assert seen[0] == event
    assert seen[1]["ecs"]


def test_the_span(record: Make, refused: Make) -> None:
    """An event on the span there is, with attributes; without a span nothing happens."""
    exporter = InMemorySpanExporter()
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    sink = OpenTelemetry()
    run(sink.write(event_of(record())))
    with provider.get_tracer("test").start_as_current_span("request"):
        run(sink.write(event_of(record())))
        run(sink.write(event_of(refused())))
    (span,) = exporter.get_finished_spans()
    first, second = span.events
    assert first.name == second.name == "bearer.authz.decision"
    assert first.attributes is not None
    assert first.attributes["user.id"] == "auth0|alice"
    assert first.attributes["authz.outcome"] == "deny"
    assert first.attributes["authz.reasons"] == ("policy:owner",)
    assert first.attributes["authz.duration"] == 0.0019
    assert first.attributes["http.route"] == "/todos/{id}"
    assert second.attributes is not None
    assert "authz.action" not in second.attributes


@pytest.mark.parametrize("told", [{}, {"subject": 7, "decision": {"reasons": "x"}, "action": None}])
def test_a_line_of_anything(told: dict[str, Any]) -> None:
    """Who reads an event back may find any shape."""
    assert isinstance(line_of(told), str)
