"""Google: ID tokens, for whose issuer there are two spellings; access tokens are opaque."""

from __future__ import annotations

import re

from bearer_middleware.errors import InvalidToken, Reason
from bearer_middleware.settings.providers.provider import Chosen, Provider, role_paths
from bearer_middleware.tokens.preset import Claims, Preset

_ISSUER = "https://accounts.google.com"


def _machine(claims: Claims) -> bool:
    email = claims.get("email")
    is_service = isinstance(email, str) and email.endswith(".gserviceaccount.com")
    return is_service and claims.get("email_verified") in (True, "true")


def _user(claims: Claims, answer: bool, latest: float) -> None:
    """Without ``sub`` a user would be taken for the application."""
    if not claims.get("sub"):
        raise InvalidToken(Reason.MISSING_CLAIM, "no sub: the client must ask for openid")


def _preset(chosen: Chosen) -> Preset:
    return Preset(
        title="Google",
        client=("azp",),
        tenant=(("hd",),),
        roles=role_paths(chosen),
        machine=_machine,
        aliases=("accounts.google.com",),
        mark="accounts.google.com",
        clients=chosen.clients,
        required=("sub", "iat"),
        id_tokens=True,
        needs_kid=True,
        checks=(_user,),
        opaque_advice="BEARER_PROVIDER_OPAQUE=true asks Google's tokeninfo about access tokens",
    )


GOOGLE = Provider(
    title="Google",
    issuers=lambda domain, tenant: (_ISSUER,),
    issuer=re.compile(re.escape(_ISSUER)),
    issuer_is=_ISSUER,
    keys=lambda chosen: "https://www.googleapis.com/oauth2/v3/certs",
    introspection=lambda chosen: "https://oauth2.googleapis.com/tokeninfo",
    asked="never",
    opaque="tokeninfo",
    algorithms=("RS256",),
    pinned=True,
    audience_needed=True,
    preset=_preset,
    defaults={"token_prefix": "ya29."},
)
