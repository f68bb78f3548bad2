"""Okta: a custom authorization server. Tokens of the one of the organization are for Okta alone."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from bearer_middleware.settings.parsing import Unreadable
from bearer_middleware.settings.providers.provider import (
    Chosen,
    Mistakes,
    Provider,
    host,
    role_paths,
    segment,
)
from bearer_middleware.tokens.preset import Preset

_ORG = (
    "is Okta's own (org) authorization server, whose tokens nobody but Okta may validate: use a "
    "custom one, https://org.okta.com/oauth2/default, or BEARER_JWT_VALIDATION=introspect"
)


def _domain(value: object) -> str:
    written = host(value)
    if re.search(r"-admin\.okta(preview|-emea)?\.com$", written):
        raise Unreadable("must be the host of the organization, without -admin")
    return written


def _keys(chosen: Chosen) -> str:
    return f"{chosen.issuer}/v1/keys" if chosen.tenant else f"{chosen.issuer}/oauth2/v1/keys"


def _introspection(chosen: Chosen) -> str:
    middle = "" if chosen.tenant else "/oauth2"
    return f"{chosen.issuer}{middle}/v1/introspect"


def _audience(chosen: Chosen) -> tuple[str, ...]:
    return ("api://default",) if chosen.tenant == "default" else ()


def _preset(chosen: Chosen) -> Preset:
    return Preset(
        title="Okta",
        subject=(("uid",), ("sub",)),  # sub is a login name, which may change
        client=("cid", "client_id"),
        roles=role_paths(chosen, ("groups",)),
        tenant=(),
        clients=chosen.clients,
        required=("sub", "cid", "iat"),
        opaque_advice="Okta is asked about tokens once BEARER_CLIENT_ID says who we are there",
    )


def _mistakes(chosen: Chosen, said: Mapping[str, Any]) -> Mistakes:
    if chosen.tenant is None and said.get("jwt_validation") != "introspect":
        return [("issuer", _ORG)]
    return []


OKTA = Provider(
    title="Okta",
    domain=_domain,
    domain_is="the host of the organization, such as org.okta.com",
    tenant=segment,
    tenant_is="the id of a custom authorization server",
    default_tenant="default",
    issuers=lambda domain, tenant: (f"https://{domain}/oauth2/{tenant}",),
    issuer=re.compile(r"https?://(?P<domain>[^/]+)(?:/oauth2/(?P<tenant>[^/]+))?"),
    issuer_is="https://org.okta.com/oauth2/default, without a slash at its end",
    keys=_keys,
    introspection=_introspection,
    algorithms=("RS256",),
    audience=_audience,
    preset=_preset,
    mistakes=_mistakes,
)
