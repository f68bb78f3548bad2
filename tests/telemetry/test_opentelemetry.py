"""OpenTelemetry's own SDK, reading what was counted and collecting spans."""

from __future__ import annotations

import json
import subprocess
import sys
from base64 import urlsafe_b64decode
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from opentelemetry import metrics, trace
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind, StatusCode

from bearer_middleware import ResourceServer
from bearer_middleware.flow.instruments import INSTRUMENTS
from bearer_middleware.testing import Issuer

Ask = Callable[..., list[int]]
Make = Callable[..., ResourceServer]


@pytest.fixture
def reader(monkeypatch: pytest.MonkeyPatch) -> Iterator[InMemoryMetricReader]:
    """Of the provider that the application has set up."""
    reader = InMemoryMetricReader()
    provider = MeterProvider([reader])
    monkeypatch.setattr(metrics, "get_meter_provider", lambda: provider)
    yield reader
    provider.shutdown()


@pytest.fixture
def spans(monkeypatch: pytest.MonkeyPatch) -> Iterator[InMemorySpanExporter]:
    """All that ended."""
    exporter = InMemorySpanExporter()
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    monkeypatch.setattr(trace, "get_tracer", provider.get_tracer)
    yield exporter
    provider.shutdown()


def points(reader: InMemoryMetricReader) -> dict[str, list[Any]]:
    """By the name of a metric, its points."""
    data = reader.get_metrics_data()
    found: dict[str, list[Any]] = {}
    for resource in data.resource_metrics if data is not None else ():
        for scope in resource.scope_metrics:
            assert scope.scope.name == "bearer_middleware"
            for metric in scope.metrics:
                found.setdefault(metric.name, []).extend(metric.data.data_points)
    return found


def total(found: dict[str, list[Any]], name: str, **labels: str) -> float:
    """The sum of the points that have these attributes."""
    return sum(
        point.value
        for point in found.get(name, ())
        if labels.items() <= dict(point.attributes).items()
    )


def test_counters_and_gauges(
    ask: Ask, make: Make, issuer: Issuer, reader: InMemoryMetricReader
) -> None:
    """Are read when they are exported, also what was counted before that was set up."""
    server, jwt, opaque = make(metrics=None), issuer.jwt(), issuer.opaque()
    ask(server, jwt, jwt, jwt, opaque, "unknown")
    found = points(reader)
    assert total(found, "bearer.auth.requests", outcome="allowed", kind="jwt") == 3
    assert total(found, "bearer.auth.requests", reason="inactive", issuer=issuer.url) == 1
    assert total(found, "bearer.cache.lookups", cache="jwt", result="hit") == 2
    assert total(found, "bearer.cache.size", cache="jwt") == 1
    assert total(found, "bearer.jwks.keys", issuer=issuer.url) >= 1
    ask(server, jwt)
    assert total(points(reader), "bearer.auth.requests", outcome="allowed", kind="jwt") == 4


def test_histograms(ask: Ask, make: Make, issuer: Issuer, reader: InMemoryMetricReader) -> None:
    """Are told of at once, in seconds, with boundaries that fit."""
    ask(make(metrics=None), issuer.jwt(), issuer.opaque())
    found = points(reader)
    (asked,) = [
        point
        for point in found["bearer.upstream.duration"]
        if point.attributes == {"target": "introspection", "result": "ok"}
    ]
    assert asked.count == 1
    assert 0 < asked.sum < 5
    assert asked.explicit_bounds[0] < 0.001
    sources = {point.attributes["source"] for point in found["bearer.auth.duration"]}
    assert sources == {"local", "upstream"}


def test_only_names_of_the_table(
    ask: Ask, make: Make, issuer: Issuer, reader: InMemoryMetricReader
) -> None:
    """And labels of the table; those without a value are left out."""
    ask(make(metrics=None), issuer.jwt(), issuer.opaque(), None, "unknown")
    table = {instrument.name: set(instrument.labels) for instrument in INSTRUMENTS}
    for name, measured in points(reader).items():
        for point in measured:
            assert set(point.attributes) <= table[name]
            assert "" not in point.attributes.values()


def test_several_servers(
    ask: Ask,
    make: Make,
    issuer: Issuer,
    reader: InMemoryMetricReader,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Share the instruments: nothing is a duplicate, and everything is added up."""
    for _ in range(3):
        ask(make(metrics=None), issuer.jwt())
    found = points(reader)
    assert total(found, "bearer.auth.requests", outcome="allowed") == 3
    keys = [tuple(sorted(point.attributes.items())) for point in found["bearer.auth.requests"]]
    assert len(keys) == len(set(keys))
    assert "duplicate" not in caplog.text.lower()
    assert "already been created" not in caplog.text


def test_spans_around_network_calls_only(
    ask: Ask, make: Make, issuer: Issuer, spans: InMemorySpanExporter
) -> None:
    """Of the client's kind, by the conventions for HTTP, and none for what is remembered."""
    server, jwt, opaque = make(metrics=None), issuer.jwt(), issuer.opaque()
    ask(server, jwt, opaque)
    ended = {span.name: span for span in spans.get_finished_spans()}
    assert {"bearer.introspect", "bearer.jwks.fetch"} <= set(ended)
    asked = ended["bearer.introspect"]
    assert asked.kind is SpanKind.CLIENT
    attributes = dict(asked.attributes or {})
    assert attributes["http.request.method"] == "POST"
    assert attributes["http.response.status_code"] == 200
    assert attributes["url.full"] == f"{issuer.url}/introspect"
    assert attributes["server.address"] == "issuer.test"
    assert attributes["server.port"] == 443
    assert "error.type" not in attributes
    spans.clear()
    ask(server, jwt, opaque, jwt, opaque)
    assert spans.get_finished_spans() == ()


def test_spans_have_a_parent_and_leave_no_trace(
    make: Make, issuer: Issuer, spans: InMemorySpanExporter
) -> None:
    """What the application was about is around them, and current again afterwards."""
    from bearer_middleware.flow.drivers import run

    server = make(metrics=None)
    with trace.get_tracer("application").start_as_current_span("request") as around:
        run(server.authenticate([f"Bearer {issuer.opaque()}".encode()]), server.transport)
        assert trace.get_current_span() is around
    (asked,) = [span for span in spans.get_finished_spans() if span.name == "bearer.introspect"]
    assert asked.parent is not None
    assert asked.parent.span_id == around.get_span_context().span_id


@pytest.mark.parametrize(
    ("fault", "error"), [({"status": 503}, "503"), ({"drop": True}, None), ({"status": 401}, "401")]
)
def test_spans_of_failures(  # noqa: PLR0917
    ask: Ask, make: Make, issuer: Issuer, spans: Any, fault: dict[str, Any], error: str | None
) -> None:
    """Say what went wrong, in a word of ours or the status."""
    issuer.fail("introspection", **fault)
    ask(make(metrics=None), issuer.opaque())
    asked = next(span for span in spans.get_finished_spans() if span.name == "bearer.introspect")
    assert asked.status.status_code is StatusCode.ERROR
    assert asked.attributes["error.type"] in ([error] if error else ["connect", "protocol"])


def test_attributes_have_no_query_and_no_credentials(
    ask: Ask, make: Make, issuer: Issuer, spans: InMemorySpanExporter
) -> None:
    """OTEL-2: nothing of the URL but where it leads; no header, no body."""
    from bearer_middleware.flow.effects import HttpRequest
    from bearer_middleware.telemetry.opentelemetry import begin

    url = "https://user:canary@[::1]:8443/introspect?access_token=canary#canary"
    headers = {"Authorization": "Basic canary", "Cookie": "canary"}
    span = begin("bearer.introspect", HttpRequest("POST", url, headers, b"token=canary"))
    assert span is not None
    span.end(200, None)
    (ended,) = spans.get_finished_spans()
    assert "canary" not in ended.to_json()
    assert (ended.attributes or {})["url.full"] == "https://[::1]:8443/introspect"


def test_canaries(  # noqa: PLR0917
    ask: Ask,
    make: Make,
    issuer: Issuer,
    reader: InMemoryMetricReader,
    spans: InMemorySpanExporter,
    registry: Any,
) -> None:
    """OTEL-1: no token, subject, client, session, scope or key id in a label, span or sample."""
    from prometheus_client import generate_latest

    claims = {"sub": "canary-sub", "client_id": "canary-client", "sid": "canary-sid"}
    jwt = issuer.jwt(scope="canary-scope", jti="canary-jti", **claims)
    opaque = issuer.opaque(scope="canary-scope", **claims)
    strange = issuer.jwt(headers={"kid": "canary-kid"}, iss="https://canary.example")
    server = make()
    tokens = [jwt, opaque, "canary-opaque", issuer.jwt(headers={"kid": "canary-kid"}), strange]
    ask(server, *tokens, *tokens)
    server.revoke(subject="canary-sub")
    ask(server, jwt, opaque)
    ended = spans.get_finished_spans()
    assert ended
    shown = [
        generate_latest(registry).decode(),
        repr(points(reader)),
        *[span.to_json() for span in ended],
    ]
    hidden = ["canary", "enduser", "request.header", jwt, opaque, jwt.split(".")[2]]
    hidden.append(json.loads(urlsafe_b64decode(jwt.split(".")[0] + "=="))["kid"])
    for text in shown:
        assert not [word for word in hidden if word.lower() in text.lower()]


class Broken:
    """A provider and instruments of somebody's that always raise."""

    def __getattr__(self, name: str) -> Any:
        raise LookupError("canary")


@pytest.mark.parametrize("when", ["at once", "when told"])
def test_what_is_broken_decides_nothing(  # noqa: PLR0917
    ask: Ask,
    make: Make,
    issuer: Issuer,
    when: str,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Requests go on, and the log has a line or none, without the text of the exception."""
    from bearer_middleware.flow import tally

    monkeypatch.setattr(tally, "_said", set())
    server = make(metrics=None)
    monkeypatch.setattr(trace, "get_tracer", lambda *_: Broken())
    if when == "at once":
        monkeypatch.setattr(metrics, "get_meter_provider", Broken)
    else:
        server.events.tally.watched = True
        server.events.tally.observer = lambda *_: Broken().record()
    assert ask(server, issuer.jwt(), issuer.opaque(), issuer.opaque()) == [200] * 3
    lines = [line for line in caplog.messages if "telemetry" in line]
    assert 1 <= len(lines) <= 2
    assert "canary" not in caplog.text


def run_alone(program: str) -> str:
    """The output of a program in a process of its own."""
    ended = subprocess.run(
        [sys.executable, "-W", "error", "-c", program],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert ended.returncode == 0, ended.stderr
    return ended.stdout


SERVE = """
import sys
from bearer_middleware import ResourceServer, Settings, WSGIBearerMiddleware
from bearer_middleware.testing import Issuer
issuer = Issuer()
server = ResourceServer(Settings(**issuer.settings()), transport=issuer.transport())
application = WSGIBearerMiddleware(lambda environ, start: [], server=server)
def ask(token):
    environ = {"REQUEST_METHOD": "GET", "PATH_INFO": "/", "HTTP_AUTHORIZATION": "Bearer " + token}
    application(environ, lambda *_: None)
"""


def test_it_is_never_imported_by_us() -> None:
    """Neither by the import, nor by a server, nor by requests."""
    shown = run_alone(
        SERVE + "ask(issuer.jwt()); ask(issuer.opaque())\n"
        "print(*[name for name in sys.modules if name.startswith(('opentelemetry', 'prometheus'))])"
    )
    assert shown.split() == []


@pytest.mark.parametrize("first", ["provider", "requests"])
def test_it_is_found_by_itself(first: str) -> None:
    """Whether it is set up before the first request or some time after it."""
    set_up = """
from opentelemetry import metrics
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
reader = InMemoryMetricReader()
metrics.set_meter_provider(MeterProvider([reader]))
"""
    early = "import opentelemetry.metrics\nask(issuer.jwt())\n"
    later = "import time; time.sleep(1.1)\nask(issuer.opaque()); ask(issuer.jwt())\n"
    show = "print(reader.get_metrics_data().to_json())"
    before = SERVE + set_up + early if first == "provider" else SERVE + early + set_up
    shown = run_alone(before + later + show)
    assert '"bearer.auth.requests"' in shown
    assert '"bearer.upstream.duration"' in shown
