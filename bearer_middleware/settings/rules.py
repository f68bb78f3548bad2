"""What must hold between settings. A rule reports; it neither raises nor changes anything."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from itertools import combinations
from typing import Any

from bearer_middleware.settings import files
from bearer_middleware.settings.grammar import HMAC_ALGORITHMS, is_loopback, is_plain
from bearer_middleware.settings.issuers import CREDENTIALS, IssuerSettings
from bearer_middleware.settings.parsing import Unreadable
from bearer_middleware.settings.report import Report
from bearer_middleware.settings.stores import wrong_with
from bearer_middleware.settings.variables import VARIABLES

_KEYS = ("jwks_url", "jwks_file", "hmac_secret")
_CLIENT = ("client_id", "client_secret", "client_key_file", "client_key_id", "client_cert_file")
_ASKING = ("issuer", "introspection_url", "client_auth", *_CLIENT)
#: An issuer with what was found wrong in the place where it is configured.
Place = tuple[IssuerSettings, Report]

_PATHS = ("health_path", "logout_path", "signals_path", "policy_changed_path")
_INSECURE = VARIABLES["allow_insecure_http"].name


def _audience(issuer: IssuerSettings, report: Report) -> None:
    anybody = f"{report.name('allow_any_audience')}=true"
    if not issuer.allow_any_audience:
        if not issuer.audience:
            wrong = f"is required: the names by which tokens mean this API; or say {anybody}"
            report.mistake("audience", wrong, "allow_any_audience")
        return
    if issuer.audience:
        report.mistake("audience", f"contradicts {anybody}; keep one")
    if issuer.introspection_audience != "any":
        report.mistake("introspection_audience", f"contradicts {anybody}, which implies any")


def _trust(issuer: IssuerSettings, report: Report) -> None:
    keys = [name for name in _KEYS if getattr(issuer, name) is not None]
    if len(keys) > 1:
        report.mistake(keys[-1], f"beside {report.name(keys[0])}; keys come from one place")
    if keys and issuer.issuer is None:
        wrong = f"is required beside {report.name(keys[0])}: the exact iss of its tokens"
        report.mistake("issuer", wrong)
    if not issuer.local_validation and not issuer.introspection:
        wrong = f"is required, or for opaque tokens alone {report.name('introspection_url')}"
        report.mistake("issuer", wrong, *_KEYS, "introspection_url", "provider")


def _bootstrap(issuer: IssuerSettings, report: Report) -> None:
    if issuer.jwks_bootstrap_file is None:
        return
    for name in ("jwks_file", "hmac_secret"):
        if getattr(issuer, name) is not None:
            wrong = f"has no use beside {report.name(name)}, where no keys are fetched"
            report.mistake("jwks_bootstrap_file", wrong, name)
    if issuer.issuer is None:
        wrong = f"is required beside {report.name('jwks_bootstrap_file')}: whose keys they are"
        report.mistake("issuer", wrong)


def _algorithms(issuer: IssuerSettings, report: Report) -> None:
    secret = report.name("hmac_secret")
    if issuer.hmac_secret is None:
        if not HMAC_ALGORITHMS.keys().isdisjoint(issuer.algorithms):
            report.mistake("algorithms", f"HS algorithms need {secret}", "hmac_secret")
    elif octets(issuer.hmac_secret.reveal()) < HMAC_ALGORITHMS["HS256"]:
        report.mistake("hmac_secret", "is too short; HS256 needs 32 bytes, HS384 48, HS512 64")
    elif not issuer.algorithms:
        report.mistake("algorithms", f"names none for which {secret} is made and long enough")


def _credentials(issuer: IssuerSettings, report: Report) -> None:
    method = f"{report.name('client_auth')}={issuer.client_auth}"
    needed, useful = CREDENTIALS[issuer.client_auth]
    given = [name for name in _CLIENT if getattr(issuer, name) is not None]
    if issuer.introspection_url is not None or given or "client_auth" in report.said:
        for name in needed:
            if name not in given:
                none = f"or {report.name('client_auth')}=none where the server asks for no proof"
                report.mistake(name, f"is required with {method}; set it, {none}", "client_auth")
    for name in given:
        if name not in needed + useful:
            report.mistake(name, f"has no use with {method}; remove one of them", "client_auth")


def _proofs(issuer: IssuerSettings, report: Report) -> None:
    method, secret = issuer.client_auth, issuer.client_secret
    if (
        method == "client_secret_jwt"
        and secret
        and octets(secret.reveal()) < HMAC_ALGORITHMS["HS256"]
    ):
        report.mistake("client_secret", "is too short; client_secret_jwt needs 32 bytes")
    if method == "tls_client_auth" and issuer.client_cert_file is not None:
        try:
            files.require_pair(issuer.client_cert_file, issuer.client_key_file)
        except Unreadable as error:
            file = report.name("client_key_file")
            wrong = f"{error}; the key is in the same file or in {file}"
            report.mistake("client_cert_file", wrong, "client_key_file")


def _introspection(issuer: IssuerSettings, report: Report) -> None:
    if issuer.introspection:
        if issuer.introspection_signed and issuer.issuer is None:
            wrong = f"is required with {report.name('introspection_signed')}: its keys sign"
            report.mistake("issuer", wrong)
        if issuer.introspection_signed and issuer.client_id is None and not issuer.audience:
            wrong = f"is required with {report.name('introspection_signed')}: answers name us by it"
            report.mistake("client_id", wrong)
        if issuer.jwt_validation == "both" and not issuer.local_validation:
            report.mistake("issuer", f"is required with {report.name('jwt_validation')}=both")
        return
    url, ours = report.name("introspection_url"), report.name("client_id")
    wrong = f"needs introspection: set {url}, or {report.name('issuer')} and {ours}"
    if issuer.jwt_validation != "local":
        report.mistake("jwt_validation", wrong, *_ASKING)
    for name in ("introspection_signed", "token_prefix"):
        if name in report.said and getattr(issuer, name):
            report.mistake(name, wrong, *_ASKING)


def _freshness(issuer: IssuerSettings, report: Report) -> None:
    if issuer.jwks_max_stale < issuer.jwks_ttl:
        wrong = f"is less than {report.name('jwks_ttl')}, after which keys are fetched anew"
        report.mistake("jwks_max_stale", wrong, "jwks_ttl")


def _status_lists(issuer: IssuerSettings, report: Report) -> None:
    if issuer.status_lists and issuer.issuer is None:
        wrong = f"is required with {report.name('status_lists')}: its keys sign the lists"
        report.mistake("issuer", wrong, "status_lists")


def _addresses(issuer: IssuerSettings, report: Report, *, insecure: bool) -> None:
    for name in ("issuer", "jwks_url", "introspection_url"):
        _address(name, getattr(issuer, name), report, insecure=insecure)
    for prefix in issuer.status_lists or ():
        _address("status_lists", prefix, report, insecure=insecure)


def _address(name: str, address: str | None, report: Report, *, insecure: bool) -> None:
    if address is None or not is_plain(address):
        return
    if not insecure:
        wrong = f"goes over http; use https, or {_INSECURE}=true for development"
        report.mistake(name, wrong, "allow_insecure_http")
    elif not is_loopback(address):
        report.warning(name, "goes over http to another machine, where anybody can read it")


RULES: tuple[Callable[[IssuerSettings, Report], None], ...] = (
    *(
        _audience,
        _trust,
        _bootstrap,
        _algorithms,
        _credentials,
        _proofs,
        _introspection,
        _freshness,
        _status_lists,
    ),
)


def validate_issuer(issuer: IssuerSettings, report: Report, *, insecure: bool) -> None:
    """The rules within one issuer."""
    for rule in RULES:
        rule(issuer, report)
    _addresses(issuer, report, insecure=insecure)


def validate_server(values: Mapping[str, Any], report: Report) -> None:
    """The rules of the whole server."""
    if "offline_access" in values["required_scopes"]:
        wrong = "offline_access asks for a refresh token; an access token hardly ever has it"
        report.warning("required_scopes", wrong)
    _address("resource", values["resource"], report, insecure=values["allow_insecure_http"])
    _cache(values, report)


def _cache(values: Mapping[str, Any], report: Report) -> None:
    if values["cache_url"] is None:
        return
    wrong = wrong_with(values["cache_url"].reveal())
    if wrong is not None:
        report.mistake("cache_url", wrong)
    if values["fleet_secret"] is None:
        needs = f"is required with {report.name('cache_url')}: who can write there could pose as "
        report.mistake("fleet_secret", f"{needs}anybody without it", "cache_url")


def validate_together(places: Sequence[Place]) -> None:
    """What must hold between several issuers: each is one, and every opaque token has one."""
    for (first, above), (second, report) in combinations(places, 2):
        if not _names(first).isdisjoint(_names(second)):
            report.mistake("issuer", f"is the same as that of {above.place}")
        if _compete(first, second) and above.readable("token_prefix"):
            wrong = f"must tell the opaque tokens apart from those of {above.place}"
            report.mistake("token_prefix", f"{wrong}; neither may begin with the other")


def validate_endpoints(values: Mapping[str, Any], places: Sequence[Place], report: Report) -> None:
    """What the paths that the middleware answers itself need."""
    for one, other in combinations(_PATHS, 2):
        if values[one] is not None and values[one] == values[other]:
            report.mistake(other, f"is the same as {report.name(one)}", one)
    _signals(values, report)
    if values["logout_path"] is None:
        return
    if not any(issuer.issuer and issuer.client_id for issuer, _ in places):
        wrong = "needs an issuer, and BEARER_CLIENT_ID, the audience of its logout tokens"
        report.mistake("logout_path", wrong, "issuer", "client_id")


def _signals(values: Mapping[str, Any], report: Report) -> None:
    if values["signals_path"] is not None:
        for name in ("signals_issuer", "signals_audience"):
            if values[name] is None:
                wrong = f"is required with {report.name('signals_path')}"
                report.mistake(name, wrong, "signals_path")
    insecure = values["allow_insecure_http"]
    _address("signals_issuer", values["signals_issuer"], report, insecure=insecure)


def _names(issuer: IssuerSettings) -> frozenset[str]:
    """All that its tokens may have as ``iss``."""
    return frozenset((issuer.issuer, *issuer.preset.aliases)) if issuer.issuer else frozenset()


def _compete(first: IssuerSettings, second: IssuerSettings) -> bool:
    """Could an opaque token be either's? One issuer may have all that no prefix claims."""
    if not (first.introspection and second.introspection):
        return False
    one, other = first.token_prefix, second.token_prefix
    if one is None or other is None:
        return one == other
    return one.startswith(other) or other.startswith(one)


def octets(text: str) -> int:
    """The length of a secret as the algorithms count it."""
    return len(text.encode())
