"""What ``check`` says of ``BEARER_RESOURCE``: is it described, do tokens made for it fit?"""

from __future__ import annotations

from bearer_middleware.commands.configuration import places
from bearer_middleware.commands.findings import Finding, address
from bearer_middleware.errors import TransportError
from bearer_middleware.flow.effects import Flow, HttpRequest, HttpResponse, Tls
from bearer_middleware.resource_server import ResourceServer
from bearer_middleware.settings import Settings
from bearer_middleware.settings.grammar import is_loopback, is_plain
from bearer_middleware.settings.resources import metadata_url
from bearer_middleware.tokens.text import parse_object

_NAME = "BEARER_RESOURCE"
_PROXY = "let what is in front of this API hand that path on unchanged"


def resource_findings(server: ResourceServer) -> Flow[list[Finding]]:
    """Is this API known by the name that clients ask tokens for, and described where they look?"""
    settings = server.settings
    if settings.resource is None:
        return []
    found = _names(settings)
    if is_plain(settings.resource) and is_loopback(settings.resource):
        text = "goes over http, which BEARER_ALLOW_INSECURE_HTTP allows for development only"
        found.append(Finding("warn", _NAME, text))
    found.append((yield from _document(settings, settings.resource)))
    return found


def _names(settings: Settings) -> list[Finding]:
    """A client asks for a token for this very identifier (RFC 8707 section 2)."""
    text = (
        f"does not name {_NAME}: a client that follows the metadata asks for a token for that, "
        "and it is refused here"
    )
    return [
        Finding("warn", place.label("audience"), text)
        for issuer, place in zip(settings.issuers, places(settings), strict=True)
        if not issuer.allow_any_audience and settings.resource not in issuer.audience
    ]


def _document(settings: Settings, resource: str) -> Flow[Finding]:
    url = metadata_url(resource)
    request = HttpRequest(
        "GET", url, timeout=settings.http_timeout, tls=Tls(authorities=settings.ca_file)
    )
    try:
        response = yield from request
    except TransportError as failure:
        # It may not run yet, nor be there for this machine: who knows?
        text = f"{address(url)} was not reached from here ({failure.detail}), so not looked at"
        return Finding("skip", _NAME, text)
    wrong = _wrong_with(response, resource)
    if wrong is not None:
        return Finding("warn", _NAME, f"{address(url)} {wrong}; {_PROXY}")
    return Finding("ok", _NAME, f"{address(url)} describes it")


def _wrong_with(response: HttpResponse, resource: str) -> str | None:
    if response.status != 200:
        return f"answers with status {response.status}"
    try:
        named = parse_object(response.body).get("resource")
    except ValueError:
        return "is no JSON object"
    return None if named == resource else "describes another resource"
