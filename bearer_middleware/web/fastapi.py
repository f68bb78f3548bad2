"""FastAPI: the identity as a typed dependency, which enforces scopes and shows in OpenAPI.

    @app.get("/orders")
    async def orders(identity: Annotated[Identity, Security(current_identity, scopes=["read"])]):

Below ``BearerMiddleware``, which answers before FastAPI reads anything of the request.
"""

# No `from __future__ import annotations`: FastAPI resolves annotations of a function in its
# module, but those of an object's `__call__` nowhere.
from collections.abc import Mapping
from functools import lru_cache, partial
from typing import Any

from fastapi.openapi.models import HTTPBearer
from fastapi.security import SecurityScopes
from fastapi.security.base import SecurityBase
from starlette.requests import HTTPConnection

from bearer_middleware.access.identity import Identity
from bearer_middleware.errors import ConfigError
from bearer_middleware.policy.model import Action
from bearer_middleware.web import starlette
from bearer_middleware.web.authorizing import AsyncAuthorizer
from bearer_middleware.web.dependants import everywhere, route_in, scopes_of
from bearer_middleware.web.guards import Guard, Mark, asked_by, identity_in, out_of_order
from bearer_middleware.web.requirement import Requirement, ResourceOf

_guard = lru_cache(maxsize=256)(Guard)


class _Scheme(SecurityBase):
    """A bearer token in OpenAPI; nothing that a client could set as a parameter."""

    def __init__(self) -> None:
        self.model = HTTPBearer(description="An access token of the authorization server.")
        self.scheme_name = "bearer"


class CurrentIdentity(_Scheme):
    """The identity of a caller whose token has ALL scopes asked for, here and further out."""

    __bearer_guard__ = (Mark(),)

    async def __call__(self, scopes: SecurityScopes, connection: HTTPConnection) -> Identity:
        _enforce(scopes, connection)
        identity = identity_in(connection.scope)
        assert identity is not None  # noqa: S101 - the guard lets nobody else pass
        return identity


class OptionalIdentity(_Scheme):
    """The same, or ``None`` for an anonymous caller: scopes bind only who shows a token."""

    __bearer_guard__ = (Mark(optional=True),)

    async def __call__(self, scopes: SecurityScopes, connection: HTTPConnection) -> Identity | None:
        identity = identity_in(connection.scope)
        if identity is not None:
            _enforce(scopes, connection)
        return identity


def _enforce(scopes: SecurityScopes, connection: HTTPConnection) -> None:
    try:
        guard = _guard(*scopes.scopes)
    except ConfigError as error:  # FastAPI shows us the names only now
        raise starlette.refusal(out_of_order(str(error)), connection) from None
    starlette.enforce(guard, connection, partial(_asked_on, connection.scope))


def _asked_on(scope: Mapping[str, Any]) -> tuple[str, ...]:
    """The scopes that all dependencies of a route ask for, and the decorators of its endpoint."""
    route = route_in(scope)
    asked = [
        name
        for each in everywhere(getattr(getattr(route, "dependant", None), "dependencies", ()))
        if isinstance(each.call, _Scheme)
        for name in scopes_of(each)
    ]
    return (*asked, *asked_by(getattr(route, "endpoint", None)))


class Authorized(_Scheme):
    """The identity of a caller that policy permits something, and whose token has ALL scopes
    asked for.
    """

    def __init__(self, requirement: Requirement) -> None:
        super().__init__()
        self._requirement = requirement
        requirement.mark(self)

    async def __call__(self, scopes: SecurityScopes, connection: HTTPConnection) -> Identity:
        if scopes.scopes:
            _enforce(scopes, connection)
        await starlette.ask(self._requirement, connection)
        identity = identity_in(connection.scope)
        assert identity is not None  # noqa: S101 - nobody else is permitted anything
        return identity


def authorize(action: Action | str, resource: ResourceOf) -> Authorized:
    """``Annotated[Identity, Depends(authorize("read", "todo:{id}"))]``: a dependency that lets
    only those pass whom policy permits ``action`` on ``resource``: a ``Resource``, ``type:id``,
    ``type:{parameter}`` with parameters of the path, or a function of the connection, plain or
    async, that returns one of the first two. Adds no parameter that a client can set.

    Raises ``ConfigError`` for what cannot be meant.
    """
    return Authorized(Requirement(action, resource))


def current_authorizer(connection: HTTPConnection) -> AsyncAuthorizer:
    """``Annotated[AsyncAuthorizer, Depends(current_authorizer)]``: what a route asks whether the
    caller may; plain functions ask its ``blocking``.
    """
    return starlette.current_authorizer(connection)


#: ``Annotated[Identity, Security(current_identity, scopes=["read"])]``
current_identity = CurrentIdentity()
#: ``Annotated[Identity | None, Security(optional_identity)]``, for exempt and optional routes.
optional_identity = OptionalIdentity()
