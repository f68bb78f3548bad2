"""The rules that claims must satisfy: one table for JWTs and introspection answers alike.

RFC 7519 section 4, RFC 9068 section 4, RFC 7662 section 2.2, RFC 8725 section 3. Every rule
is a function that returns or raises ``InvalidToken``; ``explain`` walks the same table.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from bearer_middleware.errors import InvalidToken, Reason
from bearer_middleware.tokens.preset import USUAL, Preset
from bearer_middleware.tokens.status import REFUSE_STATUS, StatusRule, status_rule

Claims = Mapping[str, Any]

_SEVERAL = (list, tuple)
_EMPTY: tuple[object, ...] = (None, "", [])
LATEST = 1 << 53  # any later and adding the leeway is no longer exact, or overflows
_STRINGS = ("sub", "client_id", "jti")
MAX_SCOPES = 256
_MAX_SCOPE_BYTES = 8_192
_COMPATIBLE_TYPES = frozenset({None, "jwt", "at+jwt"})
_RFC9068_TYPES = frozenset({"at+jwt"})
_RFC9068_CLAIMS = ("iss", "exp", "aud", "sub", "client_id", "iat", "jti")  # section 2.2
_ACCESS_TOKEN_TYPES = frozenset({"bearer", "dpop", "access_token"})
# What servers write where they call something other than an access token active or signed.
_USES = ("token_use", "typ", "token_type", "type")
# Members of what the same key may sign for another purpose: logout and security event
# tokens, introspection answers, status lists (RFC 8725 section 3.12).
_OTHER_PURPOSES = frozenset({"events", "token_introspection", "status_list"})
# However they spell it: "refresh_token", "RefreshToken", "Refresh Token".
_OTHER_USES = frozenset({"id", "idtoken", "refresh", "refreshtoken", "offline"})
_SEPARATORS = str.maketrans("", "", " _-")


@dataclass(frozen=True, slots=True, eq=False)
class Rules:
    """What one issuer's tokens must say. ``audience`` is ``None`` where any will do."""

    issuer: str | None
    audience: frozenset[str] | None
    leeway: float
    #: Of an introspection answer? Then all but ``active`` is optional (RFC 7662 section 2.2).
    answer: bool = False
    audience_required: bool = True
    types: frozenset[str | None] = _COMPATIBLE_TYPES
    required: tuple[str, ...] = ()
    #: Seconds a token may live: no longer than its revocation would be kept.
    longest: float = math.inf
    status: StatusRule = REFUSE_STATUS
    #: What is special about these tokens.
    preset: Preset = USUAL


def jwt_rules(
    issuer: str | None,
    audience: frozenset[str] | None,
    leeway: float,
    profile: str,
    status_lists: tuple[str, ...] | None = None,
) -> Rules:
    """Rules for a JWT by profile: ``compatible``, or ``rfc9068`` with all it requires."""
    rules = Rules(issuer, audience, leeway, status=status_rule(status_lists))
    if profile == "rfc9068":
        return replace(rules, types=_RFC9068_TYPES, required=_RFC9068_CLAIMS)
    return rules


def answer_rules(
    issuer: str | None,
    audience: frozenset[str] | None,
    leeway: float,
    status_lists: tuple[str, ...] | None = None,
    *,
    audience_required: bool,
) -> Rules:
    """Rules for an introspection answer."""
    status = status_rule(status_lists)
    return Rules(
        issuer, audience, leeway, answer=True, audience_required=audience_required, status=status
    )


def validate_type(typ: str | None, rules: Rules) -> None:
    """``typ`` says access token (RFC 9068 section 4, RFC 8725 section 3.11)."""
    if typ not in rules.types:
        raise InvalidToken(Reason.WRONG_TYPE, "typ is not that of an access token")


def _issuer(claims: Claims, rules: Rules, now: float) -> None:
    named = claims.get("iss")
    if named is None and rules.answer:
        return
    if rules.issuer is not None and named != rules.issuer and named not in rules.preset.aliases:
        raise InvalidToken(Reason.UNKNOWN_ISSUER, "iss is not the configured issuer")
    if not isinstance(named, str):
        raise InvalidToken(Reason.MALFORMED_CLAIM, "iss is not a string")


def _expiry(claims: Claims, rules: Rules, now: float) -> None:
    expires = claims.get("exp")
    if type(expires) is not int or not 0 <= expires <= LATEST:
        expires = _time(claims, "exp", rules)
    if expires is None:
        if not rules.answer:
            raise InvalidToken(Reason.MISSING_CLAIM, "no exp")
    elif now >= expires + rules.leeway:
        raise InvalidToken(Reason.EXPIRED, "exp is in the past")
    if rules.longest != math.inf:
        _lifetime(claims, expires, rules, now)


def _lifetime(claims: Claims, expires: float | None, rules: Rules, now: float) -> None:
    """From ``iat``, or from now, to ``exp``; what has no ``exp`` lives for ever, and yet no
    revocation of it can have been forgotten for as long as it is not older than one is kept.
    """
    issued = _time(claims, "iat", rules)
    if expires is None:
        lives = math.inf if issued is None else now - issued
    else:
        lives = expires - (now if issued is None else issued)
    if lives > rules.longest:
        detail = "it lives longer than a revocation is kept (BEARER_REVOCATION_KEEP)"
        raise InvalidToken(Reason.LIVES_TOO_LONG, detail)


def _not_before(claims: Claims, rules: Rules, now: float) -> None:
    begins = _time(claims, "nbf", rules) if "nbf" in claims else None
    if begins is not None and now < begins - rules.leeway:
        raise InvalidToken(Reason.NOT_YET_VALID, "nbf is in the future")


def _issued_at(claims: Claims, rules: Rules, now: float) -> None:
    issued = claims.get("iat")
    if type(issued) is not int or not 0 <= issued <= LATEST:
        issued = _time(claims, "iat", rules)
    if issued is not None and now < issued - rules.leeway:
        raise InvalidToken(Reason.NOT_YET_VALID, "iat is in the future")


def _audience(claims: Claims, rules: Rules, now: float) -> None:
    named = claims.get("aud")
    if type(named) is str and rules.audience is not None and named in rules.audience:
        return
    audience = audience_of(claims)
    if rules.audience is None:
        return
    if named is None:
        if rules.audience_required:
            _audience_instead(claims, rules.audience, rules.preset)
    elif rules.audience.isdisjoint(audience):
        advice = rules.preset.audience_advice
        more = "" if advice is None else advice(claims)
        raise InvalidToken(Reason.WRONG_AUDIENCE, f"aud does not name this API{more}")


def _audience_instead(claims: Claims, audience: frozenset[str], preset: Preset) -> None:
    name = preset.audience_instead
    if name is None:
        raise InvalidToken(Reason.WRONG_AUDIENCE, "no aud")
    stands_in = claims.get(name)
    if not isinstance(stands_in, str) or stands_in not in audience:
        raise InvalidToken(Reason.WRONG_AUDIENCE, f"no aud, and {name} is not one of the audience")


def _use(claims: Claims, rules: Rules, now: float) -> None:
    is_id_token = "nonce" in claims and ("at_hash" in claims or "c_hash" in claims)
    if is_id_token and not rules.preset.id_tokens:
        raise InvalidToken(Reason.NOT_ACCESS_TOKEN, "an ID token")
    if not _OTHER_PURPOSES.isdisjoint(claims):
        raise InvalidToken(Reason.NOT_ACCESS_TOKEN, "signed for another purpose")
    for name in _USES:
        use = claims.get(name)
        if isinstance(use, str) and use.lower().translate(_SEPARATORS) in _OTHER_USES:
            raise InvalidToken(Reason.NOT_ACCESS_TOKEN, f"{name} names another kind of token")


def _token_type(claims: Claims, rules: Rules, now: float) -> None:
    kind = claims.get("token_type")
    if kind is None or not rules.answer:
        return
    if not isinstance(kind, str) or kind.lower() not in _ACCESS_TOKEN_TYPES:
        raise InvalidToken(Reason.NOT_ACCESS_TOKEN, "token_type is not that of an access token")


def _binding(claims: Claims, rules: Rules, now: float) -> None:
    if claims.get("cnf") is not None:
        raise InvalidToken(Reason.BOUND_TOKEN, "bound to a key (cnf), sent as a plain bearer")


def _shape(claims: Claims, rules: Rules, now: float) -> None:
    for name in _STRINGS:
        value = claims.get(name)
        if type(value) is not str and value is not None:
            raise InvalidToken(Reason.MALFORMED_CLAIM, f"{name} is not a string")
    scope = claims.get("scope")
    if type(scope) is not str or len(scope) > MAX_SCOPES:
        scope_of(claims)
    for name in rules.required:
        if claims.get(name) in _EMPTY:
            raise InvalidToken(Reason.MISSING_CLAIM, f"no {name}")


def _status(claims: Claims, rules: Rules, now: float) -> None:
    """Of the claim alone: what the list says is asked once all else is well."""
    if "status" in claims and not (rules.answer and claims["status"] is None):
        rules.status.reference(claims["status"])


def _provider(claims: Claims, rules: Rules, now: float) -> None:
    """What the product of ``BEARER_PROVIDER`` wants besides."""
    preset = rules.preset
    # No access token of these has them, and an ID token may have the audience of one.
    if preset.title and not preset.id_tokens and ("at_hash" in claims or "c_hash" in claims):
        raise InvalidToken(Reason.NOT_ACCESS_TOKEN, "an ID token")
    for check in preset.checks:
        check(claims, rules.answer, now + rules.leeway)
    if preset.clients and preset.client_of(claims) not in preset.clients:
        detail = "issued to a client that is not among BEARER_PROVIDER_CLIENTS"
        raise InvalidToken(Reason.WRONG_AUDIENCE, detail)


Rule = Callable[[Claims, Rules, float], None]

#: In the order they are asked, by the name ``explain`` prints.
RULES: tuple[tuple[str, Rule], ...] = (
    ("issuer", _issuer),
    ("exp", _expiry),
    ("nbf", _not_before),
    ("iat", _issued_at),
    ("aud", _audience),
    ("use", _use),
    ("token_type", _token_type),
    ("cnf", _binding),
    ("claims", _shape),
    ("status", _status),
    ("provider", _provider),
)


#: What the other rules are about. Most tokens have none of these, and those rules are silent.
UNUSUAL_NAMES = _OTHER_PURPOSES | {"nbf", "nonce", "cnf", "status", *_USES}


def validate_claims(claims: Claims, rules: Rules, now: float) -> None:
    """Every rule of the table. ``now`` is seconds since the epoch. Raises ``InvalidToken``."""
    for _, rule in RULES:
        rule(claims, rules, now)


def _time(claims: Claims, name: str, rules: Rules) -> float | None:
    """A NumericDate: a finite JSON number (RFC 7519 section 2). Some answers write ``null``."""
    value = claims.get(name)
    if value is None and (rules.answer or name not in claims):
        return None
    if type(value) is int or (type(value) is float and math.isfinite(value)):
        try:
            return float(value)
        except OverflowError:
            pass
    raise InvalidToken(Reason.MALFORMED_CLAIM, f"{name} is not a time")


def audience_of(claims: Claims) -> tuple[str, ...]:
    """``aud``: one string or a list of strings. Raises ``InvalidToken``."""
    value = claims.get("aud")
    if value is None:
        return ()
    if isinstance(value, str):
        return (value,)
    if isinstance(value, _SEVERAL) and all(isinstance(name, str) for name in value):
        return tuple(value)
    raise InvalidToken(Reason.MALFORMED_CLAIM, "aud is neither a string nor a list of strings")


def scope_of(claims: Claims) -> str:
    """The scopes, space-separated, from ``scope`` or ``scp``. Raises ``InvalidToken``."""
    value = claims.get("scope")
    if value is None:
        value = claims.get("scp")
    if value is None:
        return ""
    if isinstance(value, _SEVERAL) and all(isinstance(name, str) for name in value):
        value = " ".join(value)
    if not isinstance(value, str):
        raise InvalidToken(Reason.MALFORMED_CLAIM, "scope is neither a string nor a list of them")
    if len(value) > _MAX_SCOPE_BYTES or value.count(" ") >= MAX_SCOPES:
        raise InvalidToken(Reason.MALFORMED_CLAIM, "too many scopes")
    return value
