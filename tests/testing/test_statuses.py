"""The issuer's status lists, as a stranger reads them."""

from __future__ import annotations

import json
import zlib
from collections.abc import Callable
from typing import Any

import jwt
import pytest

from bearer_middleware.testing import Issuer
from bearer_middleware.testing.endpoints import Answer, Request

Ask = Callable[..., Answer]


def read(token: str, issuer: Issuer) -> dict[str, Any]:
    """Its claims, if the issuer signed them."""
    key = jwt.PyJWK(issuer.jwks["keys"][0])
    return dict(jwt.decode(token, key, algorithms=["RS256"]))


def test_a_list_is_published(issuer: Issuer, ask: Ask) -> None:
    """Signed, with the media type of its kind, and counted."""
    statuses = issuer.status_list(bits=2, size=12, ttl=43)
    for index, status in enumerate([1, 2, 0, 3, 0, 1, 0, 1, 1, 2, 3, 3]):
        statuses[index] = status
    answer = ask("GET", "/statuslists/1")
    assert answer.status == 200
    assert answer.headers["content-type"] == "application/statuslist+jwt"
    claims = read(answer.body.decode(), issuer)
    assert jwt.get_unverified_header(answer.body.decode())["typ"] == "statuslist+jwt"
    assert claims["sub"] == statuses.uri == "https://issuer.test/statuslists/1"
    assert claims["ttl"] == 43
    assert claims["status_list"] == {"bits": 2, "lst": "eNo76fITAAPfAgc"}
    assert issuer.requests["status_list"] == 1
    assert ask("POST", "/statuslists/1").status == 405
    assert ask("GET", "/statuslists/2").status == 404


def test_claims_refer_to_it(issuer: Issuer) -> None:
    """The next free index, or a given one."""
    statuses = issuer.status_list(size=2)
    entries = [statuses.claim()["status_list"] for _ in range(2)]
    assert [entry["idx"] for entry in entries] == [0, 1]
    assert {entry["uri"] for entry in entries} == {statuses.uri}
    with pytest.raises(ValueError, match="taken"):
        statuses.claim()
    assert statuses.claim(7)["status_list"]["idx"] == 7
    assert (len(statuses), statuses[0]) == (2, 0)


def test_what_does_not_fit_is_a_mistake(issuer: Issuer) -> None:
    """Of the test that wants it."""
    with pytest.raises(ValueError, match="bits"):
        issuer.status_list(bits=3)
    with pytest.raises(ValueError, match="no status of 1 bits"):
        issuer.status_list()[0] = 2


def test_claims_headers_and_key_can_be_wrong_on_purpose(issuer: Issuer) -> None:
    """``None`` leaves one out; another key signs in the issuer's name."""
    statuses = issuer.status_list()
    statuses.claims.update(sub="https://elsewhere", iat=None)
    statuses.headers["typ"] = None
    token = statuses.token()
    claims = read(token, issuer)
    assert claims["sub"] == "https://elsewhere"
    assert "iat" not in claims
    assert "typ" not in jwt.get_unverified_header(token)
    statuses.key = Issuer()._mint.signing_key().private
    with pytest.raises(jwt.InvalidSignatureError):
        read(statuses.token(), issuer)


def test_it_fails_on_demand_and_moves_with_its_issuer(issuer: Issuer) -> None:
    """As every endpoint; its address follows the issuer's."""
    statuses = issuer.status_list()
    issuer.fail("status_list", status=503, times=1)
    assert issuer.respond(Request("GET", "/statuslists/1"))[0].status == 503
    assert issuer.respond(Request("GET", "/statuslists/1"))[0].status == 200
    with issuer.serve():
        assert statuses.uri.startswith(f"{issuer.url}/statuslists/")
        claims = read(statuses.token(), issuer)
        assert claims["iss"] == issuer.url
    tenant = Issuer("https://issuer.test/tenant/")
    assert tenant.status_list().uri == "https://issuer.test/tenant/statuslists/1"
    assert tenant.respond(Request("GET", "/tenant/statuslists/1"))[0].status == 200
    lst = json.dumps(claims["status_list"]["lst"])
    assert zlib.decompress(jwt.utils.base64url_decode(lst.strip('"'))) == bytes(128)
