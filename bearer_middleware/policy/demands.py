"""What a route asks of a token beside policy: scopes, and how its user authenticated."""

from __future__ import annotations

from collections.abc import Sequence

from bearer_middleware.access.hierarchy import Hierarchy
from bearer_middleware.access.identity import Identity
from bearer_middleware.errors import Forbidden, InsufficientScope, MissingToken, Refused
from bearer_middleware.flow.clock import Clock
from bearer_middleware.policy.outcomes import step_up
from bearer_middleware.settings import Settings
from bearer_middleware.settings.routes import Route


class Demands:
    """Holds identities against routes. Only good tokens come here: what a route demands is not
    told to anybody else (RFC 9470 section 9).
    """

    __slots__ = ("_clock", "_hierarchy", "_leeways", "_scopes")

    def __init__(self, settings: Settings, clock: Clock, hierarchy: Hierarchy) -> None:
        self._clock, self._hierarchy = clock, hierarchy
        self._scopes = settings.required_scopes
        self._leeways = {issuer.issuer: issuer.leeway for issuer in settings.issuers}

    def hold(self, route: Route, identity: Identity) -> None:
        """Raises ``InsufficientScope`` with all scopes that are needed, the server's too, or
        ``InsufficientAuthentication`` with all that is wanted of the authentication.
        """
        if route.scopes and not self._hierarchy.grants(identity.scopes, frozenset(route.scopes)):
            scopes = tuple(dict.fromkeys((*self._scopes, *route.scopes)))
            raise InsufficientScope(scopes, issuer=identity.issuer)
        if not self.meets(route.acr, route.max_age, identity):
            wanted = step_up(route.acr, route.max_age, issuer=identity.issuer)
            raise wanted or Forbidden(issuer=identity.issuer)

    def meets(self, acr: Sequence[str], max_age: int | None, identity: Identity) -> bool:
        """Did the user authenticate in one of these ways, if there are any, and so recently?"""
        is_strong = not acr or identity.claims.get("acr") in acr
        return is_strong and self._is_recent(max_age, identity)

    def _is_recent(self, max_age: int | None, identity: Identity) -> bool:
        if max_age is None:
            return True
        at = identity.claims.get("auth_time")
        if not isinstance(at, int | float) or isinstance(at, bool):
            return False
        leeway = self._leeways.get(identity.issuer, 0.0)
        return -leeway <= self._clock.now() - at <= max_age + leeway


def wanting(refusal: InsufficientScope | MissingToken, scopes: Sequence[str]) -> Refused:
    """The same refusal with all scopes that are needed, those of a route too."""
    wanted = tuple(dict.fromkeys((*refusal.scopes, *scopes)))
    whole: Refused
    if isinstance(refusal, MissingToken):
        whole = MissingToken(refusal.reason, issuer=refusal.issuer, scopes=wanted)
    else:
        whole = InsufficientScope(wanted, refusal.reason, issuer=refusal.issuer)
    whole.kind = refusal.kind
    return whole
