"""Which of the authorization servers we trust speaks for a token."""

from __future__ import annotations

from dataclasses import replace

from bearer_middleware.errors import ConfigError, InvalidToken, Reason
from bearer_middleware.flow.clock import Clock
from bearer_middleware.flow.events import Events
from bearer_middleware.issuer.server import AuthorizationServer
from bearer_middleware.revocation.status_lists import StatusLists
from bearer_middleware.settings import Settings
from bearer_middleware.tokens.jws import Header, Jws, parse_jws, read_header
from bearer_middleware.tokens.keys import accepted_names

# Kinds of JWT that are never access tokens, whoever is asked about them (RFC 8725 3.12).
_OTHER_TYPES = frozenset(
    f"{kind}+jwt" for kind in ("token-introspection", "logout", "secevent", "dpop", "statuslist")
)

_BACKSLASH = ord("\\")


class Trusted:
    """The configured servers. A token's hints choose among them, and nothing more."""

    def __init__(self, settings: Settings, clock: Clock, events: Events) -> None:
        servers = _servers_of(settings, clock, events)
        self.servers = servers
        #: What these servers publish of the status of their tokens.
        self.statuses = StatusLists(servers, settings.http_timeout, clock, events)
        looks = not any(server.settings.jwt_validation == "introspect" for server in servers)
        local = looks and all(server.settings.local_validation for server in servers)
        #: Of JWTs: what may sign them at all, and the one server they may be from.
        self._algorithms = (
            frozenset().union(*(accepted_names(server.settings.algorithms) for server in servers))
            if local
            else None
        )
        self._only = servers[0] if local and len(servers) == 1 else None
        self._alone = alone = servers[0] if len(servers) == 1 else None
        self._unnamed = alone if alone is not None and alone.issuer is None else None
        self._pattern = settings.token_pattern
        self._by_issuer = {name: server for server in servers for name in server.names}
        self._introspecting = tuple(
            sorted(
                (server for server in servers if server.introspection is not None),
                key=lambda server: -len(server.settings.token_prefix or ""),
            )
        )

    def limit_life(self, seconds: float) -> None:
        """From now on no token may live longer. For before the first request."""
        for server in self.servers:
            server.jwt_rules = replace(server.jwt_rules, longest=seconds)
            server.answer_rules = replace(server.answer_rules, longest=seconds)

    def header_of(self, token: bytes) -> Header | None:
        """The header of a JWT, or ``None`` for an opaque token; encrypted ones are what Auth0 has
        for opaque, and go to its userinfo where that is asked. Raises ``InvalidToken``.
        """
        try:
            return read_header(token)
        except InvalidToken as refusal:
            if refusal.reason is not Reason.ENCRYPTED_TOKEN:
                raise
            detail = refusal.detail
        if self._is_for_userinfo(token):
            return None
        raise InvalidToken(Reason.ENCRYPTED_TOKEN, self._advised(detail))

    def _is_for_userinfo(self, token: bytes) -> bool:
        try:
            return self.introspecting(token).preset.asked == "userinfo"
        except InvalidToken:
            return False

    def parse(self, token: bytes) -> Jws | None:
        """The parts of a JWT, or ``None`` for an opaque token. Raises ``InvalidToken``."""
        header = self.header_of(token)
        if header is None:
            return None
        refusal = self.refusal_of(header)
        if refusal is not None:
            raise refusal
        return parse_jws(token, header)

    def refusal_of(self, header: Header) -> InvalidToken | None:
        """What the header alone is enough to refuse is not looked at any further."""
        alg, kid, typ = header
        if typ in _OTHER_TYPES:
            return InvalidToken(Reason.WRONG_TYPE, "typ is that of another kind of JWT")
        if self._algorithms is not None and alg not in self._algorithms:
            return InvalidToken(Reason.UNSUPPORTED_ALG, "alg is not on the list")
        if self._only is not None and self._only.keys.refuses(kid):
            return InvalidToken(
                Reason.UNKNOWN_KID, "the limit forbids a fetch", issuer=self._only.issuer
            )
        return None

    def is_strange(self, payload: bytes) -> bool:
        """Is it certain that a JSON object in which the name of the one server is nowhere to be
        found is a stranger's? Cheaper than reading a whole token of somebody else's.
        """
        return (
            self._alone is not None
            and payload.startswith(b"{")
            and payload.endswith(b"}")
            and _BACKSLASH not in payload  # which could spell any letter of it
        )

    def issuer_of(self, jws: Jws) -> AuthorizationServer:
        """The server that a JWT says it is from. Raises ``InvalidToken`` for a stranger."""
        if self._unnamed is not None:
            return self._unnamed  # only introspection is configured: it knows what is its own
        named = jws.hints.get("iss")
        server = self._by_issuer.get(named) if isinstance(named, str) else None
        if server is None:
            raise stranger()
        return server

    def validated_here(self) -> dict[str | None, AuthorizationServer]:
        """By every ``iss``, the servers that nobody asks about their JWTs."""
        return {name: one for name, one in self._by_issuer.items() if not one.asks_about_jwts}

    def named(self, issuer: str | None) -> AuthorizationServer:
        """The server of this name; the only one needs none. Raises ``ValueError``."""
        if issuer is None and self._alone is not None:
            return self._alone
        server = self._by_issuer.get(issuer) or self._unnamed
        if server is None:
            raise ValueError("issuer: must be one of the configured ones")
        return server

    def home_of(self, issuer: str | None) -> str | None:
        """The configured name of whoever issued something; the only one answers for all."""
        server = self._by_issuer.get(issuer) or self._alone
        return issuer if server is None else server.issuer

    def _advised(self, detail: str) -> str:
        """With what the products of our issuers have to do with opaque tokens, for the operator."""
        advice = dict.fromkeys(server.preset.opaque_advice for server in self.servers)
        told = "; ".join(text for text in advice if text)
        return f"{detail}: {told}" if told else detail

    def introspecting(self, token: bytes) -> AuthorizationServer:
        """The server to ask about an opaque token. Raises ``InvalidToken`` if there is none."""
        text = token.decode("ascii")
        if self._pattern is not None and self._pattern.fullmatch(text) is None:
            raise InvalidToken(Reason.MALFORMED_TOKEN, "not as BEARER_TOKEN_PATTERN says")
        for server in self._introspecting:
            if text.startswith(server.settings.token_prefix or ""):
                return server
        detail = self._advised("opaque, and nobody to ask about it")
        raise InvalidToken(Reason.UNSUPPORTED_TOKEN, detail)


def stranger() -> InvalidToken:
    """The refusal of what somebody else issued."""
    return InvalidToken(Reason.UNKNOWN_ISSUER, "iss is not a configured issuer")


def _servers_of(
    settings: Settings, clock: Clock, events: Events
) -> tuple[AuthorizationServer, ...]:
    """One server for each issuer of the settings. Raises ``ConfigError`` for all at once."""
    mistakes: list[str] = []
    servers: list[AuthorizationServer] = []
    named = frozenset(
        name
        for issuer in settings.issuers
        for name in (issuer.issuer, *issuer.preset.aliases)
        if name is not None
    )
    for number, issuer in enumerate(settings.issuers):
        try:
            server = AuthorizationServer(
                issuer,
                number=number,
                others=named - {issuer.issuer},
                insecure=settings.allow_insecure_http,
                timeout=settings.http_timeout,
                clock=clock,
                events=events,
            )
        except ConfigError as error:
            mistakes.extend(error.mistakes)
        else:
            servers.append(server)
    if mistakes:
        raise ConfigError(mistakes)
    return tuple(servers)
