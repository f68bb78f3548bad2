"""The request that a command is asked about, as a server would hand it on."""

from __future__ import annotations

import re
from urllib.parse import unquote

_METHOD = re.compile(r"[A-Za-z][A-Za-z0-9_-]{0,31}")


def request_of(method: str | None, path: str | None) -> tuple[str, str] | None:
    """Method and decoded path; ``None`` where there is no request. Raises ``ValueError``."""
    if method is None and path is None:
        return None
    if method is None or path is None:
        raise ValueError("--method and --path go together")
    if not _METHOD.fullmatch(method):
        raise ValueError("--method is a word, such as GET")
    if not path.startswith("/") or set(path) & set("?#"):
        raise ValueError("--path begins with / and has no query")
    return method.upper(), unquote(path)
