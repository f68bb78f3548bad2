"""Who gets to read what a server counts."""

from __future__ import annotations

from typing import Any

from bearer_middleware.telemetry import opentelemetry
from bearer_middleware.telemetry.readings import Parts, Readings


def show(parts: Parts, metrics: Any, *, extended: bool) -> None:
    """Prometheus at once, where ``metrics`` asks for it; OpenTelemetry once the application uses
    it, which is looked for with requests. ``extended`` says that all requests go the whole way.
    Raises ``ConfigError`` for what cannot be shown.
    """
    tally = parts.events.tally
    Readings(parts, extended=extended)
    tally.tracer = opentelemetry.begin
    tally.search(lambda: opentelemetry.show(tally))
    if metrics is not None:
        from bearer_middleware.telemetry import prometheus

        prometheus.show(tally, metrics)
