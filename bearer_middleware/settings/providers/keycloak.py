"""Keycloak: a realm. Who may use a token is in ``azp``; the audience is what mappers put there."""

from __future__ import annotations

import re

from bearer_middleware.errors import InvalidToken, Reason
from bearer_middleware.settings.providers.provider import (
    Chosen,
    Provider,
    host_and_path,
    role_paths,
    segment,
)
from bearer_middleware.tokens.preset import Claims, Preset


def _access_token(claims: Claims, answer: bool, latest: float) -> None:
    kind = claims.get("typ")
    if kind != "Bearer" and not (answer and kind is None):
        raise InvalidToken(Reason.NOT_ACCESS_TOKEN, "the claim typ is not Bearer")


def _machine(claims: Claims) -> bool:
    """Every client has a user of its own, of this name, for when it acts for itself."""
    name, client = claims.get("preferred_username"), claims.get("azp")
    return isinstance(client, str) and name == f"service-account-{client.lower()}"


def _user(claims: Claims, answer: bool, latest: float) -> None:
    """Without ``sub``, as in lightweight tokens, a user would be taken for the client."""
    if not claims.get("sub") and not _machine(claims):
        detail = "no sub: the client needs the client scope basic, or have the token introspected"
        raise InvalidToken(Reason.MISSING_CLAIM, detail)


def _audience_advice(claims: Claims) -> str:
    if claims.get("aud") in ("account", ["account"]):
        return (
            ", but only account: let an audience mapper of a client scope add this API (azp is "
            "the client, and no audience)"
        )
    return ""


def _preset(chosen: Chosen) -> Preset:
    ours = [("resource_access", name, "roles") for name in chosen.audience]
    return Preset(
        title="Keycloak",
        client=("azp", "client_id"),
        tenant=(),
        roles=role_paths(chosen, ("realm_access", "roles"), *ours),
        machine=_machine,
        clients=chosen.clients,
        required=("iat",),
        checks=(_access_token, _user),
        audience_advice=_audience_advice,
        opaque_advice="Keycloak is asked about tokens once BEARER_CLIENT_ID says who we are there",
    )


KEYCLOAK = Provider(
    title="Keycloak",
    domain=host_and_path,
    domain_is="its host, such as sso.example.com, or sso.example.com/auth where it is older",
    tenant=segment,
    tenant_is="the realm",
    issuers=lambda domain, tenant: (f"https://{domain}/realms/{tenant}",),
    issuer=re.compile(r"https?://(?P<domain>.+)/realms/(?P<tenant>[^/]+)"),
    issuer_is="https://sso.example.com/realms/REALM, without a slash at its end",
    keys=lambda chosen: f"{chosen.issuer}/protocol/openid-connect/certs",
    introspection=lambda chosen: f"{chosen.issuer}/protocol/openid-connect/token/introspect",
    preset=_preset,
)
