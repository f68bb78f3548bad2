"""How the tokens of one product differ from the usual: where it says what, and what else must hold.

A preset is a value without a life of its own. The rules ask it, the facts of a token are read by
it, and the identity finds it again through the name of its issuer.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, final

Claims = Mapping[str, Any]
#: Names of members, one within the other.
Path = tuple[str, ...]
#: How an opaque token is asked about: RFC 7662, or what a provider has in its place.
Asked = Literal["introspection", "userinfo", "tokeninfo", "never"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Preset:
    """What is special about the tokens of one issuer. The defaults are what is usual.

    ``checks`` are called with the claims, whether they are those of an answer, and the latest time
    that does not count as the future, in seconds since the epoch; they return or raise
    ``InvalidToken``.
    """

    title: str = ""
    # -- who, by which claims
    #: The first of these of which all members are there; several are joined by a dot.
    subject: tuple[Path, ...] = (("sub",),)
    client: tuple[str, ...] = ("client_id", "azp")
    tenant: tuple[Path, ...] = (("tid",), ("org_id",), ("tenant",))
    #: All of these together.
    roles: tuple[Path, ...] = (("roles",),)
    #: Are the roles the names of members, each with the tenants it was granted for?
    roles_are_names: bool = False
    permissions: tuple[Path, ...] = (("permissions",),)
    #: Does a machine act for itself? ``None``: where the subject is the client.
    machine: Callable[[Claims], bool] | None = None
    # -- what must hold
    #: Other names of the same issuer.
    aliases: tuple[str, ...] = ()
    #: A part of each of its names, by which its tokens are told from a stranger's.
    mark: str | None = None
    #: The claim that stands in for an audience that is not there.
    audience_instead: str | None = None
    #: Clients whose tokens are accepted; empty: of all.
    clients: tuple[str, ...] = ()
    #: Claims that must be there and not empty, in a JWT.
    required: tuple[str, ...] = ()
    #: Are its ID tokens what an API gets?
    id_tokens: bool = False
    needs_kid: bool = False
    #: What a JWK may say in ``issuer``; empty: that is not looked at.
    key_issuers: frozenset[str] = frozenset()
    checks: tuple[Callable[[Claims, bool, float], None], ...] = ()
    # -- opaque tokens, and words for the operator
    asked: Asked = "introspection"
    opaque_advice: str = ""
    #: What helps where the audience is wrong, or nothing.
    audience_advice: Callable[[Claims], str] | None = None

    def client_of(self, claims: Claims) -> str | None:
        """To whom the token was issued."""
        for name in self.client:
            value = claims.get(name)
            if isinstance(value, str) and value:
                return value
        return None

    def subject_of(self, claims: Claims) -> str | None:
        """The ``sub``, or what this product has in its place; no fallback."""
        for names in self.subject:
            parts = [claims.get(name) for name in names]
            if all(isinstance(part, str) and part for part in parts):
                return ".".join(parts)  # type: ignore[arg-type]
        return None

    def is_machine(self, claims: Claims) -> bool:
        """Does a client act for itself, and no user through it (RFC 9068 section 5)?"""
        if self.machine is not None and self.machine(claims):
            return True
        client = self.client_of(claims)
        return client is not None and client in (claims.get("sub"), self.subject_of(claims))

    def tenant_of(self, claims: Claims) -> str | None:
        """The customer or organization that the subject belongs to."""
        for path in self.tenant:
            value = at(claims, path)
            if isinstance(value, str) and value:
                return value
        return None

    def roles_of(self, claims: Claims) -> frozenset[str]:
        """Roles, from wherever this product says them."""
        found = [at(claims, path) for path in self.roles]
        if self.roles_are_names:
            tenant = self.tenant_of(claims)
            found = [_granted(value, tenant) for value in found]
        return strings(found[0]) if len(found) == 1 else _all_of(found)

    def permissions_of(self, claims: Claims) -> frozenset[str]:
        """What the subject may do, where the token itself says so."""
        found = [at(claims, path) for path in self.permissions]
        return strings(found[0]) if len(found) == 1 else _all_of(found)


#: What holds where no provider is named.
USUAL = Preset()


_NONE: frozenset[str] = frozenset()


def at(claims: Claims, path: Path) -> Any:
    """What is at the end of ``path``; ``None`` where it leads nowhere."""
    value: Any = claims
    for name in path:
        # To ask whether something is a Mapping takes long, and the claims are one.
        if value is not claims and not isinstance(value, Mapping):
            return None
        value = value.get(name)
    return value


def strings(claim: Any) -> frozenset[str]:
    """A multi-valued attribute in either shape of RFC 7643, strings or ``{"value": ...}``; what
    has another shape is left out.
    """
    if claim is None:
        return _NONE
    entries = claim if isinstance(claim, list | tuple) else [claim]
    names = (entry.get("value") if isinstance(entry, Mapping) else entry for entry in entries)
    return frozenset(name for name in names if isinstance(name, str) and name)


def _all_of(found: list[Any]) -> frozenset[str]:
    return frozenset().union(*(strings(value) for value in found))


def _granted(roles: Any, tenant: str | None) -> Any:
    """Of the names of members those that this tenant has; all where no tenant is known."""
    if not isinstance(roles, Mapping):
        return roles
    if tenant is None:
        return list(roles)
    return [name for name, of in roles.items() if isinstance(of, Mapping) and tenant in of]


def time_of(claim: Any) -> float | None:
    """Seconds since the epoch, or ``None`` for what is no time."""
    if type(claim) is int or (type(claim) is float and math.isfinite(claim)):
        return claim
    return None


@final
class IssuerName(str):
    """The name of an issuer, from which whoever reads the claims later learns how. The facts of a
    token have no other place for it, and those of usual tokens shall not need one.
    """

    __slots__ = ("preset",)

    preset: Preset

    def __reduce__(self) -> tuple[Any, ...]:
        return named, (str(self), self.preset)


def named(issuer: str, preset: Preset) -> str:
    """The name of an issuer whose claims are to be read by ``preset``."""
    name = IssuerName(issuer)
    name.preset = preset
    return name


def preset_of(issuer: str | None) -> Preset:
    """How the claims of a token of this issuer are to be read."""
    return issuer.preset if type(issuer) is IssuerName else USUAL
