"""Ory Hydra: opaque tokens, about which its admin port is asked without proof; JWTs if told so."""

from __future__ import annotations

import re

from bearer_middleware.errors import InvalidToken, Reason
from bearer_middleware.settings.providers.provider import Chosen, Provider, host, role_paths
from bearer_middleware.tokens.preset import Claims, Preset


def _access_token(claims: Claims, answer: bool, latest: float) -> None:
    """Refresh tokens are active, too: an answer has to say what it is about."""
    use = claims.get("token_use")
    if use != "access_token" and (answer or use is not None):
        raise InvalidToken(Reason.NOT_ACCESS_TOKEN, "token_use is not access_token")


def _preset(chosen: Chosen) -> Preset:
    return Preset(
        title="Hydra",
        client=("client_id", "azp"),
        tenant=(("ext", "tenant"), ("ext", "tid"), ("ext", "org_id")),
        roles=_roles(chosen),
        permissions=(("ext", "permissions"), ("permissions",)),
        clients=chosen.clients,
        required=("sub", "client_id", "iat"),
        checks=(_access_token,),
        opaque_advice="Hydra's are, unless it is told to use JWTs: set BEARER_INTROSPECTION_URL "
        "to /admin/oauth2/introspect at its admin port",
    )


def _roles(chosen: Chosen) -> tuple[tuple[str, ...], ...]:
    named = role_paths(chosen, ("roles",))
    return (*(("ext", *path) for path in named), *named)


HYDRA = Provider(
    title="Hydra",
    domain=host,
    domain_is="its public host, such as slug.projects.oryapis.com",
    issuers=lambda domain, tenant: (f"https://{domain}",),
    issuer=re.compile(r"https?://(?P<domain>[^/]+)(?:/.*)?"),
    issuer_is="urls.self.issuer of its configuration, to the letter",
    keys=lambda chosen: f"{chosen.base}/.well-known/jwks.json",
    preset=_preset,
)
