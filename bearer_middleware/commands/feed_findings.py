"""What ``check`` says of revocations: where they come from, and what is promised of them."""

from __future__ import annotations

from bearer_middleware.commands.findings import Finding
from bearer_middleware.errors import TransportError
from bearer_middleware.flow.effects import Flow, lift
from bearer_middleware.resource_server import ResourceServer
from bearer_middleware.revocation.bound import bound_of
from bearer_middleware.revocation.feed import Feed

_NAME = "BEARER_REVOCATION_URL"
_ABSENT = "absent: revocations hold in the memory of one process, and end with it"


def feed_findings(server: ResourceServer) -> Flow[list[Finding]]:
    """Can the feed be read, and for how long is a revoked token accepted at most?"""
    feed = server.feed
    if feed is None:
        found = [Finding("ok", _NAME, _ABSENT)]
    else:
        found = [(yield from _read(feed)), *_trust(server, feed)]
    bound = bound_of(server.settings) if feed is None else feed.bound
    return [*found, Finding("ok", "revocation", f"a revoked token is accepted at most, {bound}")]


def _read(feed: Feed) -> Flow[Finding]:
    try:
        marks = yield from lift(feed.source.snapshot)
    except Exception as error:  # noqa: BLE001 - its text may be anything
        word = error.detail if isinstance(error, TransportError) else type(error).__name__
        return Finding("fail", _NAME, f"the feed cannot be read: {word}")
    return Finding("ok", _NAME, f"the feed can be read; revocations in force: {len(tuple(marks))}")


def _trust(server: ResourceServer, feed: Feed) -> list[Finding]:
    found = []
    rejected = server.events.counts["revocation_tampered"]
    if rejected:
        text = f"{rejected} entries of the feed are not applied: written with another secret?"
        found.append(Finding("warn", "BEARER_FLEET_SECRET", text))
    if not feed.is_writable:
        text = "the feed can only be read: revocations are written elsewhere"
        if server.settings.fleet_secret is None:
            text += "; without BEARER_FLEET_SECRET whoever writes there is believed"
        found.append(Finding("ok", _NAME, text))
    return found
