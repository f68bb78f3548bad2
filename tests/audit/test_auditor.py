"""Which events are written, when, and what becomes of those that cannot be."""

from __future__ import annotations

import asyncio
import gc
import json
import logging
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import trio

from bearer_middleware.audit.auditor import Auditor, everything, nothing, sampled
from bearer_middleware.audit.record import Record
from bearer_middleware.audit.sinks import Function, JsonLines, OpenTelemetry
from bearer_middleware.audit.writer import _LINGER
from bearer_middleware.errors import Reason, Unavailable
from bearer_middleware.flow.drivers import arun, run
from bearer_middleware.flow.events import Events
from bearer_middleware.flow.instruments import AUDIT_EVENTS
from bearer_middleware.flow.transport import HttpTransport
from bearer_middleware.policy.model import Decision, Effect

Make = Callable[..., Record]
Told = list[dict[str, Any]]


def test_everything_by_default(record: Make, refused: Make) -> None:
    """One event for each record, in its order, to every sink."""
    one: Told = []
    other: Told = []
    auditor = Auditor([one.append, other.append], service="todo", version="2")
    for status, what in enumerate((record, refused, record)):
        run(auditor.record(what(status=status, outcome="permit")))
    auditor.flush()
    assert [event["status"] for event in one] == [0, 1, 2]
    assert one == other
    assert one[0]["service"] == {"name": "todo", "version": "2"}
    assert (auditor.written, auditor.dropped, auditor.failed) == (6, 0, 0)
    assert auditor.condition() == ("ok", {"written": 6, "dropped": 0, "failed": 0, "waiting": 0})
    auditor.close()


def test_an_event_right_after_the_end(record: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    """The thread that is just finishing does not keep the next one from being woken."""
    monkeypatch.setattr("bearer_middleware.audit.writer._LOOK_AGAIN", 3600)
    told: Told = []
    auditor = Auditor([told.append])
    for number in range(1, 4):
        run(auditor.record(record(outcome="deny")))
        time.sleep(2 * _LINGER)  # the first thread has gone through the queue once more
        run(auditor.record(record(outcome="deny")))
        auditor.flush(60)
        assert len(told) == 2 * number
        auditor.close()


@pytest.mark.parametrize(
    "outcome", ["permit", "deny", "not_applicable", "indeterminate", "fail_open"]
)
@pytest.mark.parametrize("permits", [nothing, everything, sampled(0), sampled(1)])
def test_permits_by_predicate(record: Make, permits: Any, outcome: str) -> None:
    """All else is always written."""
    told: Told = []
    auditor = Auditor([told.append], permits=permits)
    run(auditor.record(record(outcome=outcome)))
    auditor.close()
    wanted = outcome != "permit" or permits(record())
    assert [event["outcome"] for event in told] == [outcome] * wanted


def test_a_predicate_that_raises(record: Make, caplog: pytest.LogCaptureFixture) -> None:
    """What is in doubt is written; its text is in no log."""

    def permits(_: Record) -> bool:
        raise RuntimeError("canary")

    told: Told = []
    auditor = Auditor([told.append], permits=permits, events=Events())
    run(auditor.record(record(outcome="permit")))
    auditor.close()
    assert len(told) == 1
    assert "the predicate of permits raised RuntimeError" in caplog.text
    assert "canary" not in caplog.text


@pytest.mark.parametrize("share", [-0.1, 1.1, float("nan")])
def test_a_share(share: float) -> None:
    """Is from 0 to 1."""
    with pytest.raises(ValueError, match="from 0 to 1"):
        sampled(share)


def test_a_slow_sink(record: Make, held: Any, caplog: pytest.LogCaptureFixture) -> None:
    """Holds nobody up: what does not fit is dropped and counted, the rest is written."""
    events = Events()
    auditor = Auditor([held], size=10)
    auditor.join(events, HttpTransport())
    run(auditor.record(record(status=0)))
    assert held.entered.wait(30)  # and stays there
    for status in range(1, 111):
        run(auditor.record(record(status=status)))
    assert auditor.dropped == 100
    assert auditor.condition()[0] == "degraded"
    assert events.counts["audit_dropped"] == 100
    lines = [line for line in caplog.records if line.message.startswith("audit_dropped")]
    assert 0 < len(lines) < 10  # one a second
    held.gate.set()
    auditor.flush()
    assert [event["status"] for event in held.events] == list(range(11))
    assert dict(events.tally.read(AUDIT_EVENTS)) == {
        ("written",): 11,
        ("dropped",): 100,
        ("failed",): 0,
    }
    auditor.close()


def test_flush_gives_up(record: Make, held: Any) -> None:
    """After so many seconds, whatever the sink does."""
    auditor = Auditor([held])
    run(auditor.record(record()))
    auditor.flush(0.01)
    assert held.events == []
    held.gate.set()
    auditor.close()
    assert len(held.events) == 1


def raising(_: Any) -> None:
    """A sink out of order."""
    raise RuntimeError("canary")


def test_a_sink_that_raises(record: Make, caplog: pytest.LogCaptureFixture) -> None:
    """Keeps the event from no other; its text is in no log."""
    told: Told = []
    auditor = Auditor([raising, told.append], events=Events())
    run(auditor.record(record()))
    auditor.flush()
    assert (len(told), auditor.failed) == (1, 1)
    assert auditor.condition()[0] == "ok"  # the last thing that happened is a success
    assert "audit_failed: Function raised RuntimeError" in caplog.text
    assert "canary" not in caplog.text
    auditor.close()


@pytest.mark.needs("/dev/full")
def test_a_full_disk(record: Make) -> None:
    """Is counted, and shown."""
    auditor = Auditor([JsonLines("/dev/full")])
    run(auditor.record(record()))
    auditor.flush()
    assert auditor.failed == 1
    assert auditor.condition()[0] == "degraded"
    auditor.close()


@pytest.mark.parametrize(
    "sink",
    [
        Function(raising, required=True),
        pytest.param(JsonLines("/dev/full", required=True), marks=pytest.mark.needs("/dev/full")),
        JsonLines("/nowhere/at/all", required=True),
    ],
    ids=["raising", "full", "nowhere"],
)
def test_a_required_sink_that_fails(record: Make, sink: Any) -> None:
    """Nobody is let in without a trace."""
    auditor = Auditor([sink])
    with pytest.raises(Unavailable) as caught:
        run(auditor.record(record(outcome="permit", status=200)))
    assert caught.value.reason is Reason.AUDIT_UNAVAILABLE
    assert "canary" not in str(caught.value)
    assert caught.value.__context__ is None or "canary" not in str(caught.value.__cause__)
    assert auditor.failed == 1


def test_a_required_sink(tmp_path: Path, record: Make) -> None:
    """Is written before ``record`` returns, by this thread."""
    path = tmp_path / "audit.jsonl"
    auditor = Auditor([JsonLines(path, required=True)])
    before = threading.active_count()
    run(auditor.record(record()))
    assert json.loads(path.read_text())["status"] == 403
    assert threading.active_count() == before
    auditor.close()


def test_what_is_no_decision(record: Make) -> None:
    """A record of which no event can be made is counted, and refused where one is required."""
    odd = record(decision=Decision(effect=Effect.DENY, reasons=7))  # type: ignore[arg-type]
    told: Told = []
    auditor = Auditor([told.append])
    run(auditor.record(odd))
    assert auditor.failed == 1
    with pytest.raises(Unavailable):
        run(Auditor([Function(told.append, required=True)]).record(odd))
    assert told == []


def test_nothing_is_alive_before_the_first_event(record: Make, tmp_path: Path) -> None:
    """No thread, no file."""
    before = threading.active_count()
    auditor = Auditor([JsonLines(tmp_path / "audit.jsonl"), print])
    assert threading.active_count() == before
    assert list(tmp_path.iterdir()) == []
    auditor.flush()
    auditor.close()
    assert threading.active_count() == before


@pytest.mark.parametrize(
    "start", [asyncio.run, lambda main: trio.run(lambda: main)], ids=["asyncio", "trio"]
)
def test_an_async_sink(record: Make, start: Any) -> None:
    """Is called in the loop, and what waits is written before that ends."""
    told: Told = []

    async def take(event: dict[str, Any]) -> None:
        import anyio

        await anyio.lowlevel.checkpoint()
        told.append(event)

    auditor = Auditor([take])

    async def main() -> None:
        for status in range(50):
            await arun(auditor.record(record(status=status)))
        await auditor.aclose()

    start(main())
    assert sorted(event["status"] for event in told) == list(range(50))
    assert auditor.written == 50


@pytest.mark.parametrize(
    "start", [asyncio.run, lambda main: trio.run(lambda: main)], ids=["asyncio", "trio"]
)
def test_an_async_sink_that_hangs(record: Make, start: Any) -> None:
    """Keeps no loop from its end."""

    async def take(event: dict[str, Any]) -> None:
        import anyio

        await anyio.sleep(3600)

    auditor = Auditor([take])

    async def main() -> None:
        for _ in range(3):
            await arun(auditor.record(record()))
        await auditor.aflush(0.05)

    start(main())
    assert auditor.written == 0


def test_a_slow_async_sink(record: Make) -> None:
    """Is bounded as well."""
    told: Told = []

    async def main() -> None:
        gate = asyncio.Event()

        async def take(event: dict[str, Any]) -> None:
            await gate.wait()
            told.append(event)

        auditor = Auditor([take], size=10)
        await arun(auditor.record(record()))
        await asyncio.sleep(0)
        for _ in range(110):
            await arun(auditor.record(record()))
        assert auditor.dropped == 100
        gate.set()
        await auditor.aclose()

    asyncio.run(main())
    assert len(told) >= 10


def test_a_loop_that_dies(record: Make) -> None:
    """Takes what it was writing with it; the next one goes on with the rest."""
    told: Told = []

    async def take(event: dict[str, Any]) -> None:
        if event["status"] == 0:
            await asyncio.sleep(3600)
        told.append(event)

    auditor = Auditor([take])

    async def write(*statuses: int) -> None:
        for status in statuses:
            await arun(auditor.record(record(status=status)))
            await asyncio.sleep(0)

    asyncio.run(write(0, 1))
    gc.collect()
    asyncio.run(write(2))
    assert [event["status"] for event in told] == [1, 2]


def test_an_async_required_sink(record: Make) -> None:
    """Is awaited."""
    told: Told = []

    async def take(event: dict[str, Any]) -> None:
        told.append(event)

    auditor = Auditor([Function(take, required=True)])
    asyncio.run(arun(auditor.record(record())))
    assert len(told) == 1


def test_the_span_is_told_at_once(record: Make) -> None:
    """Later it would be another's."""
    auditor = Auditor([OpenTelemetry()])
    run(auditor.record(record()))
    assert auditor.written == 1


def test_what_is_no_sink() -> None:
    """Is told when it is given."""
    with pytest.raises(TypeError, match="a sink is"):
        Auditor([7])  # type: ignore[list-item]


@pytest.mark.needs("/dev/null")
def test_a_forked_child(record: Make, tmp_path: Path) -> None:
    """Has a thread of its own, and writes its own events alone."""
    path = tmp_path / "audit.jsonl"
    auditor = Auditor([JsonLines(path)])
    for _ in range(20):
        run(auditor.record(record(status=1)))
    child = os.fork()
    if child == 0:
        status = 1
        try:
            run(auditor.record(record(status=2)))
            auditor.flush()
            status = 0 if auditor.written == 1 else 2
        finally:
            os._exit(status)
    assert os.waitpid(child, 0)[1] == 0
    auditor.flush()
    statuses = [json.loads(line)["status"] for line in path.read_text().splitlines()]
    assert sorted(statuses) == [1] * 20 + [2]
    auditor.close()


def test_at_the_end_of_the_process(tmp_path: Path) -> None:
    """What waits is written."""
    path = tmp_path / "audit.jsonl"
    program = f"""
from bearer_middleware.audit.auditor import Auditor
from bearer_middleware.audit.record import Record, RequestFacts
from bearer_middleware.audit.sinks import JsonLines
from bearer_middleware.flow.drivers import run
auditor = Auditor([JsonLines({str(path)!r})])
facts = RequestFacts(method="GET", route="/")
for _ in range(100):
    run(auditor.record(Record(at=1.0, outcome="deny", status=401, facts=facts)))
"""
    subprocess.run([sys.executable, "-c", program], check=True, timeout=60)
    assert len(path.read_text().splitlines()) == 100


def test_an_auditor_that_is_gone(record: Make) -> None:
    """Writes what it was told, and its thread ends."""
    told: Told = []
    before = {thread.name for thread in threading.enumerate()}
    auditor = Auditor([told.append])
    run(auditor.record(record()))
    del auditor
    gc.collect()
    assert len(told) == 1
    for thread in threading.enumerate():
        if thread.name == "bearer_middleware.audit" and thread.name not in before:
            thread.join(10)
            assert not thread.is_alive()


def test_threads(record: Make) -> None:
    """Of many threads no event is lost."""
    told: Told = []
    auditor = Auditor([told.append])

    def write() -> None:
        for _ in range(200):
            run(auditor.record(record()))

    threads = [threading.Thread(target=write) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    auditor.flush()
    assert len(told) == 1600
    auditor.close()
    assert logging.getLogger("bearer_middleware.audit").name
