"""``WSGIBearerMiddleware``: around Django over WSGI, Flask, or any WSGI application."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial
from typing import Any, Unpack

from bearer_middleware.access.identity import Identity
from bearer_middleware.errors import Refused
from bearer_middleware.flow.drivers import run
from bearer_middleware.resource_server import ResourceServer
from bearer_middleware.settings.keywords import Keywords
from bearer_middleware.web.challenge import CHALLENGES, Answer
from bearer_middleware.web.client_address import client_addresses
from bearer_middleware.web.endpoints import endpoints_for
from bearer_middleware.web.parts import (
    IDENTITY,
    audited_by,
    challenges_for,
    exemptions_for,
    server_for,
)

Environ = dict[str, Any]
StartResponse = Callable[..., Any]
WSGIApplication = Callable[[Environ, StartResponse], Iterable[bytes]]


class WSGIBearerMiddleware:
    """Lets a request through with the identity of its bearer token, or refuses it.

    Built like :class:`~bearer_middleware.BearerMiddleware`. Handlers find the identity in
    ``environ["bearer_middleware.identity"]``, and the user's name in ``REMOTE_USER``.
    """

    def __init__(
        self,
        app: WSGIApplication,
        *,
        server: ResourceServer | None = None,
        **keywords: Unpack[Keywords],
    ) -> None:
        self.server = server_for(server, keywords)
        self.server.refuse_async_extensions()
        self.app = app
        if self.server.settings.close_on_expiry:
            from bearer_middleware.web.lasting import EndingWSGI

            self.app = EndingWSGI(app, self.server)
        self._identify = self.server.identify
        self._challenges = challenges_for(self.server)
        self._endpoints = endpoints_for(self.server)
        self._exemptions = exemptions_for(self.server, self._endpoints)
        self._clients = client_addresses(self.server.settings)
        self._audited = audited_by(self.server, self._challenges)
        if self._audited is not None:
            from bearer_middleware.web.noted import NotingWSGI

            known = (self._audited, self.server.transport, self._clients)
            self.app = NotingWSGI(self.app, *known, _respond)
        # A name without its issuer means somebody only where there is one issuer.
        self._names_users = len(self.server.settings.issuers) == 1
        if self.server.authorizer is not None:
            from bearer_middleware.web.enforcing import EnforcingWSGI

            parts = (self.server.authorizer, self._challenges, self.server.transport, self._clients)
            self.app = EnforcingWSGI(self.app, *parts, is_open=self._is_open, respond=_respond)

    def __call__(  # noqa: C901 - each call saved here is one of every request
        self, environ: Environ, start_response: StartResponse
    ) -> Iterable[bytes]:
        environ = environ.copy()
        identity = None
        if self._exemptions is None or not self._is_exempt(environ):
            value = environ.get("HTTP_AUTHORIZATION")
            if value:
                try:
                    # PEP 3333: text of bytes as latin-1. What is not was never a header: no token.
                    identify = self._identify
                    identity = identify(value.encode("latin-1", "replace"))
                except Refused as refusal:
                    refusal = self._whole(refusal, environ)
                    told = self._told(refusal, self._challenges.refuse(refusal), environ)
                    return _respond(told, environ, start_response)
            if identity is None:
                identity, answer = self._ask(environ, value)
                if answer is not None:
                    return _respond(answer, environ, start_response)
        elif (answer := self._own_answer(environ)) is not None:
            return _respond(answer, environ, start_response)
        environ[IDENTITY] = identity
        environ[CHALLENGES] = self._challenges
        environ.pop("REMOTE_USER", None)
        environ.pop("AUTH_TYPE", None)
        if identity is not None:
            environ["AUTH_TYPE"] = "Bearer"
            if self._names_users and (name := identity.user_name) is not None:
                environ["REMOTE_USER"] = name
        app = self.app  # a call of an attribute takes longer
        return app(environ, start_response)

    def _ask(self, environ: Environ, value: str | None) -> tuple[Identity | None, Answer | None]:
        """The whole way, with all its waiting: an identity, an answer, or an anonymous caller."""
        self.server.alone.told = bool(environ.get("wsgi.multiprocess"))
        # Gateways put empty text there where no header came, so it is as good as absent.
        if not value and _is_preflight(environ):
            return None, None
        values = _values(value)
        client = None if self._clients is None else partial(self._clients.of_environ, environ)
        flow = self.server.authenticate(values, client=client)
        try:
            return run(flow, self.server.transport), None
        except Refused as refusal:
            refused = self._whole(refusal, environ)
            return None, self._told(refused, self._challenges.answer(refused), environ)

    def _whole(self, refusal: Refused, environ: Environ) -> Refused:
        """A refusal that names all scopes needed, those of the route too."""
        if self.server.authorizer is None:
            return refusal
        from bearer_middleware.web.enforcing import path_in_environ

        method = environ["REQUEST_METHOD"]
        return self.server.authorizer.wanted_of(refusal, method, path_in_environ(environ))

    def _told(self, refusal: Refused, answer: Answer, environ: Environ) -> Answer:
        """The answer, once the audit trail knows of it, where there is one."""
        if self._audited is None:
            return answer
        from bearer_middleware.web.facts import facts_of_environ

        facts = facts_of_environ(environ, self._clients)
        return run(self._audited(refusal, answer, facts, None), self.server.transport)

    def _own_answer(self, environ: Environ) -> Answer | None:
        """The answer to an exempt request for an endpoint of ours."""
        endpoint = self._endpoints.get(environ.get("PATH_INFO", ""))
        if endpoint is None:
            return None
        if environ["REQUEST_METHOD"] not in endpoint.methods:
            return endpoint.not_allowed()
        turned_away = endpoint.turns_away(_values(environ.get("HTTP_AUTHORIZATION")))
        if turned_away is not None:
            return turned_away
        body = _body(environ, endpoint.limit) if endpoint.limit else b""
        flow = endpoint.answer(environ.get("CONTENT_TYPE", ""), body)
        return run(flow, self.server.transport)

    def _is_open(self, environ: Environ) -> bool:
        """Had this request, which has no identity, to show none?"""
        if self._exemptions is not None and self._is_exempt(environ):
            return True
        return not environ.get("HTTP_AUTHORIZATION") and _is_preflight(environ)

    def _is_exempt(self, environ: Environ) -> bool:
        path = environ.get("PATH_INFO", "") or "/"
        try:
            decoded = path.encode("latin-1").decode()
        except UnicodeError:
            return False
        exemptions = self._exemptions
        return exemptions is not None and exemptions.cover(environ["REQUEST_METHOD"], decoded)


def _values(value: str | None) -> tuple[bytes, ...]:
    return (value.encode("latin-1", "replace"),) if value else ()


def _is_preflight(environ: Environ) -> bool:
    """A CORS preflight asks leave for a request to come, and carries no credentials."""
    return (
        environ["REQUEST_METHOD"] == "OPTIONS"
        and "HTTP_ORIGIN" in environ
        and "HTTP_ACCESS_CONTROL_REQUEST_METHOD" in environ
    )


def _body(environ: Environ, limit: int) -> bytes:
    """The body of a request, or of a longer one a byte more than ``limit``."""
    # What comes in chunks has no length, and may be read where the server marks its end.
    unknown = str(limit + 1) if environ.get("wsgi.input_terminated") else "0"
    length = environ.get("CONTENT_LENGTH") or unknown
    if not (length.isascii() and length.isdigit()):
        return b""
    body: bytes = environ["wsgi.input"].read(min(int(length), limit + 1))
    return body


def _respond(answer: Answer, environ: Environ, start_response: StartResponse) -> list[bytes]:
    headers = [(name.title(), value) for name, value in answer.headers]
    start_response(f"{answer.status} {answer.reason}", headers)
    return [] if environ["REQUEST_METHOD"] == "HEAD" else [answer.body]
