"""What takes the words of others: logout tokens always, event tokens where that is configured."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Protocol

from bearer_middleware.flow.clock import Clock
from bearer_middleware.flow.effects import Flow
from bearer_middleware.flow.events import Events
from bearer_middleware.issuer.server import AuthorizationServer
from bearer_middleware.revocation.logout import LogoutReceiver
from bearer_middleware.revocation.request import Revocation
from bearer_middleware.settings import Settings

if TYPE_CHECKING:
    from bearer_middleware.revocation.signals import Condition, SignalReceiver


class _Trusted(Protocol):
    """The issuers that are configured."""

    @property
    def servers(self) -> Sequence[AuthorizationServer]: ...

    def named(self, issuer: str | None) -> AuthorizationServer: ...


class Receivers:
    """The receivers of one resource server. What they are told goes to ``revoking``; ``show``
    adds a part to health.
    """

    def __init__(  # noqa: PLR0917 - what every receiver needs
        self,
        settings: Settings,
        trusted: _Trusted,
        revoking: Callable[[Revocation, str], Flow[None]],
        clock: Clock,
        events: Events,
        show: Callable[[str, Callable[[], Condition]], None],
    ) -> None:
        longest, logging_out = settings.max_token_length, partial(_from, "logout", revoking)
        self.logouts = LogoutReceiver(trusted.named, logging_out, clock, longest)
        #: ``None`` where no transmitter is configured.
        self.signals: SignalReceiver | None = None
        name, audience = settings.signals_issuer, settings.signals_audience
        if settings.signals_path is None or name is None or audience is None:
            return
        # Few have one, and everybody would pay for the import.
        from bearer_middleware.issuer.transmitter import Transmitter
        from bearer_middleware.revocation.signals import SignalReceiver
        from bearer_middleware.revocation.subjects import Subjects

        server = next((each for each in trusted.servers if each.issuer == name), None)
        transmitter = Transmitter(name, server, settings, clock, events)
        self.signals = SignalReceiver(
            transmitter,
            audience,
            Subjects((each.issuer for each in trusted.servers), name),
            partial(_from, "signals", revoking),
            oldest=settings.revocation_keep,
            clock=clock,
            events=events,
        )
        if not transmitter.is_issuer:
            show("signals", self.signals.condition)


def _from(
    source: str, revoking: Callable[[Revocation, str], Flow[None]], said: Revocation
) -> Flow[None]:
    """Revoke, and say where that was heard."""
    return revoking(said, source)
