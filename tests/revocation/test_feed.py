"""The feed of one process: what it brings, and what its silence means, in every world."""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Callable
from typing import Any

import pytest

from bearer_middleware import BearerMiddleware, ConfigError, Identity, ResourceServer, Settings
from bearer_middleware.errors import RevocationError
from bearer_middleware.flow.drivers import run
from bearer_middleware.revocation import repair, state
from bearer_middleware.revocation.marks import Kind, Mark, digest_of
from bearer_middleware.testing import Issuer
from tests.revocation.conftest import FakeClock, HandFeed, WritableHandFeed, asked, eventually

Make = Callable[..., ResourceServer]
Ask = Callable[..., Any]
NAME = "bearer_middleware revocation"


def of(issuer: Issuer, kind: Kind, value: str, clock: FakeClock) -> Mark:
    """A mark for an hour."""
    digest = digest_of(kind, issuer.url, value.encode())
    return Mark(kind, digest, clock() + 3600, clock() + 60 if kind.is_cutoff else None)


def readers() -> list[threading.Thread]:
    """Those that are under way."""
    return [thread for thread in threading.enumerate() if thread.name == NAME]


def event_of(record: logging.LogRecord) -> str:
    """Its name, where it is a record of ours."""
    return str(getattr(record, "event", ""))


def remembered(server: ResourceServer, token: str) -> Identity | None:
    """What the short way says."""
    return server.identify(b"Bearer " + token.encode())


# -- what it brings ------------------------------------------------------------------------


def test_what_was_revoked_before_the_first_request(
    ask: Ask, make: Make, issuer: Issuer, feed: HandFeed, clock: FakeClock
) -> None:
    """The first request meets it, whichever kind of token it has."""
    feed.tell(of(issuer, Kind.SUBJECT, "alice", clock), of(issuer, Kind.TOKEN_ID, "j", clock))
    server = make()
    assert ask(server, issuer.jwt(sub="alice")) == "revoked"
    assert ask(server, issuer.opaque(sub="alice")) == "revoked"
    assert ask(server, issuer.jwt(sub="bob", jti="j")) == "revoked"
    assert ask(server, issuer.jwt(sub="bob")) == "bob"


def test_what_is_revoked_while_it_is_remembered(
    ask: Ask, make: Make, issuer: Issuer, feed: HandFeed, clock: FakeClock
) -> None:
    """No cache keeps a token alive."""
    server, tokens = make(), [issuer.jwt(), issuer.opaque()]
    for token in tokens * 2:
        assert ask(server, token) == "alice"
    feed.tell(of(issuer, Kind.SUBJECT, "alice", clock))
    for token in tokens:
        eventually(lambda token=token: ask(server, token) == "revoked")


def test_it_costs_nothing_while_it_is_live(
    ask: Ask, make: Make, issuer: Issuer, feed: HandFeed
) -> None:
    """The short way is shut until all was read, and open from then on."""
    server, token = make(), issuer.jwt()
    assert server.revocations.is_shut
    assert ask(server, token) == "alice"
    assert not server.revocations.is_shut
    assert server.revocations.state is None
    assert remembered(server, token) is not None


def test_building_starts_nothing(make: Make) -> None:
    """No thread before the first request."""
    before = readers()
    server = make()
    server.health()
    assert set(readers()) <= set(before)


def test_a_request_waits_for_the_first_snapshot(
    ask: Ask, make: Make, issuer: Issuer, feed: HandFeed, clock: FakeClock
) -> None:
    """It neither guesses nor refuses."""
    feed.lets_go.clear()
    feed.tell(of(issuer, Kind.SUBJECT, "alice", clock))
    server, said = make(http_timeout=60), []
    asking = threading.Thread(target=lambda: said.append(ask(server, issuer.jwt())), daemon=True)
    asking.start()
    eventually(lambda: bool(readers()))
    asking.join(0.1)
    assert said == []
    feed.lets_go.set()
    asking.join(20)
    assert said == ["revoked"]


def test_who_has_no_time_left(ask: Ask, make: Make, issuer: Issuer, feed: HandFeed) -> None:
    """Its own deadline counts; then the policy decides."""
    token = issuer.jwt()
    feed.lets_go.clear()
    assert ask(make(http_timeout=0.2), token) == "alice"
    assert ask(make(http_timeout=0.2, on_stale_feed="refuse"), token) == "revocation_stale"


def test_a_reader_that_lost_its_place(
    ask: Ask, make: Make, issuer: Issuer, feed: HandFeed, clock: FakeClock
) -> None:
    """Takes a snapshot, and finds what it missed."""
    server, token = make(), issuer.jwt()
    assert ask(server, token) == "alice"
    feed.marks.append(of(issuer, Kind.SUBJECT, "alice", clock))
    feed.is_lost = True
    eventually(lambda: ask(server, token) == "revoked")
    assert feed.snapshots == 2


def test_everything_is_read_anew_each_minute(
    ask: Ask, make: Make, issuer: Issuer, feed: HandFeed, clock: FakeClock
) -> None:
    """Whatever was missed without anybody noticing."""
    server, token = make(), issuer.jwt()
    ask(server, token)
    feed.marks.append(of(issuer, Kind.SUBJECT, "alice", clock))
    clock.advance(73)
    eventually(lambda: feed.snapshots == 2)
    eventually(lambda: ask(server, issuer.jwt(iat=int(clock() - 73))) == "revoked")


def test_the_same_again_is_no_news(
    ask: Ask, make: Make, issuer: Issuer, feed: HandFeed, clock: FakeClock
) -> None:
    """A token that was cleared stays so through a snapshot, and nothing is told twice."""
    feed.tell(of(issuer, Kind.SUBJECT, "mallory", clock))
    server = make()
    ask(server, issuer.jwt())
    known = server.revocations.state
    clock.advance(73)
    eventually(lambda: feed.snapshots == 2)
    eventually(lambda: server.feed.is_live)
    assert server.revocations.state is known
    assert server.events.counts["revocation_applied"] == 1


def test_what_a_feed_forgets_stays_revoked(
    ask: Ask, make: Make, issuer: Issuer, feed: HandFeed, clock: FakeClock
) -> None:
    """Until its time."""
    feed.tell(of(issuer, Kind.SUBJECT, "alice", clock))
    server = make()
    token = issuer.jwt(exp=int(clock()) + 9000)
    assert ask(server, token) == "revoked"
    feed.marks.clear()
    feed.is_lost = True
    eventually(lambda: feed.snapshots == 2)
    assert ask(server, token) == "revoked"
    clock.advance(3601)
    eventually(lambda: ask(server, token) == "alice")


# -- silence -------------------------------------------------------------------------------


def fall_silent(server: ResourceServer, feed: HandFeed, clock: FakeClock) -> None:
    """For more than five seconds."""
    feed.fails = True
    eventually(lambda: server.health().parts["revocation"].get("failing") is not None)
    clock.advance(5.1)
    eventually(lambda: server.events.counts["revocation_feed_stale"] == 1)


def told_of_the_feed(caplog: pytest.LogCaptureFixture) -> list[str]:
    """The names of what is in the log of it."""
    return [name for name in map(event_of, caplog.records) if "feed_" in name]


def test_serve(
    *,
    ask: Ask,
    make: Make,
    issuer: Issuer,
    feed: HandFeed,
    clock: FakeClock,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Requests notice nothing, not even the short way; health, log and a counter do."""
    server, token = make(), issuer.jwt()
    ask(server, token)
    with caplog.at_level(logging.INFO):
        fall_silent(server, feed, clock)
        assert ask(server, token) == ask(server, issuer.opaque()) == "alice"
        assert remembered(server, token) is not None
        health = server.health()
        assert (health.status, health.ready) == ("degraded", True)
        assert health.parts["revocation"]["age_seconds"] >= 5
        assert health.parts["revocation"]["failing"] == "ConnectionError"
        feed.fails = False
        eventually(lambda: server.health().status == "ok")
        # The reader's thread tells of it just after it counts.
        eventually(lambda: len(told_of_the_feed(caplog)) > 1)
    assert told_of_the_feed(caplog) == ["revocation_feed_stale", "revocation_feed_recovered"]
    assert "c4n4ry" not in caplog.text


def test_refuse(ask: Ask, make: Make, issuer: Issuer, feed: HandFeed, clock: FakeClock) -> None:
    """503, also for what is remembered, and not ready; all is well once it speaks again."""
    server, tokens = make(on_stale_feed="refuse"), [issuer.jwt(), issuer.opaque()]
    assert server.health().parts["revocation"]["status"] == "failing"
    for token in tokens:
        assert ask(server, token) == "alice"
    assert server.health().ready
    fall_silent(server, feed, clock)
    for token in tokens:
        assert ask(server, token) == "revocation_stale"
    assert ask(server, "junk-of-nobody") == "revocation_stale"
    health = server.health()
    assert (health.status, health.ready) == ("failing", False)
    feed.fails = False
    eventually(lambda: server.health().ready)
    for token in tokens:
        assert ask(server, token) == "alice"


def test_refuse_does_not_depend_on_the_reader(
    ask: Ask, make: Make, issuer: Issuer, feed: HandFeed, clock: FakeClock
) -> None:
    """It may itself be stuck: whoever goes the whole way looks at the clock."""
    server, token = make(on_stale_feed="refuse"), issuer.opaque()
    assert ask(server, token) == "alice"
    feed.lets_go.clear()
    feed.is_lost = True
    eventually(lambda: feed.waiting)
    clock.advance(5.1)
    assert ask(server, "never-seen") == "revocation_stale"
    assert ask(server, token) == "revocation_stale"


def test_introspect(ask: Ask, make: Make, issuer: Issuer, feed: HandFeed, clock: FakeClock) -> None:
    """What the server can be asked about, it is asked about every five seconds."""
    server = make(on_stale_feed="introspect", introspection_ttl=300)
    tokens = [issuer.jwt(), issuer.opaque()]
    for token in tokens:
        assert ask(server, token) == "alice"
    asked = issuer.requests["introspection"]
    fall_silent(server, feed, clock)
    for _ in range(3):
        for token in tokens:
            assert ask(server, token) == "alice"
    assert issuer.requests["introspection"] == asked + 2
    clock.advance(4.9)
    for token in tokens:
        ask(server, token)
    assert issuer.requests["introspection"] == asked + 2
    for token in tokens:
        issuer.revoke(token)
    clock.advance(0.2)
    for token in tokens:
        assert ask(server, token) == "inactive"
        assert ask(server, token) == "inactive"
    assert issuer.requests["introspection"] == asked + 4
    assert server.health().ready


def test_introspect_with_nobody_to_be_asked(
    ask: Ask, make: Make, issuer: Issuer, feed: HandFeed, clock: FakeClock
) -> None:
    """The feed is silent and so is the server: we cannot know."""
    server, token = make(on_stale_feed="introspect"), issuer.jwt()
    assert ask(server, token) == "alice"
    fall_silent(server, feed, clock)
    issuer.fail("introspection", status=503)
    assert ask(server, token) == "introspection_unavailable"
    feed.fails = False
    eventually(lambda: server.feed.is_live)
    assert ask(server, token) == "alice"


def test_introspect_of_what_has_no_endpoint(
    ask: Ask, issuer: Issuer, feed: HandFeed, clock: FakeClock
) -> None:
    """Such tokens are served, as under ``serve``."""
    with_endpoint = issuer.settings()
    without = {"issuer": "https://other.test", "audience": "api", "hmac_secret": "s" * 32}
    server = ResourceServer(
        Settings(issuers=[with_endpoint, without], on_stale_feed="introspect"),
        clock=clock,
        transport=issuer.transport(),
        feed=feed,
    )
    import jwt

    claims = {"iss": "https://other.test", "aud": "api", "exp": clock() + 900, "sub": "carol"}
    token = jwt.encode(claims, "s" * 32, "HS256")
    try:
        assert ask(server, token) == "carol"
        fall_silent(server, feed, clock)
        assert ask(server, token) == "carol"
    finally:
        server.close()


@pytest.mark.parametrize(
    ("policy", "said"),
    [("serve", "alice"), ("introspect", "alice"), ("refuse", "revocation_stale")],
)
def test_never_heard_of(
    *,
    ask: Ask,
    make: Make,
    issuer: Issuer,
    feed: HandFeed,
    clock: FakeClock,
    policy: str,
    said: str,
) -> None:
    """A feed that was silent from the start is one after five seconds, too."""
    feed.fails = True
    server = make(on_stale_feed=policy, http_timeout=0.2)
    ask(server, issuer.jwt())
    clock.advance(5.1)
    assert ask(server, issuer.jwt()) == said
    assert server.health().status == ("failing" if policy == "refuse" else "degraded")
    assert server.events.counts["revocation_feed_stale"] == 1


def test_where_threads_do_not_run(
    ask: Ask, make: Make, issuer: Issuer, clock: FakeClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """uWSGI without threads: nothing is read, and nobody is told that all is well."""
    monkeypatch.setattr("bearer_middleware.revocation.feed.threads_do_not_run", lambda: True)
    serving, refusing = make(), make(on_stale_feed="refuse")
    assert ask(serving, issuer.jwt()) == "alice"
    assert ask(refusing, issuer.jwt()) == "revocation_stale"
    clock.advance(5.1)
    assert ask(serving, issuer.jwt()) == "alice"
    assert serving.health().parts["revocation"]["failing"] == "no thread runs here"
    assert serving.health().status == "degraded"


def test_more_than_can_be_held(
    *,
    ask: Ask,
    make: Make,
    issuer: Issuer,
    feed: HandFeed,
    clock: FakeClock,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """To drop one would let its token in again: nobody is let in, and that is said aloud."""
    monkeypatch.setattr(state, "MOST_MARKS", 3)
    monkeypatch.setattr(state, "_TIDY_AT", 1)
    monkeypatch.setattr("bearer_middleware.revocation.feed._OVERFLOW_SECONDS", 0.01)
    server, token = make(), issuer.jwt()
    server.revocations._tidy_at = 1
    assert ask(server, token) == "alice"
    for number in range(4):
        feed.tell(of(issuer, Kind.TOKEN_ID, str(number), clock))
    eventually(lambda: ask(server, token) == "revocation_stale")
    health = server.health()
    assert (health.status, health.ready) == ("failing", False)
    assert server.events.counts["revocation_overflow"] == 1
    del feed.marks[3:]
    eventually(lambda: ask(server, token) == "alice")


# -- its life ------------------------------------------------------------------------------


def test_it_ends_with_the_server_and_begins_again(
    ask: Ask, make: Make, issuer: Issuer, feed: HandFeed, clock: FakeClock
) -> None:
    """A closed server that is used once more reads anew, and lets nobody in before."""
    server, token, before = make(), issuer.jwt(), readers()
    assert ask(server, token) == "alice"
    (reader,) = [each for each in readers() if each not in before]
    server.close()
    assert server.revocations.is_shut
    eventually(lambda: not reader.is_alive())
    feed.tell(of(issuer, Kind.SUBJECT, "alice", clock))
    assert ask(server, token) == "revoked"


def test_the_end_of_lifespan_ends_it(make: Make, issuer: Issuer, feed: HandFeed) -> None:
    """With the connections of the loop."""
    import asyncio

    server, before = make(), readers()
    app = BearerMiddleware(lambda scope, receive, send: send({"type": scope["end"]}), server=server)

    async def main() -> threading.Thread:
        from bearer_middleware.flow.drivers import arun

        await arun(server.authenticate([b"Bearer " + issuer.jwt().encode()]), server.transport)
        (reader,) = [each for each in readers() if each not in before]

        async def nothing(message: Any = None) -> None:
            return None

        scope = {"type": "lifespan", "end": "lifespan.shutdown.complete"}
        await app(scope, nothing, nothing)
        return reader

    reader = asyncio.run(main())
    eventually(lambda: not reader.is_alive())


def test_a_reader_that_is_late_to_hear_of_its_end(
    make: Make, issuer: Issuer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its thread came to nothing before: it does not take the place of the next one."""
    server, token = make(on_stale_feed="refuse"), issuer.jwt()
    begin, begun, goes_on = server.feed._companion._begin, [], threading.Event()

    def late(ending: Any) -> Any:
        begun.append(threading.current_thread())
        if len(begun) == 1:
            goes_on.wait(20)
        return begin(ending)

    monkeypatch.setattr(server.feed._companion, "_begin", late)
    server.feed.start()
    eventually(lambda: len(begun) == 1)
    server.feed.close()
    assert asked(server, token) == "alice"
    goes_on.set()
    begun[0].join(20)
    assert server.feed.is_live
    assert asked(server, token) == "alice"


def test_a_request_while_it_is_closed(
    make: Make, issuer: Issuer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It begins the next reader, and that one is believed."""
    server, token = make(on_stale_feed="refuse"), issuer.jwt()
    assert asked(server, token) == "alice"
    stop = server.feed._companion.stop

    def interrupted() -> None:
        stop()
        asked(server, token)

    with monkeypatch.context() as patched:
        patched.setattr(server.feed._companion, "stop", interrupted)
        server.feed.close()
    assert server.feed.is_live
    assert asked(server, token) == "alice"


def test_readiness_begins_it(make: Make) -> None:
    """A worker that gets no requests yet becomes ready nevertheless."""
    server = make(on_stale_feed="refuse")
    assert server.health().parts["revocation"]["status"] == "failing"
    run(server.wake(), server.transport)
    eventually(lambda: server.health().parts["revocation"]["status"] == "ok")


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here")
@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")
def test_a_forked_child(make: Make, issuer: Issuer, feed: HandFeed, clock: FakeClock) -> None:
    """After a warm-up: it has no reader, shuts the short way, and begins its own."""
    server, token = make(), issuer.jwt()
    assert asked(server, token) == "alice"
    assert remembered(server, token) is not None
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            feed.marks.append(of(issuer, Kind.SUBJECT, "alice", clock))
            was_shut = server.revocations.is_shut and not server.feed._companion.runs
            code = 0 if was_shut and asked(server, token) == "revoked" else 2
        finally:
            os._exit(code)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    assert asked(server, token) == "alice"


def test_locks_of_the_parent_do_not_matter(make: Make, in_child: Any) -> None:
    """Another thread may hold them at the moment of the fork."""
    server, held, forked = make(), threading.Event(), threading.Event()

    def hold() -> None:
        with server.revocations._lock, server.feed._gate._lock:
            held.set()
            forked.wait(60)

    thread = threading.Thread(target=hold)
    thread.start()
    try:
        assert held.wait(20)
        assert in_child(lambda: server.revocations.is_shut) == 0
    finally:
        forked.set()
        thread.join()


def test_a_listener_in_both_worlds(
    make: Make, issuer: Issuer, feed: HandFeed, clock: FakeClock
) -> None:
    """A plain one hears what happens on the thread of the reader; an async one cannot."""
    heard: list[str] = []
    feed.tell(of(issuer, Kind.SUBJECT, "mallory", clock))
    server = make(listener=lambda event: heard.append(event.name))
    run(server.authenticate([b"Bearer " + issuer.jwt().encode()]), server.transport)
    eventually(lambda: "revocation_applied" in heard)
    assert heard.count("revocation_bound") == 1

    async def later(event: Any) -> None:
        heard.append("async")

    server = make(listener=later)
    run(server.wake(), server.transport)
    eventually(lambda: server.events.counts["revocation_applied"] == 1)
    assert "async" not in heard


# -- writing -------------------------------------------------------------------------------


def test_a_feed_that_can_only_be_read(make: Make) -> None:
    """Nothing is revoked in one process alone."""
    server = make()
    with pytest.raises(RevocationError, match="only be read"):
        server.revoke(subject="alice")
    assert len(server.revocations) == 0


def test_one_that_can_be_written(ask: Ask, make: Make, issuer: Issuer) -> None:
    """First there, then here, and at once; also where there are signs of several workers."""
    feed = WritableHandFeed()
    server, other, token = make(feed=feed), make(feed=HandFeed()), issuer.jwt()
    server.alone.told = True
    for each in (server, other):
        assert ask(each, token) == "alice"
    server.revoke(token=token)
    assert ask(server, token) == "revoked"
    assert len(feed.marks) == 1
    other.feed.source.tell(*feed.marks)
    eventually(lambda: ask(other, token) == "revoked")


def test_what_is_not_acknowledged_is_not_applied(ask: Ask, make: Make, issuer: Issuer) -> None:
    """It must not be taken for done, and its text may be of a library."""
    feed = WritableHandFeed()
    server, token = make(feed=feed), issuer.jwt()
    ask(server, token)
    feed.fails = True
    with pytest.raises(RevocationError, match="did not acknowledge it: ConnectionError") as caught:
        server.revoke(token=token)
    assert "c4n4ry" not in str(caught.value)
    assert len(server.revocations) == 0


def test_what_the_feed_lost_is_written_again(
    ask: Ask, make: Make, issuer: Issuer, clock: FakeClock
) -> None:
    """By whoever still knows it, so that others learn of it, too."""
    feed = WritableHandFeed()
    server = make(feed=feed)
    ask(server, issuer.jwt())
    server.revoke(subject="mallory")
    server.revoke(token_id="j")
    (lost, kept) = feed.marks
    feed.marks[:] = [kept]
    feed.is_lost = True
    eventually(lambda: len(feed.marks) == 2)
    assert feed.marks[1].digest == lost.digest
    assert feed.marks[1].kind is Kind.SUBJECT
    assert feed.marks[1].before == lost.before
    assert server.events.counts["revocation_republished"] == 1


def test_while_much_waits_to_be_written_again(
    ask: Ask,
    make: Make,
    issuer: Issuer,
    clock: FakeClock,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """What others revoke is heard of, and what is new in the snapshot for our turn is in force."""

    class Meanwhile(WritableHandFeed):
        def snapshot(self) -> list[Mark]:
            if self.snapshots == 2:  # the one for our turn; its readers go on behind it
                self.marks.append(of(issuer, Kind.TOKEN_ID, "late", clock))
            return super().snapshot()

    def has_repaired() -> bool:
        clock.advance(0.1)
        return server.events.counts["revocation_republished"] == 1

    monkeypatch.setattr(repair, "_MUCH", 1)
    feed = Meanwhile()
    server = make(feed=feed)
    early, late = issuer.jwt(jti="early"), issuer.jwt(jti="late")
    assert ask(server, early) == ask(server, late) == "alice"
    for subject in ("mallory", "trudy"):
        server.revoke(subject=subject)
    feed.marks.clear()
    feed.is_lost = True
    eventually(lambda: feed.snapshots == 2)
    feed.tell(of(issuer, Kind.TOKEN_ID, "early", clock))
    eventually(lambda: ask(server, early) == "revoked")
    eventually(has_repaired)
    assert ask(server, late) == "revoked"
    assert len(feed.marks) == 4


# -- settings ------------------------------------------------------------------------------


def test_one_feed_is_enough(make: Make) -> None:
    """Which of the two would count?"""
    with pytest.raises(ConfigError, match="BEARER_REVOCATION_URL"):
        make(revocation_url="/run/revoked")


def test_the_bound_is_published(
    ask: Ask, make: Make, issuer: Issuer, caplog: pytest.LogCaptureFixture
) -> None:
    """REV-1: in the log with the first request, once, and in health."""
    server = make(on_stale_feed="refuse")
    with caplog.at_level(logging.INFO):
        for _ in range(2):
            ask(server, issuer.opaque())
    (record,) = [one for one in caplog.records if event_of(one) == "revocation_bound"]
    assert "with it silent: a JWT 10 s" in record.getMessage()
    bound = server.health().parts["revocation"]["bound_seconds"]
    assert bound["jwt_live"] == 2.0
    assert bound["jwt_untold"] == "its own life"


class TestLife:
    """``BEARER_REVOCATION_KEEP``: no token outlives the memory of its revocation."""

    @pytest.mark.parametrize("unusual", [{}, {"nbf": 1}])
    @pytest.mark.parametrize("kind", ["jwt", "opaque"])
    def test_of_a_token(
        self, *, ask: Ask, make: Make, issuer: Issuer, clock: FakeClock, kind: str, unusual: Any
    ) -> None:
        """From iat to exp, or from now where it does not say when it was issued."""
        server, mint, now = make(revocation_keep="1h"), getattr(issuer, kind), int(clock())
        assert ask(server, mint(iat=now, exp=now + 3600, **unusual)) == "alice"
        assert ask(server, mint(iat=now - 60, exp=now + 3600, **unusual)) == "lives_too_long"
        assert ask(server, mint(iat=None, exp=now + 3500, **unusual)) == "alice"
        assert ask(server, mint(iat=None, exp=now + 3700, **unusual)) == "lives_too_long"

    def test_without_end(self, ask: Ask, make: Make, issuer: Issuer, clock: FakeClock) -> None:
        """Such a token is good for as long as its revocation could not be forgotten."""
        server, now = make(revocation_keep="1h"), int(clock())
        assert ask(server, issuer.opaque(iat=now - 3500, exp=None)) == "alice"
        assert ask(server, issuer.opaque(iat=now - 3700, exp=None)) == "lives_too_long"
        assert ask(server, issuer.opaque(iat=None, exp=None)) == "lives_too_long"

    @pytest.mark.parametrize("kind", ["jwt", "opaque"])
    def test_to_the_last_second(
        self, *, make: Make, ask: Ask, issuer: Issuer, clock: FakeClock, kind: str
    ) -> None:
        """A leeway before it was issued and after it ends it is good, unless it is revoked."""
        server, now = make(revocation_keep="1h", feed=WritableHandFeed()), int(clock())
        token = getattr(issuer, kind)(iat=now + 25, exp=now + 25 + 3600)
        assert ask(server, token) == "alice"
        server.revoke(token=token)
        for _ in range(10):
            clock.advance(365)
            assert ask(server, token) != "alice"

    def test_without_a_feed(self, ask: Ask, make: Make, issuer: Issuer, clock: FakeClock) -> None:
        """Nobody asked for it."""
        server = make(feed=None, revocation_keep="1h")
        assert ask(server, issuer.jwt(exp=int(clock()) + 9000)) == "alice"
