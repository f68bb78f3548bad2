"""Where settings are written: keywords, over variables, over a TOML file."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Mapping
from typing import Any

from bearer_middleware.settings import files, parsing
from bearer_middleware.settings.parsing import Unreadable
from bearer_middleware.settings.report import Report
from bearer_middleware.settings.variables import TABLE, VARIABLES, Reach

#: ``client_secret`` and ``client_secret_file`` say the same thing: the nearer source has it.
_HOLDS = {variable.keyword: variable.holds for variable in TABLE if variable.holds}
_PARTNERS = _HOLDS | {holds: keyword for keyword, holds in _HOLDS.items()}


def overlay(lower: Mapping[str, object], upper: Mapping[str, object]) -> dict[str, object]:
    """Both sources; where they speak of the same thing, the upper one."""
    said = _said(upper)
    partners = {_PARTNERS.get(keyword) for keyword in said}
    return {k: value for k, value in lower.items() if k not in partners} | said


def from_variables(environ: Mapping[str, str]) -> dict[str, object]:
    """The ``BEARER_*`` variables as keywords. Of an unknown one the user is warned."""
    known = {variable.name: variable.keyword for variable in TABLE}
    found: dict[str, object] = {}
    for name, value in environ.items():
        if name in known:
            found[known[name]] = value
        elif name.startswith("BEARER_"):
            text = f"{_shown(name)}: unknown variable, not read; {_nearest(name, known)}"
            warnings.warn(text, UserWarning, stacklevel=3)
    return found


def with_file(keywords: Mapping[str, object], report: Report) -> dict[str, object]:
    """The keywords over what is in the configuration file, where they name one."""
    said = _said(keywords)
    if "config_file" not in said:
        return said
    try:
        file = files.toml(parsing.path(said["config_file"]))
    except Unreadable as error:
        report.unreadable("config_file", str(error))
        return {keyword: said[keyword] for keyword in said if keyword != "config_file"}
    if "config_file" in file:
        report.mistake("config_file", "is named in the file itself; one file is read")
    return overlay(file, said)


def read(written: Mapping[str, object], report: Report, *, table: bool = False) -> dict[str, Any]:
    """The values of what is written in one place; what cannot be read is left out."""
    given: dict[str, Any] = {}
    said = _said(written)
    report.said.update(said)
    for keyword, value in said.items():
        refusal = _refusal(keyword, table=table)
        if refusal:
            report.mistakes.append(f"{report.label(_shown(keyword))}: {refusal}")
            continue
        variable = VARIABLES[keyword]
        if variable.holds in said:
            report.mistake(variable.holds, f"is also given as {report.name(keyword)}; keep one")
        try:
            given[keyword] = variable.parse(value)
            if variable.holds:
                given[variable.holds] = files.kept_secret(given[keyword])
        except Unreadable as error:
            report.unreadable(keyword, str(error))
    return given


def _said(source: Mapping[str, object]) -> dict[str, object]:
    return {keyword: value for keyword, value in source.items() if value is not None}


def _refusal(keyword: str, *, table: bool) -> str | None:
    """Why a setting of this name cannot be given in this place."""
    variable = VARIABLES.get(keyword)
    if variable is None:
        return f"unknown setting; {_nearest(keyword, VARIABLES)}"
    if table and variable.reach is Reach.SERVER:
        return "is a setting of the whole server; move it to the top level"
    return None


def _nearest(name: object, known: Iterable[str]) -> str:
    from difflib import get_close_matches

    # A variable's name is often written where a keyword is meant: it is the same setting.
    spelled = {_bare(one): one for one in known}
    nearest = get_close_matches(_bare(str(name)[:64]), spelled, n=1, cutoff=0)
    return f"the nearest known one is {spelled[nearest[0]]}"


def _bare(name: str) -> str:
    return name.lower().removeprefix("bearer_")


def _shown(name: object) -> str:
    """A name of the user's, fit for one line of a log."""
    text = str(name)
    return text if text.isprintable() and len(text) <= 64 else ascii(text[:64])
