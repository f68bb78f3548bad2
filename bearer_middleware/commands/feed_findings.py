"""What ``check`` says of revocations: where they come from, and what is promised of them."""

from __future__ import annotations

from bearer_middleware.commands.findings import Finding
from bearer_middleware.resource_server import ResourceServer
from bearer_middleware.revocation.bound import bound_of

_NAME = "BEARER_REVOCATION_URL"
_ABSENT = "absent: revocations hold in the memory of one process, and end with it"


def feed_findings(server: ResourceServer) -> list[Finding]:
    """Is there a feed, and how long is a revoked token accepted at most?"""
    found = []
    if server.settings.revocation_url is None:
        found.append(Finding("ok", _NAME, _ABSENT))
    text = f"a revoked token is accepted for at most, {bound_of(server.settings)}"
    return [*found, Finding("ok", "revocation", text)]
