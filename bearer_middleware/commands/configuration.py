"""The settings as the commands read them, with all that is to be said of them."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from dataclasses import fields
from typing import Any

from bearer_middleware.commands.findings import Finding, Level
from bearer_middleware.errors import ConfigError
from bearer_middleware.resource_server import ResourceServer
from bearer_middleware.settings import IssuerSettings, Settings
from bearer_middleware.settings.keywords import Keywords
from bearer_middleware.settings.report import Report


def configured(
    environ: Mapping[str, str], config_file: str | None = None, transport: Any = None
) -> tuple[ResourceServer | None, list[Finding]]:
    """The resource server of these variables, or ``None``; and what is wrong or doubtful."""
    keywords = Keywords() if config_file is None else Keywords(config_file=config_file)
    server: ResourceServer | None = None
    mistakes: tuple[str, ...] = ()
    with warnings.catch_warnings(record=True) as cautions:
        warnings.simplefilter("always")
        try:
            settings = Settings.from_env(environ, **keywords)
            server = ResourceServer(settings, transport=transport)
        except ConfigError as error:
            mistakes = error.mistakes
    doubtful = [str(c.message) for c in cautions if c.category is UserWarning]
    found = [_finding("warn", text) for text in doubtful]
    return server, [*found, *(_finding("fail", text) for text in mistakes)]


def places(settings: Settings) -> list[Report]:
    """Where each issuer is configured: it knows how the user writes its settings."""
    # A provider that is said there may stand for several issuers.
    if _is_top_level(settings) and (len(settings.issuers) == 1 or settings.provider is not None):
        return [Report() for _ in settings.issuers]
    return [Report(number) for number in range(1, len(settings.issuers) + 1)]


def _is_top_level(settings: Settings) -> bool:
    names = (field.name for field in fields(IssuerSettings))
    return all(getattr(settings, name) == getattr(settings.issuers[0], name) for name in names)


def _finding(level: Level, text: str) -> Finding:
    """Every mistake and every caution begins with the name of its setting."""
    name, colon, advice = text.partition(": ")
    return Finding(level, name, advice) if colon else Finding(level, "configuration", text)
