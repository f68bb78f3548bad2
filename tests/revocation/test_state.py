"""The state of revocations: it forgets nothing that matters, and readers take no lock."""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bearer_middleware import Identity
from bearer_middleware.errors import InvalidToken, RevocationError
from bearer_middleware.flow.clock import Clock
from bearer_middleware.revocation import state as module
from bearer_middleware.revocation.marks import Kind, Mark, digest_of, token_digest
from bearer_middleware.revocation.state import Revocations

ISSUER = "https://as.example"


@pytest.fixture
def now() -> list[float]:
    """A clock moved by hand."""
    return [1000.0]


@pytest.fixture
def revocations(now: list[float]) -> Revocations:
    """Nothing is revoked yet."""
    return Revocations(Clock(lambda: now[0], lambda: now[0]))


def mark(kind: Kind, value: str, until: float = 9e9, before: float | None = None) -> Mark:
    """One of ``ISSUER``."""
    return Mark(kind, digest_of(kind, ISSUER, value.encode()), until, before)


def identity(**attributes: object) -> Identity:
    """Of a JWT issued at 900."""
    return Identity(**{"subject": "alice", "issuer": ISSUER, "issued_at": 900.0, **attributes})  # type: ignore[arg-type]


def dies(revocations: Revocations, who: Identity, token: bytes = b"a.b.c") -> bool:
    """Is this identity refused?"""
    if revocations.state is None:
        return False
    try:
        revocations.clear(revocations.state, b"", who, ISSUER, token)
    except InvalidToken:
        return True
    return False


def test_nothing_is_there_at_first(revocations: Revocations) -> None:
    """And nothing has to be looked up."""
    assert revocations.state is None
    revocations.apply([])
    assert revocations.state is None
    assert repr(revocations) == "<Revocations: 0>"


def test_names_do_not_run_into_each_other() -> None:
    """Whatever an issuer and a value are made of."""
    names = {
        digest_of(kind, issuer, value)
        for kind in Kind
        for issuer in (None, "a", "a b", "1 a")
        for value in (b"", b"a", b"b a", b"1 a")
    }
    assert len(names) == len(Kind) * 4 * 4
    assert token_digest(b"a.b.c", is_jwt=True) == token_digest(b"a.b.other", is_jwt=True)
    assert token_digest(b"a.b.c", is_jwt=False) != token_digest(b"a.b.other", is_jwt=False)


def test_a_cleared_token_is_held_against_what_comes_later(revocations: Revocations) -> None:
    """To be cleared lasts until the next mark."""
    revocations.apply([mark(Kind.SUBJECT, "bob", before=1000.0)])
    first = revocations.state
    assert first is not None
    revocations.clear(first, b"digest", identity(), ISSUER, b"a.b.c")
    assert b"digest" in first.cleared
    revocations.apply([mark(Kind.SUBJECT, "alice", before=1000.0)])
    second = revocations.state
    assert second is not None
    assert b"digest" not in second.cleared
    assert dies(revocations, identity())


def test_the_longer_and_the_later_count(revocations: Revocations, now: list[float]) -> None:
    """Two marks of one name are one that is at least as strict."""
    revocations.apply([mark(Kind.TOKEN_ID, "j", until=2000.0)])
    revocations.apply([mark(Kind.TOKEN_ID, "j", until=1500.0)])
    now[0] = 1999.0
    assert dies(revocations, identity(token_id="j"))
    now[0] = 2000.0
    assert not dies(revocations, identity(token_id="j"))


def test_it_is_bounded_and_drops_only_what_is_past(
    revocations: Revocations, now: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A revocation that does not fit is refused aloud, and nothing of it is taken."""
    monkeypatch.setattr(module, "MOST_MARKS", 30)
    revocations._tidy_at = 10
    revocations.apply(mark(Kind.TOKEN_ID, f"old {number}", until=1500.0) for number in range(20))
    now[0] = 1600.0
    revocations.apply(mark(Kind.TOKEN_ID, f"new {number}") for number in range(25))
    assert len(revocations) <= 30
    assert all(dies(revocations, identity(token_id=f"new {number}")) for number in range(25))
    with pytest.raises(RevocationError, match="30"):
        revocations.apply(mark(Kind.TOKEN_ID, f"much {number}") for number in range(10))
    assert not dies(revocations, identity(token_id="much 0"))
    assert dies(revocations, identity(token_id="new 0"))


@given(
    st.lists(
        st.tuples(
            st.sampled_from([Kind.SUBJECT, Kind.CLIENT, Kind.SESSION, Kind.TOKEN_ID]),
            st.sampled_from("ab"),
            st.integers(0, 20),
            st.integers(1, 40),
        ),
        max_size=12,
    ),
    st.integers(0, 25),
    st.integers(0, 45),
)
def test_a_revoked_token_never_passes(
    steps: list[tuple[Kind, str, int, int]], issued: int, later: int
) -> None:
    """Against the plain list of what was said."""
    time = [0.0]
    revocations = Revocations(Clock(lambda: time[0], lambda: time[0]))
    for kind, value, before, until in steps:
        cutoff = float(before) if kind.is_cutoff else None
        revocations.apply([mark(kind, value, float(until), cutoff)])
    time[0] = float(later)
    who = identity(
        subject="a", client_id="b", token_id="a", claims={"sid": "b"}, issued_at=float(issued)
    )
    own = {Kind.SUBJECT: "a", Kind.CLIENT: "b", Kind.SESSION: "b", Kind.TOKEN_ID: "a"}
    if any(
        own[kind] == value and later < until and (not kind.is_cutoff or issued <= before)
        for kind, value, before, until in steps
    ):
        assert dies(revocations, who)


@pytest.mark.parametrize(
    ("before", "issued", "is_dead"),
    [(100.0, 100.9, True), (100.9, 100.95, True), (100.5, 100, True), (100.9, 101, False)],
)
def test_the_same_second_is_before(
    revocations: Revocations, *, before: float, issued: float, is_dead: bool
) -> None:
    """However finely either of the two was told."""
    revocations.apply([mark(Kind.SUBJECT, "alice", before=before)])
    assert dies(revocations, identity(subject="alice", issued_at=issued)) is is_dead


@pytest.fixture
def quick_switches() -> Iterator[None]:
    """Threads change places as often as the interpreter can."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(before)


def test_no_thread_sees_a_token_after_it_was_revoked(
    revocations: Revocations, quick_switches: None
) -> None:
    """Readers clear all the time; what was revoked before they looked is never cleared."""
    gone: set[str] = set()
    wrong: list[str] = []
    done = threading.Event()

    def read() -> None:
        while not done.is_set():
            wrong.extend(name for name in list(gone) if not dies(revocations, named(name)))
            dies(revocations, named("good"))

    def named(name: str) -> Identity:
        return identity(token_id=name)

    readers = [threading.Thread(target=read) for _ in range(4)]
    for reader in readers:
        reader.start()
    for number in range(300):
        revocations.apply([mark(Kind.TOKEN_ID, f"j{number}")])
        gone.add(f"j{number}")
    done.set()
    for reader in readers:
        reader.join()
    assert wrong == []
