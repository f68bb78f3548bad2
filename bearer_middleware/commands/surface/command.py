"""``surface``: what of an application is open, and does somebody know?"""

from __future__ import annotations

import json
import warnings
from typing import Any, TextIO

from bearer_middleware.commands.findings import tell
from bearer_middleware.commands.surface.loading import CannotLoad, load, misconfigured
from bearer_middleware.commands.surface.spots import Spot
from bearer_middleware.commands.surface.verdicts import ANY, Row, rows, unused
from bearer_middleware.commands.surface.walking import spots
from bearer_middleware.errors import ConfigError


def surface(target: str, out: TextIO, err: TextIO, *, as_json: bool = False) -> int:
    """List the routes of ``module:attribute``; 1 if one is open and no setting says so, 2 where
    there is no such application.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # `check` tells of doubtful settings
            there = _spots(load(target))
            found, slips = rows(there), unused(there)
    except CannotLoad as error:
        tell([f"bearer-middleware: {error}"], err)
        return 2
    if as_json:
        json.dump(_document(found, slips), out, indent=2)
        out.write("\n")
    else:
        tell(_lines(found, slips), out)
    return 1 if any(row.verdict.state == "open" for row in found) else 0


def _spots(app: Any) -> list[Spot]:
    try:
        return spots(app)
    except ConfigError as error:
        raise misconfigured(error) from None
    except Exception as error:  # such as of modules that are imported only now
        text = f"its routes cannot be read: {type(error).__name__}: {error}"
        raise CannotLoad(text) from error


def _lines(found: list[Row], slips: list[str]) -> list[str]:
    cells = [(row.verdict.state, _methods(row), row.spot.path) for row in found]
    widths = [max((len(cell[place]) for cell in cells), default=0) for place in range(3)]
    lines = []
    for row, cell in zip(found, cells, strict=True):
        words = "; ".join((*row.verdict.why, *filter(None, [row.spot.what])))
        padded = "  ".join(text.ljust(width) for text, width in zip(cell, widths, strict=True))
        lines.append(f"{padded}  {words}".rstrip())
    lines += [f"[[routes]] {slip} is for no route" for slip in slips]
    return [*lines, _summary(found)]


def _summary(found: list[Row]) -> str:
    count = sum(row.verdict.state == "open" for row in found)
    if not found:
        return "no route was found"
    if count == 0:
        return f"{len(found)} routes, and none is open but by a setting"
    return (
        f"{len(found)} routes, and {count} open without a word: put a BearerMiddleware around, or "
        "say BEARER_EXEMPT"
    )


def _methods(row: Row) -> str:
    if row.spot.kind == "websocket":
        return "websocket"
    return ",".join("any" if name == ANY else name for name in row.methods)


def _document(found: list[Row], slips: list[str]) -> dict[str, object]:
    return {
        "routes": [
            {
                "state": row.verdict.state,
                "methods": [*row.methods],
                "path": row.spot.path,
                "kind": row.spot.kind,
                "protection": [*row.verdict.why],
                "what": row.spot.what,
            }
            for row in found
        ],
        "unused": slips,
        "open": sum(row.verdict.state == "open" for row in found),
    }
