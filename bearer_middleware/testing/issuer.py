"""The authorization server in one object."""

from __future__ import annotations

import secrets
import threading
from collections import Counter, deque
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from typing import Any, Self
from urllib.parse import urlsplit

from bearer_middleware.testing.clients import Clients
from bearer_middleware.testing.endpoints import Answer, Endpoints, Request
from bearer_middleware.testing.faults import ALL, Fault, Faults
from bearer_middleware.testing.inprocess import Application, Transport
from bearer_middleware.testing.mint import Mint
from bearer_middleware.testing.reception import Asked, Reception
from bearer_middleware.testing.serving import served
from bearer_middleware.testing.statuses import StatusList, StatusLists

#: Stands for a new secret; ``None`` for a client that needs none.
RANDOM = "(random)"


class Issuer:
    """An authorization server for tests: metadata, keys, tokens, introspection, revocation.

    It answers in-process (``app``, ``transport()``) or on a loopback port (``serve()``), and
    misbehaves when told to (``fail()``). It is no authorization server for anything else: it
    asks no user, and gives every token that a test wants.
    """

    def __init__(
        self,
        url: str = "https://issuer.test",
        *,
        audience: str = "api",
        client_id: str = "resource-server",
        client_secret: str | None = RANDOM,
        algorithm: str = "RS256",
    ) -> None:
        if client_secret is RANDOM:
            client_secret = secrets.token_urlsafe(64)  # as long as client_secret_jwt may want it
        self._mint = Mint(url, audience, algorithm)
        self._clients = Clients(client_id, client_secret)
        self._statuses = StatusLists(self._mint)
        self._endpoints = Endpoints(self._mint, self._clients, self._statuses)
        self._faults = Faults()
        self._reception = Reception(self._endpoints, self._faults)
        # The worlds know the reception, not this object, so it is gone as soon as nobody holds it:
        # then its keys may serve another test.
        self._app = Application(self._reception.respond)
        self._serving = threading.Lock()

    def __repr__(self) -> str:
        return f"Issuer({self.url!r}, audience={self.audience!r})"

    @property
    def url(self) -> str:
        """The ``iss`` of its tokens, and where it is reachable while it is served."""
        return self._mint.url

    @property
    def audience(self) -> str:
        """The ``aud`` of its tokens: the API they are for."""
        return self._mint.audience

    @property
    def client_id(self) -> str:
        """Who the API is to this server."""
        return self._clients.client_id

    @property
    def client_secret(self) -> str | None:
        """How the API proves it; ``None``: it need not."""
        return self._clients.client_secret

    @property
    def kid(self) -> str:
        """The name of the key that signs at the moment."""
        return self._mint.signing_key().kid

    @property
    def metadata(self) -> dict[str, Any]:
        """The metadata document as it is published."""
        return self._endpoints.metadata()

    @property
    def jwks(self) -> dict[str, Any]:
        """The key set as it is published."""
        return self._mint.jwks()

    @property
    def app(self) -> Application:
        """The ASGI application."""
        return self._app

    @property
    def requests(self) -> Counter[str]:
        """How often each endpoint was asked, answered or not."""
        return self._reception.requests

    @property
    def log(self) -> deque[Asked]:
        """The last hundred requests."""
        return self._reception.log

    @property
    def last_request(self) -> Asked:
        """The request that arrived last."""
        return self.log[-1]

    def settings(self, **overrides: Any) -> dict[str, Any]:
        """The keywords of an API that trusts this server."""
        keywords: dict[str, Any] = {
            "issuer": self.url,
            "audience": self.audience,
            "client_id": self.client_id,
        }
        if self.client_secret is None:
            keywords["client_auth"] = "none"
        else:
            keywords["client_secret"] = self.client_secret
        if urlsplit(self.url).scheme == "http":
            keywords["allow_insecure_http"] = True
        return {**keywords, **overrides}

    def jwt(
        self,
        sub: str | None = "alice",
        scope: str | None = "read",
        *,
        headers: Mapping[str, Any] | None = None,
        algorithm: str | None = None,
        key: Any = None,
        **claims: Any,
    ) -> str:
        """A signed access token. ``None`` leaves a claim or a header out.

        ``algorithm`` signs with a key of that algorithm, ``key`` with a stranger's private key
        or, for HS256, a secret.
        """
        members = {"sub": sub, "scope": scope, **claims}
        return self._mint.jwt(members, headers or {}, algorithm, key)

    def opaque(
        self,
        sub: str | None = "alice",
        scope: str | None = "read",
        *,
        token: str | None = None,
        **members: Any,
    ) -> str:
        """A token, random or this one, for which introspection answers these members."""
        return self._mint.opaque({"sub": sub, "scope": scope, **members}, token)

    def event_token(
        self,
        events: str | Mapping[str, Any],
        sub_id: Mapping[str, Any] | None = None,
        *,
        headers: Mapping[str, Any] | None = None,
        algorithm: str | None = None,
        key: Any = None,
        **claims: Any,
    ) -> str:
        """A signed security event token (RFC 8417) about ``sub_id``: with one event of this type,
        or with these events by type. Claims, headers and keys are as those of :meth:`jwt`.
        """
        members = dict.fromkeys(("sub", "scope", "client_id", "exp"))
        told = {events: {}} if isinstance(events, str) else dict(events)
        return self._mint.jwt(
            {**members, "sub_id": sub_id, "events": told, **claims},
            {"typ": "secevent+jwt", **(headers or {})},
            algorithm,
            key,
        )

    def introspect(self, token: str) -> dict[str, Any]:
        """What the introspection endpoint answers for a token."""
        return self._mint.introspect(token)

    def revoke(self, token: str) -> None:
        """Take a token back: introspection says from now on that it is not active."""
        self._mint.revoke(token)

    def status_list(
        self, *, bits: int = 1, size: int = 1_024, ttl: float | None = 60
    ) -> StatusList:
        """Publish a token status list, all valid; its ``claim()`` is the ``status`` of a token.

        An API looks at it with ``settings(status_lists=issuer.url)``. ``ttl`` is in seconds.
        """
        return self._statuses.publish(bits, size, ttl)

    def rotate(self, *, keep_old: bool = False, kid: str | None = None) -> str:
        """Sign with a new key and return its ``kid``; the old one is published no longer."""
        return self._mint.rotate(keep_old=keep_old, kid=kid)

    def trust_client_key(self, public_key: Any) -> None:
        """Register a public key of the API, object or PEM, for private_key_jwt."""
        self._clients.trust(public_key)

    def fail(self, endpoint: str, *, times: int | None = None, **fault: Any) -> None:
        """Misbehave at an endpoint, or at ``"all"``, until told otherwise or ``times`` times.

        ``status``, ``body`` with its ``content_type``, and ``huge`` replace the answer,
        ``headers`` change it, ``delay``, ``drip``, ``drip_headers`` and ``drop`` are about its
        delivery. A later call replaces an earlier one.
        """
        self._faults.set(endpoint, Fault(**fault), times)

    def recover(self, endpoint: str = ALL) -> None:
        """Behave again."""
        self._faults.clear(endpoint)

    def respond(self, request: Request) -> tuple[Answer, Fault]:
        """Answer one request without a wire, and say what would go wrong on it."""
        return self._reception.respond(request)

    def transport(self) -> Transport:
        """An httpx transport, for both clients, that answers in-process for any host."""
        return Transport(self._reception.respond)

    @contextmanager
    def serve(self, port: int = 0) -> Generator[Self]:
        """Be reachable on a loopback port; ``url`` is that address inside the block."""
        if not self._serving.acquire(blocking=False):
            raise RuntimeError("this issuer is already being served")
        usual = self.url
        try:
            with served(self._reception.respond, port) as bound:
                self._mint.url = f"http://127.0.0.1:{bound}{urlsplit(usual).path}"
                yield self
        finally:
            self._mint.url = usual
            self._serving.release()
