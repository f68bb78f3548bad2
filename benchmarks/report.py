"""The one table: what, measured, goal, best peer."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

from harness import Ratio


@dataclass(frozen=True)
class Row:
    """One line of the table. ``goal`` is the most allowed, or with ``at_least`` the least."""

    what: str
    measured: Ratio
    unit: str
    goal: float | None = None
    at_least: bool = False
    peer: str = ""

    @property
    def verdict(self) -> str:
        if self.goal is None:
            return ""
        over = self.measured.median - self.goal
        return "ok" if (over >= 0 if self.at_least else over <= 0) else "MISSED"

    def cells(self) -> tuple[str, ...]:
        sign = ">=" if self.at_least else "<="
        goal = "" if self.goal is None else f"{sign} {self.goal:g}"
        return (self.what, f"{self.measured} {self.unit}", goal, self.verdict, self.peer)


def best(peers: Mapping[str, Ratio]) -> str:
    """The cheapest of the peers, by name."""
    name = min(peers, key=lambda name: peers[name].median)
    return f"{peers[name]} {name}"


def as_json(rows: Iterable[Row]) -> list[dict[str, Any]]:
    return [{**asdict(row), "verdict": row.verdict} for row in rows]


def from_json(rows: Iterable[dict[str, Any]]) -> list[Row]:
    names = ("what", "unit", "goal", "at_least", "peer")
    return [Row(measured=Ratio(**row["measured"]), **{n: row[n] for n in names}) for row in rows]


def as_table(rows: Iterable[Row]) -> str:
    lines = [("what", "measured [quartiles]", "goal", "", "best peer, same run")]
    lines += [row.cells() for row in rows]
    widths = [max(len(line[column]) for line in lines) for column in range(5)]
    lines.insert(1, tuple("-" * width for width in widths))
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip()
        for line in lines
    )
