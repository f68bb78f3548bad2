"""``BearerMiddleware``: around Starlette, FastAPI, Django over ASGI, or any ASGI application."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, MutableMapping
from functools import partial
from typing import TYPE_CHECKING, Any, Unpack

from bearer_middleware.access.hierarchy import credentials_of
from bearer_middleware.access.identity import Anonymous, Identity
from bearer_middleware.errors import ConfigError, Refused
from bearer_middleware.flow.drivers import arun
from bearer_middleware.resource_server import ResourceServer
from bearer_middleware.settings import Settings
from bearer_middleware.settings.keywords import Keywords
from bearer_middleware.settings.resources import metadata_url
from bearer_middleware.web.challenge import CHALLENGES, Answer, Challenges
from bearer_middleware.web.client_address import client_addresses
from bearer_middleware.web.endpoints import endpoints_for
from bearer_middleware.web.exemptions import Exemptions, below

if TYPE_CHECKING:
    from bearer_middleware.web.auditing import Audited

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
#: Frameworks differ in how they spell its arguments: Django wants a ``dict``.
ASGIApplication = Callable[[Any, Any, Any], Awaitable[None]]

IDENTITY = "bearer_middleware.identity"
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
        self.app = app
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

    async def __call__(  # noqa: C901 - each call saved here is one of every request
        self, scope: Scope, receive: Receive, send: Send
    ) -> None:
        kind = scope["type"]
        if kind != "http" and kind != "websocket":  # noqa: PLR1714 - a set takes longer
            await self._pass_on(scope, receive, send)
            return
        scope = dict(scope)
        headers = scope.get("headers", ())
        if type(headers) is not list:  # it may be an iterable that can be read only once
            headers = scope["headers"] = list(headers)
        authorization, several = None, False
        for name, value in headers:
            if len(name) == 13 and name.lower() == b"authorization":
                several = authorization is not None
                authorization = value
        identity = None
        if self._exemptions is None or not self._is_exempt(scope):
            if authorization is not None and not several:
                try:
                    identity = self._identify(authorization)
                except Refused as refusal:
                    await self._refuse(refusal, scope, receive, send)
                    return
            if identity is None:
                identity, answer = await self._ask(scope)
                if answer is not None:
                    await refuse(answer, scope, receive, send)
                    return
        elif await self._answers_itself(scope, receive, send):
            return
        scope[IDENTITY] = identity
        scope[CHALLENGES] = self._challenges
        scope["user"] = _anonymous if identity is None else identity
        scope["auth"] = credentials = self._credentials()
        credentials.identity = identity
        await self.app(scope, receive, send)

    async def _refuse(self, refusal: Refused, scope: Scope, receive: Receive, send: Send) -> None:
        whole = self._whole(refusal, scope)
        told = await self._told(whole, self._challenges.refuse(whole), scope)
        await refuse(told, scope, receive, send)

    async def _ask(self, scope: Scope) -> tuple[Identity | None, Answer | None]:
        """The whole way, with all its waiting: an identity, an answer, or an anonymous caller."""
        values = _values(scope, b"authorization")
        if not values and _is_preflight(scope):
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
        return await arun(self._audited(refusal, answer, facts), self.server.transport)

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
        return _is_preflight(scope) and not any(
            bytes(name).lower() == b"authorization" for name, _ in scope["headers"]
        )

    def _closing(self, send: Send) -> Send:
        """``send``, but the connections of this loop are closed before it says so."""

        async def send_and_close(message: Message) -> None:
            if message["type"].startswith("lifespan.shutdown"):
                await self.server.transport.aclose()
            await send(message)

        return send_and_close


def server_for(server: ResourceServer | None, keywords: Keywords) -> ResourceServer:
    """The server given, or one of the environment and ``keywords``; never both."""
    if server is None:
        return ResourceServer(Settings.from_env(**keywords))
    if keywords:
        names = ", ".join(sorted(keywords))
        raise ConfigError(f"{names}: a server has its settings already, give one or the other")
    return server


def _needs_loop(server: ResourceServer) -> bool:
    try:
        server.refuse_async_extensions()
    except ConfigError:
        return True
    return False


def challenges_for(server: ResourceServer) -> Challenges:
    """What writes the answers of this server's refusals."""
    settings, metadata = server.settings, None
    if settings.resource is not None:
        metadata = metadata_url(settings.resource)
    return Challenges(
        settings.realm,
        settings.required_scopes,
        server.events,
        metadata=metadata,
        hierarchy=server.hierarchy,
    )


def audited_by(server: ResourceServer, challenges: Challenges) -> Audited | None:
    """What tells the audit trail of refused requests; ``None`` where there is none."""
    if server.audit is None:
        return None
    from bearer_middleware.web.auditing import audited

    return audited(server.audit, server.now, challenges)


def exemptions_for(server: ResourceServer, endpoints: Iterable[str] = ()) -> Exemptions | None:
    """The exempt paths of this server's settings, its public routes and its ``endpoints``, if
    there are any.
    """
    rules, authorizer = (*server.settings.exempt, *endpoints), server.authorizer
    if authorizer is None or authorizer.table is None or not authorizer.table.has_public:
        return Exemptions(rules) if rules else None
    return Exemptions(rules, authorizer.table.is_public)


def _values(scope: Scope, wanted: bytes) -> list[bytes]:
    return [bytes(value) for name, value in scope["headers"] if name.lower() == wanted]


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
