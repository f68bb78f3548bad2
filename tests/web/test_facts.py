"""What is told of a request, from a scope and from an environ alike."""

from __future__ import annotations

from ipaddress import ip_network
from typing import Any

import pytest
from opentelemetry.sdk.trace import TracerProvider

from bearer_middleware.audit.record import RequestFacts
from bearer_middleware.web.client_address import ClientAddresses
from bearer_middleware.web.facts import facts_of_environ, facts_of_scope, request_id, trace_of

TRACE, SPAN = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
PROXIES = ClientAddresses([ip_network("10.0.0.0/8")])


def of_scope(headers: dict[str, str], clients: Any = None, **changes: Any) -> RequestFacts:
    """Of an ASGI request."""
    scope = {
        "type": "http",
        "method": "GET",
        "path": "/caf\u00e9/42",
        "query_string": b"token=canary",
        "client": ("10.0.0.1", 4),
        "headers": [(name.encode(), value.encode("latin-1")) for name, value in headers.items()],
    }
    return facts_of_scope(scope | changes, clients)


def of_environ(headers: dict[str, str], clients: Any = None, **changes: Any) -> RequestFacts:
    """Of the same in WSGI."""
    environ = {
        "REQUEST_METHOD": "GET",
        "SCRIPT_NAME": "",
        "PATH_INFO": "/caf\u00e9/42".encode().decode("latin-1"),
        "QUERY_STRING": "token=canary",
        "REMOTE_ADDR": "10.0.0.1",
        **{f"HTTP_{name.upper().replace('-', '_')}": text for name, text in headers.items()},
    }
    return facts_of_environ(environ | changes, clients)


@pytest.fixture(params=[of_scope, of_environ])
def facts(request: pytest.FixtureRequest) -> Any:
    """``facts(headers, clients)`` in either world."""
    return request.param


def test_all_of_it(facts: Any) -> None:
    """The method, the decoded path, the host, the client, and three headers."""
    headers = {
        "host": "api.test:8000",
        "user-agent": "curl/8",
        "x-request-id": "r-1",
        "traceparent": f"00-{TRACE}-{SPAN}-01",
        "x-forwarded-for": "203.0.113.7",
        "authorization": "Bearer canary",
        "cookie": "canary",
    }
    told = facts(headers, PROXIES)
    assert told == RequestFacts(
        method="GET",
        route="/café/42",
        host="api.test:8000",
        ip="203.0.113.7",
        user_agent="curl/8",
        request_id="r-1",
        trace_id=TRACE,
        span_id=SPAN,
    )
    assert "canary" not in repr(told)


def test_nothing_is_known(facts: Any) -> None:
    """Of a request without headers; nobody believes a forwarded address where no proxy is."""
    told = facts({"x-forwarded-for": "203.0.113.7"})
    assert told == RequestFacts(method="GET", route="/café/42", ip="10.0.0.1")


def test_a_whole_address_of_ipv6() -> None:
    """The limits share a network; an event names the address."""
    told = of_scope({}, client=("2001:db8::1:2", 1))
    assert told.ip == "2001:db8::1:2"
    assert of_environ({}, REMOTE_ADDR="/run/socket").ip is None


def test_below_a_root() -> None:
    """The path is that of the whole application, however the server spells it."""
    assert of_scope({}, root_path="/v1").route == "/v1/café/42"
    assert of_scope({}, root_path="/caf\u00e9").route == "/café/42"
    assert of_environ({}, SCRIPT_NAME="/v1").route == "/v1/café/42"
    assert of_environ({}, PATH_INFO="/\xff").route == "/\xff"


def test_a_template() -> None:
    """Takes the place of the path."""
    assert (
        facts_of_scope({"type": "websocket", "path": "/ws/1"}, route="/ws/{id}").route == "/ws/{id}"
    )
    assert facts_of_environ({"PATH_INFO": "/ws/1"}, route="/ws/{id}").route == "/ws/{id}"


@pytest.mark.parametrize(
    "written", ["", "a b", "a\nb", "x" * 129, "-a", "<script>", 'a"b', "\u00e9", None, "a;b", "a,b"]
)
def test_no_request_id(written: str | None) -> None:
    """What is no harmless word is not taken over."""
    assert request_id(written) is None


@pytest.mark.parametrize(
    "written", ["a", "x" * 128, "01JABC", "550e8400-e29b-41d4-a716-446655440000"]
)
def test_a_request_id(written: str) -> None:
    """A word is."""
    assert request_id(written) == written


@pytest.mark.parametrize(
    "written",
    [
        None,
        "",
        f"00-{TRACE}-{SPAN}",
        f"ff-{TRACE}-{SPAN}-01",
        f"00-{'0' * 32}-{SPAN}-01",
        f"00-{TRACE}-{'0' * 16}-01",
        f"00-{TRACE.upper()}-{SPAN}-01",
        f"00-{TRACE}-{SPAN}-01-more",
        "canary",
    ],
)
def test_no_trace(written: str | None) -> None:
    """W3C Trace Context section 3.2.2: what is not valid is ignored."""
    assert trace_of(written) == (None, None)


def test_a_later_version_of_traceparent() -> None:
    """Section 3.2.4: is read as far as it is known."""
    assert trace_of(f"cc-{TRACE}-{SPAN}-01-more") == (TRACE, SPAN)


def test_the_span_of_the_server_wins() -> None:
    """Over that of the caller, which is its parent."""
    with TracerProvider().get_tracer("test").start_as_current_span("request") as span:
        context = span.get_span_context()
        ours = (f"{context.trace_id:032x}", f"{context.span_id:016x}")
        assert trace_of(f"00-{TRACE}-{SPAN}-01") == ours


@pytest.mark.parametrize("host", ["a b", "api.test/evil", "<x>", "x" * 256, "a\r\nb"])
def test_an_odd_host(host: str) -> None:
    """Is not told."""
    assert of_environ({"host": host}).host is None


def test_long_texts(facts: Any) -> None:
    """Are cut."""
    assert len(facts({"user-agent": "x" * 5000}).user_agent) == 256
    assert len(of_scope({}, path="/" + "x" * 5000).route) == 512
