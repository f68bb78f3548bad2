"""Whatever happens in whatever order, what was promised holds.

Hypothesis issues, revokes and shows tokens, rotates keys, takes issuer and store down and up, and
moves the time; two real servers, two processes of one fleet, are held against a model. After a
run that fails it prints the shortest story that does.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from dataclasses import dataclass, field
from typing import Any

import hypothesis.strategies as st
from hypothesis import HealthCheck, settings
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
)

from bearer_middleware import ResourceServer, Settings
from bearer_middleware.errors import Refused
from bearer_middleware.flow.drivers import arun, run
from bearer_middleware.testing import Issuer
from tests.failures.virtual import VirtualWorld

FLEET = 2
LEEWAY = 30.0
NEGATIVE_TTL = 10.0
JWKS_TTL, JWKS_MAX_STALE = 300.0, 3600.0
#: After an outage of any length all is as ever: the longest that a breaker is open, with jitter.
RECOVERY = 61.0
#: Fractions of a second that are rounded away: times in tokens and in the store are whole.
ROUNDING = 1.0

ENDPOINTS = ("introspection", "jwks", "metadata")
OUTAGES: dict[str, dict[str, Any]] = {
    "hangs up": {"drop": True},
    "500": {"status": 500},
    "429": {"status": 429, "headers": {"retry-after": "20"}},
    "login page": {"body": b"<html>"},
}


@dataclass(eq=False)
class Token:
    """What we know of a token, whatever the servers think."""

    text: str
    kind: str
    exp: float
    subject: str
    kid: str | None = None
    #: When the issuer took it back.
    revoked: float | None = None
    #: The servers that were told.
    told: set[int] = field(default_factory=set)


class Story(RuleBasedStateMachine):
    """Driven by ``run``."""

    @initialize(
        ttl=st.sampled_from([30, 5, 0]),
        stale=st.sampled_from([0, 0, 20]),
        remember=st.sampled_from([60, 0]),
        size=st.sampled_from([2, 50]),
        shared=st.sampled_from([True, True, False]),
    )
    def build(self, ttl: int, stale: int, remember: int, size: int, *, shared: bool) -> None:
        self.world, self.issuer = VirtualWorld(), Issuer(algorithm="ES256")
        said: dict[str, Any] = {
            "introspection_ttl": ttl,
            "stale_if_error": stale,
            "jwt_cache_ttl": remember,
            "cache_size": size,
        }
        if shared:
            said |= {"cache_url": "redis://127.0.0.1:1", "fleet_secret": "f" * 64}
        self.ttl, self.stale, self.size = float(ttl), float(stale), size
        self.servers = [
            ResourceServer(
                Settings(**self.issuer.settings(**said)),
                clock=self.world.clock,
                transport=self.issuer.transport(),
            )
            for _ in range(FLEET)
        ]
        self.tokens: list[Token] = []
        self.removed: dict[str, float] = {}
        self.revocations = 0
        #: Since when the issuer has been well, or has not.
        self.well_since, self.ill_since = -RECOVERY + self.now, None
        self.outage_calls: dict[tuple[int, str], int] = defaultdict(int)
        self.crowds = 0
        #: When crowds came with junk, to which server, and how often the issuer was asked for it.
        self.junk: list[tuple[float, int, int]] = []
        #: When a token was last asked about, by server and text.
        self.last_asked: dict[tuple[int, str], float] = {}

    def one_of_the_last(self, data: st.DataObject) -> Token:
        """Stories are about few tokens at a time."""
        return data.draw(st.sampled_from(self.tokens[:-4:-1]), "token")

    @property
    def now(self) -> float:
        return self.world.clock.time

    # -- what happens ----------------------------------------------------------------------

    @rule(seconds=st.sampled_from([5, 60, 4000]), subject=st.sampled_from(["alice", "bob"]))
    def issue_jwt(self, seconds: int, subject: str) -> None:
        now = int(self.now)
        text = self.issuer.jwt(sub=subject, iat=now, exp=now + seconds)
        self.tokens.append(Token(text, "jwt", now + seconds, subject, kid=self.issuer.kid))

    @rule(seconds=st.sampled_from([5, 60, 4000]), subject=st.sampled_from(["alice", "bob"]))
    def issue_opaque(self, seconds: int, subject: str) -> None:
        now = int(self.now)
        text = self.issuer.opaque(sub=subject, iat=now, exp=now + seconds)
        self.tokens.append(Token(text, "opaque", now + seconds, subject))

    @precondition(lambda self: self.tokens)
    @rule(data=st.data())
    def revoke_at_the_issuer(self, data: st.DataObject) -> None:
        token = self.one_of_the_last(data)
        if token.kind == "opaque" and token.revoked is None:
            self.issuer.revoke(token.text)
            token.revoked = self.now

    @precondition(lambda self: self.tokens)
    @rule(data=st.data(), number=st.integers(0, FLEET - 1))
    def revoke_here(self, data: st.DataObject, number: int) -> None:
        token = self.one_of_the_last(data)
        self.servers[number].revoke(token=token.text)
        token.told.add(number)
        self.revocations += 1

    @rule(subject=st.sampled_from(["alice", "bob"]), number=st.integers(0, FLEET - 1))
    def revoke_a_subject_here(self, subject: str, number: int) -> None:
        self.servers[number].revoke(subject=subject)
        self.revocations += 1
        for token in self.tokens:
            if token.subject == subject:
                token.told.add(number)
        self.world.clock.time += 1.0  # what is issued in the very same second is revoked, too

    @rule(keep=st.booleans())
    def rotate(self, *, keep: bool) -> None:
        before = {key["kid"] for key in self.issuer.jwks["keys"]}
        self.issuer.rotate(keep_old=keep)
        for kid in before - {key["kid"] for key in self.issuer.jwks["keys"]}:
            self.removed[kid] = self.now

    @precondition(lambda self: self.ill_since is None)
    @rule(outage=st.sampled_from(list(OUTAGES)))
    def issuer_down(self, outage: str) -> None:
        self.issuer.fail("all", **OUTAGES[outage])
        self.ill_since = self.now
        # Whoever answers, if only with a page for people, is no server that a breaker spares.
        self.most_failures = 100 if outage == "login page" else 2 * 5
        self.outage_calls.clear()

    @precondition(lambda self: self.ill_since is not None)
    @rule()
    def issuer_up(self) -> None:
        self.issuer.recover()
        self.ill_since, self.well_since = None, self.now

    @rule(down=st.booleans())
    def store_down_or_up(self, *, down: bool) -> None:
        self.world.store.down = down

    @rule(seconds=st.sampled_from([0.1, 1, 4, 9, 21, 62, 250, 1900]))
    def time_passes(self, seconds: float) -> None:
        self.world.clock.time += seconds

    @precondition(lambda self: self.world.later)
    @rule()
    def background(self) -> None:
        """Do what was set aside, perhaps long ago."""
        work, self.world.later = self.world.later, []
        for start in work:
            self.drive(0, start())

    # -- what callers meet -----------------------------------------------------------------

    @precondition(lambda self: self.tokens)
    @rule(data=st.data(), number=st.integers(0, FLEET - 1), prompt=st.booleans())
    def show(self, data: st.DataObject, number: int, *, prompt: bool) -> None:
        token = self.one_of_the_last(data)
        self.show_one(token, number)
        if prompt and self.world.later:
            self.background()

    @rule(number=st.integers(0, FLEET - 1), text=st.sampled_from(["junk", "a.b.c"]))
    def show_junk(self, number: int, text: str) -> None:
        well = not self.is_ill() and not self.is_crowded(number)
        assert self.ask(number, text) in ((401,) if well else (401, 503))

    @rule(number=st.integers(0, FLEET - 1))
    def a_crowd_comes_with_junk(self, number: int) -> None:
        """Forty tokens that nobody has seen, at one moment."""
        before = self.issuer.requests["introspection"]
        self.crowds += 1
        for each in range(40):
            assert self.ask(number, f"junk-{self.crowds}-{each}") in (401, 503)
        self.junk.append((self.now, number, self.issuer.requests["introspection"] - before))

    @precondition(lambda self: self.tokens)
    @rule(number=st.integers(0, FLEET - 1), data=st.data())
    def a_crowd_comes_with_one_token(self, number: int, data: st.DataObject) -> None:
        token = self.one_of_the_last(data)
        for _ in range(10):
            self.show_one(token, number)

    @rule(number=st.integers(0, FLEET - 1))
    def rotate_and_use(self, number: int) -> None:
        """A key that is gone, and a set that was fetched since."""
        self.issue_jwt(4000, "bob")
        self.show_one(self.tokens[-1], number)
        self.rotate(keep=False)
        self.time_passes(1)
        self.issue_jwt(4000, "alice")
        self.show_one(self.tokens[-1], number)
        self.show_one(self.tokens[-2], number)

    @rule(first=st.integers(0, FLEET - 1), seconds=st.sampled_from([2, 4, 21, 28]))
    def revoke_while_it_serves(self, first: int, seconds: int) -> None:
        """Asked about here, revoked, and shown there a little later."""
        self.issue_opaque(4000, "bob")
        token = self.tokens[-1]
        self.show_one(token, first)
        self.issuer.revoke(token.text)
        token.revoked = self.now
        self.time_passes(seconds)
        self.show_one(token, (first + 1) % FLEET)
        self.time_passes(seconds)
        self.show_one(token, (first + 1) % FLEET)

    @precondition(lambda self: self.tokens)
    @rule(number=st.integers(0, FLEET - 1))
    def show_all(self, number: int) -> None:
        for token in self.tokens[-6:]:
            self.show_one(token, number)
        if self.world.later:
            self.background()

    def show_one(self, token: Token, number: int) -> None:
        may_learn, now = self.may_learn_keys(number), self.now
        status = self.ask(number, token.text)
        if status == 200:
            self.may_be_let_in(token, number)
        elif status == 401:
            # The clock may have gone on while it was asked about.
            assert self.is_bad(token, number) or not self.can_tell(token, number, now, may_learn)
        else:
            assert status == 503
            crowded = token.kind == "opaque" and self.is_crowded(number)
            assert self.is_ill() or crowded, "all is well, and we say that we cannot know"

    def may_be_let_in(self, token: Token, number: int) -> None:
        """Never after revocation and the published bound."""
        assert self.now < token.exp + LEEWAY
        assert number not in token.told
        if token.revoked is not None:
            assert self.now < token.revoked + self.ttl + self.stale + ROUNDING or (
                self.now == token.revoked
            )
        gone = self.removed.get(token.kid or "")
        if gone is not None:
            keys: Any = self.servers[number].trusted.servers[0].keys
            assert self.now < gone + JWKS_MAX_STALE
            assert keys._fetched <= gone, "the set was fetched without its key"

    def is_bad(self, token: Token, number: int) -> bool:
        return (
            self.now >= token.exp
            or number in token.told
            or token.revoked is not None
            or token.kid in self.removed
        )

    def can_tell(self, token: Token, number: int, now: float, may_learn: bool) -> bool:
        """A key that is new is unknown while our set is good and a fetch is forbidden or fails."""
        keys: Any = self.servers[number].trusted.servers[0].keys
        if token.kind == "opaque":
            return True
        held = keys.key_set is not None and keys.key_set.knows(token.kid)
        return held or (may_learn and not self.is_ill())

    def may_learn_keys(self, number: int) -> bool:
        keys: Any = self.servers[number].trusted.servers[0].keys
        return bool(keys._bucket.would_give(self.now) and keys._backoff.until <= self.now)

    def is_ill(self) -> bool:
        """Or has been a moment ago, so that breakers and back-offs may still be waiting."""
        return self.ill_since is not None or self.now < self.well_since + RECOVERY

    def is_crowded(self, number: int) -> bool:
        """Junk of the last seconds may have used up what may be asked about new tokens."""
        return any(now >= self.now - 3 and there == number for now, there, _ in self.junk)

    def ask(self, number: int, text: str) -> int:
        server, value = self.servers[number], b"Bearer " + text.encode()
        before, began = dict(self.issuer.requests), self.now
        try:
            identity = server.identify(value)
            if identity is None:
                identity = self.drive(number, server.authenticate([value]))
            status = 200
        except Refused as refusal:
            status = refusal.status
        self.count(number, text, before, began)
        return status

    def count(self, number: int, text: str, before: dict[str, int], began: float) -> None:
        """Never more questions than are in the budget."""
        for endpoint in ENDPOINTS:
            calls = self.issuer.requests[endpoint] - before.get(endpoint, 0)
            if self.ill_since is not None:
                self.outage_calls[number, endpoint] += calls
            if endpoint != "introspection" or not calls or self.ttl == 0:
                continue
            last, self.last_asked[number, text] = self.last_asked.get((number, text)), began
            if last is not None and not self.is_ill() and self.size > FLEET and self.ttl == 30:
                spared = NEGATIVE_TTL
                for token in self.tokens:
                    if token.text == text and token.exp <= began:
                        spared = 0.0  # no answer is kept past it, not even within the leeway
                if any(at == number and now >= last for now, at, _ in self.junk):
                    spared = 0.0  # refusals are bounded: a crowd pushes them out
                assert calls == 1
                assert began - last >= min(spared, self.ttl * 0.75)

    @invariant()
    def the_issuer_is_spared(self) -> None:
        """In an outage: five failures and a retry of each, and then a probe now and then."""
        if getattr(self, "servers", None) is None or self.ill_since is None:
            return
        lasted = self.now - self.ill_since
        for number in range(FLEET):
            calls = {name: self.outage_calls[number, name] for name in ENDPOINTS}
            per_second = 50 if self.most_failures == 100 else 1 / 4
            assert calls["introspection"] <= self.most_failures + lasted * per_second
            for name in ("jwks", "metadata"):
                # An attempt has a retry, or a second document, and one more where only one of
                # them named the endpoint; the back-off is a second at first, and grows.
                assert calls[name] <= 3 * (1 + min(lasted, 6 + lasted / 15))

    @invariant()
    def junk_is_within_the_budget(self) -> None:
        """A hundred at once, and fifty a second, for each process."""
        for number in range(FLEET if getattr(self, "servers", None) else 0):
            recent = [calls for now, at, calls in self.junk if at == number and now > self.now - 2]
            assert sum(recent) <= 100 + 2 * 50

    @invariant()
    def sizes_are_bounded(self) -> None:
        for server in getattr(self, "servers", ()):
            assert len(server.memory.verified) <= self.size
            assert len(server.memory.introspected) <= self.size
            assert len(server.memory.refusals._known) <= self.size
            assert len(server.revocations) <= self.revocations
            assert not server._answers._flights._flights
            keys: Any = server.trusted.servers[0].keys
            assert not keys._flights._flights

    # -- how -------------------------------------------------------------------------------

    def drive(self, number: int, flow: Any) -> Any:
        return run(self.world.within(flow), self.servers[number].transport)

    def teardown(self) -> None:
        for server in getattr(self, "servers", ()):
            server.close()


class AsyncStory(Story):
    """Driven by ``arun``."""

    def __init__(self) -> None:
        super().__init__()
        self.loop = asyncio.new_event_loop()

    def drive(self, number: int, flow: Any) -> Any:
        work = arun(self.world.within(flow), self.servers[number].transport)
        return self.loop.run_until_complete(work)

    def teardown(self) -> None:
        for server in getattr(self, "servers", ()):
            self.loop.run_until_complete(server.aclose())
        self.loop.run_until_complete(self.loop.shutdown_default_executor())
        self.loop.close()


USUAL = settings(
    max_examples=50,
    stateful_step_count=40,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
)
TestBlocking = Story.TestCase
TestBlocking.settings = USUAL
TestAsync = AsyncStory.TestCase
TestAsync.settings = settings(USUAL, max_examples=10)
