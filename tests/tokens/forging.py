"""Tokens as an attacker, or a careless server, writes them: any bytes, correctly signed."""

import base64
import hmac
import json
from collections.abc import Callable
from typing import Any

import pytest

from bearer_middleware import Identity, ResourceServer, Settings
from bearer_middleware.errors import InvalidToken, Reason, Refused
from bearer_middleware.flow.drivers import run
from bearer_middleware.testing import Issuer
from bearer_middleware.tokens.jws import Jws, parse_jws, read_header

ISSUER, AUDIENCE, NOW = "https://as.example", "orders", 1_700_000_000
SECRET = "sixty-four bytes of a shared secret, as many as HS512 asks us for"
HEADER = {"alg": "HS256", "typ": "at+jwt"}
CLAIMS = {
    "iss": ISSUER,
    "aud": AUDIENCE,
    "sub": "alice",
    "client_id": "shop",
    "jti": "token-1",
    "iat": NOW,
    "exp": NOW + 600,
    "scope": "read",
}
ANSWER = {"active": True, **CLAIMS}


def segment(part: Any) -> bytes:
    """Base64url of bytes, or of the JSON text of anything else."""
    data = part if isinstance(part, bytes) else json.dumps(part).encode()
    return base64.urlsafe_b64encode(data).rstrip(b"=")


def forge(header: Any = None, payload: Any = None, secret: str = SECRET, by: str = "sha256") -> str:
    """A JWT of any header and payload, with the HMAC that its issuer would have made."""
    header, payload = (
        (HEADER if header is None else header),
        (CLAIMS if payload is None else payload),
    )
    signing_input = segment(header) + b"." + segment(payload)
    signature = hmac.digest(secret.encode(), signing_input, by)
    return (signing_input + b"." + segment(signature)).decode()


def front(token: bytes) -> Jws | None:
    """The parts of a JWT for our strict front, ``None`` for an opaque token."""
    read = read_header(token)
    if read is None:
        return None
    parts = parse_jws(token, read)
    assert isinstance(parts.signature, bytes)  # or it raises
    return parts


def claims(**changes: Any) -> dict[str, Any]:
    """Good claims with some changed; ``...`` leaves one out."""
    return {name: value for name, value in {**CLAIMS, **changes}.items() if value is not ...}


def header(**changes: Any) -> dict[str, Any]:
    """A good header with some members changed; ``...`` leaves one out."""
    return {name: value for name, value in {**HEADER, **changes}.items() if value is not ...}


class Gate:
    """A resource server in front of which tokens are shown."""

    def __init__(self, *, transport: Any = None, clock: Any = None, **settings: Any) -> None:
        self.server = ResourceServer(Settings(**settings), transport=transport, clock=clock)

    def show(self, *values: bytes) -> Identity | None:
        """What comes of a request with these Authorization headers, as middlewares ask it."""
        known = self.server.identify(values[0]) if len(values) == 1 else None
        return known or run(self.server.authenticate(values), self.server.transport)

    def admit(self, token: str) -> Identity:
        """The identity of a token that is let in."""
        identity = self.show(b"Bearer " + token.encode())
        assert identity is not None
        return identity

    def refuse(self, token: str) -> Refused:
        """The refusal of a token, which is one of ours and no accident."""
        with pytest.raises(Refused) as refused:
            self.show(b"Bearer " + token.encode())
        assert refused.value.reason is not Reason.INTERNAL, refused.value.detail
        return refused.value

    def reject(self, token: str) -> Reason:
        """Why a token is called bad: a 401, whose fault is the token's alone."""
        refusal = self.refuse(token)
        assert isinstance(refusal, InvalidToken), refusal
        return refusal.reason


class SecretGate(Gate):
    """Trusts the shared secret of :func:`forge`; its clock stands still.

    Whatever is shown is judged by the short way and by the long way, which must agree.
    """

    def __init__(self, **settings: Any) -> None:
        said = {"issuer": ISSUER, "audience": AUDIENCE, "hmac_secret": SECRET, **settings}
        super().__init__(clock=lambda: NOW, **said)
        self._twin = ResourceServer(Settings(**said), clock=lambda: NOW)

    def show(self, *values: bytes) -> Identity | None:
        """What comes of it, twice: the token is new to us, and then it is not."""
        long = [outcome(lambda: run(self._twin.authenticate(values))) for _ in range(2)]
        short = [outcome(lambda: super(SecretGate, self).show(*values)) for _ in range(2)]
        first = long[0]
        assert [verdict(each) for each in (*long, *short)] == [verdict(first)] * 4
        if isinstance(first, Refused):
            raise first
        return first


def outcome(ask: Callable[[], Identity | None]) -> Identity | Refused | None:
    """What is returned, or the refusal that is raised."""
    try:
        return ask()
    except Refused as refusal:
        return refusal


def verdict(result: Identity | Refused | None) -> Any:
    """What a caller can tell of it, and what the log says."""
    return (type(result), result.reason) if isinstance(result, Refused) else result


def gate_of(issuer: Issuer, /, *, clock: Any = None, **settings: Any) -> Gate:
    """Trusts an issuer that answers in-process."""
    return Gate(transport=issuer.transport(), clock=clock, **issuer.settings(**settings))
