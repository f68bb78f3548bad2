"""What takes the words of others: logout tokens always, event tokens where that is configured."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

from bearer_middleware.flow.clock import Clock
from bearer_middleware.flow.effects import Flow
from bearer_middleware.flow.events import Events
from bearer_middleware.issuer.server import AuthorizationServer
from bearer_middleware.issuer.transmitter import Transmitter
from bearer_middleware.revocation.logout import LogoutReceiver
from bearer_middleware.revocation.request import Revocation
from bearer_middleware.revocation.signals import Condition, SignalReceiver
from bearer_middleware.revocation.subjects import Subjects
from bearer_middleware.settings import Settings


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
        revoking: Callable[[Revocation], Flow[None]],
        clock: Clock,
        events: Events,
        show: Callable[[str, Callable[[], Condition]], None],
    ) -> None:
        self.logouts = LogoutReceiver(trusted.named, revoking, clock, settings.max_token_length)
        #: ``None`` where no transmitter is configured.
        self.signals: SignalReceiver | None = None
        name, audience = settings.signals_issuer, settings.signals_audience
        if settings.signals_path is None or name is None or audience is None:
            return
        server = next((each for each in trusted.servers if each.issuer == name), None)
        transmitter = Transmitter(name, server, settings, clock, events)
        self.signals = SignalReceiver(
            transmitter,
            audience,
            Subjects((each.issuer for each in trusted.servers), name),
            revoking,
            oldest=settings.revocation_keep,
            clock=clock,
            events=events,
        )
        if not transmitter.is_issuer:
            show("signals", self.signals.condition)
