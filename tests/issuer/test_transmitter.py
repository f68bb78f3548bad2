"""A transmitter that is none of our issuers: its keys, and for whom it speaks."""

from __future__ import annotations

import json
import time
from typing import Any

import httpx2 as httpx
import pytest

from bearer_middleware import ResourceServer, Settings
from bearer_middleware.errors import Refused, Unavailable
from bearer_middleware.flow.drivers import run
from bearer_middleware.issuer.transmitter import configuration_urls
from bearer_middleware.revocation.incoming import Rejected
from bearer_middleware.testing import Issuer

MEDIA_TYPE = "application/secevent+jwt"
SESSION_REVOKED = "https://schemas.openid.net/secevent/caep/event-type/session-revoked"
SENDER = "https://signals.test"


class Switch(httpx.BaseTransport):
    """To whoever has the host; notes where it was sent."""

    def __init__(self, *issuers: Issuer) -> None:
        self.inner = {httpx.URL(issuer.url).host: issuer.transport() for issuer in issuers}
        self.paths: list[str] = []

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        self.paths.append(request.url.path)
        return self.inner[request.url.host].handle_request(request)


class Street:
    """An API with one issuer or two, and a transmitter that is neither."""

    def __init__(
        self, *issuers: Issuer, url: str = "https://signals.test", **settings: Any
    ) -> None:
        self.issuers = issuers or (Issuer(),)
        self.sender = Issuer(url)
        self.now = float(int(time.time()))
        self.switch = Switch(*self.issuers, self.sender)
        if len(self.issuers) == 1:
            settings = self.issuers[0].settings(**settings)
        else:
            tables = [issuer.settings(token_prefix=issuer.url[8:11]) for issuer in self.issuers]
            settings = {"issuers": tables, **settings}
        self.server = ResourceServer(
            Settings(
                **{
                    "signals_path": "/signals",
                    "signals_issuer": url,
                    "signals_audience": "us",
                    **settings,
                }
            ),
            transport=self.switch,
            clock=lambda: self.now,
        )

    def token(self, sub_id: Any = None, sender: Issuer | None = None, **claims: Any) -> str:
        """An event token about alice of the first issuer."""
        alice = {"format": "iss_sub", "iss": self.issuers[0].url, "sub": "alice"}
        usual = {"aud": "us", "iat": int(self.now)}
        sender = sender or self.sender
        return sender.event_token(SESSION_REVOKED, sub_id or alice, **{**usual, **claims})

    def receive(self, token: str) -> None:
        signals = self.server.receivers.signals
        assert signals is not None
        run(signals.receive(MEDIA_TYPE, token.encode(), self.now + 3), self.server.transport)

    def revoked(self, token: str) -> bool:
        """Is this access token refused?"""
        try:
            flow = self.server.authenticate([b"Bearer " + token.encode()])
            return run(flow, self.server.transport) is None
        except Refused:
            return True

    def alice(self, issuer: Issuer) -> str:
        """A token of hers."""
        return issuer.jwt(iat=int(self.now) - 9)


@pytest.fixture
def street() -> Street:
    """With one issuer."""
    return Street()


def test_its_own_keys(street: Street) -> None:
    """Found by SSF discovery, and used for event tokens alone."""
    token = street.alice(street.issuers[0])
    street.receive(street.token())
    assert street.switch.paths[:2] == ["/.well-known/ssf-configuration", "/jwks"]
    assert street.revoked(token)
    asked = len(street.switch.paths)
    street.receive(street.token())
    assert len(street.switch.paths) == asked  # they are known now
    assert street.revoked(street.sender.jwt(iss=street.issuers[0].url, sub="bob"))


def test_the_keys_of_an_issuer_are_not_its_own(street: Street) -> None:
    """Nor may it sign with an algorithm of shared secrets."""
    issuer = street.issuers[0]
    with pytest.raises(Rejected) as wrong:
        street.receive(street.token(sender=issuer, iss=street.sender.url))
    assert wrong.value.code == "invalid_key"
    secret = "s" * 64
    alone = Street(hmac_secret=secret, client_id=None, client_secret=None)
    forged = alone.sender.event_token(
        SESSION_REVOKED, algorithm="HS256", key=secret, aud="us", iat=int(alone.now)
    )
    with pytest.raises(Rejected) as wrong:
        alone.receive(forged)
    assert wrong.value.code == "invalid_key"
    alone.receive(alone.token())
    assert len(alone.server.revocations) == 1


def test_a_rotated_key(street: Street) -> None:
    """Is found with the first token that it signed."""
    street.receive(street.token())
    street.sender.rotate()
    street.receive(street.token())
    assert street.sender.requests["jwks"] == 2


def test_where_the_metadata_is() -> None:
    """SSF 1.0 section 7.2: inserted before the path; RISC had its own place."""
    assert configuration_urls("https://tr.example.com/issuer1/") == (
        "https://tr.example.com/.well-known/ssf-configuration/issuer1",
        "https://tr.example.com/.well-known/risc-configuration/issuer1",
    )
    street = Street(url="https://signals.test/tenants/7")
    street.receive(street.token())
    assert street.switch.paths[0] == "/.well-known/ssf-configuration/tenants/7"


@pytest.mark.parametrize(
    "document",
    [
        {"issuer": "https://signals.test/", "jwks_uri": "https://signals.test/jwks"},
        {"issuer": "https://signals.test"},
        {"issuer": "https://signals.test", "jwks_uri": "http://signals.test/jwks"},
        [],
    ],
    ids=str,
)
def test_metadata_that_will_not_do(street: Street, document: Any) -> None:
    """SSF 1.0 section 7.2.4: must not be used, so there are no keys: it may try again."""
    street.sender.fail("metadata", body=json.dumps(document).encode())
    with pytest.raises(Unavailable):
        street.receive(street.token())
    assert len(street.server.revocations) == 0
    assert street.sender.requests["jwks"] == 0


def test_a_transmitter_that_is_down_is_spared(street: Street) -> None:
    """A hundred tokens do not ask a hundred times."""
    street.sender.fail("all", status=500)
    for _ in range(100):
        with pytest.raises(Unavailable):
            street.receive(street.token())
    assert street.sender.requests.total() <= 4
    street.sender.recover()
    street.now += 60
    street.receive(street.token())


def test_known_keys_ride_out_an_outage(street: Street) -> None:
    """As those of issuers do."""
    street.receive(street.token())
    street.sender.fail("all", drop=True)
    street.now += 1000
    street.receive(street.token())
    assert len(street.server.revocations) == 1


def test_health(street: Street) -> None:
    """Before the first event nothing is wrong; keys that fail make it degraded, not unready."""
    assert street.server.health().parts["signals"] == {
        "status": "ok",
        "keys": 0,
        "age_seconds": None,
    }
    street.sender.fail("jwks", status=500)
    with pytest.raises(Unavailable):
        street.receive(street.token())
    assert street.server.health().parts["signals"]["status"] == "degraded"
    street.sender.recover()
    street.now += 60
    street.receive(street.token())
    street.now += 5
    assert street.server.health().parts["signals"] == {
        "status": "ok",
        "keys": 1,
        "age_seconds": 5.0,
    }
    issuer = street.issuers[0]
    shared = Street(issuer, signals_issuer=issuer.url)
    assert "signals" not in shared.server.health().parts


def test_for_whom_it_speaks() -> None:
    """A transmitter of its own for every issuer; what names none is then nobody's."""
    one, two = Issuer("https://one.test"), Issuer("https://two.test")
    street = Street(one, two)
    tokens = [street.alice(issuer) for issuer in (one, two)]
    street.receive(street.token({"format": "opaque", "id": "alice"}))
    assert [street.revoked(token) for token in tokens] == [False, False]
    street.receive(street.token({"format": "iss_sub", "iss": two.url, "sub": "alice"}))
    assert [street.revoked(token) for token in tokens] == [False, True]


def test_an_issuer_speaks_for_itself() -> None:
    """Not for another one, whose users it could else throw out."""
    one, two = Issuer("https://one.test"), Issuer("https://two.test")
    street = Street(one, two, signals_issuer=two.url)
    tokens = [street.alice(issuer) for issuer in (one, two)]
    street.receive(street.token(sender=two))
    assert [street.revoked(token) for token in tokens] == [False, False]
    street.receive(street.token({"format": "opaque", "id": "alice"}, sender=two))
    assert [street.revoked(token) for token in tokens] == [False, True]


def test_a_server_that_is_only_asked() -> None:
    """It has no name here, so whatever issuer is named is it."""
    issuer = Issuer()
    keywords = issuer.settings(issuer=None, introspection_url=f"{issuer.url}/introspect")
    street = Street(issuer, **keywords)
    token = issuer.opaque(iat=int(street.now) - 9)
    assert not street.revoked(token)
    street.receive(street.token())
    assert street.revoked(token)
