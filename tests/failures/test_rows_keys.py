"""Section 4 of the promises, rows about keys and metadata: what fails, and what callers meet."""

from __future__ import annotations

import gzip
import json
import threading
import tracemalloc
from collections.abc import Callable
from typing import Any

import pytest

from bearer_middleware import ConfigError, Settings
from bearer_middleware.testing import Issuer
from tests.proxy import TOXICS

TTL, MAX_STALE = 300, 3600
ROUNDS = 8


def each_toxic(*, but: tuple[str, ...] = ()) -> pytest.MarkDecorator:
    """What may be done to a connection."""
    return pytest.mark.parametrize("toxic", [name for name in TOXICS if name not in but])


# -- IdP down at start-up ------------------------------------------------------------------


@each_toxic()
def test_idp_down_at_start_up(stage: Any, toxic: str) -> None:
    """503 until there are keys, not ready; then 200 without a restart."""
    TOXICS[toxic](stage.proxy)
    server = stage.serve()
    token = stage.jwt()
    assert [stage.ask(token) for _ in range(3)] == [503] * 3
    assert not server.health().ready
    stage.mend()
    assert stage.ask(token) == 200
    assert server.health().ready


def test_idp_down_at_start_up_with_a_bootstrap_set(stage: Any, tmp_path: Any) -> None:
    """Its tokens are served meanwhile."""
    file = tmp_path / "jwks.json"
    file.write_text(json.dumps(stage.issuer.jwks))
    stage.proxy.refuse()
    server = stage.serve(jwks_bootstrap_file=str(file))
    assert stage.ask(stage.jwt()) == 200
    assert server.health().ready


# -- JWKS slow, 500, reset -----------------------------------------------------------------


@each_toxic()
def test_jwks_slow_or_reset(stage: Any, toxic: str) -> None:
    """Known keys serve for as long as they may, one fetch at a time is under way, and after
    that it is 503, never 401.
    """
    tokens = [stage.jwt() for _ in range(3)]
    assert stage.ask(tokens[0]) == 200
    TOXICS[toxic](stage.proxy)
    for _ in range(ROUNDS):
        stage.clock.advance(MAX_STALE / ROUNDS - 1)
        assert stage.together([*tokens, stage.jwt()]) == [200] * 4
    stage.clock.advance(MAX_STALE / ROUNDS)
    assert stage.ask(stage.jwt()) == stage.ask(tokens[0]) == 503
    assert stage.asked("jwks") <= 2 + 2 * ROUNDS
    stage.mend()
    assert stage.ask(tokens[0]) == 200


@pytest.mark.parametrize("status", [204, 301, 304, 400, 401, 404, 429, 500, 502, 503, 504])
def test_jwks_500(stage: Any, status: int) -> None:
    """Any status but 200 is a failed fetch, and the keys that were good serve on."""
    token = stage.jwt()
    assert stage.ask(token) == 200
    stage.issuer.fail("jwks", status=status)
    stage.clock.advance(TTL - 1)
    assert stage.ask(token) == stage.ask(stage.jwt()) == 200
    stage.settle(lambda: stage.asked("jwks") >= 2)
    assert stage.ask(stage.jwt()) == 200


def test_jwks_hangs_and_one_fetch_is_under_way(stage: Any) -> None:
    """However many callers find the set old."""
    tokens = [stage.jwt() for _ in range(10)]
    assert stage.ask(tokens[0]) == 200
    stage.issuer.fail("jwks", delay=60)
    stage.clock.advance(TTL - 1)
    for _ in range(5):
        assert stage.together(tokens) == [200] * 10
    stage.settle(lambda: stage.asked("jwks") == 2)
    assert stage.together(tokens) == [200] * 10
    assert stage.asked("jwks") == 2


# -- JWKS garbage, HTML, empty, wrong types ------------------------------------------------

GARBAGE = {
    "nothing": b"",
    "garbage": b"\x80\xff\x00 garbage",
    "html": b"<!DOCTYPE html><title>Sign in</title>",
    "an empty set": b'{"keys": []}',
    "no keys": b'{"key": []}',
    "a list": b"[]",
    "text": b'"keys"',
    "keys of a wrong type": b'{"keys": {"kty": "RSA"}}',
    "keys that are none": b'{"keys": [null, 1, "x", [], {}, {"kty": 1}, {"kty": "RSA", "n": 1}]}',
    "twice the same member": b'{"keys": [], "keys": [{"kty": "oct", "k": "AAAA"}]}',
    "not a number": b'{"keys": [NaN]}',
    "utf-16": '{"keys": []}'.encode("utf-16"),
    "a byte order mark": b"\xef\xbb\xbf" + b'{"keys": []}',
}


@pytest.mark.parametrize("body", GARBAGE.values(), ids=GARBAGE)
def test_jwks_garbage(stage: Any, body: bytes) -> None:
    """Never replaces a good set; where there is none it is 503, and passes by itself."""
    stage.issuer.fail("jwks", body=body)
    assert stage.ask(stage.jwt()) == 503
    stage.mend()
    token = stage.jwt()
    assert stage.ask(token) == 200
    stage.issuer.fail("jwks", body=body)
    stage.clock.advance(TTL - 1)
    asked = stage.asked("jwks")
    assert stage.ask(token) == 200
    stage.settle(lambda: stage.asked("jwks") > asked)
    stage.breathe()
    assert stage.ask(token) == stage.ask(stage.jwt()) == 200


# -- JWKS huge, gzip bomb, deep JSON -------------------------------------------------------

MEGABYTE = 1_000_000
DEEP = b'{"keys": ' + b"[" * 100_000 + b"]" * 100_000 + b"}"
HUGE: dict[str, dict[str, Any]] = {
    "huge": {"huge": 50 * MEGABYTE},
    "gzip bomb": {
        "body": gzip.compress(b" " * 100 * MEGABYTE),
        "headers": {"content-encoding": "gzip"},
    },
    "deep JSON": {"body": DEEP},
    "a hundred and one keys": {"body": json.dumps({"keys": [{"kty": "RSA"}] * 101}).encode()},
    "a number of 200,000 digits": {"body": b'{"keys": ' + b"9" * 200_000 + b"}"},
}


@pytest.mark.alone
@pytest.mark.parametrize("endpoint", ["jwks", "metadata"])
@pytest.mark.parametrize("fault", HUGE.values(), ids=HUGE)
def test_jwks_huge(stage: Any, fault: dict[str, Any], endpoint: str) -> None:
    """Cut off, not unpacked, not followed into the depth: 503, and little memory for it."""
    stage.serve(http_timeout=5)
    stage.issuer.opaque()
    stage.ask("x")  # whatever is imported at first use
    stage.serve(http_timeout=5)
    stage.issuer.fail(endpoint, **fault)  # its body is there before memory is counted
    tracemalloc.start()
    try:
        assert stage.ask(stage.jwt()) == 503
        assert tracemalloc.get_traced_memory()[1] < 10 * MEGABYTE
    finally:
        tracemalloc.stop()
    stage.mend()
    assert stage.ask(stage.jwt()) == 200


# -- JWKS drip -----------------------------------------------------------------------------


@pytest.mark.parametrize("endpoint", ["jwks", "metadata"])
@pytest.mark.parametrize("fault", [{"drip": 0.1}, {"drip": 0.1, "drip_headers": True}], ids=str)
def test_jwks_drip(stage: Any, fault: dict[str, Any], endpoint: str) -> None:
    """Ends with the time of the request: the whole of it would take longer than this test may."""
    stage.issuer.fail(endpoint, **fault)
    assert stage.ask(stage.jwt()) == 503
    stage.mend()
    assert stage.ask(stage.jwt()) == 200


# -- JWKS redirect, other host, SSRF -------------------------------------------------------


def test_jwks_redirect(stage: Any) -> None:
    """Nobody tells us where to fetch: neither an answer nor a token does."""
    with Issuer().serve() as trap:
        for endpoint in ("jwks", "metadata"):
            location = {"location": f"{trap.url}/jwks"}
            stage.issuer.fail(endpoint, status=302, headers=location)
            stage.serve()
            assert stage.ask(stage.jwt()) == 503
            stage.issuer.recover()
        stage.serve()
        names = {"jku": f"{trap.url}/jwks", "x5u": trap.url, "jwk": trap.jwks["keys"][0]}
        forged = trap.jwt(iss=stage.issuer.url, headers={**names, "kid": stage.issuer.kid})
        assert stage.ask(forged) == 401
        assert stage.ask(trap.jwt()) == 401
        assert sum(trap.requests.values()) == 0


def test_jwks_of_another_host(stage: Any) -> None:
    """Metadata of another issuer is not used, nor an address that is not https."""
    strange = {**stage.issuer.metadata, "issuer": "https://issuer.example"}
    stage.issuer.fail("metadata", body=json.dumps(strange).encode())
    assert stage.ask(stage.jwt()) == 503
    assert stage.asked("jwks") == 0
    with pytest.raises(ConfigError, match="BEARER_ISSUER"):
        Settings(issuer="http://issuer.example", audience="api")
    for url in ("http://keys.example/jwks", "file:///etc/passwd", "ftp://keys.example/"):
        with pytest.raises(ConfigError, match="BEARER_JWKS_URL"):
            Settings(issuer="https://issuer.example", audience="api", jwks_url=url)


# -- kty oct, private keys, use enc, wrong key_ops, weak RSA, duplicate kids ---------------


def test_unusable_keys_are_dropped(stage: Any) -> None:
    """The rest serves; nothing is verified with what is no public signing key."""
    good = stage.issuer.jwks["keys"][0]
    secret = "s" * 64
    unusable = [
        {"kty": "oct", "kid": "oct", "k": "c3NzcyI" * 12, "alg": "HS256"},
        {**good, "kid": "enc", "use": "enc"},
        {**good, "kid": "ops", "key_ops": ["encrypt"]},
        {**good, "kid": "private", "d": "AQAB"},
        {**good, "kid": "weak", "n": "AQAB" * 30},
    ]
    body = json.dumps({"keys": [*unusable, good]}).encode()
    stage.issuer.fail("jwks", body=body)
    assert stage.ask(stage.jwt()) == 200
    for kid in ("enc", "ops", "private", "weak"):
        assert stage.ask(stage.jwt(headers={"kid": kid})) == 401
    forged = stage.jwt(headers={"kid": "oct"}, algorithm="HS256", key=secret)
    assert stage.ask(forged) == 401


# -- key rotated ---------------------------------------------------------------------------


def test_key_rotated(stage: Any) -> None:
    """The new one is found in the same request; with that, or its TTL, the old one is gone."""
    old = stage.jwt()
    assert stage.ask(old) == 200
    stage.issuer.rotate()
    assert stage.ask(stage.jwt()) == 200
    assert stage.ask(old) == 401
    old = stage.jwt()
    assert stage.ask(old) == 200
    stage.issuer.rotate()
    stage.clock.advance(TTL)
    asked = stage.asked("jwks")
    stage.ask(old)
    stage.settle(lambda: stage.asked("jwks") > asked)
    stage.settle(lambda: stage.ask(old) == 401)


# -- unknown-kid flood ---------------------------------------------------------------------


@pytest.mark.parametrize("up", [True, False], ids=["up", "down"])
def test_unknown_kid_flood(stage: Any, up: bool) -> None:
    """Two fetches, then one in three seconds; 401 for the junk, and known keys never wait."""
    known = stage.jwt()
    assert stage.ask(known) == 200
    if not up:
        stage.proxy.refuse()
    strange = [Issuer(stage.issuer.url) for _ in range(3)]
    junk = [each.jwt(headers={"kid": f"k{n}"}) for n in range(20) for each in strange]
    assert [stage.ask(token) for token in junk] == [401] * 60
    assert stage.ask(known) == stage.ask(stage.jwt()) == 200
    assert stage.asked("jwks") <= 3
    stage.clock.advance(3)
    assert [stage.ask(token) for token in junk[:20]] == [401] * 20
    assert stage.asked("jwks") <= 4


def test_unknown_kid_while_the_fetch_hangs(stage: Any) -> None:
    """Whoever has a known key does not wait for it."""
    known = [stage.jwt() for _ in range(5)]
    assert stage.ask(known[0]) == 200
    stage.serve(http_timeout=5)
    assert stage.ask(known[0]) == 200
    stage.issuer.fail("jwks", delay=1.5)
    junk = Issuer(stage.issuer.url).jwt(headers={"kid": "new"})
    assert stage.meanwhile(junk, known) == (401, [200] * 5)


# -- TLS, DNS ------------------------------------------------------------------------------


@pytest.mark.filterwarnings("ignore:BEARER_:UserWarning")
def test_slow_dns(stage: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """A resolver that hangs is bounded by the time of the request, too."""
    import socket

    resolve, gate = socket.getaddrinfo, threading.Event()

    def slow(host: Any, *arguments: Any, **options: Any) -> Any:
        if host in ("issuer.localhost", b"issuer.localhost"):
            gate.wait(30)
            raise socket.gaierror(socket.EAI_NONAME, "unknown")
        return resolve(host, *arguments, **options)

    monkeypatch.setattr(socket, "getaddrinfo", slow)
    url = f"http://issuer.localhost:{stage.proxy.port}"
    try:
        stage.serve(jwks_url=f"{url}/jwks", introspection_url=f"{url}/introspect")
        assert stage.ask(stage.jwt()) == stage.ask(stage.opaque()) == 503
    finally:
        gate.set()
    assert stage.asked("jwks") == stage.asked() == 0


def test_tls_failure(stage: Any) -> None:
    """Who speaks no TLS, or is vouched for by nobody, has not answered: 503."""
    url = f"https://127.0.0.1:{stage.proxy.port}"
    stage.serve(jwks_url=f"{url}/jwks", introspection_url=f"{url}/introspect")
    assert stage.ask(stage.jwt()) == stage.ask(stage.opaque()) == 503
    assert stage.asked("jwks") == stage.asked() == 0


@pytest.mark.parametrize("endpoint", ["jwks", "metadata", "introspection"])
@pytest.mark.parametrize("length", ["5", "100000", "-1", "x", None])
def test_wrong_content_length(stage: Any, endpoint: str, length: str | None) -> None:
    """Too short or too long is half an answer, and none; where it is left out, the end of the
    connection says it.
    """
    stage.issuer.fail(endpoint, headers={"content-length": length})
    token = stage.opaque() if endpoint == "introspection" else stage.jwt()
    expected: Callable[[int], bool] = (200).__eq__ if length is None else (503).__eq__
    assert expected(stage.ask(token))
    stage.mend()
    if length == "5":  # what was too much may still be on its way, in place of the next answer
        assert stage.ask(token) in (200, 503)
        stage.mend()
    assert stage.ask(token) == 200


@pytest.mark.parametrize("kind", ["jwt", "opaque"])
@each_toxic(but=("not accepted",))  # who is connected does not notice
def test_half_open(stage: Any, toxic: str, kind: str) -> None:
    """A connection that was kept and died meanwhile: 503 at worst, and no trace of it later."""
    stage.ask(stage.jwt())
    stage.ask(stage.opaque())
    TOXICS[toxic](stage.proxy)
    stage.issuer.rotate()
    stage.clock.advance(3)
    token = getattr(stage, kind)()
    # A known set of keys that cannot be renewed now says 401 to a stranger's kid.
    assert stage.ask(token) in (401, 503) if kind == "jwt" else stage.ask(token) == 503
    stage.mend()
    assert stage.ask(token) == 200
