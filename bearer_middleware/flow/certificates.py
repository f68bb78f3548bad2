"""SSL contexts of PEM files, made anew where a certificate, key or authority was replaced."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from bearer_middleware.errors import TransportError
from bearer_middleware.flow.effects import Tls
from bearer_middleware.flow.events import Event
from bearer_middleware.flow.watched import Watched

if TYPE_CHECKING:
    import ssl

_NAMES = {
    "authorities": "BEARER_CA_FILE",
    "certificate": "BEARER_CLIENT_CERT_FILE",
    "key": "BEARER_CLIENT_KEY_FILE",
}


class Certificates:
    """The context of each :class:`Tls`. ``make`` makes one that trusts what the system trusts;
    ``note`` is told of files that change or become unusable.
    """

    def __init__(
        self,
        make: Callable[[], ssl.SSLContext],
        note: Callable[[Event], None] | None = None,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._make, self._note, self._monotonic = make, note, monotonic
        self._watched: dict[Tls, Watched[ssl.SSLContext]] = {}

    def due(self, tls: Tls) -> bool:
        """Is it time for :meth:`look`?"""
        watched = self._watched.get(tls)
        if watched is None or watched.value is None:
            return True
        return bool(_paths(tls)) and self._monotonic() >= watched.due

    def look(self, tls: Tls) -> None:
        """Read the files if they are new. It takes long where they are: not on a loop."""
        watched = self._watched.get(tls)
        if watched is None:
            # Two threads may both make one, and go on with the same.
            watched = self._watched.setdefault(tls, self._watch(tls))
        event = watched.look(at_once=watched.value is None)
        if event is not None and self._note is not None:
            self._note(event)

    def doubt(self, tls: Tls) -> None:
        """A server did not accept who we are: look before the next exchange."""
        watched = self._watched.get(tls)
        if watched is not None:
            watched.due = 0.0

    def version(self, tls: Tls) -> int:
        """Grows with every new context."""
        watched = self._watched.get(tls)
        return 0 if watched is None else watched.version

    def context(self, tls: Tls) -> ssl.SSLContext:
        """The context that serves. Raises ``TransportError`` where the files never made one."""
        watched = self._watched.get(tls)
        if watched is None or watched.value is None:
            raise TransportError("the certificate files cannot be used")
        return watched.value

    def _watch(self, tls: Tls) -> Watched[ssl.SSLContext]:
        def read() -> ssl.SSLContext:
            context = self._make()
            if tls.authorities is not None:
                context.load_verify_locations(tls.authorities)
            if tls.certificate is not None:
                context.load_cert_chain(tls.certificate, tls.key)
            return context

        names = ", ".join(name for field, name in _NAMES.items() if getattr(tls, field))
        return Watched(names, _paths(tls), read, monotonic=self._monotonic)


def _paths(tls: Tls) -> tuple[str, ...]:
    given = (tls.authorities, tls.certificate, tls.key)
    return tuple(path for path in given if path is not None)
