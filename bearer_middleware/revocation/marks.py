"""Marks: what one revocation says, without saying whom it is about.

A mark names what it revokes by a digest, so neither a copy of the state nor a feed of marks
tells a subject, a session or a token. Tokens are never named by a hash of their whole text: a
JWT is named by what was signed, since its holder can respell an ECDSA signature.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from enum import StrEnum

_DIGEST_BYTES = 16


class Kind(StrEnum):
    """What a mark revokes."""

    TOKEN_ID = "token_id"  # by ``jti``
    SESSION = "session"  # by ``sid``
    SIGNED = "signed"  # a JWT by its signing input
    OPAQUE = "opaque"
    SUBJECT = "subject"
    CLIENT = "client"
    ISSUER = "issuer"

    __hash__ = str.__hash__

    @property
    def is_cutoff(self) -> bool:
        """Does it revoke what was issued up to some time, rather than one thing for good?"""
        return self in _CUTOFFS


_CUTOFFS = frozenset({Kind.SUBJECT, Kind.CLIENT, Kind.ISSUER})


@dataclass(frozen=True, slots=True)
class Mark:
    """One revocation, kept until ``until``; times are in seconds since the epoch.

    ``before`` is there where the kind is a cutoff: tokens issued up to then are revoked, those
    of the very same second included.
    """

    kind: Kind
    digest: bytes
    until: float
    before: float | None = None


def digest_of(kind: Kind, issuer: str | None, value: bytes) -> bytes:
    """The name of a token, session, subject or client of ``issuer``; of 16 bytes."""
    whose = (issuer or "").encode("utf-8", "surrogatepass")
    text = b"%s %d %s %s" % (kind.encode(), len(whose), whose, value)
    return hashlib.blake2b(text, digest_size=_DIGEST_BYTES).digest()


def token_digest(token: bytes, *, is_jwt: bool) -> tuple[Kind, bytes]:
    """How a token that is shown would be named: a JWT without its signature."""
    if not is_jwt:
        return Kind.OPAQUE, digest_of(Kind.OPAQUE, None, token)
    return Kind.SIGNED, digest_of(Kind.SIGNED, None, token[: token.rfind(b".")])
