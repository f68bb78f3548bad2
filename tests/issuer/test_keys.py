"""The keys of an issuer over time: cached, rotated, flooded, and through an outage."""

from __future__ import annotations

import json
import secrets
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from bearer_middleware import ConfigError
from bearer_middleware.errors import Reason, Refused
from bearer_middleware.flow.clock import Backoff, Bucket
from bearer_middleware.flow.effects import Background, HttpRequest, Wait
from bearer_middleware.testing import Issuer

Make = Callable[..., Any]


def junk(issuer: Issuer) -> str:
    """A well-made token that names a key nobody has."""
    return issuer.jwt(headers={"kid": secrets.token_hex(8)})


# -- in peace ------------------------------------------------------------------------------


def test_keys_are_fetched_at_first_need_and_cached(world: Any, issuer: Issuer) -> None:
    """DSC-9: one metadata document, one key set, for any number of tokens."""
    assert sum(issuer.requests.values()) == 0
    for _ in range(20):
        assert world.ask(issuer.jwt()) == 200
    assert issuer.requests == {"metadata": 1, "jwks": 1}


def test_a_set_that_grows_old_is_renewed_in_the_background(world: Any, issuer: Issuer) -> None:
    """The old set serves; who finds it old does not wait, nor asks twice (camunda 60434)."""
    world.ask(issuer.jwt())
    world.clock.advance(301)
    for _ in range(5):
        assert world.ask(issuer.jwt()) == 200
    assert issuer.requests["jwks"] == 1
    assert world.background() == 1
    assert issuer.requests["jwks"] == 2
    assert world.ask(issuer.jwt()) == 200
    assert world.background() == 0


@pytest.mark.parametrize("ttl", [60, 300, 3600])
def test_renewal_is_ahead_of_the_end(make: Make, issuer: Issuer, ttl: int) -> None:
    """Between three quarters of the TTL and its end, with jitter between processes."""
    times = set()
    for _ in range(10):
        world = make(jwks_ttl=ttl)
        world.ask(issuer.jwt())
        due = world.server.trusted.servers[0].keys.settled_until - world.clock()
        assert ttl * 0.5 <= due <= ttl
        times.add(due)
    assert len(times) > 1


def test_a_lost_renewal_is_begun_again(world: Any, issuer: Issuer) -> None:
    """The loop that should have done it may be gone: a later caller starts another."""
    world.ask(issuer.jwt())
    world.clock.advance(301)
    world.ask(issuer.jwt())
    world.later.clear()
    world.clock.advance(10)
    assert world.ask(issuer.jwt()) == 200
    assert world.background() == 1


def test_a_rotated_key_is_accepted_at_once(world: Any, issuer: Issuer) -> None:
    """An unknown kid fetches in the same request, again and again while it is peaceful, and no
    setting has to be found for that (envoy 14557, micronaut 2289, go-oidc, jwks-rsa).
    """
    for _ in range(5):
        assert world.ask(issuer.jwt()) == 200
        issuer.rotate()
        world.clock.advance(10)
    assert issuer.requests["jwks"] == 5


def test_a_removed_key_verifies_nothing(world: Any, issuer: Issuer) -> None:
    """Once the set is replaced, also for tokens that were remembered as good."""
    cached, fresh = issuer.jwt(), issuer.jwt()
    assert world.ask(cached) == 200
    issuer.rotate()
    assert world.ask(issuer.jwt()) == 200
    assert world.ask(cached).reason is Reason.UNKNOWN_KID
    assert world.ask(fresh) == 401


def test_a_removed_key_ends_within_the_ttl(world: Any, issuer: Issuer) -> None:
    """Also where no new key shows up: the timed renewal replaces the set (spring 5853)."""
    issuer.rotate(keep_old=True)
    old_key_token = issuer.jwt()
    assert world.ask(old_key_token) == 200
    issuer.rotate()
    world.clock.advance(301)
    world.ask(old_key_token)
    world.background()
    assert world.ask(old_key_token) == 401


def test_both_keys_serve_while_both_are_published(world: Any, issuer: Issuer) -> None:
    """A rotation with an overlap disturbs nobody."""
    old = issuer.jwt()
    assert world.ask(old) == 200
    issuer.rotate(keep_old=True)
    assert world.ask(issuer.jwt()) == 200
    assert world.ask(old) == 200
    assert world.ask(issuer.jwt()) == 200
    assert issuer.requests["jwks"] == 2


def test_a_kid_that_is_used_again_for_another_key(world: Any, issuer: Issuer) -> None:
    """Tokens of the first key are not good under the second, remembered or not."""
    issuer.rotate(kid="same")
    cached, fresh = issuer.jwt(), issuer.jwt()
    assert world.ask(cached) == 200
    issuer.rotate(kid="same")
    new = issuer.jwt()
    world.clock.advance(301)
    world.ask(cached)
    world.background()
    assert world.ask(new) == 200
    assert world.ask(cached) == 401
    assert world.ask(fresh).reason is Reason.BAD_SIGNATURE


def test_a_kid_with_another_algorithm_asks_nobody(world: Any, issuer: Issuer) -> None:
    """One key, one algorithm: a known kid under a wrong alg is a bad token, not a rotation."""
    assert world.ask(issuer.jwt()) == 200
    forged = issuer.jwt(headers={"kid": issuer.kid, "alg": "PS256"})
    assert world.ask(forged).reason is Reason.UNSUPPORTED_ALG
    assert issuer.requests["jwks"] == 1


def test_a_key_without_use_in_a_mixed_set_dsc_7(world: Any, issuer: Issuer) -> None:
    """DSC-7: where encryption keys are published too, every key has to say its use."""
    token = issuer.jwt()
    (jwk,) = issuer.jwks["keys"]
    unlabelled = {name: value for name, value in jwk.items() if name != "use"}
    encryption = {**jwk, "kid": "enc", "use": "enc"}
    issuer.fail("jwks", body=json.dumps({"keys": [unlabelled, encryption]}).encode())
    assert world.ask(token) == 503
    issuer.fail("jwks", body=json.dumps({"keys": [jwk, encryption]}).encode())
    world.clock.advance(60)
    assert world.ask(token) == 200


def test_a_set_like_those_of_real_servers(world: Any, issuer: Issuer) -> None:
    """Its own media type, keys without ``alg``, and a ``kty`` of the future among them."""
    token = issuer.jwt()
    (jwk,) = issuer.jwks["keys"]
    plain = {name: value for name, value in jwk.items() if name != "alg"}
    future = {"kty": "AKP", "alg": "ML-DSA-44", "pub": "AAAA", "kid": "future"}
    body = json.dumps({"keys": [future, plain]}).encode()
    issuer.fail("jwks", body=body, content_type="application/jwk-set+json")
    assert world.ask(token) == 200


# -- in a flood ----------------------------------------------------------------------------


def test_a_flood_of_unknown_kids_fetches_seldom(world: Any, issuer: Issuer) -> None:
    """A burst of two, then one in three seconds; the rest is 401 without a fetch (DSC-9;
    quarkus 5003, go-oidc 482).
    """
    assert world.ask(issuer.jwt()) == 200
    fetched = []
    for _ in range(600):
        before = issuer.requests["jwks"]
        assert world.ask(junk(issuer)) == 401
        if issuer.requests["jwks"] > before:
            fetched.append(world.clock())
        world.clock.advance(0.1)
    assert fetched[1] - fetched[0] < 1
    gaps = [later - earlier for earlier, later in pairwise(fetched[1:])]
    assert min(gaps) > 2.9
    assert 20 <= len(fetched) <= 23
    assert issuer.requests["metadata"] == 1


def test_known_keys_never_wait_in_a_flood(world: Any, issuer: Issuer) -> None:
    """Good tokens pass while nobody answers the fetch that junk has caused (jwks-rsa-java 173,
    fastapi-zitadel-auth 149).
    """
    good = issuer.jwt()
    world.ask(good)
    flows = [
        world.apart(world.server.authenticate([b"Bearer " + junk(issuer).encode()]))
        for _ in range(5)
    ]
    effects = [next(flow) for flow in flows]
    assert isinstance(effects[0], HttpRequest)
    assert all(isinstance(effect, Wait) for effect in effects[1:])
    assert world.ask(issuer.jwt()) == 200
    assert world.ask(good) == 200
    for flow in flows:
        flow.close()
    assert world.ask(issuer.jwt()) == 200


@pytest.mark.parametrize("due", [False, True], ids=["fresh", "due for renewal"])
@pytest.mark.parametrize("offset", [0.0, 0.9, 1.7, 2.8])
def test_a_rotated_key_is_found_soon_in_a_flood(
    make: Make, issuer: Issuer, due: bool, offset: float
) -> None:
    """Within five seconds, whether or not the set is due at that very moment."""
    world = make(jwks_ttl=300)
    world.ask(issuer.jwt())
    lasts = world.server.trusted.servers[0].keys.settled_until - world.clock()
    world.clock.advance((lasts if due else 30) - 10)
    for _ in range(int((10 + offset) / 0.1)):
        world.ask(junk(issuer))
        world.clock.advance(0.1)
    issuer.rotate()
    token, began = issuer.jwt(), world.clock()
    while world.ask(token) != 200:
        world.ask(junk(issuer))
        world.clock.advance(0.1)
        assert world.clock() - began <= 5


def test_a_rotated_key_is_found_when_the_renewal_is_under_way_and_old(
    world: Any, issuer: Issuer
) -> None:
    """A fetch that began before the rotation does not help: one more is made for it."""
    world.ask(issuer.jwt())
    world.clock.advance(301)
    world.ask(issuer.jwt())
    (renewal,) = [world.apart(start()) for start in world.later]
    request = next(renewal)
    old_answer = world.server.transport.send(request)
    issuer.rotate()
    flow = world.apart(world.server.authenticate([b"Bearer " + issuer.jwt().encode()]))
    assert isinstance(next(flow), Wait)
    with pytest.raises(StopIteration):
        renewal.send(old_answer)
    request = flow.send(True)
    assert isinstance(request, HttpRequest)
    with pytest.raises(StopIteration) as done:
        flow.send(world.server.transport.send(request))
    assert done.value.value.subject == "alice"


def give_up(world: Any, token: str) -> bool:
    """A caller who is cancelled while the keys are fetched; ``False`` where nothing was."""
    flow = world.apart(world.server.authenticate([b"Bearer " + token.encode()]))
    try:
        assert isinstance(next(flow), HttpRequest)
    except Refused:
        return False
    flow.close()
    return True


def test_a_flood_that_is_given_up_does_not_keep_a_rotated_key_out(
    world: Any, issuer: Issuer
) -> None:
    """Whose fetch was cancelled has used the limit, and found nothing: it is begun again apart."""
    world.ask(issuer.jwt())
    assert [give_up(world, junk(issuer)) for _ in range(4)] == [True, True, False, False]
    issuer.rotate()
    token = issuer.jwt()
    assert world.ask(token) == 401
    assert world.background() > 0
    assert world.ask(token) == 200
    assert world.background() == 0


def test_a_flood_that_is_given_up_fetches_seldom(world: Any, issuer: Issuer) -> None:
    """For each fetch that the limit allowed, one more at most."""
    good = issuer.jwt(exp=world.clock() + 600)
    world.ask(good)
    before, begun = issuer.requests["jwks"], 0
    for _ in range(600):
        begun += give_up(world, junk(issuer))
        assert world.ask(good) == 200
        world.background()
        world.clock.advance(0.1)
    assert begun <= 22
    assert issuer.requests["jwks"] - before <= begun + 1


def test_a_flood_while_the_server_is_down(world: Any, issuer: Issuer) -> None:
    """Even fewer attempts, and 401 for the junk while our set is good."""
    world.ask(issuer.jwt())
    issuer.fail("jwks", status=500)
    attempts = issuer.requests["jwks"]
    for _ in range(600):
        assert world.ask(junk(issuer)) == 401
        world.clock.advance(0.1)
    assert issuer.requests["jwks"] - attempts <= 10
    assert world.ask(issuer.jwt()) == 200


def test_a_flood_at_a_cold_start(world: Any, issuer: Issuer) -> None:
    """Junk that comes first cannot keep the first good token out."""
    for _ in range(50):
        assert world.ask(junk(issuer)) == 401
    assert issuer.requests["jwks"] <= 3
    assert world.ask(issuer.jwt()) == 200


# -- in an outage --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("endpoint", "told"),
    [("metadata", "metadata_unavailable: status 404"), ("jwks", "status 404")],
)
def test_it_is_told_which_document_is_missing(
    world: Any, issuer: Issuer, endpoint: str, told: str
) -> None:
    """Metadata that are not there are not taken for a key set that is not."""
    issuer.fail(endpoint, status=404)
    refused = world.ask(issuer.jwt())
    assert (refused.status, refused.reason) == (503, Reason.JWKS_UNAVAILABLE)
    assert refused.detail == told


def test_keys_serve_through_an_outage_up_to_max_stale(make: Make, issuer: Issuer) -> None:
    """DSC-9: 200 until the window ends, then 503, and 200 again when the server is back
    (identitymodel 1723, node-jwks-rsa 502).
    """
    world = make(jwks_max_stale=3600)
    world.ask(issuer.jwt())
    began = world.clock()
    issuer.fail("all", status=503)
    while world.clock() < began + 3590:
        assert world.ask(issuer.jwt(exp=world.clock() + 60)) == 200
        world.background()
        world.clock.advance(7)
    world.clock.advance(20)
    refused = world.ask(issuer.jwt(exp=world.clock() + 60))
    assert (refused.status, refused.reason) == (503, Reason.JWKS_UNAVAILABLE)
    assert refused.retry_after > 0
    issuer.recover()
    world.clock.advance(61)
    assert world.ask(issuer.jwt(exp=world.clock() + 60)) == 200


def test_a_remembered_token_ends_with_the_keys(make: Make, issuer: Issuer) -> None:
    """The memory of a verified token does not outlive the window of its key."""
    world = make(jwks_ttl=60, jwks_max_stale=60, jwt_cache_ttl=3000)
    token = issuer.jwt()
    assert world.ask(token) == 200
    issuer.fail("all", drop=True)
    world.clock.advance(61)
    assert world.ask(token) == 503


def test_failures_back_off(world: Any, issuer: Issuer) -> None:
    """From one second to thirty, with jitter; the answer tells when to come again."""
    issuer.fail("jwks", status=500)
    attempts = []
    while len(attempts) < 12:
        before = issuer.requests["jwks"]
        refused = world.ask(issuer.jwt())
        assert refused == 503
        assert 0 < refused.retry_after <= 30
        if issuer.requests["jwks"] > before:
            attempts.append(world.clock())
        world.clock.advance(0.25)
    gaps = [later - earlier for earlier, later in pairwise(attempts)]
    assert 1 <= gaps[0] <= 1.5
    assert all(1 <= gap <= 30.25 for gap in gaps)
    assert min(gaps[6:]) >= 14
    assert gaps != sorted(set(gaps)) or len(set(gaps)) > 3


@pytest.mark.parametrize("endpoint", ["all", "jwks", "metadata"])
@pytest.mark.parametrize("run", range(5))
def test_recovery_takes_no_longer_than_the_longest_wait(
    make: Make, issuer: Issuer, endpoint: str, run: int
) -> None:
    """After any outage the first good answer comes within some thirty seconds."""
    world = make()
    issuer.fail(endpoint, status=503)
    for _ in range(600 + 37 * run):
        world.ask(issuer.jwt())
        world.clock.advance(0.5)
    issuer.recover()
    began = world.clock()
    while world.ask(issuer.jwt()) != 200:
        world.clock.advance(0.5)
        assert world.clock() - began <= 31


BAD_SETS = {
    "500": {"status": 500},
    "204": {"status": 204},
    "304": {"status": 304},
    "redirect": {"status": 302, "headers": {"location": "http://127.0.0.1/"}},
    "html": {"body": b"<html>login</html>", "content_type": "text/html"},
    "empty body": {"body": b""},
    "no keys": {"body": b'{"keys": []}'},
    "keys is no list": {"body": b'{"keys": {}}'},
    "no member": {"body": b"{}"},
    "array": {"body": b"[]"},
    "duplicate names": {"body": b'{"keys": [], "keys": []}'},
    "nothing usable": {"body": b'{"keys": [{"kty": "oct", "k": "AAAA"}, 7, null, {}]}'},
    "huge": {"huge": 300_000},
    "too many": {"body": json.dumps({"keys": [{"kty": "RSA"}] * 101}).encode()},
    "deep": {"body": b'{"keys": ' + b"[" * 9000 + b"]" * 9000 + b"}"},
    "not utf-8": {"body": b'{"keys": ["\xff"]}'},
    "gzip": {"headers": {"content-encoding": "gzip"}},
    "dropped": {"drop": True},
}


@pytest.mark.parametrize("fault", BAD_SETS.values(), ids=BAD_SETS.keys())
def test_a_bad_document_never_replaces_a_good_set(
    world: Any, issuer: Issuer, fault: dict[str, Any]
) -> None:
    """The renewal fails, and the keys that were good serve on (istio 58101)."""
    cached = issuer.jwt()
    world.ask(cached)
    issuer.fail("jwks", **fault)
    world.clock.advance(301)
    assert world.ask(cached) == 200
    assert world.background() == 1
    assert world.ask(cached) == 200
    assert world.ask(issuer.jwt()) == 200


@pytest.mark.parametrize("fault", BAD_SETS.values(), ids=BAD_SETS.keys())
def test_a_bad_document_at_the_start_is_503(
    world: Any, issuer: Issuer, fault: dict[str, Any]
) -> None:
    """We cannot know: not 401, not 500; and all is well soon after the document is (quarkus
    16725 and 41551, istio 27097 and 30261).
    """
    issuer.fail("jwks", **fault)
    refused = world.ask(issuer.jwt())
    assert (refused.status, refused.reason) == (503, Reason.JWKS_UNAVAILABLE)
    issuer.recover()
    world.clock.advance(2)
    assert world.ask(issuer.jwt()) == 200


def test_an_unknown_kid_while_the_endpoint_fails(make: Make, issuer: Issuer) -> None:
    """401 while our set is good, 503 once it is older than its TTL, and with no set at all."""
    world = make()
    issuer.fail("jwks", status=500)
    assert world.ask(junk(issuer)) == 503
    issuer.recover()
    world.clock.advance(31)
    assert world.ask(issuer.jwt()) == 200
    issuer.fail("jwks", status=500)
    assert world.ask(junk(issuer)) == 401
    world.clock.advance(299)
    assert world.ask(junk(issuer)) == 401
    world.clock.advance(31)
    assert world.ask(junk(issuer)) == 503
    assert world.ask(issuer.jwt()) == 200


def test_keys_that_moved_are_found(world: Any, issuer: Issuer) -> None:
    """Where fetching fails, the metadata is read again: ``jwks_uri`` may be another by now."""
    world.ask(issuer.jwt())
    assert issuer.requests["metadata"] == 1
    issuer.fail("jwks", status=404, times=1)
    world.clock.advance(301)
    world.ask(issuer.jwt())
    world.background()
    issuer.recover()
    world.clock.advance(2)
    world.ask(issuer.jwt())
    world.background()
    assert issuer.requests["metadata"] == 2


# -- where keys come from ------------------------------------------------------------------


def test_keys_of_a_url_fetch_nothing_else(make: Make, issuer: Issuer) -> None:
    """``BEARER_JWKS_URL``: no discovery, not even when it fails."""
    world = make(jwks_url="https://keys.test/jwks")
    assert world.ask(issuer.jwt()) == 200
    issuer.rotate()
    assert world.ask(issuer.jwt()) == 200
    issuer.fail("jwks", status=500)
    world.clock.advance(301)
    world.ask(issuer.jwt())
    world.background()
    assert set(issuer.requests) == {"jwks"}


def test_keys_of_a_file_fetch_nothing(make: Make, issuer: Issuer, tmp_path: Path) -> None:
    """``BEARER_JWKS_FILE``: nothing is fetched, and a new file is noticed."""
    file = tmp_path / "keys.json"
    issuer.jwt()
    file.write_text(json.dumps(issuer.jwks))
    world = make(jwks_file=str(file))
    assert world.ask(issuer.jwt()) == 200
    assert world.ask(junk(issuer)) == 401
    issuer.rotate()
    world.clock.advance(10)
    assert world.ask(issuer.jwt()) == 401
    file.write_text(json.dumps(issuer.jwks))
    world.clock.advance(10)
    assert world.ask(issuer.jwt()) == 200
    file.write_text("half a fi")
    world.clock.advance(301)
    assert world.ask(issuer.jwt()) == 200
    world.background()
    assert world.ask(issuer.jwt()) == 200
    file.unlink()
    world.clock.advance(60)
    assert world.ask(issuer.jwt()) == 200
    assert sum(issuer.requests.values()) == 0


@pytest.mark.parametrize("text", ['{"keys": [{"kty": "RSA"}]}', '{"keys": [{}]}'])
def test_a_file_without_a_usable_key_is_told_at_once(make: Make, tmp_path: Path, text: str) -> None:
    """A mistake of the operator is a ConfigError when the server is made."""
    file = tmp_path / "keys.json"
    file.write_text(text)
    with pytest.raises(ConfigError, match="BEARER_JWKS_FILE"):
        make(jwks_file=str(file))
    with pytest.raises(ConfigError, match="BEARER_JWKS_BOOTSTRAP_FILE"):
        make(jwks_bootstrap_file=str(file))


def test_a_shared_secret_fetches_nothing(make: Make, issuer: Issuer) -> None:
    """``BEARER_HMAC_SECRET``: the issuer is compared, nobody is asked."""
    secret = secrets.token_hex(32)
    world = make(hmac_secret=secret)
    assert world.ask(issuer.jwt(algorithm="HS256", key=secret)) == 200
    assert world.ask(issuer.jwt(algorithm="HS512", key=secret, headers={"kid": "any"})) == 200
    assert world.ask(issuer.jwt(algorithm="HS256", key=secrets.token_hex(32))) == 401
    assert world.ask(issuer.jwt(algorithm="HS256", key=secret, iss="https://other.test")) == 401
    assert world.ask(issuer.jwt()) == 401
    assert sum(issuer.requests.values()) == 0


# -- the parts -----------------------------------------------------------------------------


def test_the_bucket() -> None:
    """Two at once, one in three seconds, never more than two saved, and time may jump back."""
    bucket = Bucket(2, 3.0)
    assert [bucket.take(100.0) for _ in range(3)] == [True, True, False]
    assert not bucket.take(102.9)
    assert bucket.take(103.1)
    assert [bucket.take(1000.0) for _ in range(3)] == [True, True, False]
    assert not bucket.take(5.0)
    assert bucket.take(8.1)


def test_the_backoff() -> None:
    """Doubles to thirty seconds and no further, however long it lasts; forgets on success."""
    backoff = Backoff()
    waits = []
    for _ in range(5000):
        backoff.failed(0.0)
        waits.append(backoff.until)
    assert waits[0] == 1.0
    assert all(1 <= wait <= 30 for wait in waits)
    assert min(waits[5:]) >= 15
    backoff.succeeded()
    assert backoff.until == 0
    backoff.failed(10.0)
    assert backoff.until == 11.0


def test_only_one_renewal_is_started(world: Any, issuer: Issuer) -> None:
    """Of many callers that find the set old in the same moment, one starts the work."""
    world.ask(issuer.jwt())
    world.clock.advance(301)
    flows = [world.server.authenticate([b"Bearer " + issuer.jwt().encode()]) for _ in range(10)]
    effects = []
    for flow in flows:
        try:
            effects.append(next(flow))
        except StopIteration:
            continue
    assert [type(effect) for effect in effects] == [Background]
    for flow in flows:
        flow.close()
