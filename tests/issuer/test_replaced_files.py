"""Secrets and keys that are replaced in their files: no restart, no lost cache, no lost request."""

from __future__ import annotations

import json
import secrets
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ed25519
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from bearer_middleware import ResourceServer, Settings
from bearer_middleware.errors import Reason, Refused
from bearer_middleware.flow.drivers import run
from bearer_middleware.testing import Issuer

Make = Callable[..., Any]


def pem(key: Any) -> bytes:
    """As a file has it."""
    return bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))


def counts(world: Any) -> dict[str, int]:
    """The events about files so far."""
    told = world.server.events.counts
    return {name: told[name] for name in ("file_renewed", "file_unusable") if told[name]}


# -- how we prove ourselves ----------------------------------------------------------------


@pytest.fixture
def secret_file(tmp_path: Path, issuer: Issuer) -> Path:
    """With the secret that the issuer knows."""
    file = tmp_path / "secret"
    file.write_text(f"{issuer.client_secret}\n")
    return file


@pytest.mark.parametrize(
    "method", ["client_secret_basic", "client_secret_post", "client_secret_jwt"]
)
def test_a_replaced_client_secret(
    make: Make, issuer: Issuer, secret_file: Path, method: str
) -> None:
    """It is sent from the next second on, and what is remembered stays."""
    world = make(client_auth=method, client_secret=None, client_secret_file=secret_file)
    known = issuer.opaque()
    assert world.ask(known) == 200
    issuer._clients.client_secret = secrets.token_hex(32)
    secret_file.write_text(issuer.client_secret or "")
    world.clock.advance(1)
    assert world.ask(issuer.opaque()) == 200
    assert issuer.requests["introspection"] == 2
    assert world.ask(known) == 200
    assert issuer.requests["introspection"] == 2
    assert counts(world) == {"file_renewed": 1}


def test_a_refused_secret_is_looked_at_at_once(
    make: Make, issuer: Issuer, secret_file: Path
) -> None:
    """Within the same second: the request that was refused is asked once more, and succeeds."""
    world = make(client_secret=None, client_secret_file=secret_file)
    assert world.ask(issuer.opaque()) == 200
    issuer._clients.client_secret = "another secret"
    secret_file.write_text("another secret")
    assert world.ask(issuer.opaque()) == 200
    assert issuer.requests["introspection"] == 3
    assert world.server.events.counts["misconfigured"] == 0


def test_a_refused_secret_that_did_not_change(
    make: Make, issuer: Issuer, secret_file: Path
) -> None:
    """Nobody is asked twice with the same secret: 503, and it mends itself with the file."""
    world = make(client_secret=None, client_secret_file=secret_file)
    issuer._clients.client_secret = "another secret"
    outcome = world.ask(issuer.opaque())
    assert (outcome.status, outcome.reason) == (503, Reason.MISCONFIGURED)
    assert issuer.requests["introspection"] == 1
    secret_file.write_text("another secret")
    assert world.ask(issuer.opaque()) == 200


def test_a_refusal_without_a_file(world: Any, issuer: Issuer) -> None:
    """There is nothing to look at."""
    issuer._clients.client_secret = "another secret"
    assert world.ask(issuer.opaque()) == 503
    assert issuer.requests["introspection"] == 1


@pytest.mark.parametrize("content", ["", "\n", None, b"\xff\xfe", "two\nlines"])
def test_an_unusable_secret_file(
    make: Make, issuer: Issuer, secret_file: Path, content: str | bytes | None
) -> None:
    """Empty for a moment, gone, or no text: the old secret serves, and that is told once."""
    world = make(client_secret=None, client_secret_file=secret_file)
    assert world.ask(issuer.opaque()) == 200
    if content is None:
        secret_file.unlink()
    else:
        secret_file.write_bytes(content if isinstance(content, bytes) else content.encode())
    for _ in range(3):
        world.clock.advance(1)
        assert world.ask(issuer.opaque()) == 200
    assert counts(world) == {"file_unusable": 1}


def test_a_secret_too_short_to_sign(make: Make, issuer: Issuer, secret_file: Path) -> None:
    """``client_secret_jwt`` needs 32 bytes: less is not taken over."""
    world = make(
        client_auth="client_secret_jwt", client_secret=None, client_secret_file=secret_file
    )
    assert world.ask(issuer.opaque()) == 200
    secret_file.write_text("short")
    world.clock.advance(1)
    assert world.ask(issuer.opaque()) == 200
    assert counts(world) == {"file_unusable": 1}


def test_a_replaced_private_key(make: Make, issuer: Issuer, tmp_path: Path) -> None:
    """The next assertion is signed with it; half a file is not taken over."""
    file = tmp_path / "key.pem"
    old, new = (ed25519.Ed25519PrivateKey.generate() for _ in range(2))
    file.write_bytes(pem(old))
    issuer.trust_client_key(old.public_key())
    world = make(client_auth="private_key_jwt", client_secret=None, client_key_file=str(file))
    assert world.ask(issuer.opaque()) == 200
    file.write_bytes(pem(new)[:40])
    world.clock.advance(1)
    assert world.ask(issuer.opaque()) == 200
    issuer._clients._keys.clear()
    issuer.trust_client_key(new.public_key())
    file.write_bytes(pem(new))
    assert world.ask(issuer.opaque()) == 200
    assert counts(world) == {"file_unusable": 1, "file_renewed": 1}


def test_a_private_key_that_is_gone_before_it_was_needed(
    make: Make, issuer: Issuer, tmp_path: Path
) -> None:
    """503, never 500; and it recovers."""
    file = tmp_path / "key.pem"
    key = ed25519.Ed25519PrivateKey.generate()
    file.write_bytes(pem(key))
    issuer.trust_client_key(key.public_key())
    world = make(client_auth="private_key_jwt", client_secret=None, client_key_file=str(file))
    file.unlink()
    outcome = world.ask(issuer.opaque())
    assert (outcome.status, outcome.reason) == (503, Reason.INTROSPECTION_UNAVAILABLE)
    file.write_bytes(pem(key))
    world.clock.advance(1)
    assert world.ask(issuer.opaque()) == 200


# -- keys ----------------------------------------------------------------------------------


def signed(issuer: Issuer, secret: str, algorithm: str = "HS256") -> str:
    """A token of a shared secret."""
    return issuer.jwt(algorithm=algorithm, key=secret)


@pytest.fixture
def shared(tmp_path: Path) -> tuple[Path, str, str]:
    """A file with a shared secret, that secret, and the one that will replace it."""
    old, new = secrets.token_hex(32), secrets.token_hex(32)
    file = tmp_path / "shared"
    file.write_text(old + "\n")
    return file, old, new


def test_a_replaced_shared_secret(
    make: Make, issuer: Issuer, shared: tuple[Path, str, str]
) -> None:
    """Tokens of the old one die within a second, remembered ones as well; those of the new live."""
    file, old, new = shared
    world = make(hmac_secret_file=file)
    remembered = signed(issuer, old)
    assert world.ask(remembered) == 200
    assert world.ask(remembered) == 200
    file.write_text(new)
    world.clock.advance(1)
    assert world.ask(remembered).reason is Reason.BAD_SIGNATURE
    assert world.ask(signed(issuer, old)) == 401
    assert world.ask(signed(issuer, new)) == 200
    assert world.ask(signed(issuer, new, "HS512")) == 200
    file.write_text(old)
    world.clock.advance(1)
    assert world.ask(remembered) == 200
    assert sum(issuer.requests.values()) == 0


@pytest.mark.parametrize("content", ["", "too short", None])
def test_an_unusable_shared_secret(
    make: Make, issuer: Issuer, shared: tuple[Path, str, str], content: str | None
) -> None:
    """The old one serves on, however long."""
    file, old, _ = shared
    world = make(hmac_secret_file=file)
    file.unlink() if content is None else file.write_text(content)
    for _ in range(3):
        world.clock.advance(1000)
        assert world.ask(signed(issuer, old)) == 200
    assert counts(world) == {"file_unusable": 1}


def test_a_shorter_shared_secret_serves_fewer_algorithms(
    make: Make, issuer: Issuer, shared: tuple[Path, str, str]
) -> None:
    """As far as it is long enough, as at the start."""
    file, _, new = shared
    world = make(hmac_secret_file=file)
    file.write_text(new[:40])
    world.clock.advance(1)
    assert world.ask(signed(issuer, new[:40])) == 200
    assert world.ask(issuer.jwt(algorithm="HS512", key=new[:40])) == 401


def test_hits_look_at_no_file(
    make: Make,
    issuer: Issuer,
    shared: tuple[Path, str, str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Between two looks a remembered token costs what it always costs."""
    file, old, _ = shared
    world = make(hmac_secret_file=file)
    token = signed(issuer, old)
    world.ask(token)
    looks: list[Any] = []
    path = "bearer_middleware.flow.watched._mark_of"
    monkeypatch.setattr(path, looks.append)
    value = b"Bearer " + token.encode()
    for _ in range(20):
        assert world.server.identify(value) is not None
    assert looks == []
    world.clock.advance(1)
    assert world.server.identify(value) is None
    assert looks == []


def test_a_replaced_key_set(make: Make, issuer: Issuer, tmp_path: Path) -> None:
    """``BEARER_JWKS_FILE``: a new key is found at once, an old one ends within a second."""
    file = tmp_path / "keys.json"
    old = issuer.jwt()
    file.write_text(json.dumps(issuer.jwks))
    world = make(jwks_file=str(file))
    assert world.ask(old) == 200
    issuer.rotate()
    file.write_text(json.dumps(issuer.jwks))
    assert world.ask(issuer.jwt()) == 200  # an unknown kid: nobody waits for the second
    assert world.ask(old) == 401
    assert counts(world) == {"file_renewed": 1}


def test_a_flood_of_unknown_kids_looks_seldom(
    make: Make, issuer: Issuer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Junk costs no look at the file, but for a burst of two."""
    file = tmp_path / "keys.json"
    issuer.jwt()
    file.write_text(json.dumps(issuer.jwks))
    world = make(jwks_file=str(file))
    world.ask(issuer.jwt())
    looks: list[Any] = []
    path = "bearer_middleware.flow.watched._mark_of"
    monkeypatch.setattr(path, looks.append)
    for _ in range(50):
        assert world.ask(issuer.jwt(headers={"kid": secrets.token_hex(8)})) == 401
    assert len(looks) <= 2


def test_a_key_set_that_is_gone_for_too_long(make: Make, issuer: Issuer, tmp_path: Path) -> None:
    """``BEARER_JWKS_MAX_STALE`` holds for files, too; then 503 until there is one again."""
    file = tmp_path / "keys.json"
    issuer.jwt()
    file.write_text(json.dumps(issuer.jwks))
    world = make(jwks_file=str(file), jwks_max_stale=3600)
    remembered = issuer.jwt()
    assert world.ask(remembered) == 200
    file.write_text('{"keys": []}')
    world.clock.advance(3599)
    assert world.ask(issuer.jwt()) == 200
    world.clock.advance(2)
    assert world.ask(remembered).reason is Reason.JWKS_UNAVAILABLE
    assert world.ask(issuer.jwt()) == 503
    file.write_text(json.dumps(issuer.jwks))
    world.clock.advance(1)
    assert world.ask(issuer.jwt()) == 200


# -- a bootstrap set -----------------------------------------------------------------------


@pytest.fixture
def bootstrap(tmp_path: Path, issuer: Issuer) -> Path:
    """A file with the keys of the issuer as they are before anything happens."""
    issuer.jwt()
    file = tmp_path / "bootstrap.json"
    file.write_text(json.dumps(issuer.jwks))
    return file


def test_a_bootstrap_set_serves_while_the_issuer_is_down(
    make: Make, issuer: Issuer, bootstrap: Path
) -> None:
    """However long; the fetch goes on in the background, with back-off; then it is over."""
    issuer.fail("metadata", status=503)
    world = make(jwks_bootstrap_file=bootstrap)
    token = issuer.jwt(exp=int(world.clock()) + 100_000)
    for _ in range(20):
        assert world.ask(token) == 200
    assert world.background() == 1
    assert world.ask(token) == 200
    for _ in range(30):  # an outage longer than BEARER_JWKS_MAX_STALE
        world.clock.advance(300)
        assert world.ask(token) == 200
        assert world.background() <= 1
    issuer.recover()
    world.clock.advance(31)
    assert world.ask(token) == 200
    world.background()
    assert issuer.requests["jwks"] == 1
    assert world.server.health().as_dict()["issuers"][0]["keys"]["from"] == "issuer"


def test_a_removed_key_ends_with_the_first_good_fetch(
    make: Make, issuer: Issuer, bootstrap: Path
) -> None:
    """Also where it is remembered; and no later outage brings it back."""
    old = issuer.jwt()
    issuer.rotate()
    world = make(jwks_bootstrap_file=bootstrap, jwks_max_stale=3600)
    assert world.ask(old) == 200
    world.background()
    assert world.ask(old) == 401
    assert world.ask(issuer.jwt()) == 200
    issuer.fail("jwks", status=503)
    world.clock.advance(3601)
    assert world.ask(old) == 503


def test_a_bad_first_fetch_leaves_the_bootstrap_set(
    make: Make, issuer: Issuer, bootstrap: Path
) -> None:
    """An empty set is no good fetch."""
    issuer.fail("jwks", body=b'{"keys": []}')
    world = make(jwks_bootstrap_file=bootstrap)
    assert world.ask(issuer.jwt()) == 200
    world.background()
    assert world.ask(issuer.jwt()) == 200


def test_an_unknown_key_beside_a_bootstrap_set(make: Make, issuer: Issuer, bootstrap: Path) -> None:
    """It is fetched at once; and while that cannot be, we do not know: 503, not 401."""
    issuer.rotate()
    issuer.fail("jwks", status=503)
    world = make(jwks_bootstrap_file=bootstrap)
    for _ in range(10):
        assert world.ask(issuer.jwt()) == 503
        assert world.ask(issuer.jwt(headers={"kid": secrets.token_hex(8)})) == 503
    assert issuer.requests["jwks"] == 1
    issuer.recover()
    world.clock.advance(31)
    assert world.ask(issuer.jwt()) == 200


def test_bootstrap_sets_belong_to_issuers(build: Any, clock: Any, tmp_path: Path) -> None:
    """A key of one issuer verifies nothing of another."""
    one, other = Issuer(url="https://one.test"), Issuer(url="https://other.test")
    tables = []
    for issuer, name in ((one, "one"), (other, "other")):
        token = issuer.jwt()
        assert token
        file = tmp_path / name
        file.write_text(json.dumps(issuer.jwks))
        issuer.fail("metadata", status=503)
        tables.append({"issuer": issuer.url, "audience": "api", "jwks_bootstrap_file": str(file)})
    world = build(one, other, clock=clock, issuers=tables)
    assert world.ask(one.jwt()) == 200
    assert world.ask(other.jwt()) == 200
    assert world.ask(other.jwt(iss=one.url)) != 200


def test_secrets_that_change_under_load(
    issuer: Issuer, shared: tuple[Path, str, str], tmp_path: Path
) -> None:
    """Threads ask while the file is swapped again and again: the token whose secret is in the
    file is served, or was right before or after the swap; nothing is ever 503.
    """
    file, *generations = shared
    server = ResourceServer(Settings(**issuer.settings(hmac_secret_file=file)))
    tokens = [b"Bearer " + signed(issuer, secret).encode() for secret in generations]
    statuses: list[set[int]] = [set(), set()]
    ended = threading.Event()

    def ask_often(number: int) -> None:
        while not ended.is_set():
            statuses[number].add(status_of(server, tokens[number]))
            server.trusted.servers[0].keys._file.due = 0.0  # type: ignore[attr-defined]
            server.trusted.servers[0].keys.settled_until = 0.0

    threads = [threading.Thread(target=ask_often, args=(number % 2,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for turn in range(101):
        new = tmp_path / "new"
        new.write_text(generations[turn % 2])
        new.replace(file)
        time.sleep(0.002)
    ended.set()
    for thread in threads:
        thread.join()
    assert statuses == [{200, 401}, {200, 401}]
    for _ in range(2):
        server.trusted.servers[0].keys.settled_until = 0.0
        server.trusted.servers[0].keys._file.due = 0.0  # type: ignore[attr-defined]
        assert [status_of(server, token) for token in tokens] == [200, 401]


def status_of(server: ResourceServer, value: bytes) -> int:
    """As the middlewares ask."""
    try:
        server.identify(value) or run(server.authenticate([value]), server.transport)
    except Refused as refusal:
        return refusal.status
    return 200


def test_no_event_quotes_a_file(make: Make, issuer: Issuer, secret_file: Path, caplog: Any) -> None:
    """What is in it may be a secret, also where it is unusable."""
    caplog.set_level("DEBUG")
    world = make(client_secret=None, client_secret_file=secret_file)
    world.ask(issuer.opaque())
    secret_file.write_text("canary\ncanary")
    world.clock.advance(1)
    world.ask(issuer.opaque())
    assert "file_unusable" in caplog.text
    assert "canary" not in caplog.text
    assert "canary" not in repr(world.server.trusted.servers[0].introspection._credentials)
