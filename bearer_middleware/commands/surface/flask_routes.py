"""The routes of Flask."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from bearer_middleware.commands.surface.spots import Spot, Way, angular_template, spots_of_view


def spots(app: Any, way: Way) -> Iterator[Spot]:
    """All of the URL map; HEAD is answered as GET is, and OPTIONS by Flask, mostly."""
    for rule in app.url_map.iter_rules():
        path, view = angular_template(rule.rule), app.view_functions.get(rule.endpoint)
        automatic = {"HEAD"}
        if getattr(rule, "provide_automatic_options", True):
            automatic.add("OPTIONS")
        methods = tuple(sorted(set(rule.methods or ()) - automatic))
        host = rule.host or rule.subdomain
        here = Way(way.prefix, way.around, f"host {host}") if host else way
        if rule.websocket:
            yield here.spot(path, kind="websocket")
        else:
            yield from spots_of_view(here, path, view, methods)
