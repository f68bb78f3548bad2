"""What a resource server can be told to revoke."""

from __future__ import annotations

from collections.abc import Awaitable
from typing import Unpack

from bearer_middleware.flow.drivers import arun, run
from bearer_middleware.flow.transport import HttpTransport
from bearer_middleware.revocation.request import Revocation
from bearer_middleware.revocation.revoking import Revoking


class Revoker:
    """Of a resource server, what revokes."""

    transport: HttpTransport
    _revoking: Revoking

    def revoke(self, **said: Unpack[Revocation]) -> None:
        """Revoke a token, a session, a subject's or a client's tokens, or an issuer's, by the
        keywords of :class:`~bearer_middleware.revocation.request.Revocation`. Every request
        that begins after this returned is held against it, whatever is cached; with a feed in
        all processes, within a second.

        Raises ``ValueError`` where it is not clear what is meant, ``TypeError`` for an unknown
        keyword, ``RevocationError`` where it would not hold in every process that serves.
        """
        run(self._revoking(said), self.transport)

    def arevoke(self, **said: Unpack[Revocation]) -> Awaitable[None]:
        """:meth:`revoke` for event loops."""
        return arun(self._revoking(said), self.transport)
