"""What claims say of a caller besides who it is: attributes for policy, compared by nobody here."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from bearer_middleware.tokens.preset import preset_of, strings, time_of


class Attributes:
    """Read from the claims when somebody looks, by the preset of the issuer where it has one.

    What a token does not say is ``None`` or empty; what has another shape than it should counts
    as not said.
    """

    __slots__ = ()

    issuer: str | None
    claims: Mapping[str, Any]

    # RFC 9068 section 2.2.3.1, in either shape of RFC 7643: strings or {"value": ...}.

    @property
    def groups(self) -> frozenset[str]:
        return strings(self.claims.get("groups"))

    @property
    def roles(self) -> frozenset[str]:
        """``roles``, or where the product of ``BEARER_PROVIDER`` says them."""
        return preset_of(self.issuer).roles_of(self.claims)

    @property
    def entitlements(self) -> frozenset[str]:
        return strings(self.claims.get("entitlements"))

    @property
    def permissions(self) -> frozenset[str]:
        """What the user was granted. Not part of the scopes, which the client was granted."""
        return preset_of(self.issuer).permissions_of(self.claims)

    @property
    def tenant(self) -> str | None:
        """The customer or organization: ``tid``, ``org_id`` or ``tenant``, or where the product
        of ``BEARER_PROVIDER`` says it.
        """
        return preset_of(self.issuer).tenant_of(self.claims)

    # How the user authenticated (RFC 9068 section 2.2.1, RFC 9470 section 6).

    @property
    def acr(self) -> str | None:
        """The authentication context class that was satisfied."""
        value = self.claims.get("acr")
        return value if isinstance(value, str) and value else None

    @property
    def amr(self) -> frozenset[str]:
        """The authentication methods that were used (RFC 8176)."""
        return strings(self.claims.get("amr"))

    @property
    def auth_time(self) -> float | None:
        """When the user authenticated, in seconds since the epoch."""
        return time_of(self.claims.get("auth_time"))
