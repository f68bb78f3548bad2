"""Auth0: a JWT where the client asked for an ``audience``, else a token that is opaque.

Roles are there only as a claim with a name of the user's own: ``BEARER_PROVIDER_ROLES``.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from bearer_middleware.errors import InvalidToken, Reason
from bearer_middleware.settings.parsing import Unreadable
from bearer_middleware.settings.providers.provider import (
    Chosen,
    Mistakes,
    Provider,
    host,
    role_paths,
)
from bearer_middleware.tokens.preset import Claims, Preset

_OPAQUE = (
    "Auth0 has no introspection: did the client forget audience? "
    "BEARER_PROVIDER_OPAQUE=true asks userinfo"
)


def _domain(value: object) -> str:
    written = host(value)
    if "." not in written:
        raise Unreadable("must be a whole host such as tenant.eu.auth0.com, or your custom domain")
    return written


def _machine(claims: Claims) -> bool:
    subject = claims.get("sub")
    by_grant = claims.get("gty") == "client-credentials"
    return by_grant or (isinstance(subject, str) and subject.endswith("@clients"))


def _access_token(claims: Claims, answer: bool, latest: float) -> None:
    """ID tokens name no client beside their audience, and mostly have neither of the hashes."""
    if not (answer or claims.get("azp") or claims.get("client_id")):
        raise InvalidToken(Reason.NOT_ACCESS_TOKEN, "neither azp nor client_id: an ID token")


def _audience_advice(claims: Claims) -> str:
    named = claims.get("aud")
    names = named if isinstance(named, list) else [named]
    if all(isinstance(name, str) and name.endswith("/userinfo") for name in names):
        return ", but only userinfo: did the client forget audience?"
    return ""


def _preset(chosen: Chosen) -> Preset:
    return Preset(
        title="Auth0",
        client=("azp", "client_id"),
        tenant=(("org_id",),),
        roles=role_paths(chosen),
        machine=_machine,
        clients=chosen.clients,
        required=("sub", "iat"),
        checks=(_access_token,),
        audience_advice=_audience_advice,
        opaque_advice=_OPAQUE,
    )


def _mistakes(chosen: Chosen, said: Mapping[str, Any]) -> Mistakes:
    if not chosen.opaque:
        return []
    mistakes: Mistakes = []
    contradicts = "contradicts BEARER_PROVIDER_OPAQUE: userinfo never says"
    if said.get("introspection_audience", "any") != "any":
        mistakes.append(("introspection_audience", f"{contradicts} for whom a token is"))
    if chosen.clients:
        mistakes.append(("provider_clients", f"{contradicts} to whom a token was issued"))
    return mistakes


AUTH0 = Provider(
    title="Auth0",
    domain=_domain,
    domain_is="its domain, such as tenant.eu.auth0.com, or your custom domain",
    issuers=lambda domain, tenant: (f"https://{domain}/",),
    issuer=re.compile(r"https?://(?P<domain>[^/]+)/"),
    issuer_is="https://tenant.eu.auth0.com/, with the slash at its end",
    keys=lambda chosen: f"{chosen.base}/.well-known/jwks.json",
    introspection=lambda chosen: f"{chosen.base}/userinfo",
    asked="never",
    opaque="userinfo",
    algorithms=("RS256",),
    preset=_preset,
    mistakes=_mistakes,
)
