"""``BEARER_SIGNALS_PATH``: the receiver of Shared Signals push, in both worlds (RFC 8935)."""

from __future__ import annotations

import json
from typing import Any

import pytest

from bearer_middleware import ConfigError, ResourceServer, Settings
from bearer_middleware.testing import Issuer
from tests.web.test_logout import WORLDS, Reply

MEDIA_TYPE = "application/secevent+jwt"
SESSION_REVOKED = "https://schemas.openid.net/secevent/caep/event-type/session-revoked"
SETTINGS = {"signals_path": "/signals", "signals_audience": "us"}


@pytest.fixture
def issuer() -> Issuer:
    """In process."""
    return Issuer()


@pytest.fixture
def server(issuer: Issuer) -> ResourceServer:
    """One that takes signals."""
    settings = Settings(**issuer.settings(**SETTINGS, signals_issuer=issuer.url))
    return ResourceServer(settings, transport=issuer.transport())


@pytest.fixture(params=WORLDS)
def ask(request: pytest.FixtureRequest, server: ResourceServer) -> Any:
    """``ask(body)`` in each world."""

    def send(
        body: bytes | str = b"",
        method: str = "POST",
        media_type: str = MEDIA_TYPE,
        path: str = "/signals",
        bearer: str | None = None,
    ) -> Reply:
        body = body.encode() if isinstance(body, str) else body
        return WORLDS[request.param](server, method, body, media_type, path, bearer)

    return send


def token(issuer: Issuer, sub: str = "alice", **claims: Any) -> str:
    """An event token."""
    subject = {"format": "iss_sub", "iss": issuer.url, "sub": sub}
    return issuer.event_token(SESSION_REVOKED, subject, **{"aud": "us", **claims})


def test_a_session_ends(ask: Any, issuer: Issuer) -> None:
    """CAEP-1: 202 with nothing in it; the subject's tokens are refused from then on."""
    mine, other = issuer.jwt(), issuer.opaque(sub="bob")
    assert ask(method="GET", path="/", bearer=mine)[2] == b"application"
    pushed = token(issuer)
    for _ in range(2):  # what is sent again is acknowledged again
        status, headers, body = ask(pushed)
        assert (status, body, headers["cache-control"]) == (202, b"", "no-store")
    assert ask(method="GET", path="/", bearer=mine)[0] == 401
    assert ask(method="GET", path="/", bearer=other)[0] == 200


def test_what_is_no_event_token(ask: Any, issuer: Issuer, server: ResourceServer) -> None:
    """RFC 8935 section 2.3: 400, with a code and no word of what was sent."""
    good = token(issuer)
    for body, media_type, code in (
        (token(issuer, iss="https://c4n4ry.example"), MEDIA_TYPE, "invalid_issuer"),
        (token(issuer, aud="c4n4ry"), MEDIA_TYPE, "invalid_audience"),
        (token(issuer, exp=4_000_000_000), MEDIA_TYPE, "invalid_request"),
        (token(issuer, algorithm="none"), MEDIA_TYPE, "invalid_key"),
        (good[:-8] + "c4n4ryAA", MEDIA_TYPE, "authentication_failed"),
        (good, "application/json", "invalid_request"),
        (good, "", "invalid_request"),
        (b"", MEDIA_TYPE, "invalid_request"),
        (b"c4n4ry\xff\x00", MEDIA_TYPE, "invalid_request"),
        (b"c4n4ry" * 20_000, MEDIA_TYPE, "invalid_request"),
        (b"x" * 10_000_000, MEDIA_TYPE, "invalid_request"),
    ):
        status, headers, answer = ask(body, media_type=media_type)
        assert (status, headers["cache-control"]) == (400, "no-store")
        assert (headers["content-type"], headers["content-language"]) == ("application/json", "en")
        told = json.loads(answer)
        assert (told.keys(), told["err"]) == ({"err", "description"}, code)
        assert b"c4n4ry" not in answer
    assert len(server.revocations) == 0
    assert server.events.counts["signal_rejected"] == 11
    assert ask(good)[0] == 202


def test_it_may_be_tried_again(ask: Any, issuer: Issuer, server: ResourceServer) -> None:
    """503 with a time where the keys cannot be had."""
    issuer.fail("jwks", status=500)
    status, headers, _ = ask(token(issuer))
    assert (status, headers["cache-control"]) == (503, "no-store")
    assert int(headers["retry-after"]) >= 1
    assert len(server.revocations) == 0
    assert server.events.counts["signal_failed"] == 1


def test_several_workers(ask: Any, issuer: Issuer, server: ResourceServer) -> None:
    """A revocation in one of them would be none."""
    pushed = token(issuer)
    server.alone.told = True
    assert ask(pushed)[0] == 503
    server.alone.told = False
    assert ask(pushed)[0] == 202


def test_other_methods_and_paths(ask: Any, issuer: Issuer) -> None:
    """The application has nothing there, and everything elsewhere."""
    for method in ("GET", "HEAD", "PUT", "OPTIONS"):
        status, headers, _ = ask(method=method)
        assert (status, headers["allow"]) == (405, "POST")
    for path in ("/signals/", "/Signals", "/signals/x"):
        assert ask(token(issuer), path=path)[0] == 401


def test_an_event_token_opens_nothing(ask: Any, issuer: Issuer) -> None:
    """SSF-1: as a bearer token it is refused."""
    assert ask(method="GET", path="/", bearer=token(issuer, aud=issuer.audience))[0] == 401


def test_a_flood(ask: Any, issuer: Issuer, server: ResourceServer) -> None:
    """Some are looked at, the others get a time; tokens go on being served."""
    access = issuer.jwt()
    # Else places would come back while we ask.
    signals = server.receivers.signals
    assert signals is not None
    signals._turnstile._bucket._seconds = 3600.0
    statuses = [ask("junk")[0] for _ in range(130)]
    assert statuses == [400] * 100 + [503] * 30
    assert server.events.counts["signals_shed"] == 30
    assert int(ask(token(issuer))[1]["retry-after"]) >= 1
    assert ask(method="GET", path="/", bearer=access)[0] == 200


@pytest.mark.parametrize(
    ("changes", "wrong"),
    [
        ({"signals_issuer": None}, "BEARER_SIGNALS_ISSUER: is required"),
        ({"signals_audience": None}, "BEARER_SIGNALS_AUDIENCE: is required"),
        ({"signals_audience": ""}, "BEARER_SIGNALS_AUDIENCE"),
        ({"signals_issuer": "signals"}, "BEARER_SIGNALS_ISSUER"),
        ({"signals_issuer": "https://signals.test?x"}, "BEARER_SIGNALS_ISSUER"),
        ({"signals_issuer": "http://signals.test"}, "BEARER_SIGNALS_ISSUER: goes over http"),
        ({"signals_path": "signals"}, "BEARER_SIGNALS_PATH"),
        ({"signals_path": "/"}, "BEARER_SIGNALS_PATH"),
        ({"health_path": "/signals"}, "BEARER_HEALTH_PATH"),
        ({"logout_path": "/signals"}, "BEARER_LOGOUT_PATH"),
    ],
    ids=str,
)
def test_settings(issuer: Issuer, changes: dict[str, Any], wrong: str) -> None:
    """What it needs is said when it is built."""
    keywords = {**SETTINGS, "signals_issuer": issuer.url, **changes}
    with pytest.raises(ConfigError, match=wrong):
        Settings(**issuer.settings(**keywords))


def test_all_that_is_missing_is_told_at_once(issuer: Issuer) -> None:
    """Both names."""
    with pytest.raises(ConfigError) as wrong:
        Settings(**issuer.settings(signals_path="/signals"))
    assert len(wrong.value.mistakes) == 2


def test_http_to_another_machine_is_a_warning(issuer: Issuer) -> None:
    """Where it is allowed at all."""
    keywords = {**SETTINGS, "signals_issuer": "http://signals.test", "allow_insecure_http": True}
    with pytest.warns(UserWarning, match="BEARER_SIGNALS_ISSUER"):
        Settings(**issuer.settings(**keywords))


def test_absent_it_is_not_served(issuer: Issuer) -> None:
    """The path is the application's."""
    server = ResourceServer(Settings(**issuer.settings()), transport=issuer.transport())
    assert server.receivers.signals is None
    assert WORLDS["wsgi"](server, "POST", b"", MEDIA_TYPE, "/signals", None)[0] == 401
