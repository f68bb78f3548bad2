"""Which scopes grant others: whoever may write may perhaps read, too.

RFC 6749 knows no such thing, so it is said by the settings or by a function of the user's. It is
asked only where a token's own scopes are not enough; ``Identity.scopes`` stays the token's own.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

from bearer_middleware.access.identity import Credentials, Identity
from bearer_middleware.errors import ConfigError, Reason, Unavailable
from bearer_middleware.flow.effects import is_async
from bearer_middleware.settings import Settings
from bearer_middleware.settings.parsing import Unreadable
from bearer_middleware.settings.resources import scope_implications

#: ``(granted) -> scopes`` that are granted along with those, or a table as in the settings.
Implies = Callable[[frozenset[str]], Iterable[str]] | Mapping[str, object]


class Hierarchy:
    """The implications of one configuration; ``implies`` is ``None`` where there are none.
    ``required`` are the scopes that every request needs.
    """

    __slots__ = ("_implies", "required")

    def __init__(
        self,
        implies: Callable[[frozenset[str]], Iterable[str]] | None = None,
        required: Iterable[str] = (),
    ) -> None:
        self._implies, self.required = implies, frozenset(required)

    def __bool__(self) -> bool:
        return self._implies is not None

    def grants(self, granted: frozenset[str], needed: frozenset[str]) -> bool:
        """Are ALL needed scopes among those granted, or implied by them? Raises ``Unavailable``
        where the user's function fails.
        """
        if needed <= granted:
            return True
        return self._implies is not None and needed <= self.expand(granted)

    def expand(self, granted: frozenset[str]) -> frozenset[str]:
        """What is granted, with all that it implies. Raises ``Unavailable``."""
        if self._implies is None:
            return granted
        try:
            implied = self._implies(granted)
            if not isinstance(implied, str):  # whose characters are no scopes
                return granted.union(implied)
            detail = "implies returned a text and no collection"
        except Exception as error:  # noqa: BLE001 - it is not ours, and must not let anybody in
            detail = f"implies raised {type(error).__name__}"
        raise Unavailable(Reason.EXTENSION_FAILED, detail)


def hierarchy_of(settings: Settings, implies: Implies | None = None) -> Hierarchy:
    """That of ``BEARER_SCOPE_IMPLICATIONS``, or of what was given in its place. Raises
    ``ConfigError`` where both are there, or what is given is no table and no plain function.
    """
    if implies is None:
        implies = settings.scope_implications
    elif settings.scope_implications:
        raise ConfigError("implies: beside BEARER_SCOPE_IMPLICATIONS; keep one")
    if not callable(implies):
        try:
            implies = _closed(scope_implications(implies))
        except Unreadable as error:
            raise ConfigError(f"implies: {error}, or a function") from None
    elif is_async(implies):
        raise ConfigError("implies: must be a plain function, it is called in both worlds")
    return Hierarchy(implies, settings.required_scopes)


def credentials_of(hierarchy: Hierarchy) -> type[Credentials]:
    """What ``request.auth`` is where these implications hold, for Starlette's ``@requires``. It
    cannot say that it does not know: where the user's function fails, nothing is implied.
    """
    if not hierarchy:
        return Credentials

    class Implied(Credentials):
        __slots__ = ()

        def _granted(self, identity: Identity) -> frozenset[str]:
            try:
                return hierarchy.expand(identity.scopes)
            except Unavailable:
                return identity.scopes

    return Implied


def _closed(table: Mapping[str, object]) -> Callable[[frozenset[str]], Iterable[str]] | None:
    """A scope grants what those grant that it grants, however many steps that takes."""
    if not table:
        return None
    closed = {name: _reachable(name, table) for name in table}
    nothing: frozenset[str] = frozenset()
    return lambda granted: nothing.union(*(closed.get(name, nothing) for name in granted))


def _reachable(name: str, table: Mapping[str, object]) -> frozenset[str]:
    found, waiting = {name}, [name]
    while waiting:
        implied = table.get(waiting.pop(), ())
        fresh = set(implied if isinstance(implied, tuple) else ()) - found
        found |= fresh
        waiting += fresh
    return frozenset(found)
