"""The transmitter of event tokens (OpenID Shared Signals Framework 1.0 section 7): its keys, and
what its metadata says.

Where it is one of our issuers, the keys are those of its access tokens. Else they come from
metadata of its own, and are renewed, limited and spared like those of an issuer.
"""

from __future__ import annotations

from collections.abc import Sequence
from urllib.parse import urlsplit

from bearer_middleware.errors import InvalidToken, Reason, TransportError, Unavailable
from bearer_middleware.flow.clock import Clock
from bearer_middleware.flow.effects import Flow, Tls
from bearer_middleware.flow.events import Events
from bearer_middleware.issuer.documents import fetch_key_set
from bearer_middleware.issuer.keys import ChangingKeys, Keys
from bearer_middleware.issuer.metadata import Metadata, urls_at
from bearer_middleware.issuer.server import AuthorizationServer
from bearer_middleware.issuer.upstream import Upstream
from bearer_middleware.settings import Settings
from bearer_middleware.settings.grammar import SIGNATURE_ALGORITHMS
from bearer_middleware.tokens.jws import Jws
from bearer_middleware.tokens.keys import KeySet, accepted_names

_DOCUMENT_SECONDS = 30.0


def configuration_urls(issuer: str) -> tuple[str, ...]:
    """Where SSF 1.0 section 7.2 has the metadata, and where RISC had it before."""
    path = urlsplit(issuer).path.removesuffix("/")
    return urls_at(
        issuer, f"/.well-known/ssf-configuration{path}", f"/.well-known/risc-configuration{path}"
    )


class Transmitter:
    """Who signs the event tokens of ``issuer``. ``server`` is the configured issuer of that
    name, if there is one. Asks nothing before the first token arrives.
    """

    def __init__(
        self,
        issuer: str,
        server: AuthorizationServer | None,
        settings: Settings,
        clock: Clock,
        events: Events,
    ) -> None:
        self.issuer, self._clock, self._events = issuer, clock, events
        self._timeout = settings.http_timeout
        trusted = settings if server is None else server.settings
        self._tls, self.leeway = Tls(trusted.ca_file), trusted.leeway
        self._metadata = Metadata(
            issuer,
            upstream=self._upstream("transmitter metadata"),
            timeout=self._timeout,
            clock=clock,
            events=events,
            tls=self._tls,
            insecure=settings.allow_insecure_http,
            urls=configuration_urls(issuer),
        )
        self._key_server = self._upstream("transmitter keys")
        self._algorithms = trusted.algorithms if server is not None else _public(trusted.algorithms)
        self._accepted = accepted_names(self._algorithms)
        #: Is it one of the configured issuers, and its keys are those of its access tokens?
        self.is_issuer = server is not None
        self.keys: Keys = self._own_keys(settings) if server is None else server.keys

    def allow(self, algorithm: str) -> None:
        """Is this on our list (RFC 8725 section 3.1)? Raises ``InvalidToken``."""
        if algorithm not in self._accepted:
            raise self._invalid(Reason.UNSUPPORTED_ALG, "alg is not on the list")

    def verify_signature(self, jws: Jws, deadline: float) -> Flow[int]:
        """Find the key and verify; its serial. Raises ``InvalidToken``, ``Unavailable``."""
        key = yield from self.keys.find(jws.header.kid, jws.header.alg, deadline)
        if not key.verifies(jws.signing_input, jws.signature):
            raise self._invalid(Reason.BAD_SIGNATURE, "the signature does not verify")
        return key.serial

    def critical_members(self, deadline: float) -> Flow[frozenset[str]]:
        """The members of a complex subject that must be understood by whoever heeds it (SSF 1.0
        section 7.1, ``critical_subject_members``). Who publishes no metadata has none. Raises
        ``Unavailable``.
        """
        try:
            said = yield from self._metadata.said("critical_subject_members", deadline)
        except Unavailable:
            if not self._metadata.missing:
                raise
            said = None
        names = said if isinstance(said, list) else []
        return frozenset(name for name in names if isinstance(name, str))

    def _own_keys(self, settings: Settings) -> Keys:
        import jwt  # noqa: F401 - takes 0.1 s: now, and not on the loop of the first request

        return ChangingKeys(
            self.fetch_keys,
            upstream=self._key_server,
            issuer=self.issuer,
            ttl=settings.jwks_ttl,
            max_stale=settings.jwks_max_stale,
            timeout=self._timeout,
            clock=self._clock,
            events=self._events,
        )

    def fetch_keys(self, deadline: float) -> Flow[KeySet]:
        """The keys as the transmitter's own metadata publishes them now; they may be none.
        Raises ``TransportError``, ``Unavailable``.
        """
        url = yield from self._metadata.endpoint("jwks_uri", deadline)
        timeout = deadline - self._clock.monotonic()
        try:
            return (
                yield from fetch_key_set(
                    url, self._key_server, self._algorithms, timeout=timeout, tls=self._tls
                )
            )
        except TransportError as failure:
            detail = failure.detail
        self._metadata.doubt("jwks_uri")
        raise TransportError(detail)

    def _upstream(self, name: str) -> Upstream:
        return Upstream(
            name,
            issuer=self.issuer,
            timeout=self._timeout,
            clock=self._clock,
            events=self._events,
            longest=_DOCUMENT_SECONDS,
        )

    def _invalid(self, reason: Reason, detail: str) -> InvalidToken:
        return InvalidToken(reason, detail, issuer=self.issuer)


def _public(algorithms: Sequence[str]) -> tuple[str, ...]:
    """Those of public keys: a secret that we share with an issuer is none of the transmitter's."""
    names = tuple(name for name in algorithms if not name.startswith("HS"))
    return names or SIGNATURE_ALGORITHMS
