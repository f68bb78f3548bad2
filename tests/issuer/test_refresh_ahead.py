"""Answers are renewed before they end, live no longer for it, and are marked where stale."""

from __future__ import annotations

import json
import logging
import pickle
import threading
from collections.abc import Callable
from hashlib import sha256
from typing import Any

import pytest

from bearer_middleware.errors import InvalidToken, Reason, Unavailable
from bearer_middleware.flow.drivers import run
from bearer_middleware.flow.effects import Background
from bearer_middleware.memory.question import Question
from bearer_middleware.testing import Issuer

Make = Callable[..., Any]
KINDS = ["opaque", "introspect", "both", "both, verified each time"]


@pytest.fixture(params=KINDS)
def made(request: pytest.FixtureRequest, make: Make, issuer: Issuer) -> Callable[..., Any]:
    """A world and a token it knows, for every way of asking about tokens."""

    def build(**settings: Any) -> tuple[Any, str]:
        if request.param != "opaque":
            settings["jwt_validation"] = request.param.partition(",")[0]
        if "," in request.param:
            settings["jwt_cache_ttl"] = 0
        world = make(**settings)
        token = issuer.opaque() if request.param == "opaque" else issuer.jwt()
        assert world.ask(token) == 200
        assert (world.asked("introspection"), world.background()) == (1, 0)
        return world, token

    return build


def short_way(world: Any, token: str) -> bool:
    """Is nobody asked, not even a flow?"""
    return world.server.identify(b"Bearer " + token.encode()) is not None


# -- when ----------------------------------------------------------------------------------


def test_a_young_answer_is_left_alone(made: Any) -> None:
    """Before three quarters of its life nothing is due."""
    world, token = made()
    for _ in range(4):
        world.clock.advance(5.6)
        assert world.ask(token) == 200
    assert world.later == []
    assert world.asked("introspection") == 1


def test_an_answer_is_renewed_while_it_serves(made: Any) -> None:
    """At four fifths of its life: served at once, asked apart, and once for two hundred callers."""
    world, token = made()
    world.clock.advance(24)
    assert [world.ask(token).status for _ in range(200)] == [200] * 200
    assert world.asked("introspection") == 1
    assert world.background() == 1
    assert world.asked("introspection") == 2
    assert world.server.events.counts["answer_refreshed"] == 1
    world.clock.advance(22)  # of the new answer: the old one is over
    assert world.ask(token) == 200
    assert (world.asked("introspection"), world.later) == (2, [])


def test_a_hot_token_never_waits(made: Any) -> None:
    """Asked for every second over ten minutes: only the first caller had to wait."""
    world, token = made()
    for _ in range(600):
        world.clock.advance(1)
        before = world.asked("introspection")
        assert world.ask(token) == 200
        assert world.asked("introspection") == before
        world.background()
    assert 600 / 30 <= world.asked("introspection") <= 1 + 600 / 22


def test_the_short_way_is_short_again_at_once(make: Make, issuer: Issuer) -> None:
    """While the renewal is under way, and after it."""
    world, token = make(), issuer.opaque()
    world.ask(token)
    world.clock.advance(24)
    assert not short_way(world, token)
    world.ask(token)
    assert short_way(world, token)
    world.background()
    assert short_way(world, token)


def test_an_idle_token_is_not_renewed(world: Any, issuer: Issuer) -> None:
    """Nobody asks about what nobody shows."""
    token = issuer.opaque()
    world.ask(token)
    world.clock.advance(31)
    assert world.ask(token) == 200
    assert (world.asked("introspection"), world.later) == (2, [])


def test_nothing_is_renewed_that_is_not_kept(make: Make, issuer: Issuer) -> None:
    """``BEARER_INTROSPECTION_TTL=0``: asked every time, and once."""
    world, token = make(introspection_ttl=0), issuer.opaque()
    for number in range(1, 4):
        assert world.ask(token) == 200
        assert (world.asked("introspection"), world.later) == (number, [])


def test_an_answer_that_ends_with_its_token_is_not_renewed(made: Any, issuer: Issuer) -> None:
    """Asking again would not make it live longer, and would be done ever more often."""
    world, _ = made()
    expires = world.clock() + 20
    opaque = world.settings.issuers[0].jwt_validation == "local"
    token = (issuer.opaque if opaque else issuer.jwt)(exp=expires)
    world.ask(token)
    asked = world.asked("introspection")
    for _ in range(19):
        world.clock.advance(1)
        assert world.ask(token) == 200
    assert (world.asked("introspection"), world.later) == (asked, [])


def test_a_verified_jwt_that_is_forgotten_earlier(make: Make, issuer: Issuer) -> None:
    """``both``: the answer lives no longer than what it confirms, and is due accordingly."""
    world, token = make(jwt_validation="both", jwt_cache_ttl=10), issuer.jwt()
    world.ask(token)
    world.clock.advance(7.4)
    world.ask(token)
    assert world.later == []
    world.clock.advance(0.6)
    world.ask(token)
    assert len(world.later) == 1
    world.later.clear()
    world.clock.advance(2.1)
    world.ask(token)
    assert world.asked("introspection") == 2


def test_also_by_clocks_that_go_on(issuer: Issuer, build: Any, clock: Any) -> None:
    """Wall and monotonic time are never read in the same moment."""

    def ticking() -> float:
        clock.advance(1e-5)
        return float(clock())

    world = build(issuer, clock=ticking, **issuer.settings())
    tokens = [issuer.opaque(exp=clock() + 20) for _ in range(20)]
    for token in tokens:
        world.ask(token)
    clock.advance(19)
    assert {world.ask(token).status for token in tokens} == {200}
    assert (world.asked("introspection"), world.later) == (20, [])


def test_callers_of_several_processes_do_not_ask_together(make: Make, issuer: Issuer) -> None:
    """Between three quarters and four fifths, by chance."""
    world = make(introspection_ttl=300)
    tokens = [issuer.opaque() for _ in range(50)]
    for token in tokens:
        world.ask(token)
    world.clock.advance(224)
    assert all(short_way(world, token) for token in tokens)
    world.clock.advance(8)
    assert 0 < sum(short_way(world, token) for token in tokens) < 50
    world.clock.advance(8)
    assert not any(short_way(world, token) for token in tokens)


# -- what comes of it ----------------------------------------------------------------------


def test_a_token_that_is_revoked_dies_with_its_renewal(made: Any, issuer: Issuer) -> None:
    """The server says ``active: false``: the very next request is refused."""
    world, token = made()
    issuer.revoke(token)
    world.clock.advance(24)
    assert world.ask(token) == 200
    world.background()
    for _ in range(3):
        assert world.ask(token).reason is Reason.INACTIVE
    assert world.asked("introspection") == 2


def test_also_where_refusals_are_not_remembered(made: Any, issuer: Issuer) -> None:
    """Then the server is asked, and says it again."""
    world, token = made(negative_ttl=0)
    issuer.revoke(token)
    world.clock.advance(24)
    world.ask(token)
    world.background()
    assert world.ask(token).reason is Reason.INACTIVE
    assert world.asked("introspection") == 3


def test_an_answer_our_rules_refuse_ends_the_old_one(made: Any, issuer: Issuer) -> None:
    """A renewed answer is judged as every other."""
    world, token = made()
    issuer.fail("introspection", body=json.dumps({"active": True, "aud": "other"}).encode())
    world.clock.advance(24)
    assert world.ask(token) == 200
    world.background()
    assert world.ask(token).reason is Reason.WRONG_AUDIENCE


@pytest.mark.parametrize("fault", [{"status": 500}, {"drop": True}, {"body": b"<html>"}])
def test_a_renewal_that_fails_changes_nothing(
    made: Any, issuer: Issuer, fault: dict[str, Any]
) -> None:
    """The old answer serves to its end, and not a moment longer."""
    world, token = made()
    issuer.fail("introspection", **fault)
    world.clock.advance(24)
    assert world.ask(token) == 200
    assert world.background() == 1
    asked = world.asked("introspection")
    world.clock.advance(5.9)
    assert [world.ask(token).status for _ in range(5)] == [200] * 5
    assert (world.asked("introspection"), world.later) == (asked, [])
    world.clock.advance(0.2)
    assert world.ask(token) == 503


def test_a_renewal_that_got_lost_changes_nothing(made: Any, issuer: Issuer) -> None:
    """Its loop died, say: the next caller after the end asks."""
    world, token = made()
    world.clock.advance(24)
    world.ask(token)
    world.later.clear()
    issuer.revoke(token)
    world.clock.advance(5.9)
    assert world.ask(token) == 200
    world.clock.advance(0.2)
    assert world.ask(token) == 401


def test_what_is_revoked_lives_no_longer_than_the_ttl(made: Any, issuer: Issuer) -> None:
    """Whenever it is revoked, and whether renewals succeed, fail or get lost."""
    world, token = made(stale_if_error=0)
    for second in range(27):
        world.clock.advance(1)
        world.ask(token)
        if second % 3:
            world.background()
    issuer.revoke(token)
    revoked = world.clock()
    issuer.fail("introspection", status=503)
    while world.ask(token) == 200:
        world.background()
        world.clock.advance(0.5)
    assert world.clock() - revoked <= 30


def test_the_life_of_an_answer_counts_from_the_question(made: Any, issuer: Issuer) -> None:
    """A server that takes its time does not lengthen what it knew when it began."""
    world, token = made()
    world.clock.advance(24)
    world.ask(token)
    ask = world.server.trusted.servers[0].introspection.ask

    def slow(*question: Any) -> Any:
        answer = yield from ask(*question)
        world.clock.advance(2)
        return answer

    world.server.trusted.servers[0].introspection.ask = slow
    world.background()
    issuer.fail("introspection", status=503)
    world.clock.advance(27.9)
    assert world.ask(token) == 200
    world.clock.advance(0.2)
    assert world.ask(token) == 503


def test_a_caller_after_the_end_joins_the_renewal(world: Any, issuer: Issuer) -> None:
    """It is the same question, asked once."""
    token = issuer.opaque()
    world.ask(token)
    world.clock.advance(29)
    world.ask(token)
    renewal = world.apart(world.later.pop()())
    asking = next(renewal)
    world.clock.advance(2)
    caller = world.apart(world.server.authenticate([b"Bearer " + token.encode()]))
    waiting = next(caller)
    assert type(waiting).__name__ == "Wait"
    with pytest.raises(StopIteration):
        renewal.send(world.server.transport.send(asking))
    with pytest.raises(StopIteration) as done:
        caller.send(True)
    assert done.value.value.subject == "alice"
    assert world.asked("introspection") == 2


def test_an_old_entry_does_not_come_back(world: Any, issuer: Issuer) -> None:
    """A caller who found it due, and was overtaken by a renewal that ended it."""
    token = issuer.opaque()
    world.ask(token)
    world.clock.advance(24)
    slow = world.server._answers._ahead
    renew, overtaken = slow.renew, []

    def late(entry: Any, *others: Any) -> Any:
        if not overtaken:
            overtaken.append(entry)
            issuer.revoke(token)
            world.ask(token)
            world.background()
        yield from renew(entry, *others)

    slow.renew = late
    assert world.ask(token) == 200  # it had found its answer before
    assert world.later == []
    assert world.ask(token) == 401


def test_an_answer_that_comes_far_too_late_is_none(world: Any, issuer: Issuer) -> None:
    """The flight was given up, another caller asked since, and heard that the token is revoked."""
    token = issuer.opaque()
    value = [b"Bearer " + token.encode()]
    slow = world.apart(world.server.authenticate(value))
    asking = next(slow)
    while not asking.url.endswith("/introspect"):
        asking = slow.send(world.server.transport.send(asking))
    answer = world.server.transport.send(asking)
    issuer.revoke(token)
    world.clock.advance(4.1)
    assert world.ask(token) == 401
    with pytest.raises(Unavailable):
        slow.send(answer)
    assert world.ask(token) == 401


# -- how many ------------------------------------------------------------------------------


def filled(world: Any, issuer: Issuer, count: int) -> list[str]:
    """So many tokens, known and all due."""
    tokens = [issuer.opaque() for _ in range(count)]
    assert all(world.ask(token) == 200 for token in tokens)
    world.clock.advance(24)
    return tokens


def test_few_are_under_way_at_once(world: Any, issuer: Issuer) -> None:
    """A thousand tokens that are due together: ten are renewed, nobody waits, none is queued."""
    tokens = filled(world, issuer, 1_000)
    assert {world.ask(token).status for token in tokens} == {200}
    assert len(world.later) == 10
    assert world.server.events.counts["refresh_shed"] == 990
    assert all(short_way(world, token) for token in tokens)
    assert world.asked("introspection") == 1_000
    world.clock.advance(6.1)
    assert world.ask(tokens[-1]) == 200  # asked anew at its end
    assert world.asked("introspection") == 1_001


def test_what_was_shed_may_come_later(world: Any, issuer: Issuer) -> None:
    """Where there is room again before its end."""
    tokens = filled(world, issuer, 30)
    for _ in range(60):
        assert {world.ask(token).status for token in tokens} == {200}
        world.background()
        world.clock.advance(0.09)
    assert world.server.events.counts["answer_refreshed"] == 30
    assert world.asked("introspection") == 60


def test_places_of_lost_renewals_are_free_again(world: Any, issuer: Issuer) -> None:
    """After the time an exchange may take, and a little more."""
    for token in filled(world, issuer, 20):
        world.ask(token)
    assert len(world.later) == 10
    world.later.clear()
    world.clock.advance(4.1)
    for token in filled(world, issuer, 20):
        world.ask(token)
    assert len(world.later) == 10
    assert len(world.server._answers._ahead._under_way[0]) == 10


def test_a_server_that_fails_is_left_alone(world: Any, issuer: Issuer) -> None:
    """After a failure the next renewals are shed: callers who must ask come first."""
    tokens = filled(world, issuer, 40)
    issuer.fail("introspection", status=503)
    for token in tokens[:20]:
        assert world.ask(token) == 200
    assert world.background() == 10
    for token in tokens[20:]:
        assert world.ask(token) == 200
    assert world.later == []
    issuer.recover()
    world.clock.advance(1.1)  # the failures of one rush are one failure
    for token in tokens[20:]:
        assert world.ask(token) == 200
    world.clock.advance(2.6)  # all of them are due again, half-way to their end
    for token in tokens[20:]:
        assert world.ask(token) == 200
    assert world.background() == 10


def test_each_server_has_its_own_bound(build: Any, clock: Any) -> None:
    """One that is slow does not take the places of another."""
    issuers = [Issuer(f"https://{name}.test") for name in ("one", "two")]
    tables = [
        {**issuer.settings(), "token_prefix": prefix}
        for issuer, prefix in zip(issuers, ("one_", "two_"), strict=True)
    ]

    class Both:
        def handle_request(self, request: Any) -> Any:
            chosen = issuers[request.url.host == "two.test"]
            return chosen.transport().handle_request(request)

        def close(self) -> None: ...

    class World(build):  # type: ignore[misc]
        def transport(self) -> Any:
            return Both()

    world = World(*issuers, clock=clock, issuers=tables)
    tokens = [
        issuer.opaque(token=f"{prefix}_{number}")
        for issuer, prefix in zip(issuers, ("one", "two"), strict=True)
        for number in range(15)
    ]
    assert all(world.ask(token) == 200 for token in tokens)
    clock.advance(24)
    assert all(world.ask(token) == 200 for token in tokens)
    assert len(world.later) == 20


def test_no_thread_to_be_had_refuses_nobody(world: Any, issuer: Issuer) -> None:
    """The driver cannot start the work: the caller is served, and the place is free."""
    token = issuer.opaque()
    world.ask(token)
    world.clock.advance(24)
    flow = world.server.authenticate([b"Bearer " + token.encode()])
    assert isinstance(next(flow), Background)
    with pytest.raises(StopIteration) as done:
        flow.throw(RuntimeError("can't start new thread"))
    assert done.value.value.subject == "alice"
    assert world.server._answers._ahead._under_way == {0: {}}
    assert short_way(world, token)


@pytest.mark.parametrize("failure", [GeneratorExit, KeyboardInterrupt])
def test_a_cancelled_renewal_leaves_nothing(
    world: Any, issuer: Issuer, failure: type[BaseException]
) -> None:
    """Neither a flight in the air nor a place that is taken; the old answer serves on."""
    token = issuer.opaque()
    world.ask(token)
    world.clock.advance(24)
    world.ask(token)
    renewal = world.later.pop()()
    next(renewal)
    with pytest.raises(failure):
        renewal.throw(failure)
    assert world.server._answers._flights._flights == {}
    assert world.server._answers._ahead._under_way == {0: {}}
    assert short_way(world, token)


def test_a_renewal_the_collector_closes_waits_for_no_lock(world: Any, issuer: Issuer) -> None:
    """It may do so in the very thread that holds it."""
    for token in filled(world, issuer, 3):
        world.ask(token)
    renewals = [start() for start in world.later]
    for renewal in renewals:
        next(renewal)
    ahead = world.server._answers._ahead

    def collect() -> None:
        with ahead._lock:
            for renewal in renewals:
                renewal.close()

    thread = threading.Thread(target=collect, daemon=True)
    thread.start()
    thread.join(10)
    assert not thread.is_alive()
    assert ahead._under_way == {0: {}}


def test_a_child_counts_its_own(world: Any, issuer: Issuer) -> None:
    """Renewals that were under way at a fork are not under way in the child."""
    for token in filled(world, issuer, 10):
        world.ask(token)
    assert len(world.server._answers._ahead._under_way[0]) == 10
    world.server._answers._ahead.after_fork()
    for token in filled(world, issuer, 10):
        world.ask(token)
    assert len(world.later) == 20


# -- stale answers -------------------------------------------------------------------------


def test_stale_is_marked_and_counted_each_time(
    made: Any, issuer: Issuer, caplog: pytest.LogCaptureFixture
) -> None:
    """Also while the failure is remembered; one line a second says so."""
    world, token = made(stale_if_error=60)
    identity = world.ask(token).identity
    assert identity.stale is False
    issuer.fail("introspection", status=503)
    world.clock.advance(31)
    stale = [world.ask(token).identity for _ in range(25)]
    assert all(each.stale is True for each in stale)
    assert world.server.events.counts["stale_served"] == 25
    assert world.asked("introspection") == 2
    lines = [record for record in caplog.records if record.event == "stale_served"]
    assert [record.levelno for record in lines] == [logging.WARNING]
    world.clock.advance(1)
    world.ask(token)
    assert world.server.events.counts["stale_served"] == 26
    issuer.recover()
    world.clock.advance(1)
    again = world.ask(token).identity
    assert (again.stale, again) == (False, identity)
    assert again != stale[0]
    assert again == stale[0].replace(stale=False)
    assert pickle.loads(pickle.dumps(stale[0])).stale is True


def test_followers_of_a_failure_are_marked_too(world: Any, make: Make, issuer: Issuer) -> None:
    """Whoever waited for another caller's exchange is served as that one, and counted."""
    world, token = make(stale_if_error=60), issuer.opaque()
    world.ask(token)
    world.clock.advance(31)
    issuer.fail("introspection", status=503)
    value = [b"Bearer " + token.encode()]
    leader, follower = (world.apart(world.server.authenticate(value)) for _ in range(2))
    asking = next(leader)
    assert type(next(follower)).__name__ == "Wait"
    for flow, reply in ((leader, world.server.transport.send(asking)), (follower, True)):
        with pytest.raises(StopIteration) as done:
            flow.send(reply)
        assert done.value.value.stale is True
    assert world.server.events.counts["stale_served"] == 2


def test_a_follower_who_waited_too_long_is_served_too(make: Make, issuer: Issuer) -> None:
    """The server did not answer in the time a request has: that is an outage."""
    world, token = make(stale_if_error=60), issuer.opaque()
    world.ask(token)
    world.clock.advance(31)
    value = [b"Bearer " + token.encode()]
    leader, follower = (world.apart(world.server.authenticate(value)) for _ in range(2))
    next(leader)
    next(follower)
    with pytest.raises(StopIteration) as done:
        follower.send(False)
    assert done.value.value.stale is True
    leader.close()


def test_the_window_begins_at_the_end(made: Any, issuer: Issuer) -> None:
    """Of the answer, and not when it was due."""
    world, token = made(stale_if_error=10)
    issuer.fail("introspection", status=503)
    world.clock.advance(39.9)
    assert world.ask(token).identity.stale is True
    world.clock.advance(0.2)
    assert world.ask(token) == 503


def test_a_failed_renewal_serves_nothing_stale(made: Any, issuer: Issuer) -> None:
    """The answer is not over yet: it is neither marked nor counted."""
    world, token = made(stale_if_error=60)
    issuer.fail("introspection", status=503)
    world.clock.advance(24)
    assert world.ask(token).identity.stale is False
    world.background()
    assert world.ask(token).identity.stale is False
    assert world.server.events.counts["stale_served"] == 0


def test_stale_never_serves_the_expired(made: Any, issuer: Issuer) -> None:
    """The token's ``exp`` counts without the leeway, whatever the window."""
    world, _ = made(stale_if_error=600)
    opaque = world.settings.issuers[0].jwt_validation == "local"
    token = (issuer.opaque if opaque else issuer.jwt)(exp=world.clock() + 45)
    world.ask(token)
    issuer.fail("introspection", status=503)
    world.clock.advance(44.9)
    assert world.ask(token).identity.stale is True
    world.clock.advance(0.2)
    assert world.ask(token) == 503


def test_stale_never_serves_the_inactive(made: Any, issuer: Issuer) -> None:
    """The server said so once, in a renewal or when it was asked: then it went down."""
    world, token = made(stale_if_error=600, negative_ttl=1)
    issuer.revoke(token)
    world.clock.advance(24)
    world.ask(token)
    world.background()
    issuer.fail("introspection", status=503)
    assert world.ask(token) == 401
    world.clock.advance(2)
    assert world.ask(token) == 503


@pytest.mark.parametrize("status", [401, 403])
def test_stale_is_for_outages_alone(made: Any, issuer: Issuer, status: int) -> None:
    """A server that refuses our own credentials is not down: that is a mistake to be mended."""
    world, token = made(stale_if_error=600)
    issuer.fail("introspection", status=status)
    world.clock.advance(31)
    assert world.ask(token).reason is Reason.MISCONFIGURED


def test_a_known_refusal_counts_more_than_a_failure(make: Make, issuer: Issuer) -> None:
    """Whichever is remembered longer: what is known to be bad is 401, not 503."""
    world, token = make(), issuer.opaque()
    issuer.fail("introspection", status=503)
    assert world.ask(token) == 503
    issuer.recover()
    issuer.revoke(token)
    value = b"Bearer " + token.encode()
    server = world.server.trusted.servers[0]
    question = Question(token.encode(), sha256(value).digest(), server, world.clock() + 3)
    with pytest.raises(InvalidToken, match="inactive"):
        run(world.server._answers._ask(question), world.server.transport)
    assert world.ask(token) == 401
