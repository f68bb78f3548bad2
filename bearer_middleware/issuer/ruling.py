"""From the settings of an issuer to the rules of its tokens and of its answers."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial

from bearer_middleware.settings import IssuerSettings
from bearer_middleware.tokens.claims import Rules, answer_rules, jwt_rules
from bearer_middleware.tokens.facts import Facts, facts_of, preset_facts
from bearer_middleware.tokens.preset import USUAL, Preset


def rules_for(settings: IssuerSettings, preset: Preset) -> tuple[Rules, Rules]:
    """The rules of its JWTs, and of its introspection answers."""
    issuer, leeway, lists = settings.issuer, settings.leeway, settings.status_lists
    audience = None if settings.allow_any_audience else frozenset(settings.audience)
    of_jwts = jwt_rules(issuer, audience, leeway, settings.profile, lists)
    of_answers = answer_rules(
        issuer,
        None if settings.introspection_audience == "any" else audience,
        leeway,
        lists,
        audience_required=settings.introspection_audience == "required",
    )
    if preset is USUAL:
        return of_jwts, of_answers
    # That something is required is besides what keeps a token from being taken for a usual one.
    required = tuple(dict.fromkeys(("iss", *of_jwts.required, *preset.required)))
    of_jwts = replace(of_jwts, preset=preset, required=required)
    return of_jwts, replace(of_answers, preset=preset)


def facts_for(preset: Preset) -> Callable[..., Facts]:
    """What makes facts of claims: ``facts_of``, or its like for a preset."""
    return facts_of if preset is USUAL else partial(preset_facts, preset)
