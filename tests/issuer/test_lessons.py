"""What went wrong elsewhere between a server and its issuer, each named after where it did."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable
from typing import Any

import pytest

from bearer_middleware import ConfigError, ResourceServer, Settings
from bearer_middleware.errors import Reason, Refused, TransportError, Unavailable
from bearer_middleware.flow.drivers import arun, run
from bearer_middleware.flow.effects import HttpRequest, HttpResponse, Wait
from bearer_middleware.testing import Issuer

Make = Callable[..., Any]


def asking(world: Any, token: str) -> Any:
    """The whole way of a token, one effect after another."""
    return world.apart(world.server.authenticate([b"Bearer " + token.encode()]))


def end_of(flow: Any, effect: Any, answer: Callable[[HttpRequest], Any]) -> Any:
    """What comes of a flow that stopped at ``effect``, where exchanges are answered so."""
    try:
        while True:
            if isinstance(effect, Wait):  # a moment before trying once more
                effect = flow.send(False)
                continue
            reply = answer(effect)
            effect = flow.throw(reply) if isinstance(reply, Exception) else flow.send(reply)
    except StopIteration as done:
        return done.value
    except Refused as refusal:
        return refusal


# -- keys ----------------------------------------------------------------------------------


def test_jwks_rsa_java_173_junk_does_not_use_up_what_good_users_need(
    world: Any, issuer: Issuer
) -> None:
    """Eleven junk kids exhausted the limiter, and then a valid user was refused."""
    world.ask(issuer.jwt())
    for number in range(11):
        assert world.ask(issuer.jwt(headers={"kid": f"junk-{number}"})) == 401
    asked = issuer.requests["jwks"]
    assert all(world.ask(issuer.jwt(f"user-{number}")) == 200 for number in range(50))
    assert issuer.requests["jwks"] == asked <= 3


def test_spring_security_11621_remembered_users_do_not_hide_a_rotation(
    make: Make, issuer: Issuer
) -> None:
    """With a cache of users in front, an unknown kid did not fetch the keys."""
    world = make(jwt_cache_ttl=3600)
    for _ in range(3):
        assert world.ask(issuer.jwt()) == 200
        issuer.rotate(keep_old=True)
        world.clock.advance(10)
    assert world.ask(issuer.jwt()) == 200


def test_spring_security_7474_both_colours_share_one_life_of_keys(issuer: Issuer) -> None:
    """The reactive twin kept keys for ever: here both have one set, and it ends for both."""
    now = [time.time()]
    server = ResourceServer(
        Settings(**issuer.settings()), clock=lambda: now[0], transport=issuer.transport()
    )
    old = [b"Bearer " + issuer.jwt(exp=now[0] + 7200).encode()]

    async def on_loop() -> Any:
        try:
            return await arun(server.authenticate(old), server.transport)
        except Refused as refusal:
            return refusal.reason
        finally:
            await server.transport.aclose()

    assert run(server.authenticate(old), server.transport)
    assert asyncio.run(on_loop()).subject == "alice"
    assert issuer.requests["jwks"] == 1
    issuer.rotate()
    now[0] += 3601  # older than stale keys may be
    assert asyncio.run(on_loop()) is Reason.UNKNOWN_KID
    with pytest.raises(Refused):
        run(server.authenticate(old), server.transport)


def test_identitymodel_3082_a_forced_fetch_is_awaited_and_a_timed_one_is_not(
    world: Any, issuer: Issuer
) -> None:
    """Everything in the background broke those who needed the new key at once."""
    world.ask(issuer.jwt())
    world.clock.advance(301)
    assert world.ask(issuer.jwt()) == 200
    assert (len(world.later), issuer.requests["jwks"]) == (1, 1)
    issuer.rotate()
    assert world.ask(issuer.jwt()) == 200
    assert issuer.requests["jwks"] == 2
    world.later.clear()


@pytest.mark.parametrize("failed", range(4))
def test_istio_27097_what_fails_at_first_is_tried_again_soon(
    world: Any, issuer: Issuer, failed: int
) -> None:
    """The first fetch failed, and the next one was twenty minutes later or never."""
    issuer.fail("jwks", status=503)
    began = world.clock()
    while issuer.requests["jwks"] <= failed:
        world.ask(issuer.jwt())
        world.clock.advance(0.1)
    issuer.recover()
    while world.ask(issuer.jwt()) != 200:
        world.clock.advance(0.1)
    assert world.clock() - began <= sum(2.0**number for number in range(failed + 1)) + 1


@pytest.mark.parametrize(
    "failure",
    [
        *(TransportError(word) for word in ("connect", "timeout", "too_large", "protocol")),
        *(HttpResponse(status, {}, b"") for status in (200, 204, 404, 500, 503)),
        HttpResponse(200, {"content-type": "application/json"}, b'{"keys": [null]}'),
        RuntimeError("canary"),
    ],
    ids=repr,
)
@pytest.mark.parametrize("step", range(2))
def test_envoy_2025_64527_a_fetch_may_fail_at_every_step(
    world: Any, issuer: Issuer, step: int, failure: Any
) -> None:
    """CVE-2025-64527: a failed fetch crashed the proxy. Each exchange of a cold start fails."""
    flow, good = asking(world, issuer.jwt()), [world.server.transport.send] * step
    outcome = end_of(flow, next(flow), lambda asked: good.pop()(asked) if good else failure)
    assert isinstance(outcome, Unavailable)
    assert "canary" not in str(outcome)
    world.clock.advance(5)
    assert world.ask(issuer.jwt()) == 200


def test_envoy_31324_an_outage_is_not_the_absence_of_a_token(make: Make, issuer: Issuer) -> None:
    """``allow_missing_or_failed`` let callers in as anonymous while keys could not be fetched."""
    world = make(optional=True)
    issuer.fail("all", drop=True)
    for token in (issuer.jwt(), issuer.opaque()):
        assert world.ask(token) == 503


def test_zitadel_oidc_593_the_first_caller_may_leave(world: Any, issuer: Issuer) -> None:
    """Its cancellation failed all who waited: now one of them leads on, for keys as well."""
    token = issuer.jwt()
    leader, *followers = [asking(world, token) for _ in range(3)]
    assert isinstance(next(leader), HttpRequest)
    assert all(isinstance(next(follower), Wait) for follower in followers)
    leader.close()
    effect = followers[0].send(True)
    assert isinstance(effect, HttpRequest)
    assert isinstance(followers[1].send(True), Wait)
    identity = end_of(followers[0], effect, world.server.transport.send)
    assert identity.subject == "alice"
    with pytest.raises(StopIteration):
        followers[1].send(True)
    assert issuer.requests == {"metadata": 1, "jwks": 1}


@pytest.mark.parametrize("url", ["file:///etc/jwks.json", "data:application/json,{}", "ftp://a/b"])
def test_pyjwt_2_13_keys_come_over_https_alone(url: str) -> None:
    """``urllib`` opens more than that; a server may not name such an address either."""
    with pytest.raises(ConfigError, match="BEARER_JWKS_URL"):
        Settings(issuer="https://as.test", audience="api", jwks_url=url)


# -- answers -------------------------------------------------------------------------------


def test_duende_foss_281_a_failure_is_no_verdict(world: Any, issuer: Issuer) -> None:
    """One timeout failed all who had joined, and stayed: a moment later they are answered."""
    token = issuer.opaque()
    world.ask(issuer.opaque())
    leader, follower = asking(world, token), asking(world, token)
    assert isinstance(next(leader), HttpRequest)
    assert isinstance(next(follower), Wait)
    with pytest.raises(Unavailable):
        leader.throw(TransportError("timeout"))
    with pytest.raises(Unavailable):
        follower.send(True)
    world.clock.advance(0.31)
    assert world.ask(token) == 200


def test_memforge_34_an_answer_is_looked_at_member_by_member(world: Any, issuer: Issuer) -> None:
    """It was taken for what it was declared to be."""
    for answer in ({"active": "true"}, {"active": True, "aud": "api", "sub": ["admin"]}, [True]):
        issuer.fail("introspection", body=json.dumps(answer).encode())
        assert world.ask(issuer.opaque()).status in {401, 503}


def test_glewlwyd_the_scope_as_audience_is_not_ours(make: Make, issuer: Issuer) -> None:
    """It writes the scope into ``aud``, of its answers and of its signed ones."""
    assert make().ask(issuer.opaque(aud="read write")).reason is Reason.WRONG_AUDIENCE
    assert make(introspection_audience="any").ask(issuer.opaque(aud="read write")) == 200


def test_firecrawl_3973_what_is_inactive_does_not_come_back(make: Make, issuer: Issuer) -> None:
    """The revoked token lived on in a cache that outlived the note of its end."""
    world = make(introspection_ttl=300, negative_ttl=1, stale_if_error=600)
    token = issuer.opaque()
    assert world.ask(token) == 200
    issuer.revoke(token)
    world.clock.advance(301)
    assert world.ask(token).reason is Reason.INACTIVE
    issuer.fail("introspection", drop=True)
    for _ in range(20):
        world.clock.advance(5)
        assert world.ask(token).status in {401, 503}
