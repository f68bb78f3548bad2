"""Prometheus, where it is asked for: a collector that reads the counts whenever it is scraped."""

from __future__ import annotations

import weakref
from collections.abc import Iterator
from typing import Any

from bearer_middleware.errors import ConfigError
from bearer_middleware.flow.instruments import BOUNDARIES, INSTRUMENTS, Instrument
from bearer_middleware.flow.locks import LazyLock
from bearer_middleware.flow.tally import Tally
from bearer_middleware.telemetry.gathering import Gathering

_BOUNDS = (*(str(boundary) for boundary in BOUNDARIES), "+Inf")


class Collector:
    """Shows what the servers that joined have counted, in the registry it is registered at."""

    def __init__(self) -> None:
        self.gathering = Gathering()

    def describe(self) -> Iterator[Any]:
        """All there may be, so that the registry sees whether a name is taken."""
        for instrument in INSTRUMENTS:
            yield _family(instrument)

    def collect(self) -> Iterator[Any]:
        for instrument in INSTRUMENTS:
            family = _family(instrument)
            if instrument.kind == "histogram":
                for labels, (counts, total) in self.gathering.read_histogram(instrument).items():
                    family.add_metric(labels, list(zip(_BOUNDS, counts, strict=True)), total)
            else:
                for labels, value in self.gathering.read(instrument).items():
                    family.add_metric(labels, value)
            yield family


#: By registry: several servers in one process share a collector.
_collectors: weakref.WeakKeyDictionary[Any, Collector] = weakref.WeakKeyDictionary()
_lock = LazyLock()


def show(tally: Tally, registry: Any) -> None:
    """Show ``tally`` in a registry, or in the default one where ``registry`` is its name. Raises
    ``ConfigError`` where that cannot be done.
    """
    try:
        import prometheus_client
    except ImportError:
        raise ConfigError(
            "metrics: prometheus_client is not installed; pip install bearer-middleware[prometheus]"
        ) from None
    if registry == "prometheus":
        registry = prometheus_client.REGISTRY
    if not callable(getattr(registry, "register", None)):
        raise ConfigError('metrics: neither "prometheus" nor a registry of prometheus_client')
    with _lock:
        collector = _collectors.get(registry)
        if collector is None:
            collector = Collector()
            try:
                registry.register(collector)
            except ValueError:
                raise ConfigError("metrics: the registry has metrics of these names") from None
            _collectors[registry] = collector
    collector.gathering.join(tally)


def _family(instrument: Instrument) -> Any:
    from prometheus_client import core

    kinds = {
        "counter": core.CounterMetricFamily,
        "gauge": core.GaugeMetricFamily,
        "histogram": core.HistogramMetricFamily,
    }
    name, text = instrument.prometheus_name, instrument.text
    return kinds[instrument.kind](name, text, labels=instrument.labels)
