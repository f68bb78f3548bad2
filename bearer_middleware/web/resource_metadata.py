"""What this API tells of itself to clients that never saw it (RFC 9728).

Made of the settings alone: nothing that a request says, its ``Host`` least of all, gets in.
"""

from __future__ import annotations

import json

from bearer_middleware.settings import Settings
from bearer_middleware.settings.resources import OFFLINE
from bearer_middleware.web.challenge import Answer

_SECONDS = 3600
#: Anybody may read it, also from a page in a browser, whatever headers that sends along.
_HEADERS = (
    ("content-type", "application/json"),
    ("cache-control", f"public, max-age={_SECONDS}"),
    ("access-control-allow-origin", "*"),
    ("access-control-allow-methods", "GET, HEAD"),
    ("access-control-allow-headers", "*"),
)


def metadata_answer(settings: Settings) -> Answer:
    """The answer to whoever asks who we are (RFC 9728 sections 3.2 and 7.10)."""
    body = json.dumps(metadata(settings)).encode()
    return Answer(200, (*_HEADERS, ("content-length", str(len(body)))), body)


def metadata(settings: Settings) -> dict[str, object]:
    """The document (section 2). What has no element is left out (section 3.2)."""
    told: dict[str, object] = {
        "resource": settings.resource,
        "authorization_servers": [one.issuer for one in settings.issuers if one.issuer],
        "scopes_supported": _scopes(settings),
        "bearer_methods_supported": ["header"],
        "resource_name": settings.resource_name,
        "resource_documentation": settings.resource_documentation,
    }
    return {name: value for name, value in told.items() if value}


def _scopes(settings: Settings) -> list[str]:
    routes = settings.routes or ()
    of_routes = [name for route in routes for name in route.scopes]
    known = dict.fromkeys((*settings.required_scopes, *settings.resource_scopes, *of_routes))
    return [name for name in known if name != OFFLINE]
