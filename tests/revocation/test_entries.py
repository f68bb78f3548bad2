"""Marks as they stand in a feed: sealed, and opened only if nobody altered them."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from typing import Any

import pytest

from bearer_middleware.flow.clock import Clock
from bearer_middleware.flow.events import Events
from bearer_middleware.revocation.entries import Entries
from bearer_middleware.revocation.marks import Kind, Mark, digest_of

NOW = 1_800_000_000.0
ISSUER = "https://as.example"
DENIED = Mark(Kind.TOKEN_ID, digest_of(Kind.TOKEN_ID, ISSUER, b"j"), NOW + 60)
CUTOFF = Mark(Kind.SUBJECT, digest_of(Kind.SUBJECT, ISSUER, b"alice"), NOW + 60, NOW - 1.5)

Make = Callable[..., Entries]


@pytest.fixture
def now() -> list[float]:
    """Seconds; both clocks."""
    return [NOW]


@pytest.fixture
def events() -> Events:
    """Nobody listens."""
    return Events()


@pytest.fixture
def make(now: list[float], events: Events) -> Make:
    """With the secret of a fleet, or another."""
    clock = Clock(lambda: now[0], lambda: now[0])
    return lambda secret="f" * 64: Entries(secret, 3600.0, clock, events)


@pytest.mark.parametrize("mark", [DENIED, CUTOFF])
@pytest.mark.parametrize("secret", ["f" * 64, None])
def test_round_trip(make: Make, mark: Mark, secret: str | None) -> None:
    """What is sealed is opened again, and always looks the same."""
    entries = make(secret)
    assert entries.opened([entries.sealed(mark)]) == [mark]
    assert entries.sealed(mark) == make(secret).sealed(mark)
    assert b"alice" not in entries.sealed(mark)


def _altered(entry: bytes, **members: Any) -> bytes:
    said = json.loads(entry) | members
    return json.dumps({name: value for name, value in said.items() if value is not None}).encode()


@pytest.mark.parametrize(
    "members",
    [
        {"kind": "client"},
        {"kind": "token_id"},
        {"digest": "0" * 32},
        {"before": NOW + 9},
        {"before": None},
        {"until": NOW + 3600},
        {"mac": "0" * 64},
        {"mac": None},
        {"mac": 7},
        {"mac": "\u00e9"},
    ],
    ids=str,
)
def test_what_was_altered_is_not_applied(make: Make, events: Events, members: Any) -> None:
    """Whoever can write the feed needs the secret to say anything."""
    entries = make()
    assert entries.opened([_altered(entries.sealed(CUTOFF), **members)]) == []
    assert events.counts["revocation_tampered"] == entries.rejected == 1


@pytest.mark.parametrize(
    "entry",
    [
        b"",
        b"\xff",
        b"[]",
        b"{}",
        b"{" * 10_000,
        b'{"kind":"subject"}',
        b'{"kind":[],"digest":"00","until":1e400}',
        b'{"kind":"token_id","digest":"zz","until":1}',
        b" " * 5_000 + b"{}",
    ],
    ids=repr,
)
@pytest.mark.parametrize("secret", ["f" * 64, None])
def test_garbage(make: Make, entry: bytes, secret: str | None) -> None:
    """Is not applied, and keeps nothing else from being."""
    entries = make(secret)
    assert entries.opened([entry, entries.sealed(DENIED)]) == [DENIED]
    assert entries.rejected == 1


def test_of_another_fleet(make: Make, caplog: pytest.LogCaptureFixture, now: list[float]) -> None:
    """Counted each time, and told of once a minute, in words of ours."""
    foreign, ours = make("o" * 64).sealed(DENIED), make()
    with caplog.at_level(logging.ERROR):
        for _ in range(3):
            assert ours.opened([foreign, foreign]) == []
        now[0] += 59
        ours.opened([foreign])
        assert len(caplog.records) == 1
        now[0] += 2
        ours.opened([foreign])
    assert len(caplog.records) == 2
    assert all(record.event == "revocation_tampered" for record in caplog.records)
    assert ours.rejected == 8


def test_what_is_past_is_left_out(make: Make, now: list[float]) -> None:
    """Nobody did wrong."""
    entries = make()
    sealed = entries.sealed(DENIED)
    now[0] += 60
    assert entries.opened([sealed]) == []
    assert entries.rejected == 0


class TestPlainWords:
    """A document that is trusted as it is may say whom it is about."""

    @pytest.mark.parametrize(
        ("said", "mark"),
        [
            ({"token_id": "j"}, DENIED),
            ({"subject": "alice", "before": NOW - 1.5}, CUTOFF),
        ],
    )
    def test_good(self, make: Make, said: dict[str, Any], mark: Mark) -> None:
        """As ``server.revoke`` would understand it; kept for its time from when it is read, and
        to the end of that hour, so that it is no news each time.
        """
        line = {"issuer": ISSUER, **said}
        (read,) = make(None).opened([json.dumps(line | {"until": mark.until}).encode()])
        assert read == mark
        (read,) = make(None).opened([json.dumps(line).encode()])
        assert NOW + 3600 <= read.until < NOW + 7200
        assert read.until % 3600 == 0

    @pytest.mark.parametrize(
        "said",
        [
            {"subject": "alice"},
            {"issuer": ISSUER},
            {"issuer": ISSUER, "subject": "alice"},
            {"issuer": ISSUER, "subject": "alice", "client": "b", "before": 1},
            {"issuer": ISSUER, "token_id": "j", "before": 1},
            {"issuer": ISSUER, "subject": "alice", "before": "now"},
            {"issuer": ISSUER, "token": "secret"},
            {"issuer": ISSUER, "token_id": "j", "more": 1},
        ],
        ids=str,
    )
    def test_bad(self, make: Make, said: dict[str, Any]) -> None:
        """Nothing is revoked by guess; a cutoff must not move with the time it is read."""
        entries = make(None)
        assert entries.opened([json.dumps(said).encode()]) == []
        assert entries.rejected == 1

    def test_never_beside_a_secret(self, make: Make) -> None:
        """There, everything is sealed."""
        line = json.dumps({"issuer": ISSUER, "token_id": "j"}).encode()
        assert make().opened([line]) == []
