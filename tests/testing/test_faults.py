"""What goes wrong on purpose, seen without a wire."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from bearer_middleware.testing import Issuer
from bearer_middleware.testing.endpoints import Answer, Request

Ask = Callable[..., Answer]


def test_a_status(issuer: Issuer, ask: Ask) -> None:
    """The endpoint fails, the others do not, and the request is counted all the same."""
    issuer.fail("jwks", status=503)
    assert ask("GET", "/jwks").status == 503
    assert ask("GET", "/.well-known/openid-configuration").status == 200
    assert issuer.requests["jwks"] == 1


def test_a_body(issuer: Issuer, ask: Ask) -> None:
    """Another body comes with 200, or with the status given."""
    issuer.fail("jwks", body=b"<html>", content_type="text/html")
    answer = ask("GET", "/jwks")
    assert (answer.status, answer.body) == (200, b"<html>")
    assert answer.headers["content-type"] == "text/html"
    issuer.fail("jwks", body=b"", status=500)
    assert ask("GET", "/jwks").status == 500


def test_a_huge_body(issuer: Issuer, ask: Ask) -> None:
    """As many bytes as were asked for."""
    issuer.fail("jwks", huge=1_000_000)
    assert len(ask("GET", "/jwks").body) == 1_000_000


@pytest.mark.parametrize("status", [204, 304])
def test_a_status_without_a_body(issuer: Issuer, ask: Ask, status: int) -> None:
    """Where HTTP allows none there is none."""
    issuer.fail("jwks", status=status)
    assert ask("GET", "/jwks").body == b""


def test_an_odd_status_has_no_phrase(issuer: Issuer, ask: Ask) -> None:
    """The status line is still one."""
    issuer.fail("jwks", status=599)
    assert ask("GET", "/jwks").head().startswith(b"HTTP/1.1 599 \r\n")


def test_headers(issuer: Issuer, ask: Ask) -> None:
    """Headers are added in any case of letters, or taken away with ``None``."""
    issuer.fail("jwks", headers={"Retry-After": "5", "Date": None, "Cache-Control": "max-age=1"})
    answer = ask("GET", "/jwks")
    assert "date" not in answer.headers
    assert (answer.headers["retry-after"], answer.headers["cache-control"]) == ("5", "max-age=1")
    assert json.loads(answer.body) == issuer.jwks


def test_only_the_next_requests(issuer: Issuer, ask: Ask) -> None:
    """``times`` counts them down."""
    issuer.fail("jwks", status=500, times=2)
    assert [ask("GET", "/jwks").status for _ in range(3)] == [500, 500, 200]


def test_the_whole_server_fails(issuer: Issuer, ask: Ask) -> None:
    """``all`` is every endpoint without a fault of its own, unknown paths too."""
    issuer.fail("all", status=503)
    issuer.fail("jwks", status=500)
    statuses = [ask("GET", path).status for path in ("/jwks", "/nowhere")]
    assert statuses == [500, 503]


def test_recovery(issuer: Issuer, ask: Ask) -> None:
    """One endpoint recovers, or all of them."""
    issuer.fail("jwks", status=500)
    issuer.fail("metadata", status=500)
    issuer.recover("jwks")
    path = "/.well-known/openid-configuration"
    assert [ask("GET", each).status for each in ("/jwks", path)] == [200, 500]
    issuer.recover()
    assert ask("GET", path).status == 200


def test_a_failing_endpoint_does_nothing_else(issuer: Issuer, basic: str) -> None:
    """A revocation that failed has not happened."""
    token = issuer.opaque()
    issuer.fail("revocation", status=503)
    body = f"token={token}".encode()
    issuer.respond(Request("POST", "/revoke", {"authorization": basic}, body))
    assert issuer.introspect(token)["active"] is True


def test_delivery_is_told_apart_from_the_answer(issuer: Issuer) -> None:
    """Slowness is the business of the world that delivers."""
    issuer.fail("jwks", delay=1.5, drip=0.1, drop=True)
    answer, fault = issuer.respond(Request("GET", "/jwks"))
    assert answer.status == 200
    assert (fault.delay, fault.drip, fault.drip_headers, fault.drop) == (1.5, 0.1, False, True)


@pytest.mark.parametrize("misuse", ["fail", "recover"])
def test_an_unknown_endpoint_is_a_mistake_of_the_test(issuer: Issuer, misuse: str) -> None:
    """A misspelt name would otherwise fail nothing."""
    with pytest.raises(ValueError, match="jwk'"):
        getattr(issuer, misuse)("jwk")


def test_an_unknown_fault_is_a_mistake_of_the_test(issuer: Issuer) -> None:
    """A misspelt keyword would otherwise spoil nothing."""
    fault: dict[str, Any] = {"satus": 503}
    with pytest.raises(TypeError, match="satus"):
        issuer.fail("jwks", **fault)
