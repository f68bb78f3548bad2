"""The keywords that ``Settings`` takes, as type checkers see them.

Each may be text as in a variable, or the natural Python type; ``None`` is as good as absent.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet
from datetime import timedelta
from os import PathLike
from typing import TypeAlias, TypedDict

from bearer_middleware.settings.networks import Network
from bearer_middleware.settings.routes import Route
from bearer_middleware.settings.secret import Secret

Text: TypeAlias = str | None
Names: TypeAlias = str | Sequence[str] | AbstractSet[str] | None
Switch: TypeAlias = bool | str | None
Seconds: TypeAlias = float | str | timedelta | None
Count: TypeAlias = int | str | None
Path: TypeAlias = str | PathLike[str] | None
Networks: TypeAlias = str | Sequence[str | Network] | AbstractSet[str | Network] | None
Pattern: TypeAlias = str | re.Pattern[str] | None
Table: TypeAlias = str | Mapping[str, object] | None
Hidden: TypeAlias = str | Secret | None


class IssuerKeywords(TypedDict, total=False):
    """What an ``[[issuers]]`` table may hold."""

    issuer: Text
    audience: Names
    allow_any_audience: Switch
    profile: Text
    leeway: Seconds

    provider: Text
    provider_domain: Text
    provider_tenant: Names
    provider_clients: Names
    provider_roles: Names
    provider_opaque: Switch

    jwks_url: Text
    jwks_file: Path
    jwks_bootstrap_file: Path
    hmac_secret: Hidden
    hmac_secret_file: Path
    algorithms: Names
    jwks_ttl: Seconds
    jwks_max_stale: Seconds
    jwt_cache_ttl: Seconds

    introspection_url: Text
    client_id: Text
    client_secret: Hidden
    client_secret_file: Path
    client_auth: Text
    client_key_file: Path
    client_key_id: Text
    client_cert_file: Path
    token_prefix: Text
    ca_file: Path
    introspection_signed: Switch
    jwt_validation: Text
    introspection_ttl: Seconds
    introspection_audience: Text
    negative_ttl: Seconds
    stale_if_error: Seconds
    status_lists: Names


class Keywords(IssuerKeywords, total=False):
    """What ``Settings``, and every middleware without a server of its own, may be given."""

    max_token_length: Count
    cache_size: Count
    http_timeout: Seconds
    required_scopes: Names
    optional: Switch
    exempt: Names
    realm: Text
    cache_url: Hidden
    cache_url_file: Path
    fleet_secret: Hidden
    fleet_secret_file: Path
    revocation_url: Hidden
    revocation_url_file: Path
    revocation_keep: Seconds
    on_stale_feed: Text
    close_on_expiry: Switch
    health_path: Text
    logout_path: Text
    signals_path: Text
    signals_issuer: Text
    signals_audience: Text
    config_file: Path
    allow_insecure_http: Switch
    trusted_proxies: Networks
    token_pattern: Pattern
    policy: Text
    policy_url: Text
    policy_token: Hidden
    policy_token_file: Path
    policy_file: Path
    policy_timeout: Seconds
    policy_cache_ttl: Seconds
    policy_options: Table
    hide_forbidden: Switch
    policy_changed_path: Text
    policy_changed_token: Hidden
    policy_changed_token_file: Path
    audit: Path
    routes: Sequence[Route | Mapping[str, object]] | None
    resource: Text
    resource_scopes: Names
    resource_name: Text
    resource_documentation: Text
    scope_implications: Table
    issuers: Sequence[IssuerKeywords] | None
