"""What is remembered of a token that was good: facts, in atoms.

Tuples of atoms are invisible to the garbage collector, and small next to a dictionary of claims.
"""

from __future__ import annotations

import sys

from bearer_middleware.tokens.claims import (
    LATEST,
    MAX_SCOPES,
    UNUSUAL_NAMES,
    Claims,
    Rules,
    scope_of,
)
from bearer_middleware.tokens.preset import Preset

# How a remembered token says what it is; small integers cost no memory.
ALL_FLAGS = OPAQUE, CLIENT, USER, STALE, STATUS = 1, 2, 4, 8, 16

#: What an accepted token said: subject, scope, flags, payload, issuer.
Facts = tuple[str | None, str, int, bytes, str | None]

_intern = sys.intern


def facts_of(
    claims: Claims, payload: bytes, issuer: str | None, opaque: bool, status: bool = False
) -> Facts:
    """The facts of claims that satisfied the rules. ``issuer`` is the configured one; ``status``
    says that the token is good only as far as a status list knows.
    """
    subject, client_id = claims.get("sub"), claims.get("client_id") or claims.get("azp")
    if type(client_id) is not str:
        client_id = None
    flags = (OPAQUE if opaque else 0) | (STATUS if status else 0)
    if subject:
        flags |= CLIENT if subject == client_id else USER
    else:
        username = claims.get("username")
        username = username if isinstance(username, str) and username else None
        subject = client_id or username
        flags |= CLIENT if client_id and username is None else 0
    # Scopes are few, and the same in many tokens.
    return subject, _intern(scope_of(claims)), flags, payload, issuer or claims.get("iss")


def usual_facts(claims: Claims, payload: bytes, rules: Rules, now: float) -> Facts | None:
    """The facts of a JWT that says, in the plainest shape, what no rule has anything against.

    Nearly every access token does, and to see that at once takes a third of the time. One
    that is not usual may be good as well: that is for the rules to say, each on its own.
    """
    try:
        expires, issued, audience = claims["exp"], claims["iat"], claims["aud"]
        subject, scope, issuer = claims["sub"], claims["scope"], claims["iss"]
    except KeyError:
        return None
    leeway, known, client_id = rules.leeway, rules.audience, claims.get("client_id", "")
    if (
        type(expires) is type(issued) is int
        and now - leeway < expires <= LATEST
        and 0 <= issued <= now + leeway
        and expires - issued <= rules.longest
        and type(audience) is type(scope) is type(subject) is type(client_id) is str
        and known is not None
        and audience in known
        and issuer == rules.issuer is not None
        and len(scope) <= MAX_SCOPES
        and subject
        and type(claims.get("jti", "")) is str
        and not rules.required
        and UNUSUAL_NAMES.isdisjoint(claims)
    ):
        flags = CLIENT if subject == (client_id or claims.get("azp")) else USER
        return subject, _intern(scope), flags, payload, rules.issuer
    return None


def preset_facts(  # noqa: PLR0917 - as facts_of, behind what is the same for all tokens
    preset: Preset,
    claims: Claims,
    payload: bytes,
    issuer: str | None,
    opaque: bool,
    status: bool = False,
) -> Facts:
    """:func:`facts_of` by a preset. ``issuer`` is a name that tells of it."""
    flags = (OPAQUE if opaque else 0) | (STATUS if status else 0)
    subject, machine = preset.subject_of(claims), preset.is_machine(claims)
    if subject:
        flags |= CLIENT if machine else USER
    else:
        client, username = preset.client_of(claims), claims.get("username")
        username = username if isinstance(username, str) and username else None
        subject = client or username
        flags |= CLIENT if machine or (client and username is None) else 0
    return subject, _intern(scope_of(claims)), flags, payload, issuer
