"""What an audit event tells of an HTTP request. Pure functions: a scope or an environ goes in.

Never the query, never a body, and no header but for these: ``X-Request-ID`` where it is a harmless
word, ``traceparent`` (W3C Trace Context section 3.2), ``User-Agent`` and ``Host``, each bounded.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from bearer_middleware.audit.record import RequestFacts
from bearer_middleware.flow.tally import is_loaded
from bearer_middleware.web.client_address import ClientAddresses

_REQUEST_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:/+=@-]{0,127}")
_HOST = re.compile(r"[A-Za-z0-9._:\[\]-]{1,255}")
_TRACEPARENT = re.compile(r"([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-[0-9a-f]{2}(-.*)?")
_LONGEST_AGENT, _LONGEST_PATH = 256, 512
_WANTED = frozenset({b"x-request-id", b"traceparent", b"user-agent", b"host"})
#: Without trusted proxies the peer of the connection is the client.
_PEERS = ClientAddresses(())


def facts_of_scope(
    scope: Mapping[str, Any], clients: ClientAddresses | None = None, *, route: str | None = None
) -> RequestFacts:
    """Of an ASGI request. ``route`` is the template of its path; else it is the path."""
    headers: dict[bytes, str] = {}
    for raw, value in scope.get("headers", ()):
        name = bytes(raw).lower()
        if name in _WANTED:
            headers.setdefault(name, bytes(value).decode("latin-1"))
    path = scope.get("path", "")
    root = scope.get("root_path", "")
    whole = path if not root or path.startswith(root) else root + path
    address = (clients or _PEERS).in_scope(scope)
    trace_id, span_id = trace_of(headers.get(b"traceparent"))
    return RequestFacts(
        method=scope.get("method", "GET"),  # a websocket begins as one
        route=whole[:_LONGEST_PATH] if route is None else route,
        host=_host(headers.get(b"host")),
        ip=None if address is None else str(address),
        user_agent=_agent(headers.get(b"user-agent")),
        request_id=request_id(headers.get(b"x-request-id")),
        trace_id=trace_id,
        span_id=span_id,
    )


def facts_of_environ(
    environ: Mapping[str, Any], clients: ClientAddresses | None = None, *, route: str | None = None
) -> RequestFacts:
    """Of a WSGI request. ``route`` is the template of its path; else it is the path."""
    path = environ.get("SCRIPT_NAME", "") + environ.get("PATH_INFO", "")
    address = (clients or _PEERS).in_environ(environ)
    trace_id, span_id = trace_of(environ.get("HTTP_TRACEPARENT"))
    return RequestFacts(
        method=environ.get("REQUEST_METHOD", "GET"),
        # PEP 3333: bytes as latin-1, and what is no UTF-8 stays as it came.
        route=_decoded(path)[:_LONGEST_PATH] if route is None else route,
        host=_host(environ.get("HTTP_HOST")),
        ip=None if address is None else str(address),
        user_agent=_agent(environ.get("HTTP_USER_AGENT")),
        request_id=request_id(environ.get("HTTP_X_REQUEST_ID")),
        trace_id=trace_id,
        span_id=span_id,
    )


def request_id(written: str | None) -> str | None:
    """``X-Request-ID``, where it is at most 128 harmless characters."""
    return written if written is not None and _REQUEST_ID.fullmatch(written) else None


def trace_of(traceparent: str | None) -> tuple[str | None, str | None]:
    """The ids of the trace and the span: of the span there is now, or of the caller's."""
    if is_loaded("opentelemetry.trace"):
        from opentelemetry import trace

        context = trace.get_current_span().get_span_context()
        if context.is_valid:
            return f"{context.trace_id:032x}", f"{context.span_id:016x}"
    match = None if traceparent is None else _TRACEPARENT.fullmatch(traceparent.strip())
    if match is None or match[1] == "ff" or (match[1] == "00" and match[4]):
        return None, None
    if not int(match[2], 16) or not int(match[3], 16):
        return None, None
    return match[2], match[3]


def _host(written: str | None) -> str | None:
    return written if written is not None and _HOST.fullmatch(written) else None


def _agent(written: str | None) -> str | None:
    return None if written is None else written[:_LONGEST_AGENT]


def _decoded(path: str) -> str:
    try:
        return path.encode("latin-1").decode()
    except UnicodeError:
        return path
