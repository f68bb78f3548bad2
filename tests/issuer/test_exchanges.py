"""What is told of an exchange, as a conversation."""

from __future__ import annotations

from typing import Any

import pytest

from bearer_middleware.errors import TransportError
from bearer_middleware.flow.clock import Clock
from bearer_middleware.flow.effects import HttpRequest, HttpResponse
from bearer_middleware.flow.instruments import UPSTREAM_DURATION, UPSTREAM_REQUESTS
from bearer_middleware.flow.tally import Tally
from bearer_middleware.issuer.exchanges import Exchanges

NOW = 784_111_777.0  # Sun, 06 Nov 1994 08:49:37 GMT, as in RFC 9110 section 5.6.7
REQUEST = HttpRequest("GET", "https://as.test/jwks")


class Seen:
    """A span that remembers how it ended."""

    def __init__(self) -> None:
        self.ended: list[tuple[int | None, str | None]] = []

    def end(self, status: int | None, error: str | None) -> None:
        self.ended.append((status, error))


class Record:
    """Of one endpoint, with somebody who watches and traces."""

    def __init__(self, name: str = "keys") -> None:
        self.tally, self.span, self.begun = Tally(), Seen(), [""]
        self.tally.watched = True
        self.tally.tracer = self.begin
        self.exchanges = Exchanges(name, Clock(lambda: NOW, lambda: 0.0), self.tally)

    def begin(self, name: str, request: HttpRequest) -> Seen:
        self.begun = [name]
        return self.span

    def ask(self, reply: HttpResponse | BaseException) -> None:
        """One exchange that is answered so."""
        flow = self.exchanges.kept(REQUEST)
        assert next(flow) is REQUEST
        if isinstance(reply, BaseException):
            with pytest.raises(type(reply)):
                flow.throw(reply)
            return
        with pytest.raises(StopIteration) as returned:
            flow.send(reply)
        assert returned.value.value is reply

    @property
    def counted(self) -> dict[tuple[str, ...], int]:
        return dict(self.tally.counted(UPSTREAM_REQUESTS))


@pytest.mark.parametrize(
    ("reply", "result", "ended"),
    [
        (HttpResponse(200, {}, b""), "ok", (200, None)),
        (HttpResponse(302, {}, b""), "protocol", (302, None)),
        (HttpResponse(404, {}, b""), "protocol", (404, "404")),
        (HttpResponse(401, {}, b""), "auth", (401, "401")),
        (HttpResponse(403, {}, b""), "auth", (403, "403")),
        (HttpResponse(429, {}, b""), "429", (429, "429")),
        (HttpResponse(503, {}, b""), "5xx", (503, "503")),
        (TransportError("timeout"), "timeout", (None, "timeout")),
        (TransportError("connect"), "connect", (None, "connect")),
        (TransportError("too_large"), "protocol", (None, "protocol")),
        (KeyboardInterrupt(), "cancelled", (None, "cancelled")),
    ],
)
def test_results(reply: Any, result: str, ended: Any) -> None:
    """Every end has one word, counted and timed once, and ends the span."""
    record = Record()
    record.ask(reply)
    assert record.counted == {("jwks", result): 1}
    ((labels, kept),) = record.tally.read_histogram(UPSTREAM_DURATION)
    assert (labels, sum(kept.counts)) == (("jwks", result), 1)
    assert record.span.ended == [ended]


def test_an_exchange_that_is_given_up() -> None:
    """Closing the flow ends the span, too."""
    record = Record()
    flow = record.exchanges.kept(REQUEST)
    next(flow)
    flow.close()
    assert record.span.ended == [(None, "cancelled")]


@pytest.mark.parametrize(
    ("name", "span"),
    [
        ("keys", "bearer.jwks.fetch"),
        ("transmitter keys", "bearer.jwks.fetch"),
        ("introspection", "bearer.introspect"),
        ("metadata", "bearer.discovery.fetch"),
    ],
)
def test_names_of_spans(name: str, span: str) -> None:
    """Are fixed."""
    record = Record(name)
    record.ask(HttpResponse(200, {}, b""))
    assert record.begun == [span]


@pytest.mark.parametrize(
    ("date", "skew"),
    [
        ("Sun, 06 Nov 1994 08:49:37 GMT", 0.0),
        ("Sun, 06 Nov 1994 08:50:07 GMT", 30.0),
        ("Sun, 06 Nov 1994 08:49:07 GMT", -30.0),
        ("yesterday", None),
        ("", None),
    ],
)
def test_the_clock_of_the_server(date: str, skew: float | None) -> None:
    """Is compared with ours where it tells the time."""
    record = Record()
    record.ask(HttpResponse(200, {"date": date}, b""))
    assert record.exchanges.skew == skew


def test_a_server_that_does_not_tell_the_time() -> None:
    """What it told before is still the best we know."""
    record = Record()
    record.ask(HttpResponse(200, {"date": "Sun, 06 Nov 1994 08:49:38 GMT"}, b""))
    record.ask(HttpResponse(503, {}, b""))
    assert record.exchanges.skew == 1.0


def test_a_tracer_that_raises() -> None:
    """Decides nothing."""
    record = Record()

    def broken(name: str, request: HttpRequest) -> Seen:
        raise LookupError

    record.tally.tracer = broken
    record.ask(HttpResponse(200, {}, b""))
    assert record.counted == {("jwks", "ok"): 1}
