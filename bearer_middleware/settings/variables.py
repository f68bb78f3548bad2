"""The one table of all settings: what is read, checked, documented and listed comes from here."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum, auto
from functools import partial
from typing import Any

from bearer_middleware.settings import files, grammar, networks, parsing, resources, routes
from bearer_middleware.settings.options import NO_OPTIONS
from bearer_middleware.settings.parsing import (
    Parser,
    choice,
    duration,
    integer,
    listing,
    switch,
)


class Reach(Enum):
    """To whom a setting applies where several issuers are configured."""

    #: To the resource server as a whole: top level only.
    SERVER = auto()
    #: To each issuer; a table that is silent has the top level's.
    INHERITED = auto()
    #: To one issuer: who it is, or how we prove ourselves to it. Never inherited.
    OWN = auto()


@dataclass(frozen=True, slots=True, eq=False)
class Variable:
    """One setting. ``default`` is the value it has where nothing is said."""

    reach: Reach
    keyword: str
    parse: Parser[Any]
    default: Any
    summary: str
    #: The value is a :class:`~bearer_middleware.settings.Secret`.
    secret: bool = False
    #: For ``NAME_FILE``: the keyword of the secret that is in the file.
    holds: str | None = None

    @property
    def name(self) -> str:
        """The name of the environment variable."""
        return f"BEARER_{self.keyword.upper()}"


def _secret(reach: Reach, keyword: str, summary: str) -> tuple[Variable, Variable]:
    """A secret, and the file that may hold it."""
    itself = Variable(reach, keyword, parsing.secret, None, summary, secret=True)
    told = f"a file that holds `{itself.name}`"
    file = Variable(reach, f"{keyword}_file", parsing.path, None, told, holds=keyword)
    return itself, file


_each = partial(Variable, Reach.INHERITED)
_own = partial(Variable, Reach.OWN)
_server = partial(Variable, Reach.SERVER)

_names = listing(parsing.text)
_scopes = listing(grammar.scope, r",\s")
_algorithms = listing(grammar.algorithm, least=1)
_exempt = listing(grammar.exempt)
_profile = choice("compatible", "rfc9068")
_jwt_validation = choice("local", "introspect", "both")
_answer_audience = choice("required", "if-present", "any")
_on_stale_feed = choice("serve", "introspect", "refuse")
_policy = choice("authzen", "permit", "opa", "cedar", "casbin", "rego", "local")
_client_auth = choice(
    *("client_secret_basic", "client_secret_post", "private_key_jwt"),
    *("client_secret_jwt", "tls_client_auth", "none"),
)
_provider = choice(
    *("auth0", "okta", "firebase", "cognito", "entra", "keycloak", "zitadel", "hydra", "google"),
)

TABLE: tuple[Variable, ...] = (
    # Whose tokens, and for whom.
    _own("issuer", grammar.issuer, None, "exact `iss` of the authorization server"),
    _each("audience", _names, (), "comma list: the names by which tokens mean this API"),
    _each("allow_any_audience", switch, False, "`true`: a token for anybody is accepted"),
    _each("profile", _profile, "compatible", "`rfc9068`: `at+jwt` and all its required claims"),
    _each("leeway", duration(0, 120), 30.0, "seconds for exp, nbf and iat alike"),
    # The product that the authorization server is, and what to know of it.
    _own("provider", _provider, None, "the product: `auth0`, `okta`, `entra` ..."),
    _own("provider_domain", grammar.printable, None, "its host, without `https://`"),
    _own("provider_tenant", _names, (), "comma list: directories, pools, realm, project ..."),
    _own("provider_clients", _names, (), "comma list: clients whose tokens are accepted"),
    _own("provider_roles", _names, (), "comma list: claims in which roles are"),
    _own("provider_opaque", switch, False, "`true`: ask `userinfo` or `tokeninfo`"),
    # Keys and signatures.
    _own("jwks_url", grammar.url, None, "where the keys are, without discovery"),
    _own("jwks_file", files.key_set, None, "a file with the keys, without discovery"),
    *_secret(Reach.OWN, "hmac_secret", "shared secret for HS256, HS384 and HS512"),
    _each("algorithms", _algorithms, grammar.SIGNATURE_ALGORITHMS, "comma list of those allowed"),
    _each("jwks_ttl", duration(1), 300.0, "seconds until the keys are fetched anew"),
    _each("jwks_max_stale", duration(1), 3600.0, "seconds keys serve after the last good fetch"),
    _each("jwt_cache_ttl", duration(0), 60.0, "seconds a verified JWT is remembered"),
    # Asking the authorization server.
    _own("introspection_url", grammar.url, None, "RFC 7662 endpoint; else from metadata"),
    _own("client_id", grammar.printable, None, "our name at the authorization server"),
    *_secret(Reach.OWN, "client_secret", "our secret at the authorization server"),
    _own("client_auth", _client_auth, "client_secret_basic", "how we prove ourselves to it"),
    _own("client_key_file", files.private_key, None, "PEM key for private_key_jwt"),
    _own("client_key_id", grammar.printable, None, "`kid` of that key"),
    _own("client_cert_file", files.certificate, None, "PEM certificate for tls_client_auth"),
    _own("token_prefix", grammar.token_prefix, None, "how this issuer's opaque tokens begin"),
    _each("ca_file", files.authorities, None, "PEM bundle of further trusted authorities"),
    _each("introspection_signed", switch, False, "`true`: only RFC 9701 answers are believed"),
    _each("jwt_validation", _jwt_validation, "local", "`introspect`, `both`: a JWT is sent, too"),
    _each("introspection_ttl", duration(0), 30.0, "seconds an active answer is kept"),
    _each("introspection_audience", _answer_audience, "required", "must an answer name us"),
    _each("negative_ttl", duration(0), 10.0, "seconds an inactive answer is kept"),
    _each("stale_if_error", duration(0), 0.0, "seconds an expired answer serves in an outage"),
    # The resource server.
    _server("max_token_length", integer(64, 65_536), 8192, "bytes a token may have"),
    _server("cache_size", integer(1, 10_000_000), 10_000, "entries in each cache"),
    _server("http_timeout", duration(0.001, 60), 3.0, "seconds a request waits at most in all"),
    _server("required_scopes", _scopes, (), "comma or space list: what every request needs"),
    _server("optional", switch, False, "`true`: who shows no credentials is anonymous"),
    _server("exempt", _exempt, (), "comma list of `[METHOD ]/path` or `/prefix/*` left open"),
    _server("realm", grammar.printable, "api", "realm in challenges"),
    *_secret(
        Reach.SERVER,
        "cache_url",
        "`redis://`, `valkey://`, TLS with an `s`, `unix://`: the shared cache",
    ),
    *_secret(Reach.SERVER, "fleet_secret", "key for the MACs in the shared cache and the feed"),
    _server("config_file", parsing.path, None, "TOML with the same names in lower case"),
    _server("allow_insecure_http", switch, False, "`true`: http is allowed, for development"),
    # Revocation, fleet and overload.
    *_secret(
        Reach.SERVER, "revocation_url", "the revocation feed: a store as above, a file or https"
    ),
    _server("revocation_keep", duration(60), 2_592_000.0, "seconds a revocation is kept"),
    _server("on_stale_feed", _on_stale_feed, "serve", "`introspect`, `refuse`: if it is silent"),
    _server("health_path", grammar.endpoint_path, None, "path of the health answer"),
    _server("logout_path", grammar.endpoint_path, None, "path of OpenID back-channel logout"),
    _server("signals_path", grammar.endpoint_path, None, "path of Shared Signals push"),
    _server("signals_issuer", grammar.issuer, None, "the transmitter: exact `iss` of its tokens"),
    _server("signals_audience", grammar.printable, None, "our name in its event tokens"),
    _own("jwks_bootstrap_file", files.key_set, None, "a file: keys until the first good fetch"),
    _each(
        "status_lists",
        grammar.status_lists,
        None,
        "comma list: URL prefixes of token status lists; `ignore`: no token's is looked at",
    ),
    _server("trusted_proxies", networks.trusted_proxies, None, "comma list of networks, or `none`"),
    _server("token_pattern", networks.token_pattern, None, "what opaque tokens match in full"),
    _server("close_on_expiry", switch, False, "`true`: open connections end with their identity"),
    # Policy and audit.
    _server("policy", _policy, None, "who decides access; absent = scopes only"),
    _server("policy_url", grammar.url, None, "the policy decision point"),
    *_secret(Reach.SERVER, "policy_token", "our credentials for it"),
    _server("policy_file", parsing.path, None, "the policy of an engine in process"),
    _server("policy_timeout", duration(0.001, 60), 0.5, "seconds to wait for a decision"),
    _server("policy_cache_ttl", duration(0, 3600), 0.0, "seconds a decision is kept"),
    _server("policy_options", parsing.table, NO_OPTIONS, "table: what else this kind needs"),
    _server("hide_forbidden", switch, False, "`true`: 404 where the policy says no"),
    _server("routes", routes.routes, None, "`[[routes]]`: which request is which action"),
    _server("policy_changed_path", grammar.endpoint_path, None, "path told of policy changes"),
    *_secret(Reach.SERVER, "policy_changed_token", "the bearer secret of whoever tells it"),
    _server("audit", files.audit, None, "`log`, or a file for JSON lines"),
    # What clients are told of us (RFC 9728).
    _server("resource", resources.resource, None, "our RFC 9728 resource identifier"),
    _server("resource_scopes", _scopes, (), "comma or space list: scopes to tell of besides"),
    _server("resource_name", grammar.printable, None, "what this API is called, for people"),
    _server("resource_documentation", grammar.url, None, "where developers read about it"),
    _server(
        "scope_implications", resources.scope_implications, NO_OPTIONS, "table: what a scope grants"
    ),
)

VARIABLES: dict[str, Variable] = {variable.keyword: variable for variable in TABLE}
