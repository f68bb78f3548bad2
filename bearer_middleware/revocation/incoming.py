"""What the receivers of other people's words have in common: a signed JWT of a kind of its own,
so many at a time, and each once.

Nobody who posts here has to prove who he is; the signature is all there is to believe.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any, Protocol

from cachetools import LRUCache

from bearer_middleware.errors import BearerError, Reason, Unavailable
from bearer_middleware.flow.clock import Bucket, Clock
from bearer_middleware.flow.effects import Flow
from bearer_middleware.flow.locks import LazyLock, renew_after_fork
from bearer_middleware.issuer.keys import NotFoundYet
from bearer_middleware.tokens.jws import Jws, parse_jws, read_header

_REMEMBERED = 10_000
_LATEST = 1e12
_SECONDS_PER_FETCH = 3.0


class Rejected(BearerError):
    """What came cannot be believed, or makes no sense: 400, and nothing happened. Its text is
    words of ours only; ``code`` is one of RFC 8935 section 2.4.
    """

    def __init__(self, detail: str, code: str = "invalid_request") -> None:
        self.code = code
        super().__init__(detail)


class Busy(BearerError):
    """More came than is looked at: 503, and nothing happened."""


class Signer(Protocol):
    """Whose keys sign."""

    def allow(self, algorithm: str) -> None: ...

    def verify_signature(self, jws: Jws, deadline: float) -> Flow[int]: ...


class Turnstile:
    """Lets ``burst`` in at once, then one per ``seconds``."""

    def __init__(self, burst: int, seconds: float, clock: Clock) -> None:
        self._bucket, self._monotonic = Bucket(burst, seconds), clock.monotonic
        self._lock = LazyLock()

    def enter(self) -> None:
        """Take a place. Raises :class:`Busy` where there is none."""
        with self._lock:
            if not self._bucket.take(self._monotonic()):
                raise Busy("too many at once")

    def give_back(self) -> None:
        """Whoever was good took nobody's place."""
        with self._lock:
            self._bucket.give()


class Seen:
    """What was carried out already, by issuer and ``jti``; the last ten thousand."""

    def __init__(self, clock: Clock) -> None:
        self._now = clock.now
        self._lock = LazyLock()
        self.after_fork()
        renew_after_fork(self)

    def after_fork(self) -> None:
        """Another thread of the parent may have been changing this."""
        self._until: LRUCache[bytes, float] = LRUCache(_REMEMBERED)

    def has(self, issuer: str | None, identifier: str) -> bool:
        """Was this one carried out?"""
        with self._lock:
            return self._now() < self._until.get(_name(issuer, identifier), 0.0)

    def add(self, issuer: str | None, identifier: str, seconds: float) -> None:
        """Remember it for so many seconds."""
        with self._lock:
            self._until[_name(issuer, identifier)] = self._now() + seconds


def read_jwt(token: bytes, types: frozenset[str | None], what: str) -> Jws:
    """The parts of a JWT whose ``typ`` is one of ``types``, nothing verified; ``what`` says what
    should have come. Raises :class:`Rejected`, ``InvalidToken``.
    """
    header = read_header(token)
    if header is None or header.typ not in types:
        raise Rejected(f"not {what}")
    return parse_jws(token, header)


def verify(jws: Jws, signer: Signer, deadline: float) -> Flow[None]:
    """Raises ``InvalidToken`` where the signature is none of ``signer``'s, ``Unavailable`` where
    that cannot be known. Unlike the holder of a token, who is told 401 and comes again,
    whoever is told that this was wrong forgets it: so a key that was not looked for is no answer.
    """
    signer.allow(jws.header.alg)
    jws.signature  # noqa: B018 - raises for what is none: junk causes no exchange
    try:
        yield from signer.verify_signature(jws, deadline)
        return
    except NotFoundYet as unknown:
        detail, issuer = unknown.detail, unknown.issuer
    raise Unavailable(
        Reason.JWKS_UNAVAILABLE, detail, issuer=issuer, retry_after=_SECONDS_PER_FETCH
    )


def time_in(claims: Mapping[str, Any], name: str) -> float:
    """A time that must be there, in seconds since the epoch. Raises :class:`Rejected`."""
    value = claims.get(name)
    if isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < _LATEST:
        return float(value)
    raise Rejected(f"no {name}, or not a time")


def text_in(claims: Mapping[str, Any], name: str) -> str | None:
    """A text, if it is there. Raises :class:`Rejected` where it is no text, or an empty one."""
    value = claims.get(name)
    if value is None:
        return None
    if not isinstance(value, str) or not value:
        raise Rejected(f"{name} is not text")
    return value


def identifier_in(claims: Mapping[str, Any]) -> str:
    """The ``jti``, which must be there. Raises :class:`Rejected`."""
    identifier = text_in(claims, "jti")
    if identifier is None:
        raise Rejected("no jti")
    return identifier


def _name(issuer: str | None, identifier: str) -> bytes:
    text = f"{issuer}\n{identifier}".encode("utf-8", "surrogatepass")
    return hashlib.sha256(text).digest()
