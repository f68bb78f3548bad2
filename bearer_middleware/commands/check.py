"""``check``: reads the settings, contacts what they name, says what is wrong and how to mend it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TextIO

from bearer_middleware.commands.access_findings import access_findings
from bearer_middleware.commands.advice import advice
from bearer_middleware.commands.configuration import configured, places
from bearer_middleware.commands.feed_findings import feed_findings
from bearer_middleware.commands.findings import Finding, failed, tell
from bearer_middleware.commands.ledger import guarded
from bearer_middleware.commands.policy_findings import policy_findings
from bearer_middleware.commands.resource_findings import resource_findings
from bearer_middleware.commands.visit import Visit
from bearer_middleware.commands.witness import Witness
from bearer_middleware.errors import InvalidToken, Refused, TransportError, Unavailable
from bearer_middleware.flow.clock import Clock
from bearer_middleware.flow.drivers import run
from bearer_middleware.flow.effects import Flow
from bearer_middleware.issuer.server import AuthorizationServer
from bearer_middleware.resource_server import ResourceServer
from bearer_middleware.settings.report import Report
from bearer_middleware.tokens.bearer import bearer_token

_SECRET_BYTES = 32
_NO_AUD = {
    "required": "the server's answer names no aud, so every such token is refused: let the "
    "server name this API, or say if-present here",
    "if-present": "the server's answer names no aud, so tokens meant for other APIs are accepted",
    "any": "the server's answer names no aud, and none is looked at: tokens meant for other "
    "APIs are accepted",
}


def check(
    environ: Mapping[str, str],
    out: TextIO,
    *,
    config_file: str | None = None,
    authorization: bytes | None = None,
    transport: Any = None,
) -> int:
    """Tell all findings; 1 if one of them is a failure. ``authorization`` is a header whose
    token may be shown to its introspection endpoint; ``transport`` replaces the network.
    """
    server, found = configured(environ, config_file, transport)
    if server is not None:
        with_file = server.settings.config_file is not None
        sources = "the environment" + (" and the file it names" if with_file else "")
        found.insert(0, Finding("ok", "configuration", f"{sources} can be read"))
        found += survey(server)
        found += fleet_secret_findings(server)
        found += run(store_findings(server))
        found += run(feed_findings(server), server.transport)
        found += run(signal_findings(server), server.transport)
        found += run(resource_findings(server), server.transport)
        found += policy_findings(server)
        found += access_findings(server)
        if authorization is not None:
            found += run(answer_findings(server, authorization), server.transport)
        server.close()
    tell(found, out)
    return 1 if failed(found) else 0


def survey(server: ResourceServer) -> list[Finding]:
    """What is found at each of the authorization servers."""
    found: list[Finding] = []
    timeout = server.settings.http_timeout
    for issuer, place in zip(server.trusted.servers, places(server.settings), strict=True):
        witness = Witness(server.transport)
        found += run(Visit(issuer, place, witness, timeout).findings(), witness)
    return found


def fleet_secret_findings(server: ResourceServer) -> list[Finding]:
    """Could the fleet secret be found by trying? There is much to try it on in a store."""
    secret = server.settings.fleet_secret
    if secret is None or len(secret.reveal().encode()) >= _SECRET_BYTES:
        return []
    text = f"is short: who can read the store might guess it; {_SECRET_BYTES} random bytes or more"
    return [Finding("warn", "BEARER_FLEET_SECRET", text)]


def store_findings(server: ResourceServer) -> Flow[list[Finding]]:
    """Does the shared cache answer? Requests are served without it, but not as it is meant."""
    if server.fleet_cache is None:
        return []
    failure = yield from server.fleet_cache.ping()
    if failure is None:
        return [Finding("ok", "BEARER_CACHE_URL", "the store answers")]
    return [Finding("fail", "BEARER_CACHE_URL", f"the store does not answer: {failure}")]


def signal_findings(server: ResourceServer) -> Flow[list[Finding]]:
    """Has the transmitter of event tokens keys to verify them with?"""
    if server.receivers.signals is None:
        return []
    name, transmitter = "BEARER_SIGNALS_ISSUER", server.receivers.signals.transmitter
    if transmitter.is_issuer:
        return [Finding("ok", name, "is one of the issuers, whose keys are used")]
    deadline = Clock().monotonic() + server.settings.http_timeout
    try:
        keys = yield from transmitter.fetch_keys(deadline)
    except (TransportError, Unavailable) as failure:
        text = f"its SSF metadata or its key set {advice(failure.detail, Report())}"
        return [Finding("fail", name, text)]
    if not keys.keys:
        return [Finding("fail", name, "its key set has no usable key")]
    return [Finding("ok", name, f"usable keys: {len(keys.keys)}")]


def answer_findings(
    server: ResourceServer, authorization: bytes, clock: Clock | None = None
) -> Flow[list[Finding]]:
    """What introspection says of a real token, as far as it concerns the settings."""
    deadline = (clock or Clock()).monotonic() + server.settings.http_timeout
    try:
        token = bearer_token([authorization], server.settings.max_token_length)
        jws = server.trusted.parse(token)
        asked = (
            server.trusted.introspecting(token) if jws is None else server.trusted.issuer_of(jws)
        )
        if asked.introspection is None:
            return [Finding("ok", "token", "its issuer is not asked about tokens")]
        answer = yield from guarded(asked.introspection.ask(token, deadline))
    except InvalidToken as refusal:
        text = f"{refusal.detail}: only a good token shows what answers look like"
        return [Finding("warn", "token", text, refusal)]
    except Unavailable as failure:
        return [Finding("fail", "token", f"introspection: {failure.detail}", failure)]
    except Refused as refusal:
        return [Finding("fail", "token", refusal.detail or "no bearer token", refusal)]
    return [_of_audience(asked, answer.claims, places(server.settings)[asked.number])]


def _of_audience(server: AuthorizationServer, claims: Mapping[str, Any], place: Report) -> Finding:
    name = place.label("introspection_audience")
    if claims.get("aud") is None:
        return Finding("warn", name, _NO_AUD[server.settings.introspection_audience])
    return Finding("ok", name, "the server's answer names an aud")
