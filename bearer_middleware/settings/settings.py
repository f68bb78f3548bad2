"""The settings as one frozen object."""

from __future__ import annotations

import os
import re
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, Self, Unpack, cast

from bearer_middleware.settings.assembly import assemble
from bearer_middleware.settings.issuers import IssuerSettings, PerIssuer
from bearer_middleware.settings.keywords import Keywords
from bearer_middleware.settings.networks import Network
from bearer_middleware.settings.routes import Route
from bearer_middleware.settings.secret import Secret
from bearer_middleware.settings.sources import from_variables, overlay

OnStaleFeed = Literal["serve", "introspect", "refuse"]
Policy = Literal["authzen", "permit", "opa", "cedar", "casbin", "rego", "local"]


@dataclass(frozen=True, slots=True, init=False)
class Settings(PerIssuer):
    """All settings, read, checked as a whole and completed with defaults.

    Reads no environment; :meth:`from_env` does. Raises
    :class:`~bearer_middleware.errors.ConfigError` with every mistake at once. What holds
    for an authorization server is in ``issuers``, also where there is only one.
    """

    max_token_length: int
    cache_size: int
    http_timeout: float
    required_scopes: tuple[str, ...]
    optional: bool
    #: The text of each rule, ``[METHOD ]/path``.
    exempt: tuple[str, ...]
    realm: str
    cache_url: Secret | None
    cache_url_file: str | None
    fleet_secret: Secret | None
    fleet_secret_file: str | None
    revocation_url: Secret | None
    revocation_url_file: str | None
    revocation_keep: float
    on_stale_feed: OnStaleFeed
    close_on_expiry: bool
    health_path: str | None
    logout_path: str | None
    signals_path: str | None
    signals_issuer: str | None
    signals_audience: str | None
    config_file: str | None
    allow_insecure_http: bool
    #: Empty: the peer is the client. ``None``: clients have no limits of their own.
    trusted_proxies: tuple[Network, ...] | None
    token_pattern: re.Pattern[str] | None
    policy: Policy | None
    policy_url: str | None
    policy_token: Secret | None
    policy_token_file: str | None
    policy_file: str | None
    policy_timeout: float
    policy_cache_ttl: float
    policy_options: Mapping[str, object]
    hide_forbidden: bool
    policy_changed_path: str | None
    policy_changed_token: Secret | None
    policy_changed_token_file: str | None
    #: ``log``, or the path of a file.
    audit: str | None
    #: ``None``: there is no table; empty: there is one, and nothing is in it.
    routes: tuple[Route, ...] | None
    resource: str | None
    resource_scopes: tuple[str, ...]
    resource_name: str | None
    resource_documentation: str | None
    #: By scope, those granted along with it.
    scope_implications: Mapping[str, object]
    #: Never empty.
    issuers: tuple[IssuerSettings, ...]

    def __init__(self, **keywords: Unpack[Keywords]) -> None:
        values, cautions = assemble(keywords)
        for name, value in values.items():
            object.__setattr__(self, name, value)
        for text in cautions:
            warnings.warn(text, UserWarning, stacklevel=2)

    @classmethod
    def from_env(
        cls, environ: Mapping[str, str] = os.environ, **keywords: Unpack[Keywords]
    ) -> Self:
        """The settings of the ``BEARER_*`` variables; a keyword wins over its variable."""
        said = overlay(from_variables(environ), keywords)
        return cls(**cast(Keywords, said))
