"""What every per-route decorator decides, in words of no framework.

A decorator names the scopes of one route; the realm and the scopes that every request needs
are the middleware's, which left its ``Challenges`` beside the identity.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

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
from bearer_middleware.web.asgi import IDENTITY
from bearer_middleware.web.authorizing import AUTHORIZER
from bearer_middleware.web.challenge import CHALLENGES, Answer, Challenges

_logger = logging.getLogger("bearer_middleware")
_names = listing(grammar.scope)


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

    def refusal(self, place: Mapping[str, Any]) -> Answer | None:
        """The answer to a request that may not pass. ``place`` is its ASGI scope or its environ."""
        challenges: Challenges | None = place.get(CHALLENGES)
        if challenges is None:
            return out_of_order("a protected route was called, and no BearerMiddleware is around")
        refused = self._refused(identity_in(place))
        return None if refused is None else challenges.refuse(refused)

    def _refused(self, identity: Identity | None) -> Refused | None:
        if identity is None:
            return MissingToken(scopes=self._scopes)
        if not self._needed <= identity.scopes:
            return InsufficientScope(self._scopes, issuer=identity.issuer)
        return None


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
