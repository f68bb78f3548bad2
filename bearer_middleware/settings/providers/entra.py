"""Microsoft Entra ID: tokens of versions 1 and 2, of directories that are listed.

The keys of all directories are published together, so each is bound to those it may sign for.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from bearer_middleware.errors import InvalidToken, Reason
from bearer_middleware.settings.parsing import Unreadable, choice, text
from bearer_middleware.settings.providers.provider import Chosen, Mistakes, Provider, role_paths
from bearer_middleware.tokens.preset import Claims, Preset

_GUID = r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}"
_WHOLE_GUID = re.compile(_GUID)
_ANY_DIRECTORY = ("common", "organizations", "consumers")
_TEMPLATE = "{tenantid}"
#: Where version 2 is, and the issuer of version 1, by cloud.
_CLOUDS = {
    "login.microsoftonline.com": "https://sts.windows.net",
    "login.microsoftonline.us": "https://sts.windows.net",
    "login.partner.microsoftonline.cn": "https://sts.chinacloudapi.cn",
}
_DEFAULT_CLOUD = "login.microsoftonline.com"
_GRAPH = frozenset(
    {
        "00000003-0000-0000-c000-000000000000",
        "https://graph.microsoft.com",
        "https://graph.microsoft.com/",
        "https://graph.microsoft.us",
        "https://microsoftgraph.chinacloudapi.cn",
    }
)


def _directory(value: object) -> str:
    written = text(value).lower()
    if written in _ANY_DIRECTORY:
        raise Unreadable(
            f"must be the ids of directories: {written} would let in tokens of any of them"
        )
    if not _WHOLE_GUID.fullmatch(written):
        raise Unreadable(
            "must be the id of a directory, such as 11111111-2222-3333-4444-555555555555, and no "
            "domain of it"
        )
    return written


def _issuers(domain: str, tenant: str) -> tuple[str, ...]:
    return f"https://{domain}/{tenant}/v2.0", f"{_CLOUDS[domain]}/{tenant}/"


@dataclass(frozen=True, slots=True)
class _Bound:
    """``tid`` is the directory of the issuer, and ``ver`` the version that such an ``iss`` has."""

    tenant: str

    def __call__(self, claims: Claims, answer: bool, latest: float) -> None:
        if claims.get("tid") != self.tenant:
            raise InvalidToken(Reason.UNKNOWN_ISSUER, "tid is not the directory of the issuer")
        issuer = claims.get("iss")
        version = "2.0" if isinstance(issuer, str) and issuer.endswith("/v2.0") else "1.0"
        if claims.get("ver") != version:
            raise InvalidToken(Reason.UNKNOWN_ISSUER, f"ver is not {version}, as iss would have it")


def _access_token(claims: Claims, answer: bool, latest: float) -> None:
    """Where client and API are one application, an ID token has our ``aud``, but no client."""
    if "azp" not in claims and "appid" not in claims:
        raise InvalidToken(Reason.NOT_ACCESS_TOKEN, "neither azp nor appid: an ID token")


def _granted(claims: Claims, answer: bool, latest: float) -> None:
    """Any application of a directory gets tokens for any API of it, whether granted or not."""
    if not (claims.get("scp") or claims.get("roles")):
        detail = (
            "neither scp nor roles: nothing of this API was granted to the client; assign it an "
            "app role, or name it in BEARER_PROVIDER_CLIENTS"
        )
        raise InvalidToken(Reason.MISSING_CLAIM, detail)


def _machine(claims: Claims) -> bool:
    """``idtyp`` is optional; without it, who has no scopes and is the application itself."""
    kind = claims.get("idtyp")
    if kind is not None:
        return bool(kind == "app")
    return "scp" not in claims and claims.get("oid") == claims.get("sub") is not None


def _audience_advice(claims: Claims) -> str:
    named = claims.get("aud")
    if isinstance(named, str) and named in _GRAPH:
        return (
            ", but Microsoft Graph: the client must ask for a scope of this API, such as "
            "api://.../.default"
        )
    return ""


def _preset(chosen: Chosen) -> Preset:
    tenant, domain = chosen.tenant or "", chosen.domain or _DEFAULT_CLOUD
    checks = (_Bound(tenant), _access_token)
    return Preset(
        title="Entra",
        subject=(("oid", "tid"), ("sub",)),  # sub is another one for each application
        client=("azp", "appid"),
        tenant=(("tid",),),
        roles=role_paths(chosen, ("roles",)),
        machine=_machine,
        aliases=_issuers(domain, tenant)[1:] if chosen.composed else (),
        mark=tenant,
        clients=chosen.clients,
        required=("sub", "iat", "tid", "ver"),
        needs_kid=True,
        key_issuers=frozenset((*_issuers(domain, tenant), *_issuers(domain, _TEMPLATE))),
        checks=checks if chosen.clients else (*checks, _granted),
        audience_advice=_audience_advice,
        asked="never",
        opaque_advice="Entra has none for an API of yours: is it a token of a personal account?",
    )


def _mistakes(chosen: Chosen, said: Mapping[str, Any]) -> Mistakes:
    if chosen.issuer in _issuers(chosen.domain or _DEFAULT_CLOUD, chosen.tenant or ""):
        return []
    return [("issuer", "is of another cloud than BEARER_PROVIDER_DOMAIN")]


ENTRA = Provider(
    title="Entra",
    domain=choice(*_CLOUDS),
    domain_is="the cloud",
    default_domain=_DEFAULT_CLOUD,
    tenant=_directory,
    tenant_is="the ids of the directories (tenants) whose tokens are accepted",
    issuers=_issuers,
    issuer=re.compile(
        rf"https://(?:(?P<domain>{'|'.join(map(re.escape, _CLOUDS))})/(?P<tenant>{_GUID})/v2\.0"
        rf"|sts\.(?:windows\.net|chinacloudapi\.cn)/(?P<tenant1>{_GUID})/)"
    ),
    issuer_is="https://login.microsoftonline.com/ID/v2.0 or https://sts.windows.net/ID/, where ID "
    "is that of a directory, and neither common nor organizations",
    keys=lambda chosen: (
        f"https://{chosen.domain or _DEFAULT_CLOUD}/{chosen.tenant}/discovery/v2.0/keys"
    ),
    asked="never",
    algorithms=("RS256",),
    pinned=True,
    audience_needed=True,
    preset=_preset,
    mistakes=_mistakes,
)
