"""The dashboard and the alerts speak of metrics and labels that there are, and of all of them."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from bearer_middleware.errors import Reason
from bearer_middleware.flow.instruments import INSTRUMENTS

MONITORING = Path(__file__).parents[2] / "examples" / "monitoring"
#: Put there by Prometheus itself.
_FOREIGN = {"job", "instance", "le"}
_NAME = re.compile(r"\bbearer_\w+")
_SELECTOR = re.compile(r"(bearer_\w+)\{([^}]*)\}")
_GROUPED = re.compile(r"\bby \(([^)]*)\)")
_MATCHER = re.compile(r'(\w+)\s*(=~|!=|!~|=)\s*"([^"]*)"')

#: By the name of a sample: its labels.
LABELS: dict[str, set[str]] = {}
for instrument in INSTRUMENTS:
    suffixes = {"counter": ["_total"], "gauge": [""], "histogram": ["_bucket", "_count", "_sum"]}
    for suffix in suffixes[instrument.kind]:
        LABELS[instrument.prometheus_name + suffix] = {*instrument.labels} | _FOREIGN

VALUES = {
    "outcome": {"allowed", "denied", "unavailable", "anonymous"}
    | {"permit", "deny", "not_applicable", "indeterminate", "fail_open"},
    "reason": {str(reason) for reason in Reason},
    "cache": {"jwt", "pos", "neg", "l2"},
    "result": {"hit", "miss", "stale", "error"}
    | {"ok", "timeout", "connect", "5xx", "429", "protocol", "auth", "cancelled"}
    | {"written", "dropped", "failed"},
    "target": {"jwks", "introspection", "discovery"},
    "by": {"source", "global", "bulkhead", "breaker"},
}


def dashboard() -> dict[str, Any]:
    """As Grafana reads it."""
    return json.loads((MONITORING / "dashboard.json").read_text())


def alerts() -> list[dict[str, Any]]:
    """The rules of all groups."""
    groups = yaml.safe_load((MONITORING / "alerts.yml").read_text())["groups"]
    return [rule for group in groups for rule in group["rules"]]


def queries() -> Iterator[str]:
    """Every expression in both files."""
    for panel in dashboard()["panels"]:
        yield from (target["expr"] for target in panel.get("targets", ()))
    yield from (variable["definition"] for variable in dashboard()["templating"]["list"][1:])
    yield from (rule["expr"] for rule in alerts())


@pytest.mark.parametrize("query", sorted(set(queries())))
def test_a_query(query: str) -> None:
    """Names samples and labels that exist, and values that a label can have."""
    names = _NAME.findall(query)
    assert names
    assert set(names) <= set(LABELS)
    known = set.intersection(*[LABELS[name] for name in names])
    for group in _GROUPED.findall(query):
        assert {label.strip() for label in group.split(",")} <= known
    for name, matchers in _SELECTOR.findall(query):
        for label, _, value in _MATCHER.findall(matchers):
            assert label in LABELS[name]
            if label in VALUES:
                assert set(value.split("|")) <= VALUES[label]
    for opening, closing in ("()", "{}", "[]"):
        assert query.count(opening) == query.count(closing)


def test_the_dashboard_shows_every_metric() -> None:
    """Nothing is measured for nobody."""
    shown = {name for query in queries() for name in _NAME.findall(query)}
    for each in INSTRUMENTS:
        assert [name for name in shown if name.startswith(each.prometheus_name)], each.name


def test_panels_have_places_of_their_own() -> None:
    """Numbered, titled, and none over another."""
    panels = dashboard()["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    taken: set[tuple[int, int]] = set()
    for panel in panels:
        place = panel["gridPos"]
        cells = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        assert panel["title"]
        assert not cells & taken
        assert place["x"] + place["w"] <= 24
        taken |= cells


def test_alerts_say_what_is_wrong() -> None:
    """Each has its name, a severity and a sentence; a label in that is one of the result."""
    rules = alerts()
    assert len({rule["alert"] for rule in rules}) == len(rules)
    for rule in rules:
        assert rule["labels"]["severity"] in {"critical", "warning", "info"}
        summary = rule["annotations"]["summary"]
        assert summary.endswith(".")
        grouped = ",".join(_GROUPED.findall(rule["expr"]))
        for label in re.findall(r"\$labels\.(\w+)", summary):
            assert label in re.split(r",\s*", grouped)
