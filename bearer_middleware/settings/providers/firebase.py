"""Firebase: ID tokens of a project. All projects share their keys, so issuer and audience are all
that tells them apart.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from bearer_middleware.errors import InvalidToken, Reason
from bearer_middleware.settings.parsing import matching
from bearer_middleware.settings.providers.provider import Chosen, Mistakes, Provider, role_paths
from bearer_middleware.tokens.preset import Claims, Preset, time_of

_KEYS = "https://www.googleapis.com/service_accounts/v1/jwk/securetoken@system.gserviceaccount.com"
_LONGEST_SUBJECT = 128


def _user(claims: Claims, answer: bool, latest: float) -> None:
    """What Firebase says has to be looked at: ``sub`` and ``auth_time``."""
    if len(str(claims.get("sub"))) > _LONGEST_SUBJECT:
        raise InvalidToken(Reason.MALFORMED_CLAIM, "sub is longer than any user id of Firebase")
    authenticated = time_of(claims.get("auth_time"))
    if authenticated is None:
        raise InvalidToken(Reason.MALFORMED_CLAIM, "auth_time is not a time")
    if authenticated > latest:
        raise InvalidToken(Reason.NOT_YET_VALID, "auth_time is in the future")


def _preset(chosen: Chosen) -> Preset:
    return Preset(
        title="Firebase",
        tenant=(("firebase", "tenant"),),
        roles=role_paths(chosen, ("roles",)),
        required=("sub", "iat", "auth_time"),
        id_tokens=True,
        needs_kid=True,
        checks=(_user,),
        asked="never",
        opaque_advice="Firebase has no opaque tokens: send the ID token of the user",
    )


def _mistakes(chosen: Chosen, said: Mapping[str, Any]) -> Mistakes:
    mistakes: Mistakes = []
    if said.get("audience", (chosen.tenant,)) != (chosen.tenant,):
        mistakes.append(("audience", "must be the project, which is its default"))
    if chosen.clients:
        mistakes.append(("provider_clients", "has no use: tokens of Firebase name no client"))
    return mistakes


FIREBASE = Provider(
    title="Firebase",
    tenant=matching(r"[a-z][a-z0-9-]{4,28}[a-z0-9]", "the id of a project, such as my-project-1"),
    tenant_is="the id of the project",
    issuers=lambda domain, tenant: (f"https://securetoken.google.com/{tenant}",),
    issuer=re.compile(r"https://securetoken\.google\.com/(?P<tenant>[^/]+)"),
    issuer_is="https://securetoken.google.com/ and the project; session cookies are not served",
    keys=lambda chosen: _KEYS,
    asked="never",
    algorithms=("RS256",),
    pinned=True,
    audience=lambda chosen: (chosen.tenant or "",),
    audience_fixed=True,
    audience_needed=True,
    preset=_preset,
    mistakes=_mistakes,
)
