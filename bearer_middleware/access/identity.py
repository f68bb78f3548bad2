"""The identity a request carries once its token was found good.

Made anew for every request, and lazily: on a hit nothing is parsed until somebody looks,
and whatever a handler does to ``claims`` stays in that request.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import Any, Literal, final

from bearer_middleware.access.attributes import Attributes
from bearer_middleware.tokens.claims import audience_of
from bearer_middleware.tokens.facts import CLIENT, OPAQUE, STALE, USER
from bearer_middleware.tokens.preset import preset_of
from bearer_middleware.tokens.text import parse_object

Kind = Literal["jwt", "opaque"]

_LAZY = ("client_id", "audience", "expires_at", "issued_at", "token_id", "claims")
_PLAIN = ("subject", "issuer", "scopes", "kind", "is_client", "stale")


class Unsealed:
    """What an :class:`Identity` is before it is one: its slots may be filled. To be sealed it
    becomes an ``Identity``, which is the quickest way to fill a slot of what nobody may change.
    """

    __slots__ = (*_PLAIN, *_LAZY, "_facts", "_origin")

    #: ``None`` where the attributes were given, and there is nothing to unfold.
    _facts: Any
    #: What a claim mapper made it of.
    _origin: Identity


@final
class Identity(Unsealed, Attributes):
    """Who is calling: an immutable value without the raw token.

    ``subject`` falls back to ``client_id``, then ``username``, where a server sends no
    ``sub``. ``is_client`` says a machine acts for itself, not for a user (RFC 9068 section
    5). ``stale`` says that the authorization server could not be asked and an answer of
    before serves, which ``BEARER_STALE_IF_ERROR`` allows. Times are seconds since the
    epoch. ``claims`` is a read-only mapping of this request's own.
    """

    __slots__ = ()

    subject: str | None
    issuer: str | None
    client_id: str | None
    scopes: frozenset[str]
    audience: tuple[str, ...]
    expires_at: float | None
    issued_at: float | None
    token_id: str | None
    kind: Kind
    is_client: bool
    stale: bool
    claims: Mapping[str, Any]

    def __init__(
        self,
        *,
        subject: str | None = None,
        issuer: str | None = None,
        client_id: str | None = None,
        scopes: Iterable[str] = (),
        audience: Iterable[str] = (),
        expires_at: float | None = None,
        issued_at: float | None = None,
        token_id: str | None = None,
        kind: Kind = "jwt",
        is_client: bool = False,
        claims: Mapping[str, Any] | None = None,
        stale: bool = False,
    ) -> None:
        for name, value in (
            ("subject", subject),
            ("issuer", issuer),
            ("client_id", client_id),
            # Text is what a claim holds, and no collection of its characters.
            ("scopes", split_scope(scopes) if isinstance(scopes, str) else frozenset(scopes)),
            ("audience", (audience,) if isinstance(audience, str) else tuple(audience)),
            ("expires_at", expires_at),
            ("issued_at", issued_at),
            ("token_id", token_id),
            ("kind", kind),
            ("is_client", is_client),
            ("stale", stale),
            ("claims", MappingProxyType(dict(claims or {}))),
            ("_facts", None),
        ):
            _put(self, name, value)

    def __getattr__(self, name: str) -> Any:
        """Called for a slot that is still empty: unfold the remembered facts into it."""
        if name in _PLAIN:
            _unfold_plain(self)
        elif name in _LAZY:
            _unfold_claims(self)
        else:
            raise AttributeError(f"an Identity has no attribute {name!r}")
        return object.__getattribute__(self, name)

    def __setattr__(self, name: str, value: Any) -> None:
        raise AttributeError("an Identity is immutable")

    def __delattr__(self, name: str) -> None:
        raise AttributeError("an Identity is immutable")

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Identity):
            return NotImplemented
        return all(getattr(self, name) == getattr(other, name) for name in (*_PLAIN, *_LAZY))

    def __hash__(self) -> int:
        return hash((self.issuer, self.subject, self.token_id))

    def __repr__(self) -> str:
        # Neither token nor claims: a representation ends up in logs.
        return f"<Identity kind={self.kind} is_client={self.is_client}>"

    def __reduce__(self) -> tuple[Any, ...]:
        return _rebuild, ({**self._values(), "claims": dict(self.claims)},)

    def replace(self, **changes: Any) -> Identity:
        """A copy with some attributes changed, for claim mappers."""
        return Identity(**{**self._values(), **changes})

    def _values(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in (*_PLAIN, *_LAZY)}

    # Starlette's shape of a user.

    @property
    def is_authenticated(self) -> bool:
        return True

    @property
    def display_name(self) -> str:
        return self.subject or ""

    @property
    def identity(self) -> str:
        return self.subject or ""

    @property
    def user_name(self) -> str | None:
        """The ``sub`` of a user, not of a client and not a fallback, where it is plain latin-1."""
        facts = self._facts
        if facts is not None:
            name = facts[5] if facts[7] & USER else None
        else:
            said = preset_of(self.issuer).subject_of(self.claims)
            own = not self.is_client and self.subject == said
            name = self.subject if own else None
        return name if name and _fits_an_environ(name) else None


_put = object.__setattr__


def mapped(identity: Identity, origin: Identity) -> Identity:
    """A copy of what a claim mapper made of ``origin``, which is what gets revoked."""
    copy = identity.replace()
    _put(copy, "_origin", origin)
    return copy


def origin_of(identity: Identity) -> Identity:
    """As the token says it, before any claim mapper."""
    try:
        origin: Identity = object.__getattribute__(identity, "_origin")
    except AttributeError:
        return identity
    return origin


def _rebuild(values: dict[str, Any]) -> Identity:
    return Identity(**values)


def identity_of(entry: tuple[Any, ...]) -> Identity:
    """An identity over a remembered entry, in which the facts stand behind five other items; it
    is unfolded when somebody looks.
    """
    identity: Any = Unsealed()
    identity._facts = entry
    identity.__class__ = Identity
    sealed: Identity = identity
    return sealed


def stale_facts(entry: tuple[Any, ...]) -> tuple[Any, ...]:
    """The same entry, of an identity that is stale. For one request: it is not remembered."""
    return (*entry[:7], entry[7] | STALE, *entry[8:])


def _unfold_plain(identity: Identity) -> None:
    subject, scope, flags, _, issuer = identity._facts[5:10]
    _put(identity, "subject", subject)
    _put(identity, "issuer", issuer)
    _put(identity, "scopes", split_scope(scope))
    _put(identity, "kind", "opaque" if flags & OPAQUE else "jwt")
    _put(identity, "is_client", bool(flags & CLIENT))
    _put(identity, "stale", bool(flags & STALE))


def _unfold_claims(identity: Identity) -> None:
    claims = parse_object(identity._facts[8])
    _put(identity, "client_id", preset_of(identity._facts[9]).client_of(claims))
    _put(identity, "audience", audience_of(claims))
    _put(identity, "expires_at", claims.get("exp"))
    _put(identity, "issued_at", claims.get("iat"))
    _put(identity, "token_id", claims.get("jti"))
    _put(identity, "claims", MappingProxyType(claims))


def _fits_an_environ(name: str) -> bool:
    """PEP 3333 has only latin-1 there, and control characters have no business in a name."""
    return name.isprintable() and (name.isascii() or max(name) <= "\xff")


def split_scope(scope: str) -> frozenset[str]:
    """Scope-tokens are case-sensitive and separated by spaces (RFC 6749 section 3.3)."""
    return frozenset(name for name in scope.split(" ") if name)


@final
class Anonymous:
    """The user of a request that showed no token, in Starlette's shape."""

    __slots__ = ()

    is_authenticated = False
    display_name = ""
    identity = ""


class Credentials:
    """What ``request.auth`` is: Starlette's ``AuthCredentials``, made when somebody looks."""

    __slots__ = ("identity",)

    #: Put there by whoever makes one: a constructor would take longer than all the rest.
    identity: Identity | None

    @property
    def scopes(self) -> list[str]:
        """The token's scopes and ``authenticated``; none at all for an anonymous caller."""
        if self.identity is None:
            return []
        return [*sorted(self._granted(self.identity)), "authenticated"]

    def _granted(self, identity: Identity) -> frozenset[str]:
        return identity.scopes
