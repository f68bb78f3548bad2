"""What the log says of what happens again and again."""

from __future__ import annotations

import logging
from typing import Any

import pytest

from bearer_middleware.errors import InvalidToken, Reason, Unavailable
from bearer_middleware.flow.drivers import run
from bearer_middleware.flow.events import Event, Events


class Time:
    """Moved by hand."""

    now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Time:
    """Stands still."""
    return Time()


@pytest.fixture
def lines(caplog: pytest.LogCaptureFixture) -> Any:
    """What our logger wrote, in ``.records``."""
    caplog.set_level(logging.DEBUG, "bearer_middleware")
    return caplog


def test_refusals_are_sampled(clock: Time, lines: Any) -> None:
    """One line a second for each reason, with how many there were; all are counted."""
    events = Events(monotonic=clock)
    for number in range(50):
        events.note_refusal(InvalidToken(Reason.EXPIRED, f"detail {number}"))
        run(events.refused(InvalidToken(Reason.BAD_SIGNATURE)))
    assert [record.reason for record in lines.records] == ["expired", "bad_signature"]
    clock.now += 1
    events.note_refusal(InvalidToken(Reason.EXPIRED))
    assert lines.records[-1].suppressed == 49
    assert "49 more" in lines.records[-1].getMessage()
    clock.now += 1
    events.note_refusal(InvalidToken(Reason.EXPIRED))
    assert lines.records[-1].suppressed == 0
    assert "more" not in lines.records[-1].getMessage()
    assert events.counts["expired"] == 52


def test_an_outage_and_a_refusal_differ(clock: Time, lines: Any) -> None:
    """One does not hide the other."""
    events = Events(monotonic=clock)
    events.note_refusal(InvalidToken(Reason.INTERNAL))
    events.note_refusal(Unavailable(Reason.INTERNAL))
    assert [record.levelname for record in lines.records] == ["INFO", "WARNING"]


def test_changes_of_state_are_always_told(clock: Time, lines: Any) -> None:
    """What differs in any word is another line."""
    events = Events(monotonic=clock)
    for detail in ("keys", "introspection"):
        events.note(Event("breaker_opened", logging.WARNING, detail=detail))
        events.note(Event("breaker_closed", detail=detail))
    assert len(lines.records) == 4


def test_the_same_line_again(clock: Time, lines: Any) -> None:
    """A shared cache that fails at every request does not fill the disk."""
    events = Events(monotonic=clock)
    for _ in range(1000):
        events.note(Event("cache_failed", logging.WARNING, detail="ConnectionError"))
    assert len(lines.records) == 1
    assert events.counts["cache_failed"] == 1000


def test_the_listener_hears_everything(clock: Time, lines: Any) -> None:
    """Sampling is for the log alone."""
    heard: list[Event] = []
    events = Events(heard.append, monotonic=clock)
    for _ in range(20):
        run(events.refused(InvalidToken(Reason.EXPIRED)))
    assert (len(heard), len(lines.records)) == (20, 1)


def test_what_is_remembered_for_that_is_bounded(clock: Time, lines: Any) -> None:
    """Details may be many."""
    events = Events(monotonic=clock)
    for number in range(5_000):
        events.note(Event("breaker_opened", logging.WARNING, detail=str(number)))
    assert len(lines.records) == 5_000
    assert len(events._sampling._lines) <= 512
