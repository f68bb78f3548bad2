"""Amazon Cognito: access tokens of a user pool, which name a client and mostly no audience."""

from __future__ import annotations

import re

from bearer_middleware.errors import InvalidToken, Reason
from bearer_middleware.settings.parsing import matching
from bearer_middleware.settings.providers.provider import Chosen, Provider, role_paths
from bearer_middleware.tokens.preset import Claims, Preset

_POOL = r"[a-z]{2}(?:-[a-z]+)+-[0-9]_[A-Za-z0-9]{1,55}"


def _issuers(domain: str, pool: str) -> tuple[str, ...]:
    """A pool may be told to use the newer form, at any time."""
    region = pool.partition("_")[0]
    suffix = ".cn" if region.startswith("cn-") else ""
    return tuple(
        f"https://{name}.{region}.amazonaws.com{suffix}/{pool}"
        for name in ("cognito-idp", "issuer-cognito-idp")
    )


def _access_token(claims: Claims, answer: bool, latest: float) -> None:
    if claims.get("token_use") != "access":
        raise InvalidToken(Reason.NOT_ACCESS_TOKEN, "token_use is not access")


def _preset(chosen: Chosen) -> Preset:
    return Preset(
        title="Cognito",
        client=("client_id",),
        tenant=(),
        roles=role_paths(chosen, ("cognito:groups",)),
        aliases=_issuers("", chosen.tenant or "")[1:] if chosen.composed else (),
        mark=chosen.tenant,
        audience_instead="client_id",
        clients=chosen.clients,
        required=("sub", "client_id", "iat"),
        checks=(_access_token,),
        asked="never",
        opaque_advice="Cognito has no opaque access tokens: is it a refresh token?",
    )


COGNITO = Provider(
    title="Cognito",
    tenant=matching(_POOL, "the id of a user pool, which begins with its region: eu-west-1_AbC123"),
    tenant_is="the id of the user pool",
    issuers=_issuers,
    issuer=re.compile(
        rf"https://(?:issuer-)?cognito-idp\.[a-z0-9-]+\.amazonaws\.com(?:\.cn)?/(?P<tenant>{_POOL})"
    ),
    issuer_is="https://cognito-idp.eu-west-1.amazonaws.com/eu-west-1_AbC123, without a slash at "
    "its end",
    keys=lambda chosen: f"{chosen.issuer}/.well-known/jwks.json",
    asked="never",
    algorithms=("RS256",),
    pinned=True,
    audience_needed=True,
    preset=_preset,
)
