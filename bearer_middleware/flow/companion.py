"""A flow that accompanies the process, on one daemon thread of its own.

It begins when it is first needed, never when something is built or imported, and does not
exist in a forked child until it is needed there. A thread, and no task: a loop that is busy
or ended must not keep it from going on.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from concurrent.futures import Future

from bearer_middleware.flow.drivers import Transport, run
from bearer_middleware.flow.effects import Flow
from bearer_middleware.flow.locks import LazyLock, renew_after_fork

_logger = logging.getLogger("bearer_middleware")


class Companion:
    """Runs ``begin(ending)`` until it returns; it should soon do so once ``ending`` is done."""

    def __init__(
        self, name: str, begin: Callable[[Future[None]], Flow[None]], transport: Transport | None
    ) -> None:
        self._name, self._begin, self._transport = name, begin, transport
        self._lock = LazyLock()
        self._ending: Future[None] | None = None
        renew_after_fork(self)

    def after_fork(self) -> None:
        """The parent's thread is in the parent."""
        self._ending = None

    @property
    def runs(self) -> bool:
        """Is it under way in this process?"""
        return self._ending is not None

    def start(self) -> None:
        """Begin, unless it is under way. Raises ``RuntimeError`` where no thread can be had."""
        with self._lock:
            if self._ending is not None:
                return
            ending = self._ending = Future()
        thread = threading.Thread(target=self._run, args=(ending,), name=self._name, daemon=True)
        try:
            thread.start()
        except BaseException:
            self._leave(ending)
            raise

    def stop(self) -> None:
        """Ask it to end; it may be started again at once."""
        with self._lock:
            ending, self._ending = self._ending, None
            if ending is not None:  # in here: the next one begins when this one knows
                ending.set_result(None)

    def _run(self, ending: Future[None]) -> None:
        try:
            run(self._begin(ending), self._transport)
        except Exception as failure:  # noqa: BLE001 - whoever needs it starts it again
            _logger.error("%s failed: %s", self._name, type(failure).__name__)
        finally:
            self._leave(ending)

    def _leave(self, ending: Future[None]) -> None:
        with self._lock:
            if self._ending is ending:
                self._ending = None
