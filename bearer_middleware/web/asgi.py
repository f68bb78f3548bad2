"""``BearerMiddleware``: around Starlette, FastAPI, Django over ASGI, or any ASGI application."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, MutableMapping
from functools import partial
from typing import Any, Unpack

from bearer_middleware.access.hierarchy import credentials_of
from bearer_middleware.access.identity import Anonymous, Identity
from bearer_middleware.errors import ConfigError, Refused
from bearer_middleware.flow.drivers import arun
from bearer_middleware.resource_server import ResourceServer
from bearer_middleware.settings.keywords import Keywords
from bearer_middleware.web.challenge import CHALLENGES, Answer
from bearer_middleware.web.client_address import client_addresses
from bearer_middleware.web.endpoints import endpoints_for
from bearer_middleware.web.exemptions import below
from bearer_middleware.web.parts import (
    IDENTITY,
    audited_by,
    challenges_for,
    exemptions_for,
    server_for,
)
from bearer_middleware.web.roots import own_root

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
#: Frameworks differ in how they spell its arguments: Django wants a ``dict``.
ASGIApplication = Callable[[Any, Any, Any], Awaitable[None]]

_DENIAL = "websocket.http.response"
_POLICY_VIOLATION, TRY_AGAIN_LATER = 1008, 1013  # RFC 6455 section 7.4.1 and its registry
_anonymous = Anonymous()


class BearerMiddleware:
    """Lets a request through with the identity of its bearer token, or refuses it.

    ``BearerMiddleware(app)`` reads the ``BEARER_*`` variables; settings may be given as
    keywords; ``server`` shares one :class:`ResourceServer` among several middlewares.
    Raises :class:`ConfigError` with every mistake when it is built. Handlers find the
    identity in ``scope["bearer_middleware.identity"]``, ``request.user`` and ``request.auth``.
    """

    def __init__(
        self,
        app: ASGIApplication,
        *,
        server: ResourceServer | None = None,
        **keywords: Unpack[Keywords],
    ) -> None:
        self.server = server_for(server, keywords)
        # Servers that ask what kind of application this is look at this attribute, not the class.
        setattr(self, "__call__", self._as_coroutine)  # noqa: B010 - a method, to type checkers
        self.app, self._root = app, own_root(app)
        if self.server.settings.close_on_expiry:
            from bearer_middleware.web.lasting import EndingASGI

            self.app = EndingASGI(app, self.server)
        self._identify = self.server.identify
        self._challenges = challenges_for(self.server)
        self._endpoints = endpoints_for(self.server)
        self._exemptions = exemptions_for(self.server, self._endpoints)
        self._credentials = credentials_of(self.server.hierarchy)
        self._clients = client_addresses(self.server.settings)
        self._audited = audited_by(self.server, self._challenges)
        if self._audited is not None:
            from bearer_middleware.web.noted import NotingASGI

            known = (self._audited, self.server.transport, self._clients)
            self.app = NotingASGI(self.app, *known, refuse)
        if self.server.authorizer is not None:
            from bearer_middleware.web.enforcing import EnforcingASGI

            parts = (self.server.authorizer, self._challenges, self.server.transport, self._clients)
            self.app = EnforcingASGI(
                self.app,
                *parts,
                is_open=self._is_open,
                refuse=refuse,
                needs_loop=_needs_loop(self.server),
            )

    # A plain function, and what is called of its own stands in locals first: another coroutine and
    # calls of attributes would make a hit a tenth dearer.
    def __call__(  # noqa: C901
        self, scope: Scope, receive: Receive, send: Send
    ) -> Awaitable[None]:
        if scope["type"] != "http" and scope["type"] != "websocket":
            return self._pass_on(scope, receive, send)
        scope = dict(scope)
        if self._root:  # as the application will have it
            scope["root_path"] = self._root
        headers = scope.get("headers")
        if type(headers) is not list:  # it may be an iterable that can be read only once
            headers = scope["headers"] = list(headers or ())
        authorization = None
        for name, value in headers:
            if len(name) == 13 and (name == b"authorization" or name.lower() == b"authorization"):
                if authorization is not None:  # which of them is for the whole way to say
                    authorization = None
                    break
                authorization = value
        if self._exemptions is not None and self._is_exempt(scope):
            return self._serve_exempt(scope, receive, send)
        if authorization is None:
            return self._ask_first(scope, receive, send)
        try:
            identify = self._identify
            identity = identify(authorization)
        except Refused as refusal:
            return self._refuse(refusal, scope, receive, send)
        if identity is None:
            return self._ask_first(scope, receive, send)
        scope[IDENTITY] = scope["user"] = identity
        scope[CHALLENGES] = self._challenges
        make_credentials, app = self._credentials, self.app
        scope["auth"] = credentials = make_credentials()
        credentials.identity = identity
        return app(scope, receive, send)

    async def _as_coroutine(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self(scope, receive, send)

    def _let_in(
        self, identity: Identity | None, scope: Scope, receive: Receive, send: Send
    ) -> Awaitable[None]:
        """The same ending for requests that were not decided at once, and for anonymous ones."""
        scope[IDENTITY] = identity
        scope["user"] = _anonymous if identity is None else identity
        scope[CHALLENGES] = self._challenges
        scope["auth"] = credentials = self._credentials()
        credentials.identity = identity
        return self.app(scope, receive, send)

    async def _serve_exempt(self, scope: Scope, receive: Receive, send: Send) -> None:
        if not await self._answers_itself(scope, receive, send):
            await self._let_in(None, scope, receive, send)

    async def _ask_first(self, scope: Scope, receive: Receive, send: Send) -> None:
        identity, answer = await self._ask(scope)
        if answer is None:
            await self._let_in(identity, scope, receive, send)
        else:
            await refuse(answer, scope, receive, send)

    async def _refuse(self, refusal: Refused, scope: Scope, receive: Receive, send: Send) -> None:
        whole = self._whole(refusal, scope)
        told = await self._told(whole, self._challenges.refuse(whole), scope)
        await refuse(told, scope, receive, send)

    async def _ask(self, scope: Scope) -> tuple[Identity | None, Answer | None]:
        """The whole way, with all its waiting: an identity, an answer, or an anonymous caller."""
        values = _values(scope, b"authorization")
        if not any(values) and _is_preflight(scope):
            return None, None
        client = None if self._clients is None else partial(self._clients.of_scope, scope)
        flow = self.server.authenticate(values, client=client)
        try:
            return await arun(flow, self.server.transport), None
        except Refused as refusal:
            refused = self._whole(refusal, scope)
            return None, await self._told(refused, self._challenges.answer(refused), scope)

    def _whole(self, refusal: Refused, scope: Scope) -> Refused:
        """A refusal that names all scopes needed, those of the route too."""
        authorizer = self.server.authorizer
        if authorizer is None:
            return refusal
        path = below(scope.get("root_path", ""), scope["path"]) or "/"
        return authorizer.wanted_of(refusal, scope.get("method", "GET"), path)

    async def _told(self, refusal: Refused, answer: Answer, scope: Scope) -> Answer:
        """The answer, once the audit trail knows of it, where there is one."""
        if self._audited is None:
            return answer
        from bearer_middleware.web.facts import facts_of_scope

        facts = facts_of_scope(scope, self._clients)
        return await arun(self._audited(refusal, answer, facts, None), self.server.transport)

    async def _answers_itself(self, scope: Scope, receive: Receive, send: Send) -> bool:
        """Is this exempt request for an endpoint of ours? Then it is answered."""
        endpoint = self._endpoints.get(below(scope.get("root_path", ""), scope["path"]))
        if endpoint is None:
            return False
        if scope["type"] == "http" and scope["method"] in endpoint.methods:
            patience = self.server.settings.http_timeout
            answer = endpoint.turns_away(_values(scope, b"authorization"))
            if answer is None:
                body = await _body(receive, endpoint.limit, patience) if endpoint.limit else b""
                media_type = next(iter(_values(scope, b"content-type")), b"")
                flow = endpoint.answer(media_type.decode("latin-1"), body)
                answer = await arun(flow, self.server.transport)
        else:  # also a websocket, whatever the application would do with one there
            answer = endpoint.not_allowed()
        await refuse(answer, scope, receive, send)
        return True

    async def _pass_on(self, scope: Scope, receive: Receive, send: Send) -> None:
        kind = scope["type"]
        if kind != "lifespan":
            raise ValueError(f"no ASGI scope of type {kind!r} is let through unprotected")
        await self.app(scope, receive, self._closing(send))

    def _is_exempt(self, scope: Scope) -> bool:
        path = below(scope.get("root_path", ""), scope["path"]) or "/"
        exemptions = self._exemptions
        return exemptions is not None and exemptions.cover(scope.get("method", "GET"), path)

    def _is_open(self, scope: Scope) -> bool:
        """Had this request, which has no identity, to show none?"""
        if self._exemptions is not None and self._is_exempt(scope):
            return True
        return _is_preflight(scope) and not any(_values(scope, b"authorization"))

    def _closing(self, send: Send) -> Send:
        """``send``, but the connections of this loop are closed before it says so."""

        async def send_and_close(message: Message) -> None:
            if message["type"].startswith("lifespan.shutdown"):
                await self.server.transport.aclose()
            await send(message)

        return send_and_close


def _needs_loop(server: ResourceServer) -> bool:
    try:
        server.refuse_async_extensions()
    except ConfigError:
        return True
    return False


def _values(scope: Scope, wanted: bytes) -> list[bytes]:
    size = len(wanted)
    return [
        bytes(value)
        for name, value in scope["headers"]
        if len(name) == size and name.lower() == wanted
    ]


def _is_preflight(scope: Scope) -> bool:
    """A CORS preflight asks leave for a request to come, and carries no credentials."""
    if scope.get("method") != "OPTIONS":
        return False
    names = {bytes(name).lower() for name, _ in scope["headers"]}
    return {b"origin", b"access-control-request-method"} <= names


async def refuse(answer: Answer, scope: Scope, receive: Receive, send: Send) -> None:
    """Send an answer of ours to whoever asked, over HTTP or as the denial of a websocket."""
    if scope["type"] == "http":
        await _respond("http.response", answer, send, with_body=scope.get("method") != "HEAD")
        return
    await receive()  # the handshake has to be read before it is answered
    if _DENIAL in (scope.get("extensions") or {}):
        await _respond("websocket.http.response", answer, send)
    else:
        code = TRY_AGAIN_LATER if answer.status == 503 else _POLICY_VIOLATION
        await send({"type": "websocket.close", "code": code, "reason": ""})


async def _body(receive: Receive, limit: int, patience: float) -> bytes:
    """The body of a request, of a longer one a byte more than ``limit``, and nothing of one that
    takes longer than so many seconds.
    """
    import anyio

    body, more = bytearray(), True
    with anyio.move_on_after(patience):
        while more and len(body) <= limit:
            message = await receive()
            body += message.get("body", b"")
            more = message.get("more_body", False)
    return b"" if more and len(body) <= limit else bytes(body[: limit + 1])


async def _respond(kind: str, answer: Answer, send: Send, *, with_body: bool = True) -> None:
    headers = [(name.encode("ascii"), value.encode("latin-1")) for name, value in answer.headers]
    await send({"type": f"{kind}.start", "status": answer.status, "headers": headers})
    await send({"type": f"{kind}.body", "body": answer.body if with_body else b""})
