"""OpenID Connect Back-Channel Logout 1.0: the authorization server says who is logged out.

A logout token is a JWT of its own kind, signed with the keys that sign access tokens. Nothing
in it is believed before its signature is verified, it counts once, and it revokes what it
names: a session where it names one, else all that its subject was issued up to then.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import parse_qsl

from cachetools import LRUCache

from bearer_middleware.errors import BearerError, InvalidToken
from bearer_middleware.flow.clock import Bucket, Clock
from bearer_middleware.flow.effects import Flow
from bearer_middleware.flow.locks import LazyLock
from bearer_middleware.issuer.server import AuthorizationServer
from bearer_middleware.revocation.request import Revocation
from bearer_middleware.tokens.claims import audience_of
from bearer_middleware.tokens.jws import Jws, parse_jws, read_header

MAX_FORM_BYTES = 65_536
_EVENT = "http://schemas.openid.net/event/backchannel-logout"
# Explicit typing is recommended only (section 2.4), and most servers leave it out.
_TYPES = frozenset({None, "jwt", "logout+jwt"})
_OLDEST_SECONDS = 300.0
_BURST, _SECONDS_PER_REQUEST = 50, 0.05
_REMEMBERED = 10_000
_LATEST = 1e12


class LogoutRejected(BearerError):
    """The request is not a logout that we can believe (section 2.8): 400, and nothing happened."""


class LogoutBusy(BearerError):
    """More logout requests than are looked at: 503, and nothing happened."""


class LogoutReceiver:
    """Takes logout requests of the configured issuers; ``aud`` is our ``BEARER_CLIENT_ID``."""

    def __init__(
        self,
        named: Callable[[str], AuthorizationServer],
        revoking: Callable[[Revocation], Flow[None]],
        clock: Clock,
        longest: int,
    ) -> None:
        self._named, self._revoking = named, revoking
        self._clock, self._longest = clock, longest
        self._lock = LazyLock()
        self._bucket = Bucket(_BURST, _SECONDS_PER_REQUEST)
        self._seen: LRUCache[bytes, float] = LRUCache(_REMEMBERED)

    def receive(self, form: bytes, deadline: float) -> Flow[None]:
        """Log out whom the form names. ``deadline`` is in monotonic seconds.

        Raises ``LogoutRejected``, ``LogoutBusy``; ``Unavailable`` where the keys cannot be had
        and ``RevocationError`` where it would not hold everywhere.
        """
        with self._lock:
            if not self._bucket.take(self._clock.monotonic()):
                raise LogoutBusy("too many logout requests")
        try:
            jws, server = self._read(form)
            session, subject, issued = self._judged(jws.hints, server)
            server.allow(jws.header.alg)
            yield from server.verify_signature(jws, deadline)
        except InvalidToken as refusal:
            raise LogoutRejected(refusal.detail) from None
        name = self._first(jws.hints, server)
        said: Revocation = {"issuer": server.issuer}
        if session is not None:
            said["session"] = session
        else:
            said["subject"], said["before"] = subject, issued
        yield from self._revoking(said)
        # Only now: what did not work may be tried again.
        with self._lock:
            self._seen[name] = self._clock.now() + _OLDEST_SECONDS + 2 * server.settings.leeway

    def _read(self, form: bytes) -> tuple[Jws, AuthorizationServer]:
        token = _logout_token(form)
        if len(token) > self._longest:
            raise LogoutRejected("the token is too long")
        header = read_header(token)
        if header is None or header.typ not in _TYPES:
            raise LogoutRejected("not a logout token")
        jws = parse_jws(token, header)
        issuer = jws.hints.get("iss")
        try:
            if not isinstance(issuer, str):
                raise ValueError("no iss")
            server = self._named(issuer)
        except ValueError:
            raise LogoutRejected("iss is not a configured issuer") from None
        if server.issuer != issuer:
            raise LogoutRejected("iss is not a configured issuer")
        return jws, server

    def _judged(
        self, claims: Mapping[str, Any], server: AuthorizationServer
    ) -> tuple[str | None, str | None, float]:
        """Session, subject and time of a logout that section 2.6 lets pass."""
        now, leeway = self._clock.now(), server.settings.leeway
        issued, expires = _time(claims, "iat"), _time(claims, "exp")
        if now >= expires + leeway or not now - _OLDEST_SECONDS <= issued <= now + leeway:
            raise LogoutRejected("not of now")
        if server.settings.client_id not in audience_of(claims):
            raise LogoutRejected("aud does not name us")
        events = claims.get("events")
        if not isinstance(events, dict) or not isinstance(events.get(_EVENT), dict):
            raise LogoutRejected("no logout event")
        if "nonce" in claims:
            raise LogoutRejected("a nonce: this is an ID token")
        session, subject = _text(claims, "sid"), _text(claims, "sub")
        if session is None and subject is None:
            raise LogoutRejected("neither sub nor sid")
        return session, subject, issued

    def _first(self, claims: Mapping[str, Any], server: AuthorizationServer) -> bytes:
        """How a logout token is remembered, if it is none that was."""
        identifier = _text(claims, "jti")
        if identifier is None:
            raise LogoutRejected("no jti")
        text = f"{server.issuer}\n{identifier}".encode("utf-8", "surrogatepass")
        name, now = hashlib.sha256(text).digest(), self._clock.now()
        with self._lock:
            if now < self._seen.get(name, 0.0):
                raise LogoutRejected("a replay")
        return name


def _logout_token(form: bytes) -> bytes:
    """The one ``logout_token`` of a form (section 2.5); what else is in it is ignored."""
    if len(form) > MAX_FORM_BYTES:
        raise LogoutRejected("the form is too long")
    try:
        fields = parse_qsl(form.decode("ascii"), max_num_fields=100)
        tokens = [value.encode("ascii") for name, value in fields if name == "logout_token"]
    except ValueError:
        raise LogoutRejected("not a form") from None
    if len(tokens) != 1:
        raise LogoutRejected("not exactly one logout_token")
    return tokens[0]


def _time(claims: Mapping[str, Any], name: str) -> float:
    value = claims.get(name)
    if isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < _LATEST:
        return float(value)
    raise LogoutRejected(f"no {name}, or not a time")


def _text(claims: Mapping[str, Any], name: str) -> str | None:
    value = claims.get(name)
    if value is None:
        return None
    if not isinstance(value, str) or not value:
        raise LogoutRejected(f"{name} is not text")
    return value
