"""What a failing authorization server is spared, and what its callers are told meanwhile."""

from __future__ import annotations

import logging
from collections.abc import Callable, Generator
from email.utils import formatdate
from typing import Any

import pytest

from bearer_middleware.errors import RateLimited, Reason, TransportError
from bearer_middleware.flow.clock import Clock
from bearer_middleware.flow.effects import HttpRequest, HttpResponse, Wait
from bearer_middleware.flow.events import Event, Events
from bearer_middleware.issuer.upstream import Shed, Upstream
from bearer_middleware.testing import Issuer

Make = Callable[..., Any]
Reply = HttpResponse | BaseException
GOOD, GET = HttpResponse(200), HttpRequest("GET", "https://as.test/")


class Line:
    """An upstream, its clock, and whoever listens."""

    def __init__(self, timeout: float = 3.0) -> None:
        self.time = 1000.0
        self.told: list[Event] = []
        self.events = Events(self.told.append)
        self.upstream = Upstream(
            "introspection",
            issuer="https://as.test",
            timeout=timeout,
            clock=Clock(lambda: self.time, lambda: self.time),
            events=self.events,
        )

    def begin(self, timeout: float = 3.0) -> tuple[Generator[Any, Any, Any], Any]:
        flow = self.upstream.exchange(HttpRequest("GET", "https://as.test/", timeout=timeout))
        return flow, next(flow)

    def ask(self, *replies: Reply, timeout: float = 3.0) -> int:
        """One exchange while the server answers so; its status."""
        flow = self.upstream.exchange(HttpRequest("GET", "https://as.test/", timeout=timeout))
        left, others = list(replies), self.upstream.in_flight
        try:
            effect = next(flow)
            while True:
                if isinstance(effect, Wait):
                    assert 0.05 <= effect.timeout <= 0.15
                    self.time += effect.timeout
                    effect = flow.send(False)
                elif isinstance(effect, HttpRequest):
                    assert effect.timeout <= timeout + 1e-6
                    reply = left.pop(0)
                    failed = isinstance(reply, BaseException)
                    effect = flow.throw(reply) if failed else flow.send(reply)
                else:
                    effect = flow.send(effect.function(*effect.arguments))
        except StopIteration as done:
            return int(done.value.status)
        finally:
            assert not left
            assert self.upstream.in_flight == others

    def fail(self, times: int, reply: Reply) -> Line:
        for _ in range(times):
            try:
                self.ask(reply)
            except TransportError:
                continue
        return self

    @property
    def names(self) -> list[str]:
        return [event.name for event in self.told]


@pytest.fixture
def line() -> Line:
    """Closed."""
    return Line()


# -- what counts against a server ----------------------------------------------------------


@pytest.mark.parametrize("status", [429, 500, 501, 502, 503, 504, 599])
def test_these_answers_open_the_breaker(line: Line, status: int) -> None:
    """The fifth in a row."""
    assert line.fail(4, HttpResponse(status)).upstream.state == "closed"
    assert line.fail(1, HttpResponse(status)).upstream.state == "open"
    with pytest.raises(Shed):
        line.ask()


@pytest.mark.parametrize("word", ["timeout", "protocol", "failed"])
def test_these_failures_open_the_breaker(line: Line, word: str) -> None:
    """As many of them, and none is tried once more."""
    assert line.fail(4, TransportError(word)).upstream.state == "closed"
    assert line.fail(1, TransportError(word)).upstream.state == "open"


@pytest.mark.parametrize("status", [200, 204, 301, 302, 400, 401, 403, 404, 405, 410, 422])
def test_these_answers_do_not(line: Line, status: int) -> None:
    """A server that says such a thing is well; 401 and 403 are a mistake of ours."""
    assert line.fail(100, HttpResponse(status)).upstream.state == "closed"


def test_an_answer_that_is_too_large_does_not(line: Line) -> None:
    """One user with a large answer must not shut everybody out."""
    assert line.fail(100, TransportError("too_large")).upstream.state == "closed"


def test_a_caller_with_hardly_any_time_says_nothing(line: Line) -> None:
    """What was left after a slow discovery is no measure of this endpoint."""
    for _ in range(50):
        with pytest.raises(TransportError, match="timeout"):
            line.ask(TransportError("timeout"), timeout=1.4)
    assert line.upstream.state == "closed"
    for _ in range(5):
        with pytest.raises(TransportError, match="timeout"):
            line.ask(TransportError("timeout"), timeout=1.6)
    assert line.upstream.state == "open"


@pytest.mark.parametrize("timeout", [0.0, -1.0])
def test_a_caller_without_time_sends_nothing(line: Line, timeout: float) -> None:
    """The request's deadline has passed."""
    with pytest.raises(TransportError, match="timeout"):
        line.ask(timeout=timeout)
    assert line.upstream.state == "closed"


def test_cancelled_callers_say_nothing(line: Line) -> None:
    """And give their places back."""
    for _ in range(50):
        flow, _ = line.begin()
        flow.close()
    assert (line.upstream.state, line.upstream.in_flight) == ("closed", 0)


def test_a_probe_whose_client_hangs_up_is_none(line: Line) -> None:
    """Until then nobody else is sent; then the next caller is."""
    line.fail(5, HttpResponse(500))
    line.time += 6.1
    probe, _ = line.begin()
    with pytest.raises(Shed):
        line.ask()
    probe.close()
    assert line.ask(GOOD) == 200
    assert line.upstream.state == "closed"


# -- one more try --------------------------------------------------------------------------


def test_a_connection_that_fails_is_tried_once_more(line: Line) -> None:
    """A moment later, and within the same time limit."""
    assert line.ask(TransportError("connect"), GOOD) == 200
    with pytest.raises(TransportError, match="connect"):
        line.ask(TransportError("connect"), TransportError("connect"))
    with pytest.raises(TransportError, match="protocol"):
        line.ask(TransportError("connect"), TransportError("protocol"))
    line.ask(GOOD)
    assert line.ask(TransportError("connect"), HttpResponse(500)) == 500


def test_the_second_try_has_what_is_left_of_the_time(line: Line) -> None:
    """The first one took two of three seconds."""
    flow, first = line.begin()
    line.time += 2
    assert isinstance(flow.throw(TransportError("connect")), Wait)
    line.time += 0.1
    second = flow.send(False)
    assert (first.timeout, round(second.timeout, 3)) == (3.0, 0.9)
    flow.close()


def test_no_second_try_without_time_for_it(line: Line) -> None:
    """The pause alone would be too long."""
    with pytest.raises(TransportError, match="connect"):
        line.ask(TransportError("connect"), timeout=0.04)


def test_each_try_counts(line: Line) -> None:
    """Five connections that fail are three exchanges; and a probe is one try, not two."""
    down = TransportError("connect")
    for _ in range(2):
        with pytest.raises(TransportError):
            line.ask(down, down)
    with pytest.raises(TransportError):
        line.ask(down)
    assert line.upstream.state == "open"
    line.time += 6.1
    with pytest.raises(TransportError):
        line.ask(down)
    assert line.upstream.state == "open"


def test_a_breaker_that_opens_in_the_pause(line: Line) -> None:
    """Others have found out meanwhile: no second try."""
    flow, _ = line.begin()
    assert isinstance(flow.throw(TransportError("connect")), Wait)
    line.fail(4, HttpResponse(500))
    with pytest.raises(TransportError, match="connect"):
        flow.send(False)
    assert line.upstream.in_flight == 0


# -- who is admitted -----------------------------------------------------------------------


def test_who_is_not_admitted_sends_nothing(line: Line) -> None:
    """It is asked when there is a place, which is free again at once; the server is well."""
    made: list[HttpRequest] = []
    refused = RateLimited(Reason.RATE_LIMITED)

    def admit(leave: Callable[[], None]) -> None:
        assert line.upstream.in_flight == 1
        raise refused

    for _ in range(50):
        flow = line.upstream.exchange_late(lambda: made.append(GET) or GET, 3.0, admit)
        with pytest.raises(RateLimited):
            next(flow)
    assert (made, line.upstream.in_flight, line.upstream.state) == ([], 0, "closed")
    assert line.ask(GOOD) == 200
    assert line.told == []
    assert line.events.counts["shed"] == 0


@pytest.mark.parametrize("reply", [GOOD, HttpResponse(401), HttpResponse(500), "failed", "closed"])
def test_who_is_admitted_says_when_it_is_done(line: Line, reply: Any) -> None:
    """Where there may be something to do: with an answer of status 200."""
    left: list[Callable[[], None]] = []
    flow = line.upstream.exchange_late(lambda: GET, 3.0, left.append)
    assert next(flow).url == GET.url
    if reply == "closed":
        flow.close()
    elif reply == "failed":
        with pytest.raises(TransportError):
            flow.throw(TransportError("protocol"))
    else:
        with pytest.raises(StopIteration):
            flow.send(reply)
    assert line.upstream.in_flight == (reply is GOOD)
    for _ in range(2):
        left[0]()
        assert line.upstream.in_flight == 0


def test_who_waits_in_vain_prepares_nothing(line: Line) -> None:
    """To sign an assertion for it would be dear; and one that was signed would grow old."""
    flows = [line.begin()[0] for _ in range(20)]
    waiting = line.upstream.exchange_late(lambda: pytest.fail("made"), 3.0)
    assert isinstance(next(waiting), Wait)
    with pytest.raises(Shed):
        waiting.send(False)
    for flow in flows:
        flow.close()


# -- Retry-After ---------------------------------------------------------------------------

DATE = formatdate(1_800_000_000, usegmt=True)
LATER = formatdate(1_800_000_020, usegmt=True)
PATIENCE = {
    "1": 1,
    "17": 17,
    " 17 ": 17,
    "60": 60,
    "61": 60,
    "0": 1,
    "-5": 1,
    "+5": 5,
    "1.5": 1.5,
    "9" * 30: 60,
    "9" * 5000: 60,
    LATER: 20,
    formatdate(1_700_000_000, usegmt=True): 1,
    formatdate(1_900_000_000, usegmt=True): 60,
    "Friday, 15-Jan-27 08:00:20 GMT": 20,
    "Fri Jan 15 08:00:20 2027": 20,
    "soon": 5,
    "NaN": 5,
    "inf": 5,
    "1e3": 5,
    "1_0": 5,
    "\u0661\u0662": 5,
    "5, 10": 5,
    "Fri, 99 Jan 2027 08:00:20 GMT": None,
    "Fri, 15 Jan 99999999999 08:00:20 GMT": None,
}


@pytest.mark.parametrize("status", [429, 503])
@pytest.mark.parametrize("said", PATIENCE, ids=lambda said: str(said)[:32])
def test_retry_after_is_honoured(line: Line, said: str, status: int) -> None:
    """Seconds, a date of any kind, nonsense: at once, for that long, from 1 to 60 seconds."""
    line.ask(HttpResponse(status, {"retry-after": said, "date": DATE}))
    assert line.upstream.state == "open"
    assert 1 <= line.upstream.wait <= 60
    if PATIENCE[said] is not None:
        assert line.upstream.wait == PATIENCE[said]


def test_a_date_without_the_servers_own(line: Line) -> None:
    """Then our clock has to do."""
    line.time = 1_800_000_005.0
    line.ask(HttpResponse(503, {"retry-after": LATER}))
    assert line.upstream.wait == 15


@pytest.mark.parametrize(("status", "said"), [(500, "30"), (200, "30"), (404, "30"), (429, " ")])
def test_where_it_means_nothing(line: Line, status: int, said: str) -> None:
    """Only 429 and 503 ask for patience."""
    line.ask(HttpResponse(status, {"retry-after": said}))
    assert line.upstream.state == "closed"


# -- what is told --------------------------------------------------------------------------


def test_changes_are_told_and_nothing_else(line: Line, caplog: pytest.LogCaptureFixture) -> None:
    """Once when it opens, once when it closes, however many are refused and probes fail."""
    caplog.set_level(logging.INFO, "bearer_middleware")
    line.fail(5, HttpResponse(500))
    for _ in range(50):
        with pytest.raises(Shed):
            line.ask()
    line.time += 6.1
    line.fail(1, HttpResponse(500))
    line.time += 12.1
    assert line.upstream.state == "half-open"
    assert line.ask(GOOD) == 200
    assert line.ask(GOOD) == 200
    assert line.names == ["breaker_opened", "breaker_closed"]
    opened, closed = line.told
    assert (opened.level, closed.level) == (logging.WARNING, logging.INFO)
    assert opened.issuer == closed.issuer == "https://as.test"
    assert opened.detail.startswith("introspection: status 500; asked again in ")
    assert line.events.counts["shed"] == 50
    assert len(caplog.records) == 2


def test_a_listener_that_is_cancelled_keeps_no_place(line: Line) -> None:
    """Nor does it undo what was counted."""
    line.events._listener = lambda event: (yield HttpRequest("GET", "https://log.test/"))
    line.fail(4, HttpResponse(500))
    flow, _ = line.begin()
    told = flow.send(HttpResponse(500))
    assert told.url == "https://log.test/"
    flow.close()
    assert (line.upstream.state, line.upstream.in_flight) == ("open", 0)


# -- the endpoints of an issuer ------------------------------------------------------------


def introspection(world: Any) -> Upstream:
    """Of its only issuer."""
    upstream = world.server.trusted.servers[0].introspection.upstream
    assert isinstance(upstream, Upstream)
    return upstream


FAULTS: dict[str, dict[str, Any]] = {
    "500": {"status": 500},
    "502": {"status": 502},
    "503": {"status": 503},
    "504": {"status": 504},
    "429": {"status": 429},
    "dropped": {"drop": True},
}


@pytest.mark.parametrize("fault", FAULTS.values(), ids=FAULTS.keys())
def test_two_hundred_tokens_while_introspection_fails(
    world: Any, issuer: Issuer, fault: dict[str, Any]
) -> None:
    """Five attempts; known tokens never feel it, and later one probe is enough."""
    opaque, jwt = issuer.opaque(), issuer.jwt()
    assert [world.ask(token).status for token in (opaque, jwt)] == [200, 200]
    issuer.fail("introspection", **fault)
    before = issuer.requests["introspection"]
    for _ in range(200):
        refused = world.ask(issuer.opaque())
        assert (refused.status, refused.reason) == (503, Reason.INTROSPECTION_UNAVAILABLE)
    assert issuer.requests["introspection"] == before + 5
    assert introspection(world).state == "open"
    assert world.server.events.counts["shed"] >= 195
    assert 1 <= refused.retry_after <= 6
    assert all(world.ask(token) == 200 for token in (opaque, jwt, issuer.jwt()))
    world.clock.advance(6.1)
    for _ in range(20):
        assert world.ask(issuer.opaque()) == 503
    assert issuer.requests["introspection"] == before + 6
    issuer.recover()
    world.clock.advance(13)
    assert introspection(world).state == "half-open"
    assert world.ask(issuer.opaque()) == 200
    assert introspection(world).state == "closed"


def test_inactive_tokens_never_open_it(world: Any, issuer: Issuer) -> None:
    """However many strangers knock."""
    for number in range(100):
        assert world.ask(f"stranger-{number}") == 401
    assert introspection(world).state == "closed"
    assert issuer.requests["introspection"] == 100


@pytest.mark.parametrize("status", [401, 403])
def test_refused_credentials_never_open_it(world: Any, issuer: Issuer, status: int) -> None:
    """A mistake of ours is told as one, every time; the network is well."""
    issuer.fail("introspection", status=status)
    for _ in range(30):
        assert world.ask(issuer.opaque()).reason is Reason.MISCONFIGURED
    assert introspection(world).state == "closed"
    issuer.recover()
    assert world.ask(issuer.opaque()) == 200


@pytest.mark.parametrize("said", ["30", "Retry-After", "-5", "9" * 30, formatdate(0, usegmt=True)])
@pytest.mark.parametrize("status", [429, 503])
def test_one_answer_that_asks_for_patience(
    world: Any, issuer: Issuer, status: int, said: str
) -> None:
    """No further exchange until then, and callers are told how long that is."""
    issuer.fail("introspection", status=status, headers={"retry-after": said})
    first = world.ask(issuer.opaque())
    assert first.retry_after == introspection(world).wait
    assert 1 <= first.retry_after <= 60
    world.clock.advance(0.5)
    second = world.ask(issuer.opaque())
    assert second.retry_after == max(1.0, first.retry_after - 0.5)
    assert issuer.requests["introspection"] == 1
    issuer.recover()
    world.clock.advance(first.retry_after)
    assert world.ask(issuer.opaque()) == 200


def test_an_open_breaker_makes_no_assertion(
    make: Make, issuer: Issuer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Signing one in vain is dear: who cannot ask does not prepare to."""
    world = make(client_auth="client_secret_jwt")
    issuer.fail("introspection", status=503, headers={"retry-after": "30"})
    assert world.ask(issuer.opaque()) == 503
    credentials = world.server.trusted.servers[0].introspection._credentials
    monkeypatch.setattr(credentials, "_method", pytest.fail)
    assert world.ask(issuer.opaque()) == 503


def test_stale_answers_serve_while_it_is_open(make: Make, issuer: Issuer) -> None:
    """Where ``BEARER_STALE_IF_ERROR`` says so; nobody is asked meanwhile."""
    world = make(stale_if_error=120)
    token = issuer.opaque()
    assert world.ask(token) == 200
    world.clock.advance(31)
    issuer.fail("introspection", status=503, headers={"retry-after": "50"})
    for _ in range(40):
        assert world.ask(token) == 200
        world.clock.advance(1)
    assert issuer.requests["introspection"] == 2
    issuer.recover()
    issuer.revoke(token)
    world.clock.advance(11)
    assert world.ask(token) == 401


@pytest.mark.parametrize("endpoint", ["jwks", "metadata"])
@pytest.mark.parametrize("status", [429, 503])
def test_documents_honour_retry_after(
    world: Any, issuer: Issuer, endpoint: str, status: int
) -> None:
    """Longer than the own back-off of a second would be."""
    server = world.server.trusted.servers[0]
    upstream = (server.keys if endpoint == "jwks" else server.metadata).upstream
    issuer.fail(endpoint, status=status, headers={"retry-after": "40"})
    refused = world.ask(issuer.jwt())
    assert (refused.status, refused.retry_after) == (503, 40)
    assert upstream.state == "open"
    for _ in range(39):
        world.clock.advance(1)
        assert world.ask(issuer.jwt()) == 503
    assert issuer.requests[endpoint] == 1
    issuer.recover()
    world.clock.advance(1.1)
    assert world.ask(issuer.jwt()) == 200
    assert upstream.state == "closed"


def test_known_keys_do_not_feel_it(world: Any, issuer: Issuer) -> None:
    """The renewal is told to be patient; tokens, remembered and new, pass meanwhile."""
    known = issuer.jwt()
    world.ask(known)
    issuer.fail("all", status=503, headers={"retry-after": "60"})
    world.clock.advance(301)
    for _ in range(55):
        assert all(world.ask(token) == 200 for token in (known, issuer.jwt()))
        world.background()
        world.clock.advance(1)
    assert issuer.requests["jwks"] == 2
    assert world.server.trusted.servers[0].keys.upstream.state == "open"
    assert world.server.events.counts["breaker_opened"] == 1


def test_each_endpoint_has_its_own(world: Any, issuer: Issuer) -> None:
    """An introspection endpoint that fails takes no keys with it."""
    issuer.fail("introspection", status=503, headers={"retry-after": "60"})
    assert world.ask(issuer.opaque()) == 503
    assert world.ask(issuer.jwt()) == 200
    server = world.server.trusted.servers[0]
    upstreams = (server.introspection.upstream, server.keys.upstream, server.metadata.upstream)
    assert [upstream.state for upstream in upstreams] == ["open", "closed", "closed"]


def test_nothing_is_in_the_way_of_fixed_keys(make: Make, issuer: Issuer) -> None:
    """A secret is not fetched, so there is no breaker to look at."""
    assert make(hmac_secret="0" * 64).server.trusted.servers[0].keys.upstream is None
