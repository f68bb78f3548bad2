"""Zitadel: opaque tokens, or JWTs where an application is told so; the audience is a project."""

from __future__ import annotations

import re

from bearer_middleware.errors import InvalidToken, Reason
from bearer_middleware.settings.parsing import matching
from bearer_middleware.settings.providers.provider import Chosen, Provider, host, role_paths
from bearer_middleware.tokens.preset import Claims, Preset

_ROLES = "urn:zitadel:iam:org:project:{}:roles"


def _access_token(claims: Claims, answer: bool, latest: float) -> None:
    """ID tokens have the audience of access tokens. They say when the user authenticated, and have
    no ``jti``.
    """
    if not answer and ("nonce" in claims or ("auth_time" in claims and "jti" not in claims)):
        raise InvalidToken(Reason.NOT_ACCESS_TOKEN, "an ID token")


def _preset(chosen: Chosen) -> Preset:
    # Without a project in its name the claim has the roles of the client's, which may be anybody's.
    projects = (chosen.tenant,) if chosen.tenant else chosen.audience
    return Preset(
        title="Zitadel",
        client=("client_id", "azp"),
        tenant=(("urn:zitadel:iam:user:resourceowner:id",), ("urn:zitadel:iam:org:id",)),
        roles=role_paths(chosen, *((_ROLES.format(name),) for name in projects)),
        roles_are_names=True,
        clients=chosen.clients,
        required=("sub", "iat"),
        checks=(_access_token,),
        opaque_advice="Zitadel's are, unless the application is told to use JWTs: set "
        "BEARER_CLIENT_ID and our proof, so that it can be asked",
    )


ZITADEL = Provider(
    title="Zitadel",
    domain=host,
    domain_is="the host of the instance",
    tenant=matching(r"[A-Za-z0-9._-]{1,200}", "the id of a project"),
    tenant_is="the id of the project that this API is in",
    tenant_is_optional=True,
    issuers=lambda domain, tenant: (f"https://{domain}",),
    issuer=re.compile(r"https?://(?P<domain>[^/]+)"),
    issuer_is="https://instance.zitadel.cloud, without a slash at its end",
    keys=lambda chosen: f"{chosen.issuer}/oauth/v2/keys",
    introspection=lambda chosen: f"{chosen.issuer}/oauth/v2/introspect",
    audience=lambda chosen: (chosen.tenant,) if chosen.tenant else (),
    preset=_preset,
)
