"""OpenTelemetry, where the application uses it: found out without importing it.

Counters and gauges are asynchronous instruments, which the SDK reads when it exports; only
histograms and spans are told of at once, and those are never part of a cache hit.
"""

from __future__ import annotations

import contextlib
import functools
import weakref
from typing import Any
from urllib.parse import urlsplit

from bearer_middleware.flow.effects import HttpRequest
from bearer_middleware.flow.instruments import BOUNDARIES, INSTRUMENTS, Instrument
from bearer_middleware.flow.locks import LazyLock
from bearer_middleware.flow.tally import Labels, Span, Tally, is_loaded, say_once
from bearer_middleware.telemetry.gathering import Gathering, present

_NAME = "bearer_middleware"


class OpenTelemetry:
    """The instruments at one provider of meters, and what is told to them."""

    def __init__(self, provider: Any) -> None:
        self.gathering = Gathering()
        self._histograms: dict[Instrument, Any] = {}
        meter = provider.get_meter(_NAME, _version())
        for instrument in INSTRUMENTS:
            name, unit, text = instrument.name, instrument.unit, instrument.text
            if instrument.kind == "histogram":
                self._histograms[instrument] = _histogram(meter, instrument)
                continue
            create = {
                "counter": meter.create_observable_counter,
                "gauge": meter.create_observable_gauge,
            }[instrument.kind]
            callback = functools.partial(self._observe, instrument)
            create(name, callbacks=[callback], unit=unit, description=text)

    def join(self, tally: Tally) -> None:
        """Show ``tally`` here, too."""
        self.gathering.join(tally)
        tally.observer = self.took

    def took(self, histogram: Instrument, seconds: float, labels: Labels) -> None:
        """Tell of one more value."""
        self._histograms[histogram].record(seconds, present(histogram, labels))

    def _observe(self, instrument: Instrument, options: Any) -> list[Any]:
        from opentelemetry.metrics import Observation

        return [
            Observation(value, present(instrument, labels))
            for labels, value in self.gathering.read(instrument).items()
        ]


class _Span:
    """A span that is the current one while the call lasts, so that whoever traces the HTTP
    client finds its parent.
    """

    def __init__(self, name: str, request: HttpRequest) -> None:
        from opentelemetry import context, trace

        attributes = _attributes(request)
        # Of the provider there is now: asking for it costs nothing beside a network call.
        tracer = trace.get_tracer(_NAME, _version())
        self._span = tracer.start_span(name, kind=trace.SpanKind.CLIENT, attributes=attributes)
        self._token = context.attach(trace.set_span_in_context(self._span))

    def end(self, status: int | None, error: str | None) -> None:
        try:
            self._end(status, error)
        except Exception as broken:  # noqa: BLE001 - telemetry never decides over a request
            say_once(f"telemetry raised {type(broken).__name__}")

    def _end(self, status: int | None, error: str | None) -> None:
        from opentelemetry import context, trace

        # A flow may be closed by the collector, in a place that knows nothing of it.
        if trace.get_current_span() is self._span:
            context.detach(self._token)
        if status is not None:
            self._span.set_attribute("http.response.status_code", status)
        if error is not None:
            self._span.set_attribute("error.type", error)
            self._span.set_status(trace.StatusCode.ERROR)
        self._span.end()


def _attributes(request: HttpRequest) -> dict[str, Any]:
    """By the conventions for HTTP clients. No query, no credentials, no header, no body."""
    parts = urlsplit(request.url)
    host, port = parts.hostname or "", parts.port
    place = f"[{host}]" if ":" in host else host
    if port is not None:
        place = f"{place}:{port}"
    return {
        "http.request.method": request.method,
        "server.address": host,
        "server.port": port or (443 if parts.scheme == "https" else 80),
        "url.full": f"{parts.scheme}://{place}{parts.path}",
    }


def _histogram(meter: Any, instrument: Instrument) -> Any:
    name, unit, text = instrument.name, instrument.unit, instrument.text
    with contextlib.suppress(TypeError):  # not before 1.30
        return meter.create_histogram(
            name, unit=unit, description=text, explicit_bucket_boundaries_advisory=BOUNDARIES
        )
    return meter.create_histogram(name, unit=unit, description=text)


def begin(name: str, request: HttpRequest) -> Span | None:
    """A span around a network call, if the application traces at all."""
    if not is_loaded("opentelemetry.trace"):
        return None
    return _Span(name, request)


@functools.cache
def _version() -> str | None:
    from importlib import metadata

    with contextlib.suppress(metadata.PackageNotFoundError):
        return metadata.version("bearer-middleware")
    return None


#: By provider of meters, so that several servers share their instruments.
_shown: weakref.WeakKeyDictionary[Any, OpenTelemetry] = weakref.WeakKeyDictionary()
_lock = LazyLock()


def show(tally: Tally) -> bool:
    """Show the counts of ``tally`` where the application shows its own metrics. ``False`` while
    that is nowhere.
    """
    provider = _provider()
    if provider is None:
        return False
    with _lock:
        shown = _shown.get(provider)
        if shown is None:
            shown = _shown[provider] = OpenTelemetry(provider)
    shown.join(tally)
    return True


def _provider() -> Any:
    """What was set up. The API's own stand-ins lead nowhere, and may be replaced yet."""
    if not is_loaded("opentelemetry.metrics"):
        return None
    from opentelemetry import metrics

    provider = metrics.get_meter_provider()
    return None if type(provider).__module__.startswith(metrics.__name__) else provider
