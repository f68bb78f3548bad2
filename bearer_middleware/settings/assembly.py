"""From keywords to the attributes of ``Settings``, or to the list of all mistakes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import fields
from typing import Any

from bearer_middleware.errors import ConfigError
from bearer_middleware.settings import rules
from bearer_middleware.settings.descriptions import validate_resource
from bearer_middleware.settings.feeds import validate_feed
from bearer_middleware.settings.grammar import HMAC_ALGORITHMS
from bearer_middleware.settings.issuers import IssuerSettings
from bearer_middleware.settings.parsing import is_list, is_table
from bearer_middleware.settings.policies import validate_policy
from bearer_middleware.settings.report import Report
from bearer_middleware.settings.rules import Place
from bearer_middleware.settings.secret import Secret
from bearer_middleware.settings.sources import read, with_file
from bearer_middleware.settings.variables import TABLE, VARIABLES, Reach

_DEFAULTS = {variable.keyword: variable.default for variable in TABLE}
_PER_ISSUER = tuple(field.name for field in fields(IssuerSettings))


def assemble(keywords: Mapping[str, object]) -> tuple[dict[str, Any], list[str]]:
    """The attributes of ``Settings``, and what the user is to be warned of."""
    top = Report()
    written = with_file(keywords, top)
    tables = written.pop("issuers", None)
    given = read(written, top)
    if tables is None:
        places = [(_settle({}, one), top) for one in _completed({}, given, top)]
        whole = places[0][0]
    else:
        whole, places = _settle({}, given), _from_tables(tables, given, top)

    values = _DEFAULTS | given | {name: getattr(whole, name) for name in _PER_ISSUER}
    rules.validate_server(values, top)
    for place in places:
        rules.validate_issuer(*place, insecure=values["allow_insecure_http"])
    rules.validate_together(places)
    rules.validate_endpoints(values, places, top)
    validate_feed(values, places, top)
    validate_policy(values, top)
    validate_resource(values, places, top)

    reports = dict.fromkeys([top, *(report for _, report in places)])
    # Where a place stands for several issuers, each has the same mistakes.
    mistakes = dict.fromkeys(mistake for report in reports for mistake in report.mistakes)
    if mistakes:
        raise ConfigError(mistakes)
    values["issuers"] = tuple(issuer for issuer, _ in places)
    warned = dict.fromkeys(warning for report in reports for warning in report.warnings)
    return values, list(warned)


def _completed(
    inherited: Mapping[str, Any], own: Mapping[str, Any], report: Report
) -> Sequence[Mapping[str, Any]]:
    """What is said in one place, completed by what is known of a product, where one is named."""
    if not any(str(name).startswith("provider") for name in (*own, *report.said)):
        return [own]
    from bearer_middleware.settings.presets import completed

    return completed({**inherited}, {**own}, report)


def _from_tables(tables: object, given: Mapping[str, Any], top: Report) -> list[Place]:
    """The issuers that have a table each; what is theirs alone has no place above them."""
    for keyword in given:
        if keyword in top.said and VARIABLES[keyword].reach is Reach.OWN:
            top.mistake(keyword, "is one issuer's; beside [[issuers]] it belongs into their tables")
    if not is_list(tables) or not tables:
        top.mistakes.append("[[issuers]]: must be a list of tables")
        return []
    shared = {key: given[key] for key in given if VARIABLES[key].reach is Reach.INHERITED}
    places: list[Place] = []
    for number, table in enumerate(tables, 1):
        report = Report(number, above=top)
        if is_table(table):
            own = read(table, report, table=True)
            places += [(_settle(shared, one), report) for one in _completed(shared, own, report)]
        else:
            top.mistakes.append(f"{report.place}: must be a table")
    return places


def _settle(inherited: Mapping[str, Any], own: Mapping[str, Any]) -> IssuerSettings:
    """One issuer's settings: its own, then what it inherits, then what follows from those."""
    given = {**inherited, **own}
    if own.get("allow_any_audience") and "audience" not in own:
        given.pop("audience", None)
    if own.get("audience") and "allow_any_audience" not in own:
        given.pop("allow_any_audience", None)
    if given.get("allow_any_audience") and "introspection_audience" not in own:
        given["introspection_audience"] = "any"
    if "hmac_secret" in given:
        given["algorithms"] = _hmac_algorithms(given["hmac_secret"], given.get("algorithms"))
    if "jwks_max_stale" not in given:
        given["jwks_max_stale"] = max(_DEFAULTS["jwks_max_stale"], given.get("jwks_ttl", 0))
    elif "jwks_ttl" not in given:
        given["jwks_ttl"] = min(_DEFAULTS["jwks_ttl"], given["jwks_max_stale"])
    return IssuerSettings(**{name: given.get(name, _DEFAULTS[name]) for name in _PER_ISSUER})


def _hmac_algorithms(secret: Secret, allowed: tuple[str, ...] | None) -> tuple[str, ...]:
    length = rules.octets(secret.reveal())
    return tuple(
        name
        for name, needed in HMAC_ALGORITHMS.items()
        if length >= needed and (allowed is None or name in allowed)
    )
