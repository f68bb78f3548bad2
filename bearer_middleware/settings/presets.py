"""``BEARER_PROVIDER``: what is known of a product completes what the user says of a server.

This happens before the rules are asked, so they hold for what is completed, too. What the user says
wins, but for what would take away what makes tokens of this product safe: that is a mistake.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from bearer_middleware.settings.parsing import Unreadable
from bearer_middleware.settings.providers import PROVIDERS
from bearer_middleware.settings.providers.provider import Chosen, Provider
from bearer_middleware.settings.report import Report
from bearer_middleware.tokens.preset import USUAL, Preset

if TYPE_CHECKING:
    from bearer_middleware.settings.issuers import IssuerSettings

_OPTIONS = (
    *("provider_domain", "provider_tenant", "provider_clients"),
    *("provider_roles", "provider_opaque"),
)
_KEYS = ("jwks_url", "jwks_file", "hmac_secret")
_PROOFS = ("client_secret", "client_key_file", "client_cert_file")
#: What is of no use where nobody is asked by RFC 7662, unless it is this.
_ASKING = {
    **dict.fromkeys(_PROOFS),
    "jwt_validation": "local",
    "introspection_signed": False,
    "client_auth": "none",
}
Given = dict[str, Any]


def preset_for(settings: IssuerSettings) -> Preset:
    """The preset of a server by its settings, after they were completed."""
    if settings.provider is None or settings.issuer is None:
        return USUAL
    provider = PROVIDERS[settings.provider]
    match = provider.issuer.fullmatch(settings.issuer)
    if match is None:
        return USUAL
    domain, tenant = _parts_of(match.groupdict())
    chosen = Chosen(
        issuer=settings.issuer,
        domain=settings.provider_domain or domain,
        tenant=settings.provider_tenant[0] if settings.provider_tenant else tenant,
        audience=settings.audience,
        clients=settings.provider_clients,
        roles=settings.provider_roles,
        composed=bool(settings.provider_tenant),
    )
    asked = provider.opaque if settings.provider_opaque and provider.opaque else provider.asked
    return replace(provider.preset(chosen), asked=asked)


def completed(inherited: Given, own: Given, report: Report) -> list[Given]:
    """What is said in one place, completed; once for each of several tenants."""
    if "provider" not in own:
        for name in _OPTIONS:
            if name in report.said:
                wrong = f"has no use without {report.name('provider')}"
                report.mistake(name, wrong, "provider")
        return [own]
    provider = PROVIDERS[own["provider"]]
    servers = _servers(provider, own, report)
    if not servers:
        report.unclear("issuer", *(["audience"] if provider.audience else []))
        return [own]
    said = {**inherited, **own}
    if provider.audience_fixed and "audience" not in own:
        said.pop("audience", None)
    completions: list[Given] = []
    for chosen in servers:
        for name, wrong in _contradictions(provider, chosen, said, report):
            report.mistake(name, wrong, "provider")
        completions.append(own | _completion(provider, chosen, said))
    return completions


# -- which servers -----------------------------------------------------------------------


def _servers(provider: Provider, own: Given, report: Report) -> list[Chosen]:
    """The servers that are meant; none where that is not clear."""
    domain, tenants = _options(provider, own, report)
    if not report.readable("issuer", "provider_domain", "provider_tenant"):
        return []
    shared = {
        "audience": own.get("audience", ()),
        "clients": own.get("provider_clients", ()),
        "roles": own.get("provider_roles", ()),
        "opaque": own.get("provider_opaque", False),
    }
    if "issuer" in own:
        chosen = Chosen(issuer=own["issuer"], domain=domain, composed=False, **shared)
        return _of_issuer(provider, chosen, tenants, report)
    named = f"{report.name('provider')}={own['provider']}"
    if provider.domain is not None and domain is None:
        alternative = f"{provider.domain_is}; or set {report.name('issuer')}"
        report.mistake("provider_domain", f"is required with {named}: {alternative}")
        return []
    if provider.tenant is not None and not tenants and not provider.tenant_is_optional:
        report.mistake("provider_tenant", f"is required with {named}: {provider.tenant_is}")
        return []
    return [
        Chosen(
            issuer=provider.issuers(domain or "", tenant or "")[0],
            domain=domain,
            tenant=tenant,
            **shared,
        )
        for tenant in tenants or (None,)
    ]


def _of_issuer(
    provider: Provider, chosen: Chosen, tenants: tuple[str, ...], report: Report
) -> list[Chosen]:
    """The issuer that the user says, to the letter."""
    match = provider.issuer.fullmatch(chosen.issuer)
    if match is None:
        wrong = f"is no issuer of {provider.title}; it must be {provider.issuer_is}"
        report.mistake("issuer", wrong, "provider")
        return []
    domain, tenant = _parts_of(match.groupdict())
    in_issuer = "tenant" in match.groupdict()
    if "provider_domain" in report.said and domain not in (None, chosen.domain):
        report.mistake("provider_domain", f"is not that of {report.name('issuer')}; keep one")
    if "provider_tenant" in report.said and in_issuer and tenants != (tenant,):
        report.mistake("provider_tenant", f"is not that of {report.name('issuer')}; keep one")
    if not in_issuer:
        tenant = next(iter(tenants), None)
    return [replace(chosen, domain=domain or chosen.domain, tenant=tenant)]


def _options(provider: Provider, own: Given, report: Report) -> tuple[str | None, tuple[str, ...]]:
    """Domain and tenants in the spelling of this product, defaults included."""
    named = f"{report.name('provider')}={own['provider']}"
    for name, parse in (("provider_domain", provider.domain), ("provider_tenant", provider.tenant)):
        if parse is None and name in report.said:
            report.mistake(name, f"has no use with {named}", "provider")
    domain = own.get("provider_domain")
    if provider.domain is not None and domain is not None:
        domain = _read("provider_domain", provider.domain, domain, report)
    return domain or provider.default_domain, _tenants(provider, own, report)


def _tenants(provider: Provider, own: Given, report: Report) -> tuple[str, ...]:
    said = own.get("provider_tenant", ())
    if provider.tenant is None:
        return ()
    if not said and provider.default_tenant is not None:
        return (provider.default_tenant,)
    if provider.tenant_is_optional and len(said) > 1:
        report.unreadable("provider_tenant", "must be one")
    read = [_read("provider_tenant", provider.tenant, tenant, report) for tenant in said]
    return tuple(dict.fromkeys(tenant for tenant in read if tenant is not None))


def _read(name: str, parse: Any, value: str, report: Report) -> str | None:
    try:
        known: str = parse(value)
    except Unreadable as error:
        report.unreadable(name, str(error))
        return None
    return known


def _parts_of(groups: Mapping[str, str | None]) -> tuple[str | None, str | None]:
    """Domain and tenant of an issuer; where it has several forms, of the one it has."""
    return groups.get("domain"), groups.get("tenant") or groups.get("tenant1")


# -- what follows from that --------------------------------------------------------------


def _completion(provider: Provider, chosen: Chosen, said: Mapping[str, Any]) -> Given:
    """What the user did not say."""
    more: Given = {"issuer": chosen.issuer}
    if "tenant" in provider.issuer.groupindex:
        more["provider_tenant"] = (chosen.tenant,) if chosen.composed and chosen.tenant else ()
    elif chosen.tenant is not None:
        more["provider_tenant"] = (chosen.tenant,)
    more["provider_domain"] = chosen.domain
    if not any(name in said for name in _KEYS):
        more["jwks_url"] = provider.keys(chosen)
    if provider.algorithms is not None and "algorithms" not in said:
        more["algorithms"] = provider.algorithms
    if provider.audience and not (said.get("audience") or said.get("allow_any_audience")):
        more["audience"] = provider.audience(chosen)
    usual = _asking(provider, chosen, said)
    return more | {name: value for name, value in usual.items() if name not in said}


def _asking(provider: Provider, chosen: Chosen, said: Mapping[str, Any]) -> Given:
    """Whom to ask about opaque tokens, and how."""
    if chosen.opaque and provider.opaque is not None and provider.introspection is not None:
        asking = {"introspection_url": provider.introspection(chosen), "client_auth": "none"}
        if provider.opaque == "userinfo":
            asking["introspection_audience"] = "any"
        return {**provider.defaults, **asking}
    ours = any(name in said for name in ("client_id", "client_auth", *_PROOFS))
    if provider.asked == "introspection" and not ours:
        # Who says only where to ask has a server that wants no proof, as Hydra's admin port.
        return {"client_auth": "none"} if "introspection_url" in said else {}
    if provider.asked == "introspection" and provider.introspection is not None:
        return {"introspection_url": provider.introspection(chosen)}
    # Where nobody is asked, our name is for logout tokens alone.
    return {"client_auth": "none"} if provider.asked == "never" and ours else {}


def _contradictions(
    provider: Provider, chosen: Chosen, said: Mapping[str, Any], report: Report
) -> Iterator[tuple[str, str]]:
    """What the user says against what makes these tokens safe."""
    named = f"{report.name('provider')}={said['provider']}"
    if "hmac_secret" in said:
        yield "hmac_secret", f"contradicts {named}, which signs with keys that it publishes"
    if provider.pinned and provider.algorithms is not None:
        if not set(said.get("algorithms", ())) <= set(provider.algorithms):
            names = ", ".join(provider.algorithms)
            yield "algorithms", f"contradicts {named}, which signs with {names} alone"
        if said.get("profile") == "rfc9068":
            yield "profile", f"contradicts {named}, whose tokens are not of RFC 9068"
    if provider.audience_needed:
        reason = f"contradicts {named}, where nothing else says that a token is for this API"
        if said.get("allow_any_audience"):
            yield "allow_any_audience", reason
        if said.get("introspection_audience", "required") != "required":
            yield "introspection_audience", reason
    yield from _never_asked(provider, chosen, said, report)
    yield from provider.mistakes(chosen, said)


def _never_asked(
    provider: Provider, chosen: Chosen, said: Mapping[str, Any], report: Report
) -> Iterator[tuple[str, str]]:
    named = f"{report.name('provider')}={said['provider']}"
    if chosen.opaque and provider.opaque is None:
        yield "provider_opaque", f"has no use with {named}"
    if provider.asked == "introspection":
        return
    wrong = f"has no use with {named}, which has no introspection"
    if provider.opaque is not None:
        wrong += f"; {report.name('provider_opaque')}=true asks its {provider.opaque}"
    for name, harmless in _ASKING.items():
        if said.get(name, harmless) != harmless:
            yield name, wrong
            report.unclear(name)
    if "introspection_url" in said and not chosen.opaque:
        yield "introspection_url", wrong
