"""A token's way through the rules, one after the other, and on after the first that refuses it.

Every verdict is that of the function which a request meets; only the order, and going on,
are of this file.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from bearer_middleware.access.identity import split_scope
from bearer_middleware.commands.arrival import allowed, parts_of, token_in
from bearer_middleware.commands.findings import Finding
from bearer_middleware.commands.ledger import Ledger, guarded
from bearer_middleware.commands.remarks import kept, remark
from bearer_middleware.errors import (
    InsufficientScope,
    InvalidToken,
    Reason,
    Refused,
)
from bearer_middleware.flow.clock import Clock
from bearer_middleware.flow.effects import Flow
from bearer_middleware.issuer.introspection import Answer
from bearer_middleware.issuer.server import AuthorizationServer
from bearer_middleware.resource_server import ResourceServer
from bearer_middleware.tokens.claims import RULES, Claims, Rules, scope_of, validate_type
from bearer_middleware.tokens.jws import Header, Jws
from bearer_middleware.tokens.status import require_same

_HEADER = ("alg", "typ")
_CLAIMS = tuple(name for name, _ in RULES)
_KEYS = ("key", "signature")
_ASKED = ("introspection", "active")
_REST = ("kind", "issuer", *_HEADER, *_CLAIMS, *_KEYS, *_ASKED, "scope")
_NOBODY = "the token is refused already, so nobody is asked"
_JWT = "three parts, of which the first is a JSON object with an alg"


@dataclass(frozen=True, slots=True)
class Walk:
    """One token on its way; ``deadline`` is in monotonic seconds."""

    server: ResourceServer
    deadline: float
    clock: Clock = field(default_factory=Clock)
    ledger: Ledger = field(default_factory=Ledger)
    #: The feed of revocations is silent, and is made up for by asking about JWTs, too.
    asks_again: bool = False

    def flow(self, value: bytes) -> Flow[list[Finding]]:
        """All findings of an Authorization header, in the order a request meets the rules."""
        ledger = self.ledger
        token = token_in(value, self.server.settings, ledger)
        if token is None:
            ledger.skip(("length", "header", *_REST), "there is no token to look at")
            return ledger.findings
        try:
            header = self.server.trusted.header_of(token)
        except Refused as refusal:
            ledger.refused("kind", refusal)
            ledger.skip(_REST, "not a token that can be looked at")
            return ledger.findings
        ledger.kept("kind", f"opaque: not {_JWT}" if header is None else f"a JWT: {_JWT}")
        if header is None:
            yield from self._opaque(token)
        else:
            yield from self._jwt(token, header)
        return ledger.findings

    # -- an opaque token -----------------------------------------------------------------

    def _opaque(self, token: bytes) -> Flow[None]:
        ledger = self.ledger
        ledger.skip((*_HEADER, *_KEYS), "an opaque token says nothing itself")
        claims: Claims = {}
        server = ledger.judge("introspection", lambda: self.server.trusted.introspecting(token), "")
        if ledger.broken:
            ledger.skip(_ASKED, _NOBODY)
        elif server is not None:
            answer = yield from self._introspect(token, server)
            if answer is not None:
                self._answer(claims := answer.claims, server)
        if not claims:
            ledger.skip(_CLAIMS, "there are no claims")
        self._scope(claims)
        yield from self._status(claims, server)

    # -- a JWT ---------------------------------------------------------------------------

    def _jwt(self, token: bytes, header: Header) -> Flow[None]:
        ledger, trusted = self.ledger, self.server.trusted
        jws = parts_of(token, header, trusted, ledger)
        if jws is None:
            ledger.skip(_REST, "its parts cannot be read")
            return
        names = [server.issuer for server in trusted.servers if server.issuer is not None]
        expected = f"expected is {' or '.join(names)}" if names else "none is configured"
        said = f"one that is trusted; {expected}"
        server = ledger.judge("issuer", lambda: trusted.issuer_of(jws), said, expected)
        claims: Claims = jws.hints
        whose = ""
        if server is None:
            self._strange(jws)
        else:
            ledger.judge("signature", lambda: jws.signature, "")  # its spelling, before all else
            yield from self._local(jws, server)
            answer = yield from self._remote(token, jws, server)
            if server.asks_about_jwts and server.settings.jwt_validation != "both":
                claims, whose = {} if answer is None else answer.claims, "answer "
        self._scope(claims)
        yield from self._status(claims, server, whose)

    def _strange(self, jws: Jws) -> None:
        """A token of nobody we trust: no network for it, but the rules that it would meet."""
        servers = [s for s in self.server.trusted.servers if s.settings.local_validation]
        if len(servers) == 1:
            self._validate(jws, servers[0])
        self.ledger.skip((*_HEADER, *_CLAIMS), "each issuer has rules of its own")
        self.ledger.skip((*_KEYS, *_ASKED), _NOBODY)

    def _local(self, jws: Jws, server: AuthorizationServer) -> Flow[None]:
        if server.settings.jwt_validation == "introspect" or not server.settings.local_validation:
            self.ledger.skip((*_HEADER, *_CLAIMS, *_KEYS), "left to introspection, as configured")
            return
        self._validate(jws, server)
        yield from self._verify(jws, server)

    def _validate(self, jws: Jws, server: AuthorizationServer) -> None:
        ledger, header, rules = self.ledger, jws.header, server.jwt_rules
        if "alg" not in ledger.named:
            ledger.judge("alg", lambda: server.allow(header.alg), "on the list", allowed(server))
        names = ", ".join(sorted(f'"{name}"' for name in rules.types if name))
        types = f"expected is {names}{' or none at all' if None in rules.types else ''}"
        said = "not said, and need not be" if header.typ is None else "that of an access token"
        ledger.judge("typ", lambda: validate_type(header.typ, rules), said, types)
        self._claims(jws.hints, rules)

    def _verify(self, jws: Jws, server: AuthorizationServer) -> Flow[None]:
        ledger = self.ledger
        if ledger.broken & {"alg", "key"}:
            ledger.skip(_KEYS, "there can be no key for it")
            return
        if "signature" in ledger.broken:
            ledger.skip(["key"], "there is no signature to verify")
            return
        wanted = "the key of its kid and alg" if jws.header.kid else "the one key of its alg"
        try:
            server.demand_kid(jws.header.kid)
            key = yield from guarded(
                server.keys.find(jws.header.kid, jws.header.alg, self.deadline)
            )
        except Refused as refusal:
            ledger.refused("key", refusal, f"looked for is {wanted}")
            ledger.skip(["signature"], "there is no key to verify with")
            return
        ledger.kept("key", f"{wanted} is there")
        ledger.judge("signature", lambda: server.verify(jws, key), "made with this key")

    # -- introspection -------------------------------------------------------------------

    def _remote(self, token: bytes, jws: Jws, server: AuthorizationServer) -> Flow[Answer | None]:
        asks_again = self.asks_again and server.introspection is not None
        if not server.asks_about_jwts and not asks_again:
            self.ledger.skip(_ASKED, "this JWT is validated without asking anybody")
            return None
        if self.ledger.broken:
            self.ledger.skip(_ASKED, _NOBODY)
            return None
        answer = yield from self._introspect(token, server)
        if answer is not None:
            self._answer(answer.claims, server, "answer ")
            if server.settings.jwt_validation == "both" or not server.asks_about_jwts:
                self.ledger.judge(
                    "sub",
                    lambda: _same_subject(jws, answer, server),
                    "the answer names no other subject",
                )
                self.ledger.judge("answer status", lambda: _same_status(jws, answer, server), "")
        return answer

    def _introspect(self, token: bytes, server: AuthorizationServer) -> Flow[Answer | None]:
        """What the server answers, or ``None`` where that ends the way."""
        ledger = self.ledger
        try:
            if server.introspection is None:
                raise InvalidToken(Reason.UNSUPPORTED_TOKEN, "no introspection")
            answer = yield from guarded(server.introspection.ask(token, self.deadline))
        except Refused as refusal:
            if refusal.reason is Reason.INACTIVE:
                ledger.kept("introspection", "asked, and answered")
                ledger.refused("active", refusal, "expired, revoked, or not of this server")
            else:
                ledger.refused("introspection", refusal)
                ledger.skip(["active"], "there is no answer")
            return None
        ledger.kept("introspection", "asked, and answered")
        ledger.kept("active", "the server says so")
        return answer

    # -- claims --------------------------------------------------------------------------

    def _answer(self, claims: Claims, server: AuthorizationServer, whose: str = "") -> None:
        """An answer, and before its rules whether the server may speak for that issuer at all."""
        self.ledger.judge(f"{whose}issuer", lambda: server.refuse_others(claims), "")
        self._claims(claims, server.answer_rules, whose)

    def _claims(self, claims: Claims, rules: Rules, whose: str = "") -> None:
        """The table of rules. The issuer of a JWT has been looked at, to choose its server."""
        now = self.clock.now()
        for name, rule in RULES:
            if whose + name in self.ledger.broken:
                continue
            said = kept(name, claims, rules, now)
            if whose + name in self.ledger.named:
                said = ""
            more = remark(name, claims, rules, now)
            self.ledger.judge(whose + name, _asked(rule, claims, rules, now), said, more)

    def _status(
        self, claims: Claims, server: AuthorizationServer | None, whose: str = ""
    ) -> Flow[None]:
        """What its list says of a token that is good otherwise: else no list is fetched."""
        ledger, name = self.ledger, f"{whose}status"
        if server is None or name in ledger.named:
            return
        if not server.jwt_rules.status.concerns(claims):
            return
        if ledger.broken:
            ledger.skip([name], _NOBODY)
            return
        statuses = self.server.trusted.statuses
        try:
            yield from guarded(statuses.hold_claims(claims, server, self.deadline))
        except Refused as refusal:
            ledger.refused(name, refusal)
        else:
            ledger.kept(name, "VALID, says the list at its uri, which the issuer signed")

    def _scope(self, claims: Claims) -> None:
        """All the scopes that every request needs."""
        required = self.server.settings.required_scopes

        def enough() -> None:
            granted = split_scope(scope_of(claims))
            if not self.server.hierarchy.grants(granted, frozenset(required)):
                raise InsufficientScope(required)

        wanted = f"required: {' '.join(required)}" if required else "none is required"
        if claims or not required:
            self.ledger.judge("scope", enough, wanted, wanted)
        else:
            self.ledger.skip(["scope"], f"there are no claims; {wanted}")


def _asked(
    rule: Callable[[Claims, Rules, float], None], claims: Claims, rules: Rules, now: float
) -> Callable[[], None]:
    return lambda: rule(claims, rules, now)


def _same_status(jws: Jws, answer: Answer, server: AuthorizationServer) -> None:
    if server.answer_rules.status.concerns(answer.claims):
        require_same(answer.claims["status"], jws.hints.get("status"))


def _same_subject(jws: Jws, answer: Answer, server: AuthorizationServer) -> None:
    subject = answer.claims.get("sub")
    facts = server.facts_of(jws.hints, jws.payload, server.name, False)
    if subject not in (None, facts[0], jws.hints.get("sub")):
        raise InvalidToken(Reason.SUBJECT_MISMATCH, "the answer names another sub")
