"""Small values: how clocks compare, and how times are told."""

from __future__ import annotations

from email.utils import formatdate

import pytest

from bearer_middleware.commands.clocks import clocks
from bearer_middleware.commands.remarks import relative
from bearer_middleware.commands.witness import Exchange, Witness
from bearer_middleware.errors import TransportError
from bearer_middleware.flow.effects import HttpRequest, HttpResponse
from bearer_middleware.settings.report import Report


def exchange(date: float, began: float = 1000.0, ended: float = 1000.5) -> Exchange:
    """An exchange whose answer has this Date."""
    return Exchange("https://as/", began, ended, 200, headers={"date": formatdate(date)})


@pytest.mark.parametrize(
    ("date", "offset"),
    [(1000, 0.0), (1003, 2.5), (999, 0.0), (990, -9.0), (1001, 0.5)],
)
def test_offsets_are_what_is_certain(date: float, offset: float) -> None:
    """Whole seconds and the time on the way count for the server, never against it."""
    assert exchange(date).clock_offset == offset


@pytest.mark.parametrize(
    "value",
    [
        *("", "no date", "Mon"),
        *("Thu, 01 Jan 10000 00:00:00 GMT", "Thu, 01 Jan 999999999999 00:00:00 GMT"),
    ],
)
def test_no_offset_without_a_date(value: str) -> None:
    """What cannot be read says nothing."""
    assert Exchange("https://as/", 0, 0, 200, headers={"date": value}).clock_offset is None


def test_the_worst_offset_counts() -> None:
    """Of several answers the one that is furthest off is told."""
    found = clocks([exchange(1000), exchange(1100), exchange(990)], 30, Report())
    assert [finding.level for finding in found] == ["fail"]
    assert "about 100 s behind" in found[0].text


def test_no_leeway() -> None:
    """Without a leeway, every difference that is certain is too much."""
    assert clocks([exchange(1003)], 0, Report())[0].level == "fail"
    assert clocks([exchange(1000)], 0, Report())[0].level == "ok"


def test_nobody_was_asked() -> None:
    """Without an exchange there is nothing to say of clocks."""
    assert clocks([], 30, Report()) == []
    assert clocks([Exchange("https://as/", 0, 1, failure="connect")], 30, Report()) == []


@pytest.mark.parametrize(
    ("seconds", "said"),
    [
        (-1, "1 s ago"),
        (0, "0 s ago"),
        (90, "in 90 s"),
        (-150, "2 min ago"),
        (3 * 3600, "in 3 h"),
        (-5 * 86_400, "5 days ago"),
        (1e300, "in over ten years"),
    ],
)
def test_relative_times(seconds: float, said: str) -> None:
    """Times are told in the unit that fits."""
    assert relative(seconds) == said


class Scripted:
    """A transport that answers once and then fails."""

    def __init__(self) -> None:
        self.answers = [HttpResponse(200, {}, b"body")]

    def send(self, request: HttpRequest) -> HttpResponse:
        if not self.answers:
            raise TransportError("connect")
        return self.answers.pop()

    asend = send


def test_witness() -> None:
    """Answers and failures are remembered, and given on as they are."""
    witness = Witness(Scripted(), now=lambda: 5.0)  # type: ignore[arg-type]
    request = HttpRequest("GET", "https://as/")
    assert witness.send(request).body == b"body"
    with pytest.raises(TransportError):
        witness.send(request)
    assert [(e.status, e.failure) for e in witness.exchanges] == [(200, None), (None, "connect")]
    assert "body" not in repr(witness.exchanges)
