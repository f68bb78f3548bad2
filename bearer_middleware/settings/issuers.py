"""What holds for one authorization server, said at the top level or in its own table."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from bearer_middleware.settings.secret import Secret
from bearer_middleware.tokens.preset import USUAL, Preset

ClientAuth = Literal[
    "client_secret_basic",
    "client_secret_post",
    "private_key_jwt",
    "client_secret_jwt",
    "tls_client_auth",
    "none",
]

ProviderName = Literal[
    "auth0",
    "okta",
    "firebase",
    "cognito",
    "entra",
    "keycloak",
    "zitadel",
    "hydra",
    "google",
]

#: What each way of proving ourselves needs, and what it can use besides.
CREDENTIALS: dict[ClientAuth, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "client_secret_basic": (("client_id", "client_secret"), ()),
    "client_secret_post": (("client_id", "client_secret"), ()),
    "client_secret_jwt": (("client_id", "client_secret"), ()),
    "private_key_jwt": (("client_id", "client_key_file"), ("client_key_id",)),
    "tls_client_auth": (("client_id", "client_cert_file"), ("client_key_file",)),
    "none": ((), ("client_id",)),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class PerIssuer:
    """The settings that each issuer may have for itself."""

    issuer: str | None
    audience: tuple[str, ...]
    allow_any_audience: bool
    profile: Literal["compatible", "rfc9068"]
    leeway: float

    provider: ProviderName | None
    provider_domain: str | None
    provider_tenant: tuple[str, ...]
    provider_clients: tuple[str, ...]
    provider_roles: tuple[str, ...]
    provider_opaque: bool

    jwks_url: str | None
    jwks_file: str | None
    jwks_bootstrap_file: str | None
    hmac_secret: Secret | None
    hmac_secret_file: str | None
    #: Beside a secret: exactly the HS algorithms it is long enough for.
    algorithms: tuple[str, ...]
    jwks_ttl: float
    jwks_max_stale: float
    jwt_cache_ttl: float

    introspection_url: str | None
    client_id: str | None
    client_secret: Secret | None
    client_secret_file: str | None
    client_auth: ClientAuth
    client_key_file: str | None
    client_key_id: str | None
    client_cert_file: str | None
    token_prefix: str | None
    ca_file: str | None
    introspection_signed: bool
    jwt_validation: Literal["local", "introspect", "both"]
    introspection_ttl: float
    introspection_audience: Literal["required", "if-present", "any"]
    negative_ttl: float
    stale_if_error: float
    #: Empty: a token's status is not looked at. ``None``: a token that has one is refused.
    status_lists: tuple[str, ...] | None


class IssuerSettings(PerIssuer):
    """An authorization server whose tokens are believed. Made by ``Settings``, which checks it."""

    __slots__ = ()

    @property
    def preset(self) -> Preset:
        """What is special about the tokens of this issuer."""
        if self.provider is None:
            return USUAL
        from bearer_middleware.settings.presets import preset_for  # and what is known of products

        return preset_for(self)

    @property
    def local_validation(self) -> bool:
        """Are JWTs validated here?"""
        said = (self.issuer, self.jwks_url, self.jwks_file, self.hmac_secret)
        return any(value is not None for value in said)

    @property
    def introspection(self) -> bool:
        """Can the authorization server be asked about a token?"""
        if self.preset.asked == "never":
            return False
        if self.introspection_url is not None:
            return True
        return self.issuer is not None and self._has_credentials

    @property
    def _has_credentials(self) -> bool:
        needed, _ = CREDENTIALS[self.client_auth]
        return all(getattr(self, name) is not None for name in {"client_id", *needed})
