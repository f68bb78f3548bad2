"""Everything that is revoked, in the memory of this process.

Every request is held against it after all caches, so there is nothing to purge and both kinds
of token die the same way, without a network call. While nothing is revoked that costs one
look at an attribute; else one look into a dict: a token that was held against the present
state is *cleared* until the state changes. Readers take no lock.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from bearer_middleware.access.identity import Identity
from bearer_middleware.errors import InvalidToken, Reason, RevocationError
from bearer_middleware.flow.clock import Clock
from bearer_middleware.flow.locks import LazyLock
from bearer_middleware.revocation.marks import Kind, Mark, digest_of, token_digest
from bearer_middleware.tokens.jws import is_jwt

#: More marks than this are not taken: to drop one that matters would let its token in again.
MOST_MARKS = 1_000_000
_MOST_CLEARED = 1_000_000
#: From so many on, marks that are past are dropped when their number has doubled.
_TIDY_AT = 10_000


class State:
    """What was revoked up to some moment. Marks are only ever added to it."""

    __slots__ = ("cleared", "cutoffs", "denied", "kinds")

    def __init__(
        self,
        denied: dict[bytes, float],
        cutoffs: dict[bytes, tuple[float, float]],
        kinds: frozenset[Kind],
    ) -> None:
        #: By digest: until when (wall) it is denied.
        self.denied = denied
        #: By digest: the cutoff, and until when (wall) it counts.
        self.cutoffs = cutoffs
        #: Kinds that there are marks of; what there is none of is not looked up.
        self.kinds = kinds
        #: Of the tokens that were held against this state and are not revoked: by cache digest,
        #: the hash of what was known of them. Their server may say something else tomorrow.
        self.cleared: dict[bytes, int] = {}


#: Stands where the state is not to be relied on: it clears nobody.
SHUT = State({}, {}, frozenset())


class Shut(Exception):
    """Nobody can be cleared the short way just now."""


class Revocations:
    """The present state, and how it grows."""

    __slots__ = ("_clock", "_is_shut", "_lock", "_tidy_at", "held", "state")

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._lock = LazyLock()
        self._tidy_at = _TIDY_AT
        self._is_shut = False
        #: All that is known to be revoked; ``None`` while nothing is.
        self.held: State | None = None
        #: The same, or :data:`SHUT`.
        self.state: State | None = None

    def __len__(self) -> int:
        state = self.held
        return 0 if state is None else len(state.denied) + len(state.cutoffs)

    def __repr__(self) -> str:
        return f"<Revocations: {len(self)}>"

    def apply(self, marks: Iterable[Mark]) -> None:
        """Revoke: whoever asks after this returns is told. Raises ``RevocationError``, and adds
        nothing, where there would be more than :data:`MOST_MARKS`.
        """
        marks = tuple(marks)
        with self._lock:
            state = self.held or State({}, {}, frozenset())
            if len(self) + len(marks) > self._tidy_at:
                state = _without_past(state, self._clock.now())
                kept = len(state.denied) + len(state.cutoffs) + len(marks)
                if kept > MOST_MARKS:
                    raise RevocationError(f"more than {MOST_MARKS} revocations are not kept")
                self._tidy_at = min(max(2 * kept, _TIDY_AT), MOST_MARKS)
            for mark in marks:
                _add(state, mark)
            # A new object, and with it nobody cleared: whoever still reads the old one finds
            # the same marks in it, and clears nobody for those who come later.
            kinds = state.kinds | {mark.kind for mark in marks}
            self.held = State(state.denied, state.cutoffs, kinds) if kinds else None
            self.state = SHUT if self._is_shut else self.held

    def shut(self, *, shut: bool = True) -> None:
        """From now on every request has to go the whole way; or need not any more."""
        with self._lock:
            self._is_shut = shut
            self.state = SHUT if shut else self.held

    def shut_alone(self) -> None:
        """The same where no other thread can be at it, or has to be waited for."""
        self._is_shut, self.state = True, SHUT

    @property
    def is_shut(self) -> bool:
        """Does every request have to go the whole way?"""
        return self._is_shut

    def is_news(self, mark: Mark) -> bool:
        """Would :meth:`apply` change anything?"""
        state = self.held
        if self._clock.now() >= mark.until:
            return False
        if state is None:
            return True
        if mark.before is None:
            return mark.until > state.denied.get(mark.digest, 0.0)
        cutoff, until = state.cutoffs.get(mark.digest, (mark.before, 0.0))
        return mark.before > cutoff or mark.until > until

    def marks(self, kinds: Mapping[bytes, Kind]) -> list[Mark]:
        """What is held and not past, as far as it is of these ``kinds``, by digest."""
        with self._lock:
            state = self.held or State({}, {}, frozenset())
            denied, cutoffs = list(state.denied.items()), list(state.cutoffs.items())
        now, found = self._clock.now(), []
        for digest, until in denied:
            if now < until and digest in kinds:
                found.append(Mark(kinds[digest], digest, until))
        for digest, (before, until) in cutoffs:
            if now < until and digest in kinds:
                found.append(Mark(kinds[digest], digest, until, before))
        return found

    def clear(  # noqa: PLR0917 - half the time of keywords
        self,
        state: State,
        digest: bytes,
        identity: Identity,
        issuer: str | None,
        token: bytes,
        told: int = 0,
    ) -> None:
        """Hold a token that was good against ``state``. ``digest`` is that of the cache, and
        empty for what is not remembered; ``issuer`` is the configured one; ``told`` is the hash
        of what the identity was made of. Raises ``InvalidToken`` for a revoked one, and ``Shut``.
        """
        if state is SHUT:
            raise Shut
        now = self._clock.now()
        if _is_denied(state, identity, issuer, token, now) or _is_cut_off(
            state, identity, issuer, now
        ):
            raise InvalidToken(Reason.REVOKED, "revoked", issuer=issuer)
        if digest:
            if len(state.cleared) >= _MOST_CLEARED:
                state.cleared.clear()
            state.cleared[digest] = told


def _is_denied(
    state: State, identity: Identity, issuer: str | None, token: bytes, now: float
) -> bool:
    names = [
        _digest(kind, issuer, value)
        for kind, value in _ids(identity)
        if kind in state.kinds and isinstance(value, str)
    ]
    if Kind.SIGNED in state.kinds or Kind.OPAQUE in state.kinds:
        # As whoever revoked it told them apart; what a validator says of its own may differ.
        names.append(token_digest(token, is_jwt=is_jwt(token))[1])
    return any(now < state.denied.get(name, 0.0) for name in names)


def _is_cut_off(state: State, identity: Identity, issuer: str | None, now: float) -> bool:
    issued = identity.issued_at
    for kind, value in _owners(identity):
        if kind in state.kinds and isinstance(value, str):
            name = _digest(kind, issuer, value)
            cutoff, until = state.cutoffs.get(name, (0.0, 0.0))
            # What does not say when it was issued is taken to be older than any cutoff. Most say
            # it in whole seconds, so what is of the same one counts as issued before.
            if now < until and (issued is None or issued < cutoff // 1 + 1):
                return True
    return False


def _ids(identity: Identity) -> tuple[tuple[Kind, object], ...]:
    return (Kind.TOKEN_ID, identity.token_id), (Kind.SESSION, identity.claims.get("sid"))


def _owners(identity: Identity) -> tuple[tuple[Kind, object], ...]:
    subject, said = identity.subject, identity.claims.get("sub")
    return (
        (Kind.SUBJECT, subject),
        # Whoever revokes may know the user by this, where a preset has another name for it.
        (Kind.SUBJECT, None if said == subject else said),
        (Kind.CLIENT, identity.client_id),
        (Kind.ISSUER, ""),
    )


def _digest(kind: Kind, issuer: str | None, value: str) -> bytes:
    return digest_of(kind, issuer, value.encode("utf-8", "surrogatepass"))


def _add(state: State, mark: Mark) -> None:
    if mark.before is None:
        state.denied[mark.digest] = max(mark.until, state.denied.get(mark.digest, 0.0))
        return
    cutoff, until = state.cutoffs.get(mark.digest, (mark.before, mark.until))
    state.cutoffs[mark.digest] = (max(cutoff, mark.before), max(until, mark.until))


def _without_past(state: State, now: float) -> State:
    denied = {digest: until for digest, until in state.denied.items() if now < until}
    cutoffs = {digest: mark for digest, mark in state.cutoffs.items() if now < mark[1]}
    return State(denied, cutoffs, state.kinds)
