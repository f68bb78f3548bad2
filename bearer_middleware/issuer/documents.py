"""Fetching a JSON document of the authorization server."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from bearer_middleware.errors import TransportError
from bearer_middleware.flow.effects import Flow, HttpRequest, HttpResponse, Tls
from bearer_middleware.issuer.upstream import Upstream
from bearer_middleware.tokens.keys import MAX_JWKS_BYTES, KeySet, read_jwks
from bearer_middleware.tokens.text import parse_object

_JSON = "application/json, application/jwk-set+json"


def fetch(
    url: str, upstream: Upstream, *, timeout: float, limit: int, tls: Tls, accept: str = _JSON
) -> Flow[bytes]:
    """The body of a 200 answer. Raises ``TransportError``, also for every other status."""
    response = yield from _get(url, upstream, timeout=timeout, limit=limit, tls=tls, accept=accept)
    return response.body


def _get(
    url: str, upstream: Upstream, *, timeout: float, limit: int, tls: Tls, accept: str = _JSON
) -> Flow[HttpResponse]:
    headers = {"Accept": accept}
    request = HttpRequest("GET", url, headers, timeout=timeout, limit=limit, tls=tls)
    response = yield from upstream.exchange(request)
    if response.status != 200:
        raise TransportError(f"status {response.status}")
    if response.headers.get("content-encoding", "identity") != "identity":
        raise TransportError("compressed although identity was asked for")
    return response


def fetch_key_set(
    url: str,
    upstream: Upstream,
    algorithms: Sequence[str],
    issuers: frozenset[str] = frozenset(),
    *,
    timeout: float,
    tls: Tls,
) -> Flow[KeySet]:
    """The keys of a JWK Set that ``algorithms`` allows; they may be none. With ``issuers`` a key
    that is bound to another one is not used. Raises ``TransportError``.
    """
    body = yield from fetch(url, upstream, timeout=timeout, limit=MAX_JWKS_BYTES, tls=tls)
    try:
        return read_jwks(body, algorithms, issuers)
    except ValueError:
        pass
    raise TransportError("not a JWK Set")


def fetch_object(
    url: str, upstream: Upstream, *, timeout: float, limit: int, tls: Tls
) -> Flow[dict[str, Any]]:
    """A JSON object that says it is JSON (RFC 8414 section 3.2). Raises ``TransportError``."""
    response = yield from _get(url, upstream, timeout=timeout, limit=limit, tls=tls)
    if "json" not in response.headers.get("content-type", "json").lower():
        raise TransportError("not application/json")
    try:
        return parse_object(response.body)
    except ValueError:
        pass
    raise TransportError("not a JSON object")
