"""Where an ASGI application believes it is mounted, whatever its server says.

``FastAPI(root_path=...)`` and Django's ``FORCE_SCRIPT_NAME`` take a beginning off the path before
they route it. A middleware around them has to see the same path, or a request for ``/api/admin``
would be held to another row of the table than the one for ``/admin`` that it is routed to. No
framework is imported here: one that the application is not made with is not asked.
"""

from __future__ import annotations

import sys
from typing import Any

#: Where layers keep what they are around.
_INNER = ("app", "application", "_app")
_MOST_LAYERS = 100


def own_root(app: Any) -> str:
    """What the application puts in place of ``root_path``; empty where it believes its server."""
    for _ in range(_MOST_LAYERS):
        if _is(app, "fastapi", "FastAPI"):
            return str(app.root_path or "")
        if _is(app, "django.core.handlers.asgi", "ASGIHandler"):
            return str(sys.modules["django.conf"].settings.FORCE_SCRIPT_NAME or "")
        if app is None or hasattr(app, "path"):  # a mount: what is in it is further down
            break
        inner = (getattr(app, name, None) for name in _INNER)
        app = next((one for one in inner if callable(one)), None)
    return ""


def _is(thing: Any, module: str, name: str) -> bool:
    kind = getattr(sys.modules.get(module), name, None)
    return isinstance(kind, type) and isinstance(thing, kind)
