"""Is this process the only one that serves? Its memory is no place for a revocation else.

Nobody can know for sure, so signs of several workers are believed: it is better to refuse a
revocation aloud than to let a token live on in the worker next door.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping

from bearer_middleware.flow.locks import renew_after_fork


class Alone:
    """Whether others may serve beside this process."""

    __slots__ = ("__weakref__", "_has_siblings", "told")

    def __init__(self) -> None:
        self._has_siblings = False
        #: What the server said (``wsgi.multiprocess`` of PEP 3333), which is better than signs.
        self.told: bool | None = None
        renew_after_fork(self)

    def after_fork(self) -> None:
        """Who was forked has a parent that was built the same, and perhaps brothers."""
        self._has_siblings = True

    def sign_of_others(self, environ: Mapping[str, str] = os.environ) -> str | None:
        """What tells that there are several workers, or ``None``."""
        if self.told is not None:
            return "the server has several processes" if self.told else None
        if self._has_siblings:
            return "this process was forked"
        # Every worker process of it has imported it; another thread may be doing so just now.
        parent = getattr(sys.modules.get("multiprocessing"), "parent_process", None)
        if parent is not None and parent() is not None:
            return "this is a worker process"
        if environ.get("SERVER_SOFTWARE", "").startswith("gunicorn"):
            return "gunicorn runs workers"
        workers = environ.get("WEB_CONCURRENCY", "")
        if workers.isdigit() and int(workers) > 1:
            return "WEB_CONCURRENCY asks for several workers"
        return None
