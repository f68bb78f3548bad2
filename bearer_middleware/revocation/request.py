"""From the words of whoever revokes to marks."""

from __future__ import annotations

import math
from datetime import datetime
from typing import TypedDict

from bearer_middleware.errors import Refused
from bearer_middleware.revocation.marks import Kind, Mark, digest_of, token_digest
from bearer_middleware.tokens.bearer import bearer_token
from bearer_middleware.tokens.jws import is_jwt

_KINDS = {
    "token_id": Kind.TOKEN_ID,
    "session": Kind.SESSION,
    "subject": Kind.SUBJECT,
    "client": Kind.CLIENT,
}
# What a feed can hold; milliseconds since the epoch are more.
_LATEST = 1e12
_LONGEST_TOKEN = 1_000_000


class Revocation(TypedDict, total=False):
    """What to revoke: exactly one of ``token_id`` (its ``jti``), ``session`` (``sid``),
    ``subject`` (``sub``), ``client`` and ``token``; ``issuer`` alone means all its tokens.

    ``issuer`` may be left out beside ``token``, and where only one is configured. ``before`` is
    for subject, client and issuer: tokens issued up to that time are revoked, in seconds since
    the epoch or as an aware ``datetime``; now, if it is left out.
    """

    issuer: str | None
    token_id: str | None
    session: str | None
    subject: str | None
    client: str | None
    token: str | None
    before: float | datetime | None


def mark_of(said: Revocation, issuer: str | None, *, now: float, keep: float) -> Mark:
    """The mark for one revocation of ``issuer``, kept for ``keep`` seconds after the last moment
    that it speaks of. Raises ``ValueError`` where it is not clear what is meant.
    """
    given = {name: said.get(name) for name in (*_KINDS, "token") if said.get(name) is not None}
    if len(given) > 1:
        raise ValueError(f"one thing is revoked at a time, not {' and '.join(given)}")
    if not given and (empty := said.keys() & {*_KINDS, "token"}):
        # Whoever has no name for one user does not mean all of them.
        raise ValueError(f"{min(empty)}: must be text, not None")
    name, value = next(iter(given.items()), ("", ""))
    if not isinstance(value, str) or (name and not value):
        raise ValueError(f"{name}: must be text")
    before = said.get("before")
    if name == "token":
        kind, digest = _named_by(value.strip())
    else:
        kind = _KINDS.get(name, Kind.ISSUER)
        digest = digest_of(kind, issuer, value.encode("utf-8", "surrogatepass"))
    if not kind.is_cutoff:
        if before is not None:
            raise ValueError(f"before: {name} is revoked for good")
        return Mark(kind, digest, now + keep)
    cutoff = now if before is None else _seconds(before)
    return Mark(kind, digest, max(now, cutoff) + keep, cutoff)


def _named_by(token: str) -> tuple[Kind, bytes]:
    try:
        shown = bearer_token((b"Bearer " + token.encode("ascii"),), _LONGEST_TOKEN)
    except (UnicodeEncodeError, Refused):  # whose text may be the token's
        raise ValueError("token: must be a bearer token, and nothing else") from None
    return token_digest(shown, is_jwt=is_jwt(shown))


def _seconds(time: float | datetime) -> float:
    if isinstance(time, datetime):
        if time.tzinfo is None:
            raise ValueError("before: a datetime without a time zone may mean anything")
        return time.timestamp()
    if isinstance(time, bool) or not isinstance(time, int | float) or not math.isfinite(time):
        raise ValueError("before: must be seconds since the epoch, or an aware datetime")
    if abs(time) >= _LATEST:
        raise ValueError("before: must be seconds since the epoch, not milliseconds")
    return float(time)
