"""What every per-route decorator decides, in words of no framework.

A decorator names the scopes of one route; the realm and the scopes that every request needs
are the middleware's, which left its ``Challenges`` beside the identity.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, MutableMapping, Sequence
from typing import Any, NamedTuple, TypeVar

from bearer_middleware.access.hierarchy import Hierarchy
from bearer_middleware.access.identity import Identity
from bearer_middleware.errors import (
    ConfigError,
    InsufficientScope,
    MissingToken,
    Reason,
    Refused,
    Unavailable,
)
from bearer_middleware.settings import grammar
from bearer_middleware.settings.parsing import Unreadable, listing
from bearer_middleware.web.authorizing import AUTHORIZER
from bearer_middleware.web.challenge import CHALLENGES, Answer, Challenges
from bearer_middleware.web.parts import IDENTITY

_logger = logging.getLogger("bearer_middleware")
_names = listing(grammar.scope)


#: Where a decorator leaves a note of what it does, for whoever lists the routes.
GUARD = "__bearer_guard__"
#: Where guards that let a request pass leave their scopes for those that come after.
_ASKED = "bearer_middleware.scopes"
#: Where guards leave what they refuse, where there is an audit trail to tell of it.
NOTED = "bearer_middleware.noted"
Noted = list[tuple[Refused, Answer]]
_V = TypeVar("_V")


class Mark(NamedTuple):
    """What is asked of the callers of a view: a token with ALL of ``scopes``, and leave to do
    ``action`` to ``resource``. ``optional``: of those alone who show a token.
    """

    scopes: tuple[str, ...] = ()
    action: str | None = None
    resource: str | None = None
    optional: bool = False
    #: Who asks, where it is not this library.
    by: str = ""


def asked_by(view: object) -> tuple[str, ...]:
    """The scopes that the guards of a view ask for, and those below them."""
    marks: tuple[Mark, ...] = getattr(view, GUARD, ())
    return tuple(scope for one in marks if not one.by for scope in one.scopes)


def mark(
    view: _V, scopes: Sequence[str] = (), action: str | None = None, resource: str | None = None
) -> _V:
    """Leave a note at a view that was wrapped; those that are there already stay."""
    noted = Mark(tuple(scopes), action, resource)
    setattr(view, GUARD, (*getattr(view, GUARD, ()), noted))
    return view


class Guard:
    """Keeps a route for identities that have ALL of ``scopes``; none at all: for any identity.

    Raises ``ConfigError`` where one is no scope-token of RFC 6749 section 3.3.
    """

    __slots__ = ("_needed", "_scopes")

    def __init__(self, *scopes: str) -> None:
        try:
            self._scopes = _names(scopes)
        except Unreadable as error:
            raise ConfigError(f"the scopes of a route: {error}") from None
        self._needed = frozenset(self._scopes)

    def mark(self, view: _V) -> _V:
        """Leave a note of this guard at the view that it keeps."""
        return mark(view, self._scopes)

    def refusal(
        self, place: Mapping[str, Any], further: Callable[[], Sequence[str]] = tuple
    ) -> Answer | None:
        """The answer to a request that may not pass. ``place`` is its ASGI scope or its environ,
        ``further`` finds the scopes that are asked for after this: one challenge names all that
        the request needs, as MCP has it.
        """
        challenges: Challenges | None = place.get(CHALLENGES)
        if challenges is None:
            return out_of_order("a protected route was called, and no BearerMiddleware is around")
        identity = identity_in(place)
        if identity is None:
            return _refuse(place, challenges, MissingToken(scopes=self._whole(place, further())))
        refused = self._refused(identity, challenges.hierarchy)
        if isinstance(refused, InsufficientScope):
            whole = self._whole(place, further())
            refused = InsufficientScope(whole, issuer=identity.issuer)
        if refused is not None:
            return _refuse(place, challenges, refused)
        if self._scopes and isinstance(place, MutableMapping):
            place[_ASKED] = (*place.get(_ASKED, ()), *self._scopes)
        return None

    def _whole(self, place: Mapping[str, Any], further: Sequence[str]) -> tuple[str, ...]:
        """What was asked for up to here, by the table of routes too, what is now, and what will."""
        match = getattr(getattr(place.get(AUTHORIZER), "inquiry", None), "match", None)
        row = () if match is None else match.route.scopes
        return tuple(dict.fromkeys((*row, *place.get(_ASKED, ()), *self._scopes, *further)))

    def _refused(self, identity: Identity, hierarchy: Hierarchy) -> Refused | None:
        if self._needed <= identity.scopes:  # nearly always
            return None
        try:
            if hierarchy.grants(identity.scopes, self._needed):
                return None
        except Unavailable as unknown:
            return unknown.with_traceback(None)
        return InsufficientScope(self._scopes, issuer=identity.issuer)


def _refuse(place: Mapping[str, Any], challenges: Challenges, refusal: Refused) -> Answer:
    answer = challenges.refuse(refusal)
    noted: Noted | None = place.get(NOTED)
    if noted is not None:
        noted.append((refusal, answer))
    return answer


def identity_in(place: Mapping[str, Any]) -> Identity | None:
    """Who is calling; ``None`` is an anonymous caller."""
    identity: Identity | None = place.get(IDENTITY)
    return identity


def authorizer_in(place: Mapping[str, Any]) -> Any:
    """What to ask for policy. Raises ``ConfigError`` where nobody can be asked."""
    authorizer = place.get(AUTHORIZER)
    if authorizer is None:
        raise ConfigError("no BearerMiddleware with a policy or with routes is around")
    return authorizer


def out_of_order(why: str) -> Answer:
    """Fail closed where the application is put together wrongly: nobody is let in, 503."""
    _logger.error(why)
    # The answer to an outage has no challenge, so the realm does not matter.
    return Challenges("").answer(Unavailable(Reason.MISCONFIGURED, why))
