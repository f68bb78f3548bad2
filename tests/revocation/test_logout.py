"""Back-Channel Logout 1.0: who may log out whom, and what is no logout at all."""

from __future__ import annotations

import time
from typing import Any
from urllib.parse import urlencode

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bearer_middleware import ResourceServer, Settings
from bearer_middleware.errors import BearerError, Reason, Refused, RevocationError, Unavailable
from bearer_middleware.flow.drivers import run
from bearer_middleware.revocation.incoming import Busy, Rejected
from bearer_middleware.revocation.logout import LogoutReceiver
from bearer_middleware.testing import Issuer

EVENT = "http://schemas.openid.net/event/backchannel-logout"


class Place:
    """A resource server and its receiver, with a clock moved by hand."""

    def __init__(self, **settings: Any) -> None:
        self.issuer = Issuer()
        self.now = float(int(time.time()))
        self.server = ResourceServer(
            Settings(**self.issuer.settings(**settings)),
            transport=self.issuer.transport(),
            clock=lambda: self.now,
        )
        server = self.server
        self.receiver = LogoutReceiver(
            server.trusted.named, server._revoking, server._clock, server.settings.max_token_length
        )

    def token(self, headers: dict[str, Any] | None = None, **changes: Any) -> str:
        """A logout token of this issuer; ``None`` leaves a claim out."""
        claims = {
            "aud": self.server.settings.issuers[0].client_id,
            "iat": int(self.now),
            "exp": int(self.now) + 120,
            "jti": f"logout-{time.monotonic_ns()}",
            "events": {EVENT: {}},
            "sid": "s-1",
            "scope": None,
            "client_id": None,
            **changes,
        }
        return self.issuer.jwt(headers={"typ": "logout+jwt", **(headers or {})}, **claims)

    def receive(self, form: bytes | str) -> None:
        """Post a form, or a token in one."""
        if isinstance(form, str):
            form = urlencode({"logout_token": form}).encode()
        run(self.receiver.receive(form, self.now + 3), self.server.transport)

    def rejects(self, form: bytes | str) -> bool:
        """Was it turned down, and did nothing happen?"""
        try:
            self.receive(form)
        except Rejected:
            return len(self.server.revocations) == 0
        return False

    def admits(self, token: str) -> bool:
        """Is this access token let in?"""
        value = b"Bearer " + token.encode()
        try:
            known = self.server.identify(value)
            return bool(known or run(self.server.authenticate([value]), self.server.transport))
        except Refused as refusal:
            reason = refusal.reason
        assert reason is Reason.REVOKED
        return False


@pytest.fixture
def place() -> Place:
    """With one issuer."""
    return Place()


@pytest.mark.parametrize("kind", ["jwt", "opaque"])
def test_a_session_ends(place: Place, kind: str) -> None:
    """BCL-1: every token of it, cached or not, and no other."""
    mint = getattr(place.issuer, kind)
    mine, other = mint(sid="s-1"), mint(sid="s-2")
    assert place.admits(mine)
    place.receive(place.token())
    assert not place.admits(mine)
    assert not place.admits(mint(sid="s-1"))
    assert place.admits(other)


@pytest.mark.parametrize("kind", ["jwt", "opaque"])
def test_all_sessions_of_a_subject_end(place: Place, kind: str) -> None:
    """BCL-2: without a ``sid`` all that was issued up to the logout, and nothing later."""
    mint = getattr(place.issuer, kind)
    now = int(place.now)
    earlier, same, later = (mint(iat=now + seconds) for seconds in (-9, 0, 1))
    assert place.admits(earlier)
    place.receive(place.token(sid=None, sub="alice"))
    assert [place.admits(token) for token in (earlier, same, later)] == [False, False, True]
    assert place.admits(mint(sub="bob", iat=now - 9))


def test_a_session_is_meant_where_both_are_named(place: Place) -> None:
    """Another session of the same subject lives on."""
    place.receive(place.token(sub="alice"))
    assert not place.admits(place.issuer.jwt(sid="s-1"))
    assert place.admits(place.issuer.jwt(sid="s-2"))


@pytest.mark.parametrize("typ", ["JWT", "logout+jwt", "application/logout+jwt", None])
def test_types(place: Place, typ: str | None) -> None:
    """Most servers leave the explicit type out."""
    place.receive(place.token({"typ": typ}))
    assert len(place.server.revocations) == 1


@pytest.mark.parametrize(
    "changes",
    [
        {"nonce": "n"},
        {"aud": "another"},
        {"aud": None},
        {"aud": 7},
        {"iss": "https://other.example"},
        {"iss": None},
        {"iss": ["x"]},
        {"iat": None},
        {"iat": "now"},
        {"iat": True},
        {"iat": 10**400},
        {"iat": 1_000_000_000},
        {"iat": 4_000_000_000},
        {"exp": None},
        {"exp": 1_000_000_000},
        {"jti": None},
        {"jti": 5},
        {"events": None},
        {"events": {}},
        {"events": [EVENT]},
        {"events": {EVENT: True}},
        {"events": {"http://schemas.openid.net/event/another": {}}},
        {"sid": None, "sub": None},
        {"sid": 5},
        {"sid": ""},
        {"sid": None, "sub": ["alice"]},
    ],
    ids=str,
)
def test_what_is_no_logout(place: Place, changes: dict[str, Any]) -> None:
    """BCL-1: turned down, and nothing is revoked."""
    assert place.rejects(place.token(**changes))


def test_other_tokens_are_no_logout(place: Place) -> None:
    """Nor is one that another key signed, or none."""
    assert place.rejects(place.issuer.jwt())
    assert place.rejects(place.token({"typ": "at+jwt"}))
    assert place.rejects(place.token({"kid": "nobody's"}))
    assert place.rejects(place.token()[:-8] + "AAAAAAAA")
    assert place.rejects(place.token() + "=")
    assert place.rejects("opaque")
    assert place.rejects(Place().token(iss=place.issuer.url))
    claims = place.token().split(".")[1]
    assert place.rejects(f"eyJhbGciOiJub25lIn0.{claims}.")
    assert place.rejects("a" * 70_000)


@pytest.mark.parametrize(
    "form",
    [
        b"",
        b"logout_token=",
        b"logout_token=a&logout_token=b",
        b"token=a",
        b"\xff\xfe",
        b"{}",
        b"&" * 200,
        b"a=b&" * 200,
        b"logout_token=" + b"a" * 70_000,
    ],
)
def test_other_forms(place: Place, form: bytes) -> None:
    """Not even looked into."""
    assert place.rejects(form)


FUZZED = Place()


@given(st.binary(max_size=200) | st.binary(max_size=200).map(lambda data: b"logout_token=" + data))
def test_any_bytes_are_turned_down(form: bytes) -> None:
    """With an error of ours and no other."""
    FUZZED.now += 1  # so that it is not the flood that is turned down
    assert FUZZED.rejects(form)


def test_a_replay(place: Place) -> None:
    """BCL-1: a token counts once, but one that could not be carried out may come again."""
    token = place.token()
    place.server.alone.told = True
    with pytest.raises(RevocationError):
        place.receive(token)
    place.server.alone.told = False
    place.receive(token)
    with pytest.raises(Rejected, match="replay"):
        place.receive(token)


def test_without_keys(place: Place) -> None:
    """We cannot know: the server may try again."""
    place.issuer.fail("jwks", status=500)
    with pytest.raises(Unavailable):
        place.receive(place.token())
    assert len(place.server.revocations) == 0


def test_a_new_key_in_a_flood_of_unknown_ones(place: Place) -> None:
    """A logout whose key was not looked for is none that is wrong: it may come again."""
    place.receive(place.token())
    for number in range(2):
        with pytest.raises(Rejected):
            place.receive(place.token({"kid": f"unknown-{number}"}))
    place.issuer.rotate()
    token = place.token()
    with pytest.raises(Unavailable):
        place.receive(token)
    place.now += 3
    place.receive(token)


def test_a_flood(place: Place) -> None:
    """Only so much junk is looked at in a second; good ones take no place."""
    for _ in range(150):
        place.receive(place.token())
    outcomes = []
    for _ in range(200):
        try:
            place.receive(b"logout_token=x")
        except BearerError as error:
            outcomes.append(type(error))
    assert outcomes.count(Rejected) == 50
    assert outcomes.count(Busy) == 150
    place.now += 1
    place.receive(place.token())


def test_a_logout_token_opens_nothing(place: Place) -> None:
    """It is signed with the same keys, and is no access token."""
    for typ in ("JWT", "logout+jwt"):
        token = place.token({"typ": typ}, aud=place.issuer.audience)
        with pytest.raises(Refused) as refused:
            run(place.server.authenticate([b"Bearer " + token.encode()]), place.server.transport)
        assert refused.value.reason in {Reason.WRONG_TYPE, Reason.NOT_ACCESS_TOKEN}
