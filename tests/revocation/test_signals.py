"""Shared Signals: which event tokens are believed, and what they revoke (RFC 8417, 8935, 9493)."""

from __future__ import annotations

import json
import time
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bearer_middleware import ResourceServer, Settings
from bearer_middleware.errors import BearerError, Reason, Refused, RevocationError, Unavailable
from bearer_middleware.flow.drivers import run
from bearer_middleware.revocation.incoming import Busy, Rejected
from bearer_middleware.revocation.subjects import Subjects
from bearer_middleware.testing import Issuer

MEDIA_TYPE = "application/secevent+jwt"
AUDIENCE = "https://api.example/signals"
EVENTS = "https://schemas.openid.net/secevent"
CAEP, RISC = f"{EVENTS}/caep/event-type", f"{EVENTS}/risc/event-type"
SESSION_REVOKED = f"{CAEP}/session-revoked"
CREDENTIAL_CHANGE = f"{CAEP}/credential-change"
VERIFICATION = f"{EVENTS}/ssf/event-type/verification"
SESSION = {"format": "opaque", "id": "s-2"}
ISSUER = "https://issuer.test"


class Place:
    """A resource server whose issuer transmits events, with a clock moved by hand."""

    def __init__(self, **settings: Any) -> None:
        self.issuer = Issuer()
        self.now = float(int(time.time()))
        keywords = {
            "signals_path": "/signals",
            "signals_issuer": self.issuer.url,
            "signals_audience": AUDIENCE,
            **settings,
        }
        self.server = ResourceServer(
            Settings(**self.issuer.settings(**keywords)),
            transport=self.issuer.transport(),
            clock=lambda: self.now,
        )

    @property
    def alice(self) -> dict[str, str]:
        """The subject of most tokens."""
        return {"format": "iss_sub", "iss": self.issuer.url, "sub": "alice"}

    def complex(self, **members: Any) -> dict[str, Any]:
        """A subject with these members beside the user; ``None`` leaves him out."""
        named = {"format": "complex", "user": self.alice, **members}
        return {name: value for name, value in named.items() if value is not None}

    @property
    def counts(self) -> dict[str, int]:
        """What was told."""
        return self.server.events.counts

    def token(self, events: Any = SESSION_REVOKED, sub_id: Any = "alice", **claims: Any) -> str:
        """An event token; ``None`` leaves a claim out."""
        usual = {"aud": AUDIENCE, "iat": int(self.now), "jti": f"set-{time.monotonic_ns()}"}
        sub_id = self.alice if sub_id == "alice" else sub_id
        return self.issuer.event_token(events, sub_id, **{**usual, **claims})

    def raw(self, **claims: Any) -> str:
        """An event token with anything in it, its events too."""
        usual = {
            **dict.fromkeys(("sub", "scope", "client_id", "exp")),
            "aud": AUDIENCE,
            "iat": int(self.now),
            "jti": "set-1",
            "sub_id": self.alice,
            "events": {SESSION_REVOKED: {}},
        }
        return self.issuer.jwt(headers={"typ": "secevent+jwt"}, **{**usual, **claims})

    def receive(self, token: str | bytes, media_type: str = MEDIA_TYPE) -> None:
        """Push a token."""
        body = token.encode() if isinstance(token, str) else token
        signals = self.server.receivers.signals
        assert signals is not None
        run(signals.receive(media_type, body, self.now + 3), self.server.transport)

    def code(self, token: str | bytes, media_type: str = MEDIA_TYPE) -> str | None:
        """The code with which a token was turned down; then nothing may have happened."""
        try:
            self.receive(token, media_type)
        except Rejected as rejected:
            assert len(self.server.revocations) == 0
            return rejected.code
        return None

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

    def revokes(self, events: Any, sub_id: Any = "alice", **access: Any) -> bool:
        """Does this event end a token with these claims that was issued before it?"""
        token = self.issuer.jwt(**{"iat": int(self.now) - 9, **access})
        assert self.admits(token)
        self.receive(self.token(events, sub_id))
        return not self.admits(token)


@pytest.fixture
def place() -> Place:
    """With one issuer."""
    return Place()


# -- what is believed ----------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["jwt", "opaque"])
def test_what_was_issued_up_to_then_is_revoked(place: Place, kind: str) -> None:
    """CAEP-1: cached or not, and what is issued later or to others is good (CAEP-2)."""
    mint = getattr(place.issuer, kind)
    now = int(place.now)
    earlier, same, later = (mint(iat=now + seconds) for seconds in (-9, 0, 1))
    assert place.admits(earlier)
    place.receive(place.token())
    assert [place.admits(token) for token in (earlier, same, later)] == [False, False, True]
    assert place.admits(mint(sub="bob", iat=now - 9))
    assert place.counts["signal_applied"] == 1


@pytest.mark.parametrize(
    ("happened", "cutoff"),
    [
        (-60, -60),
        (-60.5, -60.5),
        (0, 0),
        (60, 0),  # not after it was told
        (None, 0),
    ],
)
def test_the_time_of_the_event_counts(place: Place, happened: Any, cutoff: float) -> None:
    """CAEP-2: ``event_timestamp``; without one, ``iat``."""
    at = None if happened is None else place.now + happened
    event = {} if at is None else {"event_timestamp": at}
    old = place.issuer.jwt(iat=int(place.now + cutoff) - 1)
    new = place.issuer.jwt(iat=int(place.now + cutoff) + 1)
    place.receive(place.token({SESSION_REVOKED: event}))
    assert [place.admits(old), place.admits(new)] == [False, True]


@pytest.mark.parametrize("at", ["1615304991", True, [], -1, 0, 10**400, 1615304991000 * 1000])
def test_a_time_that_cannot_be(place: Place, at: Any) -> None:
    """Is that of the token: rather too much is revoked than nothing, or all to come."""
    assert place.revokes({SESSION_REVOKED: {"event_timestamp": at}})
    assert place.admits(place.issuer.jwt(iat=int(place.now) + 1))


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"iss": "https://other.example"}, "invalid_issuer"),
        ({"iss": "https://issuer.test/"}, "invalid_issuer"),
        ({"iss": None}, "invalid_issuer"),
        ({"iss": ["https://issuer.test"]}, "invalid_issuer"),
        ({"aud": "another"}, "invalid_audience"),
        ({"aud": ["another", AUDIENCE + "/"]}, "invalid_audience"),
        ({"aud": None}, "invalid_audience"),
        ({"aud": 7}, "invalid_request"),
        ({"sub": "alice"}, "invalid_request"),
        ({"exp": 4_000_000_000}, "invalid_request"),
        ({"iat": None}, "invalid_request"),
        ({"iat": "now"}, "invalid_request"),
        ({"iat": True}, "invalid_request"),
        ({"iat": 10**400}, "invalid_request"),
        ({"iat": 1_000_000_000}, "invalid_request"),
        ({"iat": 4_000_000_000}, "invalid_request"),
        ({"jti": None}, "invalid_request"),
        ({"jti": ""}, "invalid_request"),
        ({"jti": 5}, "invalid_request"),
        ({"events": None}, "invalid_request"),
        ({"events": {}}, "invalid_request"),
        ({"events": [SESSION_REVOKED]}, "invalid_request"),
        ({"events": SESSION_REVOKED}, "invalid_request"),
        ({"events": {SESSION_REVOKED: True}}, "invalid_request"),
        ({"events": {SESSION_REVOKED: {}, "urn:other": None}}, "invalid_request"),
    ],
    ids=str,
)
def test_what_is_no_event_for_us(place: Place, changes: dict[str, Any], code: str) -> None:
    """SSF-1, SSF-2: turned down with a code of RFC 8935 section 2.4, and nothing is revoked."""
    token = place.raw(**changes)
    assert place.code(token) == code
    assert place.issuer.requests["jwks"] == 0  # no key was looked for


@pytest.mark.parametrize("typ", [None, "JWT", "at+jwt", "logout+jwt", "secevent", 7])
def test_other_types(place: Place, typ: Any) -> None:
    """SSF-1: explicit typing is a must."""
    assert place.code(place.token(headers={"typ": typ})) == "invalid_request"


@pytest.mark.parametrize("typ", ["secevent+jwt", "application/secevent+jwt", "SecEvent+JWT"])
def test_spellings_of_the_type(place: Place, typ: str) -> None:
    """A media type is one in any case (RFC 8725 section 3.11)."""
    place.receive(place.token(headers={"typ": typ}), f"{MEDIA_TYPE.upper()}; charset=utf-8")
    assert len(place.server.revocations) == 1


def test_forgeries(place: Place) -> None:
    """Nothing is applied unless the signature verifies."""
    good = place.token()
    head, body, signature = good.split(".")
    assert place.code(good[:-8] + "AAAAAAAA") == "authentication_failed"
    assert place.code(f"{head}.{body}.") == "authentication_failed"
    assert place.code(f"{head}.{body}.{signature}=") == "invalid_request"
    other = place.token(sub_id={**place.alice, "sub": "bob"}).split(".")[1]
    assert place.code(f"{head}.{other}.{signature}") == "authentication_failed"
    assert place.code(Place().token(iss=place.issuer.url)) == "invalid_key"
    assert place.code(place.token(algorithm="none")) == "invalid_key"
    public = json.dumps(place.issuer.jwks["keys"][0])
    forged = place.token(algorithm="HS256", key=public, headers={"kid": place.issuer.kid})
    assert place.code(forged) == "invalid_key"
    assert place.code(place.issuer.jwt(aud=AUDIENCE)) == "invalid_request"
    place.receive(good)


def test_garbage(place: Place) -> None:
    """Oversized, encrypted, no JWT at all, of another media type."""
    good = place.token()
    assert place.code(good, "application/jwt") == "invalid_request"
    assert place.code(good, "") == "invalid_request"
    for body in (b"", b"{}", b"a.b.c", b"\xff\xfe\x00", b"a" * 70_000, b"opaque", b"." * 65_536):
        assert place.code(body) == "invalid_request"
    assert place.code(place.token(padding="x" * 70_000)) == "invalid_request"
    encrypted = "eyJhbGciOiJSU0EtT0FFUCIsImVuYyI6IkEyNTZHQ00ifQ.a.b.c.d"
    assert place.code(encrypted) == "invalid_key"
    place.receive(good + "\n")


FUZZED = Place()


@settings(deadline=None, database=None)
@given(st.binary(max_size=200) | st.text(max_size=60).map(lambda text: f"e30.{text}.".encode()))
def test_any_bytes_are_turned_down(body: bytes) -> None:
    """With an error of ours and no other."""
    FUZZED.now += 1  # so that it is not the flood that is turned down
    assert FUZZED.code(body) is not None


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                ["format", "iss", "sub", "id", "user", "session", "identifiers", "email"]
            ),
            inner | st.sampled_from(["complex", "aliases", "iss_sub", "opaque", "jwt_id"]),
            max_size=4,
        )
    ),
    max_leaves=12,
)


@settings(deadline=None, database=None)
@given(JSON)
def test_any_subject(sub_id: Any) -> None:
    """Is applied, ignored or turned down, and breaks nothing."""
    FUZZED.now += 1
    assert _outcome(FUZZED, FUZZED.token(SESSION_REVOKED, sub_id)) in {"done", "rejected"}


def test_a_token_that_waited(place: Place) -> None:
    """It may be as old as what it revokes: its transmitter tried until we were there again."""
    token = place.token()
    access = place.issuer.jwt(iat=int(place.now) - 1, exp=int(place.now) + 90_000_000)
    place.now += 86_400
    place.receive(token)
    assert not place.admits(access)
    place.now += 30 * 86_400 + 1
    with pytest.raises(Rejected, match="too old"):
        place.receive(place.token(iat=int(place.now) - 30 * 86_400 - 1))


def test_the_same_token_again(place: Place) -> None:
    """RFC 8935 section 2: acknowledged, since its transmitter knows of no answer; done once."""
    token = place.token()
    place.server.alone.told = True
    with pytest.raises(RevocationError):
        place.receive(token)
    place.server.alone.told = False
    for _ in range(3):
        place.receive(token)
    assert place.counts["revocation_applied"] == place.counts["signal_applied"] == 1
    # Another token of the same jti is the same one to us, but a forged one is not acknowledged.
    assert "rejected" in _outcome(place, token[:-8] + "AAAAAAAA")


def _outcome(place: Place, token: str) -> str:
    try:
        place.receive(token)
    except BearerError as error:
        return type(error).__name__.lower()
    return "done"


def test_without_keys(place: Place) -> None:
    """We cannot know: the transmitter may try again."""
    place.issuer.fail("jwks", status=500)
    token = place.token()
    with pytest.raises(Unavailable):
        place.receive(token)
    assert len(place.server.revocations) == 0
    place.issuer.recover()
    place.now += 60
    place.receive(token)
    assert len(place.server.revocations) == 1


def test_a_new_key_in_a_flood_of_unknown_ones(place: Place) -> None:
    """What was told to be wrong does not come again, so what was not looked for is 503."""
    place.receive(place.token(VERIFICATION))
    outcomes = [_outcome(place, place.token(headers={"kid": f"k{n}"})) for n in range(4)]
    assert outcomes == ["rejected", "rejected", "unavailable", "unavailable"]
    place.issuer.rotate()
    token = place.token()
    assert _outcome(place, token) == "unavailable"
    place.now += 3
    assert _outcome(place, token) == "done"


def test_a_flood(place: Place) -> None:
    """Only so much junk is looked at in a second; good tokens take no place."""
    for _ in range(150):
        place.receive(place.token(VERIFICATION))
    outcomes = [_outcome(place, "junk") for _ in range(300)]
    assert outcomes.count("rejected") == 100
    assert outcomes.count("busy") == 200
    with pytest.raises(Busy):
        place.receive(place.token())
    place.now += 1
    place.receive(place.token())


def test_replays_are_no_way_round_the_limit(place: Place) -> None:
    """Whoever overheard a token has no more of us than others."""
    token = place.token()
    outcomes = [_outcome(place, token) for _ in range(200)]
    assert outcomes.count("busy") > 90


def test_an_event_token_opens_nothing(place: Place) -> None:
    """SSF-1: it is signed with the same keys, and is no access token."""
    for typ in ("JWT", "secevent+jwt"):
        token = place.token(
            headers={"typ": typ}, aud=place.issuer.audience, exp=int(place.now) + 60, sub="alice"
        )
        with pytest.raises(Refused) as refused:
            run(place.server.authenticate([b"Bearer " + token.encode()]), place.server.transport)
        assert refused.value.reason in {Reason.WRONG_TYPE, Reason.NOT_ACCESS_TOKEN}


# -- what they mean ------------------------------------------------------------------------


@pytest.mark.parametrize(
    "event",
    [
        *(f"{CAEP}/{name}" for name in ("session-revoked", "credential-change")),
        *(f"{CAEP}/{name}" for name in ("token-claims-change", "assurance-level-change")),
        *(f"{RISC}/{name}" for name in ("account-disabled", "account-purged")),
        *(f"{RISC}/{name}" for name in ("sessions-revoked", "credential-compromise")),
        *(f"{RISC}/{name}" for name in ("identifier-changed", "identifier-recycled")),
        f"{RISC}/account-credential-change-required",
    ],
)
def test_events_that_revoke(place: Place, event: str) -> None:
    """CAEP-2: tokens of before carry what is not true any more; those of after are good."""
    assert place.revokes(event)
    assert place.admits(place.issuer.jwt(iat=int(place.now) + 1))


@pytest.mark.parametrize(
    "events",
    [
        f"{CAEP}/session-established",
        f"{CAEP}/risk-level-change",
        f"{RISC}/account-enabled",
        f"{RISC}/opt-out-effective",
        f"{RISC}/recovery-activated",
        f"{EVENTS}/ssf/event-type/stream-updated",
        "https://schemas.openid.net/secevent/caep/event-type/session-revoked/",
        "urn:unknown",
        {f"{CAEP}/assurance-level-change": {"change_direction": "increase"}},
        {f"{CAEP}/device-compliance-change": {"current_status": "compliant"}},
        {f"{CAEP}/device-compliance-change": {}},
    ],
    ids=str,
)
def test_events_that_revoke_nothing(place: Place, events: Any) -> None:
    """Are acknowledged, and counted."""
    assert not place.revokes(events)
    assert place.counts["signal_ignored"] == 1
    assert len(place.server.revocations) == 0


def test_what_got_worse(place: Place) -> None:
    """A level that fell, and a device that is not what it should be."""
    event = {"current_status": "not-compliant", "previous_status": "compliant"}
    fell = {f"{CAEP}/assurance-level-change": {"change_direction": "decrease"}}
    device = {"format": "opaque", "id": "d-1"}
    of_carol = {**place.alice, "sub": "carol"}
    assert place.revokes(fell)
    subject = {"format": "complex", "user": of_carol, "device": device}
    assert place.revokes({f"{CAEP}/device-compliance-change": event}, subject, sub="carol")


def test_the_stream_is_verified(place: Place) -> None:
    """SSF 1.0 section 8.1.4: acknowledged; its subject is the stream."""
    place.receive(place.token({VERIFICATION: {"state": "x"}}, {"format": "opaque", "id": "s"}))
    place.receive(place.token(VERIFICATION, None))
    assert place.counts["signals_verified"] == 2
    assert len(place.server.revocations) == 0


def test_several_events(place: Place) -> None:
    """One token may carry more than one; all of it is understood before any is applied."""
    events = {SESSION_REVOKED: {}, "urn:unknown": {}, CREDENTIAL_CHANGE: {}}
    assert place.code(place.token(events, {"format": "iss_sub"})) == "invalid_request"
    assert place.revokes(events)
    assert (place.counts["signal_applied"], place.counts["signal_ignored"]) == (2, 1)


# -- whom they mean ------------------------------------------------------------------------


def test_a_token_by_its_id(place: Place) -> None:
    """SSF-5: ``jwt_id`` is one token of one issuer."""
    named = {"format": "jwt_id", "iss": place.issuer.url, "jti": "j-1"}
    assert place.revokes(f"{CAEP}/token-claims-change", named, jti="j-1")
    assert place.admits(place.issuer.jwt(jti="j-2", iat=int(place.now) - 9))
    assert not place.revokes(SESSION_REVOKED, {**named, "iss": "https://x.example"}, jti="j-3")


def test_a_simple_opaque_subject(place: Place) -> None:
    """In an event about sessions it is a session, or the user; in others the user."""
    assert place.revokes(SESSION_REVOKED, {"format": "opaque", "id": "s-1"}, sid="s-1")
    assert place.revokes(SESSION_REVOKED, {"format": "opaque", "id": "u-1"}, sub="u-1")
    assert place.revokes(CREDENTIAL_CHANGE, {"format": "opaque", "id": "u-2"}, sub="u-2")
    assert not place.revokes(CREDENTIAL_CHANGE, {"format": "opaque", "id": "s-2"}, sid="s-2")


def test_an_address(place: Place) -> None:
    """CAEP-1: ``email`` is who has it as ``sub``."""
    address = {"format": "email", "email": "bob@example.com"}
    assert place.revokes(f"{RISC}/account-disabled", address, sub="bob@example.com")
    assert not place.revokes(SESSION_REVOKED, address, sub="bob", email="bob@example.com")


def test_aliases(place: Place) -> None:
    """RFC 9493 section 3.2.8: whichever of them we know."""
    aliases = {
        "format": "aliases",
        "identifiers": [
            {"format": "phone_number", "phone_number": "+1 206 555 0100"},
            {**place.alice, "iss": "https://other.example"},
            {"format": "opaque", "id": "bob"},
        ],
    }
    assert not place.revokes(SESSION_REVOKED, aliases)
    assert not place.admits(place.issuer.jwt(sub="bob", iat=int(place.now) - 9))


@pytest.mark.parametrize(
    "sub_id",
    [
        {"format": "phone_number", "phone_number": "+1 206 555 0100"},
        {"format": "account", "uri": "acct:alice@issuer.test"},
        {"format": "uri", "uri": "alice"},
        {"format": "catalog_item", "catalog_id": "1", "sub": "alice"},
        {"format": "iss_sub", "iss": "https://other.example", "sub": "alice"},
        {"format": "complex"},
        {"format": "complex", "tenant": {"format": "opaque", "id": "t"}},
        {"format": "complex", "user": {"format": "phone_number", "phone_number": "+1"}},
    ],
    ids=str,
)
def test_subjects_that_we_do_not_know(place: Place, sub_id: Any) -> None:
    """Acknowledged, not applied, and counted."""
    assert not place.revokes(SESSION_REVOKED, sub_id)
    assert place.counts["signal_ignored"] == 1
    assert len(place.server.revocations) == 0


@pytest.mark.parametrize(
    "sub_id",
    [
        None,
        "alice@example.com",
        [],
        {},
        {"sub": "alice"},
        {"format": 5},
        {"format": "iss_sub"},
        {"format": "iss_sub", "iss": "https://issuer.test"},
        {"format": "iss_sub", "iss": "https://issuer.test", "sub": ""},
        {"format": "iss_sub", "iss": "https://issuer.test", "sub": ["alice"]},
        {"format": "iss_sub", "iss": ["https://issuer.test"], "sub": "alice"},
        {"format": "opaque", "id": None},
        {"format": "email"},
        {"format": "jwt_id", "iss": "https://issuer.test"},
        {"format": "aliases"},
        {"format": "aliases", "identifiers": []},
        {"format": "aliases", "identifiers": [{"format": "opaque", "id": "a"}] * 101},
        {"format": "aliases", "identifiers": ["alice"]},
        {"format": "aliases", "identifiers": [{"format": "aliases", "identifiers": []}]},
        {"format": "complex", "user": "alice"},
        {"format": "complex", "session": {"id": "s"}},
    ],
    ids=str,
)
def test_subjects_that_are_none(place: Place, sub_id: Any) -> None:
    """What an event that revokes something is about must be well said."""
    assert place.code(place.token(SESSION_REVOKED, sub_id)) == "invalid_request"


def test_a_session_of_a_user(place: Place) -> None:
    """SSF-4: of an event about sessions the one that is named, of any other all the user's."""
    both = place.complex(session={"format": "opaque", "id": "s-1"})
    assert place.revokes(SESSION_REVOKED, both, sid="s-1")
    assert place.revokes(SESSION_REVOKED, place.complex(user=None, session=SESSION), sid="s-2")
    assert place.admits(place.issuer.jwt(sid="s-3", iat=int(place.now) - 9))
    assert place.revokes(CREDENTIAL_CHANGE, both, sid="s-3")


def test_a_session_named_otherwise(place: Place) -> None:
    """By an issuer with it, or by a token of it."""
    of_issuer = {"format": "iss_sub", "iss": place.issuer.url, "sub": "s-1"}
    of_token = {"format": "jwt_id", "iss": place.issuer.url, "jti": "j-1"}
    assert place.revokes(SESSION_REVOKED, place.complex(session=of_issuer), sid="s-1")
    assert place.revokes(SESSION_REVOKED, place.complex(user=None, session=of_token), jti="j-1")


def test_what_we_cannot_tell_apart(place: Place) -> None:
    """SSF-4: a device or an organisation that no token names narrows nothing down."""
    device, tenant = ({"format": "opaque", "id": name} for name in ("d-1", "t-1"))
    assert place.revokes(SESSION_REVOKED, place.complex(device=device, tenant=tenant))


@pytest.mark.parametrize("member", ["user", "session"])
def test_a_part_of_somebody_else(place: Place, member: str) -> None:
    """A session or a user of another issuer is none of ours, however the other is called."""
    strange = {"format": "iss_sub", "iss": "https://other.example", "sub": "s-2"}
    members = {"user": place.alice, "session": SESSION, member: strange}
    assert not place.revokes(SESSION_REVOKED, place.complex(**members), sid="s-2")


def test_an_issuer_beside_one_without_a_name() -> None:
    """Whom an event names by a configured issuer is that issuer's, and not the other's."""
    subjects = Subjects((ISSUER, None), "https://transmitter.test")
    alice = {"format": "iss_sub", "iss": ISSUER, "sub": "alice"}
    assert subjects.read(alice).names == (("subject", ISSUER, "alice"),)
    token = {"format": "jwt_id", "iss": ISSUER, "jti": "j-1"}
    assert subjects.read(token).names == (("token_id", ISSUER, "j-1"),)
    other = {"format": "iss_sub", "iss": "https://other.test", "sub": "bob"}
    assert subjects.read(other).names == (("subject", None, "bob"),)


def test_members_that_a_format_has_not(place: Place) -> None:
    """Whatever is in them, they are not looked at."""
    user = {"format": "phone_number", "phone_number": "+1", "iss": [place.issuer.url]}
    assert place.revokes(SESSION_REVOKED, place.complex(user=user, session=SESSION), sid="s-2")


def test_critical_members(place: Place) -> None:
    """SSF-3: discarded where a member that must be understood says nothing to us."""
    tenant = {"format": "opaque", "id": "t-1"}
    place.receive(place.token(VERIFICATION))  # so that the keys are known
    document = {**place.issuer.metadata, "critical_subject_members": ["tenant", "user", 5]}
    place.issuer.fail("metadata", body=json.dumps(document).encode())
    assert not place.revokes(SESSION_REVOKED, place.complex(tenant=tenant))
    assert place.counts["signal_ignored"] == 1
    unknown = {"format": "phone_number", "phone_number": "+1"}
    subject = place.complex(user=unknown, session=SESSION)
    assert not place.revokes(SESSION_REVOKED, subject, sid="s-2")
    assert place.revokes(SESSION_REVOKED, place.complex(device=tenant))


def test_whether_a_member_is_critical_cannot_be_known(place: Place) -> None:
    """Then it is tried again; who publishes no metadata of a transmitter has none."""
    token = place.token(SESSION_REVOKED, place.complex(tenant={"format": "opaque", "id": "t-1"}))
    place.receive(place.token(VERIFICATION))
    place.issuer.fail("metadata", status=503)
    with pytest.raises(Unavailable):
        place.receive(token)
    assert len(place.server.revocations) == 0
    place.now += 60
    place.issuer.fail("metadata", status=404)
    place.receive(token)
    assert len(place.server.revocations) == 1
    asked = place.issuer.requests["metadata"]
    place.receive(place.token(SESSION_REVOKED, place.complex(tenant=SESSION)))
    assert place.issuer.requests["metadata"] == asked


def test_complex_subjects_that_are_read_whole_ask_nobody(place: Place) -> None:
    """The metadata is needed for what is not understood alone."""
    place.receive(place.token(VERIFICATION))
    asked = place.issuer.requests["metadata"]
    place.receive(place.token(SESSION_REVOKED, place.complex(session=SESSION)))
    assert place.issuer.requests["metadata"] == asked
