"""What some have in place of introspection: userinfo (OpenID Connect Core section 5.3), tokeninfo.
Asked, remembered and judged as introspection is.
"""

from __future__ import annotations

import json
from typing import Any

from bearer_middleware.errors import TransportError
from bearer_middleware.flow.effects import Flow, HttpRequest, HttpResponse
from bearer_middleware.issuer.introspection import MAX_ANSWER_BYTES, Answer, Introspection
from bearer_middleware.tokens.preset import Asked
from bearer_middleware.tokens.text import parse_object

_INACTIVE = Answer({"active": False}, b'{"active":false}')
_LONGEST_NUMBER = 12


class Userinfo(Introspection):
    """The token is shown as any API would get it. That it is good for this endpoint says who the
    user is and that the session lives; it does not say that the token is for us.
    """

    def _request(self, endpoint: str, token: bytes, deadline: float) -> HttpRequest:
        headers = {"Accept": "application/json", "Authorization": f"Bearer {token.decode('ascii')}"}
        return HttpRequest(
            "GET",
            endpoint,
            headers,
            timeout=deadline - self._clock.monotonic(),
            limit=MAX_ANSWER_BYTES,
            tls=self._tls,
        )

    def _read(self, response: HttpResponse, deadline: float) -> Flow[Answer]:
        yield from ()
        # A challenge about the token (RFC 6750 section 3.1); any other 403 is somebody else's.
        challenge = response.headers.get("www-authenticate", "")
        if response.status == 401 or (response.status == 403 and "insufficient_scope" in challenge):
            return _INACTIVE
        claims = _object(response)
        if not isinstance(claims.get("sub"), str) or not claims["sub"]:
            raise TransportError("no sub in the answer")
        return _active(claims)


class Tokeninfo(Introspection):
    """Google's own. The token goes in the body: addresses are written into logs."""

    def _request(self, endpoint: str, token: bytes, deadline: float) -> HttpRequest:
        return HttpRequest(
            "POST",
            endpoint,
            {
                "Content-Type": "application/x-www-form-urlencoded",
                "Accept": "application/json",
            },
            # A bearer token has no character but = + / that a form would spell otherwise.
            b"access_token="
            + token.replace(b"+", b"%2B").replace(b"/", b"%2F").replace(b"=", b"%3D"),
            timeout=deadline - self._clock.monotonic(),
            limit=MAX_ANSWER_BYTES,
            tls=self._tls,
        )

    def _read(self, response: HttpResponse, deadline: float) -> Flow[Answer]:
        yield from ()
        if response.status == 400 and _error_of(response) in ("invalid_token", "invalid_value"):
            return _INACTIVE
        claims = _object(response)
        for name in ("exp", "iat"):
            if name in claims:
                claims[name] = _number(claims[name])
        if "exp" not in claims:
            raise TransportError("no exp in the answer")
        claims.pop("expires_in", None)
        return _active(claims)


#: How the server is asked about opaque tokens.
ASKING: dict[Asked, type[Introspection]] = {
    "introspection": Introspection,
    "never": Introspection,
    "userinfo": Userinfo,
    "tokeninfo": Tokeninfo,
}


def _object(response: HttpResponse) -> dict[str, Any]:
    if response.status != 200:
        raise TransportError(f"status {response.status}")
    if response.headers.get("content-encoding", "identity") != "identity":
        raise TransportError("compressed although identity was asked for")
    try:
        return parse_object(response.body)
    except ValueError:
        pass
    raise TransportError("not a JSON object")


def _active(claims: dict[str, Any]) -> Answer:
    claims = {**claims, "active": True}
    return Answer(claims, json.dumps(claims, separators=(",", ":")).encode())


def _error_of(response: HttpResponse) -> str:
    try:
        said = parse_object(response.body)
    except ValueError:
        return ""
    # Its older form describes what the newer one names.
    words = said.get("error"), said.get("error_description")
    known = [word.lower().replace(" ", "_") for word in words if isinstance(word, str)]
    return next((word for word in known if word in ("invalid_token", "invalid_value")), "")


def _number(value: Any) -> Any:
    """It writes numbers as text; anything else is for the rules to refuse."""
    if isinstance(value, str) and value.isascii() and value.isdigit():
        return int(value) if len(value) <= _LONGEST_NUMBER else value
    return value
