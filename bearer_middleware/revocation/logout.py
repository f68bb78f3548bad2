"""OpenID Connect Back-Channel Logout 1.0: the authorization server says who is logged out.

A logout token is a JWT of its own kind, signed with the keys that sign access tokens. Nothing
in it is believed before its signature is verified, it counts once, and it revokes what it
names: a session where it names one, else all that its subject was issued up to then.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import parse_qsl

from bearer_middleware.errors import InvalidToken
from bearer_middleware.flow.clock import Clock
from bearer_middleware.flow.effects import Flow
from bearer_middleware.issuer.server import AuthorizationServer
from bearer_middleware.revocation.incoming import (
    Rejected,
    Seen,
    Turnstile,
    identifier_in,
    read_jwt,
    text_in,
    time_in,
    verify,
)
from bearer_middleware.revocation.request import Revocation
from bearer_middleware.tokens.claims import audience_of
from bearer_middleware.tokens.jws import Jws

MAX_FORM_BYTES = 65_536
_EVENT = "http://schemas.openid.net/event/backchannel-logout"
# Explicit typing is recommended only (section 2.4), and most servers leave it out.
_TYPES: frozenset[str | None] = frozenset({None, "jwt", "logout+jwt"})
_OLDEST_SECONDS = 300.0
_BURST, _SECONDS_PER_REQUEST = 50, 0.05


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
        self._turnstile = Turnstile(_BURST, _SECONDS_PER_REQUEST, clock)
        self._seen = Seen(clock)

    def receive(self, form: bytes, deadline: float) -> Flow[None]:
        """Log out whom the form names. ``deadline`` is in monotonic seconds.

        Raises ``Rejected``, ``Busy``; ``Unavailable`` where the keys cannot be had and
        ``RevocationError`` where it would not hold everywhere.
        """
        self._turnstile.enter()
        try:
            jws, server = self._read(form)
            session, subject, issued = self._judged(jws.hints, server)
            yield from verify(jws, server, deadline)
        except InvalidToken as refusal:
            raise Rejected(refusal.detail) from None
        identifier = identifier_in(jws.hints)
        if self._seen.has(server.issuer, identifier):
            raise Rejected("a replay")
        # A server that ends a thousand sessions at once tells of each, and only once.
        self._turnstile.give_back()
        said: Revocation = {"issuer": server.issuer}
        if session is not None:
            said["session"] = session
        else:
            said["subject"], said["before"] = subject, issued
        yield from self._revoking(said)
        # Only now: what did not work may be tried again.
        seconds = _OLDEST_SECONDS + 2 * server.settings.leeway
        self._seen.add(server.issuer, identifier, seconds)

    def _read(self, form: bytes) -> tuple[Jws, AuthorizationServer]:
        token = _logout_token(form)
        if len(token) > self._longest:
            raise Rejected("the token is too long")
        jws = read_jwt(token, _TYPES, "a logout token")
        issuer = jws.hints.get("iss")
        try:
            if not isinstance(issuer, str):
                raise ValueError("no iss")
            server = self._named(issuer)
        except ValueError:
            raise Rejected("iss is not a configured issuer") from None
        if server.issuer != issuer:
            raise Rejected("iss is not a configured issuer")
        return jws, server

    def _judged(
        self, claims: Mapping[str, Any], server: AuthorizationServer
    ) -> tuple[str | None, str | None, float]:
        """Session, subject and time of a logout that section 2.6 lets pass."""
        now, leeway = self._clock.now(), server.settings.leeway
        issued, expires = time_in(claims, "iat"), time_in(claims, "exp")
        if now >= expires + leeway or not now - _OLDEST_SECONDS <= issued <= now + leeway:
            raise Rejected("not of now")
        if server.settings.client_id not in audience_of(claims):
            raise Rejected("aud does not name us")
        events = claims.get("events")
        if not isinstance(events, dict) or not isinstance(events.get(_EVENT), dict):
            raise Rejected("no logout event")
        if "nonce" in claims:
            raise Rejected("a nonce: this is an ID token")
        session, subject = text_in(claims, "sid"), text_in(claims, "sub")
        if session is None and subject is None:
            raise Rejected("neither sub nor sid")
        return session, subject, issued


def _logout_token(form: bytes) -> bytes:
    """The one ``logout_token`` of a form (section 2.5); what else is in it is ignored."""
    if len(form) > MAX_FORM_BYTES:
        raise Rejected("the form is too long")
    try:
        fields = parse_qsl(form.decode("ascii"), max_num_fields=100)
        tokens = [value.encode("ascii") for name, value in fields if name == "logout_token"]
    except ValueError:
        raise Rejected("not a form") from None
    if len(tokens) != 1:
        raise Rejected("not exactly one logout_token")
    return tokens[0]
