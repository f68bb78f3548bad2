"""What the settings that describe this API need, beside each other."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from bearer_middleware.settings.report import Report
from bearer_middleware.settings.resources import OFFLINE, metadata_path
from bearer_middleware.settings.rules import Place

_EXTRAS = ("resource_scopes", "resource_name", "resource_documentation")
_PATHS = ("health_path", "logout_path", "signals_path")


def validate_resource(values: Mapping[str, Any], places: Sequence[Place], report: Report) -> None:
    """What is told has to be told somewhere, and nobody is told of refresh tokens."""
    if values["resource"] is not None:
        _document(values, places, report)
    else:
        for name in _EXTRAS:
            if values[name]:
                wrong = f"has no use without {report.name('resource')}"
                report.mistake(name, wrong, "resource")
    if OFFLINE in values["resource_scopes"]:
        report.warning("resource_scopes", f"{OFFLINE} is not for resource servers, and not told")
    if any(OFFLINE in route.scopes for route in values["routes"] or ()):
        report.warning("routes", f"{OFFLINE} asks for a refresh token; hardly any token has it")


def _document(values: Mapping[str, Any], places: Sequence[Place], report: Report) -> None:
    """It names whom to ask for tokens, who has to be there, and has a place of its own."""
    if not any(issuer.issuer for issuer, _ in places):
        wrong = f"is required with {report.name('resource')}: clients get their tokens there"
        report.mistake("issuer", wrong, "resource")
    for name in _PATHS:
        if values[name] == metadata_path(values["resource"]):
            report.mistake(name, f"is where {report.name('resource')} is described", "resource")
