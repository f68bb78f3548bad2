"""Keys that nobody is asked for: a shared secret, or a file, which may be replaced in its place."""

from __future__ import annotations

import logging
import math

from bearer_middleware.errors import ConfigError, InvalidToken, Reason, Unavailable
from bearer_middleware.flow.clock import Bucket, Clock
from bearer_middleware.flow.effects import Flow
from bearer_middleware.flow.events import Event, Events
from bearer_middleware.flow.locks import LazyLock
from bearer_middleware.flow.watched import Watched
from bearer_middleware.issuer.condition import KeysCondition
from bearer_middleware.issuer.upstream import Upstream
from bearer_middleware.settings import IssuerSettings, files
from bearer_middleware.tokens.keys import KeySet, VerificationKey, read_jwks, secret_keys

_BURST, _SECONDS_PER_LOOK = 2, 1.0


class FixedKeys:
    """Keys that never change: a shared secret."""

    def __init__(self, keys: KeySet, issuer: str | None) -> None:
        self._keys, self._issuer = keys, issuer
        self.serials = keys.serials
        self.settled_until = float("inf")
        self.upstream: Upstream | None = None

    def held(self, kid: str | None, algorithm: str) -> VerificationKey | None:
        return self._keys.find(kid, algorithm)

    def refuses(self, kid: str | None) -> bool:
        return False

    def find(self, kid: str | None, algorithm: str, deadline: float) -> Flow[VerificationKey]:
        """Raises ``InvalidToken`` where the secret does not serve ``algorithm``."""
        key = self._keys.find(kid, algorithm)
        if key is None:
            raise InvalidToken(Reason.UNSUPPORTED_ALG, "no key of this alg", issuer=self._issuer)
        return key
        yield  # type: ignore[unreachable]  # it makes this a flow, like keys that have to ask

    def wake(self) -> Flow[None]:
        yield from ()

    def condition(self) -> KeysCondition:
        return KeysCondition("secret", len(self._keys.keys), None, usable=True, failing=False)


class FileKeys:
    """The keys of a watched file. A key that is not in it any more verifies nothing, a second
    later; a file that becomes unusable leaves its keys serving for ``max_stale`` seconds.
    """

    def __init__(
        self,
        file: Watched[KeySet],
        first: KeySet,
        *,
        issuer: str | None,
        clock: Clock,
        events: Events,
        max_stale: float = math.inf,
    ) -> None:
        self._file, self._issuer, self._events = file, issuer, events
        self._keys, self._max_stale = first, max_stale
        self._monotonic = clock.monotonic
        self._lock = LazyLock()
        self._bucket = Bucket(_BURST, _SECONDS_PER_LOOK)
        self.serials = first.serials
        # Nothing is certain before the first look, and then for as long as until the next.
        self.settled_until = 0.0
        self.upstream: Upstream | None = None

    def held(self, kid: str | None, algorithm: str) -> VerificationKey | None:
        if self._monotonic() >= self.settled_until:
            return None
        return self._keys.find(kid, algorithm)

    def refuses(self, kid: str | None) -> bool:
        return False

    def find(self, kid: str | None, algorithm: str, deadline: float) -> Flow[VerificationKey]:
        """The key to verify with. Raises ``InvalidToken`` if there is none, ``Unavailable``
        where the file has been unusable for too long.
        """
        keys = yield from self._current(at_once=False)
        if not keys.knows(kid) and keys.find(kid, algorithm) is None and self._may_hurry():
            keys = yield from self._current(at_once=True)
        key = keys.find(kid, algorithm)
        if key is not None:
            return key
        if keys.knows(kid):
            raise self._invalid(Reason.UNSUPPORTED_ALG, "alg is not the one of this key")
        raise self._invalid(Reason.UNKNOWN_KID, "no key of this kid and alg")

    def wake(self) -> Flow[None]:
        """Look at the file, where that is due."""
        yield from self._look(at_once=False)

    def condition(self) -> KeysCondition:
        troubled = self._file.troubled
        return KeysCondition(
            "file",
            len(self._keys.keys),
            self._monotonic() - self._file.confirmed,
            usable=not troubled or self._monotonic() < self._usable_until,
            failing=troubled,
        )

    @property
    def _usable_until(self) -> float:
        return self._file.confirmed + self._max_stale

    def _current(self, *, at_once: bool) -> Flow[KeySet]:
        yield from self._look(at_once=at_once)
        if self._monotonic() >= self._usable_until:
            detail = "the file has not been usable for too long"
            raise Unavailable(Reason.JWKS_UNAVAILABLE, detail, issuer=self._issuer)
        return self._keys

    def _look(self, *, at_once: bool) -> Flow[None]:
        event = self._file.look(at_once=at_once)
        keys = self._file.value or self._keys
        news = keys is not self._keys
        if news:
            self._keys, self.serials = keys, keys.serials
        self.settled_until = min(self._file.due, self._usable_until)
        if event is not None:
            yield from self._events.happened(event)
        if news and keys.skipped:
            detail = "; ".join(keys.skipped[:5])
            skipped = Event("keys_skipped", logging.WARNING, issuer=self._issuer, detail=detail)
            yield from self._events.happened(skipped)

    def _may_hurry(self) -> bool:
        """An unknown key may be a new one: so the file is looked at, but not for a flood."""
        with self._lock:
            return self._bucket.take(self._monotonic())

    def _invalid(self, reason: Reason, detail: str) -> InvalidToken:
        return InvalidToken(reason, detail, issuer=self._issuer)


def secret_file_keys(
    settings: IssuerSettings, first: KeySet, clock: Clock, events: Events
) -> FileKeys:
    """The keys of ``BEARER_HMAC_SECRET_FILE``; ``first`` are those of its content at start."""
    path = settings.hmac_secret_file or ""

    def read() -> KeySet:
        secret = files.kept_secret(path).reveal().encode()
        keys = secret_keys(secret, settings.algorithms)
        if not keys.keys:
            raise ValueError("names a secret that is too short for the algorithms in use")
        return keys

    file = Watched(
        "BEARER_HMAC_SECRET_FILE",
        (path,),
        read,
        first=first,
        issuer=settings.issuer,
        monotonic=clock.monotonic,
    )
    return FileKeys(file, first, issuer=settings.issuer, clock=clock, events=events)


def jwks_file_keys(
    settings: IssuerSettings, first: KeySet, clock: Clock, events: Events
) -> FileKeys:
    """The keys of ``BEARER_JWKS_FILE``; ``first`` are those of its content at start."""
    path = settings.jwks_file or ""

    def read() -> KeySet:
        try:
            return read_key_file("jwks_file", settings)
        except ConfigError:
            raise ValueError("names a file without a usable key") from None

    file = Watched(
        "BEARER_JWKS_FILE",
        (path,),
        read,
        first=first,
        issuer=settings.issuer,
        monotonic=clock.monotonic,
    )
    return FileKeys(
        file,
        first,
        issuer=settings.issuer,
        clock=clock,
        events=events,
        max_stale=settings.jwks_max_stale,
    )


def read_key_file(keyword: str, settings: IssuerSettings) -> KeySet:
    """The usable keys in the file of this setting. Raises ``ConfigError``, also where there is
    none.
    """
    path: str = getattr(settings, keyword)
    name, issuers = f"BEARER_{keyword.upper()}: {path}", settings.preset.key_issuers
    try:
        keys = read_jwks(files.contents(path, files.KEY_SET_LIMIT), settings.algorithms, issuers)
    except ValueError as failure:
        raise ConfigError(f"{name}: {failure}") from None
    if not keys.keys:
        why = "; ".join(keys.skipped) or "it is empty"
        raise ConfigError(f"{name}: no usable key ({why})")
    return keys
